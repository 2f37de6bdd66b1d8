"""The check that time and memory grow with the length of a clip as a plugin declares.

Work is counted, not timed, so that the result is the same on every machine and in every run.
"""

from __future__ import annotations

import os
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

from avse.conformance.core import CheckFailed, build, expect, seeded

LINEAR, QUADRATIC = 2.5, 5.0
"""The largest growth of the work for a clip of twice the length; a little more than 2 and 4, for rounding."""
_NEGLIGIBLE = 20_000  # values written or multiplied by one line of code
_SKIPPED = (os.path.dirname(torch.__file__), os.path.dirname(__file__))


def grows_as_declared(
    cls: type[Any], inputs: Callable[[Any, int], tuple], outputs: Callable[..., list[torch.Tensor]]
) -> None:
    """Fail if a line of code does more than twice the work (four times, if quadratic) for a clip of twice the length.

    `inputs` takes the module and 1 or 2, the number of times the shorter length.
    """
    module = build(cls)
    work = []
    for times in (1, 2):
        given = inputs(module, times)
        with torch.no_grad(), seeded(3), _Work() as counted:
            outputs(module, *given)
        work.append(counted.by_place)
    short, long = work
    declared, bound = _declared(module)
    complexity = {place: long[place] / short[place] for place in long if short[place] and long[place] > _NEGLIGIBLE}
    if not complexity:
        return
    (place, name), worst = max(complexity.items(), key=lambda item: item[1])
    total = sum(long.values()) / max(1, sum(short.values()))
    expect(
        worst <= bound,
        f"for a clip of twice the length, `{name}` does {worst:.1f} times the work ({short[place, name]:,} and "
        f"{long[place, name]:,} values); complexity is declared {declared}",
        place,
    )
    expect(total <= bound, f"a clip of twice the length takes {total:.1f} times the work; declared {declared}")


def grows_without_torch(cls: type[Any], inputs: Callable[[int, int], tuple]) -> None:
    """The same for a plugin that takes arrays, by function calls and the peak of memory; `inputs` takes a seed too."""
    plugin = build(cls)
    declared, bound = _declared(plugin)
    plugin(*inputs(1, 0))  # imports modules and fills caches
    costs = [_cost(plugin, inputs(times, 1)) for times in (1, 2)]
    for short, long, what, least in zip(*costs, ("function calls", "bytes at once"), (2_000, 1_000_000)):
        expect(
            long <= least or long <= bound * short,
            f"a clip of twice the length takes {long / max(1, short):.1f} times the {what} ({short:,} and {long:,}); "
            f"complexity is declared {declared}",
        )


def _declared(plugin: Any) -> tuple[str, float]:
    bounds = {"linear": LINEAR, "quadratic": QUADRATIC}
    if plugin.complexity not in bounds:
        raise CheckFailed(f"complexity is {plugin.complexity!r}, not linear or quadratic")
    return plugin.complexity, bounds[plugin.complexity]


class _Work(TorchDispatchMode):
    """Values written and multiplications done, by line of code and operation."""

    def __init__(self) -> None:
        super().__init__()
        self.by_place: Counter[tuple[str, str]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        is_view = any(out.alias_info is not None and not out.alias_info.is_write for out in func._schema.returns)
        if not is_view:  # a view costs nothing
            written = sum(max(1, leaf.numel()) for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor))
            self.by_place[_calling_line(), func.__name__] += written + _multiplications(func, args, kwargs or {}, out)
        return out


def _multiplications(func: Any, args: tuple, kwargs: dict, out: Any) -> int:
    name = func._overloadpacket.__name__
    if name.startswith("_scaled_dot_product") and "backward" not in name:
        return int(sdpa_flop_count(*(tensor.shape for tensor in args[:3])))
    counted = flop_registry.get(func._overloadpacket)
    return int(counted(*args, **kwargs, out_val=out)) if counted else 0


def _calling_line() -> str:
    """The innermost line outside of torch and of these checks."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename.startswith((*_SKIPPED, "<")):
        frame = frame.f_back
    return "?" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _cost(plugin: Any, given: tuple) -> tuple[int, int]:
    """Function calls, and the peak of memory that Python and NumPy took, in bytes."""
    calls = 0

    def note(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    profiler, was_tracing = sys.getprofile(), tracemalloc.is_tracing()
    if not was_tracing:
        tracemalloc.start()
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    sys.setprofile(note)
    try:
        result = plugin(*given)
        sys.setprofile(profiler)
        peak = tracemalloc.get_traced_memory()[1] - before
        del result
        return calls, peak
    finally:
        sys.setprofile(profiler)
        if not was_tracing:
            tracemalloc.stop()
