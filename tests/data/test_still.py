"""Mouths at rest."""

import numpy as np
import pytest

from avse.data.still import at_rest, longest_pause

FRAME = 640


def speech(active: list[int]) -> np.ndarray:
    """Noise in frames with a one, silence in those with a zero."""
    levels = np.repeat(np.asarray(active, dtype=float), FRAME)
    return levels * np.random.default_rng(0).standard_normal(len(levels))


def test_longest_pause_is_found_away_from_speech() -> None:
    audio = speech([1, 1] + [0] * 12 + [1] + [0] * 9 + [1])
    assert longest_pause(audio, np.ones(25, dtype=bool)) == slice(4, 12)
    assert longest_pause(audio, np.ones(25, dtype=bool), margin=0) == slice(2, 14)


def test_invalid_frames_end_a_pause() -> None:
    valid = np.ones(25, dtype=bool)
    valid[8] = False
    assert longest_pause(speech([1, 1] + [0] * 12 + [1] + [0] * 10), valid) == slice(17, 25)
    assert longest_pause(speech([1, 1] + [0] * 12 + [1] + [0] * 10), valid & False) is None


@pytest.mark.parametrize("frames", [0, 1, 4])
def test_a_clip_that_is_too_short_has_no_pause(frames: int) -> None:
    assert longest_pause(np.zeros(frames * FRAME), np.ones(frames, dtype=bool)) is None


def test_quiet_speech_is_no_pause() -> None:
    assert longest_pause(speech([1.0] * 5 + [0.05] * 20), np.ones(25, dtype=bool)) is None  # -26 dB
    assert longest_pause(speech([1.0] * 5 + [0.01] * 20), np.ones(25, dtype=bool)) == slice(7, 25)


def test_a_pause_of_one_frame_is_held() -> None:
    assert at_rest(slice(7, 8), 5, np.random.default_rng(0)).tolist() == [7] * 5
