"""What a recording device or a transmission does to a mixture: band limits, gain steps, clipping, codecs."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from avse.contracts.types import SAMPLE_RATE
from avse.errors import AvseError

TELEPHONE = (300.0, 3400.0)
_SLOPE = 200.0  # Hz in which the edge of a band falls
_STEP = SAMPLE_RATE // 50
_PEAK = 0.5
# Encoder and decoder of FFmpeg, options that trade little quality for speed, and bit rates in bit/s. GSM full rate has
# one bit rate and is made by libsndfile, since FFmpeg only decodes it.
_CODECS: dict[str, tuple[str, str, dict[str, str], tuple[int, int]]] = {
    "opus": (
        "libopus",
        "libopus",
        {"compression_level": "1"},
        (20_000, 48_000),
    ),  # below, SILK is late by half a sample
    "aac": ("aac", "aac", {"aac_coder": "fast"}, (16_000, 64_000)),
    "mp3": ("libmp3lame", "mp3float", {"compression_level": "9"}, (16_000, 64_000)),
}


@dataclass
class Channel:
    """How often a mixture goes through which parts of a channel in training; probabilities per mixture.

    The parts follow one another in the order below. The target goes through the linear ones too, since what a band
    limit removes and how loud a device records is not noise; the others distort, and the target stays as it is.

    Arguments
    ---------
    share : float
        Of mixtures that go through a channel; the others below are probabilities in it.
    band : float
        One of `bands`; the target too.
    gain : float
        One to three steps of the gain, as of automatic gain control, each smooth over 20 ms; the target too.
    clip : float
        Peaks are cut off.
    codec : float
        One of `codecs` at a random bit rate. GSM comes with the band of a telephone.
    bands : sequence of (float, float)
        Lowest and highest frequency in Hz.
    gain_db : float
        Largest step of the gain, either way.
    clip_db : float
        How far at most below the peak it is cut off.
    codecs : sequence of str
        Among `opus`, `aac`, `mp3` and `gsm`.

    Raises
    ------
    AvseError
        If a value is out of bounds, or a codec is unknown or missing in the installed PyAV.
    """

    share: float = 0.3
    band: float = 0.4
    gain: float = 0.3
    clip: float = 0.2
    codec: float = 0.25
    bands: Sequence[Sequence[float]] = (TELEPHONE, (100.0, 4000.0), (50.0, 7000.0))
    gain_db: float = 10.0
    clip_db: float = 12.0
    codecs: Sequence[str] = ("opus", "aac", "mp3", "gsm")

    def __post_init__(self) -> None:
        for name in ("share", "band", "gain", "clip", "codec"):
            if not 0 <= getattr(self, name) <= 1:
                raise AvseError(f"Channel: {name} must be a probability from 0 to 1, got {getattr(self, name)}.")
        for name in ("gain_db", "clip_db"):
            if not 0 <= getattr(self, name) <= 60:
                raise AvseError(f"Channel: {name} must be 0 to 60 dB, got {getattr(self, name)}.")
        for limits in self.bands:
            if len(limits) != 2 or not 0 <= limits[0] < limits[1] <= SAMPLE_RATE / 2:
                raise AvseError(
                    f"Channel: a band must be two rising frequencies from 0 to {SAMPLE_RATE // 2} Hz, got {limits}."
                )
        if (self.band and not len(self.bands)) or (self.codec and not len(self.codecs)):
            raise AvseError("Channel: bands and codecs must not be empty, unless their probability is 0.")
        for name in self.codecs:
            codec_delay(name)

    def __call__(self, noisy: np.ndarray, clean: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A mixture behind a channel, and its target.

        Arguments
        ---------
        noisy, clean : array, shape (samples,), float32
        rng : numpy.random.Generator

        Returns
        -------
        noisy, clean : array, shape (samples,), float32
        """
        if rng.random() >= self.share:
            return noisy, clean
        limits = self.bands[int(rng.integers(len(self.bands)))] if rng.random() < self.band else None
        codec = self.codecs[int(rng.integers(len(self.codecs)))] if rng.random() < self.codec else None
        limits = TELEPHONE if codec == "gsm" else limits
        if limits is not None:
            noisy, clean = band_limited(noisy, *limits), band_limited(clean, *limits)
        if rng.random() < self.gain:
            gain = gain_steps(len(noisy), self.gain_db, rng)
            noisy, clean = gain * noisy, gain * clean
        if rng.random() < self.clip:
            peak = np.abs(noisy).max(initial=0.0) * 10 ** (-rng.uniform(0, self.clip_db) / 20)
            noisy = np.clip(noisy, -peak, peak).astype(np.float32)
        if codec is not None:
            bit_rate = 0 if codec == "gsm" else int(rng.integers(*_CODECS[codec][3]))
            noisy = coded(noisy, codec, bit_rate)
        return noisy, clean


def band_limited(audio: np.ndarray, low: float, high: float) -> np.ndarray:
    """Audio without what is below `low` and above `high` Hz, by a filter that delays nothing.

    Example
    -------
    >>> tone = np.sin(2 * np.pi * 5000 * np.arange(1600) / 16000).astype(np.float32)
    >>> bool(np.abs(band_limited(tone, 300, 3400)).max() < 0.01)
    True
    """
    frequency = np.fft.rfftfreq(len(audio), 1 / SAMPLE_RATE)
    gain = np.clip((high - frequency) / _SLOPE + 1, 1e-3, 1)
    if low > 0:
        gain *= np.clip((frequency - low) / _SLOPE + 1, 1e-3, 1)
    return np.fft.irfft(np.fft.rfft(audio) * gain, len(audio)).astype(np.float32)


def gain_steps(samples: int, largest_db: float, rng: np.random.Generator) -> np.ndarray:
    """A gain that is 1 at first and changes one to three times by up to `largest_db`, shape (samples,), float32."""
    steps = np.zeros(samples + _STEP)
    for place in rng.integers(0, max(samples, 1), int(rng.integers(1, 4))):
        steps[place + _STEP :] += rng.uniform(-largest_db, largest_db)
    course = np.cumsum(steps)
    smooth_db = (course[_STEP:] - course[:-_STEP]) / _STEP
    return (10 ** (smooth_db / 20)).astype(np.float32)


def coded(audio: np.ndarray, codec: str, bit_rate: int) -> np.ndarray:
    """Audio encoded and decoded in memory, on the clock it had.

    Arguments
    ---------
    audio : array, shape (samples,)
        At any level; the codec is given a peak of 0.5.
    codec : str
        `opus`, `aac`, `mp3` or `gsm`.
    bit_rate : int
        In bit/s; GSM has one of its own.

    Returns
    -------
    array, shape (samples,), float32

    Raises
    ------
    AvseError
        If there is no such codec.
    """
    peak = float(np.abs(audio).max(initial=0.0))
    if peak == 0:
        return audio
    delay = codec_delay(codec)
    decoded = _round_trip((audio * (_PEAK / peak)).astype(np.float32), codec, bit_rate)[delay : delay + len(audio)]
    return np.pad(decoded * np.float32(peak / _PEAK), (0, len(audio) - len(decoded)))


@cache
def codec_delay(codec: str) -> int:
    """Samples by which a codec's output is late, measured once by correlation, as FFmpeg does not tell it.

    Example
    -------
    >>> codec_delay("gsm")
    0
    """
    from scipy.signal import correlate

    if codec not in (*_CODECS, "gsm"):
        raise AvseError(f"Channel: there is no codec {codec!r}; there are {', '.join(_CODECS)} and gsm.")
    probe = band_limited(np.random.default_rng(0).normal(0, 0.1, SAMPLE_RATE // 2), *TELEPHONE)
    try:
        late = correlate(_round_trip(probe, codec, 32_000), probe)
    except Exception as error:  # what PyAV raises for a codec that it lacks differs by version
        name = codec if codec == "gsm" else " or ".join(sorted(set(_CODECS[codec][:2])))
        raise AvseError(
            f"Channel: the codec {codec!r} does not work here ({error}); the installed "
            f"{'soundfile' if codec == 'gsm' else 'PyAV'} has no {name}. Leave it out of codecs."
        ) from error
    return max(0, int(np.argmax(late)) - (len(probe) - 1))


def _round_trip(audio: np.ndarray, codec: str, bit_rate: int) -> np.ndarray:
    import soxr

    if codec == "gsm":
        import soundfile

        file = io.BytesIO()
        soundfile.write(file, soxr.resample(audio, SAMPLE_RATE, 8000), 8000, format="WAV", subtype="GSM610")
        file.seek(0)
        return soxr.resample(soundfile.read(file, dtype="float32")[0], 8000, SAMPLE_RATE)
    import av

    encoder_name, decoder_name, options, _ = _CODECS[codec]
    encoder: Any = av.CodecContext.create(encoder_name, "w")
    encoder.sample_rate, encoder.layout, encoder.bit_rate = SAMPLE_RATE, "mono", bit_rate
    encoder.format = "flt" if codec == "opus" else "fltp"
    encoder.options = options
    encoder.open()
    decoder: Any = av.CodecContext.create(decoder_name, "r")
    decoder.sample_rate, decoder.layout = SAMPLE_RATE, "mono"
    decoder.extradata = encoder.extradata
    frame = av.AudioFrame.from_ndarray(audio[None], format=encoder.format.name, layout="mono")
    frame.sample_rate, frame.pts = SAMPLE_RATE, 0
    packets = [*encoder.encode(frame), *encoder.encode(None)]
    frames = [one for packet in [*packets, None] for one in decoder.decode(packet)]
    decoded = np.concatenate([one.to_ndarray().ravel() for one in frames])
    if decoded.dtype == np.int16:
        decoded = decoded.astype(np.float32) / 32768
    return soxr.resample(decoded, frames[0].sample_rate, SAMPLE_RATE)
