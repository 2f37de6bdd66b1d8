"""Rooms by the image method: the images themselves, the decay, the early target and its clock, and wrong arguments."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from avse.data.rooms import Room, Rooms, image_response
from avse.errors import AvseError

SIZE, MICROPHONE, SOURCE = np.array([5.0, 4.0, 3.0]), np.array([1.4, 2.1, 1.5]), np.array([3.3, 1.2, 1.9])


def _decay_time(response: np.ndarray) -> float:
    """T60 from the slope of Schroeder's backward integral between -5 and -25 dB."""
    energy = np.cumsum(response[::-1].astype(np.float64) ** 2)[::-1]
    level = 10 * np.log10(energy / energy[0])
    place = np.flatnonzero((level <= -5) & (level >= -25))
    return -60 / (np.polyfit(place / 16000, level[place], 1)[0])


def _naive_images(rt60: float) -> np.ndarray:
    """The first 50 ms, image by image, with exact fractional delays in the frequency domain."""
    volume, surface = SIZE.prod(), 2 * (SIZE[0] * SIZE[1] + SIZE[1] * SIZE[2] + SIZE[0] * SIZE[2])
    absorption = 1 - np.exp(-24 * np.log(10) * volume / (343 * surface * rt60))
    frequency = np.fft.rfftfreq(4096)
    spectrum = np.zeros(len(frequency), dtype=complex)
    direct = np.linalg.norm(SOURCE - MICROPHONE)
    for cells in itertools.product(range(-5, 6), repeat=3):
        for mirrored in itertools.product((0, 1), repeat=3):
            image = 2 * np.array(cells) * SIZE + np.where(mirrored, -SOURCE, SOURCE)
            bounces = np.abs(2 * np.array(cells) - mirrored).sum()
            distance = np.linalg.norm(image - MICROPHONE)
            delay = (distance - direct) * 16000 / 343
            if delay < 800:
                amplitude = np.sqrt(1 - absorption) ** bounces * direct / distance
                spectrum += amplitude * np.exp(-2j * np.pi * frequency * delay)
    return np.fft.irfft(spectrum)


def test_the_early_part_is_that_of_all_images() -> None:
    found = np.fft.rfft(image_response(SIZE, MICROPHONE, SOURCE, 0.4, np.random.default_rng(0))[:700], 4096)
    expected = np.fft.rfft(_naive_images(0.4)[:700], 4096)
    band = slice(4096 // 16, 4096 * 6 // 16)  # 1 to 6 kHz, above the high-pass and below the fractional delays' slope
    error = np.sum(np.abs(found[band] - expected[band]) ** 2) / np.sum(np.abs(expected[band]) ** 2)
    assert error < 0.005


def test_the_response_begins_with_the_direct_path() -> None:
    response = image_response(SIZE, MICROPHONE, SOURCE, 0.4, np.random.default_rng(0))
    assert response.dtype == np.float32
    assert response[0] == 1.0
    assert np.abs(response[1:]).max() < 1.0
    near = image_response(SIZE, MICROPHONE, MICROPHONE + 0.1, 0.4, np.random.default_rng(0))
    assert np.sum(near[1:] ** 2) < 0.1 * np.sum(response[1:] ** 2)


@pytest.mark.parametrize("rt60", [0.15, 0.3, 0.8])
def test_rooms_decay_in_the_time_that_was_asked_for(rt60: float) -> None:
    rng = np.random.default_rng(3)
    rooms = Rooms(share=1.0, rt60=(rt60, rt60))
    for _ in range(12):
        room = rooms.draw(rng)
        assert room is not None
        reflections = room._response(0.3, 3.0)
        reflections[0] = 0.0
        assert _decay_time(reflections) == pytest.approx(rt60, rel=0.2)


def test_level_goes_on_where_images_end() -> None:
    levels = []
    for seed in range(40):
        response = image_response(SIZE, MICROPHONE, SOURCE, 0.5, np.random.default_rng(seed))
        levels.append(10 * np.log10(np.sum(response[800:1000] ** 2) / np.sum(response[600:800] ** 2)))
    assert np.mean(levels) == pytest.approx(-60 * 200 / 16000 / 0.5, abs=1.5)


def test_the_target_is_the_early_part_on_the_clock_of_the_speech() -> None:
    room = Rooms(share=1.0).draw(np.random.default_rng(5))
    assert room is not None
    click = np.zeros(4000, dtype=np.float32)
    click[1000] = 1.0
    reverberant, early = room.target(click)
    assert reverberant.dtype == early.dtype == np.float32
    for heard in (reverberant, early):
        assert np.abs(heard[:1000]).max() < 1e-5
        assert np.argmax(np.abs(heard)) == 1000
        assert heard[1000] == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_allclose(early[:1800], reverberant[:1800], atol=1e-5)
    assert np.abs(early[1800:]).max() < 1e-5 < np.abs(reverberant[1800:]).max()


def test_each_source_has_a_place_of_its_own_in_the_room() -> None:
    rooms = Rooms(share=1.0, distance=(0.5, 2.0))
    for seed in range(50):
        room = rooms.draw(np.random.default_rng(seed))
        assert isinstance(room, Room)
        assert ((np.array(rooms.smallest) <= room.size) & (room.size <= rooms.largest)).all()
        assert ((room.microphone >= 0.5) & (room.microphone <= room.size - 0.5)).all()
    click = np.r_[1.0, np.zeros(3999)].astype(np.float32)
    places = [room.interference(click)[0] for _ in range(3)]
    for one, other in itertools.combinations(places, 2):
        assert np.abs(one[20:800] - other[20:800]).max() > 0.01
    assert all(place.dtype == np.float32 and place.shape == click.shape for place in places)


def test_interference_is_reverberant_from_its_first_sample() -> None:
    room = Rooms(share=1.0, rt60=(0.6, 0.6), distance=(2.0, 3.0)).draw(np.random.default_rng(0))
    assert room is not None
    noise, early = room.interference(np.random.default_rng(1).standard_normal(32000).astype(np.float32))
    assert np.sum(early**2) < np.sum(noise**2)
    assert np.mean(noise[:800] ** 2) == pytest.approx(np.mean(noise**2), rel=0.4)
    assert room.interference(np.ones(300, dtype=np.float32))[0].shape == (300,)


def test_share_of_rooms() -> None:
    rng = np.random.default_rng(0)
    assert sum(Rooms(share=0.35).draw(rng) is not None for _ in range(1000)) == pytest.approx(350, abs=50)
    assert Rooms(share=0.0).draw(rng) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"share": 1.2},
        {"share": float("nan")},
        {"rt60": (0.8, 0.2)},
        {"rt60": (0.0, 0.5)},
        {"rt60": (0.3,)},
        {"distance": (-1.0, 2.0)},
        {"smallest": (1.0, 1.0, 1.0)},
        {"smallest": (9.0, 3.0, 2.4)},
        {"largest": (8.0, 6.0)},
    ],
)
def test_wrong_arguments_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(AvseError, match="Rooms: "):
        Rooms(**wrong)
