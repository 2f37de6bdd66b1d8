"""Mixtures of several talkers made on the fly for training, with the mouth of each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from avse.contracts.types import Batch, Clip
from avse.data.cache import ClipCache
from avse.data.manifest import Utterance, is_left_out
from avse.data.mixing import active_samples, mix_at_snr
from avse.data.speech_set import at_random_level, equalise
from avse.data.training_set import MixtureSet, VideoDegradation
from avse.errors import AvseError

_TRIES = 100


class SeparationSet(MixtureSet):
    """Training mixtures of different speakers who talk at once, each a function of seed, epoch and index alone.

    A batch has a row for each talker: all rows of a mixture have its sound and its number (`Batch.mixture`), and their
    own mouth and voice. So it trains any enhancer, and one that looks at all talkers of a mixture.

    Arguments
    ---------
    utterances : sequence of Utterance
        Speech and noise of one split. Talkers are those with a video.
    cache : ClipCache
    size : int
        Mixtures in an epoch.
    seconds : float
        Length of each, rounded to whole video frames.
    talkers : sequence of float
        Relative frequency of 2, 3, ... talkers.
    level_difference : float
        The loudest talker is at most so many dB louder than the softest.
    noise_share : float
        Share of mixtures with background noise.
    snr : (float, float)
        Lowest and highest ratio of all voices to the noise, in dB.
    conditions : dict or None
        Relative frequency of `recorded` and `coloured` noise.
    speed : (float, float) or None
        Range of speeds at which speech is played, mouth and sound together.
    degradation : VideoDegradation or None
        Of each video by itself. None: the videos are left as they are.
    use_video : bool
        False: no video is read.
    seed : int
    leave_out : int
        See `SpeechSet`.

    Raises
    ------
    AvseError
        If there are fewer speakers with a video than talkers.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        cache: ClipCache,
        size: int,
        seconds: float = 2.0,
        talkers: Sequence[float] = (0.7, 0.3),
        level_difference: float = 5.0,
        noise_share: float = 0.5,
        snr: tuple[float, float] = (-5.0, 15.0),
        conditions: dict[str, float] | None = None,
        speed: tuple[float, float] | None = None,
        degradation: VideoDegradation | None = None,
        use_video: bool = True,
        seed: int = 0,
        leave_out: int = 0,
    ) -> None:
        heard = [u for u in utterances if u.kind == "noise" or (u.video and not is_left_out(u.id, leave_out))]
        super().__init__(
            heard,
            cache,
            size,
            seconds,
            snr,
            conditions or {"recorded": 0.9, "coloured": 0.1},
            speed=speed,
            video_share=1.0,
            degradation=degradation,
            use_video=use_video,
            seed=seed,
        )
        counts = np.asarray(talkers, dtype=float)
        speakers = {u.speaker or u.id for u in heard if u.kind != "noise"}
        if len(speakers) < len(counts) + 1:
            raise AvseError(
                f"Mixtures of up to {len(counts) + 1} talkers need as many speakers with a video; this split of the "
                f"manifest has {len(speakers)}. Leave out the last numbers of `talkers`, or add speakers."
            )
        self.counts = counts / counts.sum()
        self.level_difference, self.noise_share = level_difference, noise_share

    def __getitem__(self, index: int) -> list[tuple[Clip, np.ndarray]]:
        """Mixture `index` of the epoch: for each talker the mixture with their mouth, and their voice."""
        rng = np.random.default_rng((self.seed, self.epoch, index))
        count = 2 + int(rng.choice(len(self.counts), p=self.counts))
        drawn: list[tuple] = []
        taken: set[str] = set()
        while len(drawn) < count:
            for _ in range(_TRIES):
                target = self.with_video.draw(rng)
                if (target.speaker or target.id) not in taken:
                    break
            taken.add(target.speaker or target.id)
            drawn.append((target, self._cuts(target, self.speed, rng)))
        # One equaliser for all: who sounds how must not tell who is seen.
        voices = [self._sound(cuts) for _, cuts in drawn]
        levels = 10 ** (rng.uniform(-self.level_difference / 2, self.level_difference / 2, count) / 20)
        voices = [
            (level / np.sqrt(np.mean(voice[active_samples(voice)] ** 2) + 1e-9) * voice).astype(np.float32)
            for level, voice in zip(levels, voices)
        ]
        parts = np.stack([*voices, np.zeros_like(voices[0])])
        if rng.random() < self.noise_share:
            _, parts[-1] = mix_at_snr(
                parts.sum(axis=0), self._noise(drawn[0][0], None, rng, self.samples), rng.uniform(*self.snr)
            )
        tilt = int(rng.integers(2**31))
        for row, part in enumerate(parts):
            parts[row] = equalise(part, np.random.default_rng(tilt))
        mixture = parts.sum(axis=0)
        levelled = at_random_level(mixture, rng)
        gain = np.sqrt(np.mean(levelled**2) / (np.mean(mixture**2) + 1e-12))
        items = []
        for (target, cuts), voice in zip(drawn, gain * parts):
            mouth, valid, intact = self._seen(target, cuts, rng)
            clip = Clip(levelled, mouth, valid, target.id, target.speaker or "", intact)
            items.append((clip, voice.astype(np.float32)))
        return items

    @staticmethod
    def collate(items: Sequence[list[tuple[Clip, np.ndarray]]]) -> Batch:
        """A `Batch` of items, for a `DataLoader`: a row for each talker."""
        clips, clean = zip(*[talker for item in items for talker in item])
        batch = Batch.from_clips(clips, clean, [clip.audio - voice for clip, voice in zip(clips, clean)])
        batch.mixture = torch.tensor([number for number, item in enumerate(items) for _ in item])
        return batch
