"""Prior `speaker_vae`: speech follows the model of one of several known speakers, or a universal model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional as F

from avse.contracts.fusion import Fusion, FusionFactory
from avse.contracts.prior import Context, Gaussian, LatentPrior
from avse.contracts.types import Batch
from avse.contracts.visual_frontend import VisualFrontend, VisualFrontendFactory
from avse.plugins import register
from avse.priors.vae.base import VariationalPrior, divergence_with_free_bits, variational
from avse.priors.vae.mouth_gallery import MouthGallery
from avse.priors.vae.switching import VariationalParts
from avse.signal.markov import sticky

UNIVERSAL = "anybody"
"""Name of the state of the universal model."""
_LEAST_SHARE = 0.01  # of p(a | video) that is uniform, however certain the gallery is
_BLIND = "/audio"  # ends the name of a state without video


@register("prior", "speaker_vae")
class SpeakerVAE(VariationalParts):
    """A Markov chain over the VAEs of several speakers: each frame of speech follows that of one of them.

        a_1 uniform,   p(a_n = k | a_(n-1) = j) = tau_jk,   s_n, z_n | a_n from the VAE of speaker a_n

    The speakers have a shared backbone: encoder, visual front-end, fusion, and all of the decoder but its last layer. A
    speaker adapter holds that layer, a code added where the latent enters the decoder, and a shift of p(z | v), each as
    a difference from the universal model. The universal model, `anybody`, learns from all clips; the adapters begin at
    zero, and stay small for speakers with little training data. An inference infers the speaker of each frame (blind),
    and an unknown speaker follows the universal model. Trained on clean speech of known speakers (`Batch.speakers`);
    clips of others train the backbone alone, and in a batch without any name all adapters learn from all clips.

    With `faces` the chain uses the video, by a mouth gallery: the identity posterior p(a | video) replaces the uniform
    choice,

        a_1 ~ p(a | video),   a_n = a_(n-1) with probability `stay`, else drawn from p(a | video) again

    from the mean mouth image of each speaker and of all; see `avse.priors.vae.mouth_gallery.MouthGallery`. At least one
    per cent of it is uniform.

    `of("name")` is the prior of a known speaker (oracle); `of("anybody")` the universal model.

    Arguments
    ---------
    speakers : sequence of str
        As the manifest calls them.
    component : str
        Which variational prior the backbone is: `av_vae`, `recurrent_vae` or `transformer_vae`.
    shared : bool
        False: one whole VAE per speaker, without a shared backbone.
    universal : bool
        Whether one of the states is the universal model.
    audio_states : bool
        Whether each speaker has a second state without video, so that the choice is also right where video is bad.
    stay : float
        Probability that a frame has the same speaker as the last, and the same of audio or audio-visual.
    faces : bool
        Whether there is a mouth gallery.
    common :
        Further arguments: see `VariationalPrior`.

    Raises
    ------
    ValueError
        If there is no speaker, a name comes twice, or dimensions do not fit.

    Example
    -------
    >>> prior = SpeakerVAE(speakers=["ann", "bob"], latent_dim=4, hidden_dim=8, stay=0.9)
    >>> prior.names
    ('anybody', 'ann', 'bob')
    >>> [round(p, 2) for p in prior.switch()[1].exp()[1].tolist()]
    [0.05, 0.9, 0.05]
    """

    paper = "Nguyen, Sadeghi, Ricci and Alameda-Pineda, Deep variational generative models for separation, 2021"
    passes_to = VariationalPrior

    def __init__(
        self,
        speakers: Sequence[str],
        visual_frontend: VisualFrontend | VisualFrontendFactory | None = None,
        fusion: Fusion | FusionFactory | None = None,
        component: str = "av_vae",
        shared: bool = True,
        universal: bool = True,
        audio_states: bool = False,
        stay: float = 0.95,
        faces: bool = False,
        latent_dim: int = 32,
        **common: Any,
    ) -> None:
        known = [str(name) for name in speakers]
        if not known or len({*known, UNIVERSAL}) != len(known) + 1:
            raise ValueError(
                f"speakers needs at least one name, none twice and none {UNIVERSAL!r}, got {', '.join(known) or '[]'}."
            )
        if not 0.0 < stay < 1.0:
            raise ValueError(f"stay must be above 0 and below 1, got {stay}.")
        if faces and not (universal and shared and visual_frontend is not None):
            raise ValueError("faces needs the universal model (anybody), a visual_frontend and a shared backbone.")
        video: dict[str, Any] = {"visual_frontend": visual_frontend, "fusion": fusion}
        backbone = variational(component)(**video, latent_dim=latent_dim, **common)
        super().__init__(backbone.fft_size, backbone.hop)
        self.stay, self.shared = stay, shared
        self.speakers = ((UNIVERSAL,) if universal else ()) + tuple(known)
        self.complexity = backbone.complexity
        self.backbones = nn.ModuleList([backbone] if shared else [deepcopy(backbone) for _ in self.speakers])
        adapters = [_SpeakerAdapter(backbone.hidden_dim, latent_dim, self.bins) for _ in (known if shared else ())]
        self.adapters = nn.ModuleList(adapters)
        without = len(self.speakers) - len(adapters)
        of_speaker = self.variational_parts() * (len(self.speakers) if shared else 1)
        parts = list(zip(of_speaker, [*[None] * without, *adapters]))
        names = list(self.speakers)
        self.audio_states = audio_states and backbone.video_input.sees
        if self.audio_states:
            self.fallbacks = [None] * len(parts) + list(range(len(parts)))
            parts, names = parts * 2, [name + _BLIND for name in names] + names
        self.components, self.names = nn.ModuleList(_AdaptedPrior(*part) for part in parts), tuple(names)
        self.gallery = MouthGallery(len(known)) if faces else None
        self.kl_weight = 1.0

    @classmethod
    def example_arguments(cls) -> dict[str, Any]:
        return {"speakers": ["ann", "bob"], **VariationalPrior.example_arguments()}

    def calibrate(self, scale: float, shift: float) -> None:
        for backbone in self.variational_parts():
            backbone.calibrate(scale, shift)

    def variational_parts(self) -> list[VariationalPrior]:
        return [cast(VariationalPrior, backbone) for backbone in self.backbones]

    def of(self, name: str) -> LatentPrior:
        """The prior of one speaker, where it is known who speaks.

        Raises
        ------
        ValueError
            If there is no speaker of this name.
        """
        if name not in self.speakers:
            raise ValueError(f"{name!r} is none of the speakers {', '.join(self.speakers)}.")
        return cast(LatentPrior, self.components[self.names.index(name)])

    def speaker_of(self, state: int) -> str:
        """Whose state it is, with or without video."""
        return self.names[state].removesuffix(_BLIND)

    def switch(self) -> tuple[torch.Tensor, torch.Tensor]:
        count = len(self.speakers)
        return self._chain(torch.full((count,), 1.0 / count), sticky(count, self.stay))

    def switch_of(self, contexts: Sequence[Context]) -> tuple[torch.Tensor, torch.Tensor]:
        """See `SwitchingPrior.switch_of`."""
        if self.gallery is None:
            return self.switch()
        identity = self.identity(contexts[-1])
        count = identity.shape[1]
        same, drawn = torch.eye(count).to(identity), identity[:, None].expand(-1, count, -1)
        return self._chain(identity, self.stay * same + (1.0 - self.stay) * drawn)

    def _chain(self, initial: torch.Tensor, transition: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logarithms of a chain of speakers; whether their state has video follows a chain of its own."""
        if self.audio_states:
            initial = torch.cat([initial, initial], dim=-1) / 2
            video = sticky(2, self.stay).to(transition)
            transition = torch.einsum("ij,...kl->...ikjl", video, transition).flatten(-2).flatten(-3, -2)
        return initial.log(), transition.log()

    def identity(self, context: Context) -> torch.Tensor:
        """The identity posterior p(a | video), shape (batch, speakers); uniform where no mouth is seen."""
        count = len(self.speakers)
        uniform = context.mask.new_full((len(context.mask), count), 1.0 / count, dtype=torch.float64)
        if self.gallery is None or not isinstance(context, _ContextWithMouth):
            return uniform
        posterior = self.gallery(context.mouth).softmax(dim=1)
        valid = context.valid.any(dim=1, keepdim=True)
        return torch.where(valid, (1.0 - _LEAST_SHARE) * posterior + _LEAST_SHARE * uniform, uniform)

    def contexts(self, batch: Batch) -> list[Context]:
        contexts = [backbone.context(batch) for backbone in self.variational_parts()]
        if self.gallery is not None:
            [context] = contexts
            contexts = [_ContextWithMouth(**vars(context), mouth=MouthGallery.images(batch.mouth, batch.valid))]
        blind = [context.without_video() for context in contexts] if self.audio_states else []
        times = len(self.speakers) if self.shared else 1
        return blind * times + contexts * times

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Mean loss of the speakers of the batch, and of the universal model on all clips; see `Prior.loss`.

        Returns
        -------
        dict of str to scalar tensor
            `loss`; the terms of `VariationalPrior.loss` for the universal model (without a shared backbone: their mean
            over the speakers); with one, `nll_of_speakers` and `divergence_of_speakers`, of the adapted priors.
        """
        rows_of = self._rows_of_speakers(batch)
        if not self.shared:
            losses = [one.loss(_take(batch, rows)) for one, rows in zip(self.variational_parts(), rows_of) if rows]
            if not losses:  # no speaker is known: all that follows is zero, but has a gradient
                return {"loss": sum((p.sum() for p in self.parameters()), torch.zeros(())) * 0.0}
            return {name: torch.stack([terms[name] for terms in losses if name in terms]).mean() for name in losses[0]}
        [backbone] = self.variational_parts()
        reading = backbone.read(batch)
        terms, _ = backbone.loss_and_evidence(batch, reading)
        nlls, divergences, counts = [], [], []
        for component, rows in zip(self.components[-len(self.speakers) :], rows_of):
            prior = cast(_AdaptedPrior, component)
            if rows and prior.adapter is not None:
                part = reading.map(_rows(rows))
                mask = part.context.mask
                nlls.append(backbone.nll(part.power, prior.decode(part.latent, part.context))[mask].mean())
                from_prior = prior.prior(part.latent, part.context)
                divergences.append(divergence_with_free_bits(part.posterior, from_prior, mask, backbone.free_bits))
                counts.append(mask.sum())
        if counts:
            weights = torch.stack(counts) / torch.stack(counts).sum()
            nll, divergence = ((weights * torch.stack(values)).sum() for values in (nlls, divergences))
            terms["loss"] = (terms["loss"] + nll + self.kl_weight * divergence / self.bins) / 2
            terms |= {"nll_of_speakers": nll.detach(), "divergence_of_speakers": divergence.detach()}
        if self.gallery is not None and self.training:
            self._learn_mouths(self.gallery, batch)
        return terms

    def _learn_mouths(self, gallery: MouthGallery, batch: Batch) -> None:
        """Add the known speakers of a batch to the gallery."""
        known = self.speakers[1:]
        rows = [row for row, name in enumerate(batch.speakers) if name in known]
        if rows:
            valid = batch.valid if batch.video_is_clean is None else batch.video_is_clean
            gallery.learn(batch.mouth[rows], valid[rows], [known.index(batch.speakers[row]) for row in rows])

    def _rows_of_speakers(self, batch: Batch) -> list[list[int]]:
        """Rows of a batch that each speaker's prior learns from."""
        everything = list(range(len(batch)))
        names = batch.speakers if any(batch.speakers) else None
        return [
            [row for row in everything if names[row] == speaker] if names and speaker != UNIVERSAL else everything
            for speaker in self.speakers
        ]


@dataclass
class _ContextWithMouth(Context):
    """A context with the mean mouth image of each clip, shape (batch, features)."""

    mouth: torch.Tensor = field(kw_only=True)

    def without_video(self) -> Context:
        return Context(self.mask, self.valid).without_video()


class _SpeakerAdapter(nn.Module):
    """Differences of one speaker from the universal model, zero before training."""

    def __init__(self, hidden_dim: int, latent_dim: int, bins: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(bins, hidden_dim)), nn.Parameter(torch.zeros(bins))
        self.code, self.shift = nn.Parameter(torch.zeros(hidden_dim)), nn.Parameter(torch.zeros(2 * latent_dim))


class _AdaptedPrior(LatentPrior):
    """A backbone with the adapter of one speaker; without an adapter it is the backbone itself."""

    def __init__(self, backbone: VariationalPrior, adapter: _SpeakerAdapter | None) -> None:
        super().__init__(backbone.fft_size, backbone.hop)
        # In a tuple: its weights belong to the prior that holds both, once.
        self._parts = (backbone, adapter)
        self.latent_dim, self.dynamical = backbone.latent_dim, backbone.dynamical
        self.encodes_noisy = backbone.encodes_noisy

    @property
    def backbone(self) -> VariationalPrior:
        return self._parts[0]

    @property
    def adapter(self) -> _SpeakerAdapter | None:
        return self._parts[1]

    @property
    def encoding_prior(self) -> LatentPrior:
        return self.backbone

    def visual_features(self, batch: Batch) -> torch.Tensor | None:
        return self.backbone.visual_features(batch)

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        raise NotImplementedError("An adapted prior learns as part of its `SpeakerVAE`.")

    def encode(self, power: torch.Tensor, context: Context) -> Gaussian:
        return self.backbone.encode(power, context)

    def encode_noisy(self, power: torch.Tensor, variance: torch.Tensor, context: Context) -> Gaussian:
        return self.backbone.encode_noisy(power, variance, context)

    def decode(self, latent: torch.Tensor, context: Context) -> torch.Tensor:
        if self.adapter is None:
            return self.backbone.decode(latent, context)
        last = self.backbone.log_variance
        hidden = self.backbone.decode_hidden(latent, context, self.adapter.code)
        return F.linear(hidden, last.weight + self.adapter.weight, last.bias + self.adapter.bias)

    def prior(self, latent: torch.Tensor, context: Context) -> Gaussian:
        prior = self.backbone.prior(latent, context)
        if self.adapter is None:
            return prior
        mean, log_variance = self.adapter.shift.chunk(2)
        return Gaussian(prior.mean + mean, prior.log_variance + log_variance)

    def reliability(self, latent: torch.Tensor, context: Context) -> torch.Tensor:
        return self.backbone.reliability(latent, context)

    def reliability_in_noise(
        self, power: torch.Tensor, variance: torch.Tensor, context: Context
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        return self.backbone.reliability_in_noise(power, variance, context)


def _rows(rows: list[int]) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda value: value[rows]


def _take(batch: Batch, rows: list[int]) -> Batch:
    """Some of the clips."""
    changed: dict[str, Any] = {
        name: value[rows] if isinstance(value, torch.Tensor) else [value[row] for row in rows]
        for name, value in vars(batch).items()
        if isinstance(value, torch.Tensor) or (isinstance(value, list) and value)
    }
    return replace(batch, **changed)
