"""The driver of EM: groups of clips, speakers, chunks of long clips, stopping, time, and the estimate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, cast

import torch
from torch import nn

from avse.contracts.enhancer import Enhancer
from avse.contracts.inference import Inference, latest_within, no_gradient
from avse.contracts.noise_model import NoiseModel
from avse.contracts.prior import LatentPrior, Prior, SwitchingPrior
from avse.contracts.types import SAMPLE_RATE, SAMPLES_PER_FRAME, Batch, Estimate
from avse.errors import AvseError
from avse.inference.em import model_selection, steps
from avse.inference.em.speakers import AnyPrior, begin_apart, places_of
from avse.inference.em.state import EmState, SpeechModel, Started, SufficientStatistics
from avse.inference.em.unrolled import START, LearnedValues, at_layer, checkpointed, fitted, learned_values
from avse.signal.levels import level_scale
from avse.signal.markov import MarkovChain
from avse.signal.random import clip_generators
from avse.signal.stft import length_mask, overlap_gain, pool_to_video_frames, stft_frames

if TYPE_CHECKING:
    from typing_extensions import Self

ENCODERS = ("amortised", "published")
_PATIENCE = 3  # iterations in a row with hardly a change, after which a clip stops
# Values of a tensor of the E-step up to which more clips at once are faster; beyond, they leave the processor's cache.
_CACHED = 2**19
_STREAMS = 7_919  # between the seeds of two speakers
# Power of the noise at first, relative to that of a mixture of speakers: noise as loud as the mixture would take speech
# for itself, and give none back.
_NOISE_SHARE = 0.01
# An enhancer is never certain: |s_0| / |x| counts as at least this, and power at the level of a prior as this.
_LEAST_MASK, _LEAST_POWER = 0.02, 1e-10


@dataclass
class Progress:
    """What is known of all clips of a batch, also of those that have stopped.

    Arguments
    ---------
    speakers : list of EmState
        Of the clips that still run, for each speaker.
    spectrum : tensor, shape (batch, frames, bins), complex
        Of the noisy audio.
    rows : tensor, shape (clips that still run,)
        Their places in the batch.
    order : tensor, shape (batch, sources), or None
        See `places_of`. None: there is one speaker and no axis `sources`.
    names : tuple of str
        Of the components of a switching prior, if all speakers share it.
    trace : list of float
        The mean objective after each iteration.
    """

    speakers: list[EmState]
    spectrum: torch.Tensor
    rows: torch.Tensor
    order: torch.Tensor | None = None
    names: tuple[str, ...] = ()
    trace: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        power, models = self.speakers[0].power, max(len(state.models) for state in self.speakers)
        count, frames, bins = power.shape
        started = self.speakers[0].started
        self.wiener = (power if started is None else started.mask).new_zeros(count, len(self.speakers), frames, bins)
        self.reliability = power.new_zeros(count, len(self.speakers), frames)
        self.audio_reliability: torch.Tensor | None = None
        self.scene_trust = self.speakers[0].noise_state.get("trust")
        self.responsibility = power.new_zeros(count, len(self.speakers), frames, models)
        self.objective = power.new_full((count,), torch.inf, dtype=torch.float64)
        self.calm = torch.zeros(count, dtype=torch.int64, device=self.rows.device)

    def note(
        self,
        statistics: Sequence[SufficientStatistics],
        objective: torch.Tensor,
        tolerance: float,
        judged: bool = False,
    ) -> None:
        """Keep what an iteration has found, and leave the clips behind whose objective hardly changes any more.

        `judged`: keep it only where the objective is lower than what was kept before.
        """
        if torch.is_grad_enabled():  # the last layer's tensors take part in its gradient
            self.objective, self.wiener = self.objective.clone(), self.wiener.clone()
        change = (objective - self.objective[self.rows]).abs()
        kept = objective < self.objective[self.rows] if judged else torch.ones_like(objective, dtype=torch.bool)
        rows = self.rows[kept]
        self.objective[rows] = objective[kept]
        for place, means in enumerate(statistics):
            self.wiener[rows, place] = means.wiener if bool(kept.all()) else means.wiener[kept]
        self.trace.append(self.objective.mean().item())
        if not tolerance:
            return
        self.calm[self.rows] = torch.where(change < tolerance, self.calm[self.rows] + 1, 0)
        going = self.calm[self.rows] < _PATIENCE
        if not bool(going.all()):
            self._note_reliability()
            places = going.nonzero()[:, 0]
            self.rows, self.speakers = self.rows[places], [state.select(places) for state in self.speakers]

    def select(self, rows: torch.Tensor) -> Progress:
        """What is known of some clips, which run no longer."""
        self._note_reliability()
        chosen = replace(self, rows=rows[:0], spectrum=self.spectrum[rows])
        for name in ("wiener", "reliability", "responsibility", "objective", "calm"):
            setattr(chosen, name, getattr(self, name)[rows])
        chosen.audio_reliability = None if self.audio_reliability is None else self.audio_reliability[rows]
        chosen.scene_trust = None if self.scene_trust is None else self.scene_trust[rows]
        return chosen

    def estimate(self, prior: Prior, batch: Batch) -> Estimate:
        """The estimate that the clips have reached."""
        self._note_reliability()
        sources, samples = len(self.speakers), batch.noisy.shape[1]
        noisy, lengths = batch.noisy[::sources].clone(), batch.lengths[::sources]
        gain = overlap_gain(lengths, prior.fft_size, prior.hop, samples).to(noisy)
        own = length_mask(stft_frames(lengths, prior.fft_size, prior.hop), self.spectrum.shape[1])
        spectrum = self.spectrum * own[..., None]
        spectra = (self.wiener[:, place] * spectrum for place in range(sources))
        speech = torch.stack([prior.synthesise(each, samples) * gain for each in spectra], dim=1)
        frames, ratio = batch.valid.shape[1], SAMPLES_PER_FRAME // prior.hop
        reliability = pool_to_video_frames(self.reliability, frames, ratio)
        of_audio = self.audio_reliability
        of_audio = None if of_audio is None else pool_to_video_frames(of_audio, frames, ratio)
        if self.order is None:
            of_audio = None if of_audio is None else of_audio[:, 0]
            estimate = Estimate(speech[:, 0], noisy - speech[:, 0], reliability[:, 0], lengths, list(self.trace))
            return replace(estimate, audio_reliability=of_audio, scene_trust=self.scene_trust)
        rows = torch.arange(len(noisy), device=noisy.device)[:, None]
        back = self.order.argsort(dim=1).to(noisy.device)
        responsibility, names = None, self.names if self.responsibility.shape[3] else ()
        if names:
            responsibility = _by_video_frame(self.responsibility, frames, ratio)[rows, back]
        speech, noise, reliability = speech[rows, back], noisy - speech.sum(dim=1), reliability[rows, back]
        of_audio = None if of_audio is None else of_audio[rows, back]
        estimate = Estimate(speech, noise, reliability, lengths, list(self.trace), audio_reliability=of_audio)
        return replace(estimate, responsibility=responsibility, states=names, scene_trust=self.scene_trust)

    def _note_reliability(self) -> None:
        if len(self.rows):
            if torch.is_grad_enabled():
                self.reliability, self.responsibility = self.reliability.clone(), self.responsibility.clone()
            for place, state in enumerate(self.speakers):
                of_video, of_audio = reliabilities(state)
                self.reliability[self.rows, place] = of_video.to(self.reliability)
                if of_audio is not None:
                    if self.audio_reliability is None:
                        self.audio_reliability = torch.zeros_like(self.reliability)
                    self.audio_reliability[self.rows, place] = of_audio.to(self.reliability)
                if state.responsibility is not None:
                    self.responsibility[self.rows, place] = state.responsibility[..., 0].mT.to(self.responsibility)


class LatentInference(Inference):
    """Expectation maximisation between the latent variables of a speech prior and a noise model.

        x = sqrt(g) s + n,   s ~ N_c(0, exp(prior.decode(z))),   n ~ N_c(0, V),   z ~ prior.prior

    A subclass says how z is found or drawn (`begin`, `e_step`). The base class owns the rest: gains g and noise V are
    updated from one gradient by rules that do not let the expected objective rise; each clip stops when its objective
    hardly changes; speech is the noisy spectrum times the expected Wiener filter. Audio is brought to the level of the
    prior before, so that the result does not depend on the clip's level.

    Random draws of a clip depend on `seed` and its length alone.

    Several models of speech may compete, frame by frame, by how well they explain the noisy audio: the components of a
    switching prior, or, where there is a `gate`, the prior with its video and without. Each has an E-step of its own;
    gains and noise belong to all. The posterior of the models with video is the reliability returned, and where no
    mouth is seen the result is bit for bit that of the audio model alone.

    The speakers of a mixture (`Batch.mixture`) are found together: each has an E-step of its own, in the noise and
    among all others with the same draws; then the noise and all gains are updated from one gradient.

    Arguments
    ---------
    prior : LatentPrior or SwitchingPrior
    noise_model : NoiseModel
    iterations : int
        At most this number.
    m_steps : int
        Updates of noise and gains in each iteration, all with the same draws of speech.
    warm_start : int
        Iterations before the first in which the encoder is the E-step.
    gain_prior : (float, float) or None
        Shape and rate of a Gamma prior of the gain of each frame: (1, 1) is published, (1, 0) is flat, and larger ones
        with shape = rate + 1 hold the gain near one. None: the gain is one, and z alone tells the level.
    tolerance : float
        A clip stops when its objective, in nats per bin, changes by less in several iterations in a row; 0: never.
    chunk_seconds : float
        Longer clips are decoded and sampled in pieces of this length, in bounded memory; the noise model sees them
        whole.
    seed : int
        Of the random draws.
    gate : str
        Whether a prior that takes video competes with itself without video: `none`, or by `frame`. A switching prior
        chooses in any case.
    temperature : float
        The evidence of a frame, in nats, is divided by this times the number of bins, as bins are far from independent.
    transition_weight : float or None
        How the choice goes on from frame to frame is learned on each clip. What was known before, of the prior or the
        gate, counts like this number of frames. None: it is not learned.
    prior_weight : float
        Weight of -log p(z | video) in what an E-step goes by; one is the posterior's. An encoder's q(z) is multiplied
        by p(z | video)^(weight - 1).
    unroll : int
        Layers: so many iterations as a network, through which gradients pass; the estimate can be taken after any of
        them. They take the place of `iterations`, and `tolerance` stops none. 0: not unrolled.
    learn : sequence of str
        What of an unrolled inference is learned: arguments of it or of the noise model that are positive numbers
        (`learnable` of both), which begin at their values; and `start`: the enhancer `start`, the noisy-speech encoder
        and the networks of the noise model. All else is fixed.
    tied : bool
        Whether all layers have the same numbers, or each its own.
    start : Enhancer or None
        A small network whose estimate is the beginning: z that of its speech, the noise model fitted to what it leaves.
        None: both begin from the noisy audio.
    start_variance : float or None
        The estimate of `start` is a second observation of speech beside the noisy audio x; the variance of its error is
        this times |x| times its absolute value. So no iteration goes far from it. None: it is the beginning alone, as
        it is for speakers of mixtures.
    refine : int
        Iterations after the layers, with the numbers of the last. What they find is kept, clip by clip, where the
        objective is lower than before.
    encoder : str
        What finds q(z), wherever an encoder is asked. `amortised`: the prior's noisy-speech encoder, which learned from
        speech in simulated noise, given the noisy audio and the noise variance; of a prior that has none, its encoder
        of clean speech, given the geometric-mean power of speech. `published`: the encoder of clean speech, given
        E |s|^2.

    Attributes
    ----------
    uses_encoder : bool
        Whether `e_step` reads the encoder's `posterior`. False saves the encoder's pass.
    chains : int
        Draws of z that an E-step leaves.
    checkpointing : bool
        Whether layers are computed again in the backward pass, to save memory.
    """

    learnable: ClassVar[tuple[str, ...]] = ("prior_weight", "temperature", "gain_prior", "start_variance")
    checkpointing: bool = False

    accepts: tuple[type, ...] = (LatentPrior, SwitchingPrior)
    prior: AnyPrior
    chains: int = 1
    uses_encoder: bool = True

    def __init__(
        self,
        prior: AnyPrior,
        noise_model: NoiseModel,
        iterations: int = 100,
        m_steps: int = 4,
        warm_start: int = 5,
        gain_prior: Sequence[float] | None = None,
        tolerance: float = 1e-5,
        chunk_seconds: float = 30.0,
        seed: int = 0,
        gate: str = "none",
        temperature: float = 1.0,
        transition_weight: float | None = 20.0,
        encoder: str = "amortised",
        prior_weight: float = 1.0,
        unroll: int = 0,
        learn: Sequence[str] = (),
        tied: bool = True,
        start: Enhancer | None = None,
        start_variance: float | None = None,
        refine: int = 0,
    ) -> None:
        super().__init__(prior, noise_model, unroll + refine if unroll else iterations)
        if encoder not in ENCODERS:
            raise ValueError(f"encoder must be one of {', '.join(ENCODERS)}, got {encoder!r}.")
        model_selection.check_gate(gate)
        if temperature <= 0 or (transition_weight is not None and transition_weight <= 0):
            raise ValueError(
                f"temperature and transition_weight must be above 0, got {temperature} and {transition_weight}."
            )
        if gain_prior is not None and not (len(gain_prior) == 2 and gain_prior[0] >= 1 and gain_prior[1] >= 0):
            raise ValueError(f"gain_prior is a shape of at least 1 and a rate of at least 0, got {gain_prior}.")
        if start_variance is not None and start_variance <= 0:
            raise ValueError(f"start_variance must be above 0, got {start_variance}.")
        if not unroll and (learn or refine):
            raise ValueError("learn and refine are of an unrolled inference: set unroll to its number of layers.")
        not_negative = {"warm_start": warm_start, "tolerance": tolerance, "prior_weight": prior_weight}
        not_negative |= {"unroll": unroll, "refine": refine}
        for name, value in not_negative.items():
            if value < 0:
                raise ValueError(f"{name} must not be negative, got {value}.")
        if m_steps < 1 or chunk_seconds <= 0:
            raise ValueError(
                f"m_steps must be at least 1 and chunk_seconds above 0, got {m_steps} and {chunk_seconds}."
            )
        self.m_steps, self.warm_start, self.gain_prior = m_steps, warm_start, gain_prior
        self.tolerance, self.seed, self.gate, self.temperature = 0.0 if unroll else tolerance, seed, gate, temperature
        self.transition_weight, self.encoder = transition_weight, encoder
        self.chunk_frames = max(1, round(chunk_seconds * SAMPLE_RATE / SAMPLES_PER_FRAME)) * (
            SAMPLES_PER_FRAME // prior.hop
        )
        self.prior_weight, self.unroll, self.refine = prior_weight, unroll, refine
        self.learn, self.tied = tuple(learn), tied
        self.start_network, self.start_variance = start, start_variance
        self.complexity = self.complexity if start is None else start.complexity
        self.learned: LearnedValues | None = None
        self.trained: list[nn.Module] = []

    def built(self) -> None:
        """Of an unrolled inference: make parameters of what is learned, and fix all others."""
        if not self.unroll:
            return
        components = self.prior.components if isinstance(self.prior, SwitchingPrior) else [self.prior]
        self.requires_grad_(False)
        if START in self.learn:
            parts = [cast(LatentPrior, prior).encoding_prior.noisy_encoder_parts() for prior in components]
            trained = [self.start_network, self.noise_model, *sum(parts, [])]
            self.trained = [part.requires_grad_() for part in trained if part is not None]
        names = [name for name in self.learn if name != START]
        self.learned = learned_values(self, self.unroll, names, self.tied)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set training mode; parts of an unrolled inference that are fixed stay in evaluation mode."""
        super().train(mode and not self.unroll)
        self.training = mode
        for part in self.trained:
            part.train(mode)
        return self

    def layer(self, number: int) -> Self:
        """The inference with the numbers of a layer, from zero; refinement goes on with those of the last."""
        return self if self.learned is None else at_layer(self, self.learned.at(min(number, self.unroll - 1)))

    @classmethod
    def example_arguments(cls) -> dict:
        from avse import plugins

        prior, noise_model = plugins.get("prior", "vae").example(), plugins.get("noise_model", "nmf")(rank=2)
        return {"prior": prior, "noise_model": noise_model, "iterations": 3}

    def forward(self, batch: Batch, seconds: float | None = None, previous: Estimate | None = None) -> Estimate:
        """Iterate to the end, or until the time is up; see `Inference.forward` and `iterate`."""
        return self._estimate(latest_within(self._groups(batch, previous), seconds), batch)

    def iterate(self, batch: Batch, previous: Estimate | None = None) -> Iterator[Estimate]:
        """One `Estimate` after each iteration, until all clips have stopped; see `Inference.iterate`.

        Arguments
        ---------
        batch : Batch
            With `mixture`, the estimate has an axis `sources`. `speakers` then names those whom a prior knows by name
            (`speaker_vae`).
        previous : Estimate, optional
            Of the same batch of single speakers, to begin z from; otherwise what `start` finds, or the noisy audio.

        Raises
        ------
        AvseError
            If the prior does not know a speaker of a mixture who is named.
        """
        for groups in self._groups(batch, previous):
            yield self._estimate(groups, batch)

    def layers(self, batch: Batch) -> Iterator[tuple[Estimate, torch.Tensor]]:
        """As `iterate`, each estimate with the objective of each clip in nats per bin, shape (clips,), for training."""
        for groups in self._groups(batch, None):
            objective = torch.cat([progress.objective for _, progress in groups])
            order = torch.tensor([row for rows, _ in groups for row in rows]).argsort()
            yield self._estimate(groups, batch), objective if batch.mixture is not None else objective[order]

    def progress(self, batch: Batch, previous: Estimate | None = None) -> Iterator[Progress]:
        """After each iteration, what is known of clips that run together; arguments as of `iterate`."""
        recorded = bool(self.unroll) and torch.is_grad_enabled()
        with no_gradient(batch, recorded):
            layer = self.layer(0)
            progress = layer.start(batch, previous)
            for _ in range(self.warm_start):
                progress.speakers, _ = layer.iteration(progress.speakers, warm=True)
            variances = [state.speech_variance for state in progress.speakers]
            speakers = steps.with_interference(progress.speakers, variances, range(len(variances)))
            progress.speakers = [layer.begin_speaker(state) for state in speakers]
        for number in range(self.iterations):
            with no_gradient(batch, recorded):
                layer = self.layer(number)
                saving = recorded and self.checkpointing
                speakers = [layer.trusting(state) for state in progress.speakers]
                progress.speakers, statistics = checkpointed(layer.iteration, speakers, saving)
                objective = steps.objective(progress.speakers, statistics, layer.gain_prior)
                progress.note(statistics, objective, self.tolerance, judged=bool(self.unroll) and number >= self.unroll)
            yield progress
            if not len(progress.rows):
                return

    def start(self, batch: Batch, previous: Estimate | None = None) -> Progress:
        """What is known before the first E-step; arguments as of `iterate`."""
        batches, priors, order = [batch], [self.prior], cast(torch.Tensor | None, None)
        if batch.mixture is not None:
            if previous is not None:
                raise AvseError("The speakers of mixtures cannot begin from a previous estimate.")
            batches, priors, order = places_of(batch, self.prior)
        noisy = batches[0].noisy.clone()  # takes part in gradients also where the batch was made in inference mode
        scale = level_scale(noisy, batches[0].lengths)
        competing = [self._models_of(prior, each) for prior, each in zip(priors, batches)]
        mask = competing[0][0][0].context.mask
        heard = self.prior.analyse(noisy * scale)
        power = heard.abs().square() * mask[..., None]
        loud = power if order is None else _NOISE_SHARE * power
        begun = [previous] if previous is not None else []
        if self.start_network is not None and not begun:
            begun = [self.start_network(each) for each in batches]
        spectra = [self.prior.analyse(each.speech.clone().to(noisy) * scale) for each in begun]
        speech_powers = [(speech.abs().square() * mask[..., None])[:, None] for speech in spectra]
        if spectra and previous is None:
            left = (heard - sum(spectra)).abs().square() * mask[..., None]
            noise_state = fitted(self.noise_model, left, mask, batches[0].scene)
        else:
            noise_state = self.noise_model.initial_state(loud, mask, batches[0].scene)
        noise_variance = self.noise_model.variance(noise_state)
        gain = torch.ones_like(power[..., :1]) * mask[..., None]

        def state_of(model: SpeechModel, place: int) -> EmState:
            generators = clip_generators(mask, self.seed + _STREAMS * place)
            earlier = speech_powers[place] if speech_powers else None
            state = EmState(model, power, mask, generators, gain, noise_state, noise_variance, earlier)
            if spectra and previous is None and order is None and self.start_variance is not None:
                ratio = spectra[0] * heard.conj() / (heard.abs().square() + _LEAST_POWER)
                scale = (spectra[0].abs() + _LEAST_MASK * heard.abs()) * heard.abs() + _LEAST_POWER
                state = replace(state, started=Started(ratio[:, None], scale[:, None], scale[:, None]))
            return self.trusting(state)

        speakers = []
        for place, (models, chain) in enumerate(competing):
            state = state_of(models[0], place)
            if chain is not None:
                state = replace(state, models=tuple(state_of(model, place) for model in models), chain=chain)
            apart = order is not None and not speech_powers
            speakers.append(steps.in_chunks(state, begin_apart, self.chunk_frames) if apart else state)
        rows = torch.arange(len(power), device=power.device)
        names: tuple[str, ...] = ()
        if isinstance(self.prior, SwitchingPrior) and all(prior is self.prior for prior in priors):
            names = tuple(getattr(self.prior, "names", None) or map(str, range(len(self.prior.components))))
        return Progress(speakers, self.prior.analyse(noisy), rows, order, names)

    def trusting(self, state: EmState) -> EmState:
        """The state in which the enhancer's estimate errs by `start_variance`."""
        if state.started is None or self.start_variance is None:
            return state
        return replace(state, started=state.started._replace(variance=self.start_variance * state.started.scale))

    def begin_speaker(self, state: EmState) -> EmState:
        """Where the E-steps of a speaker begin: `begin` of the only model, or of each of those that compete."""
        begin = partial(steps.e_step, step=self.begin, encoder=self.encoder)
        return steps.in_chunks(state, begin, self.chunk_frames)

    def iteration(
        self, speakers: Sequence[EmState], warm: bool = False
    ) -> tuple[list[EmState], list[SufficientStatistics]]:
        """One iteration of EM: an E-step of each speaker, which is the encoder if `warm`, then the M-steps.

        Returns the new states, and the statistics of each speaker before the last update of noise and gains.
        """
        speakers = list(speakers)
        for place in range(len(speakers)):
            state = speakers[place]
            if len(speakers) > 1:
                variances = [each.speech_variance if each.heard is None else each.heard for each in speakers]
                state = steps.with_interference(speakers, variances, [place])[place]
            step, encodes = self.encoder_step if warm else self.e_step, warm or self.uses_encoder
            found = self._e_step(steps.observed(state), step, encodes)
            state = replace(found, power=state.power, noise_variance=state.noise_variance, started=state.started)
            if len(speakers) > 1 and not warm:
                state = replace(state, heard=self.present_speech(state))
            speakers[place] = state
        for _ in range(self.m_steps):
            speakers, statistics = steps.m_step(speakers, self.noise_model, self.gain_prior, self.chunk_frames)
        return speakers, statistics

    def begin(self, state: EmState) -> EmState:
        """Where the E-steps of one model begin; by default at the mean of what the encoder says.

        It takes a state with `posterior`, and leaves `latent` and whatever else `e_step` needs.
        """
        assert state.posterior is not None, "the encoder has not run"
        return replace(state, latent=state.posterior.mean)

    def e_step(self, state: EmState) -> EmState:
        """Find or draw z of one model, and leave what the M-step needs; by default `encoder_step`."""
        return self.encoder_step(state)

    def encoder_step(self, state: EmState) -> EmState:
        """The encoder as the E-step; see `steps.encoder_step`."""
        return steps.encoder_step(state, self.prior_weight)

    def evidence(self, state: EmState, model: EmState) -> torch.Tensor:
        """How well one of several models explains each frame, shape (batch, frames); see `log_evidence`.

        `state` is what is known of speech so far, `model` that of the model, after its E-step.
        """
        return steps.log_evidence(model)

    def present_speech(self, state: EmState) -> torch.Tensor:
        """Variance of speech at the place of each chain after an E-step, shape (batch, chains, frames, bins)."""
        assert state.speech_variance is not None, "there was no E-step"
        return state.speech_variance[:, -self.chains :]

    def _models_of(self, prior: AnyPrior, batch: Batch) -> tuple[list[SpeechModel], MarkovChain | None]:
        """The models of speech that compete for a batch, and how they follow each other (None for a single model)."""
        if isinstance(prior, SwitchingPrior):
            fallbacks = prior.fallbacks or [None] * len(prior.components)
            parts = zip(prior.components, prior.contexts(batch), fallbacks, strict=True)
            models = [SpeechModel(cast(LatentPrior, each), context, fallback) for each, context, fallback in parts]
        else:
            context = prior.context(batch)
            models = [SpeechModel(prior, context)]
            if self.gate != "none":
                models = [SpeechModel(prior, context.without_video()), SpeechModel(prior, context, fallback=0)]
        running = models if len(models) == 1 else [model for model in models if model.runs]
        if len(running) == 1:
            return running, None
        mask = models[0].context.mask
        if not isinstance(prior, SwitchingPrior):
            return models, model_selection.gate_chain(mask)
        initial, transition = (table.to(mask.device) for table in prior.switch_of([model.context for model in models]))
        return models, MarkovChain.of(initial, transition, len(mask), prior.memory)

    def _e_step(self, state: EmState, step: Callable[[EmState], EmState], encodes: bool) -> EmState:
        """An E-step of the only model; or of all models that compete, the choice, and what they say together."""
        due = bool(state.models) and model_selection.is_due(state.rounds + 1)
        e_step = partial(steps.e_step, step=step, encoder=self.encoder if encodes else None)
        if due:
            e_step = partial(e_step, evidence=self.evidence)
        state = steps.in_chunks(state, e_step, self.chunk_frames)
        if not state.models:
            return state
        if due:
            temperature = self.temperature * self.prior.bins
            state = model_selection.select_model(state, temperature, self.transition_weight)
        state = replace(state, rounds=state.rounds + 1)
        return steps.in_chunks(state, model_selection.combine, self.chunk_frames)

    def _groups(self, batch: Batch, previous: Estimate | None) -> Iterator[list[tuple[list[int], Progress]]]:
        """After each iteration, groups of rows of the batch and the progress of each."""
        groups = [list(range(len(batch)))]
        running = [batch]
        if batch.mixture is None:
            groups = row_groups(batch, self.chains * self.prior.bins, self.prior.hop)
            running = [batch.select(rows) for rows in groups]
        earlier = [None if previous is None else previous.select(rows) for rows in groups]
        iterators = [self.progress(*each) for each in zip(running, earlier)]
        latest: list[Progress | None] = [None] * len(groups)
        while True:
            advanced = [next(iterator, None) for iterator in iterators]
            if not any(advanced):
                return
            latest = [new or old for new, old in zip(advanced, latest)]
            yield [(rows, progress) for rows, progress in zip(groups, latest) if progress is not None]

    def _estimate(self, groups: Sequence[tuple[list[int], Progress]], batch: Batch) -> Estimate:
        """The estimate of a batch whose rows run in groups."""
        with no_gradient(batch, bool(self.unroll) and torch.is_grad_enabled()):
            if batch.mixture is not None:
                return groups[0][1].estimate(self.prior, batch)
            estimates = [progress.estimate(self.prior, batch.select(rows)) for rows, progress in groups]
            if len(groups) == 1 and groups[0][0] == list(range(len(batch))):
                return estimates[0]
            noisy = batch.noisy.clone()
            speech, reliability = torch.zeros_like(noisy), noisy.new_zeros(batch.valid.shape)
            of_audio = None if estimates[0].audio_reliability is None else torch.zeros_like(reliability)
            trust = None if estimates[0].scene_trust is None else noisy.new_zeros(len(noisy))
            iterations = max(len(estimate.trace) for estimate in estimates)
            trace = [0.0] * iterations
            for (rows, _), estimate in zip(groups, estimates):
                speech[rows, : estimate.speech.shape[1]] = estimate.speech
                reliability[rows, : estimate.reliability.shape[1]] = estimate.reliability
                if of_audio is not None and estimate.audio_reliability is not None:
                    of_audio[rows, : estimate.reliability.shape[1]] = estimate.audio_reliability
                if trust is not None and estimate.scene_trust is not None:
                    trust[rows] = estimate.scene_trust
                reached = estimate.trace + estimate.trace[-1:] * (iterations - len(estimate.trace))
                trace = [total + value * len(rows) / len(batch) for total, value in zip(trace, reached)]
            estimate = Estimate(speech, noisy - speech, reliability, batch.lengths, trace=trace)
            return replace(estimate, audio_reliability=of_audio, scene_trust=trust)


def row_groups(batch: Batch, values_per_frame: int, hop: int) -> list[list[int]]:
    """Rows of a batch, clips of like length together, in groups that a processor runs fastest; one group on a GPU.

    `values_per_frame` are those of the largest tensor, for each clip.

    Example
    -------
    >>> lengths = torch.tensor([64000, 640, 64000, 640])
    >>> batch = Batch(torch.zeros(4, 64000), lengths, torch.zeros(4, 100, 88, 88), torch.zeros(4, 100))
    >>> row_groups(batch, 513, 320), row_groups(batch, 10 * 513, 320)
    ([[1, 3, 0, 2]], [[1, 3], [0], [2]])
    """
    lengths = batch.lengths.tolist()
    if batch.noisy.is_cuda:
        return [list(range(len(lengths)))]
    groups: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):  # the last of a group is its longest
        size = lengths[row] // hop * values_per_frame
        if groups and (len(groups[-1]) + 1) * size <= _CACHED:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def reliabilities(state: EmState) -> tuple[torch.Tensor, torch.Tensor | None]:
    """How far video and audio are trusted after an E-step, both (batch, frames); None: no prior tells of audio."""
    in_noise = _reliability_in_noise(state)
    of_video = in_noise[0] if in_noise is not None and not state.models else _reliability(state)
    return of_video, None if in_noise is None else in_noise[1]


def _reliability(state: EmState) -> torch.Tensor:
    """How far the video is trusted, shape (batch, frames); zero where no mouth is seen.

    Where models compete, that is the posterior of those with video; else what the prior says.
    """
    if not state.models:
        assert state.latent is not None, "there was no E-step"
        if state.model.context.video is None:
            return state.power.new_zeros(state.power.shape[:2])
        return state.model.prior.reliability(state.latent.mean(dim=1), state.model.context)
    assert state.responsibility is not None, "no model was selected"
    looking = [torch.zeros_like(state.responsibility[:, 0, :, 0])]
    for index, each in enumerate(state.models):
        if each.model.context.video is not None:
            looking.append(state.responsibility[:, index, :, 0] * each.model.context.valid)
    return torch.stack(looking).sum(dim=0).clamp(max=1.0)


def _reliability_in_noise(state: EmState) -> tuple[torch.Tensor, torch.Tensor] | None:
    """How far video and audio are trusted in the noise as it is known, both (batch, frames); None if no prior tells."""
    gain = state.gain.clamp(min=steps.LEAST_GAIN)
    noise = steps.interference_plus_noise(state)[:, 0]
    for each in reversed(state.models or (state,)):
        told = each.model.prior.reliability_in_noise(state.power / gain, noise / gain, each.model.context)
        if told is not None:
            return told[0], told[1] * state.mask
    return None


def _by_video_frame(values: torch.Tensor, video_frames: int, ratio: int) -> torch.Tensor:
    """Means over each video frame: (batch, sources, frames, any) to (batch, sources, video_frames, any)."""
    return pool_to_video_frames(values.mT, video_frames, ratio).mT
