"""Checks that plugins with weights share, whatever their kind."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from avse.conformance.common import RECIPE_ROUND_TRIP
from avse.conformance.complexity import grows_as_declared
from avse.conformance.core import (
    Check,
    CheckFailed,
    NotApplicable,
    build,
    expect,
    expect_close,
    expect_equal,
    expect_finite,
    seeded,
)
from avse.conformance.devices import map_tensors, moves_to_devices
from avse.contracts.streaming import StreamState
from avse.contracts.types import SAMPLES_PER_FRAME, Batch, video_frames

Inputs = tuple[Any, ...]
Views = dict[str, torch.Tensor]
"""What a plugin returns for some inputs, by name, each with the batch first."""


@dataclass(frozen=True)
class ModuleChecks:
    """Checks of gradients, weights, repetition, recipes, devices and complexity.

    Arguments
    ---------
    inputs : callable
        Takes the module; gives the arguments of a call.
    outputs : callable
        Takes the module and these arguments; gives every tensor it returns.
    long_inputs : callable
        Takes the module and 1 or 2, the number of times the clip is as long; gives the arguments of a call.
    losses : callable, optional
        Takes the place of `outputs` for gradients, weights and repetition.
    draws : bool
        Whether a plugin of this kind may draw at random in evaluation mode.
    others : str
        Names of submodules, separated by spaces, that are plugins of other kinds and need not learn.
    """

    inputs: Callable[[Any], Inputs]
    outputs: Callable[..., list[torch.Tensor]]
    long_inputs: Callable[[Any, int], Inputs]
    losses: Callable[..., list[torch.Tensor]] | None = None
    draws: bool = False
    others: str = ""

    def all(self) -> list[Check]:
        """The checks, in order."""
        of_its_own = " of its own" if self.others else ""
        seed = "one seed gives one result" + ("" if self.draws else ", and evaluation mode draws nothing")
        devices = partial(moves_to_devices, inputs=self.inputs, outputs=self.outputs, draws=self.draws)
        return [
            Check("gradients", self.gradients, f"a gradient reaches every parameter{of_its_own} that requires one"),
            Check("weights_round_trip", self.weights_round_trip),
            Check("repeatable", self.repeatable, f"{seed}; one call does not change the next"),
            RECIPE_ROUND_TRIP,
            Check("devices", devices),
            Check("complexity", partial(grows_as_declared, inputs=self.long_inputs, outputs=self.outputs)),
        ]

    def gradients(self, cls: type[Any]) -> None:
        """Fail unless a gradient of the outputs reaches every parameter that requires one."""
        with seeded():
            module = build(cls, train=True)
            foreign = tuple(f"{name}." for name in self.others.split())
            learnable = {n: p for n, p in module.named_parameters() if p.requires_grad and not n.startswith(foreign)}
            if not learnable:
                raise NotApplicable("nothing to learn")
            perturb(module, 0.05)
            outputs = [output for output in self._results(module) if output.requires_grad]
            terms = [(output * torch.randn_like(output)).sum() for output in outputs]
            expect(terms, "no output depends on a parameter")
            torch.stack(terms).sum().backward()
        idle = [name for name, p in learnable.items() if p.grad is None or not bool((p.grad != 0).any())]
        expect(not idle, f"no gradient reaches {', '.join(idle[:6])}{' ...' if len(idle) > 6 else ''}")

    def weights_round_trip(self, cls: type[Any]) -> None:
        """Fail unless weights saved both ways and loaded strictly into another instance give the same result."""
        from safetensors.torch import load_file, save_file

        first, second, third = (build(cls, seed=seed) for seed in range(3))
        if not first.state_dict():
            raise NotApplicable("holds no weights")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "weights"
            save_file(first.state_dict(), path)
            second.load_state_dict(load_file(path), strict=True)
            torch.save(first.state_dict(), path)
            third.load_state_dict(torch.load(path, weights_only=True), strict=True)
        expected = self._seeded_results(first, 11)
        for loaded, way in ((second, "safetensors"), (third, "torch.save")):
            for before, after in zip(expected, self._seeded_results(loaded, 11)):
                expect_equal(before, after, f"outputs before saving and after loading, by {way}")

    def repeatable(self, cls: type[Any]) -> None:
        """Fail unless one seed gives one result, and a call changes nothing that a later call depends on."""
        first, second = build(cls, seed=3), build(cls, seed=3)
        again = "one instance run twice under one seed" if self.draws else "one instance in evaluation mode, run twice"
        before = self._seeded_results(first, 4)
        for other, seed, what in (
            (second, 4, "two instances built and run under one seed"),
            (first, 4 if self.draws else 5, again),
        ):
            for one, two in zip(before, self._seeded_results(other, seed)):
                expect_equal(one, two, what)

    def _results(self, module: Any) -> list[torch.Tensor]:
        return (self.losses or self.outputs)(module, *self.inputs(module))

    def _seeded_results(self, module: Any, seed: int) -> list[torch.Tensor]:
        with torch.no_grad(), seeded(seed):
            return self._results(module)


@dataclass(frozen=True)
class Probe:
    """Checks that compare what plugins of a kind return for one clip in different surroundings.

    Arguments
    ---------
    clip : callable
        Takes the module, a length and a seed; gives the arguments of a call for one clip.
    look : callable
        Takes the module and these arguments; gives the results as `Views`, drawn under a fixed seed.
    unit : str
        What lengths count.
    make : callable
        Builds the plugin from its class.
    """

    clip: Callable[[Any, int, int], Inputs]
    look: Callable[..., Views]
    unit: str = "frames"
    make: Callable[[type[Any]], Any] = build

    def padding(self, cls: type[Any], lengths: Sequence[int], more: Sequence[int], tolerance: float = 1e-6) -> None:
        """Fail unless a clip gives the same with padding at its end."""
        module = self.make(cls).to(torch.float64)
        for length in lengths:
            clip = to_dtype(self.clip(module, length, 0), torch.float64)
            alone = self.look(module, *clip)
            for padding in more:
                padded = self.look(module, *lengthen(clip, length + padding))
                what = f"of {length} {self.unit} alone and padded to {length + padding}"
                compare(alone, cut(padded, alone), what, tolerance)

    def batches(self, cls: type[Any], lengths: Sequence[int], tolerance: float = 1e-6) -> None:
        """Fail unless a batch gives what its clips give one by one."""
        module = self.make(cls).to(torch.float64)
        clips = [to_dtype(self.clip(module, length, row), torch.float64) for row, length in enumerate(lengths)]
        together = self.look(module, *join([lengthen(clip, max(lengths)) for clip in clips]))
        for row, (clip, length) in enumerate(zip(clips, lengths)):
            alone = self.look(module, *clip)
            beside = cut({name: view[row : row + 1] for name, view in together.items()}, alone)
            what = f"of {length} {self.unit} alone and in a batch of clips of {', '.join(map(str, lengths))}"
            compare(alone, beside, what, tolerance)

    def precision(
        self,
        cls: type[Any],
        inputs: Callable[[Any], Inputs],
        tolerances: dict[torch.dtype, float],
        mixed_tolerance: float | None = None,
    ) -> None:
        """Fail unless results have the dtype of the input, and are close in each; in mixed precision too, or finite."""
        module = self.make(cls)
        given = inputs(module)
        single = self.look(module, *given)
        for dtype, tolerance in {torch.float32: 0.0, **tolerances}.items():
            other = self.look(deepcopy(module).to(dtype), *to_dtype(given, dtype))
            for name, view in other.items():
                expect(view.dtype == dtype, f"{name}: {dtype} in gave {view.dtype}")
            compare(single, other, f"in float32 and {dtype}", tolerance)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = self.look(module, *given)
        for name, view in mixed.items():
            expect_finite(view, f"{name} in mixed precision (bfloat16)")
        if mixed_tolerance is not None:
            compare(single, mixed, "in float32 and in mixed precision (bfloat16)", mixed_tolerance)


def streams(probe: Probe, cls: type[Any]) -> None:
    """Fail unless a plugin that streams gives block by block what it gives whole; the last argument is validity."""
    module = causal_instance(cls).double()
    if not module.streams:
        raise NotApplicable("does not claim to stream")
    perturb(module)
    *clip, valid = to_dtype(probe.clip(module, 40, 0), torch.float64)
    valid[:, 2:12] = valid[:, 25] = False
    state, blocks = StreamState(), []
    sizes = [1, 1, 1, 5, 1, 1, 10, 1, 1, 18]
    for block in zip(*(part.split(sizes, dim=1) for part in (*clip, valid))):
        with state.block():
            blocks.append(probe.look(module, *block))
    whole = probe.look(module, *clip, valid)
    together = {name: torch.cat([block[name] for block in blocks], dim=1) for name in whole}
    compare(whole, together, "of a whole clip and of its blocks, one after the other", 1e-9)


def compare(one: Views, two: Views, what: str, tolerance: float = 0.0) -> None:
    """Fail unless two results are close; with a tolerance of zero, unless they are the same bit for bit."""
    for name, view in one.items():
        if tolerance:
            expect_close(view, two[name], f"{name} {what}", tolerance)
        else:
            expect_equal(view, two[name], f"{name} {what}")


def cut(views: Views, like: Views) -> Views:
    """Views cut along time to the length of others."""
    return {name: view[:, : like[name].shape[1]] for name, view in views.items()}


def before(views: Views, end: int) -> Views:
    """Views cut along time to a length."""
    return {name: view[:, :end] for name, view in views.items()}


def to_dtype(inputs: Inputs, dtype: torch.dtype) -> Inputs:
    """The arguments of a call with all floating-point tensors in one precision."""
    return map_tensors(inputs, lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)


def lengthen(inputs: Inputs, length: int) -> Inputs:
    """The arguments of a call with zeros at the end of axis 1, time, up to a length in frames (a `Batch`: samples)."""

    def pad(tensor: torch.Tensor, size: int) -> torch.Tensor:
        return torch.cat([tensor, tensor.new_zeros(len(tensor), size - tensor.shape[1], *tensor.shape[2:])], dim=1)

    def pad_one(value: Any) -> Any:
        if not isinstance(value, Batch):
            return pad(value, length)
        frames = video_frames(length)
        mouth, valid = pad(value.mouth, frames), pad(value.valid, frames)
        clean = None if value.clean is None else pad(value.clean, length)
        return replace(value, noisy=pad(value.noisy, length), clean=clean, mouth=mouth, valid=valid)

    return tuple(map(pad_one, inputs))


def join(clips: Sequence[Inputs]) -> Inputs:
    """The arguments of a call for a batch, from those for its clips, all of one length."""

    def stack(values: tuple[Any, ...]) -> Any:
        if isinstance(values[0], torch.Tensor):
            return torch.cat(values)
        stacked: dict[str, Any] = {
            name: torch.cat([getattr(value, name) for value in values])
            for name, value in vars(values[0]).items()
            if isinstance(value, torch.Tensor)
        }
        return Batch(**stacked)

    return tuple(map(stack, zip(*clips)))


def causal_instance(cls: type[Any]) -> Any:
    """An example that declares itself causal, or the variant `causal=True`; `NotApplicable` if there is none."""
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
    """Add noise to all weights, as if trained: a layer that starts at zero could hide a fault."""
    with torch.no_grad(), seeded(5):
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(amount * torch.randn_like(parameter))


def changed_after(batch: Batch, frame: int) -> Batch:
    """A batch with other audio and other crops from a video frame on."""
    later = replace(batch, noisy=batch.noisy.clone(), mouth=batch.mouth.clone())
    later.noisy[:, frame * SAMPLES_PER_FRAME :] *= -3.0
    later.mouth[:, frame:] = 255 - later.mouth[:, frame:]
    return later


def white_where_invalid(batch: Batch) -> Batch:
    """A batch with white crops in its invalid frames."""
    return replace(batch, mouth=torch.where(batch.valid[..., None, None], batch.mouth, 255).to(torch.uint8))


def hostile_audio(batch: Batch) -> dict[str, torch.Tensor]:
    """Audio that breaks careless numerics, by name, each of shape (batch, samples)."""
    impulse = torch.zeros_like(batch.noisy)
    impulse[:, 1000] = 1.0
    return {
        "silence": torch.zeros_like(batch.noisy),
        "clipping": (batch.noisy * 1e3).clamp(-1, 1),
        "huge input (1e4)": batch.noisy * 1e5,
        "tiny input (1e-9)": batch.noisy * 1e-8,
        "one impulse": impulse,
        "a constant": torch.where(batch.noisy != 0, 0.5, 0.0),
    }
