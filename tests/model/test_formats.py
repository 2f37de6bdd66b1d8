"""Model folders of past formats, written once and never again, load and give what they gave."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import avse
from avse.compatibility import WEIGHTS
from avse.model_folder import FORMAT

FOLDERS = Path(__file__).parent / "formats"  # format 1: tests/golden/models
# Every 400th sample of the enhanced clip below: of weights in 16 bits (2) and in 8 bits (3).
SPEECH = {
    2: [-0.01227, 0.03017, -0.06657, -0.03493, 0.05523, 0.04162, -0.0096, -0.008],
    3: [-0.012, 0.02997, -0.06719, -0.03511, 0.05529, 0.04196, -0.00951, -0.0077],
}


def test_each_past_format_has_a_folder() -> None:
    golden = Path(__file__).parents[1] / "golden" / "models" / "vae" / "model.json"
    found = [json.loads(path.read_text())["format"] for path in (golden, *sorted(FOLDERS.glob("*/model.json")))]
    assert found == list(range(1, FORMAT + 1)), "write a folder of the new format to tests/model/formats"
    assert max(WEIGHTS) < FORMAT


@pytest.mark.parametrize("number", SPEECH)
def test_a_past_format_gives_what_it_gave(number: int) -> None:
    rng = np.random.default_rng(0)
    audio = 0.1 * rng.standard_normal(3200).astype(np.float32)
    clip = avse.Clip(audio, rng.integers(0, 255, (5, 88, 88), dtype=np.uint8), np.ones(5, bool))
    [estimate] = avse.load(FOLDERS / str(number)).enhance_batch([clip])
    assert estimate.speech[::400].tolist() == pytest.approx(SPEECH[number], abs=2e-5)
