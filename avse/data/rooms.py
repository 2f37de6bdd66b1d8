"""Reverberation: rooms drawn for training by the image method, measured rooms, and the statistical model of a room.

All give responses that start with their direct path, so that speech keeps the clock of its video.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from avse.contracts.types import SAMPLE_RATE
from avse.data.manifest import read_manifest
from avse.errors import AvseError

_EARLY = SAMPLE_RATE // 20
_FIRST_REFLECTION = SAMPLE_RATE // 500
_SPEED_OF_SOUND = 343.0
_HALF, _FRACTIONS = 16, 64  # taps of a fractional delay, either way; delays per sample
_LEVEL = _EARLY * 3 // 5  # from here on, the end of the early part sets the level of the late one
_MICROPHONE_TO_WALL, _SOURCE_TO_WALL = 0.5, 0.2
_TRIES = 64


@dataclass
class Rooms:
    """How often and which rooms are heard in training.

    Arguments
    ---------
    share : float
        Probability of a room.
    rt60 : (float, float)
        Range of seconds in which the reverberation falls by 60 dB.
    distance : (float, float)
        Range of metres from the target to the microphone; less where the room is too small.
    smallest, largest : (float, float, float)
        Range of length, width and height in metres.

    Raises
    ------
    AvseError
        If a range is empty or out of bounds.
    """

    share: float = 0.35
    rt60: Sequence[float] = (0.15, 0.8)
    distance: Sequence[float] = (0.3, 3.0)
    smallest: Sequence[float] = (3.0, 3.0, 2.4)
    largest: Sequence[float] = (8.0, 6.0, 3.5)

    def __post_init__(self) -> None:
        for name, values, low, high in (
            ("share", [self.share], 0.0, 1.0),
            ("rt60", self.rt60, 0.05, 5.0),
            ("distance", self.distance, 0.1, 20.0),
            ("smallest", self.smallest, 2.0, 50.0),
            ("largest", self.largest, 2.0, 50.0),
        ):
            count = {"share": 1, "rt60": 2, "distance": 2}.get(name, 3)
            if len(values) != count or not all(low <= value <= high for value in values):
                raise AvseError(f"Rooms: {name} must be {count} number(s) from {low:g} to {high:g}, got {values}.")
        for name, lower, upper in (
            ("rt60", self.rt60[:1], self.rt60[1:]),
            ("distance", self.distance[:1], self.distance[1:]),
            ("largest", self.smallest, self.largest),
        ):
            if any(above < below for below, above in zip(lower, upper)):
                raise AvseError(
                    f"Rooms: {name} must not be less than its lower bound {list(lower)}, got {list(upper)}."
                )

    def draw(self, rng: np.random.Generator) -> Room | None:
        """A room with a microphone, or none with probability `1 - share`."""
        if rng.random() >= self.share:
            return None
        size = rng.uniform(np.asarray(self.smallest), np.asarray(self.largest))
        microphone = rng.uniform(_MICROPHONE_TO_WALL, size - _MICROPHONE_TO_WALL)
        return Room(
            size, microphone, float(rng.uniform(self.rt60[0], self.rt60[1])), (self.distance[0], self.distance[1]), rng
        )


@dataclass
class Room:
    """One room, and where its microphone is.

    Arguments
    ---------
    size, microphone : array, shape (3,)
        Metres.
    rt60 : float
        Seconds.
    distance : (float, float)
        Range of metres from the target to the microphone. Interfering sources are anywhere in the room, no nearer
        than the target may be.
    rng : numpy.random.Generator
        Draws the positions and the late reverberation.
    """

    size: np.ndarray
    microphone: np.ndarray
    rt60: float
    distance: tuple[float, float]
    rng: np.random.Generator

    def target(self, speech: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The target's speech with all reflections and with the early ones; see `reverberate`."""
        return reverberate(speech, self._response(*self.distance))

    def interference(self, audio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """An interfering source with all reflections and with the early ones; each call puts one at another place.

        The reverberation of its end is heard at its beginning, since a source that others lead in has no onset.
        """
        response = self._response(self.distance[0], float(np.linalg.norm(self.size)))
        return _heard(audio, response[: len(audio)], len(audio))

    def _response(self, nearest: float, farthest: float) -> np.ndarray:
        """Response of a random place, `nearest` to `farthest` metres from the microphone where the room has one."""
        directions = self.rng.standard_normal((_TRIES, 3))
        directions *= (self.rng.uniform(nearest, farthest, _TRIES) / np.linalg.norm(directions, axis=1))[:, None]
        places = self.microphone + directions
        inside = np.clip(places, _SOURCE_TO_WALL, self.size - _SOURCE_TO_WALL)
        source = inside[np.argmax((places == inside).all(axis=1))]
        return image_response(self.size, self.microphone, source, self.rt60, self.rng)


@dataclass
class MeasuredRooms:
    """How often rooms of a manifest are heard in training, in place of `Rooms`.

    Arguments
    ---------
    manifest : path, or a list of them
        Its rows of kind `room` are impulse responses; those of one `recording` belong to one room. `avse prepare`
        writes it: datasets `openslr28` and `but_reverbdb`.
    share : float
        Probability of a room.
    split : str
        Rooms of this split.
    """

    manifest: str | Path | Sequence[str | Path]
    share: float = 0.35
    split: str = "train"

    @cached_property
    def responses(self) -> list[list[Path]]:
        """Files of the responses of each room."""
        rooms: dict[str, list[Path]] = {}
        for row in read_manifest(self.manifest, splits=[self.split], kinds=["room"]):
            rooms.setdefault(row.recording or row.id, []).append(row.audio)
        if not rooms:
            raise AvseError(f"{self.manifest}: has no rows of kind room in the split {self.split}.")
        return [rooms[name] for name in sorted(rooms)]

    def draw(self, rng: np.random.Generator) -> MeasuredRoom | None:
        """A room, or none with probability `1 - share`."""
        if rng.random() >= self.share:
            return None
        return MeasuredRoom(self.responses[int(rng.integers(len(self.responses)))], rng)


@dataclass
class MeasuredRoom:
    """One room with its measured responses, of which each source has one at random; see `Room`."""

    responses: Sequence[Path]
    rng: np.random.Generator

    def target(self, speech: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Room.target`."""
        return reverberate(speech, self._response())

    def interference(self, audio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Room.interference`."""
        return _heard(audio, self._response()[: len(audio)], len(audio))

    def _response(self) -> np.ndarray:
        return measured_response(self.responses[int(self.rng.integers(len(self.responses)))])


@lru_cache(maxsize=512)
def measured_response(path: Path) -> np.ndarray:
    """The first channel of a measured response from its direct path, which is 1, on; shape (taps,), float32.

    Raises
    ------
    AvseError
        If the file cannot be read or is silent.
    """
    import soundfile
    import soxr

    try:
        samples, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise AvseError(f"{path}: cannot be read as audio ({error}).") from error
    response = soxr.resample(samples[:, 0], rate, SAMPLE_RATE)
    direct = int(np.abs(response).argmax()) if len(response) else 0
    if not len(response) or not response[direct]:
        raise AvseError(f"{path}: is silent; it is no impulse response.")
    return response[direct:] / response[direct]


def image_response(
    size: np.ndarray, microphone: np.ndarray, source: np.ndarray, rt60: float, rng: np.random.Generator
) -> np.ndarray:
    """Response of a rectangular room: image sources for 50 ms, then exponentially decaying noise at their level.

    After 50 ms, reflections in rooms of up to 200 cubic metres are so dense that they are noise. The absorption of the
    walls follows from `rt60` by Eyring's formula.

    Arguments
    ---------
    size, microphone, source : array, shape (3,)
        Metres; places are measured from a corner.
    rt60 : float
        Seconds in which the reverberation falls by 60 dB.
    rng : numpy.random.Generator
        Draws the noise.

    Returns
    -------
    array, shape (taps,), float32
        Without the delay of the direct path: the first tap, 1, is the direct path.

    Papers: J. B. Allen, D. A. Berkley, Image method for efficiently simulating small-room acoustics, 1979; E. A.
    Lehmann, A. M. Johansson, Diffuse reverberation model for efficient image-source simulation of room impulse
    responses, 2010.

    Example
    -------
    >>> size, microphone, source = np.array([5.0, 4.0, 3.0]), np.array([2.0, 2.0, 1.5]), np.array([3.0, 2.0, 1.5])
    >>> response = image_response(size, microphone, source, 0.3, np.random.default_rng(0))
    >>> response.shape, float(response[0])
    ((5600,), 1.0)
    """
    reflection = np.exp(-12 * np.log(10) / (_SPEED_OF_SOUND * rt60 * 2 * (1 / size).sum()))
    direct = float(np.linalg.norm(source - microphone))
    reach = direct + _SPEED_OF_SOUND * _EARLY / SAMPLE_RATE
    squares, bounces = [], []
    for length, start, end in zip(size, source, microphone):
        twice = 2 * np.arange(-int(reach / length / 2) - 2, int(reach / length / 2) + 3)
        squares.append(np.r_[twice * length + start - end, twice * length - start - end] ** 2)
        bounces.append(np.r_[np.abs(twice), np.abs(twice - 1)])
    distance = np.sqrt(squares[0][:, None, None] + squares[1][:, None] + squares[2])
    bounce = bounces[0][:, None, None] + bounces[1][:, None] + bounces[2]
    heard = (distance < reach) & (bounce > 0)
    distance, bounce = distance[heard], bounce[heard]
    delay = (distance - direct) * SAMPLE_RATE / _SPEED_OF_SOUND
    first = np.rint(delay).astype(int)
    taps = _fractional_delays()[np.rint((delay - first + 0.5) * _FRACTIONS).astype(int)]
    taps = taps * (reflection**bounce * direct / distance)[:, None]
    places = first[:, None] + np.arange(2 * _HALF + 1)
    early = np.bincount(places.ravel(), taps.ravel(), _EARLY + 2 * _HALF + 1)[_HALF : _HALF + _EARLY]
    from scipy.signal import sosfilt

    # All images have one sign: without a high-pass they add up to a constant.
    early = sosfilt(_high_pass(), early)
    response = _decay(_EARLY + int(rt60 * SAMPLE_RATE), rt60)
    level = np.sqrt((early[_LEVEL:] ** 2).sum() / (response[_LEVEL:_EARLY] ** 2).sum())
    response *= level * rng.standard_normal(len(response))
    response[:_EARLY] = early
    response[0] = 1.0
    return response.astype(np.float32)


@lru_cache(maxsize=1)
def _fractional_delays() -> np.ndarray:
    """Windowed-sinc filters that delay by -0.5 to 0.5 samples, shape (fractions + 1, taps)."""
    offset = np.arange(-_HALF, _HALF + 1) - np.linspace(-0.5, 0.5, _FRACTIONS + 1)[:, None]
    return np.sinc(offset) * np.cos(np.pi * offset / (2 * _HALF + 2)) ** 2


@lru_cache(maxsize=1)
def _high_pass() -> np.ndarray:
    from scipy.signal import butter

    return butter(2, 50, "high", fs=SAMPLE_RATE, output="sos")


def _decay(taps: int, rt60: float) -> np.ndarray:
    return 10 ** (-3 * np.arange(taps) / (rt60 * SAMPLE_RATE))


def room_response(rt60: float, direct_db: float, rng: np.random.Generator) -> np.ndarray:
    """A room impulse response that starts with its direct path.

    Arguments
    ---------
    rt60 : float
        Seconds in which the reverberation falls by 60 dB.
    direct_db : float
        Energy of the direct path over that of all reflections, in dB.
    rng : numpy.random.Generator

    Returns
    -------
    array, shape (taps,), float64
        First tap 1; reflections start 2 ms later.

    Paper: J.-D. Polack, La transmission de l'energie sonore dans les salles, 1988.

    Example
    -------
    >>> response = room_response(0.4, 3.0, np.random.default_rng(0))
    >>> round(float(10 * np.log10(1 / (response[1:] ** 2).sum())), 2)
    3.0
    """
    if not rt60 > 0:
        raise ValueError(f"rt60 must be positive, got {rt60}.")
    taps = _FIRST_REFLECTION + 1 + int(rt60 * SAMPLE_RATE)
    response = rng.standard_normal(taps) * _decay(taps, rt60)
    response[:_FIRST_REFLECTION] = 0.0
    response *= np.sqrt(10 ** (-direct_db / 10) / (response**2).sum())
    response[0] = 1.0
    return response


def reverberate(speech: np.ndarray, response: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Speech in a room, and the part of it that an enhancer should keep.

    Arguments
    ---------
    speech : array, shape (samples,)
    response : array, shape (taps,)
        From `room_response` or `image_response`.

    Returns
    -------
    reverberant, early : array, shape (samples,), float32
        With all reflections, and with those of the first 50 ms only, which help to understand; both on the clock of
        `speech`.

    Example
    -------
    >>> speech = np.ones(10)
    >>> reverberant, early = reverberate(speech, np.array([1.0]))
    >>> bool(np.allclose(reverberant, speech)), bool(np.allclose(early, speech))
    (True, True)
    """
    from scipy.fft import next_fast_len

    return _heard(speech, response, next_fast_len(len(speech) + len(response) - 1, real=True))


def _heard(audio: np.ndarray, response: np.ndarray, period: int) -> tuple[np.ndarray, np.ndarray]:
    """Audio convolved, circularly with this period, with a response and with its early part."""
    from scipy.fft import irfft, rfft

    spectrum = rfft(audio, period)
    parts = (irfft(spectrum * rfft(part, period), period)[: len(audio)] for part in (response, response[:_EARLY]))
    reverberant, early = (part.astype(np.float32, copy=False) for part in parts)
    return reverberant, early
