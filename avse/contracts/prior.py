"""Kind `prior`: what speech looks like, p(s | z, video) or the score of p(s | video)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from avse import compatibility
from avse.contracts.plugin import Plugin
from avse.contracts.sde import Sde
from avse.contracts.types import SAMPLES_PER_FRAME, Batch
from avse.errors import AvseError
from avse.signal.stft import istft, length_mask, repeat_to_frames, stft, stft_frames


@dataclass
class Context:
    """What a network is told about a batch beside its audio; made once, used in every iteration.

    Arguments
    ---------
    mask : tensor, shape (batch, frames), bool
        False beyond each clip's end.
    valid : tensor, shape (batch, frames), bool
        Where a mouth was seen; false beyond the end.
    video : tensor, shape (batch, frames, dim), or None
        Visual features repeated to the frames, zero where not valid. None: audio only.
    scene : tensor, shape (batch, dim), or None
        See `Batch.scene`; None for networks that do not take it.
    """

    mask: torch.Tensor
    valid: torch.Tensor
    video: torch.Tensor | None = None
    scene: torch.Tensor | None = None

    @classmethod
    def of(
        cls, batch: Batch, fft_size: int, hop: int, visual_features: Callable[[Batch], torch.Tensor | None]
    ) -> Context:
        """What is known of a batch in the frames of a transform; without video where no frame is valid.

        Arguments
        ---------
        batch : Batch
        fft_size, hop : int
            In samples.
        visual_features : callable
            Gives features of a batch, shape (batch, video_frames, dim), or None. Called only where a frame is valid.
        """
        frames = stft_frames(batch.noisy.shape[1], fft_size, hop)
        mask = length_mask(stft_frames(batch.lengths, fft_size, hop), frames)
        ratio = SAMPLES_PER_FRAME // hop
        valid = repeat_to_frames(batch.valid, frames, ratio) & mask
        features = visual_features(batch) if bool(batch.valid.any()) else None
        if features is None:
            return cls(mask, torch.zeros_like(valid))
        video = repeat_to_frames(features, frames, ratio)
        return cls(mask, valid, torch.where(valid[..., None], video, video.new_zeros(())))

    def without_video(self) -> Context:
        """The same with no frame valid."""
        return replace(self, valid=torch.zeros_like(self.valid), video=None)

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Context:
        """The same with a function applied to each tensor, such as one that takes some of the clips."""
        return replace(self, **{name: function(value) for name, value in vars(self).items() if value is not None})


compatibility.old_attribute(Context, "inside", "mask")


@dataclass
class Gaussian:
    """Independent Gaussians.

    Arguments
    ---------
    mean, log_variance : tensor, shape (batch, frames, dim)
    """

    mean: torch.Tensor
    log_variance: torch.Tensor

    def sample(self) -> torch.Tensor:
        """A draw that gradients pass through, shape (batch, frames, dim)."""
        return self.mean + (0.5 * self.log_variance).exp() * torch.randn_like(self.mean)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density of a value, summed over dim, without the constant; shape (batch, frames)."""
        distance = (value - self.mean).square() * (-self.log_variance).exp()
        return -0.5 * (distance + self.log_variance).sum(dim=-1)

    def divergence(self, other: Gaussian) -> torch.Tensor:
        """Kullback-Leibler divergence to another, summed over dim; shape (batch, frames).

        >>> standard = Gaussian(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3))
        >>> standard.divergence(Gaussian(torch.ones(1, 2, 3), torch.zeros(1, 2, 3)))
        tensor([[1.5000, 1.5000]])
        """
        return self.divergence_by_unit(other).sum(dim=-1)

    def divergence_by_unit(self, other: Gaussian) -> torch.Tensor:
        """Kullback-Leibler divergence to another, unit by unit; shape (batch, frames, dim)."""
        ratio = (self.log_variance - other.log_variance).exp()
        distance = (self.mean - other.mean).square() * (-other.log_variance).exp()
        return 0.5 * (ratio + distance - 1.0 - self.log_variance + other.log_variance)


class Prior(nn.Module, Plugin):
    """A generative model of clean speech in a time-frequency domain of its own.

    A prior is trained on clean speech alone. What an inference needs depends on the family: `LatentPrior` (variational
    auto-encoders), `ScorePrior` (diffusion) or `SwitchingPrior` (a choice among latent priors, frame by frame).

    Arguments
    ---------
    fft_size, hop : int
        The domain's transform, in samples; `hop` divides a video frame (640 samples).

    Attributes
    ----------
    fft_size, hop : int
    """

    def __init__(self, fft_size: int = 640, hop: int = 320) -> None:
        super().__init__()
        if SAMPLES_PER_FRAME % hop:
            raise ValueError(f"hop must divide {SAMPLES_PER_FRAME}, got {hop}.")
        self.fft_size, self.hop = fft_size, hop

    @property
    def bins(self) -> int:
        """Frequency bins of the domain."""
        return self.fft_size // 2 + 1

    @abstractmethod
    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """The training objective on clean speech.

        Arguments
        ---------
        batch : Batch
            With `clean` of shape (batch, samples).

        Returns
        -------
        dict of str to scalar tensor
            `loss` is minimised; other entries are its terms, for the log.
        """

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """The same as `loss`, by the name that wrappers of modules (several processes, compilation) call."""
        return self.loss(batch)

    def analyse(self, audio: torch.Tensor) -> torch.Tensor:
        """Audio to the prior's domain: (batch, samples) to complex (batch, frames, bins)."""
        return stft(audio, self.fft_size, self.hop)

    def synthesise(self, spectrum: torch.Tensor, samples: int) -> torch.Tensor:
        """The inverse of `analyse`: complex (batch, frames, bins) to (batch, samples)."""
        return istft(spectrum, self.fft_size, self.hop, samples)

    def visual_features(self, batch: Batch) -> torch.Tensor | None:
        """Features of the mouths, (batch, video_frames, dim), zero in invalid frames; None for an audio-only prior."""
        return None

    def context(self, batch: Batch) -> Context:
        """What the prior is told about a batch; see `Context.of`."""
        return Context.of(batch, self.fft_size, self.hop, self.visual_features)

    def calibrate(self, scale: float, shift: float) -> None:
        """Replace the log-odds l of the reliability by `scale` l + `shift`.

        Raises
        ------
        AvseError
            If the prior does not estimate its reliability.
        """
        raise AvseError(f"The prior {type(self).__name__} does not estimate its reliability: nothing to calibrate.")


def clean_of(batch: Batch) -> torch.Tensor:
    """The clean speech of a batch, shape (batch, samples), that a prior is trained on.

    Raises
    ------
    ValueError
        If it has none.
    """
    if batch.clean is None:
        raise ValueError("a prior is trained on clean speech, and this batch has none.")
    return batch.clean


class LatentPrior(Prior):
    """p(z | video) and p(s | z, video) with s complex Gaussian: a variational auto-encoder of any structure.

    Models that look over time (recurrent, transformer) are latent priors as well: every method takes whole sequences,
    and its result for a frame may depend on other frames of the same clip inside `context.mask`.

    Attributes
    ----------
    latent_dim : int
        Features of z in a frame.
    dynamical : bool
        Whether `prior` uses `latent`. False: it depends on the context alone, and may be asked once for many draws.
    encodes_noisy : bool
        Whether it has `encode_noisy`, q(z | x, V, video). False: an inference encodes its estimate of speech.
    """

    latent_dim: int
    dynamical: bool = True
    encodes_noisy: bool = False

    @property
    def encoding_prior(self) -> LatentPrior:
        """Whose `encode` and `encode_noisy` these are: priors with the same one find the same z in the same context."""
        return self

    @abstractmethod
    def encode(self, power: torch.Tensor, context: Context) -> Gaussian:
        """q(z | s, video), shape (batch, frames, latent_dim).

        Arguments
        ---------
        power : tensor, shape (batch, frames, bins)
            |s|^2, or a current estimate of it.
        context : Context
        """

    @abstractmethod
    def decode(self, latent: torch.Tensor, context: Context) -> torch.Tensor:
        """Log-variance of s given z, shape (batch, frames, bins).

        Arguments
        ---------
        latent : tensor, shape (batch, frames, latent_dim)
            Draws of one clip are folded into the batch axis by the caller, and `context` with them.
        context : Context
        """

    @abstractmethod
    def prior(self, latent: torch.Tensor, context: Context) -> Gaussian:
        """p(z | video); for a dynamical model frame t may depend on `latent` before t.

        Arguments
        ---------
        latent : tensor, shape (batch, frames, latent_dim)
        context : Context

        Returns
        -------
        Gaussian, shape (batch, frames, latent_dim)
        """

    def encode_noisy(self, power: torch.Tensor, variance: torch.Tensor, context: Context) -> Gaussian:
        """q(z | x, V, video): z of speech in noise of a known variance; shape (batch, frames, latent_dim).

        Arguments
        ---------
        power : tensor, shape (batch, frames, bins)
            |x|^2 of the noisy audio.
        variance : tensor, shape (batch, frames, bins)
            V of the noise.
        context : Context
        """
        raise NotImplementedError(f"{type(self).__name__} does not encode noisy speech.")

    def noisy_encoder_parts(self) -> list[nn.Module]:
        """What `encode_noisy` alone uses, which an unrolled inference may train; the density of speech needs none."""
        return []

    def reliability(self, latent: torch.Tensor, context: Context) -> torch.Tensor:
        """How far the video was trusted in `decode`, in [0, 1], zero where it was not valid; shape (batch, frames)."""
        if context.video is None:
            return latent.new_zeros(latent.shape[:2])
        return context.valid.to(latent.dtype)

    def reliability_in_noise(
        self, power: torch.Tensor, variance: torch.Tensor, context: Context
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """How far video and audio were trusted in `encode_noisy`, with its arguments; None if the prior does not tell.

        Both of shape (batch, frames), in [0, 1]; that of the video is zero where it was not valid. What it gives takes
        the place of `reliability`.
        """
        return None


class ScorePrior(Prior):
    """The score of p(s | video), diffused along a stochastic differential equation ds = f(s, t) dt + g(t) dw.

    The domain (`analyse`, `synthesise`) may compress amplitudes; times run from 0 (speech) to 1 (noise). States are
    complex and so is w, with E |dw|^2 = dt: variances are those of real and imaginary part together, and the score of a
    Gaussian of mean m and variance v is (m - state) / v.

    Attributes
    ----------
    sde : Sde
        The equation, whose `marginal` and `drift_and_diffusion` these are.
    """

    sde: Sde

    @property
    def evaluations(self) -> int:
        """How often `score` asks the network."""
        return 1

    @abstractmethod
    def score(self, state: torch.Tensor, time: torch.Tensor, context: Context) -> torch.Tensor:
        """Gradient of log p_t(state | video), shape (batch, frames, bins), complex.

        Arguments
        ---------
        state : tensor, shape (batch, frames, bins), complex
        time : tensor, shape (batch,)
        context : Context
        """

    def marginal(self, time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """p_t(state | speech) is Gaussian with mean `scale * speech` and standard deviation `std`.

        Returns
        -------
        scale, std : tensor, shape (batch,)
        """
        return self.sde.marginal(time)

    def drift_and_diffusion(self, state: torch.Tensor, time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """f(state, t), shape (batch, frames, bins), and g(t), shape (batch,)."""
        decay, diffusion = self.sde.coefficients(time)
        return -decay[:, None, None] * state, diffusion

    def speech_given(
        self, state: torch.Tensor, time: torch.Tensor, context: Context
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and variance of speech, given a state: by Tweedie's formula, and as if nothing were known of speech.

        Arguments
        ---------
        state : tensor, shape (batch, frames, bins), complex
        time : tensor, shape (batch,)
        context : Context

        Returns
        -------
        mean : tensor, shape (batch, frames, bins), complex
        variance : tensor, shape (batch, frames, bins)
        """
        scale, std = (value[:, None, None] for value in self.marginal(time))
        mean = (state + std.square() * self.score(state, time, context)) / scale
        return mean, (std / scale).square().expand(mean.shape)

    def spectrum_of(self, mean: torch.Tensor, variance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and variance in the domain, as those of the short-time Fourier transform, where signals add up.

        They are exact for a Gaussian in the domain. At variance zero `state_of` inverts the mean. A prior
        whose domain is that transform need not say more.

        Arguments
        ---------
        mean : tensor, shape (batch, frames, bins), complex
        variance : tensor, shape (batch, frames, bins)

        Returns
        -------
        mean, variance : tensor, shape (batch, frames, bins)
        """
        return mean, variance

    def state_of(self, spectrum: torch.Tensor) -> torch.Tensor:
        """A short-time Fourier transform in the domain, shape (batch, frames, bins), complex."""
        return spectrum

    def reliability(self, state: torch.Tensor, time: torch.Tensor, context: Context) -> torch.Tensor:
        """How far the video is trusted, in [0, 1], zero where it was not valid; shape (batch, frames)."""
        if context.video is None:
            return state.real.new_zeros(state.shape[:2])
        return context.valid.to(state.real.dtype)


class SwitchingPrior(Prior):
    """A Markov chain over frames that chooses among latent priors: audio or audio-visual, or one per speaker.

    Attributes
    ----------
    components : torch.nn.ModuleList of LatentPrior
        All in one domain.
    fallbacks : sequence of (int or None)
        For each component with video, the component that replaces it in frames where no mouth is seen; None for a
        component that needs none. A fallback has none itself. Empty: none of the components needs one.
    memory : bool
        Whether the next choice depends on the last. False: all rows of the transition are the same.
    """

    components: nn.ModuleList
    fallbacks: Sequence[int | None] = ()
    memory: bool = True

    @abstractmethod
    def switch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities of the first choice, shape (components,), and of the next given the last.

        Returns
        -------
        initial : tensor, shape (components,)
        transition : tensor, shape (components, components)
            Row: from; column: to.
        """

    def switch_of(self, contexts: Sequence[Context]) -> tuple[torch.Tensor, torch.Tensor]:
        """The same for each clip, where the video makes some choices likelier; by default `switch` for all.

        Arguments
        ---------
        contexts : sequence of Context
            From `contexts`.

        Returns
        -------
        initial : tensor, shape (components,) or (batch, components)
        transition : tensor, shape (components, components) or (batch, components, components)
        """
        return self.switch()

    def contexts(self, batch: Batch) -> list[Context]:
        """One context for each component."""
        priors = [component for component in self.components if isinstance(component, LatentPrior)]
        return [prior.context(batch) for prior in priors]


__getattr__ = compatibility.old_names(__name__)
