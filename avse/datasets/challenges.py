"""Datasets `avsec4` and `lombard_grid`: the scenes of the AVSE challenge, and GRID said in quiet and in noise."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from avse.data.manifest import Utterance
from avse.datasets.corpus import Corpus, Files, read_text, seconds_of, split_of, words_of_grid
from avse.errors import AvseError
from avse.plugins import register

_LATE = 0.1  # seconds by which a separate audio file may be shorter or longer than that of the video


@register("dataset", "avsec4")
class Avsec4(Corpus):
    """AVSEC-4, the audio-visual speech enhancement challenge: scenes of talks with speakers, noise and music.

    `train/scenes/S00001_silent.mp4` with `S00001_mix.wav` (or `_mixed.wav`, of the earlier editions), the target
    `S00001_target_anechoic.wav` (or `_target.wav`) and `S00001_interferer.wav`, and `scenes.train.json`. Binaural files
    are read as the mean of both ears. Scenes of the evaluation set have no target: their rows have noisy audio alone.

    Arguments
    ---------
    target : {"target_anechoic", "target"}
        What the enhanced audio is compared with: the speech without the room, or in it. The other where it is absent.

    Paper: A. L. A. Blanco et al., AVSE challenge: audio-visual speech enhancement challenge, SLT 2022.

    Example
    -------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> Avsec4.write_example(folder)
    >>> Avsec4().prepare(folder).read_text().splitlines()[1].split(",")[:3]
    ['dev/S2', 'speech', 'dev']
    """

    licence = "that of LRS3 and of the noises; by registration"
    source = "https://github.com/cogmhear/avse_challenge"
    paper = "https://doi.org/10.1109/SLT54892.2023.10023284"
    layout = r"(?P<set>train|dev|eval|test)/(?:scenes/)?(?P<name>S\d+)_silent\.mp4"
    looked_for = "train/scenes/S00001_silent.mp4, with S00001_mix.wav and S00001_target.wav"
    tree = {
        "scenes.train.json": '[{"scene": "S1", "SNR": -3.5, "target": {"name": "talk/00001"}}]',
        **{
            f"{split}/scenes/{name}_{kind}": ""
            for split, name in (("train", "S1"), ("dev", "S2"))
            for kind in ("silent.mp4", "mix.wav", "target_anechoic.wav", "interferer.wav")
        },
        "eval/scenes/S3_silent.mp4": "",
        "eval/scenes/S3_mix.wav": "",
    }

    def __init__(self, target: str = "target_anechoic") -> None:
        if target not in ("target_anechoic", "target"):
            raise AvseError(f"avsec4: target must be target_anechoic or target, not {target!r}.")
        self.target = target

    def start(self, files: Files) -> dict[str, str] | None:
        self.scenes: dict[str, Any] = {}
        for split in ("train", "dev"):
            path = files.find(f"scenes.{split}.json")
            try:
                scenes = json.loads(read_text(path)) if path else []
                self.scenes |= {f"{split}/{scene['scene']}": scene for scene in scenes}
            except (ValueError, KeyError, TypeError) as error:
                raise AvseError(f"{path}: is no list of scenes ({error!r}).") from error
        return dict(zip(self.scenes, self.scenes)) or None

    def row(self, path: Path, match: re.Match[str], files: Files) -> Utterance | None:
        def part(*kinds: str) -> Path | None:
            names = (match.string.removesuffix("silent.mp4") + f"{kind}.wav" for kind in kinds)
            return next(filter(None, map(files.get, names)), None)

        name, known = f"{match['set']}/{match['name']}", match["set"] in ("train", "dev")
        scene = self.scenes.get(name, {})
        noisy, clean = part("mix", "mixed", "mono_mix"), part(self.target, "target", "target_anechoic")
        if noisy is None or (known and clean is None):
            raise AvseError(f"{path}: {match['name']}_{'mix' if noisy is None else 'target'}.wav is absent.")
        talk = str((scene.get("target") or {}).get("name", "")).rpartition("/")[0]
        snr = scene.get("SNR")
        return Utterance(
            name,
            clean=clean,
            noisy=noisy,
            noise=part("interferer"),
            video=path,
            speaker=f"avsec_{talk}" if talk else "",
            split=match["set"] if known else "test",
            snr=float(snr) if isinstance(snr, int | float) else None,
        )


@register("dataset", "lombard_grid")
class LombardGrid(Corpus):
    """Lombard GRID: 54 people say 50 sentences of GRID each in quiet and 50 in noise that they hear.

    `front/s2_l_bbim3a.mov` (or `side`), `l` for Lombard and `p` for plain speech, with `audio/s2_l_bbim3a.wav`, whose
    length must be that of the video's audio; else the video's own audio is used. A fifth of the people each is dev and
    test, by a hash.

    Arguments
    ---------
    view : {"front", "side"}
        The camera.
    style : {"both", "lombard", "plain"}
        Speech in noise, in quiet, or both.

    Paper: N. Alghamdi et al., A corpus of audio-visual Lombard speech with frontal and profile views, JASA 143, 2018.

    Example
    -------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> LombardGrid.write_example(folder)
    >>> print(LombardGrid().prepare(folder).read_text().splitlines()[1].split(",")[8])
    bin blue in m three again
    """

    licence = "that of the corpus"
    source = "https://spandh.dcs.shef.ac.uk/avlombard/"
    paper = "https://doi.org/10.1121/1.5042758"
    suffixes = (".mov",)
    layout = r"(?P<view>front|side)/(?P<speaker>s\d+)_(?P<style>[lp])_(?P<name>[a-z0-9]+)\.mov"
    looked_for = "lombardgrid/front/s2_l_bbim3a.mov, with lombardgrid/audio/s2_l_bbim3a.wav"
    tree = {
        "front/s2_l_bbim3a.mov": "",
        "audio/s2_l_bbim3a.wav": "",
        "front/s3_p_bbim3a.mov": "",
        "front/s4_p_bbim3a.mov": "",
    }

    def __init__(self, view: str = "front", style: str = "both") -> None:
        if view not in ("front", "side") or style not in ("both", "lombard", "plain"):
            raise AvseError(f"lombard_grid: there is no view {view!r} or no style {style!r}.")
        self.view, self.style = view, style

    def row(self, path: Path, match: re.Match[str], files: Files) -> Utterance | None:
        style = {"l": "lombard", "p": "plain"}[match["style"]]
        if match["view"] != self.view or self.style not in ("both", style):
            return None
        audio = files.find(f"audio/{path.stem}.wav")
        if audio is not None:
            try:
                if abs(seconds_of(audio) - seconds_of(path)) > _LATE:
                    audio = None
            except AvseError:
                pass  # a video without audio
        speaker = f"lombard_{match['speaker']}"
        return Utterance(
            path.stem,
            clean=audio or path,
            video=path,
            speaker=speaker,
            text=words_of_grid(match["name"]),
            split=split_of(speaker),
            extra={"style": style},
        )
