"""Clean speech drawn on the fly for training, with the mouth of its speaker; and what all training sets share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from avse.contracts.types import SAMPLE_RATE, SAMPLES_PER_FRAME, Batch, Clip
from avse.data.cache import ClipCache
from avse.data.manifest import Utterance, is_left_out
from avse.errors import AvseError

_MOST_CUTS = 8
_LONGEST = 6.0

Degradation = Callable[
    [np.ndarray, np.ndarray, Callable[[], tuple[np.ndarray, np.ndarray]], np.random.Generator],
    tuple[np.ndarray, np.ndarray, np.ndarray],
]


class TrainingItem(NamedTuple):
    """What is trained on: a clip, the clean speech in it and the rest of it, (samples,); a scene, (dim,)."""

    clip: Clip
    clean: np.ndarray
    noise: np.ndarray | None = None
    scene: np.ndarray | None = None


class ItemSet(Dataset):
    """Training items made on the fly, each a function of seed, epoch and index alone.

    Nothing depends on how many were made before, so that a resumed run sees what an uninterrupted one would have seen.
    Subclasses write `make_item`.

    Arguments
    ---------
    size : int
        Items in an epoch.
    seed : int

    Attributes
    ----------
    utterances : list of Utterance
        All that items are made of.
    use_video : bool
        Whether items have a video.
    """

    utterances: list[Utterance]
    use_video: bool

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed, self.epoch = size, seed, 0

    def __len__(self) -> int:
        return self.size

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose items `__getitem__` gives."""
        self.epoch = epoch

    def __getitem__(self, index: int) -> TrainingItem | list[TrainingItem]:
        """Item `index` of the epoch."""
        return self.make_item(np.random.default_rng((self.seed, self.epoch, index)))

    def make_item(self, rng: np.random.Generator) -> TrainingItem | list[TrainingItem]:
        """Make an item, of a mixture of several speakers one for each of them, from a generator of random numbers."""
        raise NotImplementedError

    @staticmethod
    def collate(items: Sequence[TrainingItem | list[TrainingItem]]) -> Batch:
        """A `Batch` of items, for a `DataLoader`: a row for each speaker; of groups alone, with `Batch.mixture`."""
        groups = [item if isinstance(item, list) else [item] for item in items]
        clips, clean, noise, scenes = zip(*[row for group in groups for row in group])
        batch = Batch.from_clips(clips, clean, None if noise[0] is None else noise)
        if told := [scene for scene in scenes if scene is not None]:
            nothing = np.zeros_like(told[0])
            batch.scene = torch.as_tensor(np.stack([nothing if scene is None else scene for scene in scenes]))
        if all(isinstance(item, list) for item in items):
            batch.mixture = torch.tensor([number for number, group in enumerate(groups) for _ in group])
        return batch


class SpeechSet(ItemSet):
    """Clean speech for priors, and where `MixtureSet` and `SeparationSet` draw their speech from.

    An utterance is cut to `seconds` (a short one is continued by others of its speaker) and played at a random level
    and with a random tilt of its spectrum.

    Arguments
    ---------
    utterances : sequence of Utterance
        Speech of one split; noise is passed over.
    cache : ClipCache
    size : int
        Items in an epoch.
    seconds : float
        Length of each, rounded to whole video frames.
    speed : (float, float) or None
        Range of speeds at which speech is played, mouth and audio together; pitch and formants follow, so that a face
        does not determine a voice.
    video_share : float
        Share of items that have a video, where the corpus has both.
    degradation : callable or None
        See `avse.data.training_set.VideoDegradation`. None: the video is left as it is.
    use_video : bool
        False: no video is read, for audio-only systems.
    seed : int
    leave_out : int
        One clip in so many is never drawn, so that known speakers can be tested on what they did not say in training;
        see `is_left_out`. 0: all are drawn.
    corpora : dict or None
        How much more often than others the utterances of a corpus are drawn, by the `dataset` of the manifest; 1 for
        corpora that it does not name.
    balance : float
        From 0 (each second of speech is as likely as any other) to 1 (each speaker is).
    joined : bool
        False: a short utterance makes a short item and is not continued by others. Then no cut that is both seen and
        heard tells which audio belongs to which mouth.
    same_speaker : float
        Share of the other clips that `degradation` shows which are of the same speaker, where there are any.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        cache: ClipCache,
        size: int,
        seconds: float = 2.0,
        speed: tuple[float, float] | None = None,
        video_share: float = 0.7,
        degradation: Degradation | None = None,
        use_video: bool = True,
        seed: int = 0,
        leave_out: int = 0,
        corpora: Mapping[str, float] | None = None,
        balance: float = 0.0,
        joined: bool = True,
        same_speaker: float = 0.0,
    ) -> None:
        super().__init__(size, seed)
        self.cache, self.corpora, self.balance, self.joined = cache, corpora, balance, joined
        self.speed = None if speed is None else (speed[0], speed[1])
        self.same_speaker = same_speaker
        self.samples = max(1, round(seconds * SAMPLE_RATE / SAMPLES_PER_FRAME)) * SAMPLES_PER_FRAME
        self.degradation, self.use_video = degradation, use_video
        self.utterances = [
            u
            for u in utterances
            if u.kind != "noise" and u.clean is not None and u.weight and not is_left_out(u.id, leave_out)
        ]
        self.speech = self.pool(self.utterances)
        self.with_video = self.pool([u for u in self.utterances if u.video is not None])
        self.without_video = self.pool([u for u in self.utterances if u.video is None])
        if not self.speech:
            raise AvseError(
                "this split of the manifest has no clean speech. Check its columns clean and split; a small part of a "
                "corpus may need some speakers moved to it."
            )
        if not self.with_video or not self.without_video:
            video_share = float(bool(self.with_video))
        self.video_share = video_share
        self.mates: dict[tuple[str, bool], list[Utterance]] = {}
        for utterance in self.utterances:
            if utterance.speaker:
                self.mates.setdefault((utterance.speaker, utterance.video is not None), []).append(utterance)

    def make_item(self, rng: np.random.Generator) -> TrainingItem:
        """Clean speech, and its mouth."""
        target, cuts = self.draw(rng, self.speed)
        # A prior trained on low-passed speech would give loud high frequencies almost no probability.
        speech = equalise(self.audio(cuts), rng, low_pass=False)
        mouth, valid, video_is_clean = self.degraded_video(target, cuts, rng)
        speech = at_random_level(speech, rng)
        return TrainingItem(Clip(speech, mouth, valid, target.id, target.speaker or "", video_is_clean), speech)

    def pool(self, utterances: list[Utterance]) -> Pool:
        """Utterances to draw from, as often as `corpora` and `balance` say."""
        return Pool(utterances, self.corpora, self.balance)

    def draw(self, rng: np.random.Generator, speeds: tuple[float, float] | None) -> tuple[Utterance, list[Cut]]:
        """An utterance, and where to cut it."""
        target = (self.with_video if rng.random() < self.video_share else self.without_video).draw(rng)
        return target, self.cuts(target, speeds, rng)

    def degraded_video(
        self, target: Utterance, cuts: list[Cut], rng: np.random.Generator
    ) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
        """Degraded mouth crops, their validity, and which of them are clean, where there is a video."""
        if not self.use_video or target.video is None:
            return None, None, None
        samples = self.length(cuts)
        return self.degrade(target, *self.video(cuts, samples), samples, rng)

    def degrade(
        self, target: Utterance, mouth: np.ndarray, valid: np.ndarray, samples: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mouth crops of a target and their validity degraded, and which frames are clean."""
        if self.degradation is None:
            return mouth, valid, valid
        wrong = lambda: self.video(self.cuts(self._other_than(target, rng), self.speed, rng), samples)
        return self.degradation(mouth, valid, wrong, rng)

    def _other_than(self, target: Utterance, rng: np.random.Generator) -> Utterance:
        """An utterance with a video: of the same speaker as often as `same_speaker` says, or any."""
        if self.same_speaker and rng.random() < self.same_speaker:
            others = [mate for mate in self.mates.get((target.speaker, True), ()) if mate is not target]
            if others:
                return others[rng.integers(len(others))]
        return self.with_video.draw(rng)

    def cuts(self, utterance: Utterance, speeds: tuple[float, float] | None, rng: np.random.Generator) -> list[Cut]:
        """Where a target is cut from: one utterance, and if it is too short, more of the same speaker after it.

        Silence after a short utterance would teach that speech ends where the video does. Items that are not `joined`
        are as short as their utterance.
        """
        speed = 1.0 if speeds is None else float(rng.uniform(*speeds))
        mates = self.mates.get((utterance.speaker, utterance.video is not None), [utterance])
        cuts: list[Cut] = []
        wanted = self.samples // SAMPLES_PER_FRAME
        while wanted > 0 and len(cuts) < (_MOST_CUTS if self.joined else 1):
            frames = int(len(self.cache.sound(utterance)) / speed) // SAMPLES_PER_FRAME
            if frames > 0:
                spare = max(0, len(self.cache.sound(utterance)) - int(wanted * SAMPLES_PER_FRAME * speed))
                # Nothing can be learned from a silent cut; draw again a few times.
                for _ in range(4):
                    start = int(rng.integers(0, spare // SAMPLES_PER_FRAME + 1)) * SAMPLES_PER_FRAME
                    cut = Cut(utterance, start, min(frames, wanted), speed)
                    if np.mean(self.audio([cut]) ** 2) > 1e-7:
                        break
                cuts.append(cut)
                wanted -= cut.frames
            elif not cuts:
                break
            utterance = mates[rng.integers(len(mates))]
        return cuts

    def length(self, cuts: list[Cut]) -> int:
        """Samples of the item that cuts make."""
        return self.samples if self.joined or not cuts else sum(cut.frames for cut in cuts) * SAMPLES_PER_FRAME

    def audio(self, cuts: list[Cut]) -> np.ndarray:
        """Audio of cuts, shape (samples,), silent after the last."""
        speech = np.zeros(self.length(cuts), dtype=np.float32)
        filled = 0
        for cut in cuts:
            size = cut.frames * SAMPLES_PER_FRAME
            part = self.cache.excerpt(cut.utterance, cut.start, math.ceil(size * cut.speed))
            part = at_speed(part, cut.speed)[:size]
            speech[filled : filled + len(part)] = part
            filled += size
        return speech

    def video(self, cuts: list[Cut], samples: int) -> tuple[np.ndarray, np.ndarray]:
        """Mouth crops of cuts at the speed of their audio, cut or padded to `samples`, and their validity."""
        mouths, valids = [], []
        for cut in cuts:
            mouth, valid = self.cache.mouth(cut.utterance)
            rows = cut.start // SAMPLES_PER_FRAME + ((np.arange(cut.frames) + 0.5) * cut.speed).astype(int)
            mask = rows < len(valid)
            rows = np.minimum(rows, len(valid) - 1)
            mouths.append(mouth[rows])
            valids.append(valid[rows] & mask)
        clip = Clip(np.zeros(samples, dtype=np.float32), np.concatenate(mouths), np.concatenate(valids))
        return clip.mouth, clip.valid


class Pool:
    """Utterances of which longer ones are drawn more often, up to `_LONGEST` seconds, and as their `weight` says.

    Arguments
    ---------
    utterances : list of Utterance
        One without a speaker counts as a speaker of its own.
    corpora, balance :
        See `SpeechSet`.

    Example
    -------
    >>> utterances = [Utterance(name, speaker=name[0], duration=3.0) for name in ("a1", "a2", "b1")]
    >>> Pool(utterances).shares.tolist() == [1 / 3] * 3
    True
    >>> Pool(utterances, balance=1.0).shares.tolist()
    [0.25, 0.25, 0.5]
    """

    def __init__(
        self, utterances: list[Utterance], corpora: Mapping[str, float] | None = None, balance: float = 0.0
    ) -> None:
        self.utterances = utterances
        seconds = np.array([min(utterance.duration or 1.0, _LONGEST) for utterance in utterances])
        speakers = [(utterance.dataset, utterance.speaker or utterance.id) for utterance in utterances]
        of_speaker: dict[tuple[str | None, str], float] = {}
        for speaker, duration in zip(speakers, seconds):
            of_speaker[speaker] = of_speaker.get(speaker, 0.0) + duration
        weights = seconds * np.array([of_speaker[speaker] ** -balance for speaker in speakers])
        weights = weights * np.array([(corpora or {}).get(utterance.dataset or "", 1.0) for utterance in utterances])
        weights = weights * np.array([utterance.weight for utterance in utterances])
        self.ends = np.cumsum(weights)

    @property
    def shares(self) -> np.ndarray:
        """Probability of each utterance, shape (utterances,)."""
        return np.diff(self.ends, prepend=0.0) / self.ends[-1]

    def __len__(self) -> int:
        return len(self.utterances)

    def draw(self, rng: np.random.Generator) -> Utterance:
        place = np.searchsorted(self.ends, rng.random() * self.ends[-1], side="right")
        return self.utterances[min(int(place), len(self) - 1)]


@dataclass
class Cut:
    """Part of an utterance: `frames` video frames from sample `start` on, played `speed` times as fast."""

    utterance: Utterance
    start: int
    frames: int
    speed: float


def at_speed(audio: np.ndarray, speed: float) -> np.ndarray:
    """Audio played faster: pitch and formants rise with it, so that one speaker becomes many."""
    if speed == 1.0:
        return audio
    import soxr

    return soxr.resample(audio, SAMPLE_RATE * speed, SAMPLE_RATE, quality="LQ")


def equalise(signal: np.ndarray, rng: np.random.Generator, low_pass: bool = True) -> np.ndarray:
    """A small random tilt, and sometimes a random low-pass, so that no codec's cut-off tells speech from noise."""
    if rng.random() < 0.4:
        return signal
    spectrum = np.fft.rfft(signal)
    octaves = np.log2(np.arange(1, len(spectrum) + 1) / len(spectrum))
    gain_db = rng.uniform(-1.0, 1.0) * octaves
    if low_pass and rng.random() < 0.4:
        cutoff = rng.uniform(0.4, 1.0)
        gain_db = gain_db - 60.0 * np.clip((np.linspace(0, 1, len(spectrum)) - cutoff) / 0.03, 0, 1)
    return np.fft.irfft(spectrum * 10 ** (gain_db / 20), len(signal)).astype(np.float32)


def at_random_level(speech: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Speech at a level between -35 and -15 dB of full scale."""
    level = 10 ** (rng.uniform(-35, -15) / 20) / (np.sqrt(np.mean(speech**2)) + 1e-6)
    return (level * speech).astype(np.float32)
