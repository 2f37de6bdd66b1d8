"""One channel of several: a voice keeps its level wherever it is."""

from __future__ import annotations

import numpy as np
import pytest

from avse.signal.downmix import Downmix

RATE = 16_000
FILM = ["FL", "FR", "FC", "LFE", "BL", "BR"]
RNG = np.random.default_rng(0)
VOICE, OTHER = (RNG.normal(0, 0.1, 4 * RATE).astype(np.float32) for _ in range(2))
SILENCE = np.zeros_like(VOICE)


def mixed(names: list[str], *channels: np.ndarray) -> np.ndarray:
    downmix, whole = Downmix(names, RATE), np.stack(channels)
    return np.concatenate([downmix(whole[:, at : at + 8000]) for at in range(0, whole.shape[1], 8000)])


@pytest.mark.parametrize("sides", [(1, 1), (1, -1), (1, 0), (0, 1), (1, 0.5), (-0.25, 1)])
def test_a_voice_in_two_channels_has_the_level_of_the_louder(sides: tuple[float, float]) -> None:
    loudest = max(sides, key=abs)
    result = mixed(["FL", "FR"], *(np.float32(side) * VOICE for side in sides))
    assert np.abs(result) == pytest.approx(np.abs(loudest * VOICE), abs=1e-6)
    assert len(set(np.sign(result[1000:] * VOICE[1000:]).tolist()) - {0.0}) == 1


def test_equal_channels_give_themselves_bit_for_bit() -> None:
    assert (mixed(["FL", "FR"], VOICE, VOICE) == VOICE).all()


def test_the_centre_of_a_film_keeps_its_level_and_the_subwoofer_is_left_out() -> None:
    result = mixed(FILM, SILENCE, SILENCE, VOICE, 3 * OTHER, SILENCE, SILENCE)
    assert result == pytest.approx(VOICE, abs=1e-6)


def test_two_people_on_two_sides_are_both_heard() -> None:
    result = mixed(["FL", "FR"], VOICE, OTHER)
    assert np.corrcoef(result, VOICE)[0, 1] == pytest.approx(np.sqrt(0.5), abs=0.02)
    assert result.std() == pytest.approx(VOICE.std(), rel=0.02)


def test_a_channel_that_turns_around_is_followed_without_a_jump() -> None:
    turned = np.where(np.arange(len(VOICE)) < 2 * RATE, VOICE, -VOICE)
    result = mixed(["FL", "FR"], np.tile(VOICE, 3), np.concatenate([turned, -VOICE, -VOICE]))
    assert result[: 2 * RATE] == pytest.approx(VOICE[: 2 * RATE], abs=1e-6)
    assert np.abs(result[-RATE:]) == pytest.approx(np.abs(VOICE[-RATE:]), rel=0.02, abs=1e-4)


def test_silence_at_the_start_decides_nothing() -> None:
    result = mixed(["FL", "FR"], np.concatenate([SILENCE, VOICE]), np.concatenate([SILENCE, -VOICE]))
    assert np.abs(result[-RATE:]) == pytest.approx(np.abs(VOICE[-RATE:]), abs=1e-6)
