"""What a conformance check is, how it is run, and what its code is written with."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import re
import sysconfig
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avse.errors import AvseError

if TYPE_CHECKING:
    import torch

    from avse.contracts.types import Batch

PROMISES = {
    "documented": "a docstring that names each argument and gives shapes",
    "shapes": "the shapes of the contract, over batch, length and feature sizes",
    "padding": "padding beyond a clip's end changes nothing",
    "batch_equals_singles": "a batch gives what its clips give one by one",
    "no_video_is_audio_only": "no valid video gives the audio-only result, bit for bit",
    "invalid_frames_ignored": "what invalid frames hold changes nothing",
    "gradients": "a gradient reaches every parameter that requires one",
    "precision": "float32, bfloat16 and float64 work",
    "weights_round_trip": "weights saved by torch.save or as safetensors and loaded strictly give the same result",
    "repeatable": "one seed gives one result",
    "recipe_round_trip": "a recipe can write it",
    "causal": "with `causal` true nothing depends on later input",
    "devices": "moved to another device with its input, it gives its result there",
    "hostile_input": "silence, clipping and huge input give finite results",
    "complexity": "time and memory grow with the length of a clip as the attribute `complexity` says",
}
_HINTS = {
    "batch_equals_singles": "take no statistics over the batch; see `padding` for clips of different lengths",
    "gradients": "remove unused layers; detach nothing that should learn; freeze what should not "
    "(requires_grad_(False)); use no in-place operations",
    "precision": "create tensors with dtype and device of x; divide, and take exponentials, in float32 or above",
    "weights_round_trip": "keep all that is learned in parameters or persistent buffers, each under one name",
    "repeatable": "draw from torch's global generator only, and in training mode only unless the kind draws at random",
    "devices": "make tensors with device=x.device; keep constants in buffers (register_buffer)",
    "complexity": "look at a part of a clip at a time; or set complexity = 'quadratic'",
}
_OWN_FOLDER = Path(__file__).parent


class CheckFailed(AssertionError):
    """A plugin breaks its contract; the message says what was measured.

    Arguments
    ---------
    found : str
    place : str
        `file:line` of the cause, if the check knows it.
    """

    def __init__(self, found: str, place: str = "") -> None:
        super().__init__(found)
        self.place = place


class NotApplicable(Exception):
    """A check that does not apply to this plugin; the message says why."""


Run = Callable[[type[Any]], None]


@dataclass(frozen=True)
class Check:
    """One promise of a contract.

    Arguments
    ---------
    name : str
        Short, unique within the kind; those of `PROMISES` mean the same for every kind.
    run : callable
        Takes the class; raises `CheckFailed` if it breaks the promise, `NotApplicable` if it does not make it.
    expected : str
        The promise, as one sentence; that of `PROMISES` by default.
    hint : str
        How to correct the usual causes of a failure.
    """

    name: str
    run: Run
    expected: str = ""
    hint: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "expected", self.expected or PROMISES[self.name])
        object.__setattr__(self, "hint", self.hint or _HINTS[self.name])


class Checks(list[Check]):
    """The checks of a kind, in order.

    Example
    -------
    >>> checks = Checks()
    >>> @checks.add("repeatable", hint="seed what is drawn")
    ... def _repeats(cls):
    ...     '''One seed gives one result.'''
    >>> checks[0].expected
    'one seed gives one result'
    """

    def add(self, name: str, hint: str = "") -> Callable[[Run], Run]:
        """Decorator of a function that runs a check and whose docstring is the promise; see `Check`."""

        def append(run: Run) -> Run:
            promise = (run.__doc__ or "").removesuffix(".")
            self.append(Check(name, run, promise[:1].lower() + promise[1:], hint))
            return run

        return append


@dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    Arguments
    ---------
    check : Check
    passed : bool
        Also true if the check does not apply; `found` then says why.
    found : str
        What was measured; empty if all is as expected.
    applicable : bool
    place : str
        `file:line` of a failure.
    seconds : float
        How long the check took.
    error : Exception or None
        What the check or the plugin raised.
    hint : str
        How to correct this failure; empty for most exceptions of a plugin's code.
    nan : bool
        Whether it comes from a NaN, which `place` made first.
    """

    check: Check
    passed: bool
    found: str = ""
    applicable: bool = True
    place: str = ""
    seconds: float = 0.0
    error: Exception | None = None
    hint: str = ""
    nan: bool = False

    @property
    def raised(self) -> bool:
        """Whether the plugin's code raised an exception, so that the check could not be completed."""
        return self.error is not None and not isinstance(self.error, CheckFailed)

    @property
    def outcome(self) -> str:
        """`pass`, `FAIL` or `n/a`."""
        return ("pass" if self.applicable else "n/a") if self.passed else "FAIL"

    def __str__(self) -> str:
        if self.passed:
            return f"{self.outcome:4}  {self.check.name}" + (f" ({self.found})" if self.found else "")
        return (
            f"FAIL  {self.check.name}\n      expected: {self.check.expected}\n      found: {self.found}\n"
            f"      where: {self.place}" + (f"\n      hint: {self.hint}" if self.hint else "")
        )


def checks_of(kind: str) -> list[Check]:
    """The checks of a kind."""
    return list(importlib.import_module(f"avse.conformance.{kind}").CHECKS)


def does_not_apply(kind: str) -> dict[str, str]:
    """Those of `PROMISES` that do not apply to a kind, and why.

    Example
    -------
    >>> does_not_apply("corruption")["gradients"]
    'nothing to learn'
    """
    return dict(getattr(importlib.import_module(f"avse.conformance.{kind}"), "DOES_NOT_APPLY", {}))


def run_checks(cls: type[Any], kind: str | None = None) -> list[CheckResult]:
    """Run every check of its kind on a plugin class; an exception does not stop the next check.

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


def run_check(check: Check, cls: type[Any]) -> CheckResult:
    """Run one check on a plugin class; every exception becomes part of the result."""
    begin = time.perf_counter()
    try:
        check.run(cls)
    except NotApplicable as reason:
        return CheckResult(check, True, str(reason), applicable=False, seconds=time.perf_counter() - begin)
    except Exception as error:
        seconds = time.perf_counter() - begin
        found = str(error) if isinstance(error, CheckFailed) else f"raised {type(error).__name__}: {error}"
        place, hint = _place_of_failure(error, cls), _hint(check, error, cls)
        result = CheckResult(check, False, found, place=place, seconds=seconds, error=error, hint=hint)
        if re.search(r"\bnan\b", found, re.IGNORECASE) and (first := _first_nan(check, cls)):
            return replace(result, found=f"{found}; the first NaN comes from {first[0]}", place=first[1], nan=True)
        return result
    return CheckResult(check, True, seconds=time.perf_counter() - begin)


def expect(condition: Any, found: str, place: str = "") -> None:
    """Fail the running check with what was measured unless the condition holds."""
    if not bool(condition):
        raise CheckFailed(found, place)


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


def build(cls: type[Any], train: bool = False, seed: int = 0, **others: Any) -> Any:
    """A seeded example instance, in evaluation mode by default.

    Arguments
    ---------
    cls : type
    train : bool
    seed : int
    **others :
        Arguments that replace or complement those of the example.

    Raises
    ------
    NotApplicable
        If an optional package that the plugin needs is not installed.
    """
    with seeded(seed):
        try:
            instance = cls(**{**cls.example_arguments(), **others}) if others else cls.example()
        except AvseError as error:
            if "not installed" in str(error):
                raise NotApplicable(str(error)) from error
            raise
    if hasattr(instance, "train"):
        instance.train(train)
    return instance


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Seed the global generators of torch, numpy and `random` inside, and put back their states after."""
    import random

    import numpy as np
    import torch

    python_state, numpy_state = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)


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


def contract_methods(cls: type[Any]) -> list[str]:
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


def _first_nan(check: Check, cls: type[Any]) -> tuple[str, str] | None:
    """The first call of torch that makes NaN of numbers in a check, and its place in the plugin's code."""
    import torch
    from torch.overrides import TorchFunctionMode

    def has_nan(value: Any) -> bool:
        if isinstance(value, torch.Tensor):
            floating = (value.is_floating_point() or value.is_complex()) and not value.is_meta
            return floating and bool(value.detach().isnan().any())
        return isinstance(value, (tuple, list)) and any(map(has_nan, value))

    found: list[tuple[str, str]] = []

    class Watch(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = function(*args, **(kwargs or {}))
            name = getattr(function, "__name__", str(function))
            unset = "empty" in name  # memory that is written to before it counts
            if not found and not unset and has_nan(result) and not has_nan([*args, *(kwargs or {}).values()]):
                found.append((name, _deepest(traceback.extract_stack()[:-1], cls) or _place_of_class(cls)))
            return result

    with contextlib.suppress(Exception), Watch():
        check.run(cls)
    return found[0] if found else None


def _largest(one: torch.Tensor, two: torch.Tensor) -> float:
    return (one.double() - two.double()).abs().max().item() if one.numel() else 0.0


def _hint(check: Check, error: Exception, cls: type[Any]) -> str:
    """How to correct a failure; the hint of the check does not help if the plugin raised an exception before."""
    base = _contract_of(cls)
    if _is_wrong_call_of_constructor(error, cls):
        asked = list(inspect.signature(base).parameters) if base is not None and "__init__" in vars(base) else []
        others = "`example_arguments` gives a value to each argument without a default, and to no others"
        return f"the constructor takes {' and '.join(asked)}; {others}" if asked else others
    advice = [check.hint] if isinstance(error, CheckFailed) else []
    forward = vars(base).get("forward") if base is not None else None
    if forward is not None and "forward" not in contract_methods(cls) and cls.forward is not forward:
        methods = " and ".join(f"`{name}`" for name in contract_methods(cls))
        if "leave `forward` to the contract" not in check.hint or not advice:
            advice = [f"leave `forward` to the contract and write {methods} only", *advice]
    return "; else: ".join(advice)


def _contract_of(cls: type[Any]) -> type[Any] | None:
    """The nearest base class of `avse.contracts` with abstract methods."""
    contracts = (base for base in cls.__mro__ if base.__module__.startswith("avse.contracts."))
    return next((base for base in contracts if getattr(base, "__abstractmethods__", None)), None)


def _is_wrong_call_of_constructor(error: Exception, cls: type[Any]) -> bool:
    """Whether the example's arguments, or those that every plugin of the kind takes, do not fit the constructor."""
    constructor = inspect.getattr_static(cls, "__init__")
    return isinstance(error, TypeError) and str(error).startswith(
        (f"{constructor.__qualname__}()", f"{cls.__name__}()")
    )


def _place_of_failure(error: Exception, cls: type[Any]) -> str:
    """The place the check names; else the deepest line of the plugin's file, or of others called; else its method."""
    if isinstance(error, CheckFailed) and error.place:
        return error.place
    constructor = getattr(inspect.getattr_static(cls, "__init__"), "__code__", None)
    if (
        constructor is not None
        and constructor.co_filename in _own_files(cls)
        and _is_wrong_call_of_constructor(error, cls)
    ):
        return f"{constructor.co_filename}:{constructor.co_firstlineno}"
    return _deepest(traceback.extract_tb(error.__traceback__), cls) or _place_of_class(cls)


def _deepest(stack: Sequence[traceback.FrameSummary], cls: type[Any]) -> str:
    """The deepest line of the plugin's file, or of others called, where the checks themselves do not count."""
    foreign = (str(_OWN_FOLDER), sysconfig.get_paths()["purelib"], sysconfig.get_paths()["stdlib"])
    frames = [(frame.filename, frame.lineno) for frame in stack]
    called = [frame for frame in frames if not frame[0].startswith(foreign)]
    causes = [frame for frame in frames if frame[0] in _own_files(cls)] or called
    return "{}:{}".format(*causes[-1]) if causes else ""


def _own_files(cls: type[Any]) -> set[str]:
    return {_place_of_class(cls).rpartition(":")[0], _file_of(cls)} - {""}


def _file_of(cls: type[Any]) -> str:
    try:
        return inspect.getsourcefile(cls) or ""
    except (OSError, TypeError):
        return ""


def _place_of_class(cls: type[Any]) -> str:
    """The only abstract method of the contract, if there is just one and the plugin has it; else the class."""
    methods = [getattr(cls, name, None) for name in contract_methods(cls)]
    code = getattr(inspect.unwrap(methods[0]), "__code__", None) if len(methods) == 1 and methods[0] else None
    if code is not None and "avse.contracts." not in getattr(methods[0], "__module__", ""):
        return f"{code.co_filename}:{code.co_firstlineno}"
    try:
        return f"{inspect.getsourcefile(cls)}:{inspect.getsourcelines(cls)[1]}"
    except (OSError, TypeError):
        return cls.__module__
