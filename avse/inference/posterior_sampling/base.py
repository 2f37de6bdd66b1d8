"""What inferences with a score prior have in common: draws of speech given the noisy audio, and the noise update."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from avse.contracts.inference import Inference, latest_within, no_gradient
from avse.contracts.noise_model import NoiseModel, ScoreNoiseModel, State
from avse.contracts.prior import Context, ScorePrior
from avse.contracts.sampler import Sampler
from avse.contracts.types import SAMPLES_PER_FRAME, Batch, Estimate
from avse.inference.em.model_selection import check_gate, gate_chain
from avse.plugins import get
from avse.signal.levels import floor_over_frames, level_scale
from avse.signal.markov import MarkovChain
from avse.signal.random import clip_generators, complex_noise
from avse.signal.stft import istft, overlap_gain, pool_to_video_frames, stft


@dataclass
class Draw:
    """Draws of speech under way; one row for each chain of each clip, the chains of a clip side by side.

    Arguments
    ---------
    noisy : tensor, shape (rows, frames, bins), complex
        The noisy audio, in the domain in which the inference adds speech and noise.
    variance : tensor, shape (rows, frames, bins)
        V of the noise, in that domain.
    noise : callable
        Draws white complex noise of the state's shape, each row from a generator of its own.
    noise_moments : (tensor, tensor) or None
        Mean and variance of the noise given its state, (rows, frames, bins), where it is drawn beside speech.
    asked : tensor, shape (rows, frames, bins), complex
        The last state that the prior was asked about.
    speech, speech_variance : tensor, shape (rows, frames, bins)
        Mean and variance of speech given that state.
    power : tensor, shape (rows, frames, bins)
        E |n|^2, where a subclass measures it while it guides.
    pass_number, move : int
        Number of the pass and of the move within it, from 0.
    quiet : bool
        Whether the move adds no noise.
    time, following : tensor, shape (rows,)
        Before and after the move.
    """

    noisy: torch.Tensor
    variance: torch.Tensor
    noise: Callable[[], torch.Tensor]
    asked: torch.Tensor
    speech: torch.Tensor
    speech_variance: torch.Tensor
    power: torch.Tensor = field(default_factory=torch.Tensor)
    noise_moments: tuple[torch.Tensor, torch.Tensor] | None = None
    pass_number: int = 0
    move: int = 0
    quiet: bool = False
    time: torch.Tensor = field(default_factory=torch.Tensor)
    following: torch.Tensor = field(default_factory=torch.Tensor)

    def residual(self, speech: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the noisy audio has beyond a mean of speech and that of noise, and the variance of the noise."""
        mean, variance = self.noise_moments or (0.0, self.variance)
        return self.noisy - speech - mean, variance


class PosteriorSampling(Inference):
    """Draws of speech from p(s | x, video) under a score prior, while a noise model is fitted to the residual.

        x = s + n,   n ~ N_c(0, V),   ds = f(s, t) dt + g(t) dw

    A sampler leads from noise to speech under the prior alone. A subclass brings in the noisy audio at each move
    (`expect` or `guide`), and says how the power of the residual noise is measured (`noise_power`). The base class does
    the rest: level, chains, passes, the updates of the noise, the estimate and its averages. Each chain is a draw of
    its own; the noise is fitted to all chains of a clip, and the estimate of speech is their mean.

    In the published methods (`PublishedSampling`) s, x and n are *compressed* spectra, a (complex) root of the
    transform: the noise model is then fitted to powers of compressed noise, and that compressed speech and noise add up
    is an approximation, good where one of the two is much louder. A subclass with `linear` true adds them in the
    transform itself. Under a `ScoreNoiseModel` such a one draws the noise beside speech: rows of both make one state,
    each moves to its mean given both states and x, and V, which the domain of the noise depends on, is that of the
    beginning of the pass.

    An iteration is one move, so that an inference can be stopped after any; before the last move the estimate is what
    the prior, and the subclass, expect of speech at that time. The random numbers of a clip depend on `seed` and its
    length alone.

    Arguments
    ---------
    prior : ScorePrior
    noise_model : NoiseModel
    sampler : Sampler or None
        None: that of `default_sampler`.
    gate : str
        `frame`: model selection, frame by frame, between the prior with its video and without it, by how well each
        predicts the noisy audio; the video is weighed by its responsibility. Twice the evaluations. `none`: off.
    passes : int
        How often the sampler goes from noise to speech; the noise is kept from one pass to the next.
    chains : int
        Draws that are averaged.
    m_steps : int
        Updates of the noise at a time.
    quantile : float
        The noise begins as what each bin exceeds in all but this fraction of the frames, in [0, 1): a loud noise would
        take the place of speech before the prior can find it. 0: as the noise model begins by itself.
    wiener : bool
        Whether the estimate is the noisy audio, filtered with the powers of the draw and of the residual.
    seed : int

    Attributes
    ----------
    linear : bool
        Whether speech and noise are added in the transform itself.
    leaves : bool
        Whether the last move leaves the first time of the equation: it adds no noise, and its state is the estimate.
        False: the estimate is the speech that is expected at the first time, for one more evaluation.
    averages_states : bool
        Whether the mean over chains is taken in the prior's domain; false: of the audio.
    fit_every : int
        The noise is fitted after the first of every so many moves; 0: at the end of a pass.
    fits_start : bool
        Whether the noise is also fitted before the first move, to the noisy audio less the state.
    default_sampler : (str, int)
        Name and steps.
    draws_noise : bool
        Whether the noise is drawn beside speech.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    accepts = (ScorePrior,)
    prior: ScorePrior
    linear: ClassVar[bool] = False
    leaves: bool = False
    averages_states: ClassVar[bool] = False
    fit_every: int = 1
    fits_start: bool = False
    default_sampler: ClassVar[tuple[str, int]] = ("predictor_corrector", 30)

    def __init__(
        self,
        prior: ScorePrior,
        noise_model: NoiseModel,
        sampler: Sampler | None = None,
        gate: str = "none",
        passes: int = 1,
        chains: int = 1,
        m_steps: int = 1,
        quantile: float = 0.0,
        wiener: bool = False,
        seed: int = 0,
    ) -> None:
        for name, value in (("passes", passes), ("chains", chains), ("m_steps", m_steps)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        if not 0.0 <= quantile < 1.0:
            raise ValueError(f"quantile must be at least 0 and below 1, got {quantile}.")
        check_gate(gate)
        if sampler is None:
            name, steps = self.default_sampler
            sampler = get("sampler", name)(steps=steps)
        super().__init__(prior, noise_model, passes * sampler.steps)
        self.sampler, self.gate, self.passes, self.chains = sampler, gate, passes, chains
        self.m_steps, self.quantile, self.wiener, self.seed = m_steps, quantile, wiener, seed
        self.draws_noise = self.linear and isinstance(noise_model, ScoreNoiseModel)
        if isinstance(noise_model, ScoreNoiseModel) and self.draws_noise and noise_model.score_bins != prior.bins:
            raise ValueError(f"the noise model's score has {noise_model.score_bins} bins, the prior {prior.bins}.")

    @classmethod
    def example_arguments(cls) -> dict[str, Any]:
        return {
            "prior": get("prior", "av_diffusion").example(),
            "noise_model": get("noise_model", "nmf")(rank=2),
            "sampler": get("sampler", "predictor_corrector")(steps=2),
            "chains": 1,
        }

    @property
    def evaluations(self) -> int:
        """How often a whole run asks the network about each draw of a clip with video."""
        by_state = self.prior.evaluations + (self.gate != "none")
        return (self.iterations * self.sampler.evaluations + self.passes * (not self.leaves)) * by_state

    def trajectory(self, like: torch.Tensor) -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
        """Time and following time of each move of a pass; see `Sampler.trajectory`."""
        return self.sampler.trajectory(self.prior.sde, like)

    def first_state(self, start: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """The state at time 1, from the noisy audio in the prior's domain and white noise, (rows, frames, bins)."""
        scale, std = (value[:, None, None] for value in self.prior.marginal(start.real.new_ones(len(start))))
        return scale * start + std * noise

    def first_noise(self, power: torch.Tensor, mask: torch.Tensor, scene: torch.Tensor | None) -> State:
        """What the fit of the noise begins from; see `NoiseModel.initial_state`."""
        if self.quantile:
            power = floor_over_frames(power, mask, self.quantile) * mask[..., None]
        return self.noise_model.initial_state(power, mask, scene)

    def fit_noise(self, state: State, power: torch.Tensor, mask: torch.Tensor) -> State:
        """One update of the noise; see `NoiseModel.update_from_power`."""
        return self.noise_model.update_from_power(state, power, mask)

    def expect(self, draw: Draw, mean: torch.Tensor, variance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and variance of speech given the state and, in a subclass that changes them, the noisy audio.

        Those given are the prior's; all have the shape (rows, frames, bins). The sampler moves towards this mean.
        """
        return mean, variance

    def guide(self, draw: Draw, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
        """The next state: a draw around where the sampler sends it, and in a subclass a guidance step.

        The mean and the result are complex, of shape (rows, frames, bins); `std` has the shape (rows, 1, 1).
        """
        return mean + std * draw.noise() if self.sampler.stochastic and not draw.quiet else mean

    def speech_moments(self, mean: torch.Tensor, variance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and variance of speech in the prior's domain, as those in the domain in which noise is added to it.

        All have the shape (rows, frames, bins). Nothing changes unless the inference is `linear`.
        """
        return self.prior.spectrum_of(mean, variance) if self.linear else (mean, variance)

    def noise_power(self, draw: Draw) -> torch.Tensor:
        """E |n|^2 so far, to fit the noise to, shape (rows, frames, bins); by default |x - E[s | state]|^2."""
        return (draw.noisy - draw.speech).abs().square()

    def iterate(self, batch: Batch) -> Iterator[Estimate]:
        """One `Estimate` after each move; see `Inference.iterate`."""
        for state in self._states(batch):
            yield state.estimate()

    def forward(self, batch: Batch, seconds: float | None = None) -> Estimate:
        """Move to the end, or until the time is up; see `Inference.forward`."""
        return latest_within(self._states(batch), seconds).estimate()

    def _states(self, batch: Batch) -> Iterator[_SamplingState]:
        with no_gradient(batch):
            state = _SamplingState.of(self, batch)
        for number in range(self.passes):
            with no_gradient(batch):
                state.begin(number)
            for move, (now, following) in enumerate(self.trajectory(state.value)):
                with no_gradient(batch):
                    state.step(move, now, following)
                yield state


@dataclass
class EvidenceGate:
    """Model selection between speech with video and without, by how well each predicted the noisy audio so far.

    Arguments
    ---------
    chain : MarkovChain
        Without video, with video; see `gate_chain`.
    evidence : tensor, shape (rows, frames)
        Of the video, in nats per bin, summed over the calls.
    responsibility : tensor, shape (rows, frames)
        Of the model with video.
    """

    chain: MarkovChain
    evidence: torch.Tensor | float = 0.0
    responsibility: torch.Tensor | float = 0.5

    def average(
        self,
        with_video: tuple[torch.Tensor, torch.Tensor],
        without: tuple[torch.Tensor, torch.Tensor],
        log_likelihood: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        context: Context,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and variance of speech under both models; each (rows, frames, bins)."""
        gained = log_likelihood(*with_video) - log_likelihood(*without)
        evidence = self.evidence + torch.where(context.valid, gained, 0.0)
        both = torch.stack([torch.zeros_like(evidence), evidence], dim=2)
        posterior = self.chain.infer(both, context.mask).states[..., 1].to(gained)
        responsibility = torch.where(context.valid, posterior, 0.0)
        self.evidence, self.responsibility = evidence, responsibility
        weight = responsibility[..., None]
        difference = with_video[0] - without[0]
        variance = without[1] + weight * (with_video[1] - without[1])
        return without[0] + weight * difference, variance + weight * (1 - weight) * difference.abs().square()


@dataclass
class _SamplingState:
    """A batch on its way through `PosteriorSampling`."""

    inference: PosteriorSampling
    batch: Batch
    scale: torch.Tensor
    context: Context
    start: torch.Tensor  # the noisy audio in the prior's domain
    draw: Draw
    noise_state: State
    fixed_noise: State = field(default_factory=dict)  # of each row, during a pass in which the noise is drawn
    gate: EvidenceGate | None = None
    value: torch.Tensor = field(default_factory=torch.Tensor)
    memory: dict[str, torch.Tensor] = field(default_factory=dict)
    trace: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, inference: PosteriorSampling, batch: Batch) -> _SamplingState:
        prior, chains = inference.prior, inference.chains
        noisy = batch.noisy.clone()  # also where the batch was made in inference mode
        scale = level_scale(noisy, batch.lengths)
        context = prior.context(batch)
        mask = context.mask
        start = prior.analyse(noisy * scale) * mask[..., None]
        spectrum = inference.speech_moments(start, torch.zeros_like(start.real))[0]
        noise_state = inference.first_noise(spectrum.abs().square(), mask, batch.scene)
        repeat = lambda tensor: tensor.repeat_interleave(chains, dim=0)
        generators = [
            clip_generators(mask, inference.seed + number, chains) for number in range(1 + inference.draws_noise)
        ]
        context, start = context.map(repeat), repeat(start)
        draw = Draw(
            noisy=repeat(spectrum),
            variance=repeat(inference.noise_model.variance(noise_state)),
            noise=lambda: torch.cat([complex_noise(start, context.mask, each) for each in generators]),
            asked=start,
            speech=start,
            speech_variance=torch.zeros_like(start.real),
        )
        gated = inference.gate != "none" and context.video is not None
        gate = EvidenceGate(gate_chain(context.mask)) if gated else None
        return cls(inference, batch, scale, context, start, draw, noise_state, gate=gate)

    def begin(self, number: int) -> None:
        """Start a pass from the noisy audio, with the noise of a state at time 1."""
        speech, *noise = self.draw.noise().split(len(self.start))
        self.value = self.inference.first_state(self.start, speech)
        if noise:
            drawn = self.inference.first_state(torch.zeros_like(self.start), noise[0])
            self.value = torch.cat([self.value, drawn])
            chains = self.inference.chains
            self.fixed_noise = {
                name: value.repeat_interleave(chains, dim=0) for name, value in self.noise_state.items()
            }
        self.memory, self.draw.pass_number = {}, number
        if self.inference.fits_start:
            self._fit_noise((self.draw.noisy - self.value).abs().square())

    def expected(self, value: torch.Tensor, now: torch.Tensor) -> torch.Tensor:
        """E[s | state], which the sampler moves towards, and below it E[n | state] where the noise is drawn.

        What is expected of speech is kept for the update of the noise.
        """
        value, *noise = value.split(len(self.start))
        now = now[: len(value)]
        if noise:
            self._expect_noise(noise[0], now)
        mean, variance = self.inference.prior.speech_given(value, now, self.context)
        if self.gate is not None:
            without = self.inference.prior.speech_given(value, now, self.context.without_video())
            mean, variance = self.gate.average((mean, variance), without, self._log_likelihood, self.context)
        self.draw.asked = value
        self.draw.speech, self.draw.speech_variance = self.inference.expect(self.draw, mean, variance)
        if not isinstance(model := self.inference.noise_model, ScoreNoiseModel) or not noise:
            return self.draw.speech
        speech = self.inference.speech_moments(self.draw.speech, torch.zeros_like(variance))[0]
        return torch.cat([self.draw.speech, model.domain_of(self.draw.noisy - speech, self.fixed_noise)])

    def _expect_noise(self, value: torch.Tensor, now: torch.Tensor) -> None:
        model, sde = self.inference.noise_model, self.inference.prior.sde
        assert isinstance(model, ScoreNoiseModel)
        noisy = value / sde.marginal(now)[0][:, None, None]
        self.draw.noise_moments = model.noise_given(noisy, sde.ratio(now), self.fixed_noise, self.context.mask)

    def _log_likelihood(self, mean: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
        """Of the noisy audio, given moments of speech, in nats per bin up to a constant; shape (rows, frames)."""
        draw = self.draw
        mean, variance = self.inference.speech_moments(mean, variance)
        residual, noise_variance = draw.residual(mean)
        variance = variance + noise_variance
        return -(residual.abs().square() / variance + variance.log()).mean(dim=2)

    def step(self, move: int, now: torch.Tensor, following: torch.Tensor) -> None:
        """One move, and the update of the noise where it is due."""
        inference, draw = self.inference, self.draw
        sampler, sde = inference.sampler, inference.prior.sde
        last = move + 1 == sampler.steps
        draw.move, draw.time, draw.following, draw.quiet = move, now, following, last and inference.leaves
        self.value = sampler.correct(self.value, now, self.expected, sde, draw.noise)
        mean, std = sampler.move(self.value, now, following, self.expected, sde, self.memory)
        self.value = inference.guide(draw, mean, std[:, None, None])
        if draw.quiet:
            draw.speech = self.value
        elif last:
            self.expected(self.value, following)
        if last if not inference.fit_every else move % inference.fit_every == 0:
            self._fit_noise(inference.noise_power(draw))
        self.trace.append(self._objective())

    def _fit_noise(self, power: torch.Tensor) -> None:
        inference, mask = self.inference, self.context.mask[:: self.inference.chains]
        power = _mean_of_chains(power, inference.chains) * mask[..., None]
        for _ in range(inference.m_steps):
            self.noise_state = inference.fit_noise(self.noise_state, power, mask)
        self.draw.variance = inference.noise_model.variance(self.noise_state).repeat_interleave(inference.chains, dim=0)

    def _objective(self) -> float:
        """Negative log-likelihood of the residual as noise, in nats per bin up to a constant."""
        draw, mask = self.draw, self.context.mask
        speech = self.inference.speech_moments(draw.speech, torch.zeros_like(draw.speech_variance))[0]
        nll = (draw.noisy - speech).abs().square() / draw.variance + draw.variance.log()
        return ((nll.mean(dim=2) * mask).sum(dim=1) / mask.sum(dim=1)).mean().item()

    def estimate(self) -> Estimate:
        """What is known so far."""
        inference, batch = self.inference, self.batch
        prior = inference.prior
        with no_gradient(batch):
            samples, noisy = batch.noisy.shape[1], batch.noisy.clone()
            spectrum, chains = self.draw.speech, inference.chains
            if inference.averages_states:
                spectrum, chains = _mean_of_chains(spectrum, chains), 1
            gain = overlap_gain(batch.lengths, prior.fft_size, prior.hop, samples).to(noisy)
            gain = gain.repeat_interleave(chains, dim=0)
            mask = self.context.mask[:: inference.chains].repeat_interleave(chains, dim=0)[..., None]
            speech = prior.synthesise(spectrum * mask, samples) * gain
            if inference.wiener:
                speech = self._filtered(speech, chains, mask) * gain
            speech = _mean_of_chains(speech, chains) / self.scale
            rows = len(self.start)
            time = self.draw.following[:rows].clamp(min=prior.sde.first_time)
            reliability = prior.reliability(self.value[:rows], time, self.context)
            if self.gate is not None:
                reliability = reliability * self.gate.responsibility
            reliability = pool_to_video_frames(
                _mean_of_chains(reliability, inference.chains), batch.valid.shape[1], SAMPLES_PER_FRAME // prior.hop
            )
            trust = self.noise_state.get("trust")
            return Estimate(
                speech, noisy - speech, reliability, batch.lengths, trace=list(self.trace), scene_trust=trust
            )

    def _filtered(self, speech: torch.Tensor, chains: int, mask: torch.Tensor) -> torch.Tensor:
        prior = self.inference.prior
        noisy = (self.batch.noisy * self.scale).repeat_interleave(chains, dim=0)
        whole, drawn = (stft(audio, prior.fft_size, prior.hop) for audio in (noisy, speech))
        power = drawn.abs().square()
        gain = power / (power + (whole - drawn).abs().square()).clamp(min=1e-20)
        return istft(gain * whole * mask, prior.fft_size, prior.hop, speech.shape[1])


def _mean_of_chains(tensor: torch.Tensor, chains: int) -> torch.Tensor:
    return tensor.unflatten(0, (-1, chains)).mean(dim=1)
