"""Checks of the kind `embedding`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import torch

from avse.conformance.common import DOCUMENTED
from avse.conformance.core import Check, Checks, NotApplicable, build, expect, expect_close, expect_finite
from avse.conformance.devices import moves_to_devices
from avse.conformance.modules import ModuleChecks
from avse.contracts.embedding import MODALITIES, Embedding
from avse.errors import AvseError

CHECKS = Checks([DOCUMENTED])


def _examples(modality: str, alike: bool = False, times: int = 1) -> list[Any]:
    """Three items, with `alike` of one length, and longer by the factor `times` if the modality has a length."""
    rng = np.random.default_rng(0)
    if modality == "text":
        return ["rain on a roof", "cars on a way", "talk in a cafe"] if alike else ["a busy street", "rain", "a café"]
    if modality == "image":
        return [rng.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(3)]
    if modality == "video":
        frames = (5, 5, 5) if alike else (5, 3, 1)
        return [rng.integers(0, 256, (times * n, 48, 64, 3), dtype=np.uint8) for n in frames]
    lengths = (8000, 8000, 8000) if alike else (16000, 8000, 4000)
    return [0.1 * rng.standard_normal(times * length) for length in lengths]


def _has_weights(cls: type[Any]) -> None:
    if not build(cls).state_dict():
        raise NotApplicable("holds no weights")


def _embed(embedding: Embedding, items: Sequence[Any], modality: str) -> torch.Tensor:
    with torch.no_grad():
        return _called(embedding, items, modality)


def _called(embedding: Embedding, items: Sequence[Any], modality: str) -> torch.Tensor:
    try:
        return embedding(items, modality)
    except AvseError as error:
        if "not installed" in str(error):
            raise NotApplicable(str(error)) from error
        raise


def _vectors(cls: type[Any], count: int = 3) -> Iterator[tuple[str, torch.Tensor]]:
    """Each modality of the plugin, with the vectors of its examples."""
    embedding = build(cls)
    for modality in cls.modalities:
        yield modality, _embed(embedding, _examples(modality)[:count], modality)


def _inputs(embedding: Embedding) -> tuple[Any, ...]:
    return tuple((_examples(modality), modality) for modality in embedding.modalities)


def _long_inputs(embedding: Embedding, times: int) -> tuple[Any, ...]:
    long = [modality for modality in embedding.modalities if modality in ("sound", "video")]
    if not long:
        raise NotApplicable("takes neither audio nor video, so that nothing has a length in time")
    return tuple((_examples(modality, times=8 * times)[:1], modality) for modality in long)


def _outputs(embedding: Embedding, *given: tuple[Sequence[Any], str]) -> list[torch.Tensor]:
    return [_called(embedding, items, modality) for items, modality in given]


@CHECKS.add("shapes", hint="set self.output_dim in the constructor")
def _shapes(cls: type[Any]) -> None:
    """Vectors (batch, output_dim), for any batch."""
    embedding = build(cls)
    expect(cls.modalities and set(cls.modalities) <= set(MODALITIES), f"modalities is {cls.modalities!r}")
    for count in (1, 3):
        for modality, vectors in _vectors(cls, count):
            shape = (count, embedding.output_dim)
            expect(tuple(vectors.shape) == shape, f"{modality}: shape {tuple(vectors.shape)}, expected {shape}")


@CHECKS.add("unit_length", hint="normalise at the end")
def _unit_length(cls: type[Any]) -> None:
    """Each item gives a vector of length one."""
    for modality, vectors in _vectors(cls):
        lengths = vectors.norm(dim=1)
        expect_close(lengths, torch.ones_like(lengths), f"lengths of {modality} vectors", 1e-4)


@CHECKS.add("tells_apart", hint="check what is averaged")
def _tells_apart(cls: type[Any]) -> None:
    """Different items give different vectors."""
    for modality, vectors in _vectors(cls):
        expect(not torch.equal(vectors[0], vectors[1]), f"two {modality} items give one vector")


def _alone_and_together(cls: type[Any], alike: bool) -> None:
    embedding = build(cls)
    lengths = "equal" if alike else "different"
    for modality in cls.modalities:
        items = _examples(modality, alike)
        together = _embed(embedding, items, modality)
        for row, item in enumerate(items):
            alone = _embed(embedding, [item], modality)[0]
            expect_close(alone, together[row], f"{modality} item {row} alone and among others of {lengths} length")


@CHECKS.add("classes", hint="register the buffer `centroids`, one row for each of `classes`")
def _classes(cls: type[Any]) -> None:
    """Each known class has a vector of length one, or zero before training, kept with the weights."""
    embedding = build(cls)
    if not embedding.classes:
        raise NotApplicable("knows no class by name")
    shape = (len(embedding.classes), embedding.output_dim)
    expect(tuple(embedding.centroids.shape) == shape, f"centroids: {tuple(embedding.centroids.shape)}, not {shape}")
    expect("centroids" in embedding.state_dict(), "centroids are not kept with the weights")
    lengths = embedding.centroids.norm(dim=1)
    expect(bool(((lengths - 1).abs() < 1e-3).logical_or(lengths == 0).all()), f"lengths of centroids {lengths}")


@CHECKS.add("refuses_modality", hint="implement `embed`, leave `forward`")
def _refuses(cls: type[Any]) -> None:
    """Another modality raises AvseError."""
    for modality in set(MODALITIES) - set(cls.modalities):
        try:
            build(cls)(_examples(modality), modality)
        except AvseError:
            continue
        expect(False, f"{modality} is not in `modalities`, but was accepted")


@CHECKS.add("precision", hint="turn items into tensors of the weights' dtype")
def _precision(cls: type[Any]) -> None:
    """Weights in float32 and float64 work; mixed precision in bfloat16 stays close."""
    embedding = build(cls)
    _has_weights(cls)
    double = deepcopy(embedding).double()
    for modality in cls.modalities:
        items = _examples(modality)
        single = _embed(embedding, items, modality)
        expect(single.dtype == torch.float32, f"{modality}: weights in float32 gave {single.dtype}")
        expect_close(single, _embed(double, items, modality), f"{modality} vectors in float32 and float64", 1e-3)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = _embed(embedding, items, modality)
        expect_close(single, mixed, f"{modality} vectors in float32 and in mixed precision (bfloat16)", 0.2)


@CHECKS.add("devices")
def _devices(cls: type[Any]) -> None:
    _has_weights(cls)
    moves_to_devices(cls, _inputs, _outputs)


@CHECKS.add("hostile_input", hint="divide by max(norm, small)")
def _hostile(cls: type[Any]) -> None:
    """Long texts, black images, silence, clipping and huge audio give finite vectors. A text may be refused."""
    embedding = build(cls)
    cases: dict[str, dict[str, Any]] = {
        "text": {"no text": "", "a long text": "a dog barks " * 500, "other letters": "雨の音 🌧"},
        "image": {"a black image": np.zeros((48, 64, 3), np.uint8), "one pixel": np.full((1, 1, 3), 255, np.uint8)},
        "video": {"a black video": np.zeros((3, 48, 64, 3), np.uint8)},
        "sound": {
            "silence": np.zeros(8000),
            "clipping": np.sign(np.sin(np.arange(8000) / 9.0)),
            "huge input (1e4)": 1e4 * np.sin(np.arange(8000) / 9.0),
            "short audio": np.full(160, 0.1),
        },
    }
    for modality in cls.modalities:
        for name, item in cases[modality].items():
            try:
                vector = _embed(embedding, [item], modality)
            except AvseError:
                if modality == "text":  # a text in which it knows no word
                    continue
                raise
            expect_finite(vector, f"the vector of {name}")


CHECKS += [
    Check(
        "padding",
        partial(_alone_and_together, alike=False),
        "an item's vector is the same beside longer ones",
        "mask the padding in means and attention",
    ),
    Check(
        "batch_equals_singles",
        partial(_alone_and_together, alike=True),
        "an item's vector does not depend on the others",
        "take no statistics over the batch; call eval() on batch normalisation",
    ),
    *(check for check in ModuleChecks(_inputs, _outputs, _long_inputs).all() if check.name != "devices"),
]
DOES_NOT_APPLY = {
    "no_video_is_audio_only": "describes the scene",
    "invalid_frames_ignored": "takes images of a scene, which have no mask",
    "causal": "gives one vector for the whole item",
}
