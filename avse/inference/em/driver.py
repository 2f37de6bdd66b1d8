"""What inferences with a latent prior have in common: the E/M loop, gains, stopping, warm start, and the estimate."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch

from avse.contracts.inference import Inference
from avse.contracts.noise_model import NoiseModel
from avse.contracts.prior import Gaussian, LatentPrior, SwitchingPrior
from avse.contracts.types import SAMPLE_RATE, SAMPLES_PER_FRAME, Batch, Estimate
from avse.inference.em import model_selection
from avse.inference.em.run import Run, no_gradient, row_groups, together
from avse.inference.em.state import LARGEST_GAIN, LEAST_GAIN, Fit, SufficientStatistics
from avse.signal.levels import level_scale
from avse.signal.random import clip_generators
from avse.signal.wiener import gain_update, geometric_mean_power, speech_variance


class LatentInference(Inference):
    """Expectation maximisation between the latent variables of a speech prior and a noise model.

        x = sqrt(g) s + n,   s ~ N_c(0, exp(prior.decode(z))),   n ~ N_c(0, V),   z ~ prior.prior

    A subclass may say how z is found or drawn (`e_step`). The base class owns the rest: gains g and noise V are updated
    from one gradient by rules that do not let the expected objective rise; each clip stops when its objective hardly
    changes (and its row leaves the batch); the voice is the noisy spectrum times the expected Wiener filter. Sound is
    brought to the level of the prior before, so that the result does not depend on the clip's level.

    Chance belongs to the clip: its draws depend on `seed` and its length alone.

    Several models of the voice may compete, step by step, by how well they explain the noisy sound: the components of a
    switching prior, or, where there is a `gate`, the prior with its video and without. Each has an E-step of its own;
    gains and noise belong to all. The posterior of the models that look at the video is the reliability returned, and
    where no mouth is seen the result is bit for bit that of the audio model alone.

    Arguments
    ---------
    prior : LatentPrior or SwitchingPrior
    noise_model : NoiseModel
    iterations : int
        At most so many.
    m_steps : int
        Updates of noise and gains in each iteration, all with the same draws of speech.
    warm_start : int
        Iterations before the first in which the encoder is the E-step.
    gain_prior : (float, float) or None
        Shape and rate of a Gamma prior of the gain of each step: (1, 1) is published, (1, 0) is flat, and larger ones
        with shape = rate + 1 hold the gain near one. None: the gain is one, and z alone tells the level.
    tolerance : float
        A clip stops when its objective, in nats per bin, changes by less in several iterations in a row; 0: never.
    chunk_seconds : float
        Longer clips are decoded and sampled in pieces of this length, in bounded memory; the noise model sees them
        whole.
    seed : int
    gate : str
        Whether a prior that looks at the video competes with itself without video: `none`, by `frame`, or by `clip`. A
        switching prior chooses in any case; `clip` then lets it choose once.
    temperature : float
        The evidence of a step, in nats, is divided by this times the number of bins, as bins are far from independent.
    transition_weight : float or None
        How the choice goes on from step to step is learned on each clip. What was known before, of the prior or the
        gate, counts like so many steps. None: it is not learned.
    """

    accepts = (LatentPrior, SwitchingPrior)
    prior: LatentPrior | SwitchingPrior
    chains: int = 1

    def __init__(
        self,
        prior: LatentPrior,
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
    ) -> None:
        super().__init__(prior, noise_model, iterations)
        model_selection.check_gate(gate)
        if temperature <= 0 or (transition_weight is not None and transition_weight <= 0):
            raise ValueError(
                f"temperature and transition_weight must be above 0, got {temperature} and {transition_weight}."
            )
        if gain_prior is not None and not (len(gain_prior) == 2 and gain_prior[0] >= 1 and gain_prior[1] >= 0):
            raise ValueError(f"gain_prior is a shape of at least 1 and a rate of at least 0, got {gain_prior}.")
        for name, value in (("warm_start", warm_start), ("tolerance", tolerance)):
            if value < 0:
                raise ValueError(f"{name} must not be negative, got {value}.")
        if m_steps < 1 or chunk_seconds <= 0:
            raise ValueError(
                f"m_steps must be at least 1 and chunk_seconds above 0, got {m_steps} and {chunk_seconds}."
            )
        self.m_steps, self.warm_start, self.gain_prior = m_steps, warm_start, gain_prior
        self.tolerance, self.seed, self.gate, self.temperature = tolerance, seed, gate, temperature
        self.transition_weight = transition_weight if gate != "clip" else None
        self.chunk_steps = max(1, round(chunk_seconds * SAMPLE_RATE / SAMPLES_PER_FRAME)) * (
            SAMPLES_PER_FRAME // prior.hop
        )

    def begin(self, posterior: Gaussian, fit: Fit) -> dict[str, torch.Tensor]:
        """Where the E-step begins; by default at what the encoder says.

        Arguments
        ---------
        posterior : Gaussian, shape (batch, frames, dim)
            What the encoder makes of the voice as it is known so far.
        fit : Fit

        Returns
        -------
        dict of str to tensor
            The new `fit.latent`, with `z`.
        """
        return fit.latent | {"z": posterior.mean[:, None]}

    def e_step(self, fit: Fit) -> None:
        """Find or draw z, and leave in `fit.latent` what the M-step needs; by default `encode_step`."""
        self.encode_step(fit)

    def iterate(
        self,
        batch: Batch,
        previous: Estimate | None = None,
    ) -> Iterator[Estimate]:
        """One `Estimate` after each iteration, until all clips have stopped; see `Inference.iterate`.

        Arguments
        ---------
        batch : Batch
        previous : Estimate, optional
            Of the same batch, to begin from; otherwise the noisy sound.
        """
        for groups in self._runs(batch, previous):
            yield together(groups, self.prior, batch)

    def forward(
        self,
        batch: Batch,
        seconds: float | None = None,
        previous: Estimate | None = None,
    ) -> Estimate:
        """Iterate to the end, or until the time is up; see `Inference.forward` and `iterate`."""
        begun = time.perf_counter()
        for groups in self._runs(batch, previous):
            latest = groups
            if seconds is not None and time.perf_counter() - begun > seconds:
                break
        return together(latest, self.prior, batch)

    def decode(self, fit: Fit, latent: torch.Tensor) -> torch.Tensor:
        """Log-variance of speech given z: (batch, chains, frames, dim) to (batch, chains, frames, bins)."""
        chains = latent.shape[1]
        return fit.prior.decode(latent.flatten(0, 1), fit.folded(chains)).unflatten(0, (-1, chains))

    def prior_of(self, fit: Fit, latent: torch.Tensor) -> Gaussian:
        """p(z | v) that broadcasts against latents of shape (batch, chains, frames, dim)."""
        if fit.prior.dynamical:
            chains = latent.shape[1]
            found = fit.prior.prior(latent.flatten(0, 1), fit.folded(chains))
            return Gaussian(*[part.unflatten(0, (-1, chains)) for part in (found.mean, found.log_variance)])
        if fit._prior is None:
            found = fit.prior.prior(latent[:, 0], fit.context)
            fit._prior = Gaussian(found.mean[:, None], found.log_variance[:, None])
        return fit._prior

    def cost_of(self, fit: Fit, latent: torch.Tensor) -> torch.Tensor:
        """-log p(z | v) by step, up to a constant: (batch, chains, frames, dim) to (batch, chains, frames, 1)."""
        return -self.prior_of(fit, latent).log_prob(latent)[..., None]

    def voice_posterior(self, fit: Fit) -> Gaussian:
        """What an encoder makes of the voice as it is known so far, shape (batch, frames, dim).

        A prior that recognises z in noise looks at the noisy sound and the noise as it is known so far. Others look at
        the voice: `latent["voice"]`, shape (batch, 1, frames, bins), before any E-step, and the typical power of the
        posterior of speech after one. Without the gain, as the encoder knows speech.
        """
        shared = (id(fit.prior.encoding_prior), id(fit.context))
        if fit.encoded is not None and shared in fit.encoded:
            return fit.encoded[shared]
        found = self._encoded(fit)
        if fit.encoded is not None:
            fit.encoded[shared] = found
        return found

    def _encoded(self, fit: Fit) -> Gaussian:
        gain = fit.gain.clamp(min=LEAST_GAIN)
        if fit.prior.encodes_noisy and ("speech" in fit.latent or "voice" not in fit.latent):
            return fit.prior.encode_noisy(fit.power / gain, fit.interference_plus_noise()[:, 0] / gain, fit.context)
        if "speech" in fit.latent:
            mixture = fit.mixture(fit.latent["speech"][:, :1])
            fit.latent["voice"] = (
                geometric_mean_power(mixture, fit.power[:, None], fit.interference_plus_noise()) / gain[:, None]
            )
        return fit.prior.encode(fit.latent["voice"][:, 0], fit.context)

    def encode_step(self, fit: Fit) -> None:
        """E-step by the encoder: z is the mean of `voice_posterior`; shapes in `Fit`."""
        posterior = self.voice_posterior(fit)
        latent = posterior.mean[:, None]
        divergence = Gaussian(latent, posterior.log_variance[:, None]).divergence(self.prior_of(fit, latent))
        fit.latent |= {"z": latent, "speech": speech_variance(self.decode(fit, latent)), "cost": divergence[..., None]}
        fit.latent["uncertainty"] = posterior.log_variance[:, None]

    def evidence(self, fit: Fit, state: Fit) -> torch.Tensor:
        """How well one of several models explains each step: a bound of log p(x | model), up to a constant.

        That is the likelihood of the noisy sound, averaged over the draws of an E-step, less the divergence of the
        posterior of z from its prior. Chains and point estimates know the posterior's mean; its variance is taken from
        the encoder.

        Arguments
        ---------
        fit : Fit
            What is known of the voice so far.
        state : Fit
            That of the model, after its E-step.

        Returns
        -------
        tensor, shape (batch, frames)
        """
        mean = state.latent["z"].mean(dim=1, keepdim=True)
        divergence = Gaussian(mean, state.latent["uncertainty"]).divergence(self.prior_of(state, mean))[:, 0]
        nll = state.latent.get("nll")
        if nll is None:
            nll = state.mixture(state.latent["speech"]).nll()[..., None]
        return -nll[..., 0].mean(dim=1) - divergence

    def energy(
        self, fit: Fit, latent: torch.Tensor, smoothness: float = 0.0
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """The energy -log p(x, z) + total variation of z, and its gradient.

        The derivative with respect to the log-variance is written out, so that gradients pass back through the decoder
        alone.

        Arguments
        ---------
        fit : Fit
        latent : tensor, shape (batch, chains, frames, dim)
        smoothness : float
            Weight of sum_n |z_n - z_(n-1)|_1.

        Returns
        -------
        speech : tensor, shape (batch, chains, frames, bins)
            Variance of speech given z.
        cost, nll : tensor, shape (batch, chains, frames, 1)
            The two parts of the energy by step: of prior and total variation, and of the data.
        gradient : tensor, shape (batch, chains, frames, dim)
            Zero beyond each clip's end.
        """
        mask = fit.context.mask[:, None, :, None]
        with torch.enable_grad():
            latent = latent.detach().requires_grad_()
            outputs = [self.decode(fit, latent)]
            if fit.prior.dynamical:
                outputs.append(self.cost_of(fit, latent))
        speech = speech_variance(outputs[0].detach())
        mixture = fit.mixture(speech)
        weights = [mixture.gradient()] + [mask.to(speech).expand_as(one) for one in outputs[1:]]
        with _recurrent_backward(latent):
            [gradient] = torch.autograd.grad(outputs, latent, weights)
        latent = latent.detach()
        if fit.prior.dynamical:
            cost = outputs[1].detach()
        else:
            prior = self.prior_of(fit, latent)
            cost = -prior.log_prob(latent)[..., None]
            gradient = gradient + (latent - prior.mean) * (-prior.log_variance).exp()
        if smoothness:
            jump = latent.diff(dim=2) * mask[:, :, 1:]
            cost[:, :, 1:] += smoothness * jump.abs().sum(dim=-1, keepdim=True)
            turn = smoothness * jump.sign()
            gradient[:, :, 1:] += turn
            gradient[:, :, :-1] -= turn
        return speech, cost, mixture.nll()[..., None], gradient * mask

    def alone(self, fit: Fit, latent: torch.Tensor) -> torch.Tensor:
        """For which clips each step of the log-posterior of z depends on z of this step alone; it is tried out.

        With a recurrent prior, or a fusion that compares sound and video over time, it does not, and all steps of the
        clip have to be accepted or refused together.

        Arguments
        ---------
        fit : Fit
        latent : tensor, shape (batch, chains, frames, dim)

        Returns
        -------
        tensor, shape (batch, 1, frames, 1), bool
            The same at all steps of a clip.
        """
        alone = torch.zeros_like(fit.context.mask)[:, None, :, None]
        if fit.prior.dynamical:
            return alone
        odd = torch.arange(latent.shape[2], device=latent.device)[:, None] % 2
        one, two = (self.decode(fit, latent[:, :1] + moved) for moved in (0 * odd, odd))
        change = ((one - two).abs().amax(dim=-1, keepdim=True) * (1 - odd)).amax(dim=2, keepdim=True)
        return alone | (change < 1e-4)

    def _runs(self, batch: Batch, previous: Estimate | None) -> Iterator[list[tuple[list[int], Run]]]:
        """After each iteration, rows of the batch and the run they are in."""
        groups = row_groups(batch, self.chains * self.prior.bins, self.prior.hop)
        runs = [self._run(batch.select(rows), None if previous is None else previous.select(rows)) for rows in groups]
        latest: list[Run | None] = [None] * len(runs)
        while True:
            advanced = [next(run, None) for run in runs]
            if not any(advanced):
                return
            latest = [new or old for new, old in zip(advanced, latest)]
            yield list(zip(groups, latest))

    def _run(self, batch: Batch, previous: Estimate | None) -> Iterator[Run]:
        device = batch.noisy.device.type
        with no_gradient(device):
            run = self.start(batch, previous)
            for _ in range(self.warm_start):
                self.expect(run.fit, self.encode_step)
                self._m_steps(run)
            self.begin_all(run.fit)
        for _ in range(self.iterations):
            with no_gradient(device):
                self.expect(run.fit, self.e_step)
                run.note(self._m_steps(run), self.gain_prior)
                run.drop_stopped(self.tolerance)
            yield run
            if not len(run.rows):
                return

    def start(
        self,
        batch: Batch,
        previous: Estimate | None = None,
    ) -> Run:
        """A run before its first E-step; arguments as of `iterate`."""
        noisy = batch.noisy.clone()  # takes part in gradients also where the batch was made in inference mode
        scale = level_scale(noisy, batch.lengths)
        models = model_selection.models_of(self.prior, batch, self.gate)
        context = models[0].context
        mask = context.mask[..., None]
        power = self.prior.analyse(noisy * scale).abs().square() * mask
        voice = {"voice": power[:, None]}
        latents: list[dict[str, torch.Tensor]] = [{} if one.prior.encodes_noisy else voice for one in models]
        if previous is not None:
            speech = self.prior.analyse(previous.speech.clone().to(noisy) * scale)
            latents = [{"voice": (speech.abs().square() * mask)[:, None]}] * len(models)
        state = self.noise_model.initial_state(power, context.mask, batch.scene)
        fit = Fit(
            prior=models[0].prior,
            power=power,
            context=context,
            gain=torch.ones_like(power[..., :1]) * mask,
            variance=self.noise_model.variance(state),
            latent=dict(latents[0]),
            generators=clip_generators(context.mask, self.seed),
        )
        if len(models) > 1:
            fit.chain = model_selection.chain_of(self.prior, models, self.gate)
            for one, latent in zip(models, latents):
                generators = clip_generators(context.mask, self.seed)
                fit.states.append(fit.state(one.prior, one.context, dict(latent), generators, one.fallback))
        return Run(fit, state, self.prior.analyse(noisy), torch.arange(len(power), device=power.device))

    def begin_all(self, fit: Fit) -> None:
        """Let each model of the voice begin where the encoder finds it."""

        def begin(one: Fit) -> None:
            posterior = self.voice_posterior(one)
            one.latent = self.begin(posterior, one) | {"uncertainty": posterior.log_variance[:, None]}

        self.in_chunks(fit, partial(model_selection.for_each, step=begin) if fit.states else begin)

    def expect(self, fit: Fit, step: Callable[[Fit], None]) -> None:
        """An E-step of the only model; or of all models that compete, the choice, and what they say together."""
        if not fit.states:
            self.in_chunks(fit, step)
            return
        self.in_chunks(fit, partial(model_selection.for_each, step=step))
        if model_selection.due(fit):
            self.in_chunks(fit, partial(model_selection.note_evidence, evidence=self.evidence))
            memory = not isinstance(self.prior, SwitchingPrior) or self.prior.memory
            temperature = self.temperature * self.prior.bins
            model_selection.choose(fit, temperature, self.transition_weight, memory, once=self.gate == "clip")
        self.in_chunks(fit, model_selection.combine)

    def _m_steps(self, run: Run) -> SufficientStatistics:
        """Update noise and gains a few times; gives the expectation before the last update."""
        for _ in range(self.m_steps):
            found = self.in_chunks(run.fit, SufficientStatistics.of)
            self._m_step(run, found)
        return found

    def _m_step(self, run: Run, found: SufficientStatistics) -> None:
        mask = run.fit.context.mask[..., None]
        run.state = self.noise_model.update(run.state, found.numerator * mask, found.denominator * mask)
        run.fit.variance = self.noise_model.variance(run.state)
        self.update_gain(run.fit, found)

    def update_gain(self, fit: Fit, found: SufficientStatistics) -> None:
        """One update of the gains, where they have a prior."""
        if self.gain_prior is not None:
            gain = gain_update(fit.gain, found.gain_numerator, found.gain_denominator, *self.gain_prior)
            fit.gain = gain.clamp_(LEAST_GAIN, LARGEST_GAIN) * fit.context.mask[..., None]

    def in_chunks(self, fit: Fit, step: Callable[[Fit], SufficientStatistics | None]) -> SufficientStatistics | None:
        """Run a step on pieces of long clips that bound its memory, and put together what it gives."""
        steps = fit.power.shape[1]
        if steps <= self.chunk_steps:
            return step(fit)
        fits = [fit, *fit.states]
        latents: list[dict[str, torch.Tensor]] = [{} for _ in fits]
        whole: dict[str, torch.Tensor] = {}
        for first in range(0, steps, self.chunk_steps):
            piece = slice(first, first + self.chunk_steps)
            rows = fit.context.mask[:, first].nonzero()[:, 0]  # clips that reach so far
            part = fit.between(first, first + self.chunk_steps).select(rows)
            found = step(part)
            for latent, one in zip(latents, [part, *part.states]):
                for name, value in one.latent.items():
                    if name not in latent:
                        latent[name] = value.new_zeros(len(fit.power), value.shape[1], steps, *value.shape[3:])
                    latent[name][rows, :, piece] = value
            for name, value in vars(found).items() if found is not None else ():
                if name not in whole:
                    whole[name] = value.new_zeros(len(fit.power), steps, *value.shape[2:])
                whole[name][rows, piece] = value
        for one, latent in zip(fits, latents):
            one.latent = latent
        return SufficientStatistics(**whole) if whole else None


def _recurrent_backward(latent: torch.Tensor) -> contextlib.AbstractContextManager:
    """On a GPU, recurrent layers in evaluation mode have a gradient only without cuDNN."""
    return torch.backends.cudnn.flags(enabled=False) if latent.is_cuda else contextlib.nullcontext()
