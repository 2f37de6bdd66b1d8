"""Mixtures of one speaker made on the fly for training: speech, noise, and a degraded video."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from avse.contracts.corruption import corrupted_frames
from avse.contracts.types import SAMPLE_RATE, SAMPLES_PER_FRAME, Clip
from avse.data.cache import ClipCache
from avse.data.channels import Channel
from avse.data.manifest import Utterance
from avse.data.mixing import mix_at_snr
from avse.data.rooms import MeasuredRoom, MeasuredRooms, Room, Rooms
from avse.data.speech_set import ItemSet, Pool, SpeechSet, TrainingItem, at_random_level, at_speed, equalise
from avse.data.still import at_rest, pause_of
from avse.errors import AvseError

if TYPE_CHECKING:
    from avse.contracts.corruption import Corruption

Scenes = Callable[[Sequence[Utterance], np.ndarray, np.random.Generator], np.ndarray]
_TRIES = 8  # rivals that are drawn until one is long enough, and speakers until one has a pause


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
        Mirror, brightness, contrast and small shifts; also `zoom`, `turn` and `blur`.
    zoom : float
        Largest relative change of the mouth's size, either way.
    turn : float
        Largest rotation in the image plane in degrees, either way.
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
        mouth : array, shape (video_frames, 88, 88), uint8
        valid : array, shape (video_frames,), bool
        other : callable
            Gives another clip's `mouth` and `valid`, for `wrong_clip` and for corruptions that show another speaker.
        rng : numpy.random.Generator

        Returns
        -------
        mouth, valid : arrays like those given
        video_is_clean : array, shape (video_frames,), bool
            Frames that still show what they showed; what `augment` does corrupts nothing.
        """
        if rng.random() < self.drop_clip:
            return mouth, np.zeros_like(valid), np.zeros_like(valid)
        wrong = rng.random() < self.wrong_clip
        if wrong:
            mouth, valid = other()
        if self.augment:
            mouth = _augment(mouth, rng, self.zoom, self.turn, self.blur)
        if len(self.corruptions) and rng.random() < self.corrupt:
            corruption = self.corruptions[int(rng.integers(len(self.corruptions)))].with_other(other)
            if self.severities is not None:
                corruption = copy.copy(corruption)
                corruption.severity = int(rng.integers(self.severities[0], self.severities[1] + 1))
            before = mouth, valid
            mouth, valid = corruption(mouth, valid, rng)
            clean = valid & ~corrupted_frames(*before, mouth, valid)
        else:
            clean = valid
        clean = np.zeros_like(valid) if wrong else clean
        valid = valid.copy()
        frames = len(valid)
        if rng.random() < self.drop_span:
            length = int(rng.integers(1, max(2, frames)))
            start = int(rng.integers(0, frames - length + 1))
            valid[start : start + length] = False
        if rng.random() < self.drop_frames:
            valid[rng.random(frames) < 0.1] = False
        return mouth, valid, clean & valid


class NoiseSource:
    """Noise for mixtures: recordings, babble of interfering speakers, or coloured noise.

    Arguments
    ---------
    speech : SpeechSet
        Where interfering speakers are drawn from.
    noises : sequence of Utterance
        Recordings.
    conditions, interfering_speakers, rival_share, babble_without_video, same_corpus :
        See `MixtureSet`.
    noise_beside : float
        Share of babble with a recording or coloured noise beside it, 0 to 20 dB below the babble.

    Raises
    ------
    AvseError
        If the corpus has nothing for any of the conditions.
    """

    def __init__(
        self,
        speech: SpeechSet,
        noises: Sequence[Utterance],
        conditions: Mapping[str, float],
        interfering_speakers: Sequence[float] = (1.0,),
        rival_share: float | None = None,
        babble_without_video: bool = False,
        same_corpus: float = 0.0,
        noise_beside: float = 0.0,
    ) -> None:
        self.noise_beside = noise_beside
        self.speech, self.noises = speech, list(noises)
        self.interfering_speakers = np.asarray(interfering_speakers, dtype=float)
        self.rival_share = rival_share
        self.babble_without_video = babble_without_video or not speech.with_video
        self.same_corpus, self.corpora = same_corpus, pools_by_corpus(speech) if same_corpus else {}
        conditions = dict(conditions)
        if not self.noises:
            conditions.pop("recorded", None)
        if len({u.speaker or u.dataset for u in speech.utterances}) < 2:
            conditions.pop("babble", None)
        if not sum(conditions.values()) > 0:
            raise AvseError(
                "No training condition is left: conditions names none of coloured, recorded (needs noise rows in the "
                "manifest) and babble (needs two speakers)."
            )
        self.conditions = list(conditions)
        self.weights = np.array(list(conditions.values())) / sum(conditions.values())

    def draw(
        self,
        target: Utterance,
        samples: int,
        speed: tuple[float, float] | None,
        rng: np.random.Generator,
        room: Room | MeasuredRoom | None = None,
    ) -> tuple[np.ndarray, np.ndarray | None, list[Utterance]]:
        """Noise for a target, interfering speech at a speed from this range, in a room.

        Returns
        -------
        noise : array, shape (samples,)
        speech : array, shape (samples,), or None
            The interfering speech in it, where it is babble; in a room its early part.
        recordings : list of Utterance
            What it is made of, where it is recorded noise.
        """
        place = (lambda audio: (audio, audio)) if room is None else room.interference
        condition = self.conditions[rng.choice(len(self.conditions), p=self.weights)]
        if condition == "babble" and target.video is None and not self.babble_without_video:
            condition = "recorded" if self.noises else "coloured"
        if condition != "babble":
            noise, recordings = self._noise(condition, samples, rng)
            return place(noise)[0], None, recordings
        babble, early = self._babble(target, samples, speed, rng, place)
        if self.noise_beside and rng.random() < self.noise_beside:
            noise = place(self._noise("recorded" if self.noises else "coloured", samples, rng)[0])[0]
            return mix_at_snr(babble, noise, rng.uniform(0.0, 20.0))[0], early, []
        return babble, early, []

    def _noise(self, condition: str, samples: int, rng: np.random.Generator) -> tuple[np.ndarray, list[Utterance]]:
        if condition == "coloured":
            return _coloured(samples, rng), []
        if condition != "recorded":
            raise AvseError(f"Unknown training condition {condition!r}; there are recorded, babble and coloured.")
        recordings = [self.noises[rng.integers(len(self.noises))]]
        noise = self._loop(recordings[0], samples, rng)
        if rng.random() < 0.25:
            recordings.append(self.noises[rng.integers(len(self.noises))])
            noise = mix_at_snr(noise, self._loop(recordings[1], samples, rng), rng.uniform(-5, 5))[0]
        return noise, recordings

    def _babble(
        self,
        target: Utterance,
        samples: int,
        speed: tuple[float, float] | None,
        rng: np.random.Generator,
        place: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    ) -> tuple[np.ndarray, np.ndarray]:
        total, total_early = np.zeros((2, samples), dtype=np.float32)
        weights = self.interfering_speakers / self.interfering_speakers.sum()
        count = 1 + int(rng.choice(len(weights), p=weights))
        corpus = self.corpora.get(target.dataset) if target.video is not None else None
        if corpus is not None and rng.random() >= self.same_corpus:
            corpus = None
        longest = math.ceil(samples * (1.0 if speed is None else speed[1]))
        for _ in range(count):
            pool = self.speech.speech
            if corpus is not None:
                pool = corpus
            elif self.rival_share is not None and self.speech.with_video and self.speech.without_video:
                pool = self.speech.with_video if rng.random() < self.rival_share else self.speech.without_video
            rival = _rival(target, pool, corpus or self.speech.speech, rng)
            for _ in range(_TRIES if corpus is not None else 0):
                if len(self.speech.cache.sound(rival)) >= longest:
                    break
                rival = _rival(target, pool, pool, rng)
            speech, early = place(self._loop(rival, samples, rng, speed))
            level = np.sqrt(np.mean(speech**2)) + 1e-6
            total += speech / level
            total_early += early / level
        return total, total_early

    def _loop(
        self,
        utterance: Utterance,
        samples: int,
        rng: np.random.Generator,
        speeds: tuple[float, float] | None = None,
    ) -> np.ndarray:
        cache = self.speech.cache
        speed = 1.0 if speeds is None else float(rng.uniform(*speeds))
        wanted = math.ceil(samples * speed)
        length = len(cache.sound(utterance))
        start = int(rng.integers(0, max(0, length - wanted) + 1))
        audio = at_speed(cache.excerpt(utterance, start, wanted), speed)[:samples]
        return np.roll(np.resize(audio, samples), int(rng.integers(0, samples)) if length < wanted else 0)


class MixtureSet(ItemSet):
    """Training mixtures of one speaker to enhance, each a function of seed, epoch and index alone.

    Speech as in `SpeechSet`, mixed at a random SNR with recorded noise, babble of other speakers, or coloured noise.

    Arguments
    ---------
    utterances : sequence of Utterance
        Speech and noise of one split.
    cache, size, seconds, speed, video_share, degradation, use_video, seed, leave_out, corpora, balance, joined :
        See `SpeechSet`.
    same_speaker :
        See `SpeechSet`.
    snr : (float, float)
        Lowest and highest SNR in dB.
    conditions : dict
        Relative frequency of `recorded`, `babble` and `coloured`.
    interfering_speakers : sequence of float
        Relative frequency of 1, 2, 3, ... speakers in babble.
    rival_share : float or None
        Share of interfering speakers from the speech with a video, whose recordings resemble the target's; others come
        from the speech without one. None: as large as its share of all speech.
    same_corpus : float
        Share of babble whose speakers all come from the speech with a video of the target's corpus, if the target has a
        video: microphone, room and codec then do not tell which speaker is the target. Utterances as long as the
        target are preferred, so that none is repeated. Other babble follows `rival_share`.
    babble_without_video : bool
        False: targets without a video are never mixed with babble, since nothing tells which speaker is the target.
    noise_beside : float
        See `NoiseSource`.
    all_speech_below : float or None
        Where no video frame is clean and the noise is babble, nothing tells which speaker is meant: at an SNR below
        this, in dB, the speech to keep is then that of all speakers. None: it is always that of the target.
    silent_share : float
        Share of mixtures with a video whose speaker is silent: the mouth is at rest (`avse.data.still`), and there is
        no clean speech. Only speakers with a pause can be drawn.
    groups : callable or None
        Builds, from `utterances`, `cache` and `size`, a set of mixtures with a row for each speaker, such as
        `avse.data.separation_set.SeparationSet`: the same audio comes with the face of each, so that only the mouth
        tells which speaker is meant.
    group_share : float
        Share of items that are drawn from it.
    as_recorded : float
        Share of mixtures whose speech and noise are mixed as they were recorded: no random speed and tilt. Where
        corpora were recorded differently, that tells the target from the babble without the mouth.
    rooms : Rooms, MeasuredRooms, or None
        Rooms in which speech and noise are heard; clean is the target's early part. Mixtures without one stay as they
        are, as do those without a channel.
    channel : Channel or None
        What a device or a transmission does to a mixture; the noise is all of the mixture that is not clean.
    scenes : callable or None
        For a model that is told what the noise is (`Batch.scene`): builds, from the recordings of noise and the folder
        of the cache, a function that gives a vector, (dim,), of the recordings in a mixture (there may be none),
        such as `avse.training.told_noise.ToldNoise`. None: nothing is said.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        cache: ClipCache,
        size: int,
        seconds: float = 2.0,
        snr: tuple[float, float] = (-10.0, 10.0),
        conditions: dict[str, float] | None = None,
        interfering_speakers: Sequence[float] = (0.1, 0.6, 0.15, 0.1, 0.05),
        rival_share: float | None = None,
        same_corpus: float = 0.0,
        babble_without_video: bool = False,
        noise_beside: float = 0.0,
        all_speech_below: float | None = None,
        silent_share: float = 0.0,
        groups: Callable[..., ItemSet] | None = None,
        group_share: float = 0.5,
        as_recorded: float = 0.0,
        speed: tuple[float, float] | None = None,
        video_share: float = 0.7,
        degradation: VideoDegradation | None = None,
        use_video: bool = True,
        seed: int = 0,
        leave_out: int = 0,
        corpora: Mapping[str, float] | None = None,
        balance: float = 0.0,
        joined: bool = True,
        same_speaker: float = 0.0,
        rooms: Rooms | MeasuredRooms | None = None,
        channel: Channel | None = None,
        scenes: Callable[[Sequence[Utterance], Path], Scenes] | None = None,
    ) -> None:
        super().__init__(size, seed)
        self.rooms, self.channel = rooms, channel
        self.speech = SpeechSet(
            utterances,
            cache,
            size,
            seconds,
            speed=speed,
            video_share=video_share,
            degradation=degradation,
            use_video=use_video,
            leave_out=leave_out,
            corpora=corpora,
            balance=balance,
            joined=joined,
            same_speaker=same_speaker,
        )
        noises = [u for u in utterances if u.kind == "noise"]
        conditions = conditions or {"recorded": 0.5, "babble": 0.42, "coloured": 0.08}
        self.noise = NoiseSource(
            self.speech,
            noises,
            conditions,
            interfering_speakers,
            rival_share,
            babble_without_video,
            same_corpus,
            noise_beside,
        )
        self.snr, self.as_recorded = (snr[0], snr[1]), as_recorded
        self.all_speech_below, self.silent_share = all_speech_below, silent_share
        self.utterances, self.use_video = self.speech.utterances + noises, use_video
        self._pauses: dict[str, slice | None] = {}
        self.groups = None if groups is None else groups(utterances, cache, size)
        self.scenes = None if scenes is None else scenes(noises, cache.folder)
        self.group_share = group_share

    def make_item(self, rng: np.random.Generator) -> TrainingItem | list[TrainingItem]:
        """A noisy clip, its clean speech and its noise, or those of each speaker of a group."""
        if self.groups is not None and rng.random() < self.group_share:
            return self.groups.make_item(rng)
        as_recorded = rng.random() < self.as_recorded
        speed = None if as_recorded else self.speech.speed
        target, cuts = self.speech.draw(rng, speed)
        speech = self.speech.audio(cuts)
        acoustics = rng.spawn(1)[0]  # a stream of their own, so that rooms and channels change nothing else
        room = None if self.rooms is None else self.rooms.draw(acoustics)
        noise, babble, recordings = self.noise.draw(target, len(speech), speed, rng, room)
        if as_recorded:
            filters = [lambda signal, rng: signal, _without_highest]
        else:
            filters = [equalise, equalise]
        speech = filters[0](speech, rng)
        same_filter = copy.deepcopy(rng)
        noise = filters[1](noise, rng)
        clean = at_random_level(speech, rng)
        snr = rng.uniform(*self.snr)
        speech, clean = (clean, clean) if room is None else room.target(clean)
        noisy, scaled = mix_at_snr(speech, noise, snr)
        if self.silent_share and target.video is not None and rng.random() < self.silent_share:
            noisy, clean = scaled, np.zeros_like(clean)
            mouth, valid, video_is_clean = self._mouth_at_rest(target, len(clean), rng)
        else:
            mouth, valid, video_is_clean = self.speech.degraded_video(target, cuts, rng)
        unknown = video_is_clean is None or not video_is_clean.any()
        if unknown and babble is not None and self.all_speech_below is not None and snr < self.all_speech_below:
            gain = np.linalg.norm(scaled) / max(float(np.linalg.norm(noise)), 1e-9)
            clean = (clean + gain * filters[1](babble, same_filter)).astype(np.float32)
            scaled = noisy - clean
        if self.channel is not None:
            noisy, clean = self.channel(noisy, clean, acoustics)
        if room is not None or self.channel is not None:
            scaled = noisy - clean
        clip = Clip(noisy, mouth, valid, target.id, video_is_clean=video_is_clean)
        scene = None if self.scenes is None else self.scenes(recordings, noisy, rng.spawn(1)[0])
        return TrainingItem(clip, clean, scaled, scene)

    def _mouth_at_rest(
        self, target: Utterance, samples: int, rng: np.random.Generator
    ) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
        """A degraded video of a silent speaker, its validity and which frames are clean; no video if none has a pause.

        The speaker is that of `target`, or another one with a pause.
        """
        cache = self.speech.cache
        for _ in range(_TRIES):
            if target.id not in self._pauses:
                self._pauses[target.id] = pause_of(cache, target)
            pause = self._pauses[target.id]
            if pause is not None:
                mouth, valid = cache.mouth(target)
                rows = at_rest(pause, -(-samples // SAMPLES_PER_FRAME), rng)
                return self.speech.degrade(target, mouth[rows], valid[rows], samples, rng)
            target = self.speech.with_video.draw(rng)
        return None, None, None


def pools_by_corpus(speech: SpeechSet, speakers: int = 2) -> dict[str | None, Pool]:
    """The speech with a video of each corpus that has at least so many speakers."""
    corpora: dict[str | None, list[Utterance]] = {}
    for utterance in speech.with_video.utterances:
        corpora.setdefault(utterance.dataset, []).append(utterance)
    return {
        corpus: speech.pool(utterances)
        for corpus, utterances in corpora.items()
        if len({utterance.speaker or utterance.id for utterance in utterances}) >= speakers
    }


def _rival(target: Utterance, pool: Pool, others: Pool, rng: np.random.Generator) -> Utterance:
    """An utterance of another speaker, from `pool`, or from `others` where that gave the target's speaker."""
    rival = pool.draw(rng)
    while rival.id == target.id or (rival.speaker and rival.speaker == target.speaker):
        rival = others.draw(rng)
    return rival


def _without_highest(noise: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise mostly without its part above 6 to 7 kHz: a codec's cut-off must not tell speech from noise."""
    if rng.random() < 0.3:
        return noise
    spectrum = np.fft.rfft(noise)
    frequency = np.linspace(0, SAMPLE_RATE / 2, len(spectrum))
    gain = np.clip((rng.uniform(6000, 7000) - frequency) / 200 + 1, 1e-3, 1)
    return np.fft.irfft(spectrum * gain, len(noise)).astype(np.float32)


def _coloured(samples: int, rng: np.random.Generator) -> np.ndarray:
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    gradient = rng.uniform(-1.2, 0.3)
    spectrum *= np.maximum(np.arange(len(spectrum)), 1) ** gradient
    noise = np.fft.irfft(spectrum, samples)
    return (noise / np.sqrt(np.mean(noise**2))).astype(np.float32)


def _augment(mouth: np.ndarray, rng: np.random.Generator, zoom: float, turn: float, blur: float) -> np.ndarray:
    if rng.random() < 0.5:
        mouth = mouth[:, :, ::-1]
    import cv2

    down, right = rng.integers(0, 11, size=2)
    height, width = mouth.shape[1:]
    if zoom or turn:
        centre = ((width - 1) / 2, (height - 1) / 2)
        matrix = cv2.getRotationMatrix2D(centre, rng.uniform(-turn, turn), rng.uniform(1 - zoom, 1 + zoom))
        matrix[:, 2] += 5 - right, 5 - down
        warp = lambda frame: cv2.warpAffine(frame, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
        shifted = np.stack([warp(np.ascontiguousarray(frame)) for frame in mouth])
    else:
        padded = np.pad(mouth, ((0, 0), (5, 5), (5, 5)), mode="edge")
        shifted = np.ascontiguousarray(padded[:, down : down + height, right : right + width])
    if blur and rng.random() < 0.5:
        std = rng.uniform(0.3, blur)
        shifted = np.stack([cv2.GaussianBlur(frame, (0, 0), std) for frame in shifted])
    table = (np.arange(256) - 128) * rng.uniform(0.7, 1.3) + 128 + rng.uniform(-25, 25)
    return cv2.LUT(shifted.reshape(-1, width), np.clip(table, 0, 255).astype(np.uint8)).reshape(mouth.shape)
