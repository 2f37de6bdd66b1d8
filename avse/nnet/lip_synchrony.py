"""Network of lip synchrony: embeddings of mouth and audio, which tell which stretch of audio belongs to which video."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from avse.contracts.types import SAMPLE_RATE, SAMPLES_PER_FRAME, Batch, video_frames
from avse.contracts.visual_frontend import VisualFrontend
from avse.signal.stft import stft

_AUDIO_BANDS, _AUDIO_FRAMES, _AUDIO_WINDOW = 40, 4, 640  # frames: of the STFT, in each video frame


@dataclass
class LipReading:
    """What `LipSynchrony` predicts.

    Arguments
    ---------
    levels : tensor, shape (batch, video_frames, bands)
        Band levels of the speech.
    video, audio : tensor, shape (batch, video_frames, dim)
        Embeddings of the mouth and of the speech; their product is high where the two belong together.
    scale : scalar tensor
        Logarithm of the factor of similarities.
    speaking : tensor, shape (batch, video_frames), or None
        Probability that the mouth speaks.
    """

    levels: torch.Tensor
    video: torch.Tensor
    audio: torch.Tensor
    scale: torch.Tensor
    speaking: torch.Tensor | None = None


class LipSynchrony(nn.Module):
    """A visual front-end with two heads: band levels of the speech, and which audio belongs to which video.

    Arguments
    ---------
    visual_frontend : VisualFrontend
    bands : int
        Mel-spaced bands.
    sync_dim : int
        Features per video frame of the embeddings of video and audio.
    hidden_dim : int
        Features inside the two networks that embed.
    dropout : float
        Of the front-end's features, before all heads.
    speaking : bool
        True: a third head tells in which video frames the mouth speaks.

    Paper: Chung and Zisserman, Out of time: automated lip sync in the wild, 2016 (which trains a front-end so).

    Example
    -------
    >>> from avse.visual_frontends.pixel_mlp import PixelMLP
    >>> model = LipSynchrony(PixelMLP(output_dim=8), bands=4, sync_dim=6, hidden_dim=8)
    >>> mouth, clean = torch.zeros(1, 5, 88, 88, dtype=torch.uint8), torch.zeros(1, 3200)
    >>> batch = Batch(clean, torch.tensor([3200]), mouth, torch.ones(1, 5, dtype=torch.bool), clean=clean)
    >>> reading = model(batch)
    >>> reading.levels.shape, reading.video.shape == reading.audio.shape == (1, 5, 6)
    (torch.Size([1, 5, 4]), True)
    """

    def __init__(
        self,
        visual_frontend: VisualFrontend,
        bands: int = 20,
        sync_dim: int = 32,
        hidden_dim: int = 192,
        dropout: float = 0.0,
        speaking: bool = False,
    ) -> None:
        super().__init__()
        self.video_input = nn.ModuleDict({"visual_frontend": visual_frontend})
        self.head = nn.Linear(visual_frontend.output_dim, bands)
        self.dropout = nn.Dropout(dropout)
        self.video_tower = _Tower(visual_frontend.output_dim, hidden_dim, sync_dim, layers=1)
        self.audio_tower = _Tower(_AUDIO_BANDS * _AUDIO_FRAMES, hidden_dim, sync_dim, layers=2)
        self.scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.speaking = nn.Linear(visual_frontend.output_dim, 1) if speaking else None
        self.filters: torch.Tensor
        self.register_buffer("filters", mel_filters(_AUDIO_BANDS, _AUDIO_WINDOW // 2 + 1), persistent=False)

    def forward(self, batch: Batch) -> LipReading:
        """Levels, and embeddings of the video and of `batch.clean` (of the noisy audio in a batch without it)."""
        video = self.dropout(self.video_input["visual_frontend"](batch.mouth, batch.valid))
        audio = self.embed_audio(batch.noisy if batch.clean is None else batch.clean)
        speaking = None if self.speaking is None else self.speaking(video)[..., 0].float().sigmoid()
        return LipReading(self.head(video), self.video_tower(video), audio, self.scale, speaking)

    def embed_video(self, mouth: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """Embeddings of mouth crops of shape (batch, video_frames, 88, 88), shape (batch, video_frames, dim)."""
        return self.video_tower(self.dropout(self.video_input["visual_frontend"](mouth, valid)))

    def embed_audio(self, audio: torch.Tensor) -> torch.Tensor:
        """Embeddings of audio of shape (batch, samples), shape (batch, video_frames, dim)."""
        frames = video_frames(audio.shape[1])
        whole = F.pad(audio.float(), (0, frames * SAMPLES_PER_FRAME - audio.shape[1]))
        power = stft(whole, _AUDIO_WINDOW, SAMPLES_PER_FRAME // _AUDIO_FRAMES).abs().square()
        level = torch.log10(power[:, : frames * _AUDIO_FRAMES] @ self.filters + 1e-7)
        level = level - level.mean(dim=1, keepdim=True)  # so that microphone and speaker cannot be told by their colour
        return self.audio_tower(level.unflatten(1, (frames, _AUDIO_FRAMES)).flatten(2).to(self.head.weight.dtype))


class _Tower(nn.Module):
    """Per video frame: a linear layer, residual convolutions over 3 frames, and a linear layer."""

    def __init__(self, input_dim: int, hidden_dim: int, output_dim: int, layers: int) -> None:
        super().__init__()
        self.enter = nn.Linear(input_dim, hidden_dim)
        self.norms = nn.ModuleList(nn.LayerNorm(hidden_dim) for _ in range(layers))
        self.time = nn.ModuleList(nn.Conv1d(hidden_dim, hidden_dim, 3, padding=1) for _ in range(layers))
        self.leave = nn.Linear(hidden_dim, output_dim)

    def forward(self, stream: torch.Tensor) -> torch.Tensor:
        hidden = self.enter(stream)
        for norm, convolution in zip(self.norms, self.time):
            hidden = hidden + convolution(F.silu(norm(hidden)).transpose(1, 2)).transpose(1, 2)
        return self.leave(F.silu(hidden))


def mel_filters(bands: int, bins: int) -> torch.Tensor:
    """Triangular mel filters from 60 to 7000 Hz, shape (bins, bands)."""
    from torchaudio.functional import melscale_fbanks

    return melscale_fbanks(bins, 60.0, 7000.0, bands, SAMPLE_RATE, norm="slaney")
