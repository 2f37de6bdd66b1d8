"""Source-filter speech synthesis: harmonics and noise through moving formants.

The classic model of G. Fant, Acoustic theory of speech production, 1960, with a cascade of resonators as in D. Klatt,
Software for a cascade/parallel formant synthesizer, JASA 1980; here the filters act on short overlapping frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from avse.contracts.types import SAMPLE_RATE
from avse.data.mixing import active_samples
from avse.data.synthetic.articulation import TRACK_RATE, Tracks

_HOP = SAMPLE_RATE // TRACK_RATE
_WINDOW = 4 * _HOP
_FFT = 1024
_TOP_HZ = 7600.0
_ROOM_DB = -60.0


@dataclass(frozen=True)
class VoiceCharacter:
    """The voice of a speaker.

    Arguments
    ---------
    pitch : float
        Mean fundamental frequency in Hz.
    range : float
        Size of pitch movements, around 1.
    tract : float
        Factor of all formants (1: average man; about 1.16: average woman).
    tilt : float
        Additional spectral tilt above 500 Hz, in dB per octave.
    breathiness : float
        Noise in the voice; larger for women (D. Klatt, L. Klatt, JASA 87, 1990).
    rate : float
        Speaking rate.
    level : float
        Loudness over active samples in dB re full scale.
    """

    pitch: float
    range: float
    tract: float
    tilt: float
    breathiness: float
    rate: float
    level: float

    @classmethod
    def draw(cls, rng: np.random.Generator, female: bool) -> VoiceCharacter:
        """That of a random speaker."""
        return cls(
            pitch=float(rng.uniform(170, 245) if female else rng.uniform(88, 145)),
            range=float(rng.uniform(0.6, 1.4)),
            tract=float(rng.uniform(1.1, 1.24) if female else rng.uniform(0.94, 1.06)),
            tilt=float(rng.uniform(0, 4)),
            breathiness=float(rng.uniform(0.05, 0.2) if female else rng.uniform(0.02, 0.12)),
            rate=float(rng.uniform(0.85, 1.2)),
            level=float(rng.uniform(-27, -22)),
        )


def speak(tracks: Tracks, voice: VoiceCharacter, rng: np.random.Generator) -> np.ndarray:
    """Synthesise the speech of an articulation.

    Arguments
    ---------
    tracks : Tracks
    voice : VoiceCharacter
    rng : numpy.random.Generator

    Returns
    -------
    array, shape (samples,), float32
        `SAMPLE_RATE / TRACK_RATE` samples for each point of the tracks.

    Example
    -------
    >>> from avse.data.synthetic.articulation import articulate
    >>> rng = np.random.default_rng(0)
    >>> speak(articulate(1.0, rng)[0], VoiceCharacter.draw(rng, female=True), rng).shape
    (16000,)
    """
    points = len(tracks.opening)
    samples = points * _HOP
    pitch = _pitch(tracks, voice, rng)
    phase = np.cumsum(_stretch(pitch)) / SAMPLE_RATE
    glottis = _harmonics(phase, _stretch(pitch), voice)
    noise = rng.standard_normal(samples)
    puffs = 0.6 + 0.4 * np.cos(2 * np.pi * phase)
    through_tract = _stretch(tracks.voicing) * (glottis + voice.breathiness * puffs * noise)
    through_tract += 0.5 * _stretch(tracks.breath) * noise
    at_narrowing = _stretch(tracks.hiss) * rng.standard_normal(samples)
    audio = _filter(through_tract, _tract(tracks, voice)) + 0.7 * _filter(at_narrowing, _narrowing(tracks, voice))
    power = float((audio[active_samples(audio)] ** 2).mean())
    audio = audio / np.sqrt(max(power, 1e-12)) + 10 ** (_ROOM_DB / 20) * rng.standard_normal(samples)
    audio *= 10 ** (voice.level / 20)
    return np.clip(audio, -0.99, 0.99).astype(np.float32)


def _stretch(track: np.ndarray) -> np.ndarray:
    """A track interpolated to the audio rate."""
    points = len(track)
    return np.interp((np.arange(points * _HOP) + 0.5) / _HOP - 0.5, np.arange(points), track)


def _pitch(tracks: Tracks, voice: VoiceCharacter, rng: np.random.Generator) -> np.ndarray:
    """Fundamental frequency: accents, a falling line, slow drift and jitter."""
    points = len(tracks.stress)
    line = np.linspace(0.1, -0.14, points)
    accent = 0.28 * (gaussian_filter1d(tracks.stress, 8) - 0.6)
    drift = gaussian_filter1d(rng.standard_normal(points), 25) * 5 * 0.05
    jitter = 0.008 * gaussian_filter1d(rng.standard_normal(points), 1)
    return voice.pitch * np.exp(voice.range * (line + accent + drift) + jitter)


def _harmonics(phase: np.ndarray, pitch: np.ndarray, voice: VoiceCharacter) -> np.ndarray:
    """The glottal source: harmonics up to `_TOP_HZ` that fall by 6 dB per octave (lips included) and the tilt."""
    angle = (2 * np.pi * (phase % 1.0)).astype(np.float32)
    pitch = pitch.astype(np.float32)
    total = np.zeros(len(phase), dtype=np.float32)
    for harmonic in range(1, int(_TOP_HZ / pitch.min()) + 1):
        frequency = harmonic * pitch
        fall = (np.maximum(frequency, 500) / 500) ** np.float32(-voice.tilt / 6.02)
        fade = np.clip((_TOP_HZ - frequency) / 300, 0, 1)
        total += (fade * fall / harmonic) * np.cos(harmonic * angle - np.float32(harmonic**1.5 * 0.02))
    return total.astype(float)


def _tract(tracks: Tracks, voice: VoiceCharacter) -> np.ndarray:
    """Response of the formants at each point, shape (points, bins), complex."""
    points = len(tracks.formants)
    upper = np.broadcast_to([3500.0, 4500.0, 5500.0, 6500.0, 7500.0], (points, 5))
    formants = np.concatenate([tracks.formants, upper], axis=1) * voice.tract
    widths = np.array([70.0, 90.0, 140.0, 220.0, 300.0, 380.0, 460.0, 540.0]) * tracks.bandwidth[:, None]
    widths = np.where(formants > _TOP_HZ - 300, 2500.0, widths)
    z = np.exp(-2j * np.pi * np.fft.rfftfreq(_FFT))
    response = np.ones((points, len(z)), dtype=complex)
    # Formants of a short vocal tract beyond the band have no resonator: at the top of the band they would add 25 dB.
    mask = formants.max(axis=0) < SAMPLE_RATE / 2
    for hz, width in zip(formants.T[mask], widths.T[mask]):
        radius = np.exp(-np.pi * width / SAMPLE_RATE)
        turn = 2 * radius * np.cos(2 * np.pi * hz / SAMPLE_RATE)
        at_zero = 1 - turn + radius**2
        response *= at_zero[:, None] / (1 - turn[:, None] * z + (radius**2)[:, None] * z**2)
    return response


def _narrowing(tracks: Tracks, voice: VoiceCharacter) -> np.ndarray:
    """Response of the noise source at each point, shape (points, bins); the cavity before it scales with the tract."""
    frequency = np.fft.rfftfreq(_FFT, 1 / SAMPLE_RATE) / voice.tract
    off_centre = (frequency - tracks.hiss_hz[:, None]) / tracks.hiss_width[:, None]
    return np.exp(-0.5 * off_centre**2) + 0.03 * (frequency > 300)


def _filter(audio: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Overlap-add of frames filtered by the response at their centre."""
    window = np.hanning(_WINDOW + 1)[:-1] / 2
    points = len(response)
    padded = np.pad(audio, (_WINDOW, _WINDOW))
    starts = _WINDOW // 2 + _HOP // 2 + _HOP * np.arange(points)
    frames = padded[starts[:, None] + np.arange(_WINDOW)] * window
    filtered = np.fft.irfft(np.fft.rfft(frames, _FFT) * response, _FFT)
    output = np.zeros(len(padded) + _FFT)
    for start, frame in zip(starts, filtered):
        output[start : start + _FFT] += frame
    return output[_WINDOW : _WINDOW + len(audio)]
