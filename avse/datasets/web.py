"""Datasets `avspeech` and `voxceleb2`: speakers of videos on the web."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path

from avse.contracts.types import VIDEO_RATE
from avse.data.manifest import Utterance
from avse.data.scenes import Scene, Source, Span, write_scenes
from avse.datasets.corpus import Corpus, Files, read_text, split_of
from avse.errors import AvseError
from avse.plugins import register

_NEAR = 0.051  # seconds by which the start in a file's name may differ from the list


@register("dataset", "avspeech")
class AvSpeech(Corpus):
    """AVSpeech: clips of 3 to 10 s, from 290,000 videos, of one visible and audible person, as they are downloaded.

    The corpus is two lists, `avspeech_train.csv` and `avspeech_test.csv` (video, start, end, place of the face); the
    videos are those of YouTube, and some are gone. `prepare` takes clips that are named after video and start:
    `VIDEO_START_END.mp4`, `VIDEO_START-END.mp4`, `VIDEO/START_END.mp4` or `VIDEO_START.mp4`, and reports how many of
    the lists are absent. Dev is one video in fifty of the training list. A video counts as a speaker.

    Paper: A. Ephrat et al., Looking to listen at the cocktail party, SIGGRAPH 2018.

    Example
    -------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> AvSpeech.write_example(folder)
    >>> AvSpeech().prepare(folder).read_text().splitlines()[1].split(",")[:3]
    ['bbbbbbbbbbb_2.00', 'speech', 'test']
    """

    licence = "CC BY 4.0 (the lists)"
    source = "https://looking-to-listen.github.io/avspeech/download.html"
    paper = "https://doi.org/10.1145/3197517.3201357"
    suffixes = (".mp4", ".mkv", ".webm")
    layout = r"(?P<id>[\w-]{11})[_/](?P<start>\d+(?:\.\d+)?)(?:[_-]\d+(?:\.\d+)?)?\.(?:mp4|mkv|webm)"
    looked_for = "train/0Fi83BHQsMA_97.600000_103.500000.mp4, with avspeech_train.csv and avspeech_test.csv"
    tree = {
        "avspeech_train.csv": "aaaaaaaaaaa,1.0,1.4,0.5,0.4\n",
        "avspeech_test.csv": "bbbbbbbbbbb,2.0,2.4,0.5,0.4\n",
        "train/aaaaaaaaaaa_1.000000_1.400000.mp4": "",
        "test/bbbbbbbbbbb_2.000000_2.400000.mp4": "",
    }

    def start(self, files: Files) -> Mapping[str, str] | None:
        self.listed: dict[str, list[tuple[float, str, dict[str, str]]]] = {}
        for split in ("train", "test"):
            for cells in csv.reader(files.lines(f"avspeech_{split}.csv")):
                try:
                    video, start, _, x, y = cells[:5]
                    entry = (float(start), split, {"face_x": x, "face_y": y})
                except ValueError:
                    continue  # a header, or a line that somebody cut
                self.listed.setdefault(video, []).append(entry)
        named = [f"{video}_{start:.2f}" for video, entries in self.listed.items() for start, _, _ in entries]
        return dict(zip(named, named)) or None

    def row(self, path: Path, match: re.Match[str], files: Files) -> Utterance | None:
        video, start = match["id"], float(match["start"])
        entry = next((one for one in self.listed.get(video, []) if abs(one[0] - start) < _NEAR), None)
        if self.listed and entry is None:
            raise AvseError(f"{path}: is in neither list of the corpus.")
        start, split, extra = entry or (start, "test" if "/test/" in f"/{match.string}" else "train", {})
        split = "dev" if split == "train" and split_of(video, 0.02, 0) == "dev" else split
        wav = path.with_suffix(".wav")
        clean = wav if wav.is_file() else path
        return Utterance(f"{video}_{start:.2f}", clean=clean, video=path, speaker=video, split=split, extra=extra)


@register("dataset", "voxceleb2")
class VoxCeleb2(Corpus):
    """VoxCeleb2: 6,112 people in interviews, faces of 224 x 224 pixels at 25 frames per second.

    `dev/mp4/id00012/21Uxsk56VDQ/00001.mp4`, with the audio `dev/aac/.../00001.m4a` (or `wav/.../00001.wav`) where it is
    there, else that of the video; sex from `vox2_meta.csv`. Test is the corpus's test set, of 118 people; dev is one
    person in fifty of the others, by a hash.

    Arguments
    ---------
    mixtures : str, optional
        A list of VoxCeleb2-mix, such as `mixture_data_list_2mix.csv` of MuSE, in the folder. Its clips alone are
        listed, in its splits, and a scene file `NAME.SPLIT.csv` for each split is written beside the manifest: the
        first speaker is the target, and the second is at the level of the list.

    Papers: J. S. Chung, A. Nagrani, A. Zisserman, VoxCeleb2: deep speaker recognition, Interspeech 2018; Z. Pan et al.,
    MuSE: multi-modal target speaker extraction with visual cues, ICASSP 2021 (the list).

    Example
    -------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> VoxCeleb2.write_example(folder)
    >>> VoxCeleb2().prepare(folder).read_text().splitlines()[1].split(",")[:3]
    ['id00012/aaaaaaaaaaa/00001', 'speech', 'train']
    """

    licence = "CC BY 4.0 (the lists); videos of YouTube"
    source = "https://www.robots.ox.ac.uk/~vgg/data/voxceleb/vox2.html"
    paper = "https://doi.org/10.21437/Interspeech.2018-1929"
    layout = r"(?:(?P<set>dev|test)/)?(?:mp4/)?(?P<speaker>id\d{5})/(?P<video>[^/]+)/(?P<name>\d{5})\.mp4"
    looked_for = "dev/mp4/id00012/21Uxsk56VDQ/00001.mp4"
    tree = {
        "vox2_meta.csv": "VoxCeleb2 ID ,VGGFace2 ID ,Gender ,Set \n"
        "id00012 ,n000012 ,m ,dev \nid00017 ,n000017 ,f ,test \n",
        "dev/mp4/id00012/aaaaaaaaaaa/00001.mp4": "",
        "test/mp4/id00017/bbbbbbbbbbb/00001.mp4": "",
    }

    def __init__(self, mixtures: str | None = None) -> None:
        self.mixtures = mixtures

    def start(self, files: Files) -> Mapping[str, str] | None:
        table = files.table("vox2_meta.csv")
        self.about = {row.get("VoxCeleb2 ID") or row.get("Id") or "": row for row in table}
        self.audio = {
            "/".join(Path(name).with_suffix("").parts[-3:]): path
            for name, path in files.paths.items()
            if path.suffix in (".m4a", ".wav")
        }
        self.mixed, self.splits = list[list[str]](), dict[str, str]()
        if self.mixtures is None:
            return None
        path = files.get(self.mixtures) or Path(self.mixtures).expanduser()
        for line, cells in enumerate(csv.reader(read_text(path).splitlines()), start=1):
            if len(cells) != 10 or cells[0] not in ("train", "val", "test"):
                raise AvseError(
                    f"{path}:{line}: is no line of a list of two speakers: SET, twice (SET, id, clip, dB), s."
                )
            self.mixed.append(cells)
            self.splits |= {f"{cells[place]}/{cells[place + 1]}": cells[0].replace("val", "dev") for place in (2, 6)}
        return dict(zip(self.splits, self.splits))

    def row(self, path: Path, match: re.Match[str], files: Files) -> Utterance | None:
        speaker, name = match["speaker"], f"{match['speaker']}/{match['video']}/{match['name']}"
        about = self.about.get(speaker, {})
        if self.mixtures is not None and name not in self.splits:
            return None
        given = self.splits.get(name) or match["set"] or about.get("Set", "dev")
        if name not in self.splits:
            given = "test" if given == "test" else "dev" if split_of(speaker, 0.02, 0) == "dev" else "train"
        sex = {"m": "male", "f": "female"}.get(about.get("Gender", ""))
        audio, extra = self.audio.get(name, path), {"sex": sex} if sex else {}
        return Utterance(name, clean=audio, video=path, speaker=speaker, split=given, extra=extra)

    def finish(self, rows: list[Utterance], manifest: Path) -> list[Utterance]:
        there, scenes = {row.id: row for row in rows}, dict[str, list[Scene]]()
        for number, cells in enumerate(self.mixed):
            target, other, split = "/".join(cells[2:4]), "/".join(cells[6:8]), cells[0].replace("val", "dev")
            if target in there and other in there:
                span = Span(0, max(1, int(float(cells[9]) * VIDEO_RATE)))
                level = float(cells[4]) - float(cells[8])
                name = f"{number:06d}_{target.replace('/', '_')}"
                scene = Scene(name, (target,), "babble1", level, (Source((other,)),), spans=(span,))
                scenes.setdefault(split, []).append(scene)
        for split, drawn in scenes.items():
            write_scenes(drawn, manifest.with_name(f"{Path(self.mixtures or '').stem}.{split}.csv"), split=split)
        return rows
