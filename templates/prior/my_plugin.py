"""Prior `my_plugin`: a model of clean speech, learned by an auto-encoder.

A comment with CHANGE stands where your idea goes; one with KEEP tells what the
checks hold you to.
"""

from __future__ import annotations

import torch
from avse.contracts.fusion import Fusion, FusionFactory
from avse.contracts.prior import Context, Gaussian, LatentPrior
from avse.contracts.types import Batch
from avse.contracts.visual_frontend import VisualFrontend
from avse.nnet.video_input import VideoInput
from avse.plugins import register
from torch import nn

# Power below which speech counts as silence, so that no logarithm is infinite.
FLOOR = 1e-6


@register("prior", "my_plugin")
class MyPlugin(LatentPrior):
    """A variational auto-encoder with one hidden layer on either side.

    Speech s in each frame is complex Gaussian with a variance that a network reads
    from a latent z, standard normal, and from the video.

    Arguments
    ---------
    visual_frontend : VisualFrontend or None
        Mouth crops to features. None: audio only.
    fusion : Fusion, callable that builds one, or None
        How video enters the decoder.
    latent_dim : int
        Features of z per frame.
    hidden_dim : int
        Width of the hidden layers.
    fft_size, hop : int
        Of the transform, in samples. `hop` divides a video frame (640 samples).

    Takes power (batch, frames, bins) and latent (batch, frames, latent_dim).

    Example
    -------
    >>> prior = MyPlugin(latent_dim=4, hidden_dim=8)
    >>> nothing_seen = Context(torch.ones(1, 6).bool(), torch.zeros(1, 6).bool())
    >>> posterior = prior.encode(torch.rand(1, 6, prior.bins), nothing_seen)
    >>> posterior.mean.shape, prior.decode(posterior.sample(), nothing_seen).shape
    (torch.Size([1, 6, 4]), torch.Size([1, 6, 321]))
    """

    # CHANGE: where the method comes from, such as "Doe et al., A prior, 2026".
    paper = ""

    def __init__(
        self,
        visual_frontend: VisualFrontend | None = None,
        fusion: Fusion | FusionFactory | None = None,
        latent_dim: int = 16,
        hidden_dim: int = 128,
        fft_size: int = 640,
        hop: int = 320,
    ) -> None:
        super().__init__(fft_size, hop)
        video = (visual_frontend, fusion)
        self.video_input = VideoInput(*video, hidden_dim, fft_size, hop)
        self.latent_dim = latent_dim
        self.encoder = nn.Sequential(
            nn.Linear(self.bins, hidden_dim),
            nn.Tanh(),
            nn.Linear(hidden_dim, 2 * latent_dim),
        )
        self.from_latent = nn.Linear(latent_dim, hidden_dim)
        self.to_log_variance = nn.Linear(hidden_dim, self.bins)

    @classmethod
    def example_arguments(cls) -> dict:
        # KEEP it small: the checks build the plugin with these. Other plugins come
        # by their names.
        from avse import plugins

        pixels = plugins.get("visual_frontend", "pixel_mlp")
        frontend = pixels(output_dim=6, hidden_dim=8, size=11)
        fusion = plugins.get("fusion", "concat")(audio_dim=8, video_dim=6)
        sizes = {"latent_dim": 3, "hidden_dim": 8}
        return {"visual_frontend": frontend, "fusion": fusion, **sizes}

    def visual_features(self, batch: Batch) -> torch.Tensor | None:
        """See `Prior.visual_features`: shape (batch, video_frames, output_dim)."""
        return self.video_input.features(batch)

    def encode(self, power: torch.Tensor, context: Context) -> Gaussian:
        """See `LatentPrior.encode`: shape (batch, frames, latent_dim)."""
        # CHANGE: any network from power (and context.video) to a mean and a
        # log-variance. KEEP them bounded where the power is huge.
        mean, log_variance = self.encoder((power + FLOOR).log()).chunk(2, dim=2)
        return Gaussian(mean, log_variance.clamp(-8.0, 4.0))

    def decode(self, latent: torch.Tensor, context: Context) -> torch.Tensor:
        """See `LatentPrior.decode`: shape (batch, frames, bins)."""
        # CHANGE: any network from z to the log-variance of speech. KEEP the video out
        # where none is valid: `fuse` does, and context.video is None without any.
        hidden = torch.tanh(self.from_latent(latent))
        hidden, _ = self.video_input.fuse(hidden, context)
        return self.to_log_variance(hidden).clamp(-20.0, 20.0)

    def prior(self, latent: torch.Tensor, context: Context) -> Gaussian:
        """See `LatentPrior.prior`: shape (batch, frames, latent_dim)."""
        # CHANGE: a network from context.video, for p(z | video); or from `latent`
        # before each frame, for a dynamical model.
        zeros = torch.zeros_like(latent)
        return Gaussian(zeros, zeros)

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """The negative evidence bound and its terms, scalars: see `Prior.loss`."""
        context = self.context(batch)
        power = self.analyse(batch.clean).abs().square()
        posterior = self.encode(power, context)
        latent = posterior.sample()
        log_variance = self.decode(latent, context)
        nll = ((power + FLOOR) * (-log_variance).exp() + log_variance).sum(dim=2)
        divergence = posterior.divergence(self.prior(latent, context))
        # KEEP: frames beyond a clip's end do not count.
        nll = nll[context.mask].mean() / self.bins
        divergence = divergence[context.mask].mean() / self.bins
        loss = nll + divergence
        return {"loss": loss, "nll": nll, "divergence": divergence}
