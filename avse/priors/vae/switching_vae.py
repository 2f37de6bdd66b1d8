"""Priors `switching_vae` and `mixture_vae`: at each step speech follows the sound alone, or sound and video."""

from __future__ import annotations

from avse.contracts.fusion import Fusion
from avse.contracts.visual_frontend import VisualFrontend
from avse.plugins import register
from avse.priors.vae.base import VariationalPrior
from avse.priors.vae.switching import SwitchingVariationalPrior


class AudioOrAudioVisual(SwitchingVariationalPrior):
    """Two auto-encoders of one kind: state 0 without video, state 1 with it; where no mouth is seen, 0 stands in for 1.

    Arguments are those of `SwitchingVAE`; without a visual front-end there is state 0 alone.
    """

    def __init__(
        self,
        visual_frontend: VisualFrontend | None,
        fusion: Fusion | None,
        component: str,
        stay: float | None,
        **others: float,
    ) -> None:
        from avse import plugins

        cls = plugins.get("prior", component)
        if not issubclass(cls, VariationalPrior):
            raise ValueError(f"component must be a variational auto-encoder, {component} is none.")
        components, fallbacks = {"audio": cls(visual_frontend=None, fusion=None, **others)}, [None]
        if visual_frontend is not None or fusion is not None:
            components["audio_visual"] = cls(visual_frontend=visual_frontend, fusion=fusion, **others)
            fallbacks.append(0)
        super().__init__(components, fallbacks, stay)

    @classmethod
    def example_arguments(cls) -> dict:
        from avse import plugins

        frontend = plugins.get("visual_frontend", "pixel_mlp")(output_dim=6, hidden_dim=8, size=11)
        fusion = plugins.get("fusion", "concat")(audio_dim=8, video_dim=6)
        sizes = {"latent_dim": 4, "hidden_dim": 8, "fft_size": 640}
        return {"visual_frontend": frontend, "fusion": fusion, "prior_weight": 0.1, **sizes}


@register("prior", "switching_vae")
class SwitchingVAE(AudioOrAudioVisual):
    """Speech whose steps follow an audio VAE or an audio-visual one, as a Markov chain says that likes to stay.

        a_1 ~ pi,   p(a_n = k | a_(n-1) = j) = tau_jk,   s_n, z_n | a_n from the VAE of this state

    The two share no weights, so that each is at its best on what it sees, and both are trained on all clips. The chain
    is learned as well: from video that was degraded in training it learns how often and for how long video fails. An
    `av_vae` whose inference has a gate is the same with one set of weights and a fixed chain.

    Arguments
    ---------
    visual_frontend : VisualFrontend or None
        Mouth crops to features. None: audio only, without a choice.
    fusion : Fusion or None
        How video enters encoder and decoder (one copy each). Its `audio_dim` must be `hidden_dim`, its `video_dim` the
        front-end's `output_dim`.
    component : str
        Which variational prior both are: `av_vae`, `recurrent_vae` or `transformer_vae`.
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
        Blocks of a second encoder of each that knows z of speech in noise; see `VariationalPrior`. 0: none.
    stay : float
        Probability, to begin with, that a step follows the same state as the last; 0.95 is 0.4 s on average.

    Example
    -------
    >>> prior = SwitchingVAE(**SwitchingVAE.example_arguments())
    >>> initial, transition = prior.switch()
    >>> [round(p, 2) for p in transition.exp().flatten().tolist()]
    [0.95, 0.05, 0.05, 0.95]
    """

    paper = "Sadeghi and Alameda-Pineda, Switching variational auto-encoders for audio-visual speech enhancement, 2021"

    def __init__(
        self,
        visual_frontend: VisualFrontend | None = None,
        fusion: Fusion | None = None,
        component: str = "av_vae",
        latent_dim: int = 32,
        hidden_dim: int = 128,
        prior_weight: float = 0.01,
        free_bits: float = 0.1,
        fft_size: int = 1024,
        hop: int = 320,
        floor_db: float = -70.0,
        noisy_encoder_layers: int = 0,
        stay: float = 0.95,
    ) -> None:
        super().__init__(
            visual_frontend,
            fusion,
            component,
            stay,
            latent_dim=latent_dim,
            hidden_dim=hidden_dim,
            prior_weight=prior_weight,
            free_bits=free_bits,
            fft_size=fft_size,
            hop=hop,
            floor_db=floor_db,
            noisy_encoder_layers=noisy_encoder_layers,
        )


@register("prior", "mixture_vae")
class MixtureVAE(AudioOrAudioVisual):
    """Speech whose steps follow an audio VAE or an audio-visual one, each step by itself.

    As `switching_vae`, but the choice has no memory: p(a_n = k) = pi_k at every step.

    Arguments
    ---------
    visual_frontend : VisualFrontend or None
        Mouth crops to features. None: audio only, without a choice.
    fusion : Fusion or None
        How video enters encoder and decoder (one copy each). Its `audio_dim` must be `hidden_dim`, its `video_dim` the
        front-end's `output_dim`.
    component : str
        Which variational prior both are: `av_vae`, `recurrent_vae` or `transformer_vae`.
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
        Blocks of a second encoder of each that knows z of speech in noise; see `VariationalPrior`. 0: none.

    Example
    -------
    >>> prior = MixtureVAE(**MixtureVAE.example_arguments())
    >>> initial, transition = prior.switch()
    >>> bool((transition == initial).all())
    True
    """

    paper = "Sadeghi and Alameda-Pineda, Robust unsupervised audio-visual speech enhancement using a mixture, 2020"

    def __init__(
        self,
        visual_frontend: VisualFrontend | None = None,
        fusion: Fusion | None = None,
        component: str = "av_vae",
        latent_dim: int = 32,
        hidden_dim: int = 128,
        prior_weight: float = 0.01,
        free_bits: float = 0.1,
        fft_size: int = 1024,
        hop: int = 320,
        floor_db: float = -70.0,
        noisy_encoder_layers: int = 0,
    ) -> None:
        super().__init__(
            visual_frontend,
            fusion,
            component,
            None,
            latent_dim=latent_dim,
            hidden_dim=hidden_dim,
            prior_weight=prior_weight,
            free_bits=free_bits,
            fft_size=fft_size,
            hop=hop,
            floor_db=floor_db,
            noisy_encoder_layers=noisy_encoder_layers,
        )
