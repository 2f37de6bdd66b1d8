"""Priors `switching_vae` and `mixture_vae`: each frame of speech follows an audio VAE or an audio-visual one."""

from __future__ import annotations

from typing import Any

from avse.contracts.fusion import Fusion, FusionFactory
from avse.contracts.visual_frontend import VisualFrontend, VisualFrontendFactory
from avse.plugins import register
from avse.priors.vae.base import VariationalPrior, variational
from avse.priors.vae.switching import SwitchingVariationalPrior


class AudioOrAudioVisual(SwitchingVariationalPrior):
    """Two auto-encoders of one kind: state 0 without video, state 1 with it; 0 is the fallback where no mouth is seen.

    Without a visual front-end there is state 0 alone.

    Arguments
    ---------
    component : str
        Which variational prior both are: `av_vae`, `recurrent_vae` or `transformer_vae`.
    stay : float or None
        Initial probability that a frame follows the same state as the last; 0.95 is 0.4 s on average. None: no memory.
    common :
        Further arguments, of both, `latent_dim` among them: see `VariationalPrior`.
    """

    passes_to = VariationalPrior

    def __init__(
        self,
        visual_frontend: VisualFrontend | VisualFrontendFactory | None = None,
        fusion: Fusion | FusionFactory | None = None,
        component: str = "av_vae",
        latent_dim: int = 32,
        stay: float | None = 0.95,
        **common: Any,
    ) -> None:
        cls = variational(component)
        components = {"audio": cls(latent_dim=latent_dim, **common)}
        fallbacks: list[int | None] = [None]
        if visual_frontend is not None or fusion is not None:
            video: dict[str, Any] = {"visual_frontend": visual_frontend, "fusion": fusion}
            components["audio_visual"] = cls(**video, latent_dim=latent_dim, **common)
            fallbacks.append(0)
        super().__init__(components, fallbacks, stay)

    @classmethod
    def example_arguments(cls) -> dict[str, Any]:
        return {**VariationalPrior.example_arguments(), "prior_weight": 0.1}


@register("prior", "switching_vae")
class SwitchingVAE(AudioOrAudioVisual):
    """Each frame of speech follows an audio VAE or an audio-visual one, chosen by a Markov chain.

        a_1 ~ pi,   p(a_n = k | a_(n-1) = j) = tau_jk,   s_n, z_n | a_n from the VAE of this state

    The two share no weights, and both are trained on all clips. The chain is learned as well: from video that was
    corrupted in training it learns how often and for how long video fails. An `av_vae` whose inference has a gate is
    the same with one set of weights and a fixed chain.

    Example
    -------
    >>> prior = SwitchingVAE(**SwitchingVAE.example_arguments())
    >>> initial, transition = prior.switch()
    >>> [round(p, 2) for p in transition.exp().flatten().tolist()]
    [0.95, 0.05, 0.05, 0.95]
    """

    paper = "Sadeghi and Alameda-Pineda, Switching variational auto-encoders for audio-visual speech enhancement, 2021"


@register("prior", "mixture_vae")
class MixtureVAE(AudioOrAudioVisual):
    """Each frame of speech follows an audio VAE or an audio-visual one, chosen independently: p(a_n = k) = pi_k.

    Example
    -------
    >>> prior = MixtureVAE(**MixtureVAE.example_arguments())
    >>> initial, transition = prior.switch()
    >>> bool((transition == initial).all())
    True
    """

    paper = "Sadeghi and Alameda-Pineda, Robust unsupervised audio-visual speech enhancement using a mixture, 2020"
    not_inherited = ("stay",)

    def __init__(self, **common: Any) -> None:
        super().__init__(stay=None, **common)
