"""Dataset `synthetic`: talking faces and noises made by code from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from avse.contracts.dataset import Dataset
from avse.contracts.types import SAMPLE_RATE
from avse.data.audio import write_audio
from avse.data.manifest import Utterance, write_manifest
from avse.errors import AvseError
from avse.plugins import register

_TALKERS = 20_260_101
_NOISES = 7


def synthesize_clip(seed: int, speaker: int, seconds: float) -> tuple[np.ndarray, np.ndarray, str]:
    """One talking-face clip.

    Arguments
    ---------
    seed : int
        What is said, and how the head moves.
    speaker : int
        Who talks: voice and face. Odd numbers are women.
    seconds : float
        Length, rounded to frames of 40 ms; at least half a second.

    Returns
    -------
    audio : array, shape (samples,), float32
        At 16 kHz.
    frames : array, shape (video_frames, 256, 256, 3), uint8
        The face in red, green, blue at 25 frames per second.
    text : str

    Example
    -------
    >>> audio, frames, text = synthesize_clip(seed=1, speaker=4, seconds=1.0)
    >>> audio.shape, frames.shape
    ((16000,), (25, 256, 256, 3))
    """
    from avse.data.synthetic.articulation import articulate
    from avse.data.synthetic.face import Face, film
    from avse.data.synthetic.voice import Voice, speak

    if not 0.5 <= seconds <= 3600:
        raise AvseError(f"A synthetic clip lasts from 0.5 to 3600 seconds, not {seconds:g}.")
    talker = np.random.default_rng([_TALKERS, speaker])
    female = speaker % 2 == 1
    voice, face = Voice.draw(talker, female), Face.draw(talker, female)
    rng = np.random.default_rng([seed, speaker])
    tracks, text = articulate(round(seconds * 25) / 25, rng, voice.rate)
    return speak(tracks, voice, rng), film(tracks, face, rng), text


@register("dataset", "synthetic")
class Synthetic(Dataset):
    """A small talking-face corpus made by code, for tests, tutorials and the demo.

    A source-filter voice says words; a drawn face moves its lips with the articulation, so that the video truly helps
    in noise. Splits share no speaker and no noise.

    Arguments
    ---------
    clips : int
        Talking-face clips; a fifth each for dev and test.
    speakers : int
        A fifth each for dev and test.
    noises : int
        Noise recordings; a fifth each for dev and test.
    seconds : pair of float
        Shortest and longest clip.
    noise_seconds : float
    seed : int

    Example
    -------
    >>> import tempfile
    >>> corpus = Synthetic(clips=3, speakers=3, noises=3, seconds=(0.6, 0.8), noise_seconds=0.5)
    >>> manifest = corpus.prepare(tempfile.mkdtemp())
    >>> from avse.data.manifest import read_manifest
    >>> [(one.kind, one.split) for one in read_manifest(manifest)][:3]
    [('speech', 'train'), ('speech', 'dev'), ('speech', 'test')]
    """

    licence = "Apache-2.0 (made by this code)"

    def __init__(
        self,
        clips: int = 60,
        speakers: int = 15,
        noises: int = 30,
        seconds: Sequence[float] = (2.0, 3.0),
        noise_seconds: float = 6.0,
        seed: int = 0,
    ) -> None:
        if clips < 3 or speakers < 3 or noises < 3:
            raise AvseError("synthetic: clips, speakers and noises must be at least 3 each, one for each split.")
        if len(seconds) != 2 or not 0.5 <= seconds[0] <= seconds[1]:
            raise AvseError(f"synthetic: seconds must be a shortest and a longest length from 0.5 on, got {seconds}.")
        self.clips, self.speakers, self.noises = clips, speakers, noises
        self.seconds, self.noise_seconds, self.seed = (float(seconds[0]), float(seconds[1])), noise_seconds, seed

    @classmethod
    def example_arguments(cls) -> dict:
        return {"clips": 3, "speakers": 3, "noises": 3, "seconds": (0.6, 0.8), "noise_seconds": 0.5}

    def prepare(self, folder: str | Path, manifest: str | Path | None = None) -> Path:
        """Make the corpus: `video/*.mp4` (with sound), `clean/*.wav`, `noise/*.wav` at 16 kHz, and the manifest.

        See `avse.contracts.dataset.Dataset.prepare`.
        """
        import sys

        from rich.console import Console
        from rich.progress import track

        folder = Path(folder)
        jobs = [(self._clip, *one) for one in _by_split(self.clips)] + [
            (self._noise, *one) for one in _by_split(self.noises)
        ]
        rows = [
            make(folder, split, index, rank)
            for make, split, index, rank in track(
                jobs,
                description="synthetic corpus",
                console=Console(stderr=True),
                transient=True,
                disable=not sys.stderr.isatty(),
            )
        ]
        target = Path(manifest) if manifest is not None else folder / "manifest.csv"
        write_manifest(rows, target)
        return target

    def _clip(self, folder: Path, split: str, index: int, rank: int) -> Utterance:
        from avse.data.synthetic.recording import write_film

        talkers = [talker for name, talker, _ in _by_split(self.speakers) if name == split]
        speaker = talkers[rank % len(talkers)]
        seconds = float(np.random.default_rng([self.seed, index]).uniform(*self.seconds))
        audio, frames, text = synthesize_clip(self.seed * 100_003 + index, speaker, seconds)
        name = f"talker{speaker:03d}_{index:05d}"
        clean, video = folder / "clean" / f"{name}.wav", folder / "video" / f"{name}.mp4"
        write_audio(clean, audio)
        write_film(video, frames, audio)
        return Utterance(
            name,
            clean=clean,
            video=video,
            speaker=f"talker{speaker:03d}",
            text=text,
            split=split,
            dataset="synthetic",
            duration=len(audio) / SAMPLE_RATE,
        )

    def _noise(self, folder: Path, split: str, index: int, rank: int) -> Utterance:
        from avse.data.synthetic.noises import NOISES, make_noise

        label = NOISES[rank % len(NOISES)]
        name = f"{label}_{index:04d}"
        path = folder / "noise" / f"{name}.wav"
        write_audio(path, make_noise(label, self.noise_seconds, np.random.default_rng([self.seed, _NOISES, index])))
        return Utterance(
            name,
            noise=path,
            split=split,
            kind="noise",
            label=label,
            recording=f"synthetic:{self.seed}:{index}",
            dataset="synthetic",
            duration=self.noise_seconds,
        )


def _by_split(count: int) -> list[tuple[str, int, int]]:
    """Split, number, and rank within the split of each of `count` things: a fifth each is dev and test."""
    part = max(1, count // 5)
    sizes = {"train": count - 2 * part, "dev": part, "test": part}
    listed, index = [], 0
    for split, size in sizes.items():
        for rank in range(size):
            listed.append((split, index, rank))
            index += 1
    return listed
