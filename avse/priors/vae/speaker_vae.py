"""Prior `speaker_vae`: speech follows the model of one of several known speakers, or that of anybody."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace

import torch
from torch import nn
from torch.nn import functional as F

from avse.contracts.fusion import Fusion
from avse.contracts.prior import Context, Gaussian, LatentPrior, SwitchingPrior
from avse.contracts.types import Batch
from avse.contracts.visual_frontend import VisualFrontend
from avse.plugins import register
from avse.priors.vae.base import VariationalPrior, divergence_with_free_bits
from avse.priors.vae.mouth_gallery import MouthGallery
from avse.signal.markov import sticky

ANYBODY = "anybody"
_DOUBT = 0.01  # share of all voices in p(a | video), however sure the eye is
_BLIND = "/audio"  # ends the name of a state without video


@register("prior", "speaker_vae")
class SpeakerVAE(SwitchingPrior):
    """Speech whose steps follow the VAE of one of several speakers, as a Markov chain says that likes to stay.

        a_1 uniform,   p(a_n = k | a_(n-1) = j) = tau_jk,   s_n, z_n | a_n from the VAE of speaker a_n

    The speakers share a trunk: encoder, visual front-end, fusion, and all of the decoder but its last layer. Of their
    own they have that layer, a code added where the latent enters the decoder, and a shift of p(z | v); all of it a
    difference from the model of `anybody`, which learns from all clips, begins at zero, and so stays small for those
    of whom little was heard. Nobody has to tell who speaks: an inference chooses step by step, and somebody unknown is
    anybody. Trained on clean speech of known speakers (`Batch.speakers`); clips of others teach the trunk alone, and
    where a batch names nobody at all, all voices learn from all of it.

    Known speakers can also be known by sight: with `faces`, p(a | video) takes the place of the uniform choice,

        a_1 ~ p(a | video),   a_n = a_(n-1) with probability `stay`, else drawn from p(a | video) again

    by how their mouths look on average, and how those of all people do, which is what anybody looks like: see
    `avse.priors.vae.mouth_gallery.MouthGallery`. The video never has more than 99 % of the say.

    `of("name")` is the prior of a speaker that one knows; `of("anybody")` the universal one.

    Arguments
    ---------
    speakers : sequence of str
        As the manifest calls them.
    visual_frontend : VisualFrontend or None
        Mouth crops to features. None: audio only.
    fusion : Fusion or None
        How video enters encoder and decoder (one copy each). Its `audio_dim` must be `hidden_dim`, its `video_dim` the
        front-end's `output_dim`.
    component : str
        Which variational prior the trunk is: `av_vae`, `recurrent_vae` or `transformer_vae`.
    shared : bool
        False: one whole VAE per speaker, without a trunk.
    anybody : bool
        Whether one of the states is the universal model.
    audio_states : bool
        Whether each voice has a second state without video, so that the choice also survives bad video.
    stay : float
        Probability that a step follows the same speaker as the last, and the same of sound or video.
    faces : bool
        Whether what is seen of a talker makes speakers likelier, before anything is heard.
    latent_dim : int
        Features of z per step.
    hidden_dim : int
        Width of the hidden layers.
    prior_weight : float
        Weight of the reconstruction from p(z | v) beside the evidence bound, where there is video.
    free_bits : float
        Divergence in nats up to which a latent unit is not pressed towards the prior.
    fft_size, hop : int
        Of the transform, in samples. `hop` divides a video frame (640 samples).
    floor_db : float
        Level of the noise floor below which speech is not modelled, relative to full scale.
    noisy_encoder_layers : int
        Blocks of a second encoder that knows z of speech in noise; see `VariationalPrior`. 0: none.

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

    def __init__(
        self,
        speakers: Sequence[str],
        visual_frontend: VisualFrontend | None = None,
        fusion: Fusion | None = None,
        component: str = "av_vae",
        shared: bool = True,
        anybody: bool = True,
        audio_states: bool = False,
        stay: float = 0.95,
        faces: bool = False,
        latent_dim: int = 32,
        hidden_dim: int = 128,
        prior_weight: float = 0.01,
        free_bits: float = 0.1,
        fft_size: int = 1024,
        hop: int = 320,
        floor_db: float = -70.0,
        noisy_encoder_layers: int = 0,
    ) -> None:
        super().__init__(fft_size, hop)
        speakers = [str(name) for name in speakers]
        if not speakers or len({*speakers, ANYBODY}) != len(speakers) + 1:
            raise ValueError(
                f"speakers needs at least one name, none twice and none {ANYBODY!r}, got {', '.join(speakers) or '[]'}."
            )
        if not 0.0 < stay < 1.0:
            raise ValueError(f"stay must be above 0 and below 1, got {stay}.")
        from avse import plugins

        cls = plugins.get("prior", component)
        if not issubclass(cls, VariationalPrior):
            raise ValueError(f"component must be a variational auto-encoder, {component} is none.")
        if visual_frontend is None and fusion is None and component == "av_vae":
            audio_states = False
        if faces and not (anybody and shared and visual_frontend is not None):
            raise ValueError("faces needs anybody, a visual_frontend, and a trunk that all voices share.")
        self.stay, self.shared = stay, shared
        self.voices = ((ANYBODY,) if anybody else ()) + tuple(speakers)
        trunk = cls(
            visual_frontend=visual_frontend,
            fusion=fusion,
            latent_dim=latent_dim,
            hidden_dim=hidden_dim,
            prior_weight=prior_weight,
            free_bits=free_bits,
            fft_size=fft_size,
            hop=hop,
            floor_db=floor_db,
            noisy_encoder_layers=noisy_encoder_layers,
        )
        self.complexity = trunk.complexity
        self.sees = trunk.visual_frontend is not None
        self.trunks = nn.ModuleList([trunk] if shared else [deepcopy(trunk) for _ in self.voices])
        of_voice = [trunk] * len(self.voices) if shared else list(self.trunks)
        self.manners = nn.ModuleList(
            _Manner(hidden_dim, latent_dim, self.bins) for name in self.voices if shared and name != ANYBODY
        )
        manners = [None] * (len(self.voices) - len(self.manners)) + list(self.manners)
        states = [_Voice(*each) for each in zip(of_voice, manners)]
        names = list(self.voices)
        self.audio_states = audio_states and self.sees
        if self.audio_states:
            states = [_Voice(*each) for each in zip(of_voice, manners)] + states
            names = [name + _BLIND for name in names] + names
            self.fallbacks = [None] * len(manners) + list(range(len(manners)))
        self.components, self.names = nn.ModuleList(states), tuple(names)
        self.faces = MouthGallery(len(speakers)) if faces else None
        self.kl_weight = 1.0

    @classmethod
    def example_arguments(cls) -> dict:
        from avse import plugins

        frontend = plugins.get("visual_frontend", "pixel_mlp")(output_dim=6, hidden_dim=8, size=11)
        fusion = plugins.get("fusion", "concat")(audio_dim=8, video_dim=6)
        sizes = {"latent_dim": 4, "hidden_dim": 8, "fft_size": 640}
        return {"speakers": ["ann", "bob"], "visual_frontend": frontend, "fusion": fusion, **sizes}

    @property
    def kl_weight(self) -> float:
        """Weight of the divergence in the loss of all voices."""
        return self._kl_weight

    @kl_weight.setter
    def kl_weight(self, weight: float) -> None:
        self._kl_weight = weight
        for trunk in self.trunks:
            trunk.kl_weight = weight

    def of(self, name: str) -> LatentPrior:
        """The prior of one voice, to be used where one knows who speaks.

        Raises
        ------
        ValueError
            If nobody is called so.
        """
        if name not in self.voices:
            raise ValueError(f"{name!r} is none of the voices {', '.join(self.voices)}.")
        return self.components[self.names.index(name)]

    def voice_of(self, state: int) -> str:
        """Whose state it is, with or without video."""
        return self.names[state].removesuffix(_BLIND)

    def switch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """See `SwitchingPrior.switch`: shapes (components,) and (components, components)."""
        voices = len(self.voices)
        return self._chain(torch.full((voices,), 1.0 / voices), sticky(voices, self.stay))

    def switch_of(self, contexts: Sequence[Context]) -> tuple[torch.Tensor, torch.Tensor]:
        """See `SwitchingPrior.switch_of`."""
        if self.faces is None:
            return self.switch()
        who = self.who(contexts[-1])
        voices = who.shape[1]
        transition = self.stay * torch.eye(voices).to(who) + (1.0 - self.stay) * who[:, None].expand(-1, voices, -1)
        return self._chain(who, transition)

    def _chain(self, initial: torch.Tensor, transition: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logarithms of a chain of voices; whether they are seen or only heard follows a chain of its own."""
        if self.audio_states:
            initial = torch.cat([initial, initial], dim=-1) / 2
            seen = sticky(2, self.stay).to(transition)
            transition = torch.einsum("ij,...kl->...ikjl", seen, transition).flatten(-2).flatten(-3, -2)
        return initial.log(), transition.log()

    def who(self, context: Context) -> torch.Tensor:
        """p(a | video), shape (batch, voices); uniform where no mouth is seen."""
        nobody = context.mask.new_full(
            (len(context.mask), len(self.voices)), 1.0 / len(self.voices), dtype=torch.float64
        )
        if self.faces is None or not isinstance(context, _Seen):
            return nobody
        told = self.faces(context.look).softmax(dim=1)
        seen = context.valid.any(dim=1, keepdim=True)
        return torch.where(seen, (1.0 - _DOUBT) * told + _DOUBT * nobody, nobody)

    def contexts(self, batch: Batch) -> list[Context]:
        """See `SwitchingPrior.contexts`; voices with one trunk look at the video together."""
        found = [trunk.context(batch) for trunk in self.trunks]
        if self.faces is not None:
            [context] = found
            found = [_Seen(**vars(context), look=MouthGallery.of(batch.mouth, batch.valid))]
        blind = [one.without_video() for one in found] if self.audio_states else []
        times = len(self.voices) if self.shared else 1
        return blind * times + found * times

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Mean loss of the voices that are heard, of anybody on all clips; see `Prior.loss`.

        Returns
        -------
        dict of str to scalar tensor
            `loss`; the terms of `VariationalPrior.loss` for anybody (without a trunk: their mean over the voices);
            with a trunk, `nll_of_speakers` and `divergence_of_speakers`, of known speakers by their own voice.
        """
        heard = self._heard(batch)
        if not self.shared:
            found = [trunk.loss(_take(batch, rows)) for trunk, rows in zip(self.trunks, heard) if rows]
            if not found:  # nobody is known: all that follows is zero, but has a gradient
                return {"loss": sum(p.sum() for p in self.parameters()) * 0.0}
            return {name: torch.stack([one[name] for one in found if name in one]).mean() for name in found[0]}
        [trunk] = self.trunks
        reading = trunk.read(batch)
        terms, _ = trunk.loss_and_evidence(batch, reading)
        nlls, divergences, steps = [], [], []
        for voice, rows in zip(self.components[-len(self.voices) :], heard):
            if rows and voice.manner is not None:
                own = reading.map(_rows(rows))
                mask = own.context.mask
                nlls.append(trunk.nll(own.power, voice.decode(own.latent, own.context))[mask].mean())
                before = voice.prior(own.latent, own.context)
                divergences.append(divergence_with_free_bits(own.posterior, before, mask, trunk.free_bits))
                steps.append(mask.sum())
        if steps:
            weights = torch.stack(steps) / torch.stack(steps).sum()
            nll, divergence = ((weights * torch.stack(one)).sum() for one in (nlls, divergences))
            terms["loss"] = (terms["loss"] + nll + self.kl_weight * divergence / self.bins) / 2
            terms |= {"nll_of_speakers": nll.detach(), "divergence_of_speakers": divergence.detach()}
        if self.faces is not None and self.training:
            self._look_at(batch)
        return terms

    def _look_at(self, batch: Batch) -> None:
        """Learn what the known speakers of a batch look like."""
        known = self.voices[1:]
        rows = [row for row, name in enumerate(batch.speakers) if name in known]
        if rows:
            valid = batch.valid if batch.video_is_clean is None else batch.video_is_clean
            self.faces.learn(batch.mouth[rows], valid[rows], [known.index(batch.speakers[row]) for row in rows])

    def _heard(self, batch: Batch) -> list[list[int]]:
        """Rows of a batch that each voice learns from."""
        everything = list(range(len(batch)))
        named = batch.speakers if any(batch.speakers) else None
        return [
            [row for row in everything if named[row] == voice] if named and voice != ANYBODY else everything
            for voice in self.voices
        ]


@dataclass
class _Seen(Context):
    """A context with the look of the mouth that is seen, shape (batch, features)."""

    look: torch.Tensor = field(kw_only=True)

    def without_video(self) -> Context:
        return Context(self.mask, self.valid).without_video()


class _Manner(nn.Module):
    """What one speaker has of their own: differences from anybody, zero to begin with."""

    def __init__(self, hidden_dim: int, latent_dim: int, bins: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(bins, hidden_dim)), nn.Parameter(torch.zeros(bins))
        self.code, self.shift = nn.Parameter(torch.zeros(hidden_dim)), nn.Parameter(torch.zeros(2 * latent_dim))


class _Voice(LatentPrior):
    """A trunk, seen with the manner of one speaker; without a manner it is the trunk itself."""

    def __init__(self, trunk: VariationalPrior, manner: _Manner | None) -> None:
        super().__init__(trunk.fft_size, trunk.hop)
        # In a tuple: its weights belong to the prior that holds both, once.
        self._parts = (trunk, manner)
        self.latent_dim, self.dynamical, self.encodes_noisy = trunk.latent_dim, trunk.dynamical, trunk.encodes_noisy

    @property
    def trunk(self) -> VariationalPrior:
        return self._parts[0]

    @property
    def manner(self) -> _Manner | None:
        return self._parts[1]

    @property
    def encoding_prior(self) -> LatentPrior:
        return self.trunk

    def visual_features(self, batch: Batch) -> torch.Tensor | None:
        return self.trunk.visual_features(batch)

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        raise NotImplementedError("A voice learns as part of its prior.")

    def encode(self, power: torch.Tensor, context: Context) -> Gaussian:
        return self.trunk.encode(power, context)

    def encode_noisy(self, power: torch.Tensor, variance: torch.Tensor, context: Context) -> Gaussian:
        return self.trunk.encode_noisy(power, variance, context)

    def decode(self, latent: torch.Tensor, context: Context) -> torch.Tensor:
        if self.manner is None:
            return self.trunk.decode(latent, context)
        last = self.trunk.log_variance
        hidden = self.trunk.decode_hidden(latent, context, self.manner.code)
        return F.linear(hidden, last.weight + self.manner.weight, last.bias + self.manner.bias)

    def prior(self, latent: torch.Tensor, context: Context) -> Gaussian:
        before = self.trunk.prior(latent, context)
        if self.manner is None:
            return before
        mean, log_variance = self.manner.shift.chunk(2)
        return Gaussian(before.mean + mean, before.log_variance + log_variance)

    def reliability(self, latent: torch.Tensor, context: Context) -> torch.Tensor:
        return self.trunk.reliability(latent, context)


def _rows(rows: list[int]) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda value: value[rows]


def _take(batch: Batch, rows: list[int]) -> Batch:
    """Some of the clips."""
    cut = {name: value[rows] for name, value in vars(batch).items() if isinstance(value, torch.Tensor)}
    listed = {name: [getattr(batch, name)[row] for row in rows] for name in ("ids", "speakers") if getattr(batch, name)}
    return replace(batch, **cut, **listed)
