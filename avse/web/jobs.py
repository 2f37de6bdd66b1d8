"""What the page does with the files of a visitor: `avse enhance`, `avse separate`, and what a browser shows of them."""

from __future__ import annotations

import functools
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.progress import Progress, TaskID

from avse.errors import AvseError
from avse.files import atomic_path, write_json, write_text
from avse.jobs.enhance import enhance_file
from avse.jobs.files import default_output
from avse.jobs.separate import REST, separate_file
from avse.media import open_clip
from avse.media.decode import open_container, video_stream
from avse.media.faces.speakers import find_faces, places
from avse.model import Model, load, told_overrides
from avse.scene import AUTO, describe, describe_words
from avse.web.media import MouthWriter, write_player

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from avse.jobs.enhance import Options, Report
    from avse.model import Noise
    from avse.scene import Description

Tell = Callable[[float, str], None]  # takes the share that is done, and of what
_MARGIN = 0.35  # around a face, in widths and heights of its box
_THUMB = 160  # pixels
_MAKING = 0.85  # share of the work that is done when only the files for the browser are left


@dataclass
class Player:
    """Audio that a browser plays, with its video if it has one.

    Arguments
    ---------
    title : str
    file : str
        What is played.
    download : str
        What can be downloaded.
    picture : str, optional
        A picture of the speaker.
    note : str
    """

    title: str
    file: str
    download: str
    picture: str | None = None
    note: str = ""


@dataclass
class Outcome:
    """What became of a file.

    Arguments
    ---------
    name : str
        Of the file.
    message : str
        What was wrong with it; else all that follows is there.
    token : str
        Names the folder of the files: see `Room.find`.
    separated : bool
        Whether the players after the first are speakers.
    film : bool
        Whether the players show the video: all of them, or the first if `separated`.
    players : list of Player
    mouth, plot, report : str or None
        Files: the video of the mouth, the picture of spectrograms, the JSON report.
    facts, warnings : list of str
    """

    name: str
    message: str = ""
    token: str = ""
    separated: bool = False
    film: bool = False
    players: list[Player] = field(default_factory=list)
    mouth: str | None = None
    plot: str = ""
    report: str = ""
    facts: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass
class Told:
    """What a visitor says of the noise.

    Arguments
    ---------
    words, not_words : str
        What it is, and what it is not. They never name a file.
    file : path, optional
        A picture, a sound or a video of it.
    itself : bool
        Whether the clip itself tells.
    """

    words: str = ""
    not_words: str = ""
    file: Path | None = None
    itself: bool = False

    def read(self) -> Noise:
        """Descriptions, as `enhance_file` takes them; see `avse.scene.describe` for errors."""
        noise: list[Description] = [describe_words(self.words)] if self.words.strip() else []
        noise += [describe(self.file).vector] if self.file is not None else []
        noise += [AUTO] if self.itself else []
        return {"noise": noise, "not_noise": [describe_words(self.not_words)] if self.not_words.strip() else []}


class Room:
    """Where the files of visitors are, each for a limited time.

    Arguments
    ---------
    root : path
        A folder of its own: all files in it are deleted in time.
    models : mapping of str to str, optional
        Folders of models by the name that visitors see; other names are those of models that come with avse.
    device : str
        Where models run.
    longest : float
        Seconds of audio of a file, at most.
    kept : float
        Seconds after which a file is deleted.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        models: Mapping[str, str] | None = None,
        device: str = "auto",
        longest: float = 1800.0,
        kept: float = 3600.0,
    ) -> None:
        self.root, self.longest, self.kept = Path(root).resolve(), longest, kept
        self.results, self.uploads = self.root / "results", self.root / "uploads"
        self.unfinished = self.root / "unfinished"
        for folder in (self.results, self.uploads, self.unfinished):
            folder.mkdir(parents=True, exist_ok=True)
        self._folders, self._device = dict(models or {}), device
        self.made_by = {"root": self.root, "models": self._folders, "device": device, "longest": longest, "kept": kept}

    def model(self, name: str, told: bool = False) -> Model:
        """A model by the name that visitors see; `told`: one that is told what the noise is, where it can be."""
        return _load(self._folders.get(name, name), self._device, told)

    def find(self, token: str, name: str) -> Path | None:
        """A file of a result; None if there is none, or the names lead elsewhere."""
        path = self.results / token / name
        plain = all(part not in ("", ".", "..") and not re.search(r"[/\\\0]", part) for part in (token, name))
        return path if plain and path.is_file() and not path.is_symlink() else None

    def sweep(self, now: float | None = None) -> None:
        """Delete files that are older than their time, and folders that are empty and as old."""
        now = time.time() if now is None else now
        for path in sorted([*self.results.rglob("*"), *self.uploads.rglob("*")], reverse=True):
            try:
                if now - path.lstat().st_mtime < self.kept:
                    continue
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
            except OSError:
                continue  # a folder that is not empty, or gone already

    def enhance(
        self,
        source: Path,
        model: str,
        tell: Tell,
        *,
        rest: bool = False,
        told: Told | None = None,
        **options: Unpack[Options],
    ) -> Outcome:
        """Enhance an uploaded file as `avse enhance` does, and make what a browser shows.

        Arguments
        ---------
        source : path
        model : str
            Name of a model.
        tell : callable
        rest : bool
            Whether to write what was taken away.
        told : Told, optional
            What is said of the noise.
        options :
            See `avse.jobs.enhance.enhance_file`.
        """
        with self._work(source) as (folder, outcome):
            self._check(source)
            output, removed = folder / default_output(source).name, folder / f"{source.stem}.rest.wav"
            mouth = folder / "mouth.mp4"
            tell(0.0, "Loading the model")
            described = Told().read() if told is None else told.read()
            given: Options = {**options, **described}
            loaded = self.model(model, any(described.values()))
            with MouthWriter(mouth) as writer:
                report = enhance_file(
                    loaded,
                    source,
                    output,
                    plot=folder / "plot.png",
                    rest=removed if rest else None,
                    progress=_Told(lambda share: tell(_MAKING * share, f"Enhancing {source.name}")),
                    watch=writer.write,
                    **given,
                )
            tell(_MAKING, "Making what the browser plays")
            film = None if report.video is None else source
            before, after = folder / "before.mp4", folder / "after.mp4"
            write_player(before, source, track=report.track, video=film)
            write_player(after, output, film=before if film else None)
            outcome.players = [Player("Before", before.name, ""), Player("After", after.name, output.name)]
            if rest:
                taken = folder / "taken.mp4"
                write_player(taken, removed, film=before if film else None)
                outcome.players.append(Player("Taken away", taken.name, removed.name))
            outcome.film = film is not None
            outcome.mouth = mouth.name if writer.seen else None
            outcome.report = f"{source.stem}.json"
            write_json(folder / outcome.report, [asdict(report)])
            outcome.warnings = report.warnings
            outcome.facts = [
                f"{report.seconds:.1f} s in {sum(report.timings.values()):.1f} s",
                f"mouth seen in {report.valid_share:.0%}" if report.video else "no video",
                *([f"{report.face} of {len(report.faces)} faces speaks"] if report.face else []),
                *([f"audio {report.offset:+.2f} s late"] if report.offset else []),
                *_noise_facts(report),
                f"model {report.model}",
            ]
        return outcome

    def separate(self, source: Path, model: str, tell: Tell, *, others: int = 0) -> Outcome:
        """Separate the speakers of an uploaded file as `avse separate` does; arguments as of `enhance`."""
        with self._work(source) as (folder, outcome):
            self._check(source)
            outcome.separated, outcome.report = True, f"{source.stem}.json"
            tell(0.1, "Separating")
            report = separate_file(
                source,
                output=folder,
                others=others,
                model=self.model(model),
                plot=folder / "plot.png",
                json_path=folder / outcome.report,
            )
            tell(_MAKING, "Making what the browser plays")
            outcome.film = _has_video(source)
            write_player(folder / "before.mp4", source, video=source if outcome.film else None)
            outcome.players = [Player("Mixture", "before.mp4", "")]
            pictures = dict(faces_of(source)) if any(speaker.box for speaker in report.speakers) else {}
            for speaker in report.speakers:
                file = Path(speaker.output).name
                # One face is called `speaker`, as in the list of faces.
                picture = f"{speaker.name}.png" if speaker.name in pictures else None
                if picture is not None:
                    _write_picture(folder / picture, pictures[speaker.name])
                note = f"mouth seen in {speaker.valid_share:.0%}" if speaker.video else "not seen"
                outcome.players.append(Player(speaker.name, file, file, picture, note))
            file = Path(report.rest).name
            outcome.players.append(Player(REST, file, file, None, "what belongs to no speaker"))
            outcome.warnings = report.warnings
            seconds = sum(report.timings.values())
            outcome.facts = [f"{report.seconds:.1f} s in {seconds:.1f} s", f"model {report.model}"]
        return outcome

    @contextmanager
    def _work(self, source: Path) -> Iterator[tuple[Path, Outcome]]:
        """A new folder, which goes if the work fails; what was wrong; no path of this machine in what is told."""
        outcome = Outcome(source.name, token=secrets.token_urlsafe(24))
        folder = self.unfinished / outcome.token
        folder.mkdir()
        own = re.compile(rf"{re.escape(str(self.root))}/(?:[^/\s]+/)*|{re.escape(str(source.parent))}/")
        hide = functools.partial(own.sub, "")
        try:
            yield folder, outcome
            path = folder / outcome.report
            write_text(path, hide(path.read_text(encoding="utf-8")))
            outcome.warnings = [hide(text) for text in outcome.warnings]
            outcome.plot = "plot.png"
            folder.rename(self.results / outcome.token)
        except AvseError as error:
            outcome.message = hide(str(error))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _check(self, source: Path) -> None:
        with open_clip(source, use_video=False) as reader:
            if reader.info.duration is None:  # as of a browser's recording
                reader.skip()
            seconds = reader.info.duration or reader.samples / reader.info.sample_rate
        if seconds > self.longest:
            raise AvseError(
                f"{source.name}: is {seconds / 60:.1f} minutes long; this page takes {self.longest / 60:g}. "
                "`avse enhance` takes any length."
            )


@functools.lru_cache(maxsize=4)
def _load(name: str, device: str, told: bool) -> Model:
    return load(name, device, told_overrides(name, None) if told else None)


def _noise_facts(report: Report) -> list[str]:
    if report.noise is None:
        return []
    alike = ", ".join(f"{name} {cosine:.2f}" for name, cosine in report.noise.nearest[:3])
    return [f"noise like {alike or 'none known'}, trusted {report.noise.trust:.0%}"]


@functools.lru_cache(maxsize=16)
def faces_of(source: Path) -> tuple[tuple[str, np.ndarray], ...]:
    """The faces that a file shows, from left to right: the name of each, and a picture.

    Raises
    ------
    AvseError
        If the file cannot be read.
    """
    if not _has_video(source):
        return ()
    picture, faces = find_faces(source)
    shown = []
    for name, face in zip(places(len(faces)), faces):
        assert picture is not None
        x, y, width, height = face.box
        side = max(width, height) * (1 + 2 * _MARGIN)
        left, top = (max(0, round(at + size / 2 - side / 2)) for at, size in ((x, width), (y, height)))
        shown.append((name, _square(picture[top : top + round(side), left : left + round(side)])))
    return tuple(shown)


def _square(picture: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.resize(picture, (_THUMB, _THUMB), interpolation=cv2.INTER_AREA)


def _write_picture(path: Path, picture: np.ndarray) -> None:
    from PIL import Image

    with atomic_path(path) as temporary:
        Image.fromarray(picture).save(temporary)


def _has_video(source: Path) -> bool:
    with open_container(source) as container:
        return video_stream(container) is not None


class _Told(Progress):
    """Progress that tells the share that is done, and prints nothing."""

    def __init__(self, tell: Callable[[float], None]) -> None:
        super().__init__(disable=True)
        self._tell = tell

    def update(self, task_id: TaskID, **changes: Any) -> None:
        super().update(task_id, **changes)
        task = next(task for task in self.tasks if task.id == task_id)
        if task.total:
            self._tell(min(1.0, task.completed / task.total))
