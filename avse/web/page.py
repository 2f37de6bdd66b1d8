"""What the page shows, in Gradio: clips and how they are enhanced, what became of them, and the live stream."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avse.errors import AvseError
from avse.evaluation.plots.spectrograms import SPAN
from avse.jobs.enhance import PLOT_SECONDS
from avse.jobs.faces import SPEAKING
from avse.jobs.files import MEDIA_SUFFIXES
from avse.web.jobs import Outcome, Room, Told, faces_of
from avse.web.worker import Worker

if TYPE_CHECKING:
    import gradio

_ONE, _ALL = "One speaker", "Every speaker"
_MOST = 50  # files at once
_WORK: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "work", "api_visibility": "private"}
_FIRST = ("avse-small", "av-separator")  # models chosen at the start, for one speaker and for all
_LARGEST = "largest"
_LOUDNESS = {"As it comes": "", "That of the clip": "keep", "-16 LUFS": "-16", "-23 LUFS": "-23"}
_FACE, _CLICK = "Face found", "Faces found: click the one to follow"
_TELL = "For models with a noise model, such as av-vae: what is said is checked against the audio, and helps it."
_TITLE = """<header class="avse-title"><h1>avse</h1>
<p>Someone speaks on video and the audio is noisy: find the speech, with the help of the mouth.
Files are deleted after {minutes}.</p></header>"""


def build(room: Room, models: Mapping[str, str], worker: Worker) -> gradio.Blocks:
    """The page.

    Arguments
    ---------
    room : Room
        Where files are.
    worker : Worker
        Does the work there.
    models : mapping of str to str
        What is said of each model that can be chosen, by name.
    """
    import gradio as gr

    shown = gr.Progress()
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    chosen = {task: name if name in models else next(iter(models)) for task, name in zip((_ONE, _ALL), _FIRST)}
    minutes = "an hour" if room.kept == 3600 else f"{room.kept / 60:.0f} minutes"
    with gr.Blocks(title="avse", analytics_enabled=False) as page:
        gr.HTML(_TITLE.format(minutes=minutes))
        sources = gr.State([])
        with gr.Tabs():
            with gr.Tab("Clips"), gr.Row():
                with gr.Column(scale=2, min_width=330):
                    with gr.Tabs():
                        with gr.Tab("Upload"):
                            files = gr.File(label="Videos or audio files", file_count="multiple", height=150)
                        with gr.Tab("Folder"):
                            folder = gr.File(label="A folder of them", file_count="directory", height=150)
                        with gr.Tab("Record"):
                            recording = gr.Video(
                                label="Camera and microphone",
                                sources=["webcam"],
                                include_audio=True,
                                webcam_options=gr.WebcamOptions(mirror=False),
                            )
                    note = gr.HTML(visible=False)
                    task = gr.Radio([_ONE, _ALL], value=_ONE, label="Find")
                    with gr.Column(elem_id="avse-whom") as whom:
                        faces = gr.Gallery(
                            label=_FACE,
                            columns=4,
                            fit_columns=False,
                            height=165,
                            elem_id="avse-faces",
                            allow_preview=False,
                            visible=False,
                            buttons=[],
                        )
                        face = gr.Radio(_face_choices([]), value=_LARGEST, label="Face to follow", visible=False)
                    model = gr.Dropdown([*models], value=chosen[_ONE], label="Model", info=models[chosen[_ONE]])
                    with gr.Accordion("Strength and more", open=False) as options:
                        mix = gr.Slider(
                            0, 100, 100, step=5, label="Strength (%)", info="The rest is the audio as it was."
                        )
                        limit = gr.Slider(
                            3, 60, 60, step=3, label="Take away at most (dB)", info="At 60, all that can be."
                        )
                        loudness = gr.Dropdown([*_LOUDNESS.items()], value="", label="Loudness")
                        offset = gr.Checkbox(False, label="Audio and video are out of step: find by how much")
                        use_video = gr.Checkbox(True, label="Use the video")
                        rest = gr.Checkbox(False, label="Also give what was taken away")
                    with gr.Accordion("What the noise is", open=False) as scene:
                        words = gr.Textbox(
                            label="In words",
                            placeholder="rain on a roof",
                            info=_TELL,
                            value="",
                            max_lines=2,
                            max_length=300,
                        )
                        not_words = gr.Textbox(
                            label="What it is not", placeholder="music", value="", max_lines=2, max_length=300
                        )
                        shows = gr.File(label="A picture, a sound or a film of it", height=150)
                        itself = gr.Checkbox(False, label="Let the clip itself tell")
                    others = gr.Number(
                        0,
                        label="Further speakers whom the video does not show",
                        precision=0,
                        minimum=0,
                        maximum=4,
                        visible=False,
                    )
                    start = gr.Button("Enhance", variant="primary", interactive=False)
                    stop = gr.Button("Cancel", visible=False)
                with gr.Column(scale=3, min_width=330):
                    result = gr.HTML(_rendered([]), elem_id="avse-results", min_height=170)
            with gr.Tab("Live"):
                gr.HTML((Path(__file__).parent / "live.html").read_text(encoding="utf-8"))

        def take(given: str | list[str] | None, whole_folder: bool = False) -> Any:
            """The files of an upload, without waiting for other visitors."""
            paths = [Path(path).resolve() for path in ([given] if isinstance(given, str) else given or [])]
            paths = [path for path in paths if path.is_relative_to(room.uploads)]
            paths = [path for path in paths if not whole_folder or path.suffix.lower() in MEDIA_SUFFIXES]
            wrong = ""
            if given and not paths:
                wrong = "The folder holds no media file (.mp4, .mkv, .mov, .wav, ...)."
            elif len(paths) > _MOST:
                wrong, paths = f"{len(paths)} files are too many at once; this page takes {_MOST}.", []
            return {
                sources: [str(path) for path in paths],
                note: gr.HTML(_alert(wrong), visible=bool(wrong)),
                faces: gr.Gallery([], visible=False),
                face: gr.Radio(_face_choices([]), value=_LARGEST, visible=len(paths) > 1),
                start: gr.Button(interactive=bool(paths)),
            }

        def look(paths: Sequence[str]) -> Any:
            """The faces of a single file; what is wrong with it is told when it is enhanced."""
            found = []
            if len(paths) == 1:
                with contextlib.suppress(AvseError):
                    found = list(faces_of(Path(paths[0])))
            if not found:
                return {faces: gr.skip(), face: gr.skip()}
            return {
                faces: gr.Gallery(
                    [(picture, name) for name, picture in found],
                    label=_CLICK if len(found) > 1 else _FACE,
                    visible=True,
                ),
                face: gr.Radio(_face_choices([name for name, _ in found]), visible=len(found) > 1),
            }

        for given, whole in ((files, False), (folder, True), (recording, False)):
            given.change(
                functools.partial(take, whole_folder=whole),
                given,
                [sources, note, faces, face, start],
                queue=False,
                **quiet,
            ).then(look, sources, [faces, face], concurrency_id="look", **quiet)

        def pick(event: Any) -> str:
            return str(event.index)

        pick.__annotations__ = {"event": gr.SelectData}  # Gradio looks for the type itself

        def switch(which: str) -> Any:
            one = which == _ONE
            return {
                whom: gr.Column(visible=one),
                options: gr.Accordion(visible=one),
                scene: gr.Accordion(visible=one),
                others: gr.Number(visible=not one),
                model: gr.Dropdown(value=chosen[which], info=models[chosen[which]]),
                start: gr.Button("Enhance" if one else "Separate"),
            }

        faces.select(pick, None, face, **quiet)
        task.change(switch, task, [whom, options, scene, others, model, start], **quiet)
        model.change(lambda name: gr.Dropdown(info=models[name]), model, model, **quiet)

        async def work(
            paths: Sequence[str], which: str, name: str, others: float, face: str, mix: float, limit: float,
            loudness: str, offset: bool, use_video: bool, rest: bool, words: str, not_words: str, shows: str | None,
            itself: bool, request: Any, progress: Any = shown,
        ) -> AsyncIterator[str]:  # fmt: skip
            if not paths:
                yield _alert("Choose a clip first: upload one, or record one.")
                return
            file = None if shows is None or not Path(shows).resolve().is_relative_to(room.uploads) else Path(shows)
            options: dict[str, Any] = {"others": int(others)}
            if which == _ONE:
                options = {
                    "rest": rest,
                    "told": Told(words or "", not_words or "", file, itself),
                    "face": int(face) if face.isdigit() else face,
                    "mix": mix / 100,
                    "max_attenuation": None if limit >= 60 else limit,
                    "loudness": loudness or None,
                    "offset": "auto" if offset else 0.0,
                    "use_video": use_video,
                }
            method, outcomes = "enhance" if which == _ONE else "separate", list[Outcome]()
            for number, path in enumerate(map(Path, paths), 1):
                before = f"{number} of {len(paths)}: " if len(paths) > 1 else ""
                tell = functools.partial(_tell, progress, before)
                outcomes.append(await worker.run(request.session_hash, method, path, name, tell, **options))
                yield _rendered(outcomes)

        def leave(request: Any) -> None:
            worker.leave(request.session_hash)

        for function in (work, leave):
            function.__annotations__ = {"request": gr.Request}
        choices = [sources, task, model, others, face, mix, limit, loudness, offset, use_video, rest]
        choices += [words, not_words, shows, itself]
        start.click(lambda: gr.Button(visible=True), None, stop, queue=False, **quiet)
        working = start.click(work, choices, result, **_WORK)
        working.then(lambda: gr.Button(visible=False), None, stop, queue=False, **quiet)
        ended = stop.click(None, cancels=[working])
        ended.then(lambda: (_alert("Cancelled."), gr.Button(visible=False)), None, [result, stop], queue=False, **quiet)
        page.unload(leave)
    page.queue(max_size=32, api_open=False)
    return page


def _tell(progress: Any, before: str, share: float, text: str) -> None:
    progress(share, desc=before + text)


def _face_choices(names: Sequence[str]) -> list[tuple[str, str]]:
    fixed = [("The largest", _LARGEST), ("Who speaks", SPEAKING)]
    return fixed + [(name, str(place)) for place, name in enumerate(names) if len(names) > 1]


def _rendered(outcomes: Sequence[Outcome]) -> str:
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader("avse", "web"), autoescape=True, trim_blocks=True)
    opened = next((place for place, one in enumerate(outcomes, 1) if not one.message), 0)
    return environment.get_template("result.html").render(outcomes=outcomes, opened=opened, span=(*SPAN, PLOT_SECONDS))


def _alert(text: str) -> str:
    from markupsafe import escape

    return f'<div class="avse-error" role="alert">{escape(text)}</div>' if text else ""
