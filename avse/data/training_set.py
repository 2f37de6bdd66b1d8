"""Mixtures made on the fly for training: speech, noise, and what can go wrong with the video."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from torch.utils.data import Dataset

from avse.contracts.types import SAMPLE_RATE, SAMPLES_PER_FRAME, Batch, Clip
from avse.data.cache import ClipCache
from avse.data.manifest import Utterance
from avse.data.mixing import mix_at_snr
from avse.errors import AvseError

if TYPE_CHECKING:
    from avse.contracts.corruption import Corruption

_MOST_CUTS = 8
_LONGEST = 6.0


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
        One of `corruptions` is applied at a random severity of theirs.
    corruptions : sequence of Corruption
    augment : bool
        Mirror, brightness, contrast and small shifts.
    """

    drop_clip: float = 0.2
    drop_span: float = 0.15
    drop_frames: float = 0.1
    wrong_clip: float = 0.1
    corrupt: float = 0.15
    corruptions: Sequence[Corruption] = field(default_factory=list)
    augment: bool = True

    def __call__(
        self,
        mouth: np.ndarray,
        valid: np.ndarray,
        other: Callable[[], tuple[np.ndarray, np.ndarray]],
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Degrade one clip's video.

        Arguments
        ---------
        mouth : array, shape (frames, 88, 88), uint8
        valid : array, shape (frames,), bool
        other : callable
            Gives another clip's `mouth` and `valid`, for `wrong_clip`.
        rng : numpy.random.Generator

        Returns
        -------
        mouth, valid : arrays like those given
        """
        if rng.random() < self.drop_clip:
            return mouth, np.zeros_like(valid)
        if rng.random() < self.wrong_clip:
            mouth, valid = other()
        if self.augment:
            mouth = _augment(mouth, rng)
        if len(self.corruptions) and rng.random() < self.corrupt:
            mouth, valid = self.corruptions[rng.integers(len(self.corruptions))](mouth, valid, rng)
        valid = valid.copy()
        frames = len(valid)
        if rng.random() < self.drop_span:
            length = int(rng.integers(1, max(2, frames)))
            start = int(rng.integers(0, frames - length + 1))
            valid[start : start + length] = False
        if rng.random() < self.drop_frames:
            valid[rng.random(frames) < 0.1] = False
        return mouth, valid


class MixtureSet(Dataset):
    """Training mixtures, each a function of seed, epoch and index alone.

    A target utterance is cut to `seconds`, mixed at a random SNR with recorded noise, babble of other speakers, or
    coloured noise. Nothing depends on how many were drawn before, so that a resumed run sees what an uninterrupted
    one would have seen.

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
        Share of babble talkers from the speech that has a face, whose recordings sound like the target's. None: as
        large as its share of all speech.
    babble_without_video : bool
        False: targets without a video are never mixed with babble, since nothing there tells who is meant.
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
        speed: tuple[float, float] | None = None,
        video_share: float = 0.7,
        degradation: VideoDegradation | None = None,
        use_video: bool = True,
        seed: int = 0,
    ) -> None:
        self.cache, self.size, self.seed, self.epoch = cache, size, seed, 0
        self.speed = None if speed is None else tuple(speed)
        self.samples = max(1, round(seconds * SAMPLE_RATE / SAMPLES_PER_FRAME)) * SAMPLES_PER_FRAME
        self.snr, self.talkers = tuple(snr), np.asarray(talkers, dtype=float)
        self.degradation, self.use_video = degradation, use_video
        speech = [u for u in utterances if u.kind != "noise" and u.clean is not None]
        self.noises = [u for u in utterances if u.kind == "noise"]
        self.speech = _Pool(speech)
        self.with_video = _Pool([u for u in speech if u.video is not None])
        self.without_video = _Pool([u for u in speech if u.video is None])
        if not self.speech:
            raise AvseError(
                "The training split of the manifest has no clean speech. Check its columns clean and split."
            )
        if not self.with_video or not self.without_video:
            video_share = float(bool(self.with_video))
        self.video_share, self.rival_share = video_share, rival_share
        self.babble_without_video = babble_without_video or not self.with_video
        conditions = dict(conditions or {"recorded": 0.5, "babble": 0.42, "coloured": 0.08})
        if not self.noises:
            conditions.pop("recorded", None)
        if len({u.speaker or u.dataset for u in speech}) < 2:
            conditions.pop("babble", None)
        if not sum(conditions.values()) > 0:
            raise AvseError(
                "No training condition is left: conditions names none of coloured, recorded (needs noise rows in the "
                "manifest) and babble (needs two speakers)."
            )
        self.conditions = list(conditions)
        self.weights = np.array(list(conditions.values())) / sum(conditions.values())
        self.mates: dict[tuple[str, bool], list[Utterance]] = {}
        for utterance in speech:
            if utterance.speaker:
                self.mates.setdefault((utterance.speaker, utterance.video is not None), []).append(utterance)

    def __len__(self) -> int:
        return self.size

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose mixtures `__getitem__` gives."""
        self.epoch = epoch

    def __getitem__(self, index: int) -> tuple[Clip, np.ndarray, np.ndarray]:
        """Mixture `index` of the epoch: noisy clip, clean speech, noise, each of `samples` samples."""
        rng = np.random.default_rng((self.seed, self.epoch, index))
        target = (self.with_video if rng.random() < self.video_share else self.without_video).draw(rng)
        cuts = self._cuts(target, rng)
        speech = _equalise(self._sound(cuts), rng)
        noise = _equalise(self._noise(target, rng), rng)
        level = 10 ** (rng.uniform(-35, -15) / 20) / (np.sqrt(np.mean(speech**2)) + 1e-6)
        noisy, noise = mix_at_snr(level * speech, noise, rng.uniform(*self.snr))
        mouth = valid = None
        if self.use_video and target.video is not None:
            mouth, valid = self._video(cuts)
            if self.degradation is not None:
                wrong = lambda: self._video(self._cuts(self.with_video.draw(rng), rng))
                mouth, valid = self.degradation(mouth, valid, wrong, rng)
        clean = (level * speech).astype(np.float32)
        return Clip(noisy, mouth, valid, clip_id=target.id), clean, noise

    @staticmethod
    def collate(items: Sequence[tuple[Clip, np.ndarray, np.ndarray]]) -> Batch:
        """A `Batch` of items, for a `DataLoader`."""
        clips, clean, noise = zip(*items)
        return Batch.from_clips(clips, clean, noise)

    def _cuts(self, utterance: Utterance, rng: np.random.Generator) -> list[_Cut]:
        """Where a target is cut from: one utterance, and if it is too short, more of the same speaker after it.

        Silence after a short utterance would teach that speech ends where the video does.
        """
        speed = 1.0 if self.speed is None else float(rng.uniform(*self.speed))
        mates = self.mates.get((utterance.speaker, utterance.video is not None), [utterance])
        cuts: list[_Cut] = []
        wanted = self.samples // SAMPLES_PER_FRAME
        while wanted > 0 and len(cuts) < _MOST_CUTS:
            frames = int(len(self.cache.sound(utterance)) / speed) // SAMPLES_PER_FRAME
            if frames > 0:
                spare = max(0, len(self.cache.sound(utterance)) - int(wanted * SAMPLES_PER_FRAME * speed))
                # A cut that holds no sound would leave nothing to learn; look again a few times.
                for _ in range(4):
                    start = int(rng.integers(0, spare // SAMPLES_PER_FRAME + 1)) * SAMPLES_PER_FRAME
                    cut = _Cut(utterance, start, min(frames, wanted), speed)
                    if np.mean(self._sound([cut]) ** 2) > 1e-7:
                        break
                cuts.append(cut)
                wanted -= cut.frames
            elif not cuts:
                break
            utterance = mates[rng.integers(len(mates))]
        return cuts

    def _sound(self, cuts: list[_Cut]) -> np.ndarray:
        """Sound of cuts, shape (samples,), silent after the last."""
        speech = np.zeros(self.samples, dtype=np.float32)
        filled = 0
        for cut in cuts:
            size = cut.frames * SAMPLES_PER_FRAME
            part = self.cache.excerpt(cut.utterance, cut.start, math.ceil(size * cut.speed))
            part = _at_speed(part, cut.speed)[:size]
            speech[filled : filled + len(part)] = part
            filled += size
        return speech

    def _video(self, cuts: list[_Cut]) -> tuple[np.ndarray, np.ndarray]:
        """Mouth crops of cuts at the speed of their sound, and their validity."""
        mouths, valids = [], []
        for cut in cuts:
            mouth, valid = self.cache.mouth(cut.utterance)
            rows = cut.start // SAMPLES_PER_FRAME + ((np.arange(cut.frames) + 0.5) * cut.speed).astype(int)
            inside = rows < len(valid)
            rows = np.minimum(rows, len(valid) - 1)
            mouths.append(mouth[rows])
            valids.append(valid[rows] & inside)
        clip = Clip(np.zeros(self.samples, dtype=np.float32), np.concatenate(mouths), np.concatenate(valids))
        return clip.mouth, clip.valid

    def _noise(self, target: Utterance, rng: np.random.Generator) -> np.ndarray:
        condition = self.conditions[rng.choice(len(self.conditions), p=self.weights)]
        if condition == "babble" and target.video is None and not self.babble_without_video:
            condition = "recorded" if self.noises else "coloured"
        if condition == "recorded":
            noise = self._loop(self.noises[rng.integers(len(self.noises))], rng)
            if rng.random() < 0.25:
                other = self._loop(self.noises[rng.integers(len(self.noises))], rng)
                noise = mix_at_snr(noise, other, rng.uniform(-5, 5))[0]
            return noise
        if condition == "coloured":
            return _coloured(self.samples, rng)
        if condition != "babble":
            raise AvseError(f"Unknown training condition {condition!r}; there are recorded, babble and coloured.")
        total = np.zeros(self.samples, dtype=np.float32)
        count = 1 + int(rng.choice(len(self.talkers), p=self.talkers / self.talkers.sum()))
        for _ in range(count):
            rival = self.rival_share is not None and self.with_video and rng.random() < self.rival_share
            talker = (self.with_video if rival else self.speech).draw(rng)
            while talker.id == target.id or (talker.speaker and talker.speaker == target.speaker):
                talker = self.speech.draw(rng)
            voice = self._loop(talker, rng, self.speed)
            total += voice / (np.sqrt(np.mean(voice**2)) + 1e-6)
        return total

    def _loop(
        self, utterance: Utterance, rng: np.random.Generator, speeds: tuple[float, float] | None = None
    ) -> np.ndarray:
        speed = 1.0 if speeds is None else float(rng.uniform(*speeds))
        wanted = math.ceil(self.samples * speed)
        length = len(self.cache.sound(utterance))
        start = int(rng.integers(0, max(0, length - wanted) + 1))
        sound = _at_speed(self.cache.excerpt(utterance, start, wanted), speed)[: self.samples]
        return np.roll(np.resize(sound, self.samples), int(rng.integers(0, self.samples)) if length < wanted else 0)


class _Pool:
    """Utterances of which longer ones are drawn more often, up to `_LONGEST` seconds."""

    def __init__(self, utterances: list[Utterance]) -> None:
        self.utterances = utterances
        self.ends = np.cumsum([min(utterance.duration or 1.0, _LONGEST) for utterance in utterances])

    def __len__(self) -> int:
        return len(self.utterances)

    def draw(self, rng: np.random.Generator) -> Utterance:
        place = np.searchsorted(self.ends, rng.random() * self.ends[-1], side="right")
        return self.utterances[min(int(place), len(self) - 1)]


@dataclass
class _Cut:
    """Part of an utterance: `frames` video frames from sample `start` on, played `speed` times as fast."""

    utterance: Utterance
    start: int
    frames: int
    speed: float


def _at_speed(sound: np.ndarray, speed: float) -> np.ndarray:
    """Sound played faster: pitch and formants rise with it, so that one speaker becomes many."""
    if speed == 1.0:
        return sound
    import soxr

    return soxr.resample(sound, SAMPLE_RATE * speed, SAMPLE_RATE, quality="LQ")


def _equalise(signal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A gentle random tilt, and now and then a random low-pass, so that no codec's cut-off tells speech from noise."""
    if rng.random() < 0.4:
        return signal
    spectrum = np.fft.rfft(signal)
    octaves = np.log2(np.arange(1, len(spectrum) + 1) / len(spectrum))
    gain_db = rng.uniform(-1.0, 1.0) * octaves
    if rng.random() < 0.4:
        cutoff = rng.uniform(0.4, 1.0)
        gain_db = gain_db - 60.0 * np.clip((np.linspace(0, 1, len(spectrum)) - cutoff) / 0.03, 0, 1)
    return np.fft.irfft(spectrum * 10 ** (gain_db / 20), len(signal)).astype(np.float32)


def _coloured(samples: int, rng: np.random.Generator) -> np.ndarray:
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    slope = rng.uniform(-1.2, 0.3)
    spectrum *= np.maximum(np.arange(len(spectrum)), 1) ** slope
    noise = np.fft.irfft(spectrum, samples)
    return (noise / np.sqrt(np.mean(noise**2))).astype(np.float32)


def _augment(mouth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.5:
        mouth = mouth[:, :, ::-1]
    import cv2

    down, right = rng.integers(0, 11, size=2)
    height, width = mouth.shape[1:]
    padded = np.pad(mouth, ((0, 0), (5, 5), (5, 5)), mode="edge")
    shifted = np.ascontiguousarray(padded[:, down : down + height, right : right + width])
    table = (np.arange(256) - 128) * rng.uniform(0.7, 1.3) + 128 + rng.uniform(-25, 25)
    return cv2.LUT(shifted.reshape(-1, width), np.clip(table, 0, 255).astype(np.uint8)).reshape(mouth.shape)
