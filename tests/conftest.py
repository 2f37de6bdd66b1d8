"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real clips: `AVSE_DATA`, or `../shared/data` beside the checkout; skips where there is none."""
    folder = Path(os.environ.get("AVSE_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "manifest.csv").is_file():
        pytest.skip(f"no real clips: {folder}/manifest.csv is missing (set AVSE_DATA)")
    return folder
