"""`diffusion_enhancer` and `one_step`: the network of the diffusion priors, trained on noisy speech."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch.nn import functional as F

from avse.contracts.enhancer import Enhancer
from avse.contracts.fusion import Fusion, check_fusion
from avse.contracts.prior import Context, context_of
from avse.contracts.sampler import Sampler
from avse.contracts.sde import Sde
from avse.contracts.types import SAMPLES_PER_FRAME, Batch, Estimate
from avse.contracts.visual_frontend import VisualFrontend
from avse.nnet.score_network import ScoreNetwork, width_of
from avse.plugins import register
from avse.priors.diffusion.base import compress, expand
from avse.signal.levels import level_scale
from avse.signal.random import clip_generators, complex_noise
from avse.signal.stft import istft, length_mask, stft

_DATA_STD = 0.1


class _SpectrumEnhancer(Enhancer):
    """From a compressed spectrum to a compressed spectrum; level, video and reliability of both enhancers."""

    def __init__(
        self,
        visual_frontend: VisualFrontend | None,
        fusion: Fusion | None,
        size: str,
        fft_size: int,
        hop: int,
        given: int,
    ) -> None:
        super().__init__()
        check_fusion(visual_frontend, fusion, width_of(size), f"the width of a {size} network")
        if SAMPLES_PER_FRAME % hop or fft_size % (2 * hop):
            raise ValueError(f"hop must divide {SAMPLES_PER_FRAME} and half of fft_size, got {hop} and {fft_size}.")
        self.visual_frontend, self.fft_size, self.hop = visual_frontend, fft_size, hop
        if any(getattr(part, "complexity", "") == "quadratic" for part in (visual_frontend, fusion)):
            self.complexity = "quadratic"
        self.network = ScoreNetwork(fft_size // 2 + 1, size, fusion, given=given, data_std=_DATA_STD)
        # How unsure the mean is, is nobody's business here.
        self.network.spread.requires_grad_(False)

    @classmethod
    def example_arguments(cls) -> dict:
        from avse import plugins

        frontend = plugins.get("visual_frontend", "pixel_mlp")(output_dim=6, hidden_dim=8, size=11)
        fusion = plugins.get("fusion", "film")(audio_dim=32, video_dim=6)
        return {"visual_frontend": frontend, "fusion": fusion, "size": "tiny"}

    @abstractmethod
    def denoise(
        self, spectrum: torch.Tensor, clean: torch.Tensor | None, context: Context
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The voice, and how far the video was trusted.

        Arguments
        ---------
        spectrum : tensor, shape (batch, frames, bins), complex
            Compressed, of the noisy sound.
        clean : tensor, shape (batch, frames, bins), complex, or None
            Compressed, of the voice, in training.
        context : Context

        Returns
        -------
        speech : tensor, shape (batch, frames, bins), complex
        reliability : tensor, shape (batch, frames)
        """

    def forward(self, batch: Batch) -> Estimate:
        """Enhance a batch; see `Enhancer.forward`."""
        scale = level_scale(batch.noisy, batch.lengths)
        context = context_of(batch, self.fft_size, self.hop, self._features)
        analyse = lambda sound: compress(stft(sound * scale, self.fft_size, self.hop))
        spectrum = analyse(batch.noisy)
        clean = analyse(batch.clean) if self.training and batch.clean is not None else None
        found, trusted = self.denoise(spectrum, clean, context)
        samples, frames = batch.noisy.shape[1], batch.valid.shape[1]
        found = torch.where(context.mask[..., None], found, found.new_zeros(()))
        speech = istft(expand(found), self.fft_size, self.hop, samples) / scale
        speech = speech * length_mask(batch.lengths, samples)
        ratio = SAMPLES_PER_FRAME // self.hop
        trusted = F.pad(trusted, (0, max(0, frames * ratio - trusted.shape[1])))[:, : frames * ratio]
        reliability = trusted.unflatten(1, (frames, ratio)).mean(dim=2)
        return Estimate(speech, batch.noisy - speech, reliability.float(), batch.lengths)

    def _features(self, batch: Batch) -> torch.Tensor | None:
        if self.visual_frontend is None:
            return None
        return self.visual_frontend(batch.mouth, batch.valid).to(self.network.enter.weight.dtype)


@register("enhancer", "one_step")
class OneStep(_SpectrumEnhancer):
    """The network of the diffusion priors asked once, for the voice in the noisy sound: what diffusion has to beat.

    Arguments
    ---------
    visual_frontend : VisualFrontend or None
        Mouth crops to features. None: audio only.
    fusion : Fusion or None
        How video enters; its `audio_dim` must be the network's width (192 of a small one, 448, 960), its `video_dim`
        the front-end's `output_dim`.
    size : str
        Of the network: `small`, `medium` or `large`, about 1, 5 and 28 million parameters.
    fft_size, hop : int
        Of the transform, in samples. `hop` divides a video frame (640 samples).

    Takes a `Batch` with sound (batch, samples); gives an `Estimate`.

    Example
    -------
    >>> batch = Batch(torch.randn(1, 1280), torch.tensor([1280]), torch.zeros(1, 2, 88, 88), torch.zeros(1, 2).bool())
    >>> OneStep(size="tiny")(batch).speech.shape
    torch.Size([1, 1280])
    """

    def __init__(
        self,
        visual_frontend: VisualFrontend | None = None,
        fusion: Fusion | None = None,
        size: str = "small",
        fft_size: int = 640,
        hop: int = 320,
    ) -> None:
        super().__init__(visual_frontend, fusion, size, fft_size, hop, given=0)

    def denoise(
        self, spectrum: torch.Tensor, clean: torch.Tensor | None, context: Context
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `_SpectrumEnhancer.denoise`: (batch, frames, bins) and (batch, frames)."""
        ratio = spectrum.real.new_full((len(spectrum),), _DATA_STD)
        found = self.network(spectrum, ratio, context)
        return found.mean, found.reliability


@register("enhancer", "diffusion_enhancer")
class DiffusionEnhancer(_SpectrumEnhancer):
    """Diffusion of speech given the noisy sound and the mouth: the supervised twin of the diffusion priors.

    The network sees the state and, beside it, the noisy sound. In training one state of a random time is made from the
    clean speech and denoised at once; `avse.training.losses.DenoisingLoss` then makes that the expected speech.
    Otherwise the sampler draws the voice, by chance that depends on `seed` and the clip's length alone. A draw is a
    voice that might have been; the mean of several is nearer to the one that was.

    Arguments
    ---------
    visual_frontend : VisualFrontend or None
        Mouth crops to features. None: audio only.
    fusion : Fusion or None
        How video enters; its `audio_dim` must be the network's width (192 of a small one, 448, 960), its `video_dim`
        the front-end's `output_dim`.
    sde : Sde or None
        How speech turns into noise; None: `ornstein_uhlenbeck` with a `std_max` of 3. Draws begin with noise alone, so
        that the noise at the end must hide the loudest of speech; the equation of the priors, whose draws begin with
        the noisy sound, does not.
    sampler : Sampler or None
        None: `dpm_solver`, 14 steps.
    chains : int
        Draws that are averaged.
    size : str
        Of the network: `small`, `medium` or `large`, about 1, 5 and 28 million parameters.
    fft_size, hop : int
        Of the transform, in samples. `hop` divides a video frame (640 samples).
    seed : int

    Takes a `Batch` with sound (batch, samples); gives an `Estimate`.

    Example
    -------
    >>> batch = Batch(torch.randn(1, 1280), torch.tensor([1280]), torch.zeros(1, 2, 88, 88), torch.zeros(1, 2).bool())
    >>> DiffusionEnhancer(size="tiny").eval()(batch).speech.shape
    torch.Size([1, 1280])
    """

    paper = "Richter et al., Speech enhancement and dereverberation with diffusion-based generative models, 2023"

    def __init__(
        self,
        visual_frontend: VisualFrontend | None = None,
        fusion: Fusion | None = None,
        sde: Sde | None = None,
        sampler: Sampler | None = None,
        chains: int = 4,
        size: str = "small",
        fft_size: int = 640,
        hop: int = 320,
        seed: int = 0,
    ) -> None:
        from avse import plugins

        if chains < 1:
            raise ValueError(f"chains must be at least 1, got {chains}.")
        super().__init__(visual_frontend, fusion, size, fft_size, hop, given=1)
        self.sde = plugins.get("sde", "ornstein_uhlenbeck")(std_max=3.0) if sde is None else sde
        self.sampler = plugins.get("sampler", "dpm_solver")(steps=14) if sampler is None else sampler
        self.chains, self.seed = chains, seed

    @classmethod
    def example_arguments(cls) -> dict:
        from avse import plugins

        return {**super().example_arguments(), "sampler": plugins.get("sampler", "dpm_solver")(steps=2), "chains": 2}

    def denoise(
        self, spectrum: torch.Tensor, clean: torch.Tensor | None, context: Context
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `_SpectrumEnhancer.denoise`: (batch, frames, bins) and (batch, frames)."""
        given = spectrum[:, None]
        if self.training:
            part = torch.rand(len(spectrum)).to(spectrum.real)
            ratio = self.sde.ratio(self.sde.first_time + (1 - self.sde.first_time) * part)
            noise = torch.complex(torch.randn_like(spectrum.real), torch.randn_like(spectrum.real)) * 0.5**0.5
            noisy = (spectrum if clean is None else clean) + ratio[:, None, None] * noise
            found = self.network(noisy, ratio, context, given)
            return found.mean, found.reliability

        repeat = lambda tensor: tensor.repeat_interleave(self.chains, dim=0)
        mask, of_chains, given_chains = context.mask, context.map(repeat), repeat(given)

        def expected(state: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
            scale, std = self.sde.marginal(time)
            return self.network(state / scale[:, None, None], std / scale, of_chains, given_chains).mean

        generators = clip_generators(mask, self.seed, self.chains)
        noise = lambda: complex_noise(given_chains[:, 0], of_chains.mask, generators)
        with torch.autocast(spectrum.device.type, enabled=False):
            drawn = expand(self.sampler.sample(expected, self.sde, noise))
            speech = compress(drawn.unflatten(0, (-1, self.chains)).mean(dim=1))
            ratio = spectrum.real.new_full((len(spectrum),), _DATA_STD)
            return speech, self.network(speech, ratio, context, given).reliability
