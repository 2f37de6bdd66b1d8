"""What the diffusion priors have in common: compressed domain, objective, video dropout, guidance."""

from __future__ import annotations

import torch

from avse.contracts.fusion import Fusion, FusionFactory
from avse.contracts.prior import Context, ScorePrior, clean_of
from avse.contracts.sde import Sde
from avse.contracts.types import Batch
from avse.contracts.visual_frontend import VisualFrontend, VisualFrontendFactory
from avse.nnet.score_network import DATA_STD, Denoised, ScoreNetwork, video_input_of
from avse.plugins import get
from avse.signal.levels import level_scale
from avse.signal.random import clip_generators, complex_noise
from avse.signal.stft import compress, expand, expand_moments, istft, stft

_LEVELS = (-12.0, 3.0)  # dB of speech in training, relative to `LEVEL`: that of speech in noisy clips
_VALIDATION_DRAWS = 4


class DiffusionPrior(ScorePrior):
    """A score model of clean speech on the compressed complex spectrum, with or without video.

        domain       c = 0.3 |C|^(1/2) e^(j angle C) of the short-time Fourier transform C
        state        s_t = scale(t) c + std(t) z,   z ~ N_c(0, 1)
        E[c | s_t]   network(y, r, video),   y = s_t / scale(t),   r = std(t) / scale(t);   see `ScoreNetwork`
        score        (scale(t) E[c | s_t] - s_t) / std(t)^2
        objective    E |network(c + r z, r, video) - c|^2 (d^2 + r^2) / (d r)^2,   d = 0.1

    The weight (Karras et al., 2022) is the inverse of the error that is left where speech is Gaussian with the variance
    d^2, so that all noise levels count alike. The network knows the equation only by r: another `sde` may replace the
    one of the training, where r stays in the same range. Beside the mean it learns, by a likelihood of its own, how
    large the error is: Var[c | s_t], which posterior sampling needs.

    Training drops the video of some clips, so that one model is conditional and unconditional; where no frame is valid
    the result is bit for bit that without video.

    Arguments
    ---------
    visual_frontend : VisualFrontend, callable that builds one, or None
        Mouth crops to features. None: audio only.
    fusion : Fusion, callable that builds one from `audio_dim` and `video_dim`, or None
        How video enters, at several depths; its `audio_dim` is the network's width (192, 448 or 960), its `video_dim`
        the front-end's `output_dim`.
    sde : Sde or None
        How speech turns into noise; None: `ornstein_uhlenbeck` as published.
    size : str
        Of the network: `small`, `medium` or `large`, about 1, 5 and 28 million parameters.
    video_dropout : float
        Share of training clips whose video is dropped, beside what the training data drops.
    guidance : float
        w of classifier-free guidance: E = E_without + (1 + w) (E_with - E_without). 0: plain; -1: without video.

    Raises
    ------
    ValueError
        If dimensions do not fit.
    """

    def __init__(
        self,
        visual_frontend: VisualFrontend | VisualFrontendFactory | None = None,
        fusion: Fusion | FusionFactory | None = None,
        sde: Sde | None = None,
        size: str = "small",
        video_dropout: float = 0.1,
        guidance: float = 0.0,
        fft_size: int = 640,
        hop: int = 320,
    ) -> None:
        super().__init__(fft_size, hop)
        if not 0.0 <= video_dropout < 1.0:
            raise ValueError(f"video_dropout must be at least 0 and less than 1, got {video_dropout}.")
        if guidance < -1:
            raise ValueError(f"guidance must be at least -1, got {guidance}.")
        self.sde = get("sde", "ornstein_uhlenbeck")() if sde is None else sde
        self.video_dropout, self.guidance = video_dropout, guidance
        self.video_input = video_input_of(visual_frontend, fusion, size, fft_size, hop)
        self.complexity = self.video_input.complexity
        self.network = ScoreNetwork(self.bins, size)

    def analyse(self, audio: torch.Tensor) -> torch.Tensor:
        """Audio to the compressed spectrum: (batch, samples) to complex (batch, frames, bins)."""
        return compress(stft(audio, self.fft_size, self.hop))

    def synthesise(self, spectrum: torch.Tensor, samples: int) -> torch.Tensor:
        """The inverse of `analyse`: complex (batch, frames, bins) to (batch, samples)."""
        return istft(expand(spectrum), self.fft_size, self.hop, samples)

    def visual_features(self, batch: Batch) -> torch.Tensor | None:
        """See `Prior.visual_features`."""
        return self.video_input.features(batch)

    def calibrate(self, scale: float, shift: float) -> None:
        self.video_input.calibrate(scale, shift)

    def spectrum_of(self, mean: torch.Tensor, variance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `ScorePrior.spectrum_of`: both (batch, frames, bins)."""
        return expand_moments(mean, variance)

    def state_of(self, spectrum: torch.Tensor) -> torch.Tensor:
        """See `ScorePrior.state_of`: (batch, frames, bins)."""
        return compress(spectrum)

    def score(self, state: torch.Tensor, time: torch.Tensor, context: Context) -> torch.Tensor:
        scale, std = (value[:, None, None] for value in self.marginal(time))
        return (scale * self.speech_given(state, time, context)[0] - state) / std.square()

    def speech_given(
        self, state: torch.Tensor, time: torch.Tensor, context: Context
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `ScorePrior.speech_given`: both (batch, frames, bins), the mean guided where `guidance` asks for it."""
        if context.video is None or not self.guidance:
            return self._denoise(state, time, context)[:2]
        without, variance, _ = self._denoise(state, time, context.without_video())
        if self.guidance == -1:
            return without, variance
        mean, variance, _ = self._denoise(state, time, context)
        # In this form nothing is added, bit for bit, where the video changes nothing.
        return without + (1 + self.guidance) * (mean - without), variance

    @property
    def evaluations(self) -> int:
        """How often `score` asks the network."""
        return 2 if self.guidance not in (0, -1) and self.video_input.sees else 1

    def features(self, state: torch.Tensor, time: torch.Tensor, context: Context) -> torch.Tensor:
        """Output of the network's last block, shape (batch, frames, dim); arguments as in `score`."""
        scale, std = self.marginal(time)
        return self.network.features(state / scale[:, None, None], std / scale, context, self.video_input)

    def reliability(self, state: torch.Tensor, time: torch.Tensor, context: Context) -> torch.Tensor:
        return self._denoise(state, time, context).reliability

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Denoising score matching; see `Prior.loss`. Out of training with draws that are always the same.

        Returns
        -------
        dict of str to scalar tensor
            `loss`: the sum of `nll`, the weighted squared error, which is one for a Gaussian of one variance
            everywhere, and of `uncertainty`, the negative likelihood of the error; in training also of `reliability`,
            its cross-entropy with the truth, where the fusion estimates it and it is known which frames are clean.
        """
        if not self.training:
            return _sum_of(*self._fixed_losses(batch, _VALIDATION_DRAWS, 0))
        count = len(batch)
        clean = clean_of(batch)
        uniform = lambda: torch.rand(count, dtype=clean.dtype).to(clean.device)
        # One time in each of `count` equal parts of the whole, so that a batch sees all noise levels.
        part = (torch.randperm(count).to(uniform()) + uniform()) / count
        time = self.sde.first_time + (1 - self.sde.first_time) * part
        context = self.context(batch)
        if context.video is not None and self.video_dropout:
            keeps = uniform() >= self.video_dropout
            valid = context.valid & keeps[:, None]
            context = Context(context.mask, valid, context.video * valid[..., None])
        gain = 10 ** ((_LEVELS[0] + (_LEVELS[1] - _LEVELS[0]) * uniform()) / 20)
        speech = self.analyse(clean * level_scale(clean, batch.lengths) * gain[:, None])
        noise = torch.complex(torch.randn_like(speech.real), torch.randn_like(speech.real)) * 0.5**0.5
        nll, uncertainty, reliability = self._losses(speech, noise, time, context)
        return self.video_input.add_reliability_loss(_sum_of(nll, uncertainty), reliability, batch, context)

    def denoising_losses(self, batch: Batch, draws: int = 4, seed: int = 0) -> torch.Tensor:
        """How badly each clip is denoised (`nll`); noise and times depend on its length and `seed` alone.

        Equal audio with different videos is therefore compared under the same draws.

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

    def _denoise(self, state: torch.Tensor, time: torch.Tensor, context: Context) -> Denoised:
        scale, std = self.marginal(time)
        return self.network(state / scale[:, None, None], std / scale, context, self.video_input)

    def _fixed_losses(self, batch: Batch, draws: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        context = self.context(batch)
        clean = clean_of(batch)
        speech = self.analyse(clean * level_scale(clean, batch.lengths) * 10 ** (sum(_LEVELS) / 40))
        generators = clip_generators(context.mask, seed)
        losses = []
        for draw in range(draws):
            part = (draw + 0.5) / draws
            time = speech.real.new_full((len(batch),), self.sde.first_time + (1 - self.sde.first_time) * part)
            losses.append(self._losses(speech, complex_noise(speech, context.mask, generators), time, context)[:2])
        nlls, uncertainties = zip(*losses)
        return torch.stack(nlls).mean(dim=0), torch.stack(uncertainties).mean(dim=0)

    def _losses(
        self, speech: torch.Tensor, noise: torch.Tensor, time: torch.Tensor, context: Context
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Error and uncertainty, means over each clip, (batch,), and reliability, (batch, frames)."""
        ratio = self.sde.ratio(time)
        noisy = speech + ratio[:, None, None] * noise
        mean, variance, reliability = self.network(noisy, ratio, context, self.video_input)
        power = ratio.square()[:, None, None]
        error = (mean - speech).abs().square() / power
        # Relative to the noise, and to what is left of it where speech is Gaussian.
        variance = variance / power
        error_nll = error.detach() / variance + variance.log()
        nll = error.mean(dim=2) * (1 + (ratio / DATA_STD).square())[:, None]
        mask = context.mask
        count = mask.sum(dim=1)
        by_clip = lambda value: (value * mask).sum(dim=1) / count
        return by_clip(nll), by_clip(error_nll.mean(dim=2)), reliability


def _sum_of(nll: torch.Tensor, uncertainty: torch.Tensor) -> dict[str, torch.Tensor]:
    nll, uncertainty = nll.mean(), uncertainty.mean()
    return {"loss": nll + uncertainty, "nll": nll.detach(), "uncertainty": uncertainty.detach()}
