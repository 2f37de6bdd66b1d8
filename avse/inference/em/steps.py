"""The steps of EM, each a function of a state that returns a new one; gradients pass through where they are recorded.

    x = sqrt(g) s + n,   s ~ N_c(0, exp(decode(z))),   n ~ N_c(0, V),   z ~ p(z | video)

An E-step leaves draws of the variance of speech. The M-step updates V and the gains g from means over these draws.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias, TypeVar

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from avse.contracts.noise_model import NoiseModel
from avse.contracts.prior import Context, Gaussian
from avse.inference.em.model_selection import with_evidence
from avse.inference.em.state import EmState, SufficientStatistics
from avse.signal.wiener import Mixture, gain_update, geometric_mean_power, speech_variance

LEAST_GAIN, LARGEST_GAIN = 1e-8, 1e8
_LEAST_PRECISION = 0.1  # of q(z), what a prior weight below one leaves

Result = TypeVar("Result")
Weight: TypeAlias = float | torch.Tensor  # a number, or a learned one as a tensor without axes


def decode(state: EmState, latent: torch.Tensor) -> torch.Tensor:
    """Log-variance of speech given z: (batch, chains, frames, dim) to (batch, chains, frames, bins)."""
    chains = latent.shape[1]
    return state.model.prior.decode(latent.flatten(0, 1), _folded(state, chains)).unflatten(0, (-1, chains))


def prior_of(state: EmState, latent: torch.Tensor) -> Gaussian:
    """p(z | video) that broadcasts against z of shape (batch, chains, frames, dim)."""
    model = state.model
    if model.prior.dynamical:
        chains = latent.shape[1]
        expected = model.prior.prior(latent.flatten(0, 1), _folded(state, chains))
        return Gaussian(*[part.unflatten(0, (-1, chains)) for part in (expected.mean, expected.log_variance)])
    if model.expected is not None and not torch.is_grad_enabled():
        return model.expected
    expected = model.prior.prior(latent[:, 0], model.context)
    expected = Gaussian(expected.mean[:, None], expected.log_variance[:, None])
    if not torch.is_grad_enabled():
        model.expected = expected
    return expected


def prior_cost(state: EmState, latent: torch.Tensor) -> torch.Tensor:
    """-log p(z | video), up to a constant: (batch, chains, frames, dim) to (batch, chains, frames, 1)."""
    return -prior_of(state, latent).log_prob(latent)[..., None]


def interference_plus_noise(state: EmState, draws: int = 1) -> torch.Tensor:
    """Variance of all that is not this speaker, for a number of draws: (batch, draws or 1, frames, bins).

    Draws of this speaker and of the others are taken in pairs; where their numbers do not match, others are averaged.
    """
    variance, others = state.noise_variance[:, None], state.interference
    if others is None:
        return variance
    if draws % others.shape[1]:
        return variance + others.mean(dim=1, keepdim=True)
    return variance + others.repeat(1, draws // others.shape[1], 1, 1)


def mixture(state: EmState, variance: torch.Tensor) -> Mixture:
    """Speech of a variance of shape (batch, draws, frames, bins), before the gain, in interference and noise."""
    noise = interference_plus_noise(state, variance.shape[1])
    return Mixture.of(variance, state.gain[:, None], noise, state.power[:, None])


def observed(state: EmState) -> EmState:
    """The state in which noisy audio and the enhancer's estimate, if it counts, are one observation.

    Of x = s + n, with n ~ N_c(0, V), and s_0 = s + e, with e ~ N_c(0, R), all that tells of s is

        u = (x / V + s_0 / R) / (1 / V + 1 / R) ~ N_c(0, S + V'),   1 / V' = 1 / V + 1 / R

    so that an E-step takes |u|^2 for the power and V' for the noise.
    """
    if state.started is None:
        return state
    share, combined = _both(state)
    power = combined.abs().square() * state.power[:, None]
    noise = share * state.started.variance
    return replace(state, power=power[:, 0], noise_variance=noise[:, 0], started=None)


def _both(state: EmState) -> tuple[torch.Tensor, torch.Tensor]:
    """V / (V + R), the share of the enhancer's estimate in u, and u / x; both (batch, 1, frames, bins)."""
    assert state.started is not None
    noise = state.noise_variance[:, None]
    share = noise / (noise + state.started.variance)
    return share, 1.0 + share * (state.started.mask - 1.0)


def negative_log_likelihood(state: EmState, variance: torch.Tensor) -> torch.Tensor:
    """-log p(x), or -log p(x, s_0), up to a constant, summed over bins: (batch, draws, frames)."""
    return _negative_log_likelihood(state, mixture(observed(state), variance))


def _negative_log_likelihood(state: EmState, speech: Mixture) -> torch.Tensor:
    if state.started is None:
        return speech.nll()
    apart = (1.0 - state.started.mask).abs().square() * state.power[:, None]
    together = state.noise_variance[:, None] + state.started.variance
    return speech.nll() + (apart / together + together.log()).sum(dim=-1)


def speech_power(state: EmState) -> torch.Tensor:
    """E |s|^2 without the gain, for each draw, shape (batch, draws, frames, bins); that of `previous` before any."""
    if state.speech_variance is None:
        return state.power[:, None] if state.previous is None else state.previous
    speech = mixture(state, state.speech_variance)
    noise = interference_plus_noise(state, state.speech_variance.shape[1])
    return speech.wiener * (speech.wiener * state.power[:, None] + noise) / state.gain[:, None].clamp(min=LEAST_GAIN)


def e_step(
    state: EmState,
    step: Callable[[EmState], EmState],
    encoder: str | None,
    evidence: Callable[[EmState, EmState], torch.Tensor] | None = None,
) -> EmState:
    """E-step of the only model, or of all models that compete.

    With `encoder` it runs before, as `encode` describes, for a step that reads `posterior`. With `evidence`, a function
    of the state and that of a model, the evidence of all models is left.
    """
    state = each_model(encode(state, encoder) if encoder else state, step)
    return state if evidence is None else with_evidence(state, evidence)


def each_model(state: EmState, step: Callable[[EmState], EmState]) -> EmState:
    """Take a step with the only model, or with each of the models that compete."""
    if not state.models:
        return step(state)
    models = [
        step(replace(state.of_model(each), speech_variance=state.speech_variance)) if each.model.runs else each
        for each in state.models
    ]
    return replace(state, models=tuple(models))


def encode(state: EmState, encoder: str = "amortised") -> EmState:
    """Leave `posterior` of each model: what its encoder makes of speech as it is known so far.

    `amortised`: a prior that encodes noisy speech reads the noisy audio and the noise variance. Others read the power
    of speech: that of an earlier estimate or of the noisy audio before any E-step, its geometric mean under the
    posterior of speech after one. `published`: the encoder of clean speech reads that power in each case, and after an
    E-step E |s|^2. Gains are divided out, as the encoder knows speech without them.
    """
    amortised = encoder == "amortised"
    gain = state.gain.clamp(min=LEAST_GAIN)
    power: torch.Tensor | None = None
    posteriors: dict[tuple[int, int], Gaussian] = {}

    def encoded(each: EmState) -> EmState:
        nonlocal power
        prior, context = each.model.prior, each.model.context
        shared = (id(prior.encoding_prior), id(context))
        if shared in posteriors:
            return replace(each, posterior=posteriors[shared])
        if amortised and prior.encodes_noisy and (state.speech_variance is not None or state.previous is None):
            noise = interference_plus_noise(state)[:, 0]
            posterior = prior.encode_noisy(state.power / gain, noise / gain, context)
        else:
            if power is None and amortised and state.speech_variance is not None:
                noise = interference_plus_noise(state)
                first = mixture(state, state.speech_variance[:, :1])
                power = geometric_mean_power(first, state.power[:, None], noise) / gain[:, None]
            elif power is None:
                power = speech_power(state)
            posterior = prior.encode(power[:, 0], context)
        posteriors[shared] = Gaussian(posterior.mean[:, None], posterior.log_variance[:, None])
        return replace(each, posterior=posteriors[shared])

    return each_model(state, encoded)


def encoder_step(state: EmState, prior_weight: Weight = 1.0) -> EmState:
    """E-step of one model by its encoder: z is the mean of q(z), the `posterior` times p(z | video)^(weight - 1)."""
    posterior = state.posterior
    assert posterior is not None, "the encoder has not run"
    expected = prior_of(state, posterior.mean)
    if isinstance(prior_weight, torch.Tensor) or prior_weight != 1.0:
        # A weight below one divides by a part of the prior; where q(z) is the wider, a share of its precision is kept.
        more = (prior_weight - 1.0) * (posterior.log_variance - expected.log_variance).exp()
        more = more.clamp(min=_LEAST_PRECISION - 1.0)
        mean = posterior.mean + more / (1.0 + more) * (expected.mean - posterior.mean)
        posterior = Gaussian(mean, posterior.log_variance - (1.0 + more).log())
    divergence = posterior.divergence(expected)[..., None]
    variance = speech_variance(decode(state, posterior.mean))
    return replace(state, latent=posterior.mean, speech_variance=variance, prior_cost=divergence, nll=None)


def energy(
    state: EmState, latent: torch.Tensor, smoothness: Weight = 0.0, prior_weight: Weight = 1.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The energy -log p(x, z) + total variation of z, and its gradient.

    The derivative with respect to the log-variance is written out, so that the gradient passes back through the decoder
    alone. Where gradients are recorded, they pass through this gradient too.

    Arguments
    ---------
    state : EmState
    latent : tensor, shape (batch, chains, frames, dim)
    smoothness : float, or tensor without axes
        Weight of sum_n |z_n - z_(n-1)|_1.
    prior_weight : float, or tensor without axes
        Weight of -log p(z | video).

    Returns
    -------
    variance : tensor, shape (batch, chains, frames, bins)
        Of speech given z.
    cost, nll : tensor, shape (batch, chains, frames, 1)
        The two parts of the energy at each frame: of prior and total variation, and of the data.
    gradient : tensor, shape (batch, chains, frames, dim)
        Zero beyond each clip's end.
    """
    mask, recorded, dynamical = state.mask[:, None, :, None], torch.is_grad_enabled(), state.model.prior.dynamical
    with torch.enable_grad(), _twice_differentiable(recorded):
        if not (recorded and latent.requires_grad):
            latent = latent.detach().requires_grad_()
        outputs = [decode(state, latent)]
        if dynamical:
            outputs.append(prior_cost(state, latent))
    values = outputs if recorded else [value.detach() for value in outputs]
    variance = speech_variance(values[0])
    speech = mixture(state, variance)
    weights = [speech.gradient()] + [prior_weight * mask.to(variance).expand_as(value) for value in values[1:]]
    with recurrent_backward(latent):
        [gradient] = torch.autograd.grad(outputs, latent, weights, create_graph=recorded)
    latent = latent if recorded else latent.detach()
    if dynamical:
        cost = prior_weight * values[1]
    else:
        prior = prior_of(state, latent)
        cost = prior_weight * -prior.log_prob(latent)[..., None]
        gradient = gradient + prior_weight * (latent - prior.mean) * (-prior.log_variance).exp()
    if isinstance(smoothness, torch.Tensor) or smoothness:
        jump = torch.nn.functional.pad(latent.diff(dim=2) * mask[:, :, 1:], (0, 0, 1, 1))
        cost = cost + smoothness * jump[:, :, :-1].abs().sum(dim=-1, keepdim=True)
        gradient = gradient - smoothness * jump.sign().diff(dim=2)
    return variance, cost, speech.nll()[..., None], gradient * mask


def independent_frames(state: EmState, latent: torch.Tensor) -> torch.Tensor:
    """For which clips the log-posterior of z at a frame depends on z of this frame alone; it is tried out.

    With a recurrent prior, or a fusion that compares audio and video over time, it does not, and all frames of the clip
    have to be accepted or refused together. The result, of shape (batch, 1, frames, 1), is the same at all frames of a
    clip.
    """
    independent = torch.zeros_like(state.mask)[:, None, :, None]
    if state.model.prior.dynamical:
        return independent
    odd = torch.arange(latent.shape[2], device=latent.device)[:, None] % 2
    one, two = (decode(state, latent[:, :1] + moved) for moved in (0 * odd, odd))
    change = ((one - two).abs().amax(dim=-1, keepdim=True) * (1 - odd)).amax(dim=2, keepdim=True)
    return independent | (change < 1e-4)


def log_evidence(state: EmState) -> torch.Tensor:
    """How well a model explains each frame, after its E-step, shape (batch, frames).

    It is a bound of log p(x | model), up to a constant.

    That is the likelihood of the noisy audio, averaged over the draws of the E-step, less the divergence of the
    posterior of z from its prior. The mean of the posterior is that of the draws; its variance is the encoder's.
    """
    assert state.latent is not None and state.posterior is not None and state.speech_variance is not None
    mean = state.latent.mean(dim=1, keepdim=True)
    divergence = Gaussian(mean, state.posterior.log_variance).divergence(prior_of(state, mean))[:, 0]
    nll = mixture(state, state.speech_variance).nll() if state.nll is None else state.nll[..., 0]
    return -nll.mean(dim=1) - divergence


def sufficient_statistics(state: EmState, chunk_frames: int | None = None) -> SufficientStatistics:
    """Means over the draws that an E-step has left; with `chunk_frames`, found piece by piece as in `in_chunks`."""
    if chunk_frames is not None and state.power.shape[1] > chunk_frames:
        return SufficientStatistics.joined(_pieces(state, sufficient_statistics, chunk_frames), *state.power.shape[:2])
    assert state.speech_variance is not None and state.prior_cost is not None, "there was no E-step"
    speech = mixture(observed(state), state.speech_variance)
    filtered = speech.wiener.sum(dim=-1, keepdim=True)
    over = filtered - speech.gradient().sum(dim=-1, keepdim=True)
    wiener, numerator, denominator = speech.wiener, speech.ratio * speech.precision, speech.precision
    if state.started is not None:
        (share, combined), noise = _both(state), state.noise_variance[:, None]
        wiener = speech.wiener * combined
        numerator = (1.0 - wiener).abs().square() * state.power[:, None] / noise.square()
        denominator = (1.0 - speech.wiener * share * state.started.variance / noise) / noise
    draws = [wiener, numerator, denominator, over, filtered, _negative_log_likelihood(state, speech)]
    draws.append(state.prior_cost[..., 0])
    return SufficientStatistics(*[value[:, 0] if value.shape[1] == 1 else value.mean(dim=1) for value in draws])


def with_interference(
    speakers: Sequence[EmState], variances: Sequence[torch.Tensor | None], places: Sequence[int]
) -> list[EmState]:
    """States of all speakers in which those at some places are told the variance of all others together.

    `variances`, of shape (batch, draws, frames, bins), are those of each speaker before its gain.
    """
    if len(speakers) == 1:
        return list(speakers)
    loud = [state.gain[:, None] * variance for state, variance in zip(speakers, variances) if variance is not None]
    told = list(speakers)
    for place in places:
        first, *others = loud[:place] + loud[place + 1 :]
        told[place] = replace(told[place], interference=sum(others, first))
    return told


def m_step(
    speakers: Sequence[EmState], noise_model: NoiseModel, gain_prior: Sequence[float] | None, chunk_frames: int
) -> tuple[list[EmState], list[SufficientStatistics]]:
    """One update of the noise and of the gains of all speakers from one gradient, after an E-step of each.

    Returns the new states, and the statistics of each speaker before the update.
    """
    speakers = with_interference(speakers, [state.speech_variance for state in speakers], range(len(speakers)))
    statistics = [sufficient_statistics(state, chunk_frames) for state in speakers]
    mask = speakers[0].mask[..., None]
    numerator, denominator = statistics[0].numerator * mask, statistics[0].denominator * mask
    noise_state = noise_model.update(speakers[0].noise_state, numerator, denominator)
    updated = []
    variance = noise_model.variance(noise_state)
    for state, means in zip(speakers, statistics):
        gain = state.gain
        if gain_prior is not None:
            gain = gain_update(gain, means.gain_numerator, means.gain_denominator, *gain_prior)
            gain = gain.clamp(LEAST_GAIN, LARGEST_GAIN) * mask
        updated.append(replace(state, gain=gain, noise_state=noise_state, noise_variance=variance))
    return updated, statistics


def objective(
    speakers: Sequence[EmState], statistics: Sequence[SufficientStatistics], gain_prior: Sequence[float] | None
) -> torch.Tensor:
    """What EM minimises, in nats per bin, in 64 bits; shape (batch,)."""
    by_frame = sum((means.prior_cost for means in statistics), statistics[0].nll)
    if gain_prior is not None:
        by_frame = sum((gain_cost(state.gain, *gain_prior) for state in speakers), by_frame)
    mask = speakers[0].mask
    total = torch.where(mask, by_frame, by_frame.new_zeros(())).sum(dim=1, dtype=torch.float64)
    return total / (mask.sum(dim=1) * speakers[0].power.shape[2])


def gain_cost(gain: torch.Tensor, shape: float, rate: float) -> torch.Tensor:
    """-log p(g) of a Gamma prior, up to a constant: (batch, frames, 1) to (batch, frames)."""
    return (rate * gain - (shape - 1) * gain.clamp(min=LEAST_GAIN).log())[..., 0]


def in_chunks(state: EmState, step: Callable[[EmState], EmState], chunk_frames: int) -> EmState:
    """Take an E-step on pieces of `chunk_frames` of long clips, which bounds its memory, and join the results."""
    if state.power.shape[1] <= chunk_frames:
        return step(state)
    return state.joined(_pieces(state, step, chunk_frames))


def _pieces(
    state: EmState, step: Callable[[EmState], Result], chunk_frames: int
) -> Iterator[tuple[torch.Tensor, slice, Result]]:
    """Rows, frames and result of each piece."""
    for first in range(0, state.power.shape[1], chunk_frames):
        rows = state.mask[:, first].nonzero()[:, 0]  # clips that are long enough
        last = first + chunk_frames
        yield rows, slice(first, last), step(state.between(first, last).select(rows))


def _folded(state: EmState, chains: int) -> Context:
    """The context of a number of draws of each clip, folded into the batch."""
    model = state.model
    if chains == 1:
        return model.context
    if chains not in model.folded:
        rows = torch.arange(len(state.power), device=state.power.device).repeat_interleave(chains)
        model.folded[chains] = model.context.map(lambda value: value[rows])
    return model.folded[chains]


def _twice_differentiable(recorded: bool) -> contextlib.AbstractContextManager:
    """Attention whose gradient has a gradient; that of the fast kernels has none."""
    return sdpa_kernel(SDPBackend.MATH) if recorded else contextlib.nullcontext()


def recurrent_backward(latent: torch.Tensor) -> contextlib.AbstractContextManager:
    """On a GPU, recurrent layers in evaluation mode have a gradient only without cuDNN."""
    return torch.backends.cudnn.flags(enabled=False) if latent.is_cuda else contextlib.nullcontext()
