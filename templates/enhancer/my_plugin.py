"""Enhancer `my_plugin`: a network from noisy speech and video to clean speech.

A comment with CHANGE stands where your idea goes; one with KEEP tells what the
checks hold you to.
"""

from __future__ import annotations

import torch
from avse.contracts.enhancer import Enhancer
from avse.contracts.fusion import Fusion, FusionFactory
from avse.contracts.types import Batch, Estimate
from avse.contracts.visual_frontend import VisualFrontend
from avse.nnet.video_input import VideoInput
from avse.plugins import register
from avse.signal.stft import istft, length_mask, stft
from torch import nn

# KEEP powers above this, so that silence has a logarithm.
FLOOR = 1e-8


@register("enhancer", "my_plugin")
class MyPlugin(Enhancer):
    """A recurrent network that scales each bin of the spectrum by a mask in [0, 1].

    Arguments
    ---------
    visual_frontend : VisualFrontend or None
        Mouth crops to features. None: audio only.
    fusion : Fusion, callable that builds one, or None
        How video enters.
    channels : int
        Features per frame.
    fft_size, hop : int
        Of the transform, in samples. `hop` divides a video frame (640 samples).

    Takes a Batch of noisy (batch, samples); gives an Estimate of the same shape.

    Raises
    ------
    ValueError
        If dimensions do not fit.

    Example
    -------
    >>> from avse.conformance import example_batch
    >>> estimate = MyPlugin(channels=8)(example_batch((3200, 2000)))
    >>> estimate.speech.shape, estimate.reliability.shape
    (torch.Size([2, 3200]), torch.Size([2, 5]))
    """

    # CHANGE: where the method comes from, such as "Doe et al., An enhancer, 2026".
    paper = ""

    # KEEP visual_frontend, fusion and channels: recipes set them. CHANGE the rest.
    def __init__(
        self,
        visual_frontend: VisualFrontend | None = None,
        fusion: Fusion | FusionFactory | None = None,
        channels: int = 64,
        fft_size: int = 640,
        hop: int = 320,
    ) -> None:
        super().__init__()
        if fft_size % (2 * hop):
            raise ValueError(f"hop must divide fft_size / 2, got {hop}.")
        # KEEP: the video enters here. It builds the fusion, and lets nothing of an
        # invalid frame pass.
        video_input = VideoInput(visual_frontend, fusion, channels, fft_size, hop)
        self.video_input = video_input
        self.fft_size, self.hop = fft_size, hop
        # KEEP `causal` true only while no frame looks at later frames; `latency` is
        # then how many samples the result lags behind: one window of the transform.
        self.causal, self.latency = video_input.causal, fft_size
        # CHANGE to "quadratic" where each frame looks at all others (attention).
        self.complexity = video_input.complexity
        bins = fft_size // 2 + 1
        self.encoder = nn.Linear(bins, channels)
        self.network = nn.GRU(channels, channels, batch_first=True)
        self.decoder = nn.Linear(channels, bins)

    @classmethod
    def example_arguments(cls) -> dict:
        # KEEP it small: the checks build the plugin with these. Other plugins come
        # by their names.
        from avse import plugins

        pixels = plugins.get("visual_frontend", "pixel_mlp")
        frontend = pixels(output_dim=6, hidden_dim=8, size=11)
        fusion = plugins.get("fusion", "concat")(audio_dim=8, video_dim=6)
        return {"visual_frontend": frontend, "fusion": fusion, "channels": 8}

    def forward(self, batch: Batch) -> Estimate:
        """See `Enhancer.forward`."""
        spectrum = stft(batch.noisy, self.fft_size, self.hop)
        # CHANGE: the network. What looks over frames (attention, normalisation) must
        # leave out those beyond each clip's end; no statistics over the batch.
        level = (spectrum.abs().square() + FLOOR).log()
        hidden = self.encoder(level / 10)
        context = self.video_input.context(batch)
        hidden, weights = self.video_input.fuse(hidden, context)
        hidden, _ = self.network(hidden)
        estimate = spectrum * torch.sigmoid(self.decoder(hidden))
        # KEEP: speech is zero beyond each clip's end, and speech + noise is the input.
        samples = batch.noisy.shape[1]
        speech = istft(estimate, self.fft_size, self.hop, samples)
        speech = speech * length_mask(batch.lengths, samples)
        reliability = self.video_input.by_video_frame(weights, batch)
        return Estimate(speech, batch.noisy - speech, reliability, batch.lengths)
