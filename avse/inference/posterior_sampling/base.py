"""What inferences with a score prior have in common: draws of the voice given the noisy sound, and the fit of noise."""

from __future__ import annotations

import contextlib
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import functional as F

from avse.contracts.inference import Inference
from avse.contracts.noise_model import NoiseModel, State
from avse.contracts.prior import Context, ScorePrior
from avse.contracts.sampler import Sampler
from avse.contracts.types import SAMPLES_PER_FRAME, Batch, Estimate
from avse.inference.em.model_selection import check_gate, gate_chain
from avse.signal.levels import floor_over_frames, level_scale
from avse.signal.markov import MarkovChain
from avse.signal.random import clip_generators, complex_noise
from avse.signal.stft import istft, length_mask, stft


@dataclass
class Draw:
    """Draws of the voice under way; one row for each chain of each clip, the chains of a clip side by side.

    Arguments
    ---------
    sound : tensor, shape (rows, frames, bins), complex
        The noisy sound, in the domain in which the inference adds speech and noise.
    variance : tensor, shape (rows, frames, bins)
        V of the noise, in that domain.
    noise : callable
        Draws white complex noise of the state's shape, each row from a generator of its own.
    speech, spread : tensor, shape (rows, frames, bins)
        Mean and variance of speech given the last state that the prior was asked about.
    count, move : int
        Number of the pass and of the move within it, from 0.
    time, following : tensor, shape (rows,)
        Before and after the move.
    """

    sound: torch.Tensor
    variance: torch.Tensor
    noise: Callable[[], torch.Tensor]
    speech: torch.Tensor
    spread: torch.Tensor
    count: int = 0
    move: int = 0
    time: torch.Tensor = field(default_factory=torch.Tensor)
    following: torch.Tensor = field(default_factory=torch.Tensor)


class PosteriorSampling(Inference):
    """Draws of the voice from p(s | x, video) under a score prior, while a noise model is fitted to the rest.

        x = s + n,   n ~ N_c(0, V),   ds = f(s, t) dt + g(t) dw

    A sampler leads from noise to speech under the prior alone; a subclass adds, move by move, what the noisy sound says
    (`expect` or `guide`), and how the noise that is left is measured (`noise_power`). The base class owns the rest:
    level, chains, passes, the updates of the noise, the estimate and its averages. Each chain is a draw of its own; the
    noise is fitted to all chains of a clip, and the voice is their mean.

    In the published methods s, x and n are *compressed* spectra, a (complex) root of the transform: the noise model is
    then fitted to powers of compressed noise, and that compressed speech and noise add up is an approximation, good
    where one of the two is much louder. A subclass with `linear` true adds them where they really do.

    An iteration is one move, so that an inference can be stopped after any; before the last move the voice is what the
    prior, and the subclass, expect of it at that time.

    Chance belongs to the clip: its draws depend on `seed` and its length alone.

    Arguments
    ---------
    prior : ScorePrior
    noise_model : NoiseModel
    sampler : Sampler
    gate : str
        `frame` or `clip`: two models of the voice, with its video and without, compete for how well they foretell the
        noisy sound, step by step or as a whole; the video counts by its share. Twice the evaluations. `none`: off.
    passes : int
        How often the sampler goes from noise to speech; the noise is kept from one pass to the next.
    chains : int
        Draws that are averaged.
    fit_every : int
        The noise is fitted after every so many moves; 0: at the end of a pass.
    m_steps : int
        Updates of the noise at a time.
    quantile : float
        The noise begins as what each bin exceeds in all but this share of the steps, in [0, 1). Noise that begins loud
        explains the voice before the prior can. 0: as the noise model begins by itself.
    wiener : bool
        Whether the voice is the noisy sound, filtered with the powers of the draw and of the rest.
    seed : int

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    accepts = (ScorePrior,)
    prior: ScorePrior
    linear: bool = False

    def __init__(
        self,
        prior: ScorePrior,
        noise_model: NoiseModel,
        sampler: Sampler,
        gate: str = "none",
        passes: int = 1,
        chains: int = 1,
        fit_every: int = 1,
        m_steps: int = 1,
        quantile: float = 0.0,
        wiener: bool = False,
        seed: int = 0,
    ) -> None:
        for name, value, least in (
            ("passes", passes, 1),
            ("chains", chains, 1),
            ("fit_every", fit_every, 0),
            ("m_steps", m_steps, 1),
        ):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}.")
        if not 0.0 <= quantile < 1.0:
            raise ValueError(f"quantile must be at least 0 and below 1, got {quantile}.")
        check_gate(gate)
        super().__init__(prior, noise_model, passes * sampler.steps)
        self.sampler, self.passes, self.chains, self.fit_every = sampler, passes, chains, fit_every
        self.m_steps, self.quantile, self.wiener, self.seed = m_steps, quantile, wiener, seed
        self.gate = gate

    @property
    def evaluations(self) -> int:
        """How often a whole run asks the network about each draw of a clip with video."""
        asked = self.prior.evaluations + (self.gate != "none")
        return (self.iterations * self.sampler.evaluations + self.passes) * asked

    def expect(self, draw: Draw, mean: torch.Tensor, variance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What is expected of speech, given the state and, in a subclass that says so, the noisy sound.

        Arguments
        ---------
        draw : Draw
        mean, variance : tensor, shape (rows, frames, bins)
            Of speech given the state, by the prior.

        Returns
        -------
        mean, variance : tensor, shape (rows, frames, bins)
            The sampler moves towards this mean.
        """
        return mean, variance

    def guide(self, draw: Draw, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
        """The next state, drawn from where the sampler sends it, and moved towards the noisy sound where needed.

        Arguments
        ---------
        draw : Draw
        mean : tensor, shape (rows, frames, bins), complex
        std : tensor, shape (rows, 1, 1)

        Returns
        -------
        tensor, shape (rows, frames, bins), complex
        """
        return mean + std * draw.noise() if self.sampler.stochastic else mean

    @abstractmethod
    def noise_power(self, draw: Draw) -> torch.Tensor:
        """E |n|^2 as it is known so far, to fit the noise to.

        Arguments
        ---------
        draw : Draw

        Returns
        -------
        tensor, shape (rows, frames, bins)
        """

    def iterate(self, batch: Batch) -> Iterator[Estimate]:
        """One `Estimate` after each move; see `Inference.iterate`."""
        for run in self._runs(batch):
            yield run.estimate()

    def forward(
        self,
        batch: Batch,
        seconds: float | None = None,
    ) -> Estimate:
        """Move to the end, or until the time is up; see `Inference.forward`."""
        begun = time.perf_counter()
        for run in self._runs(batch):
            latest = run
            if seconds is not None and time.perf_counter() - begun > seconds:
                break
        return latest.estimate()

    def _runs(self, batch: Batch) -> Iterator[_Run]:
        with _plain(batch):
            run = _Run.of(self, batch)
        for count in range(self.passes):
            with _plain(batch):
                run.begin(count)
            for move, (now, following) in enumerate(self.sampler.trajectory(self.prior.sde, run.state)):
                with _plain(batch):
                    run.step(move, now, following)
                yield run


@dataclass
class EvidenceGate:
    """Which of two models of the voice, with video or without, foretold the noisy sound better, in all moves so far.

    Arguments
    ---------
    chain : MarkovChain
        Without video, with video; see `gate_chain`.
    evidence : tensor, shape (rows, frames)
        Of the video, in nats per bin, summed over what was weighed.
    share : tensor, shape (rows, frames)
        Of the model with video.
    """

    chain: MarkovChain
    evidence: torch.Tensor | float = 0.0
    share: torch.Tensor | float = 0.5

    def weigh(
        self,
        seen: tuple[torch.Tensor, torch.Tensor],
        without: tuple[torch.Tensor, torch.Tensor],
        evidence: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        context: Context,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and variance of speech, the two models being averaged; each (rows, frames, bins)."""
        told = evidence(*seen) - evidence(*without)
        self.evidence = self.evidence + torch.where(context.valid, told, 0.0)
        both = torch.stack([torch.zeros_like(self.evidence), self.evidence], dim=2)
        found = self.chain.infer(both, context.mask).states[..., 1].to(told)
        self.share = torch.where(context.valid, found, 0.0)
        share = self.share[..., None]
        apart = seen[0] - without[0]
        variance = without[1] + share * (seen[1] - without[1]) + share * (1 - share) * apart.abs().square()
        return without[0] + share * apart, variance


@dataclass
class _Run:
    """A batch under way."""

    inference: PosteriorSampling
    batch: Batch
    scale: torch.Tensor
    context: Context
    start: torch.Tensor  # the noisy sound in the prior's domain
    draw: Draw
    noise_state: State
    gate: EvidenceGate | None = None
    state: torch.Tensor = field(default_factory=torch.Tensor)
    memory: dict[str, torch.Tensor] = field(default_factory=dict)
    trace: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, inference: PosteriorSampling, batch: Batch) -> _Run:
        prior, chains = inference.prior, inference.chains
        noisy = batch.noisy.clone()  # also where the batch was made in inference mode
        scale = level_scale(noisy, batch.lengths)
        context = prior.context(batch)
        mask = context.mask
        start = prior.analyse(noisy * scale) * mask[..., None]
        sound = prior.spectrum_of(start, torch.zeros_like(start.real))[0] if inference.linear else start
        power = sound.abs().square()
        if inference.quantile:
            power = floor_over_frames(power, mask, inference.quantile) * mask[..., None]
        noise_state = inference.noise_model.initial_state(power, mask, batch.scene)
        repeat = lambda tensor: tensor.repeat_interleave(chains, dim=0)
        generators = clip_generators(mask, inference.seed, chains)
        context, start = context.map(repeat), repeat(start)
        draw = Draw(
            sound=repeat(sound),
            variance=repeat(inference.noise_model.variance(noise_state)),
            noise=lambda: complex_noise(start, context.mask, generators),
            speech=start,
            spread=torch.zeros_like(start.real),
        )
        gated = inference.gate != "none" and context.video is not None
        gate = EvidenceGate(gate_chain(context.mask)) if gated else None
        return cls(inference, batch, scale, context, start, draw, noise_state, gate)

    def begin(self, count: int) -> None:
        """From the noisy sound, as noisy as a state at time 1 is."""
        scale, std = self.inference.prior.marginal(self.start.real.new_ones(len(self.start)))
        self.state = scale[:, None, None] * self.start + std[:, None, None] * self.draw.noise()
        self.memory, self.draw.count = {}, count

    def expected(self, state: torch.Tensor, now: torch.Tensor) -> torch.Tensor:
        """What the sampler is told; kept for the rest."""
        mean, variance = self.inference.prior.speech_given(state, now, self.context)
        if self.gate is not None:
            without = self.inference.prior.speech_given(state, now, self.context.without_video())
            mean, variance = self.gate.weigh((mean, variance), without, self._evidence, self.context)
        self.draw.speech, self.draw.spread = self.inference.expect(self.draw, mean, variance)
        return self.draw.speech

    def _evidence(self, mean: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
        """How well a model foretells the noisy sound, in nats per bin; shape (rows, frames)."""
        draw = self.draw
        if self.inference.linear:
            mean, variance = self.inference.prior.spectrum_of(mean, variance)
        variance = variance + draw.variance
        return -((draw.sound - mean).abs().square() / variance + variance.log()).mean(dim=2)

    def step(self, move: int, now: torch.Tensor, following: torch.Tensor) -> None:
        """One move, and what follows from it for the noise."""
        inference, draw = self.inference, self.draw
        sampler, sde = inference.sampler, inference.prior.sde
        draw.move, draw.time, draw.following = move, now, following
        self.state = sampler.correct(self.state, now, self.expected, sde, draw.noise)
        mean, std = sampler.move(self.state, now, following, self.expected, sde, self.memory)
        self.state = inference.guide(draw, mean, std[:, None, None])
        last = move + 1 == sampler.steps
        if last:
            self.expected(self.state, following)
        if last if not inference.fit_every else (move + 1) % inference.fit_every == 0:
            self.fit_noise()
        self.note()

    def fit_noise(self) -> None:
        inference, mask = self.inference, self.context.mask[:: self.inference.chains]
        power = _mean_of_chains(inference.noise_power(self.draw), inference.chains) * mask[..., None]
        for _ in range(inference.m_steps):
            self.noise_state = inference.noise_model.update_from_power(self.noise_state, power, mask)
        self.draw.variance = inference.noise_model.variance(self.noise_state).repeat_interleave(inference.chains, dim=0)

    def note(self) -> None:
        """The objective: how unlikely what is not the voice is as noise, in nats per bin."""
        draw, mask = self.draw, self.context.mask
        speech = self.inference.prior.spectrum_of(draw.speech, draw.spread)[0] if self.inference.linear else draw.speech
        unlikely = (draw.sound - speech).abs().square() / draw.variance + draw.variance.log()
        clips = (unlikely.mean(dim=2) * mask).sum(dim=1) / mask.sum(dim=1)
        self.trace.append(clips.mean().item())

    def estimate(self) -> Estimate:
        """What is known so far."""
        inference, batch = self.inference, self.batch
        prior = inference.prior
        with _plain(batch):
            samples, noisy = batch.noisy.shape[1], batch.noisy.clone()
            speech = prior.synthesise(self.draw.speech, samples)
            if inference.wiener:
                speech = self._filtered(speech)
            speech = _mean_of_chains(speech, inference.chains) / self.scale * length_mask(batch.lengths, samples)
            trusted = prior.reliability(self.state, self.draw.following, self.context)
            if self.gate is not None:
                trusted = trusted * self.gate.share
            trusted = _mean_of_chains(trusted, inference.chains)
            frames, ratio = batch.valid.shape[1], SAMPLES_PER_FRAME // prior.hop
            trusted = F.pad(trusted, (0, max(0, frames * ratio - trusted.shape[1])))[:, : frames * ratio]
            reliability = trusted.unflatten(1, (frames, ratio)).mean(dim=2)
            return Estimate(speech, noisy - speech, reliability, batch.lengths, trace=list(self.trace))

    def _filtered(self, speech: torch.Tensor) -> torch.Tensor:
        prior = self.inference.prior
        noisy = (self.batch.noisy * self.scale).repeat_interleave(self.inference.chains, dim=0)
        whole, voice = (stft(sound, prior.fft_size, prior.hop) for sound in (noisy, speech))
        power = voice.abs().square()
        gain = power / (power + (whole - voice).abs().square()).clamp(min=1e-20)
        return istft(gain * whole, prior.fft_size, prior.hop, speech.shape[1])


def towards(
    state: torch.Tensor,
    draw: Draw,
    prior: ScorePrior,
    weight: float,
    *,
    rest: torch.Tensor | float = 0.0,
    variance: torch.Tensor | float,
) -> torch.Tensor:
    """A state moved along the gradient of log p(x | state), as published, but never beyond the noisy sound.

        s + weight g^2 dt (1 / scale) (x - rest - s / scale) / ((std / scale)^2 + variance)

    Arguments
    ---------
    state : tensor, shape (rows, frames, bins), complex
        After the move.
    draw : Draw
    prior : ScorePrior
    weight : float
    rest : tensor, shape (rows, frames, bins), or float
        What of the sound is known to be noise.
    variance : tensor, shape (rows, frames, bins), or float
        Of the noise that is not.

    Returns
    -------
    tensor, shape (rows, frames, bins), complex
    """
    scale, std = (value[:, None, None] for value in prior.marginal(draw.following))
    diffusion = prior.sde.coefficients(draw.following)[1]
    size = (diffusion.square() * (draw.time - draw.following))[:, None, None]
    share = (weight * size / scale.square() / ((std / scale).square() + variance)).clamp(max=1.0)
    return state + share * (scale * (draw.sound - rest) - state)


def small_parts(get: Callable[[str, str], Any]) -> dict[str, Any]:
    """Arguments of a small example, of plugins that `get` (avse.plugins.get) finds."""
    prior, noise_model = get("prior", "av_diffusion").example(), get("noise_model", "nmf")(rank=2)
    return {"prior": prior, "noise_model": noise_model, "sampler": get("sampler", "predictor_corrector")(steps=2)}


def _mean_of_chains(tensor: torch.Tensor, chains: int) -> torch.Tensor:
    return tensor.unflatten(0, (-1, chains)).mean(dim=1)


@contextlib.contextmanager
def _plain(batch: Batch) -> Iterator[None]:
    """No gradient is recorded, and nothing is done in 16 bits."""
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(batch.noisy.device.type, enabled=False):
        yield
