"""Conformance checks: what every plugin of a kind must do, as named tests that any class can be put to.

A contract lists its checks in `CHECKS`; `run_checks` puts a class to those of its kind. A check gets the class, builds
an instance by `cls.example()`, and raises `CheckFailed` with what it measured.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from avse.errors import AvseError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from avse.contracts.types import Batch


class CheckFailed(AssertionError):
    """A plugin breaks its contract; the message says what was measured."""


class NotApplicable(Exception):
    """A check that says nothing about this plugin; the message says why."""


@dataclass(frozen=True)
class Check:
    """One promise of a contract.

    Arguments
    ---------
    name : str
        Short, unique within the kind.
    run : callable
        Takes the class; raises `CheckFailed` if the promise is broken, `NotApplicable` if it does not concern it.
    expected : str
        The promise, as one sentence.
    mend : str
        What usually mends a failure.
    """

    name: str
    run: Callable[[type], None]
    expected: str
    mend: str


@dataclass(frozen=True)
class CheckResult:
    """What one check found.

    Arguments
    ---------
    check : Check
    passed : bool
        Also true where the check does not apply; `found` then says why.
    found : str
        What was measured; empty where all is as expected.
    """

    check: Check
    passed: bool
    found: str = ""

    def __str__(self) -> str:
        if self.passed:
            return f"ok    {self.check.name}" + (f" ({self.found})" if self.found else "")
        return (
            f"FAIL  {self.check.name}\n      expected: {self.check.expected}\n      found: {self.found}\n"
            f"      mend: {self.check.mend}"
        )


def checks_of(kind: str) -> list[Check]:
    """The checks of a kind, from its contract file."""
    return list(importlib.import_module(f"avse.contracts.checks.{kind}").CHECKS)


def run_checks(cls: type, kind: str | None = None) -> list[CheckResult]:
    """Put a plugin class to every check of its kind; nothing it raises stops the next check.

    Arguments
    ---------
    cls : type
        A registered class.
    kind : str, optional
        For a class that is not registered.

    Returns
    -------
    list of CheckResult
        In the contract's order.

    Example
    -------
    >>> from avse import plugins
    >>> results = run_checks(plugins.get("metric", "si_sdr"))
    >>> all(result.passed for result in results)
    True
    """
    return [run_check(check, cls) for check in checks_of(kind or cls.plugin_kind)]


def run_check(check: Check, cls: type) -> CheckResult:
    """Put a plugin class to one check."""
    try:
        check.run(cls)
    except NotApplicable as reason:
        return CheckResult(check, True, f"not applicable: {reason}")
    except CheckFailed as failure:
        return CheckResult(check, False, str(failure))
    except Exception as error:
        return CheckResult(check, False, f"raised {type(error).__name__}: {error} (at {_raised_at(error)})")
    return CheckResult(check, True)


def expect(condition: Any, found: str) -> None:
    """Fail the running check with what was found unless the condition holds."""
    if not bool(condition):
        raise CheckFailed(found)


def build(cls: type, train: bool = False, dtype: torch.dtype | None = None, seed: int = 0) -> Any:
    """A seeded example instance, in evaluation mode unless told otherwise.

    Raises
    ------
    NotApplicable
        If an optional package that the plugin needs is not installed.
    """
    with seeded(seed):
        try:
            instance = cls.example()
        except AvseError as error:
            if "not installed" in str(error):
                raise NotApplicable(str(error)) from error
            raise
    if hasattr(instance, "train"):
        instance.train(train)
        if dtype is not None:
            instance.to(dtype)
    return instance


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Seed the global generators of torch, numpy and `random` inside, and put back their states after."""
    import random

    import numpy as np
    import torch

    python_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)


def expect_equal(one: torch.Tensor, two: torch.Tensor, what: str) -> None:
    """Fail unless two tensors are the same bit for bit."""
    import torch

    expect(one.shape == two.shape, f"{what}: shapes {tuple(one.shape)} and {tuple(two.shape)}")
    expect(torch.equal(one, two), f"{what}: differ by up to {_largest(one, two):.3g}")


def expect_close(one: torch.Tensor, two: torch.Tensor, what: str, tolerance: float = 1e-4) -> None:
    """Fail unless two tensors differ by at most `tolerance` times the larger one's peak."""
    expect(one.shape == two.shape, f"{what}: shapes {tuple(one.shape)} and {tuple(two.shape)}")
    if one.numel():
        peak = max(float(one.abs().max()), float(two.abs().max()), 1e-6)
        worst = _largest(one, two)
        expect(worst <= tolerance * peak, f"{what}: differ by up to {worst:.3g} where values reach {peak:.3g}")


def expect_finite(tensor: torch.Tensor, what: str) -> None:
    """Fail if a tensor holds NaN or infinity."""
    bad = int((~tensor.isfinite()).sum())
    expect(bad == 0, f"{what}: {bad} of {tensor.numel()} values are NaN or infinite")


def example_batch(lengths: tuple[int, ...] = (9600, 6400), seed: int = 0, gap: tuple[int, int] = (0, 0)) -> Batch:
    """Clips of seeded noise with moving mouth crops.

    Arguments
    ---------
    lengths : tuple of int
        Samples of each clip.
    seed : int
        Equal seeds and lengths give equal clips; a clip does not depend on the others of its batch.
    gap : (int, int)
        First frame, and the one after the last, in which no mouth was seen.
    """
    import numpy as np

    from avse.contracts.types import MOUTH_SIZE, Batch, Clip, video_frames

    clips = []
    for length in lengths:
        rng = np.random.default_rng((seed, length))
        frames = video_frames(length)
        audio = 0.1 * rng.standard_normal(length) * (1.0 + np.sin(np.arange(length) / 700.0))
        mouth = rng.integers(0, 256, (frames, MOUTH_SIZE, MOUTH_SIZE), dtype=np.uint8)
        valid = np.ones(frames, dtype=bool)
        valid[gap[0] : gap[1]] = False
        clips.append(Clip(audio.astype(np.float32), mouth, valid, clip_id=f"noise-{length}"))
    return Batch.from_clips(clips)


def every_parameter_learns(cls: type, run: Callable[[nn.Module], list[torch.Tensor]]) -> None:
    """Fail unless a gradient of what `run` returns reaches every parameter that asks for one."""
    import torch

    with seeded():
        module = build(cls, train=True)
        learnable = {name: p for name, p in module.named_parameters() if p.requires_grad}
        if not learnable:
            raise NotApplicable("nothing to learn")
        with torch.no_grad():
            for parameter in learnable.values():  # a layer that starts at zero lets no gradient through at first
                parameter.add_(0.05 * torch.randn_like(parameter))
        loss = sum((output * torch.randn_like(output)).sum() for output in run(module) if output.requires_grad)
        expect(isinstance(loss, torch.Tensor), "no output depends on a parameter")
        loss.backward()
    idle = [name for name, p in learnable.items() if p.grad is None or not bool((p.grad != 0).any())]
    expect(not idle, f"no gradient reaches {', '.join(idle[:6])}{' ...' if len(idle) > 6 else ''}")


def weights_round_trip(cls: type, run: Callable[[nn.Module], list[torch.Tensor]]) -> None:
    """Fail unless weights saved as safetensors and loaded strictly into another instance give the same result."""
    import tempfile
    from pathlib import Path

    import torch
    from safetensors.torch import load_file, save_file

    first, second = build(cls, seed=0), build(cls, seed=1)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = Path(folder) / "weights.safetensors"
        save_file(first.state_dict(), path)
        second.load_state_dict(load_file(path), strict=True)
        for one, two in zip(run(first), run(second)):
            expect_equal(one, two, "outputs before saving and after loading")


def repeatable(cls: type, run: Callable[[nn.Module], list[torch.Tensor]]) -> None:
    """Fail unless one seed gives one result, and an instance in evaluation mode the same result twice."""
    import torch

    with torch.no_grad():
        first, second = build(cls, seed=3), build(cls, seed=3)
        for one, two in zip(run(first), run(second)):
            expect_equal(one, two, "two instances built under one seed")
        for one, two in zip(run(first), run(first)):
            expect_equal(one, two, "one instance in evaluation mode, run twice")


def documented(cls: type) -> None:
    """Fail unless the class says what it is, names each constructor argument, and its methods give shapes."""
    text = inspect.getdoc(cls) if cls.__doc__ else ""
    expect(text, "the class has no docstring of its own")
    parameters = [
        p for p in inspect.signature(cls).parameters.values() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]
    missing = [p.name for p in parameters if not re.search(rf"\b{re.escape(p.name)}\b", text)]
    expect(not missing, f"the docstring does not name the argument{'s' * (len(missing) > 1)} {', '.join(missing)}")
    for name in contract_methods(cls):
        described = inspect.getdoc(getattr(cls, name)) or ""
        expect(
            "shape" in described or re.search(r"\b(Batch|Estimate|[Ss]ee )", described),
            f"the docstring of {name} gives no shapes",
        )


def contract_methods(cls: type) -> list[str]:
    """Methods that the class's contract declares abstract."""
    return sorted(
        {
            name
            for base in cls.__mro__
            if base.__module__.startswith("avse.contracts.")
            for name, value in vars(base).items()
            if getattr(value, "__isabstractmethod__", False)
        }
    )


DOCUMENTED = Check(
    "documented",
    documented,
    "the class docstring says what it is and names each argument; methods of the contract give shapes",
    "write the docstring as the contract's own does: what it is, `Arguments`, shapes with the axis names of "
    "avse.contracts.types; a method without a docstring takes over the contract's",
)


def _largest(one: torch.Tensor, two: torch.Tensor) -> float:
    return (one.double() - two.double()).abs().max().item() if one.numel() else 0.0


def _raised_at(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "?" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
