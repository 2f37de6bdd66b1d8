"""Checks of the kind `embedding`."""

from __future__ import annotations

from typing import Any

import torch

from avse.contracts.checks import (
    DOCUMENTED,
    Check,
    build,
    expect,
    expect_close,
    expect_finite,
)
from avse.contracts.embedding import MODALITIES
from avse.errors import AvseError


def _examples(modality: str) -> list[Any]:
    import numpy as np

    rng = np.random.default_rng(0)
    if modality == "text":
        return ["a busy street with cars", "rain", "people talking in a café"]
    shapes = {"image": (48, 64, 3), "video": (5, 48, 64, 3)}
    if modality in shapes:
        return [rng.integers(0, 256, shapes[modality], dtype=np.uint8) for _ in range(3)]
    return [0.1 * rng.standard_normal(length) for length in (16000, 8000, 4000)]


def _vectors(cls: type) -> None:
    embedding = build(cls)
    expect(cls.modalities and set(cls.modalities) <= set(MODALITIES), f"modalities is {cls.modalities!r}")
    for modality in cls.modalities:
        with torch.no_grad():
            vectors = embedding(_examples(modality), modality)
        shape = (3, embedding.output_dim)
        expect(tuple(vectors.shape) == shape, f"{modality}: shape {tuple(vectors.shape)}, expected {shape}")
        expect_finite(vectors, modality)
        expect_close(vectors.norm(dim=1), torch.ones(3, dtype=vectors.dtype), f"lengths of {modality} vectors", 1e-4)
        expect(not torch.equal(vectors[0], vectors[1]), f"two {modality} items give one vector")


def _batches(cls: type) -> None:
    embedding = build(cls)
    for modality in cls.modalities:
        items = _examples(modality)
        with torch.no_grad():
            together = embedding(items, modality)
            for row, item in enumerate(items):
                alone = embedding([item], modality)[0]
                expect_close(alone, together[row], f"{modality} item {row} alone and among others", 1e-4)


def _refuses(cls: type) -> None:
    for modality in set(MODALITIES) - set(cls.modalities):
        try:
            build(cls)(_examples(modality), modality)
        except AvseError:
            continue
        expect(False, f"{modality} is not in `modalities`, but was accepted")


CHECKS = [
    DOCUMENTED,
    Check("vectors", _vectors, "each item gives a vector of length one, (batch, output_dim)", "normalise at the end"),
    Check("batch_equals_singles", _batches, "an item's vector does not depend on the others", "mask padding"),
    Check("refuses_modality", _refuses, "another modality raises AvseError", "implement `embed`, leave `forward`"),
]
