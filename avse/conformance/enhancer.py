"""Checks of the kind `enhancer`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from avse.conformance.core import Checks, NotApplicable, build, example_batch, expect, expect_equal, seeded
from avse.conformance.estimate import estimate_checks, told
from avse.conformance.modules import perturb

CHECKS = Checks(estimate_checks(draws=False))


@CHECKS.add("scene", hint="scale and shift features by a layer of the scene without a bias; or set scene_dim = 0")
def _scene(cls: type[Any]) -> None:
    """Without a scene, and with one of zeros, the result is the same bit for bit; another scene changes it."""
    model = build(cls)
    if not model.scene_dim:
        raise NotApplicable("takes no embedding of the noise")
    perturb(model)
    given = told(model, example_batch((3840, 3200)))
    assert given.scene is not None
    some = given.scene * torch.tensor([[0.0], [1.0]])
    scenes = {"none": None, "zeros": torch.zeros_like(some), "one of two": some}
    with torch.no_grad(), seeded(11):
        found = {name: model(replace(given, scene=scene)).speech for name, scene in scenes.items()}
    expect_equal(found["none"], found["zeros"], "speech without a scene and with one of zeros")
    expect_equal(found["none"][0], found["one of two"][0], "speech of a clip without a scene beside one with a scene")
    expect(not torch.equal(found["none"][1], found["one of two"][1]), "the scene changes nothing")
