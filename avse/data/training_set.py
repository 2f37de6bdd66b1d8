"""Mixtures made on the fly for training: speech, noise, and what can go wrong with the video."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from avse.contracts.corruption import spoiled_frames
from avse.contracts.types import SAMPLE_RATE, Batch, Clip
from avse.data.cache import ClipCache
from avse.data.manifest import Utterance
from avse.data.mixing import mix_at_snr
from avse.data.speech_set import Pool, SpeechSet, at_random_level, at_speed, equalise
from avse.errors import AvseError

if TYPE_CHECKING:
    from avse.contracts.corruption import Corruption

_TRIES = 8  # rivals that are drawn until one is long enough


@dataclass
class VideoDegradation:
    """How often which part of the video is lost or wrong in training; probabilities per clip.

    Arguments
    ---------
    drop_clip : float
        No frame is valid.
    drop_span : float
        One span of frames is not valid.
    drop_frames : float
        Single frames, a tenth of them, are not valid.
    wrong_clip : float
        The mouth is that of another clip.
    corrupt : float
        One of `corruptions` is applied.
    corruptions : sequence of Corruption
    severities : (int, int) or None
        Lowest and highest severity, drawn anew for each clip. None: each corruption at its own.
    augment : bool
        Mirror, brightness, contrast and small shifts.
    zoom : float
        Largest relative change of the mouth's size, either way.
    turn : float
        Largest rotation in the picture, in degrees, either way.
    blur : float
        Largest standard deviation of a Gaussian blur in pixels; half of the clips are blurred.
    """

    drop_clip: float = 0.2
    drop_span: float = 0.15
    drop_frames: float = 0.1
    wrong_clip: float = 0.1
    corrupt: float = 0.15
    corruptions: Sequence[Corruption] = field(default_factory=list)
    severities: tuple[int, int] | None = None
    augment: bool = True
    zoom: float = 0.0
    turn: float = 0.0
    blur: float = 0.0

    def __call__(
        self,
        mouth: np.ndarray,
        valid: np.ndarray,
        other: Callable[[], tuple[np.ndarray, np.ndarray]],
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Degrade one clip's video.

        Arguments
        ---------
        mouth : array, shape (frames, 88, 88), uint8
        valid : array, shape (frames,), bool
        other : callable
            Gives another clip's `mouth` and `valid`, for `wrong_clip` and for corruptions that show another speaker.
        rng : numpy.random.Generator

        Returns
        -------
        mouth, valid : arrays like those given
        intact : array, shape (frames,), bool
            Frames that still show what they showed; brightness, contrast and shifts spoil nothing.
        """
        if rng.random() < self.drop_clip:
            return mouth, np.zeros_like(valid), np.zeros_like(valid)
        wrong = rng.random() < self.wrong_clip
        if wrong:
            mouth, valid = other()
        if self.augment:
            mouth = _augment(mouth, rng, self.zoom, self.turn, self.blur)
        if len(self.corruptions) and rng.random() < self.corrupt:
            corruption = self.corruptions[rng.integers(len(self.corruptions))].with_other(other)
            if self.severities is not None:
                corruption = copy.copy(corruption)
                corruption.severity = int(rng.integers(self.severities[0], self.severities[1] + 1))
            before = mouth, valid
            mouth, valid = corruption(mouth, valid, rng)
            intact = valid & ~spoiled_frames(*before, mouth, valid)
        else:
            intact = valid
        intact = np.zeros_like(valid) if wrong else intact
        valid = valid.copy()
        frames = len(valid)
        if rng.random() < self.drop_span:
            length = int(rng.integers(1, max(2, frames)))
            start = int(rng.integers(0, frames - length + 1))
            valid[start : start + length] = False
        if rng.random() < self.drop_frames:
            valid[rng.random(frames) < 0.1] = False
        return mouth, valid, intact & valid


class MixtureSet(SpeechSet):
    """Training mixtures, each a function of seed, epoch and index alone.

    Speech as in `SpeechSet`, mixed at a random SNR with recorded noise, babble of other speakers, or coloured noise.

    Arguments
    ---------
    utterances : sequence of Utterance
        Speech and noise of one split.
    cache : ClipCache
    size : int
        Mixtures in an epoch.
    seconds : float
        Length of each, rounded to whole video frames.
    snr : (float, float)
        Lowest and highest SNR in dB.
    conditions : dict
        Relative frequency of `recorded`, `babble` and `coloured`.
    talkers : sequence of float
        Relative frequency of 1, 2, 3, ... talkers in babble.
    rival_share : float or None
        Share of babble talkers from the speech that has a face, whose recordings sound like the target's; others come
        from the speech that has none. None: as large as its share of all speech.
    babble_without_video : bool
        False: targets without a video are never mixed with babble, since nothing there tells who is meant.
    as_recorded : float
        Share of mixtures whose speech and noise keep the sound of their recordings: no random speed and tilt. Where
        corpora were recorded differently, that tells the target from the babble without a look at the mouth.
    speed : (float, float) or None
        Range of speeds at which speech is played, mouth and sound together; pitch and formants follow, so that no
        voice belongs to a face.
    video_share : float
        Share of targets that have a video, where the corpus has both.
    degradation : VideoDegradation or None
        None: the video is left as it is.
    use_video : bool
        False: no video is read, for audio-only systems.
    seed : int
    leave_out, corpora, balance, joined :
        See `SpeechSet`.
    same_corpus : float
        Share of babble whose speakers all come from the corpus of the target, which has a video: microphone, room and
        codec then say nothing about who is meant. Other babble follows `rival_share`. Where there are utterances as
        long as the target's, none is repeated.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        cache: ClipCache,
        size: int,
        seconds: float = 2.0,
        snr: tuple[float, float] = (-10.0, 10.0),
        conditions: dict[str, float] | None = None,
        talkers: Sequence[float] = (0.1, 0.6, 0.15, 0.1, 0.05),
        rival_share: float | None = None,
        babble_without_video: bool = False,
        as_recorded: float = 0.0,
        speed: tuple[float, float] | None = None,
        video_share: float = 0.7,
        degradation: VideoDegradation | None = None,
        use_video: bool = True,
        seed: int = 0,
        leave_out: int = 0,
        corpora: dict[str, float] | None = None,
        balance: float = 0.0,
        joined: bool = True,
        same_corpus: float = 0.0,
    ) -> None:
        drawn = (speed, video_share, degradation, use_video, seed, leave_out, corpora, balance, joined)
        super().__init__(utterances, cache, size, seconds, *drawn)
        self.same_corpus, self.rivals = same_corpus, self._rivals() if same_corpus else {}
        self.snr, self.talkers = tuple(snr), np.asarray(talkers, dtype=float)
        self.noises = [u for u in utterances if u.kind == "noise"]
        self.rival_share, self.as_recorded = rival_share, as_recorded
        self.babble_without_video = babble_without_video or not self.with_video
        conditions = dict(conditions or {"recorded": 0.5, "babble": 0.42, "coloured": 0.08})
        if not self.noises:
            conditions.pop("recorded", None)
        if len({u.speaker or u.dataset for u in self.utterances}) < 2:
            conditions.pop("babble", None)
        if not sum(conditions.values()) > 0:
            raise AvseError(
                "No training condition is left: conditions names none of coloured, recorded (needs noise rows in the "
                "manifest) and babble (needs two speakers)."
            )
        self.conditions = list(conditions)
        self.weights = np.array(list(conditions.values())) / sum(conditions.values())
        self.utterances = self.utterances + self.noises

    def __getitem__(self, index: int) -> tuple[Clip, np.ndarray, np.ndarray]:
        """Mixture `index` of the epoch: noisy clip, clean speech, noise, each of `samples` samples."""
        rng = np.random.default_rng((self.seed, self.epoch, index))
        as_recorded = rng.random() < self.as_recorded
        speed = None if as_recorded else self.speed
        target, cuts = self._draw(rng, speed)
        samples = self._length(cuts)
        speech, noise = self._sound(cuts)[:samples], self._noise(target, speed, rng, samples)
        if as_recorded:
            noise = _without_highest(noise, rng)
        else:
            speech, noise = equalise(speech, rng), equalise(noise, rng)
        clean = at_random_level(speech, rng)
        noisy, noise = mix_at_snr(clean, noise, rng.uniform(*self.snr))
        mouth, valid, intact = self._seen(target, cuts, rng)
        return Clip(noisy, mouth, valid, clip_id=target.id, intact=intact), clean, noise

    @staticmethod
    def collate(items: Sequence[tuple[Clip, np.ndarray, np.ndarray]]) -> Batch:
        """A `Batch` of items, for a `DataLoader`."""
        clips, clean, noise = zip(*items)
        return Batch.from_clips(clips, clean, noise)

    def _noise(
        self, target: Utterance, speed: tuple[float, float] | None, rng: np.random.Generator, samples: int
    ) -> np.ndarray:
        condition = self.conditions[rng.choice(len(self.conditions), p=self.weights)]
        if condition == "babble" and target.video is None and not self.babble_without_video:
            condition = "recorded" if self.noises else "coloured"
        if condition == "recorded":
            noise = self._loop(self.noises[rng.integers(len(self.noises))], rng, samples)
            if rng.random() < 0.25:
                other = self._loop(self.noises[rng.integers(len(self.noises))], rng, samples)
                noise = mix_at_snr(noise, other, rng.uniform(-5, 5))[0]
            return noise
        if condition == "coloured":
            return _coloured(samples, rng)
        if condition != "babble":
            raise AvseError(f"Unknown training condition {condition!r}; there are recorded, babble and coloured.")
        total = np.zeros(samples, dtype=np.float32)
        count = 1 + int(rng.choice(len(self.talkers), p=self.talkers / self.talkers.sum()))
        near = self.rivals.get(target.dataset) if target.video is not None else None
        if near is not None and rng.random() >= self.same_corpus:
            near = None
        for _ in range(count):
            talkers = self.speech
            if near is not None:
                talkers = near
            elif self.rival_share is not None and self.with_video and self.without_video:
                talkers = self.with_video if rng.random() < self.rival_share else self.without_video
            talker = self._rival(target, talkers, near or self.speech, rng)
            if near is not None:
                longest = math.ceil(samples * (1.0 if speed is None else speed[1]))
                for _ in range(_TRIES):
                    if len(self.cache.sound(talker)) >= longest:
                        break
                    talker = self._rival(target, near, near, rng)
            voice = self._loop(talker, rng, samples, speed)
            total += voice / (np.sqrt(np.mean(voice**2)) + 1e-6)
        return total

    @staticmethod
    def _rival(target: Utterance, first: Pool, then: Pool, rng: np.random.Generator) -> Utterance:
        """Somebody else's utterance, from `first`, or from `then` where that gave the target's speaker."""
        talker = first.draw(rng)
        while talker.id == target.id or (talker.speaker and talker.speaker == target.speaker):
            talker = then.draw(rng)
        return talker

    def _rivals(self) -> dict[str | None, Pool]:
        """The speech with a face by corpus, of those corpora that have more than one speaker."""
        by_corpus: dict[str | None, list[Utterance]] = {}
        for utterance in self.with_video.utterances:
            by_corpus.setdefault(utterance.dataset, []).append(utterance)
        return {
            name: self._pool(members)
            for name, members in by_corpus.items()
            if len({one.speaker or one.id for one in members}) > 1
        }

    def _loop(
        self,
        utterance: Utterance,
        rng: np.random.Generator,
        samples: int,
        speeds: tuple[float, float] | None = None,
    ) -> np.ndarray:
        speed = 1.0 if speeds is None else float(rng.uniform(*speeds))
        wanted = math.ceil(samples * speed)
        length = len(self.cache.sound(utterance))
        start = int(rng.integers(0, max(0, length - wanted) + 1))
        sound = at_speed(self.cache.excerpt(utterance, start, wanted), speed)[:samples]
        return np.roll(np.resize(sound, samples), int(rng.integers(0, samples)) if length < wanted else 0)


def _without_highest(noise: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mostly nothing above some 6 to 7 kHz, where what a codec left out of the speech must not tell it from noise."""
    if rng.random() < 0.3:
        return noise
    spectrum = np.fft.rfft(noise)
    frequency = np.linspace(0, SAMPLE_RATE / 2, len(spectrum))
    gain = np.clip((rng.uniform(6000, 7000) - frequency) / 200 + 1, 1e-3, 1)
    return np.fft.irfft(spectrum * gain, len(noise)).astype(np.float32)


def _coloured(samples: int, rng: np.random.Generator) -> np.ndarray:
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    slope = rng.uniform(-1.2, 0.3)
    spectrum *= np.maximum(np.arange(len(spectrum)), 1) ** slope
    noise = np.fft.irfft(spectrum, samples)
    return (noise / np.sqrt(np.mean(noise**2))).astype(np.float32)


def _augment(
    mouth: np.ndarray, rng: np.random.Generator, zoom: float = 0.0, turn: float = 0.0, blur: float = 0.0
) -> np.ndarray:
    if rng.random() < 0.5:
        mouth = mouth[:, :, ::-1]
    import cv2

    down, right = rng.integers(0, 11, size=2)
    height, width = mouth.shape[1:]
    if zoom or turn:
        centre = ((width - 1) / 2, (height - 1) / 2)
        move = cv2.getRotationMatrix2D(centre, rng.uniform(-turn, turn), rng.uniform(1 - zoom, 1 + zoom))
        move[:, 2] += 5 - right, 5 - down
        warp = lambda frame: cv2.warpAffine(frame, move, (width, height), borderMode=cv2.BORDER_REPLICATE)
        shifted = np.stack([warp(np.ascontiguousarray(frame)) for frame in mouth])
    else:
        padded = np.pad(mouth, ((0, 0), (5, 5), (5, 5)), mode="edge")
        shifted = np.ascontiguousarray(padded[:, down : down + height, right : right + width])
    if blur and rng.random() < 0.5:
        width_of_blur = rng.uniform(0.3, blur)
        shifted = np.stack([cv2.GaussianBlur(frame, (0, 0), width_of_blur) for frame in shifted])
    table = (np.arange(256) - 128) * rng.uniform(0.7, 1.3) + 128 + rng.uniform(-25, 25)
    return cv2.LUT(shifted.reshape(-1, width), np.clip(table, 0, 255).astype(np.uint8)).reshape(mouth.shape)
