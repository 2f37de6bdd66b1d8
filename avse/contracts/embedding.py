"""Kind `embedding`: text, images, video or audio to one vector in a common space."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from avse.contracts.plugin import Plugin
from avse.errors import AvseError

MODALITIES = ("text", "image", "video", "sound")


class Embedding(nn.Module, Plugin):
    """Describes the scene of a clip by a vector of length one; what is alike lies close, whatever its modality.

    Attributes
    ----------
    output_dim : int
        Features of the vector.
    modalities : tuple of str
        Which of `text`, `image`, `video`, `sound` it understands.
    classes : tuple of str
        Names of the classes of noise that it knows; empty where it knows none by name.
    centroids : tensor, shape (classes, output_dim)
        The vector of each class, of length one, kept with the weights.
    """

    output_dim: int
    modalities: ClassVar[tuple[str, ...]] = ()
    classes: tuple[str, ...] = ()
    centroids: torch.Tensor

    @abstractmethod
    def embed(self, items: Sequence[Any], modality: str) -> torch.Tensor:
        """Vectors of length one, shape (batch, output_dim).

        Arguments
        ---------
        items : sequence
            `text`: str. `image`: array (height, width, 3), uint8, RGB. `video`: array (video_frames, height, width, 3),
            uint8, RGB. `sound`: array (samples,), float, 16 kHz.
        modality : str
            One of `modalities`.
        """

    def forward(self, items: Sequence[Any], modality: str) -> torch.Tensor:
        """Vectors of length one, shape (batch, output_dim).

        Raises
        ------
        AvseError
            If the modality is not understood.
        """
        if modality not in self.modalities:
            raise AvseError(f"{self.plugin_name}: understands {', '.join(self.modalities)}, not {modality!r}.")
        return self.embed(items, modality)

    def nearest(self, vectors: torch.Tensor, count: int = 3) -> list[list[tuple[str, float]]]:
        """For each vector (batch, output_dim), the known classes most like it with their cosine, the nearest first."""
        cosines = vectors @ self.centroids.to(vectors).T if self.classes else vectors.new_zeros(len(vectors), 0)
        best = cosines.topk(min(count, len(self.classes)), dim=1)
        return [
            [(self.classes[index], value) for index, value in zip(indices, values)]
            for indices, values in zip(best.indices.tolist(), best.values.tolist())
        ]
