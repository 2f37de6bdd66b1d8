"""What the diffusion priors have in common: compressed domain, preconditioning, objective, video dropout, guidance."""

from __future__ import annotations

import torch

from avse.contracts.fusion import Fusion, check_fusion
from avse.contracts.prior import Context, ScorePrior
from avse.contracts.sde import Sde
from avse.contracts.types import Batch
from avse.contracts.visual_frontend import VisualFrontend
from avse.nnet.score_network import ScoreNetwork, width_of
from avse.signal.levels import level_scale
from avse.signal.random import clip_generators, complex_noise
from avse.signal.stft import istft, stft

_FACTOR = 0.3  # of the compressed spectrum: speech then reaches about one where it is loudest
_LEVELS = (-12.0, 3.0)  # dB of speech in training, relative to `LEVEL`: what remains of it in a clip with noise
_VALIDATION_DRAWS = 4


class DiffusionPrior(ScorePrior):
    """A score model of clean speech on the compressed complex spectrum, with or without video.

        domain       c = 0.3 |C|^(1/2) e^(j angle C) of the short-time Fourier transform C
        state        s_t = scale(t) c + std(t) z,   z ~ N_c(0, 1)
        E[c | s_t]   network(y, r, video),   y = s_t / scale(t),   r = std(t) / scale(t);   see `ScoreNetwork`
        score        (scale(t) E[c | s_t] - s_t) / std(t)^2
        objective    E |network(c + r z, r, video) - c|^2 (d^2 + r^2) / (d r)^2,   d = `data_std`

    The weight (Karras et al., 2022) is the inverse of the error that is left where speech is Gaussian with the variance
    d^2, so that all noise levels count alike. The network knows the equation only by r: another `sde` may take the
    place of the one that was trained with, where r stays in the range that was. Beside the mean it learns, by a
    likelihood of its own, how large the error is: Var[c | s_t], which posterior sampling needs.

    Training drops the video of some clips, so that one model is conditional and unconditional; with the video of no
    frame valid the result is bit for bit that without video.

    Arguments
    ---------
    sde : Sde
    size : str
        Of the network: `small`, `medium` or `large`, about 1, 5 and 28 million parameters.
    visual_frontend : VisualFrontend or None
        Mouth crops to features. None: audio only.
    fusion : Fusion or None
        How video enters, at several depths; its `audio_dim` must be the network's width (192, 448 or 960), its
        `video_dim` the front-end's `output_dim`.
    video_dropout : float
        Share of training clips whose video is dropped, beside what the training data drops.
    guidance : float
        w of classifier-free guidance: E = E_without + (1 + w) (E_with - E_without). 0: plain; -1: without video.
    data_std : float
        Deviation of speech in the compressed domain.
    fft_size, hop : int
        The domain's transform, in samples.

    Raises
    ------
    ValueError
        If dimensions do not fit.
    """

    def __init__(
        self,
        sde: Sde,
        size: str = "small",
        visual_frontend: VisualFrontend | None = None,
        fusion: Fusion | None = None,
        video_dropout: float = 0.0,
        guidance: float = 0.0,
        data_std: float = 0.1,
        fft_size: int = 640,
        hop: int = 320,
    ) -> None:
        super().__init__(fft_size, hop)
        width = width_of(size)
        check_fusion(visual_frontend, fusion, width, f"the width of a {size} network")
        if not 0.0 <= video_dropout < 1.0:
            raise ValueError(f"video_dropout must be at least 0 and less than 1, got {video_dropout}.")
        if data_std <= 0 or guidance < -1:
            raise ValueError(f"data_std must be above 0 and guidance at least -1, got {data_std} and {guidance}.")
        self.sde, self.video_dropout, self.guidance, self.data_std = sde, video_dropout, guidance, data_std
        self.visual_frontend = visual_frontend
        if any(getattr(part, "complexity", "") == "quadratic" for part in (visual_frontend, fusion)):
            self.complexity = "quadratic"
        self.network = ScoreNetwork(self.bins, size, fusion, data_std=data_std)

    def analyse(self, audio: torch.Tensor) -> torch.Tensor:
        """Sound to the compressed spectrum: (batch, samples) to complex (batch, frames, bins)."""
        return compress(stft(audio, self.fft_size, self.hop))

    def synthesise(self, spectrum: torch.Tensor, samples: int) -> torch.Tensor:
        """The inverse of `analyse`: complex (batch, frames, bins) to (batch, samples)."""
        return istft(expand(spectrum), self.fft_size, self.hop, samples)

    def visual_features(self, batch: Batch) -> torch.Tensor | None:
        """See `Prior.visual_features`."""
        if self.visual_frontend is None:
            return None
        return self.visual_frontend(batch.mouth, batch.valid).to(self.network.enter.weight.dtype)

    def spectrum_of(self, mean: torch.Tensor, variance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `ScorePrior.spectrum_of`: both (batch, frames, bins).

        With c Gaussian around d with the variance v, E |C|^2 = E |c|^4 / 0.3^4 = (|d|^4 + 4 |d|^2 v + 2 v^2) / 0.3^4.
        """
        power = mean.abs().square()
        return expand(mean), (4 * power * variance + 2 * variance.square()) / _FACTOR**4

    def state_of(self, spectrum: torch.Tensor) -> torch.Tensor:
        """See `ScorePrior.state_of`: (batch, frames, bins)."""
        return compress(spectrum)

    def marginal(self, time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `ScorePrior.marginal`: both (batch,)."""
        return self.sde.marginal(time)

    def drift_and_diffusion(self, state: torch.Tensor, time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `ScorePrior.drift_and_diffusion`: (batch, frames, bins) and (batch,)."""
        decay, diffusion = self.sde.coefficients(time)
        return -decay[:, None, None] * state, diffusion

    def score(self, state: torch.Tensor, time: torch.Tensor, context: Context) -> torch.Tensor:
        """See `ScorePrior.score`: (batch, frames, bins)."""
        scale, std = (value[:, None, None] for value in self.marginal(time))
        return (scale * self.speech_given(state, time, context)[0] - state) / std.square()

    def speech_given(
        self, state: torch.Tensor, time: torch.Tensor, context: Context
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `ScorePrior.speech_given`: both (batch, frames, bins), the mean guided where `guidance` asks for it."""
        scale, std = self.marginal(time)
        noisy, ratio = state / scale[:, None, None], std / scale
        if context.video is None or not self.guidance:
            return self.network(noisy, ratio, context)[:2]
        without, variance, _ = self.network(noisy, ratio, context.without_video())
        if self.guidance == -1:
            return without, variance
        found, variance, _ = self.network(noisy, ratio, context)
        # In this form nothing is added, bit for bit, where the video says nothing.
        return without + (1 + self.guidance) * (found - without), variance

    @property
    def evaluations(self) -> int:
        """How often `score` asks the network."""
        return 2 if self.guidance not in (0, -1) and self.visual_frontend is not None else 1

    def features(self, state: torch.Tensor, time: torch.Tensor, context: Context) -> torch.Tensor:
        """What the network's last block says of each step; arguments as in `score`.

        Returns
        -------
        tensor, shape (batch, frames, dim)
        """
        scale, std = self.marginal(time)
        return self.network.features(state / scale[:, None, None], std / scale, context)

    def reliability(self, state: torch.Tensor, time: torch.Tensor, context: Context) -> torch.Tensor:
        """How far the video is trusted, in [0, 1], zero where it is not valid; arguments as in `score`.

        Returns
        -------
        tensor, shape (batch, frames)
        """
        scale, std = self.marginal(time)
        return self.network(state / scale[:, None, None], std / scale, context).reliability

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Denoising score matching; see `Prior.loss`. Out of training with draws that are always the same.

        Returns
        -------
        dict of str to scalar tensor
            `loss`: the sum of `nll`, the weighted squared error, which is one for a Gaussian of one variance
            everywhere, and of `uncertainty`, the negative likelihood of the error; in training also of `reliability`,
            its cross-entropy with the truth, where the fusion estimates it and it is known which frames are intact.
        """
        if not self.training:
            return _sum_of(*self._fixed_losses(batch, _VALIDATION_DRAWS, 0))
        count = len(batch)
        uniform = lambda: torch.rand(count, dtype=batch.clean.dtype).to(batch.clean.device)
        # One time in each of `count` equal parts of the whole, so that a batch sees all noise levels.
        part = (torch.randperm(count).to(uniform()) + uniform()) / count
        time = self.sde.first_time + (1 - self.sde.first_time) * part
        context = self.context(batch)
        if context.video is not None and self.video_dropout:
            kept = uniform() >= self.video_dropout
            valid = context.valid & kept[:, None]
            context = Context(context.mask, valid, context.video * valid[..., None])
        gain = 10 ** ((_LEVELS[0] + (_LEVELS[1] - _LEVELS[0]) * uniform()) / 20)
        speech = self.analyse(batch.clean * level_scale(batch.clean, batch.lengths) * gain[:, None])
        noise = torch.complex(torch.randn_like(speech.real), torch.randn_like(speech.real)) * 0.5**0.5
        nll, uncertainty, reliability = self._losses(speech, noise, time, context)
        return self.with_reliability(_sum_of(nll, uncertainty), reliability, batch, context)

    def denoising_losses(self, batch: Batch, draws: int = 4, seed: int = 0) -> torch.Tensor:
        """How badly each clip is denoised (`nll`), noise and times following from its length and `seed` alone.

        Equal sounds with different videos are therefore compared under the same draws.

        Arguments
        ---------
        batch : Batch
            With `clean`.
        draws : int
            Times, spread evenly from `first_time` to 1, each with its own noise.
        seed : int

        Returns
        -------
        tensor, shape (batch,)
        """
        return self._fixed_losses(batch, draws, seed)[0]

    def _fixed_losses(self, batch: Batch, draws: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        context = self.context(batch)
        speech = self.analyse(batch.clean * level_scale(batch.clean, batch.lengths) * 10 ** (sum(_LEVELS) / 40))
        generators = clip_generators(context.mask, seed)
        found = []
        for draw in range(draws):
            part = (draw + 0.5) / draws
            time = speech.real.new_full((len(batch),), self.sde.first_time + (1 - self.sde.first_time) * part)
            found.append(self._losses(speech, complex_noise(speech, context.mask, generators), time, context)[:2])
        nlls, uncertainties = zip(*found)
        return torch.stack(nlls).mean(dim=0), torch.stack(uncertainties).mean(dim=0)

    def _losses(
        self, speech: torch.Tensor, noise: torch.Tensor, time: torch.Tensor, context: Context
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Error and uncertainty, means over each clip, (batch,), and reliability, (batch, frames)."""
        ratio = self.sde.ratio(time)
        found, variance, reliability = self.network(speech + ratio[:, None, None] * noise, ratio, context)
        power = ratio.square()[:, None, None]
        error = (found - speech).abs().square() / power
        # Relative to the noise, and to what is left of it where speech is Gaussian.
        variance = variance / power
        unlikely = error.detach() / variance + variance.log()
        nll = error.mean(dim=2) * (1 + (ratio / self.data_std).square())[:, None]
        mask = context.mask
        count = mask.sum(dim=1)
        by_clip = lambda value: (value * mask).sum(dim=1) / count
        return by_clip(nll), by_clip(unlikely.mean(dim=2)), reliability


def _sum_of(nll: torch.Tensor, uncertainty: torch.Tensor) -> dict[str, torch.Tensor]:
    nll, uncertainty = nll.mean(), uncertainty.mean()
    return {"loss": nll + uncertainty, "nll": nll.detach(), "uncertainty": uncertainty.detach()}


def compress(spectrum: torch.Tensor) -> torch.Tensor:
    """0.3 times the square root of a complex spectrum's magnitude, its phase as it was; any shape.

    >>> compress(torch.tensor([4j, 0])).tolist()
    [0.6000000238418579j, 0j]
    """
    return _FACTOR * spectrum * spectrum.abs().clamp(min=1e-20).rsqrt()


def expand(compressed: torch.Tensor) -> torch.Tensor:
    """The inverse of `compress`.

    >>> round(expand(compress(torch.tensor([3 + 4j])).abs()).item(), 4)
    5.0
    """
    scaled = compressed / _FACTOR
    return scaled * scaled.abs()
