"""Rows of scores as CSV files."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avse.errors import AvseError
from avse.evaluation.scoring import ABOUT, CLEAN, FRAMES, Row
from avse.files import write_csv

_TEXT = {*ABOUT, "video", "sexes"} - {"snr", "duration"}
_OLD_NAMES = {"intact_frames": FRAMES[0], "spoiled_frames": FRAMES[1]}  # columns of the last release
_LONGEST_CELL = 2**31 - 1  # the reliability of each frame of an hour is longer than a cell may be by default


def read_rows(path: Path) -> list[Row]:
    """Rows of a file of scores: numbers as float, None where there is none, values of frames as arrays.

    Raises
    ------
    AvseError
        If a line holds anything else. The last line may be broken off: it was being written when a run was killed.
    """
    csv.field_size_limit(_LONGEST_CELL)
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        try:
            return [
                {(name := _OLD_NAMES.get(key, key)): _value(name, value) for key, value in row.items()}
                for row in reader
                if None not in row.values()
            ]
        except (ValueError, TypeError) as error:
            raise AvseError(f"{path}:{reader.line_num}: is no line of scores ({error}). Evaluate again.") from None


def write_rows(path: Path, rows: Sequence[Row], header: Sequence[str]) -> None:
    """Write the columns of `header`; nothing half-written is left."""
    write_csv(path, [header, *(cells(row, header) for row in rows)])


def cells(row: Row, header: Sequence[str]) -> list[Any]:
    """What a file holds of the columns of a row, numbers with six digits."""
    return [_text(row.get(name)) for name in header]


def _text(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return " ".join(f"{one:.5g}" for one in value)
    return f"{value:.6g}" if isinstance(value, float) else value


def _value(key: str, text: str) -> Any:
    if key in _TEXT:
        return CLEAN if (key, text) == ("video", "intact") else text
    if key in FRAMES:
        return np.array(text.split(), dtype=np.float64)
    return text if (key, text) == ("severity", "mean") else float(text) if text else None
