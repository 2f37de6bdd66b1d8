"""Several speakers of one mixture: in which order they are taken, whose prior each has, and where each begins.

An inference takes one speaker after the other, and all others, as they are known at this moment, for a part of the
noise. These steps together draw from the posterior of all latent variables (block Gibbs):

    x = sum_j sqrt(g_j) s_j + n,   s_j ~ N_c(0, exp(decode_j(z_j))),   n ~ N_c(0, V)

The videos tell who is who. The noise is the mixture less all speech, so that they add up. Random numbers belong to the
speaker, and an order follows from the mouths: another order of the videos gives the same speech in that order, bit for
bit.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias, cast

import torch

from avse.contracts.prior import LatentPrior, SwitchingPrior
from avse.contracts.types import Batch
from avse.errors import AvseError
from avse.inference.em.state import EmState
from avse.inference.em.steps import decode, prior_of
from avse.signal.random import clip_draws
from avse.signal.wiener import speech_variance

AnyPrior: TypeAlias = LatentPrior | SwitchingPrior


def places_of(batch: Batch, prior: AnyPrior) -> tuple[list[Batch], list[AnyPrior], torch.Tensor]:
    """A batch for each place among the speakers of its mixtures, and the prior of each place.

    Returns the batches, the priors, and the order, shape (mixtures, sources): which speaker of each mixture has each
    place. Named speakers, the same in all mixtures, have priors of their own and keep their place.

    Raises
    ------
    AvseError
        If the prior does not know a speaker who is named.
    """
    count = batch.sources
    names = batch.speakers[:count]
    if batch.speakers != names * (len(batch) // count):
        raise AvseError("The speakers named must be the same in all mixtures of a batch.")
    batches = [batch.select(range(place, len(batch), count)) for place in range(count)]
    if any(names):
        order = torch.arange(count).expand(len(batches[0]), -1)
        return batches, [_prior_of_speaker(prior, name) for name in names], order
    order = _order(batches)
    return _sorted(batches, order), [prior] * count, order


def begin_apart(state: EmState) -> EmState:
    """Speech before the audio is known: that of the mean of p(z | video), or of a draw from p(z) without video.

    Speakers would begin alike otherwise, and nothing would ever tell them apart.
    """
    models = [each for each in state.models if each.model.runs] or [state]
    unseen = ~torch.stack([each.model.context.valid for each in models]).any(dim=0)[:, None, :, None]
    shape = (1, 1, models[0].model.prior.latent_dim)
    drawn = clip_draws(state.power, state.mask, state.generators, shape)[0] * unseen
    variances = []
    for each in models:
        prior = prior_of(each, torch.zeros_like(drawn))
        latent = prior.mean + (0.5 * prior.log_variance).exp() * drawn
        variances.append(speech_variance(decode(each, latent)))
    cost = torch.zeros_like(variances[0][..., :1])
    return replace(state, speech_variance=torch.stack(variances).mean(dim=0), prior_cost=cost)


def _prior_of_speaker(prior: AnyPrior, name: str) -> AnyPrior:
    if not name:
        return prior
    of_speaker = cast(Callable[[str], AnyPrior] | None, getattr(prior, "of", None))
    if of_speaker is None:
        raise AvseError(
            f"{type(prior).__name__} knows no speakers by name, so {name!r} cannot be asked for; that takes a model "
            "with the prior speaker_vae."
        )
    try:
        return of_speaker(name)
    except ValueError as error:
        raise AvseError(str(error)) from error


def _order(batches: Sequence[Batch]) -> torch.Tensor:
    """In which order to take the speakers of each mixture, shape (mixtures, sources), as their mouths decide."""
    orders = []
    for row in range(len(batches[0])):
        keys = []
        for batch in batches:
            valid = batch.valid[row].cpu()
            mouth = batch.mouth[row].cpu()[valid].contiguous().numpy()
            # Speakers without video come last.
            keys.append((not bool(valid.any()), zlib.crc32(mouth.tobytes()), zlib.crc32(valid.numpy().tobytes())))
        orders.append(sorted(range(len(batches)), key=keys.__getitem__))
    return torch.tensor(orders)


def _sorted(batches: Sequence[Batch], order: torch.Tensor) -> list[Batch]:
    """The speakers of each mixture in its order."""
    if bool((order == torch.arange(len(batches))).all()):
        return list(batches)

    def taken(name: str, place: int) -> torch.Tensor:
        return torch.stack([getattr(batches[int(row[place])], name)[number] for number, row in enumerate(order)])

    places = range(len(batches))
    return [replace(batches[0], mouth=taken("mouth", place), valid=taken("valid", place)) for place in places]
