"""Mixtures of several speakers made on the fly for training, with the mouth of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from avse.contracts.types import Clip
from avse.data.cache import ClipCache
from avse.data.manifest import Utterance, is_left_out
from avse.data.mixing import active_power, mix_at_snr
from avse.data.speech_set import Cut, ItemSet, SpeechSet, TrainingItem, at_random_level, equalise
from avse.data.training_set import NoiseSource, VideoDegradation, pools_by_corpus
from avse.errors import AvseError

_TRIES = 100


class SeparationSet(ItemSet):
    """Training mixtures of different speakers who talk at once, each a function of seed, epoch and index alone.

    A batch has a row for each speaker: all rows of a mixture have its audio and its number (`Batch.mixture`), and each
    the mouth and the speech of its speaker. So it trains any enhancer, and one that takes all speakers of a mixture.

    Arguments
    ---------
    utterances : sequence of Utterance
        Speech and noise of one split. Speakers are those with a video.
    cache, size, seconds, speed, degradation, use_video, seed, leave_out, corpora, balance, joined :
        See `SpeechSet`. Each video is degraded by itself. A mixture of items that are not `joined` is as short as its
        shortest utterance.
    interfering_speakers : sequence of float
        Relative frequency of mixtures with 1, 2, ... speakers besides the first.
    level_difference : float
        The loudest speaker is at most so many dB louder than the softest.
    noise_share : float
        Share of mixtures with background noise.
    snr : (float, float)
        Lowest and highest ratio of all speech to the noise, in dB.
    conditions : dict or None
        Relative frequency of `recorded` and `coloured` noise.
    same_corpus : float
        Share of mixtures whose speakers all come from one corpus, so that the recording does not tell them apart.

    Raises
    ------
    AvseError
        If there are too few speakers with a video.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        cache: ClipCache,
        size: int,
        seconds: float = 2.0,
        interfering_speakers: Sequence[float] = (0.7, 0.3),
        level_difference: float = 5.0,
        noise_share: float = 0.5,
        snr: tuple[float, float] = (-5.0, 15.0),
        conditions: dict[str, float] | None = None,
        speed: tuple[float, float] | None = None,
        degradation: VideoDegradation | None = None,
        use_video: bool = True,
        seed: int = 0,
        leave_out: int = 0,
        corpora: Mapping[str, float] | None = None,
        balance: float = 0.0,
        joined: bool = True,
        same_corpus: float = 0.0,
    ) -> None:
        super().__init__(size, seed)
        visible = [u for u in utterances if u.kind != "noise" and u.video and not is_left_out(u.id, leave_out)]
        noises = [u for u in utterances if u.kind == "noise"]
        self.speech = SpeechSet(
            visible,
            cache,
            size,
            seconds,
            speed=speed,
            video_share=1.0,
            degradation=degradation,
            use_video=use_video,
            corpora=corpora,
            balance=balance,
            joined=joined,
        )
        self.noise = NoiseSource(self.speech, noises, conditions or {"recorded": 0.9, "coloured": 0.1})
        weights = np.asarray(interfering_speakers, dtype=float)
        speakers = {u.speaker or u.id for u in visible}
        if len(speakers) < len(weights) + 1:
            raise AvseError(
                f"Mixtures of up to {len(weights) + 1} speakers need as many speakers with a video; this split of "
                f"the manifest has {len(speakers)}. Shorten `interfering_speakers`, or add speakers."
            )
        self.weights = weights / weights.sum()
        self.same_corpus = same_corpus
        self.corpora = pools_by_corpus(self.speech, len(weights) + 1) if same_corpus else {}
        self.level_difference, self.noise_share, self.snr = level_difference, noise_share, (snr[0], snr[1])
        self.utterances, self.use_video = self.speech.utterances + noises, use_video

    def make_item(self, rng: np.random.Generator) -> list[TrainingItem]:
        """For each speaker the mixture with their mouth, their speech, and the rest of the mixture."""
        count = 2 + int(rng.choice(len(self.weights), p=self.weights))
        drawn = self._speakers(count, rng)
        speech = [self.speech.audio(cuts) for _, cuts in drawn]
        levels = 10 ** (rng.uniform(-self.level_difference / 2, self.level_difference / 2, count) / 20)
        speech = [
            (level / np.sqrt(active_power(one) + 1e-9) * one).astype(np.float32) for level, one in zip(levels, speech)
        ]
        parts = np.stack([*speech, np.zeros_like(speech[0])])
        if rng.random() < self.noise_share:
            noise = self.noise.draw(drawn[0][0], len(speech[0]), None, rng)[0]
            _, parts[-1] = mix_at_snr(parts.sum(axis=0), noise, rng.uniform(*self.snr))
        # One equaliser for all: the spectrum must not tell whose mouth is shown.
        tilt = int(rng.integers(2**31))
        for row, part in enumerate(parts):
            parts[row] = equalise(part, np.random.default_rng(tilt))
        mixture = parts.sum(axis=0)
        levelled = at_random_level(mixture, rng)
        gain = np.sqrt(np.mean(levelled**2) / (np.mean(mixture**2) + 1e-12))
        items = []
        for (target, cuts), clean in zip(drawn, (gain * parts).astype(np.float32)):
            mouth, valid, video_is_clean = self.speech.degraded_video(target, cuts, rng)
            clip = Clip(levelled, mouth, valid, target.id, target.speaker or "", video_is_clean)
            items.append(TrainingItem(clip, clean, levelled - clean))
        return items

    def _speakers(self, count: int, rng: np.random.Generator) -> list[tuple[Utterance, list[Cut]]]:
        """Utterances of different speakers, and where to cut them, all to one length."""
        speech = self.speech
        drawn: list[tuple[Utterance, list[Cut]]] = []
        taken: set[str] = set()
        pool = speech.with_video
        while len(drawn) < count:
            for _ in range(_TRIES):
                utterance = pool.draw(rng)
                if (utterance.speaker or utterance.id) not in taken:
                    break
            taken.add(utterance.speaker or utterance.id)
            drawn.append((utterance, speech.cuts(utterance, speech.speed, rng)))
            if len(drawn) == 1 and self.same_corpus and rng.random() < self.same_corpus:
                pool = self.corpora.get(utterance.dataset, pool)
        if not speech.joined:
            frames = min(cut.frames for _, cuts in drawn for cut in cuts)
            drawn = [(utterance, [replace(cut, frames=frames) for cut in cuts]) for utterance, cuts in drawn]
        return drawn
