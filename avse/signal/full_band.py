"""Enhancement of all channels of a recording at its own rate, by what a model did to their mixture at 16 kHz."""

from __future__ import annotations

import numpy as np

SAMPLE_RATE = 16_000  # of models
_FRAMES, _SPACING = 50, 25  # frames per second, and Hz between bins: windows of 40 ms, half of them shared
_WINDOW, _HOP = SAMPLE_RATE // _SPACING, SAMPLE_RATE // _FRAMES
_LARGEST = 1.0  # a bin is never made louder
_EDGE, _TOP = 7300 // _SPACING, 5000 // _SPACING  # bins: the end of the band of a resampler, the start of the top band
_TINY = 1e-12
_AT_ONCE = 64  # frames, so that little memory is needed


class FullBand:
    """Applies the ratio of a speech estimate to its mixture, both at 16 kHz, to a recording at another rate.

    In frames of 40 ms at 50 per second, with square-root Hann windows,

        G(t, f) = S(t, f) X*(t, f) / |X(t, f)|^2,   |G| <= 1

    is taken at 25 Hz spacing up to 7.3 kHz from speech S and mixture X. It multiplies the spectrum of each channel of
    the recording. Above 7.3 kHz the gain of a frame is the ratio of the powers of S and X from 5 to 7.3 kHz: the square
    of the gain of this band, since speech falls faster with frequency than noise does. Where the estimate is the
    mixture, the recording stays as it was. Memory is bounded: what is finished is given back at once, 40 ms behind.

    Arguments
    ---------
    rate : int
        Of the recording, in Hz.
    channels : int
    above : bool
        False: nothing is kept above 8 kHz.

    Example
    -------
    >>> noise = np.random.default_rng(0).normal(0, 0.1, (2, 48000)).astype(np.float32)
    >>> mixture = noise.mean(axis=0)[::3]
    >>> full_band = FullBand(48000, 2)
    >>> parts = [full_band(noise, mixture, mixture), full_band.rest()]
    >>> bool(np.allclose(np.concatenate(parts, axis=1), noise, atol=1e-5))
    True
    """

    def __init__(self, rate: int, channels: int, *, above: bool = True) -> None:
        self._rate, self._above = rate, above
        self._size = max(2, round(rate / _SPACING))
        self._half = self._size // 2
        bins = np.arange(self._size // 2 + 1)
        # Bins at the own rate, as bins of 25 Hz.
        self._source = np.rint(bins * (rate / self._size / _SPACING)).astype(int)
        self._beyond = self._source > (_EDGE if rate > SAMPLE_RATE else SAMPLE_RATE // 2 // _SPACING)
        self._kept = self._source <= SAMPLE_RATE // 2 // _SPACING
        self._source = np.minimum(self._source, SAMPLE_RATE // 2 // _SPACING)
        self._frame = 0  # the next
        self._length = 0  # samples of the recording so far
        self._given = 0  # samples given back
        # Each buffer begins where the window of the next frame does; the first frame is centred on the first sample.
        self._own = np.zeros((channels, self._half), np.float32)
        self._pair = np.zeros((2, _HOP), np.float32)
        self._sum = np.zeros((channels, self._size), np.float32)
        self._weight = np.zeros(self._size, np.float32)

    def __call__(self, recording: np.ndarray, mixture: np.ndarray, speech: np.ndarray) -> np.ndarray:
        """Append samples, and give the enhanced ones that are finished.

        Arguments
        ---------
        recording : array, shape (channels, samples), float32
        mixture, speech : array, shape (samples at 16 kHz,), float32
            Of equal length; recording and mixture need not end at the same time.

        Returns
        -------
        array, shape (channels, finished samples), float32
        """
        self._length += recording.shape[1]
        return self._run(recording, np.stack([mixture, speech]))

    def rest(self) -> np.ndarray:
        """The last samples: in all, as many are given back as the recording has."""
        ends, frames = self._length - self._given, self._frames_of(self._length)
        missing = self._start(frames) + self._size
        own = np.zeros((len(self._own), max(0, missing - self._start(self._frame) - self._own.shape[1])), np.float32)
        pair = np.zeros((2, (frames - self._frame + 2) * _HOP), np.float32)
        return self._run(own, pair)[:, :ends]

    def _start(self, frame: int) -> int:
        """First sample of the window of a frame."""
        return round(frame * self._rate / _FRAMES) - self._half

    def _frames_of(self, samples: int) -> int:
        return -(-samples * _FRAMES // self._rate) + 1

    def _run(self, recording: np.ndarray, pair: np.ndarray) -> np.ndarray:
        self._own = np.concatenate([self._own, recording], axis=1)
        self._pair = np.concatenate([self._pair, pair.astype(np.float32)], axis=1)
        window, own_window = _window(_WINDOW), _window(self._size)
        finished = []
        while True:
            first = self._start(self._frame)
            starts = [self._start(self._frame + step) - first for step in range(_AT_ONCE + 1)]
            count = min(_AT_ONCE, max(0, (self._pair.shape[1] - _WINDOW) // _HOP + 1))
            while count and starts[count - 1] + self._size > self._own.shape[1]:
                count -= 1
            if not count:
                break
            frames = np.lib.stride_tricks.sliding_window_view(self._pair, _WINDOW, axis=1)[:, : count * _HOP : _HOP]
            mixture, speech = np.fft.rfft(frames * window)
            places = np.array(starts[:count])[:, None] + np.arange(self._size)
            spectra = np.fft.rfft(self._own[:, places] * own_window) * self._gains(mixture, speech)
            pieces = np.fft.irfft(spectra, self._size).astype(np.float32) * own_window
            room = starts[count] + self._size - self._sum.shape[1]
            self._sum, self._weight = np.pad(self._sum, ((0, 0), (0, room))), np.pad(self._weight, (0, room))
            for step, start in enumerate(starts[:count]):
                self._sum[:, start : start + self._size] += pieces[:, step]
                self._weight[start : start + self._size] += own_window**2
            ready = starts[count]
            block = self._sum[:, :ready] / np.maximum(self._weight[:ready], 1e-4)
            finished.append(block[:, max(0, -first) :])
            self._sum, self._weight = self._sum[:, ready:], self._weight[ready:]
            self._own, self._pair = self._own[:, ready:], self._pair[:, count * _HOP :]
            self._frame += count
        joined = np.concatenate([np.zeros((len(self._own), 0), np.float32), *finished], axis=1)
        self._given += joined.shape[1]
        return joined

    def _gains(self, mixture: np.ndarray, speech: np.ndarray) -> np.ndarray:
        """Factors of shape (frames, bins at the own rate) from spectra of shape (frames, bins)."""
        gain = speech * mixture.conj() / (np.abs(mixture) ** 2 + _TINY)
        gain /= np.maximum(np.abs(gain) / _LARGEST, 1)
        powers = [np.sum(np.abs(part[:, _TOP:_EDGE]) ** 2, axis=1) for part in (speech, mixture)]
        top = np.minimum(powers[0] / (powers[1] + _TINY), _LARGEST)
        gains: np.ndarray = np.where(self._beyond, top[:, None], gain[:, self._source])
        return gains if self._above else gains * self._kept


def _window(size: int) -> np.ndarray:
    """Square root of a periodic Hann window, float32."""
    return np.sin(np.pi * np.arange(size) / size).astype(np.float32)
