"""The part of the demo with two speakers: the same audio gives two voices, by the faces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avse import demo
from avse.media import read_clip


def test_two_speakers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_SECONDS", 2.0)
    made = demo.run_two_speakers(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"two.mp4", "two.left.mp4", "two.right.mp4", "two.png"}
    assert list(made.scores)[:3] == ["mixture", "enhanced, left face", "enhanced, right face"]
    assert all(abs(score) < 0.5 for score in made.scores["mixture"].values())  # equally loud, in light noise
    for face, other in (("left", "right"), ("right", "left")):
        row = made.scores[f"enhanced, {face} face"]
        assert row[face] > 5.0 and row[other] < -5.0
    left, right = (read_clip(file, use_video=False).audio for file in made.enhanced.values())
    assert len(left) == len(right) and np.abs(left - right).max() > 0.1
    cells = [list(column.cells) for column in demo.two_speakers_table(made).columns]
    assert len(cells) == 3 and cells[1][0] == f"{made.scores['mixture']['left']:.2f}"
