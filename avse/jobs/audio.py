"""The audio of a file between model and writer: at its own rate, with its channels, mixed back, at a loudness."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from avse.contracts.types import SAMPLE_RATE
from avse.errors import AvseError
from avse.media.reader import ClipReader
from avse.model import mix_of
from avse.signal.full_band import FullBand
from avse.signal.loudness import Loudness

KEEP, EIGHT, FULL = "keep", "8k", "full"
_SOFTEST, _LOUDEST = -70.0, 0.0  # LUFS that can be asked for


class Treatment(TypedDict, total=False):
    """What is made of the speech: see `Audio`."""

    mono: bool
    band: str
    mix: float
    max_attenuation: float | None
    loudness: str | float | None


@dataclass
class Level:
    """How loud audio is.

    Arguments
    ---------
    peak : float or None
        Of its largest sample, in dB relative to full scale; None: silence.
    loudness : float or None
        By ITU-R BS.1770, in LUFS; None: silence.
    """

    peak: float | None
    loudness: float | None


class Audio:
    """What is written for a file, of what the model finds at 16 kHz.

    Arguments
    ---------
    reader : ClipReader
        The file, not yet read.
    mono : bool
        Write one channel, the down-mix, instead of those of the file.
    band : "full" or "8k"
        "8k": nothing above 8 kHz.
    mix, max_attenuation : float
        How much of the enhancement is used: see `avse.model.mix_of`.
    loudness : "keep", float or None
        The loudness of the file, or one in LUFS; None: as it comes. It stays lower where samples would exceed full
        scale. The audio is then held in a temporary file until its end.

    Attributes
    ----------
    channels, rate : int
        Of what is written.
    gain : float
        The factor that brings it to its loudness.

    Raises
    ------
    AvseError
        If an option is out of its range.
    """

    def __init__(
        self,
        reader: ClipReader,
        *,
        mono: bool = False,
        band: str = FULL,
        mix: float = 1.0,
        max_attenuation: float | None = None,
        loudness: str | float | None = None,
    ) -> None:
        check_treatment(band, mix, max_attenuation, loudness)
        self._mix, self._loudness = mix_of(mix, max_attenuation), _target(loudness)
        self._reader, self.gain = reader, 1.0
        info = reader.info
        self.channels = 1 if mono else info.channels
        direct = self.channels == 1 and (band == EIGHT or info.sample_rate <= SAMPLE_RATE)
        self.rate = SAMPLE_RATE if direct else info.sample_rate
        self._full_band: FullBand | None = None
        if not direct:
            reader.keep(mono=mono)
            self._full_band = FullBand(self.rate, self.channels, above=band == FULL)
        names = ["FC"] if self.channels == 1 else info.channel_names
        self._meters = Loudness(self.rate, names), Loudness(self.rate, names)
        self._mixture, self._recording = SampleQueue(1), SampleQueue(self.channels)

    def hear(self, mixture: np.ndarray) -> None:
        """Take the mixture of which the model will give the speech, shape (samples,), at 16 kHz."""
        self._mixture.put(mixture[None])

    def treated(
        self, speech: Iterable[np.ndarray], on_rest: Callable[[np.ndarray], None] | None = None
    ) -> Iterator[np.ndarray]:
        """Blocks to write, shape (channels, samples), from blocks of the model's speech, shape (samples,).

        Arguments
        ---------
        speech : iterable of array
            In all as long as the mixture, which is heard while the speech is made.
        on_rest : callable, optional
            Takes what was taken away, in blocks of the same shape.
        """
        blocks = self._mixed(speech, on_rest)
        if self._loudness is None:
            yield from blocks
            return
        with tempfile.TemporaryFile() as file:
            shapes = []
            try:
                for block in blocks:
                    file.write(np.ascontiguousarray(block, np.float32).tobytes())
                    shapes.append(block.shape)
            except OSError as error:
                raise AvseError(f"{file.name}: no room for a temporary file ({error.strerror}).") from error
            self._set_gain()
            file.seek(0)
            for shape in shapes:
                block = np.frombuffer(file.read(4 * shape[0] * shape[1]), np.float32).reshape(shape)
                yield block * np.float32(self.gain)

    def levels(self) -> tuple[Level, Level]:
        """Of the file and of what was written, once all is."""
        before, after = self._meters
        return _level(before, 1.0), _level(after, self.gain)

    def _mixed(
        self, speech: Iterable[np.ndarray], on_rest: Callable[[np.ndarray], None] | None
    ) -> Iterator[np.ndarray]:
        for given, enhanced in self._pairs(speech):
            # Bit for bit what was found, or what was given, where nothing is mixed.
            mixed = given + np.float32(self._mix) * (enhanced - given) if self._mix < 1 else enhanced
            self._meters[0].add(given)
            self._meters[1].add(mixed)
            if on_rest is not None:
                on_rest(given - mixed)
            yield mixed

    def _pairs(self, speech: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """What was recorded and what was found, at the rate of the output."""
        for piece in speech:
            mixture = self._mixture.take(len(piece))
            if self._full_band is None:
                yield mixture, piece[None]
                continue
            recording = self._reader.kept()
            self._recording.put(recording)
            enhanced = self._full_band(recording, mixture[0], piece)
            yield self._recording.take(enhanced.shape[1]), enhanced
        if self._full_band is not None:
            enhanced = self._full_band.rest()
            yield self._recording.take(enhanced.shape[1]), enhanced

    def _set_gain(self) -> None:
        before, after = self._meters
        target = before.integrated() if self._loudness == KEEP else float(self._loudness or 0.0)
        wanted = 10 ** ((target - after.integrated()) / 20)
        if not np.isfinite(wanted) or not after.peak:
            return  # silence has no loudness
        self.gain = min(wanted, 1 / after.peak)
        if self.gain < 0.9 * wanted:
            short = 20 * np.log10(wanted / self.gain)
            self._reader.info.warnings.append(
                f"its loudness stays {short:.1f} dB below {target:.1f} LUFS, where its peaks reach full scale"
            )


def check_treatment(
    band: str = FULL,
    mix: float = 1.0,
    max_attenuation: float | None = None,
    loudness: str | float | None = None,
    **others: object,
) -> None:
    """Raise `AvseError` for options out of their range; see `Audio`."""
    mix_of(mix, max_attenuation)
    _target(loudness)
    if band not in (FULL, EIGHT):
        raise AvseError(f"band {band!r}: must be {FULL} or {EIGHT}.")


def _target(loudness: str | float | None) -> str | float | None:
    if loudness is None or loudness == KEEP:
        return loudness
    try:
        target = float(loudness)
    except ValueError:
        target = float("nan")
    if not _SOFTEST <= target <= _LOUDEST:
        raise AvseError(f"loudness {loudness!r}: must be {KEEP}, or LUFS from {_SOFTEST:g} to {_LOUDEST:g}, as -16.")
    return target


def _level(meter: Loudness, gain: float) -> Level:
    if not meter.peak:
        return Level(None, None)
    added, loudness = 20 * np.log10(gain), meter.integrated()
    return Level(
        peak=round(float(20 * np.log10(meter.peak) + added), 2),
        loudness=round(float(loudness + added), 2) if np.isfinite(loudness) else None,
    )


class SampleQueue:
    """Samples of shape (channels, samples) that wait until the same ones of another signal are there."""

    def __init__(self, channels: int) -> None:
        self._waiting = np.zeros((channels, 0), np.float32)

    def put(self, samples: np.ndarray) -> None:
        self._waiting = np.concatenate([self._waiting, samples], axis=1)

    def take(self, count: int) -> np.ndarray:
        taken, self._waiting = self._waiting[:, :count], self._waiting[:, count:]
        return taken
