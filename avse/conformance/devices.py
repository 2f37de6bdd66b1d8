"""The check that a plugin can be moved to another device, also where there is only one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from avse.conformance.core import CheckFailed, NotApplicable, build, expect, expect_close, seeded

_READ = ("numpy", "__array__")
# What may get tensors of the first device beside those of the second: indices, copies, and lengths of packed sequences.
_MAY_MIX = ("__getitem__", "__setitem__", "copy_", "_pack_padded_sequence", "gru", "lstm", "rnn_tanh", "rnn_relu")
_MOVES = ("to", "type_as", "cuda")


def moves_to_devices(
    cls: type, inputs: Callable[[Any], tuple], outputs: Callable[..., list[torch.Tensor]], draws: bool = False
) -> None:
    """Fail unless a module, moved to a second device with its inputs, gives its result there.

    Without a second device the move is played: module and inputs stay, and each tensor that a real move would leave
    behind (made without `device`, or kept as a plain attribute) is marked, and may not meet those that moved.

    Arguments
    ---------
    cls : type
    inputs : callable
        Takes the module; gives a tuple of tensors, dataclasses of tensors, or other things, which are not moved.
    outputs : callable
        Takes the module and the inputs.
    draws : bool
        Whether a plugin of this kind may draw at random; its results on two devices are then not compared.
    """
    module = build(cls)
    given = inputs(module)
    device = _second_device()
    with torch.no_grad(), seeded(3):
        before = outputs(module, *given)
        if device is None:
            _play(module, given, outputs)
            return
        module.to(device)
        for one in module.modules():
            expect(
                all(tensor.device.type == device.type or not tensor.ndim for tensor in _attributes(one)),
                f"a tensor that is an attribute of {type(one).__name__} was not moved",
            )
        moved = outputs(module, *(_to(one, device) for one in given))
    for one, two in zip(before, moved):
        expect(two.device.type == device.type, f"with module and input on {device}, an output is on {two.device}")
        if not draws:
            expect_close(one, two.cpu(), f"outputs on the CPU and on {device}", 1e-2)


def has_weights(cls: type) -> None:
    """Raise `NotApplicable` for a plugin that holds no tensor."""
    if not build(cls).state_dict():
        raise NotApplicable("holds no tensor that could be moved")


def _second_device() -> torch.device | None:
    if torch.cuda.is_available():
        return torch.device("cuda")
    return None


def _to(value: Any, device: torch.device) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{one.name: _to(getattr(value, one.name), device) for one in fields(value)})
    return value.to(device) if isinstance(value, torch.Tensor) else value


def _attributes(module: nn.Module) -> list[torch.Tensor]:
    """Tensors that are plain attributes: `Module.to` does not move them."""
    held = [value for name, value in vars(module).items() if name not in ("_parameters", "_buffers", "_modules")]
    return [one for one in tree_leaves(held) if isinstance(one, torch.Tensor)]


def _play(module: nn.Module, given: tuple, outputs: Callable[..., list[torch.Tensor]]) -> None:
    for one in module.modules():
        if _attributes(one) and type(one)._apply is nn.Module._apply and type(one).to is nn.Module.to:
            for name, value in list(vars(one).items()):
                if name not in ("_parameters", "_buffers", "_modules"):
                    vars(one)[name] = _left_behind(value)
    with _SecondDevice():
        results = outputs(module, *given)
    expect(
        not any(isinstance(one, _LeftBehind) for one in results),
        "an output is on the CPU, although module and input were moved",
    )


class _LeftBehind(torch.Tensor):
    """A tensor that is still on the first device while module and inputs are on the second."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        leaves = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
        behind = [one for one in leaves if isinstance(one, _LeftBehind)]
        moved = [one for one in leaves if not isinstance(one, _LeftBehind)]
        name = getattr(func, "__name__", "")
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **kwargs)
        if name in _MOVES and (moved or _named_device(args, kwargs)):
            return result.as_subclass(torch.Tensor)
        # A number on the CPU may meet tensors of any device.
        if moved and name not in _MAY_MIX and any(one.ndim for one in behind):
            shapes = " and ".join(f"{tuple(group[0].shape)} on {where}" for group, where in _sides(behind, moved))
            raise CheckFailed(f"`{name}` is given tensors of two devices: {shapes}")
        return result if moved else _left_behind(result)


class _SecondDevice(TorchFunctionMode):
    """Marks tensors made without a device, and stops what a tensor of a second device could not do."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        leaves = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
        if name in _READ and not any(isinstance(one, _LeftBehind) for one in leaves):
            raise CheckFailed("a tensor of the second device is read as a NumPy array; call .cpu() first")
        result = func(*args, **kwargs)
        texts = [*args, kwargs.get("device")] if name in ("to", "cuda") else [kwargs.get("device")]
        fixed = name == "cpu" or any(isinstance(one, str) for one in texts)
        if fixed or (not leaves and kwargs.get("device") is None):
            return _left_behind(result)
        return result


def _named_device(args: tuple, kwargs: dict) -> bool:
    return any(isinstance(one, torch.device) for one in (*args, kwargs.get("device")))


def _left_behind(value: Any) -> Any:
    mark = lambda one: one.as_subclass(_LeftBehind) if type(one) is torch.Tensor else one
    return tree_map(mark, value)


def _sides(behind: list[Any], moved: list[Any]) -> list[tuple[list[Any], str]]:
    return [([one for one in behind if one.ndim], "the CPU"), (moved, "the other device")]
