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
    """

    output_dim: int
    modalities: ClassVar[tuple[str, ...]] = ()

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
