"""`evaluate`: scores, summary and report of a system on a list of mixtures, of one speaker or of several."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import tempfile
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from avse.data.rendering import mixture_list, read_mixtures
from avse.devices import AUTO, find_device
from avse.errors import AvseError
from avse.evaluation.conditions import CLEAN_VIDEO, WITHOUT_VIDEO, items_of, one_condition, sweep
from avse.evaluation.corpora import corpora_markdown, corpus_tables, write_results
from avse.evaluation.rows import cells, read_rows, write_rows
from avse.evaluation.scoring import CLEAN, FRAMES, Condition, Item, Row, Scorer, Task, build_metrics, columns, video_of
from avse.evaluation.separation import MIXTURE_METRICS, group_means, separation_table
from avse.files import check_apart, locked, write_json, write_text
from avse.workers import is_pooled, run_all

METRICS = ("si_sdr", "si_sdr_improvement", "pesq_wb", "stoi", "estoi")
SWEEP_METRICS = ("si_sdr", "pesq_wb", "estoi")
SEPARATION_METRICS = ("si_sdr_improvement", "pesq_wb", "estoi")
_SCORES, _BOTH, _SWEEP = "scores.csv", "videos.csv", "corrupted.csv"
_TABLES = ("corpora.md", "results.json")
_SWEPT = ("corruptions.csv", "corruptions.md", "corruptions.png")
_WRITTEN = (_SCORES, _BOTH, _SWEEP, *_TABLES, "settings.json", "summary.json", "report.html", "table.md", *_SWEPT)
_KEPT = "estimates"

Key = tuple[str, Condition]  # id of an utterance, and what was done to its video


def evaluate(
    manifest: str | Path,
    out: str | Path,
    *,
    model: Any = None,
    estimates: str | Path | None = None,
    speakers: str = "blind",
    use_video: bool = True,
    without_video: bool = False,
    corrupt: str | None = None,
    corruptions: str | Sequence[str] | None = None,
    severities: Sequence[int] | None = None,
    jobs: int = 1,
    metrics: Sequence[str] | None = None,
    splits: Collection[str] | None = None,
    limit: int | None = None,
    device: str = AUTO,
    label: str | None = None,
    seed: int = 0,
    tracker: str | None = None,
    crops: str | Path | None = None,
    keep_estimates: bool = True,
    overwrite: bool = False,
    overrides: dict[str, Any] | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Score a system on every mixture of a manifest.

    Writes to `out`: `scores.csv` (a line an utterance, added as it is done), `summary.json`, `report.html` and
    `estimates/`. The same call goes on where an interrupted one stopped, and tries failed utterances again.

    `corpora.md` has a table for each condition with a line for each corpus, and `results.json` these tables and every
    score. With `without_video`, as with `corruptions`, they tell what the video gains; all scores are in `videos.csv`.

    Where the mixtures have several speakers, the model separates them. `scores.csv` has a line for each speaker of each
    mixture, estimates go to `voices/`, and `table.md` takes the place of the report.

    With `corruptions` the model is scored with clean video, without video, and with each corruption at each severity;
    each video is decoded and tracked once. The files above then tell of clean video, and there are `corrupted.csv` (a
    line for each utterance and corruption), and `corruptions.csv`, `.md` and `.png`: see
    `avse.evaluation.studies.robustness.summarise_sweep`. More corruptions and severities may be asked for later.

    Arguments
    ---------
    manifest : path
        CSV with `id`, `clean`, `noisy`, and where known `video`, `speaker`, `snr`, `condition`, `label`, `target`; or
        `mixtures.csv`, which `render_scenes` writes for several speakers; or the folder of either.
    out : path
        Folder of the results.
    model : str, path or object, optional
        Name or folder for `avse.load`, or a loaded model: anything with `enhance(Clip) -> Estimate`, for several
        speakers with `separate_clips(clips, names) -> Estimate`; or `mixture`: nothing is separated.
    estimates : path, optional
        Instead of a model: folder with `<id>.wav`, `.flac`, `.enhanced.wav`, ...
    speakers : str
        Of several speakers, what a model whose prior knows speakers is told: `blind`, nothing; `oracle`, who talks; or
        the name of one speaker for all, such as `anybody`.
    use_video : bool
        False: the model gets the audio only.
    without_video : bool
        Score every mixture twice, with its video and without.
    corrupt : str, optional
        `NAME=SEVERITY` of a corruption of the video, for example `blur=3`.
    corruptions : str or sequence of str, optional
        Names of corruptions of the video, or `all`. Utterances without a video are left out.
    severities : sequence of int, optional
        Of `corruptions`. Default: 1 to 5.
    jobs : int
        Processes. The real-time factor is comparable only between runs with equal `jobs`.
    metrics : sequence of str, optional
        Default: SI-SDR, its improvement, PESQ-WB, STOI, ESTOI; with `corruptions` SI-SDR, PESQ-WB, ESTOI; of several
        speakers SI-SDR improvement, PESQ-WB, ESTOI, to which SDR, SIR, SAR, the share of wrong speakers and the switch
        accuracy are added.
    splits : collection of str, optional
        Score these splits only.
    limit : int, optional
        Score the first so many utterances only.
    device : str
        Of a model given by name or folder: `cpu`, `cuda`, ..., or `auto`.
    label : str, optional
        Name of the system in tables. Default: the model's name, or that of the folder of estimates.
    seed : int
        Of the corruption and of the bootstrap.
    tracker : str, optional
        Mouth tracker: see `avse.media.read_clip`.
    crops : path, optional
        Folder that keeps tracked mouths, so that the next evaluation of the same videos does not track them again.
    keep_estimates : bool
        False: nothing goes to `estimates/`, and the report shows no spectrograms.
    overwrite : bool
        Throw away what an earlier evaluation left in `out`.
    overrides : dict, optional
        Changes of the model's recipe: see `avse.load`.
    progress : bool
        Show a progress bar on stderr.

    Returns
    -------
    dict
        What `summary.json` holds; see `avse.evaluation.summary`. `failed` and `partial` count the utterances that
        have no or not all scores; `failures` says why. With `corruptions` there is a key of this name.

    Raises
    ------
    AvseError
        If the arguments contradict each other, the manifest has no mixtures, or `out` holds scores of other settings.
    """
    from avse.evaluation.summary import summarise

    out = Path(out)
    speakers = {"free": "blind", "known": "oracle"}.get(speakers, speakers)  # as `--voices` had them
    swept = corruptions is not None
    mixtures = read_mixtures(manifest, splits)
    several = any(len(mixture.utterances) > 1 for mixture in mixtures)
    default = SEPARATION_METRICS if several else SWEEP_METRICS if swept else METRICS
    names = tuple(dict.fromkeys(metrics or default))
    _check_arguments(model, estimates, use_video, corrupt, jobs, limit)
    if without_video and (swept or several or estimates is not None or not use_video or corrupt is not None):
        raise AvseError(
            "without_video scores a model with clean video and without; it goes with neither several speakers, "
            "estimates, corrupt, corruptions nor no video."
        )
    if swept and (estimates is not None or not use_video or corrupt is not None):
        raise AvseError(
            "corruptions changes the video of a model; it goes with neither estimates, corrupt nor no video."
        )
    if several and (swept or estimates is not None):
        raise AvseError(
            f"{manifest}: lists mixtures of several speakers; they go with neither corruptions nor estimates."
        )
    if severities is not None and not swept:
        raise AvseError("severities are those of corruptions, of which none is named.")
    conditions = [one_condition(use_video, corrupt)]
    if corruptions is not None:
        conditions = sweep(corruptions, severities)
    elif without_video:
        conditions = [CLEAN_VIDEO, WITHOUT_VIDEO]
    if overrides and not isinstance(model, str | Path):
        raise AvseError(f"{', '.join(f'--{key}' for key in overrides)}: only the recipe of a model can be changed.")
    built = build_metrics(names)
    by_name = isinstance(model, str | Path)
    device = str(find_device(device)) if by_name else str(getattr(model, "device", "cpu"))
    chosen = [one for one in mixtures if not swept or video_of(one.first) is not None][:limit]
    if not chosen:
        raise AvseError(f"{manifest}: no row has a video, so there is nothing to corrupt.")
    label = label or _label(model, estimates, speakers)
    settings = {
        "system": label,
        "manifest": str(manifest),
        "manifest_sha256": hashlib.sha256(mixture_list(manifest).read_bytes()).hexdigest(),
        **({"model": _name(model), "model_sha256": model_hash(model)} if estimates is None else {}),
        **({} if estimates is None else {"estimates": str(estimates), "estimates_sha256": _listing(Path(estimates))}),
        **({"speakers": speakers} if several else {}),
        "use_video": use_video,
        "corrupt": corrupt,
        **({"without_video": True} if without_video else {}),
        **({"corruptions": [f"{one.video}={one.severity}" for one in conditions if one.corrupts]} if swept else {}),
        "metrics": list(names),
        "splits": None if splits is None else sorted(splits),
        "limit": limit,
        "device": device,
        "seed": seed,
        **({} if tracker is None else {"tracker": tracker}),
        **({"overrides": {key: str(value) for key, value in overrides.items()}} if overrides else {}),
    }
    header = columns(built, several)
    replaced = [out / name for name in (*_WRITTEN, *((_KEPT, "voices") if overwrite else ()))]
    check_apart([manifest, *([] if estimates is None else [estimates])], replaced)
    path = out / (_SWEEP if swept else _BOTH if without_video else _SCORES)
    written = header
    if len(conditions) > 1:
        written = [header[0], "video", "severity", *header[1:], *(FRAMES if swept else ())]
    # The processes of a sweep share what they track.
    shared = tempfile.TemporaryDirectory(prefix="avse-crops-") if swept and crops is None else nullcontext(crops)
    with locked(out), shared as folder:
        done = _resume(path, settings, written, overwrite, conditions[0])
        items = items_of(chosen, conditions, mixtures)
        complete = {key for key, rows in done.items() if all(row["status"] != "failed" for row in rows)}
        todo = [item for item in items if _key(item) not in complete]
        keep = out / ("voices" if several else _KEPT)
        task = Task(
            metrics=names,
            model=model,
            speakers=speakers,
            estimates=None if estimates is None else Path(estimates),
            seed=seed,
            device=device,
            keep=keep if keep_estimates and estimates is None else None,
            kept=conditions[0],
            tracker=tracker,
            crops=None if folder is None else Path(folder),
            overrides=overrides,
        )
        done.update(_run(task, todo, jobs, path, written, progress, label))
        asked = [row for item in items for row in done.pop(_key(item))]
        write_rows(path, [*asked, *(row for rows in done.values() for row in rows)], written)
    if len(conditions) > 1:
        write_rows(out / _SCORES, [row for row in asked if row["video"] == CLEAN], header)
    rows = read_scores(out)  # what the file says, so that going on gives the same summary as one run
    if several:
        built = {name: built.get(name) or MIXTURE_METRICS[name] for name in header if name in built | MIXTURE_METRICS}
    summary = summarise(rows, built, settings=settings, jobs=jobs)
    all_rows = read_rows(path)[: len(asked)]
    summary["corpora"] = corpus_tables(all_rows, built, seed)
    if swept:
        from avse.evaluation.plots.figure import save
        from avse.evaluation.plots.robustness import plot_robustness
        from avse.evaluation.studies.robustness import summarise_sweep, write_sweep

        summary["corruptions"] = summarise_sweep(all_rows, names, seed=seed)
        write_sweep(out, summary, all_rows)
        save(plot_robustness(summary), out / "corruptions.png")
    if several:
        if speakers != "blind" and not summary["scored"] + summary["partial"]:
            raise AvseError(summary["failures"][0]["reason"])
        for about in summary["metrics"].values():
            about["relative_to_noisy"] = False  # there is no score of the noisy audio beside any of them
        summary |= {"label": label, "groups": group_means(rows, list(built), seed)}
        write_text(out / "table.md", separation_table([summary]))
    write_json(out / "summary.json", summary)
    write_text(out / _TABLES[0], corpora_markdown(summary))
    write_results(out / _TABLES[1], summary, all_rows, list(built))
    if not several:
        from avse.evaluation.report import write_report

        estimates_folder = out / _KEPT if estimates is None else Path(estimates)
        write_report(out / "report.html", summary, rows, {one.id: one.first for one in chosen}, estimates_folder)
    noted = sum(bool(row["note"]) for row in rows)
    if noted:
        warnings.warn(f"{noted} utterances were cut or resampled; column `note` of {out / 'scores.csv'}", stacklevel=2)
    return summary


def evaluate_separation(
    manifest: str | Path,
    out: str | Path,
    *,
    model: Any = "av-vae",
    voices: str = "blind",
    keep: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """`evaluate` with the arguments that it had for several speakers in the last release."""
    return evaluate(manifest, out, model=model, speakers=voices, keep_estimates=keep, **options)


def read_scores(out: str | Path) -> list[Row]:
    """Rows of the `scores.csv` of an evaluation: numbers as float, None where there is no score.

    Raises
    ------
    AvseError
        If the folder holds no evaluation.
    """
    path = Path(out) / "scores.csv"
    if not path.is_file():
        raise AvseError(f"{out}: holds no scores.csv. Name a folder that `avse evaluate` wrote.")
    return read_rows(path)


def read_sweep(out: str | Path) -> tuple[list[Row], dict[str, Any]]:
    """Rows of the `corrupted.csv` of an evaluation with `corruptions`, and how it was made.

    Raises
    ------
    AvseError
        If the folder holds no such evaluation.
    """
    if not (Path(out) / _SWEEP).is_file() or not (Path(out) / "settings.json").is_file():
        raise AvseError(f"{out}: holds no {_SWEEP}. Name a folder that `avse study robustness` wrote.")
    return read_rows(Path(out) / _SWEEP), json.loads((Path(out) / "settings.json").read_text(encoding="utf-8"))


def _check_arguments(
    model: Any, estimates: str | Path | None, use_video: bool, corrupt: str | None, jobs: int, limit: int | None
) -> None:
    if model == "nmf":
        raise AvseError("The baseline nmf is a benchmark of the repository now: benchmarks/nmf_separation.py.")
    if (model is None) == (estimates is None):
        raise AvseError("Give either a model (--model NAME_OR_DIR) or estimates (--estimates DIR) to evaluate.")
    if estimates is not None and not Path(estimates).is_dir():
        raise AvseError(f"{estimates}: there is no such folder of estimates.")
    if jobs < 1 or (limit is not None and limit < 1):
        raise AvseError(f"jobs ({jobs}) and limit ({limit}) must be at least 1.")
    if corrupt is not None and (estimates is not None or not use_video):
        raise AvseError(f"corrupt={corrupt!r} changes the video; it needs a model that gets the video.")


def _resume(
    path: Path, settings: dict[str, Any], header: list[str], overwrite: bool, only: Condition
) -> dict[Key, list[Row]]:
    """Rows that an earlier call with these settings left in a file; where it names no conditions, all are of `only`."""
    out = path.parent
    try:
        if overwrite:
            for name in _WRITTEN:
                (out / name).unlink(missing_ok=True)
            for name in (_KEPT, "voices"):
                shutil.rmtree(out / name, ignore_errors=True)
    except OSError as error:
        raise AvseError(f"{out}: cannot write there ({error.strerror}). Choose another --output.") from None
    earlier: dict[str, Any] = {}
    if (out / "settings.json").is_file():
        try:
            earlier = json.loads((out / "settings.json").read_text(encoding="utf-8"))
        except ValueError:
            raise AvseError(f"{out / 'settings.json'}: is damaged. Give another --output or --overwrite.") from None
    elif any((out / name).is_file() for name in (_SCORES, _BOTH, _SWEEP)):
        raise AvseError(f"{out}: holds scores but no settings.json. Give another --output or --overwrite.")
    # A manifest may have moved, a system have another name, and a sweep be widened.
    free = {"manifest", "system", "estimates", *({"corruptions"} & settings.keys() & earlier.keys())}
    keys = [key for key in dict.fromkeys([*settings, *earlier]) if key not in free and earlier]
    differ = [key for key in keys if earlier.get(key) != settings.get(key)]
    if differ:
        title = f"{out}: holds scores of other settings. Give another --output or --overwrite."
        lines = [f"{key}: {earlier.get(key)} there, {settings.get(key)} now" for key in differ]
        raise AvseError("\n  ".join([title, *lines]))
    write_json(out / "settings.json", settings)
    if not path.is_file():
        return {}
    rows = read_rows(path)
    write_rows(path, rows, header)
    return _by_item(rows, only)


def _by_item(rows: Sequence[Row], only: Condition = CLEAN_VIDEO) -> dict[Key, list[Row]]:
    items: dict[Key, list[Row]] = {}
    for row in rows:
        condition = Condition(row["video"], row["severity"]) if "video" in row else only
        items.setdefault((row["id"], condition), []).append(row)
    # A run that was killed may have left some of the rows of a mixture.
    return {key: group for key, group in items.items() if len(group) == (group[0].get("talkers") or 1)}


def _key(item: Item) -> Key:
    return item.mixture.id, item.condition


def _run(
    task: Task, todo: list[Item], jobs: int, path: Path, header: list[str], progress: bool, label: str
) -> dict[Key, list[Row]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from avse.progress import RateColumn

    if not todo:
        return {}
    done: list[Row] = []
    fresh, failed = not path.is_file(), 0
    shown = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), RateColumn(), TimeRemainingColumn()
    bar = Progress(*shown, console=Console(stderr=True), disable=not progress)
    try:
        with open(path, "a", newline="", encoding="utf-8") as file, bar:
            writer = csv.writer(file, lineterminator="\n")
            if fresh:
                writer.writerow(header)
            bar_id = bar.add_task(f"Scoring {label}", total=len(todo))
            for rows in _score_all(task, todo, jobs):
                done += rows
                writer.writerows(cells(row, header) for row in rows)
                file.flush()
                failed += any(row["status"] != "ok" for row in rows)
                bar.update(bar_id, advance=1, description=f"Scoring {label}" + f", {failed} failed" * bool(failed))
    except OSError as error:
        raise AvseError(f"{path}: cannot be written ({error.strerror}). What was scored is kept.") from error
    return _by_item(done)


def _name(model: Any) -> str:
    return str(model if isinstance(model, str | Path) else getattr(model, "name", type(model).__name__))


def _label(model: Any, estimates: str | Path | None, speakers: str) -> str:
    name = Path(_name(model) if estimates is None else estimates).resolve().name
    return name if speakers == "blind" else f"{name}, {speakers}"


def _score_all(task: Task, items: Sequence[Item], jobs: int) -> Iterator[list[Row]]:
    """Rows of each item as it is done, in any order where there are several jobs; each video goes to one of them."""
    groups: dict[object, list[Item]] = {}
    for item in items:
        groups.setdefault(video_of(item.mixture.first) or item.mixture.id, []).append(item)
    if not is_pooled(jobs) or len(groups) < 2:
        scorer = Scorer(task)
        yield from (scorer.score(item) for group in groups.values() for item in group)
        return
    for _, rows in run_all(Scorer, (task,), list(groups.values()), jobs):
        if isinstance(rows, AvseError):
            raise rows
        yield from rows


def model_hash(model: Any) -> str | None:
    """Hash of weights and recipe in a model's folder, or of a loaded model's weights; None where there are neither."""
    digest = hashlib.sha256()
    if isinstance(model, str | Path):
        from avse.model_folder import RECIPE, WEIGHTS, find

        try:
            folder = find(model)
            for name in (WEIGHTS, RECIPE):
                digest.update((folder / name).read_bytes())
        except (AvseError, OSError):
            return None
        return digest.hexdigest()
    import torch

    module = getattr(model, "system", model)
    if not hasattr(module, "state_dict"):
        return None
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _listing(folder: Path) -> str:
    """Hash of the names, sizes and times of a folder's files."""
    digest = hashlib.sha256()
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        state = path.stat()
        digest.update(f"{path.relative_to(folder).as_posix()} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()
