"""Articulation over time: words become phones, phones become smooth tracks.

One set of tracks drives both the audio (`voice`) and the video (`face`), so that the two agree.
Formants are those of G. Peterson and H. Barney, Control methods used in a study of the vowels, JASA 1952.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import gaussian_filter1d

TRACK_RATE = 200
"""Points of a track per second."""


@dataclass(frozen=True)
class Phone:
    """Targets of one phone, or of one part of it.

    Arguments
    ---------
    f1, f2, f3 : float
        Formants in Hz of an average male voice.
    seconds : float
    opening, width : float, in [0, 1]
        Of the lips; width 0 is rounded, 0.5 at rest.
    voicing, breath, hiss : float
        Amplitudes of the glottal source, of noise through the whole vocal tract, and of noise at a narrowing.
    hiss_hz, hiss_width : float
        Centre and width of that last noise in Hz.
    closed : bool
        The lips touch.
    teeth : float, in [0, 1]
        Visibility of the upper teeth.
    bandwidth : float
        Widens the formants (nasals).
    """

    f1: float
    f2: float
    f3: float
    seconds: float
    opening: float
    width: float
    voicing: float = 0.0
    breath: float = 0.0
    hiss: float = 0.0
    hiss_hz: float = 3000.0
    hiss_width: float = 1500.0
    closed: bool = False
    teeth: float = 0.4
    bandwidth: float = 1.0


def _vowel(f1: float, f2: float, f3: float, opening: float, width: float) -> tuple[Phone, ...]:
    return (Phone(f1, f2, f3, 0.11, opening, width, voicing=0.75 + 0.35 * opening),)


def _glide(first: tuple[Phone, ...], last: tuple[Phone, ...]) -> tuple[Phone, ...]:
    return replace(first[0], seconds=0.10), replace(last[0], seconds=0.07)


def _stop(place: Phone, voiced: bool) -> tuple[Phone, ...]:
    """Closure, burst, and breath where the stop is voiceless."""
    closure = replace(place, seconds=0.065, voicing=0.12 if voiced else 0.0, hiss=0.0)
    after = max(place.opening, 0.25)
    burst = replace(place, seconds=0.012, closed=False, opening=after, hiss=place.hiss * (0.6 if voiced else 1.0))
    if voiced:
        return closure, burst
    return closure, burst, replace(burst, seconds=0.035, hiss=0.0, breath=0.28)


def _hissing(centre: float, width: float, level: float, lips: Phone, voiced: bool) -> tuple[Phone, ...]:
    seconds = 0.075 if voiced else 0.11
    level *= 0.6 if voiced else 1.0
    voicing = 0.3 if voiced else 0.0
    return (replace(lips, seconds=seconds, voicing=voicing, hiss=level, hiss_hz=centre, hiss_width=width),)


def _nasal(place: Phone) -> tuple[Phone, ...]:
    return (replace(place, seconds=0.08, f1=260.0, voicing=0.42, hiss=0.0, bandwidth=2.2),)


_LIPS = Phone(300, 900, 2300, 0.07, 0.0, 0.5, closed=True, hiss=0.35, hiss_hz=900, hiss_width=900, teeth=0.0)
_RIDGE = Phone(320, 1750, 2650, 0.07, 0.22, 0.6, hiss=0.6, hiss_hz=4500, hiss_width=1500, teeth=0.7)
_VELUM = Phone(300, 2000, 2400, 0.07, 0.32, 0.55, hiss=0.5, hiss_hz=1900, hiss_width=600)
_BITE = Phone(320, 1100, 2300, 0.1, 0.07, 0.55, teeth=1.0)
_TEETH = Phone(320, 1400, 2550, 0.1, 0.2, 0.6, teeth=0.8)
_CLENCHED = Phone(320, 1750, 2600, 0.1, 0.14, 0.72, teeth=1.0)
_PURSED = Phone(320, 1900, 2500, 0.1, 0.22, 0.2, teeth=0.7)

_AA, _IY = _vowel(730, 1090, 2440, 0.95, 0.55), _vowel(270, 2290, 3010, 0.26, 0.95)
_EH, _AO = _vowel(530, 1840, 2480, 0.58, 0.72), _vowel(570, 840, 2410, 0.75, 0.25)
_UW = _vowel(300, 870, 2240, 0.2, 0.05)

PHONES: dict[str, tuple[Phone, ...]] = {
    "AA": _AA,
    "AE": _vowel(660, 1720, 2410, 0.8, 0.75),
    "AH": _vowel(640, 1190, 2390, 0.6, 0.55),
    "AO": _AO,
    "EH": _EH,
    "ER": _vowel(490, 1350, 1690, 0.4, 0.35),
    "IH": _vowel(390, 1990, 2550, 0.36, 0.78),
    "IY": _IY,
    "UH": _vowel(440, 1020, 2240, 0.4, 0.25),
    "UW": _UW,
    "AY": _glide(_AA, _IY),
    "AW": _glide(_AA, _UW),
    "EY": _glide(_EH, _IY),
    "OW": _glide(_AO, _UW),
    "OY": _glide(_AO, _IY),
    "P": _stop(_LIPS, voiced=False),
    "B": _stop(_LIPS, voiced=True),
    "T": _stop(_RIDGE, voiced=False),
    "D": _stop(_RIDGE, voiced=True),
    "K": _stop(_VELUM, voiced=False),
    "G": _stop(_VELUM, voiced=True),
    "M": _nasal(_LIPS),
    "N": _nasal(_RIDGE),
    "NG": _nasal(_VELUM),
    "F": _hissing(5000, 3500, 0.22, _BITE, voiced=False),
    "V": _hissing(5000, 3500, 0.22, _BITE, voiced=True),
    "TH": _hissing(5500, 3000, 0.2, _TEETH, voiced=False),
    "S": _hissing(5600, 1100, 0.6, _CLENCHED, voiced=False),
    "Z": _hissing(5600, 1100, 0.6, _CLENCHED, voiced=True),
    "SH": _hissing(3000, 900, 0.55, _PURSED, voiced=False),
    "HH": (Phone(500, 1500, 2500, 0.06, 0.45, 0.55, breath=0.3),),
    "L": (Phone(360, 1100, 2700, 0.065, 0.4, 0.6, voicing=0.55, teeth=0.6),),
    "R": (Phone(400, 1200, 1600, 0.07, 0.3, 0.25, voicing=0.55),),
    "W": (Phone(300, 650, 2200, 0.07, 0.1, 0.0, voicing=0.5, teeth=0.0),),
    "Y": (Phone(270, 2200, 3000, 0.06, 0.25, 0.85, voicing=0.55),),
}
_SILENCE = Phone(500, 1500, 2500, 0.1, 0.0, 0.5, teeth=0.0)

WORDS: dict[str, str] = {
    "again": "AH G EH N", "apple": "AE P AH L", "balloon": "B AH L UW N", "blue": "B L UW", "boat": "B OW T",
    "bring": "B R IH NG", "coffee": "K AO F IY", "eight": "EY T", "farm": "F AA R M", "fish": "F IH SH",
    "five": "F AY V", "four": "F AO R", "garden": "G AA R D AH N", "give": "G IH V", "good": "G UH D",
    "green": "G R IY N", "happy": "HH AE P IY", "home": "HH OW M", "house": "HH AW S", "lemon": "L EH M AH N",
    "machine": "M AH SH IY N", "mama": "M AA M AH", "moon": "M UW N", "music": "M Y UW Z IH K", "nine": "N AY N",
    "now": "N AW", "open": "OW P AH N", "over": "OW V ER", "papa": "P AA P AH", "paper": "P EY P ER",
    "people": "P IY P AH L", "please": "P L IY Z", "red": "R EH D", "river": "R IH V ER", "seven": "S EH V AH N",
    "shadow": "SH AE D OW", "show": "SH OW", "six": "S IH K S", "soon": "S UW N", "summer": "S AH M ER",
    "take": "T EY K", "three": "TH R IY", "tomato": "T AH M AA T OW", "under": "AH N D ER", "voice": "V OY S",
    "water": "W AO T ER", "white": "W AY T", "window": "W IH N D OW", "yellow": "Y EH L OW", "zebra": "Z IY B R AH",
}  # fmt: skip
"""The vocabulary, in ARPAbet."""


@dataclass(frozen=True)
class Tracks:
    """Articulation at `TRACK_RATE`; each field is an array of shape (points,), see `Phone`.

    `formants` has shape (points, 3); `stress` is the loudness and pitch accent of the syllable.
    """

    formants: np.ndarray
    bandwidth: np.ndarray
    voicing: np.ndarray
    breath: np.ndarray
    hiss: np.ndarray
    hiss_hz: np.ndarray
    hiss_width: np.ndarray
    stress: np.ndarray
    opening: np.ndarray
    width: np.ndarray
    teeth: np.ndarray


def articulate(seconds: float, rng: np.random.Generator, rate: float = 1.0) -> tuple[Tracks, str]:
    """Articulate random words.

    Arguments
    ---------
    seconds : float
        Length, with silence at both ends and pauses.
    rng : numpy.random.Generator
    rate : float
        Speaking rate; 1 is about four syllables a second.

    Returns
    -------
    Tracks
    str
        The words.

    Example
    -------
    >>> tracks, text = articulate(2.0, np.random.default_rng(0))
    >>> tracks.opening.shape, set(text.split()) <= set(WORDS)
    ((400,), True)
    """
    points = round(seconds * TRACK_RATE)
    segments, words = _segments(points, rng, rate)
    counts = [count for _, count, _ in segments]

    def track(values: list[float], smooth_ms: float) -> np.ndarray:
        return gaussian_filter1d(np.repeat(np.array(values, dtype=float), counts), smooth_ms * TRACK_RATE / 1000)

    def targets(name: str, smooth_ms: float) -> np.ndarray:
        return track([float(getattr(phone, name)) for phone, _, _ in segments], smooth_ms)

    stress = track([stress for _, _, stress in segments], 30)
    contact = np.minimum(1.0, 1.6 * track([float(phone.closed) for phone, _, _ in segments], 14))
    opening = targets("opening", 32) * (0.75 + 0.35 * stress)
    hissing = [phone if phone.hiss else replace(phone, hiss_hz=3500.0) for phone, _, _ in segments]
    tracks = Tracks(
        formants=np.stack([targets(name, 18) for name in ("f1", "f2", "f3")], axis=1),
        bandwidth=targets("bandwidth", 8),
        voicing=targets("voicing", 7) * (0.55 + 0.6 * stress),
        breath=targets("breath", 5),
        hiss=targets("hiss", 4),
        hiss_hz=track([phone.hiss_hz for phone in hissing], 8),
        hiss_width=targets("hiss_width", 8),
        stress=stress,
        opening=np.clip(opening * (1 - contact), 0, 1),
        width=targets("width", 36),
        teeth=targets("teeth", 25),
    )
    return tracks, " ".join(words)


def _segments(points: int, rng: np.random.Generator, rate: float) -> tuple[list[tuple[Phone, int, float]], list[str]]:
    """Phones with their number of points and their stress, `points` in all."""

    def silence(seconds: float) -> tuple[Phone, int, float]:
        return _SILENCE, round(seconds * TRACK_RATE), 0.3

    ends = min(1.0, points / TRACK_RATE / 1.5)
    last = round(0.12 * ends * TRACK_RATE)
    segments = [silence(ends * float(rng.uniform(0.1, 0.3)))]
    words: list[str] = []
    while True:
        room = points - last - sum(count for _, count, _ in segments)
        tried = rng.permutation(sorted(WORDS))[: 6 if words else None]
        fitting = ((str(word), _word(str(word), rng, rate)) for word in tried)
        word, spoken = next(((w, s) for w, s in fitting if sum(count for _, count, _ in s) <= room), ("", []))
        if not word:
            break
        segments += spoken
        words.append(word)
        if rng.random() < 0.22:
            segments.append(silence(float(rng.uniform(0.08, 0.35))))
    if segments[-1][0] is _SILENCE and words:
        segments.pop()
    left = points - sum(count for _, count, _ in segments)
    segments.append((_SILENCE, left, 0.3))
    return segments, words


def _word(word: str, rng: np.random.Generator, rate: float) -> list[tuple[Phone, int, float]]:
    names = WORDS[word].split()
    vowels = [index for index, name in enumerate(names) if PHONES[name][0].voicing > 0.7]
    stressed = next((index for index in vowels if names[index] not in ("AH", "ER")), vowels[0])
    accent = float(rng.uniform(0.75, 1.15))
    spoken = []
    for index, name in enumerate(names):
        stress = accent if abs(index - stressed) <= 1 else 0.55 * accent
        stretch = float(rng.uniform(0.88, 1.15)) * (1.2 if index == stressed else 0.95) / rate
        for phone in PHONES[name]:
            spoken.append((phone, max(2, round(phone.seconds * stretch * TRACK_RATE)), stress))
    return spoken
