"""Model folders of past formats, written once and never again, load and give what they gave."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import avse
from avse.compatibility import WEIGHTS
from avse.model_folder import FORMAT

FOLDERS = Path(__file__).parent / "formats"
# Every 400th sample of the enhanced clip below, by the last code that wrote the format (3: by the first): weights in 16
# bits (1, 2) and in 8 bits (3).
SPEECH = {
    1: [0.02246, -0.0498, -0.0739, -0.05786, 0.05158, 0.01566, 0.04633, -0.07782],
    2: [-0.0009, -0.01911, -0.07847, -0.1263, 0.04116, -0.01635, 0.05522, -0.07042],
    3: [0.01271, -0.03027, -0.10694, -0.10165, 0.0217, 0.00735, -0.00184, -0.06131],
}


def test_each_past_format_has_a_folder() -> None:
    found = [json.loads(path.read_text())["format"] for path in sorted(FOLDERS.glob("*/model.json"))]
    assert found == list(range(1, FORMAT + 1)), "write a folder of the new format to tests/model/formats"
    assert max(WEIGHTS) < FORMAT


@pytest.mark.parametrize("number", SPEECH)
def test_a_past_format_gives_what_it_gave(number: int) -> None:
    rng = np.random.default_rng(0)
    audio = 0.1 * rng.standard_normal(3200).astype(np.float32)
    clip = avse.Clip(audio, rng.integers(0, 255, (5, 88, 88), dtype=np.uint8), np.ones(5, bool))
    [estimate] = avse.load(FOLDERS / str(number)).enhance_batch([clip])
    assert estimate.speech[::400].tolist() == pytest.approx(SPEECH[number], abs=2e-5)
