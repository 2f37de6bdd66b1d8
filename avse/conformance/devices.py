"""The check that a plugin can be moved to another device, even on a machine with one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from avse.conformance.core import CheckFailed, build, expect, expect_close, seeded

_READ = ("numpy", "__array__")
# Functions that take tensors of both devices: indices, copies, and lengths of packed sequences.
_MAY_MIX = ("__getitem__", "__setitem__", "copy_", "_pack_padded_sequence", "gru", "lstm", "rnn_tanh", "rnn_relu")
_MOVES = ("to", "type_as", "cuda")


def moves_to_devices(
    cls: type[Any], inputs: Callable[[Any], tuple], outputs: Callable[..., list[torch.Tensor]], draws: bool = False
) -> None:
    """Fail unless a module, moved to a second device with its inputs, gives its result there.

    Without a second device the move is simulated: module and inputs stay, each tensor that a real move would leave
    behind (made without `device`, or kept as a plain attribute) is marked, and the check fails if one is used together
    with a tensor that moved. Results of plugins that draw at random are not compared.
    """
    module = build(cls)
    given = inputs(module)
    with torch.no_grad(), seeded(3):
        expected = outputs(module, *given)
        if not torch.cuda.is_available():
            _simulate(module, given, outputs)
            return
        device = torch.device("cuda")
        module.to(device)
        for part in module.modules():
            expect(
                all(tensor.device.type == device.type or not tensor.ndim for tensor in _attributes(part)),
                f"a tensor that is an attribute of {type(part).__name__} was not moved",
            )
        moved = outputs(module, *map_tensors(given, lambda tensor: tensor.to(device)))
    for one, two in zip(expected, moved):
        expect(two.device.type == device.type, f"with module and input on {device}, an output is on {two.device}")
        if not draws:
            expect_close(one, two.cpu(), f"outputs on the CPU and on {device}", 1e-2)


def map_tensors(value: Any, function: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Apply a function to each tensor of a tuple or dataclass; other values stay."""
    if isinstance(value, tuple):
        return tuple(map_tensors(item, function) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: map_tensors(getattr(value, f.name), function) for f in fields(value)})
    return function(value) if isinstance(value, torch.Tensor) else value


def _attributes(module: nn.Module) -> list[torch.Tensor]:
    """Tensors that are plain attributes: `Module.to` does not move them."""
    held = [value for name, value in vars(module).items() if name not in ("_parameters", "_buffers", "_modules")]
    return [leaf for leaf in tree_leaves(held) if isinstance(leaf, torch.Tensor)]


def _simulate(module: nn.Module, given: tuple, outputs: Callable[..., list[torch.Tensor]]) -> None:
    for part in module.modules():
        if _attributes(part) and type(part)._apply is nn.Module._apply and type(part).to is nn.Module.to:
            for name, value in list(vars(part).items()):
                if name not in ("_parameters", "_buffers", "_modules"):
                    vars(part)[name] = _left_behind(value)
    with _SecondDevice():
        results = outputs(module, *given)
    expect(
        not any(isinstance(result, _LeftBehind) for result in results),
        "an output is on the CPU, although module and input were moved",
    )


class _LeftBehind(torch.Tensor):
    """A tensor that is still on the first device while module and inputs are on the second."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        behind = [leaf for leaf in leaves if isinstance(leaf, _LeftBehind)]
        moved = [leaf for leaf in leaves if not isinstance(leaf, _LeftBehind)]
        name = getattr(func, "__name__", "")
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **kwargs)
        if name in _MOVES and (moved or _named_device(args, kwargs)):
            return result.as_subclass(torch.Tensor)
        if moved and name not in _MAY_MIX:
            for tensor in behind:
                if tensor.ndim:  # a number on the CPU goes with tensors of any device
                    shapes = f"{tuple(tensor.shape)} on the CPU and {tuple(moved[0].shape)} on the other device"
                    raise CheckFailed(f"`{name}` is given tensors of two devices: {shapes}")
        return result if moved else _left_behind(result)


class _SecondDevice(TorchFunctionMode):
    """Marks tensors made without a device, and stops what a tensor of a second device could not do."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if name in _READ and not any(isinstance(leaf, _LeftBehind) for leaf in leaves):
            raise CheckFailed("a tensor of the second device is read as a NumPy array; call .cpu() first")
        result = func(*args, **kwargs)
        texts = [*args, kwargs.get("device")] if name in ("to", "cuda") else [kwargs.get("device")]
        fixed = name == "cpu" or any(isinstance(text, str) for text in texts)
        if fixed or (not leaves and kwargs.get("device") is None):
            return _left_behind(result)
        return result


def _named_device(args: tuple, kwargs: dict) -> bool:
    return any(isinstance(value, torch.device) for value in (*args, kwargs.get("device")))


def _left_behind(value: Any) -> Any:
    mark = lambda leaf: leaf.as_subclass(_LeftBehind) if type(leaf) is torch.Tensor else leaf
    return tree_map(mark, value)
