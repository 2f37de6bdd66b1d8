"""Every embedded model and every inference gives what it gave, and model folders of past formats load.

`models/` holds small untrained systems, written once in format 1; they are never written again. Where a method is
corrected on purpose, `python -m tests.golden.test_golden CASE` from the root of the checkout pins the new values.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from .cases import cases

EXPECTED = Path(__file__).parent / "expected.safetensors"
CASES = cases()


@pytest.fixture(scope="module")
def expected() -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(EXPECTED)


@pytest.mark.parametrize("case", CASES)
def test_gives_what_it_gave(case: str, expected: dict[str, torch.Tensor]) -> None:
    found = CASES[case]()
    wanted = {name.partition("/")[2]: value for name, value in expected.items() if name.partition("/")[0] == case}
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].shape == value.shape, name
        scale = value.square().mean().sqrt().item() + 1e-6
        torch.testing.assert_close(
            found[name], value, rtol=0, atol=2e-3 * scale, msg=lambda text, n=name: f"{n}: {text}"
        )


def _pin(chosen: list[str]) -> None:
    values = safetensors.torch.load_file(EXPECTED) if EXPECTED.is_file() else {}
    values = {name: value for name, value in values.items() if name.partition("/")[0] in set(CASES) - set(chosen)}
    for case in chosen:
        values |= {f"{case}/{name}": value.contiguous() for name, value in CASES[case]().items()}
    safetensors.torch.save_file(values, EXPECTED)


if __name__ == "__main__":
    _pin(sys.argv[1:])
