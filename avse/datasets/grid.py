"""Dataset `grid`: the GRID audio-visual sentence corpus."""

from __future__ import annotations

import hashlib
import logging
import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from avse.contracts.dataset import Dataset
from avse.contracts.types import SAMPLE_RATE
from avse.data.audio import read_audio, write_audio
from avse.data.manifest import Utterance, write_manifest
from avse.data.preparing import each
from avse.datasets.corpus import Files, seconds_of, words_of_grid
from avse.errors import AvseError
from avse.media.decode import AudioSource, open_container, video_stream
from avse.plugins import register

RECORD = "https://zenodo.org/api/records/3625687"
SPEAKERS = tuple(f"s{number}" for number in range(1, 35) if number != 21)
"""The speakers whose video is published."""
_WITHOUT_VIDEO = "s21"

_VIDEOS = {".mpg", ".mpeg", ".mp4", ".mov", ".avi", ".mkv"}
_AUDIO = (".flac", ".wav", ".opus", ".ogg")
_SPEAKER = re.compile(r"([a-z]\d+)(_processed)?")
_WRITTEN = "audio_16k"
_SLACK = 0.1


class _Clip(NamedTuple):
    """A clip and its files: the video, a separate audio file, the alignment; and where audio of videos is written."""

    speaker: str
    name: str
    video: Path | None
    elsewhere: Path | None
    aligned: Path | None
    written: Path


@register("dataset", "grid")
class Grid(Dataset):
    """GRID: 33 people filmed while they say 1,000 command sentences each, 3 s long, such as "bin blue at f two now".

    `download` fetches speakers from the public record. `prepare` takes any folder with one video file for each
    sentence in a folder for each speaker, such as `s1/bbaf2n.mpg`, `video/mpg_6000/s1/bbaf2n.mpg` or
    `grid/s1/bbaf2n.mp4`. The audio is that of a file beside it (`bbaf2n.flac`, `.wav`, `.opus`), else that of the
    video, else a file of the same speaker and name elsewhere in the folder with the length of the video: the separate
    25 kHz audio of the corpus is cut at the ends of the speech and not synchronous. Of s21, whose video is not
    published, that audio is listed without a video, for training. Words come from `.align` files, else from the file
    name.

    Arguments
    ---------
    speakers : sequence of str, optional
        Keep (and download) these only.
    dev, test : sequence of str, optional
        Speakers of these splits; no speaker is in two. Default: a fifth of the speakers each, always the same.
    base_url : str
        The record to download from.

    Paper: M. Cooke, J. Barker, S. Cunningham, X. Shao, An audio-visual corpus for speech perception and automatic
    speech recognition, JASA 120, 2006.

    Example
    -------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> Grid.write_example(folder)
    >>> print(Grid().prepare(folder).read_text().splitlines()[1].split(",")[8])
    bin blue at f two now
    """

    licence = "CC BY 4.0"
    source = "https://zenodo.org/records/3625687"
    paper = "https://doi.org/10.1121/1.2229005"

    def __init__(
        self,
        speakers: Sequence[str] | None = None,
        dev: Sequence[str] | None = None,
        test: Sequence[str] | None = None,
        base_url: str = RECORD,
    ) -> None:
        both = sorted(set(dev or ()) & set(test or ()))
        if both:
            raise AvseError(f"grid: {', '.join(both)} cannot be both in dev and in test.")
        self.speakers, self.dev, self.test, self.base_url = speakers, dev, test, base_url

    @classmethod
    def write_example(cls, folder: Path) -> None:
        from avse.data.synthetic.recording import write_video

        rng = np.random.default_rng(0)
        for speaker in ("s1", "s2", "s3"):
            frames = rng.integers(0, 255, (10, 48, 64, 3), dtype=np.uint8)
            write_video(folder / speaker / "bbaf2n.mp4", frames, 0.1 * rng.standard_normal(6400))

    def prepare(self, folder: str | Path, manifest: str | Path | None = None) -> Path:
        """Write the manifest, and the audio of the videos as `audio_16k/<speaker>/<sentence>.flac` beside it.

        Existing audio files stay. Clips that cannot be read are omitted, with a warning.
        See `avse.contracts.dataset.Dataset.prepare`.
        """
        folder = Path(folder)
        files = list(Files(folder).paths.values())
        videos = self._find(files, folder)
        splits = self._splits(sorted({speaker for speaker, _ in videos}))
        target = Path(manifest) if manifest is not None else folder / "manifest.csv"
        aligned = _index(files, folder, {".align"})
        audio_files = _index(files, folder, set(_AUDIO))

        unseen = [] if self.speakers is not None and _WITHOUT_VIDEO not in self.speakers else [_WITHOUT_VIDEO]
        clips: dict[tuple[str, str], Path | None] = {key: None for key in audio_files if key[0] in unseen}
        clips |= videos

        keys = sorted(clips)
        found = [
            _Clip(*key, clips[key], audio_files.get(key), aligned.get(key), target.parent / _WRITTEN) for key in keys
        ]
        results = each(partial(self._row, splits), found, "GRID")
        rows = [result for result in results if isinstance(result, Utterance)]
        problems = [str(result) for result in results if isinstance(result, AvseError)]
        if problems:
            text = "\n  ".join([f"grid: {len(problems)} of {len(results)} clips cannot be used.", *problems[:5]])
            if not rows:
                raise AvseError(text)
            logging.getLogger("avse").warning("%s", text)
        write_manifest(rows, target)
        return target

    def _row(self, splits: dict[str, str], clip: _Clip) -> Utterance:
        """The row of a clip, whose audio is written first where there is none."""
        if clip.video is not None:
            audio, seconds = self._audio(clip.video, clip.elsewhere, clip.written / clip.speaker)
        elif clip.elsewhere is not None:
            audio, seconds = clip.elsewhere, seconds_of(clip.elsewhere)
        return Utterance(
            f"{clip.speaker}/{clip.name}",
            clean=audio,
            video=clip.video,
            speaker=f"grid_{clip.speaker}",
            text=_words(clip.aligned, clip.name),
            split=splits.get(clip.speaker, "train"),
            dataset="grid",
            duration=seconds,
            extra={"licence": self.licence},
        )

    def download(self, folder: str | Path) -> Path:
        """Fetch the videos of `speakers` (default: all 33) and the alignments, about 480 MB a speaker.

        Continues an interrupted download, checks each archive against the checksum of the record, unpacks it, and
        removes it. Returns the folder for `prepare`.
        """
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

        from avse.data.download import fetch, list_record, unpack

        folder = Path(folder)
        speakers = list(SPEAKERS if self.speakers is None else self.speakers)
        unknown = [speaker for speaker in speakers if speaker not in SPEAKERS]
        if unknown:
            raise AvseError(f"grid: the record has no video of {', '.join(unknown)}; it has {', '.join(SPEAKERS)}.")
        record = list_record(self.base_url)
        names = ["alignments.zip", *(f"{speaker}.zip" for speaker in speakers)]
        missing = [name for name in names if name not in record]
        if missing:
            raise AvseError(f"{self.base_url}: the record lacks {', '.join(missing)}.")
        archives = folder / "archives"
        columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
            for name in names:
                file = record[name]
                done = archives / f"{name}.done"
                if done.is_file() and done.read_text() == file.md5:
                    continue
                task = progress.add_task(name, total=file.size)
                show = lambda have, task=task: progress.update(task, completed=have)
                archive = fetch(file, archives / name, show)
                unpack(archive, folder)
                done.write_text(file.md5)
                archive.unlink()
        return folder

    def _find(self, files: list[Path], folder: Path) -> dict[tuple[str, str], Path]:
        """Video files by speaker and name."""
        videos = _index(files, folder, _VIDEOS)
        if self.speakers is not None:
            there = sorted({speaker for speaker, _ in videos})
            missing = [name for name in self.speakers if name not in [*there, _WITHOUT_VIDEO]]
            if missing and videos:
                raise AvseError(f"{folder}: has no clips of {', '.join(missing)}; it has {', '.join(there)}.")
            videos = {key: path for key, path in videos.items() if key[0] in self.speakers}
        if not videos:
            raise AvseError(
                f"{folder}: holds no video of GRID. Looked for files such as s1/bbaf2n.mpg or s1/bbaf2n.mp4; "
                "--download fetches them (all 33 speakers, or those of --speakers)."
            )
        return videos

    def _splits(self, speakers: list[str]) -> dict[str, str]:
        named = dict.fromkeys(self.dev or (), "dev") | dict.fromkeys(self.test or (), "test")
        unknown = sorted(set(named) - set(speakers))
        if unknown:
            raise AvseError(f"grid: {', '.join(unknown)} (dev, test) is not among the speakers {', '.join(speakers)}.")
        if self.dev is None and self.test is None and len(speakers) < 3:
            raise AvseError(
                f"grid: splits that share no speaker need three speakers; there is {', '.join(speakers)}. "
                "Download more, or say dev=[] and test=[] to use all for training."
            )
        shuffled = sorted(speakers, key=lambda speaker: hashlib.sha256(speaker.encode()).hexdigest())
        free = [speaker for speaker in shuffled if speaker not in named]
        part = max(1, len(speakers) // 5)
        for split, chosen in (("test", self.test), ("dev", self.dev)):
            if chosen is None:
                named |= dict.fromkeys(free[:part], split)
                free = free[part:]
        return {speaker: named.get(speaker, "train") for speaker in speakers}

    def _audio(self, video: Path, elsewhere: Path | None, out: Path) -> tuple[Path, float]:
        """The audio file of a video, and its length in seconds."""
        for suffix in _AUDIO:
            beside = video.with_suffix(suffix)
            if beside.is_file():
                return beside, seconds_of(beside)
        target = out / f"{video.stem}.flac"
        if target.is_file() and target.stat().st_mtime >= video.stat().st_mtime:
            return target, seconds_of(target)
        audio, seconds = _audio_of(video)
        if audio is None and elsewhere is not None:
            audio = read_audio(elsewhere)
            if abs(len(audio) / SAMPLE_RATE - seconds) > _SLACK:
                raise AvseError(f"{elsewhere}: lasts {len(audio) / SAMPLE_RATE:.2f} s, {video} {seconds:.2f} s.")
        if audio is None:
            raise AvseError(f"{video}: has no audio, and there is no audio file beside it.")
        samples = round(seconds * SAMPLE_RATE)
        audio = np.pad(audio[:samples], (0, max(0, samples - len(audio))))
        write_audio(target, audio)
        return target, samples / SAMPLE_RATE


def _index(files: list[Path], folder: Path, suffixes: set[str]) -> dict[tuple[str, str], Path]:
    """Files by speaker (the nearest folder with a speaker's name, else the nearest folder) and name."""
    files_by_name: dict[tuple[str, str], Path] = {}
    for path in files:
        if path.suffix.lower() not in suffixes:
            continue
        parents = path.relative_to(folder).parts[:-1]
        named = [match[1] for part in reversed(parents) if (match := _SPEAKER.fullmatch(part))]
        speaker = named[0] if named else (parents[-1] if parents else folder.name)
        files_by_name.setdefault((speaker, path.stem), path)
    return files_by_name


def _words(align: Path | None, name: str) -> str:
    """The words: from lines `start end word`, else from the six letters of the name."""
    if align is not None:
        try:
            words = [line.split()[-1] for line in align.read_text(encoding="ascii").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise AvseError(f"{align}: cannot be read as an alignment ({error}).") from error
        return " ".join(word for word in words if word not in ("sil", "sp"))
    return words_of_grid(name)


def _audio_of(path: Path) -> tuple[np.ndarray | None, float]:
    """The audio of a video at 16 kHz from its first frame on, or None; and the length of the video in seconds."""
    import av

    try:
        with open_container(path) as container:
            stream = video_stream(container)
            packets = [] if stream is None else container.demux(stream)
            stamps = [packet.pts for packet in packets if packet.pts is not None]
            if stream is None or not stamps or not stream.average_rate:
                raise AvseError(f"{path}: has no video frames.")
            start = float(min(stamps) * stream.time_base)
            seconds = float(len(stamps) / stream.average_rate)
            if not container.streams.audio:
                return None, seconds
    except av.FFmpegError as error:
        raise AvseError(f"{path}: cannot be read as a video ({error}).") from error
    source = AudioSource(path)
    with source.container:
        audio = np.concatenate(list(source.blocks()))
    late = round((source.start - start) * SAMPLE_RATE)
    return (np.pad(audio, (late, 0)) if late > 0 else audio[-late:]), seconds
