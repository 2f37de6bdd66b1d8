"""Datasets `lrs2`, `lrs3` and `muavic`: sentences of British television and of talks, in their layouts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from avse.data.manifest import Utterance
from avse.datasets.corpus import Corpus, Files, read_text, split_of
from avse.plugins import register

_TEXT = "Text:  BIN BLUE AT F TWO NOW\nConf:  5\n"


def _words(path: Path | None) -> str:
    """The sentence in the first line, `Text:  WORDS`, of an annotation."""
    first = read_text(path).partition("\n")[0] if path is not None else ""
    return first.partition(":")[2].strip().lower()


class _Sentences(Corpus):
    """What LRS2 and LRS3 share: `SET/ID/NAME.mp4` with `NAME.txt`, and `NAME.wav` where audio was extracted."""

    def _row(self, path: Path, match: re.Match[str], files: Files, split: str) -> Utterance:
        text = files.get(re.sub(r"_video_", "_text_", match.string)[: -len("mp4")] + "txt")
        wav = path.with_suffix(".wav")
        return Utterance(
            f"{match['set']}/{match['id']}/{match['name']}",
            clean=wav if wav.is_file() else path,
            video=path,
            speaker=f"{self.plugin_name}_{match['id']}",
            text=_words(text),
            split=split,
        )


@register("dataset", "lrs3")
class Lrs3(_Sentences):
    """LRS3-TED: 5,594 talks, faces of 224 x 224 pixels at 25 frames per second.

    Its makers no longer distribute it; `prepare` takes the layouts that people hold: `pretrain`, `trainval` and `test`
    with `ID/00001.mp4` and `.txt`, and those of AVSR tools (`lrs3_video_seg24s`, `lrs3_text_seg24s`, `.wav` beside).
    Test is `test`. Dev is the talks of the clips in AV-HuBERT's list (`lrs3-valid.id`, or `lrs3_valid_ids.txt` of
    MuAViC), if it is there, else one talk in twenty of the others, by a hash of its id. A talk counts as a speaker.

    Arguments
    ---------
    pretrain : bool
        Also use `pretrain`, whose clips are long.

    Paper: T. Afouras, J. S. Chung, A. Zisserman, LRS3-TED: a large-scale dataset for visual speech recognition, 2018.

    Example
    -------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> Lrs3.write_example(folder)
    >>> Lrs3().prepare(folder).read_text().splitlines()[1].split(",")[:3]
    ['pretrain/0a/00001', 'speech', 'train']
    """

    licence = "CC BY-NC-ND 4.0 (talks of TED)"
    source = "https://www.robots.ox.ac.uk/~vgg/data/lip_reading/lrs3.html"
    paper = "https://arxiv.org/abs/1809.00496"
    layout = r"(?P<set>pretrain|trainval|test)/(?P<id>[^/]+)/(?P<name>\d{5}(?:_\d+)?)\.mp4"
    looked_for = "trainval/0Fi83BHQsMA/00002.mp4"
    tree = {
        f"{name}{suffix}": text
        for name in ("pretrain/0a/00001", "trainval/0b/50001", "test/0c/00001")
        for suffix, text in ((".mp4", ""), (".txt", _TEXT))
    }

    def __init__(self, pretrain: bool = True) -> None:
        self.pretrain = pretrain

    def start(self, files: Files) -> None:
        lines = files.lines("lrs3-valid.id") or files.lines("lrs3_valid_ids.txt")
        self.dev = {line.split()[0].split("/")[-2] for line in lines if "/" in line}

    def row(self, path: Path, match: re.Match[str], files: Files) -> Utterance | None:
        if match["set"] == "pretrain" and not self.pretrain:
            return None
        dev = match["id"] in self.dev if self.dev else split_of(match["id"], 0.05, 0) == "dev"
        split = "test" if match["set"] == "test" else "dev" if dev else "train"
        return self._row(path, match, files, split)


@register("dataset", "lrs2")
class Lrs2(_Sentences):
    """LRS2-BBC: sentences of British television, faces of 160 x 160 pixels at 25 frames per second.

    The splits are the lists `train.txt`, `val.txt`, `test.txt` and `pretrain.txt` of the corpus: a line is `ID/NAME`,
    in the test list with a mark (`NF`, `MV`) behind it. Clips that a list names and that are absent are reported. A
    programme counts as a speaker.

    Arguments
    ---------
    pretrain : bool
        Also use `pretrain`, for training.

    Paper: T. Afouras, J. S. Chung, A. Senior, O. Vinyals, A. Zisserman, Deep audio-visual speech recognition, 2018.

    Example
    -------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> Lrs2.write_example(folder)
    >>> Lrs2().prepare(folder).read_text().splitlines()[1].split(",")[:3]
    ['main/55/00001', 'speech', 'train']
    """

    licence = "research, by agreement with the BBC"
    source = "https://www.robots.ox.ac.uk/~vgg/data/lip_reading/lrs2.html"
    paper = "https://arxiv.org/abs/1809.02108"
    layout = r"(?P<set>main|pretrain)/(?P<id>\d+)/(?P<name>\d{5}(?:_\d+)?)\.mp4"
    looked_for = "mvlrs_v1/main/5535415699068794046/00001.mp4, with train.txt, val.txt and test.txt"
    tree = {
        "train.txt": "55/00001\n",
        "val.txt": "56/00001\n",
        "test.txt": "57/00001 NF\n",
        **{
            f"mvlrs_v1/main/{number}/00001{suffix}": text
            for number in (55, 56, 57)
            for suffix, text in ((".mp4", ""), (".txt", _TEXT))
        },
    }

    def __init__(self, pretrain: bool = True) -> None:
        self.pretrain = pretrain

    def start(self, files: Files) -> Mapping[str, str] | None:
        self.splits: dict[str, str] = {}
        for split, name in (("train", "train.txt"), ("dev", "val.txt"), ("test", "test.txt")):
            self.splits |= {f"main/{line.split()[0]}": split for line in files.lines(name)}
        if self.pretrain:
            self.splits |= {f"pretrain/{line.split()[0]}": "train" for line in files.lines("pretrain.txt")}
        return dict(zip(self.splits, self.splits)) or None

    def row(self, path: Path, match: re.Match[str], files: Files) -> Utterance | None:
        name = f"{match['set']}/{match['id']}/{match['name'][:5]}"
        if match["set"] == "pretrain" and not self.pretrain:
            return None
        split = self.splits.get(name) or ("train" if match["set"] == "pretrain" else split_of(match["id"], 0.05, 0.05))
        return None if self.splits and name not in self.splits else self._row(path, match, files, split)


@register("dataset", "muavic")
class Muavic(Corpus):
    """MuAViC: talks in nine languages, mouths of 96 x 96 pixels at 25 frames per second, as its scripts write them.

    `ar/video/train/ID/ID_0001.mp4` with `ar/audio/train/ID/ID_0001.wav`; words from `ar/train_avsr.tsv` with
    `ar/train_avsr.ar` beside it (or `train.tsv`, `train.ar`). A talk counts as a speaker.

    Arguments
    ---------
    languages : list of str, optional
        Codes, such as `ar`; all others are left out.

    Paper: M. Anwar et al., MuAViC: a multilingual audio-visual corpus for robust speech recognition and robust
    speech-to-text translation, Interspeech 2023.

    Example
    -------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> Muavic.write_example(folder)
    >>> Muavic().prepare(folder).read_text().splitlines()[1].split(",")[:3]
    ['ar/a_1', 'speech', 'test']
    """

    licence = "CC BY-NC 4.0"
    source = "https://github.com/facebookresearch/muavic"
    paper = "https://arxiv.org/abs/2303.00628"
    layout = r"(?P<language>[a-z]{2})/video/(?P<set>train|valid|test)/(?P<id>[^/]+)/(?P<name>[^/]+)\.mp4"
    looked_for = "ar/video/train/05QVzC4YkEk/05QVzC4YkEk_0001.mp4, with ar/audio/train/05QVzC4YkEk/05QVzC4YkEk_0001.wav"
    tree = {
        "ar/test.tsv": "/\ntest/a/a_1\tvideo/a_1.mp4\taudio/a_1.wav\t10\t6400\n",
        "ar/test.ar": "marhaban\n",
        **{
            f"ar/{kind}/{name}": ""
            for name in ("train/b/b_1", "valid/c/c_1", "test/a/a_1")
            for kind, name in (("video", f"{name}.mp4"), ("audio", f"{name}.wav"))
        },
    }

    def __init__(self, languages: list[str] | None = None) -> None:
        self.languages = languages

    def start(self, files: Files) -> None:
        self.texts: dict[str, str] = {}
        for name in files.paths:
            match = re.search(r"(?:^|/)(?P<language>[a-z]{2})/(?P<list>[a-z]+(?:_avsr)?)\.tsv$", name)
            words = files.get(f"{name[:-3]}{match['language']}") if match else None
            if match and words is not None:
                lines = files.lines(name)[1:]
                spoken = read_text(words).splitlines()
                if len(lines) == len(spoken):
                    ids = (line.split("\t")[0].split("/")[-1] for line in lines)
                    self.texts |= {f"{match['language']}/{one}": text for one, text in zip(ids, spoken)}

    def row(self, path: Path, match: re.Match[str], files: Files) -> Utterance | None:
        if self.languages is not None and match["language"] not in self.languages:
            return None
        name = (
            f"{match['language']}/{match['name']}"
            if match["language"] != "en"
            else (f"en/{match['id']}_{match['name']}")
        )
        audio = files.get(match.string.replace("/video/", "/audio/")[: -len("mp4")] + "wav")
        return Utterance(
            name,
            clean=audio or path,
            video=path,
            speaker=f"muavic_{match['id']}",
            text=self.texts.get(name, ""),
            split={"valid": "dev"}.get(match["set"], match["set"]),
            extra={"language": match["language"]},
        )
