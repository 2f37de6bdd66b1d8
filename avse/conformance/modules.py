"""Checks that every plugin with weights shares, whatever its kind."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from avse.conformance.core import CheckFailed, NotApplicable, build, expect, expect_equal, seeded

Outputs = Callable[..., list[torch.Tensor]]
"""`outputs(module, *inputs)`: every tensor that a plugin gives for some inputs."""


def every_parameter_learns(cls: type, outputs: Callable[[Any], list[torch.Tensor]], others: str = "") -> None:
    """Fail unless a gradient of what `outputs` returns reaches every parameter that asks for one.

    Arguments
    ---------
    cls : type
    outputs : callable
        Takes the module, in training mode.
    others : str
        Names of submodules, separated by spaces, that are others' plugins and need not learn here.
    """
    with seeded():
        module = build(cls, train=True)
        foreign = tuple(f"{name}." for name in others.split())
        learnable = {n: p for n, p in module.named_parameters() if p.requires_grad and not n.startswith(foreign)}
        if not learnable:
            raise NotApplicable("nothing to learn")
        perturb(module, 0.05)
        loss = sum((output * torch.randn_like(output)).sum() for output in outputs(module) if output.requires_grad)
        expect(isinstance(loss, torch.Tensor), "no output depends on a parameter")
        loss.backward()
    idle = [name for name, p in learnable.items() if p.grad is None or not bool((p.grad != 0).any())]
    expect(not idle, f"no gradient reaches {', '.join(idle[:6])}{' ...' if len(idle) > 6 else ''}")


def weights_round_trip(cls: type, outputs: Callable[[Any], list[torch.Tensor]]) -> None:
    """Fail unless weights saved both ways and loaded strictly into another instance give the same result."""
    from safetensors.torch import load_file, save_file

    first, second = build(cls, seed=0), build(cls, seed=1)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = Path(folder) / "weights"
        save_file(first.state_dict(), path)
        second.load_state_dict(load_file(path), strict=True)
        torch.save(first.state_dict(), path)
        third = build(cls, seed=2)
        third.load_state_dict(torch.load(path, weights_only=True), strict=True)
        expected = outputs(first)
        for other, way in ((second, "safetensors"), (third, "torch.save")):
            for one, two in zip(expected, outputs(other)):
                expect_equal(one, two, f"outputs before saving and after loading, by {way}")


def repeatable(cls: type, outputs: Callable[[Any], list[torch.Tensor]], draws: bool = False) -> None:
    """Fail unless one seed gives one result, and running changes nothing that a later run sees.

    Arguments
    ---------
    cls : type
    outputs : callable
        Takes the module, in evaluation mode.
    draws : bool
        Whether a plugin of this kind may draw at random in evaluation mode: its runs are then seeded alike.
    """
    first, second = build(cls, seed=3), build(cls, seed=3)

    def run(module: Any, seed: int) -> list[torch.Tensor]:
        with torch.no_grad(), seeded(3 if draws else seed):
            return outputs(module)

    before = run(first, 4)
    for one, two in zip(before, run(second, 4)):
        expect_equal(one, two, "two instances built and run under one seed")
    for one, two in zip(before, run(first, 5)):
        what = "one instance run twice under one seed" if draws else "one instance in evaluation mode, run twice"
        expect_equal(one, two, what)


def causal_instance(cls: type) -> Any:
    """An example that declares itself causal; the variant `causal=True` where the plain one is not.

    Raises
    ------
    NotApplicable
        If there is none.
    """
    instance = build(cls)
    if instance.causal:
        return instance
    if "causal" in inspect.signature(cls).parameters:
        try:
            variant = build(cls, causal=True)
        except ValueError as error:
            raise NotApplicable(f"the example has no causal variant: {error}") from error
        if not variant.causal:
            raise CheckFailed("built with causal=True, its attribute `causal` is False")
        return variant
    raise NotApplicable("does not claim to be causal")


def perturb(module: nn.Module, amount: float = 0.2) -> None:
    """As if trained: layers that start at zero, and so would hide a fault, say something."""
    with torch.no_grad(), seeded(5):
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(amount * torch.randn_like(parameter))


def autocast() -> AbstractContextManager[Any]:
    """Mixed precision in bfloat16, as training uses it."""
    return torch.autocast("cpu", dtype=torch.bfloat16)
