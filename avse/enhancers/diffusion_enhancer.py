"""`diffusion_enhancer` and `one_step`: the network of the diffusion priors, trained on noisy speech."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch

from avse.contracts.enhancer import Enhancer
from avse.contracts.fusion import Fusion, FusionFactory
from avse.contracts.prior import Context
from avse.contracts.sampler import Sampler
from avse.contracts.sde import Sde
from avse.contracts.types import Batch, Estimate
from avse.contracts.visual_frontend import VisualFrontend, VisualFrontendFactory
from avse.nnet.score_network import DATA_STD, Denoised, ScoreNetwork, video_input_of
from avse.plugins import get, register
from avse.signal.levels import level_scale
from avse.signal.random import clip_generators, complex_noise
from avse.signal.stft import compress, expand, istft, length_mask, stft


class SpectrumEnhancer(Enhancer):
    """A `ScoreNetwork` from a compressed spectrum to a compressed spectrum, with or without video.

    Arguments
    ---------
    visual_frontend : VisualFrontend, callable that builds one, or None
        Mouth crops to features. None: audio only.
    fusion : Fusion, callable that builds one from `audio_dim` and `video_dim`, or None
        How video enters; its `audio_dim` is the network's width (192 of a small one, 448, 960), its `video_dim` the
        front-end's `output_dim`.
    size : str
        Of the network: `small`, `medium` or `large`, about 1, 5 and 28 million parameters.
    fft_size, hop : int
        Of the transform, in samples. `hop` divides a video frame (640 samples).
    """

    conditions = 0  # further spectra that the network is given

    def __init__(
        self,
        visual_frontend: VisualFrontend | VisualFrontendFactory | None = None,
        fusion: Fusion | FusionFactory | None = None,
        size: str = "small",
        fft_size: int = 640,
        hop: int = 320,
    ) -> None:
        super().__init__()
        self.video_input = video_input_of(visual_frontend, fusion, size, fft_size, hop)
        if fft_size % (2 * hop):
            raise ValueError(f"hop must divide half of fft_size, got {hop} and {fft_size}.")
        self.fft_size, self.hop, self.complexity = fft_size, hop, self.video_input.complexity
        self.network = ScoreNetwork(fft_size // 2 + 1, size, self.conditions)
        self.network.spread.requires_grad_(False)  # the variance is not used here

    @classmethod
    def example_arguments(cls) -> dict[str, Any]:
        frontend = get("visual_frontend", "pixel_mlp")(output_dim=6, hidden_dim=8, size=11)
        return {"visual_frontend": frontend, "fusion": get("fusion", "film"), "size": "tiny"}

    @abstractmethod
    def denoise(
        self, spectrum: torch.Tensor, clean: torch.Tensor | None, context: Context
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Speech, complex (batch, frames, bins), and reliability, (batch, frames), from the compressed noisy spectrum.

        `clean` is the compressed spectrum of the speech, in training.
        """

    def forward(self, batch: Batch) -> Estimate:
        scale = level_scale(batch.noisy, batch.lengths)
        context = self.video_input.context(batch)
        analyse = lambda audio: compress(stft(audio * scale, self.fft_size, self.hop))
        spectrum = analyse(batch.noisy)
        clean = analyse(batch.clean) if self.training and batch.clean is not None else None
        denoised, reliability = self.denoise(spectrum, clean, context)
        denoised = torch.where(context.mask[..., None], denoised, denoised.new_zeros(()))
        samples = batch.noisy.shape[1]
        speech = istft(expand(denoised), self.fft_size, self.hop, samples) / scale
        speech = speech * length_mask(batch.lengths, samples)
        reliability = self.video_input.by_video_frame(reliability, batch)
        return Estimate(speech, batch.noisy - speech, reliability, batch.lengths)

    def calibrate(self, scale: float, shift: float) -> None:
        self.video_input.calibrate(scale, shift)


@register("enhancer", "one_step")
class OneStep(SpectrumEnhancer):
    """The network of the diffusion priors, asked once for the speech in the noisy audio: the baseline of diffusion.

    Example
    -------
    >>> from avse.conformance import example_batch
    >>> OneStep(size="tiny")(example_batch((1280,))).speech.shape
    torch.Size([1, 1280])
    """

    paper = "Lemercier et al., StoRM: a diffusion-based stochastic regeneration model, 2023 (its predictive part)"

    def denoise(
        self, spectrum: torch.Tensor, clean: torch.Tensor | None, context: Context
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ratio = spectrum.real.new_full((len(spectrum),), DATA_STD)
        denoised = self.network(spectrum, ratio, context, self.video_input)
        return denoised.mean, denoised.reliability


@register("enhancer", "diffusion_enhancer")
class DiffusionEnhancer(SpectrumEnhancer):
    """Diffusion of speech given the noisy audio and the mouth: the supervised twin of the diffusion priors.

    The noisy audio is a condition of the network. In training one state of a random time is made from the clean speech
    and denoised at once; `avse.training.losses.DenoisingLoss` then makes that the expected speech. Otherwise the
    sampler draws the speech; its random numbers depend on `seed` and the clip's length alone. The mean of several draws
    is nearer to the clean speech than one.

    Arguments
    ---------
    sde : Sde or None
        How speech turns into noise; None: `ornstein_uhlenbeck` with a `std_max` of 3. Draws begin with noise alone, so
        that the noise at the end must hide the loudest speech. The equation of the priors does not, whose draws begin
        with the noisy audio.
    sampler : Sampler or None
        None: `dpm_solver`, 14 steps.
    chains : int
        Draws that are averaged.
    seed : int
    common :
        Further arguments: see `SpectrumEnhancer`.

    Example
    -------
    >>> from avse.conformance import example_batch
    >>> DiffusionEnhancer(size="tiny").eval()(example_batch((1280,))).speech.shape
    torch.Size([1, 1280])
    """

    paper = "Richter et al., Speech enhancement and dereverberation with diffusion-based generative models, 2023"
    conditions = 1

    def __init__(
        self,
        *args: Any,
        sde: Sde | None = None,
        sampler: Sampler | None = None,
        chains: int = 4,
        seed: int = 0,
        **common: Any,
    ) -> None:
        if chains < 1:
            raise ValueError(f"chains must be at least 1, got {chains}.")
        super().__init__(*args, **common)
        self.sde = get("sde", "ornstein_uhlenbeck")(std_max=3.0) if sde is None else sde
        self.sampler = get("sampler", "dpm_solver")(steps=14) if sampler is None else sampler
        self.chains, self.seed = chains, seed

    @classmethod
    def example_arguments(cls) -> dict[str, Any]:
        return {**super().example_arguments(), "sampler": get("sampler", "dpm_solver")(steps=2), "chains": 2}

    def denoise(
        self, spectrum: torch.Tensor, clean: torch.Tensor | None, context: Context
    ) -> tuple[torch.Tensor, torch.Tensor]:
        condition = spectrum[:, None]
        if self.training:
            part = torch.rand(len(spectrum)).to(spectrum.real)
            ratio = self.sde.ratio(self.sde.first_time + (1 - self.sde.first_time) * part)
            noise = torch.complex(torch.randn_like(spectrum.real), torch.randn_like(spectrum.real)) * 0.5**0.5
            noisy = (spectrum if clean is None else clean) + ratio[:, None, None] * noise
            denoised: Denoised = self.network(noisy, ratio, context, self.video_input, condition)
            return denoised.mean, denoised.reliability

        repeat = lambda tensor: tensor.repeat_interleave(self.chains, dim=0)
        of_chains, condition_of_chains = context.map(repeat), repeat(condition)

        def expected(state: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
            scale, std = self.sde.marginal(time)
            noisy, ratio = state / scale[:, None, None], std / scale
            return self.network(noisy, ratio, of_chains, self.video_input, condition_of_chains).mean

        generators = clip_generators(context.mask, self.seed, self.chains)
        noise = lambda: complex_noise(condition_of_chains[:, 0], of_chains.mask, generators)
        with torch.autocast(spectrum.device.type, enabled=False):
            drawn = expand(self.sampler.sample(expected, self.sde, noise))
            speech = compress(drawn.unflatten(0, (-1, self.chains)).mean(dim=1))
            ratio = spectrum.real.new_full((len(spectrum),), DATA_STD)
            return speech, self.network(speech, ratio, context, self.video_input, condition).reliability
