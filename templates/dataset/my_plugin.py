"""Dataset `my_plugin`: a corpus, from its own folders to a manifest.

A comment with CHANGE stands where your idea goes; one with KEEP tells what the
checks hold you to.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from avse.contracts.dataset import Dataset
from avse.data.audio import write_audio
from avse.data.manifest import SPLITS, Utterance, write_manifest
from avse.errors import AvseError
from avse.plugins import register

VIDEOS = (".mp4", ".mov", ".mkv", ".avi", ".mpg")
AUDIO = (".wav", ".flac")


@register("dataset", "my_plugin")
class MyPlugin(Dataset):
    """Clips in a folder for each speaker, and recorded noise in a folder `noise`.

    A clip is a video `SPEAKER/CLIP.mp4`, an audio file `SPEAKER/CLIP.wav`, or both
    with one name: then the audio is that of the file, which must start with the
    video. A fifth of the speakers each, and of the noises, is dev and test.

    Arguments
    ---------
    dev, test : int or None
        Speakers in these splits; None: a fifth of them, and at least one.

    Reads FOLDER and writes a manifest, whose columns are those of
    `avse.data.manifest`.

    Example
    -------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> MyPlugin.write_example(folder)
    >>> print(MyPlugin().prepare(folder).read_text().splitlines()[1][:24])
    anna/hello,speech,train,
    """

    # CHANGE: the terms of the corpus, where it is published, and its paper.
    licence = ""
    source = ""
    paper = ""

    # CHANGE: options of the corpus. Folders are no options: `prepare` takes them.
    def __init__(self, dev: int | None = None, test: int | None = None) -> None:
        self.dev, self.test = dev, test

    @classmethod
    def write_example(cls, folder: Path) -> None:
        # CHANGE: a tiny corpus with the layout of the real one, for the checks.
        rng = np.random.default_rng(0)
        for name in ("anna/hello", "ben/hello", "cleo/hello"):
            write_audio(folder / f"{name}.wav", 0.1 * rng.standard_normal(1600))
        for name in ("fan", "rain", "street"):
            write_audio(folder / f"noise/{name}.wav", 0.1 * rng.standard_normal(1600))

    # A public corpus may have `download(self, folder)` as well: see `Dataset.download`.
    def prepare(self, folder: str | Path, manifest: str | Path | None = None) -> Path:
        """See `avse.contracts.dataset.Dataset.prepare`."""
        folder = Path(folder)
        # CHANGE: how clips are found. KEEP the order sorted, so that the same corpus
        # gives the same manifest.
        files = sorted(folder.glob("*/*"))
        clips = {}
        for path in files:
            if path.suffix.lower() in VIDEOS + AUDIO:
                clips.setdefault((path.parent.name, path.stem), []).append(path)
        noises = sorted(name for speaker, name in clips if speaker == "noise")
        speakers = sorted({speaker for speaker, _ in clips} - {"noise"})
        if not speakers:
            # KEEP: name the expected files, and write nothing.
            looked_for = "SPEAKER/CLIP.mp4 and SPEAKER/CLIP.wav"
            raise AvseError(f"{folder}: holds no clips. Looked for {looked_for}.")
        # KEEP: no speaker and no noise is in two splits.
        split_of = self._splits(speakers)
        noise_split_of = self._splits(noises)
        rows = []
        for (speaker, name), paths in sorted(clips.items()):
            video = next((p for p in paths if p.suffix.lower() in VIDEOS), None)
            audio = next((p for p in paths if p.suffix.lower() in AUDIO), video)
            if speaker == "noise":
                row = Utterance(
                    f"noise/{name}",
                    kind="noise",
                    split=noise_split_of[name],
                    noise=audio,
                    recording=name,
                    dataset="my_plugin",
                )
            else:
                # CHANGE: `text=` for the words, if the corpus has them.
                row = Utterance(
                    f"{speaker}/{name}",
                    split=split_of[speaker],
                    clean=audio,
                    video=video,
                    speaker=speaker,
                    dataset="my_plugin",
                )
            rows.append(row)
        target = folder / "manifest.csv" if manifest is None else Path(manifest)
        write_manifest(rows, target)
        return target

    def _splits(self, names: list[str]) -> dict[str, str]:
        """Split of each name: the last ones are test, those before them dev."""
        fifth = max(1, len(names) // 5) if len(names) >= len(SPLITS) else 0
        test = fifth if self.test is None else self.test
        dev = fifth if self.dev is None else self.dev
        train = len(names) - dev - test
        if names and train < 1:
            many = f"{dev} for dev and {test} for test"
            raise AvseError(f"{many} leave none of {len(names)} for training.")
        listed = ["train"] * train + ["dev"] * dev + ["test"] * test
        return dict(zip(names, listed))
