"""Enhancer `my_plugin`: a network from noisy audio and video to speech.

A comment with CHANGE stands where your idea goes; one with KEEP tells what the
checks hold you to.
"""

from __future__ import annotations

import torch
from avse.contracts.enhancer import Enhancer
from avse.contracts.fusion import Fusion
from avse.contracts.types import SAMPLES_PER_FRAME, Batch, Estimate
from avse.contracts.visual_frontend import VisualFrontend
from avse.plugins import register
from avse.signal.stft import istft, length_mask, repeat_to_frames, stft, stft_frames
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
    fusion : Fusion or None
        Its `audio_dim` must be `channels`, its `video_dim` the front-end's
        `output_dim`.
    channels : int
        Features of a frame.
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
        fusion: Fusion | None = None,
        channels: int = 64,
        fft_size: int = 640,
        hop: int = 320,
    ) -> None:
        super().__init__()
        if (visual_frontend is None) != (fusion is None):
            raise ValueError("give both visual_frontend and fusion, or neither.")
        if SAMPLES_PER_FRAME % hop or fft_size % (2 * hop):
            raise ValueError(f"hop must divide 640 and fft_size / 2, got {hop}.")
        if fusion is not None:
            wanted = (channels, visual_frontend.output_dim)
            given = (fusion.audio_dim, fusion.video_dim)
            if given != wanted:
                raise ValueError(f"fusion has {given}, but needs {wanted} features.")
        self.visual_frontend, self.fusion = visual_frontend, fusion
        self.fft_size, self.hop = fft_size, hop
        # KEEP `causal` true only while no frame looks at later frames; `latency` is
        # then how many samples the result lags behind: one window of the transform.
        parts = [part for part in (visual_frontend, fusion) if part is not None]
        self.causal = all(part.causal for part in parts)
        self.latency = fft_size
        # CHANGE where each frame looks at all others (attention over the whole clip):
        # self.complexity = "quadratic"
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
        loudness = (spectrum.abs().square() + FLOOR).log()
        hidden = self.encoder(loudness / 10)
        hidden, reliability = self._fuse(hidden, batch)
        hidden, _ = self.network(hidden)
        estimate = spectrum * torch.sigmoid(self.decoder(hidden))
        # KEEP: speech is zero beyond each clip's end, and speech + noise is the input.
        samples = batch.noisy.shape[1]
        speech = istft(estimate, self.fft_size, self.hop, samples)
        speech = speech * length_mask(batch.lengths, samples)
        return Estimate(speech, batch.noisy - speech, reliability, batch.lengths)

    def _fuse(
        self,
        hidden: torch.Tensor,
        batch: Batch,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Hidden features (batch, frames, channels) with the video, and its weight."""
        # KEEP: the video enters through a front-end and a fusion only. They let
        # nothing of an invalid frame pass.
        if self.fusion is None or not bool(batch.valid.any()):
            return hidden, hidden.new_zeros(batch.valid.shape)
        frames, ratio = hidden.shape[1], SAMPLES_PER_FRAME // self.hop
        mask = length_mask(stft_frames(batch.lengths, self.fft_size, self.hop), frames)
        video = self.visual_frontend(batch.mouth, batch.valid).to(hidden.dtype)
        valid = repeat_to_frames(batch.valid, frames, ratio) & mask
        video = repeat_to_frames(video, frames, ratio)
        hidden, weights = self.fusion(hidden, video, valid)
        # From frames back to video frames.
        weights = weights[:, : batch.valid.shape[1] * ratio]
        return hidden, weights.unflatten(1, (-1, ratio)).mean(dim=2)
