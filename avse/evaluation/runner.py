"""`evaluate`: scores, summary and report of a system on a manifest of mixtures."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from avse.data.manifest import Utterance, read_manifest
from avse.errors import AvseError
from avse.evaluation.scoring import ABOUT, Row, Task, build_metrics, columns
from avse.files import atomic_path

METRICS = ("si_sdr", "si_sdr_improvement", "pesq_wb", "stoi", "estoi")
_WRITTEN = ("scores.csv", "settings.json", "summary.json", "report.html")
_KEPT = "estimates"


def evaluate(
    manifest: str | Path,
    out: str | Path,
    *,
    model: Any = None,
    estimates: str | Path | None = None,
    use_video: bool = True,
    corrupt: str | None = None,
    jobs: int = 1,
    metrics: Sequence[str] | None = None,
    splits: Collection[str] | None = None,
    limit: int | None = None,
    device: str = "cpu",
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

    Arguments
    ---------
    manifest : path
        CSV with `id`, `clean`, `noisy`, and where known `video`, `speaker`, `snr`, `condition`, `label`, `target`.
    out : path
        Folder of the results.
    model : str, path or object, optional
        Name or folder for `avse.load`, or a loaded model: anything with `enhance(Clip) -> Estimate`.
    estimates : path, optional
        Instead of a model: folder with `<id>.wav`, `.flac`, `.enhanced.wav`, ...
    use_video : bool
        False: the model gets the sound only.
    corrupt : str, optional
        `NAME=SEVERITY` of a corruption of the video, for example `blur=3`.
    jobs : int
        Processes. The real-time factor is comparable only between runs with equal `jobs`.
    metrics : sequence of str, optional
        Default: SI-SDR, its improvement, PESQ-WB, STOI, ESTOI.
    splits : collection of str, optional
        Score these splits only.
    limit : int, optional
        Score the first so many utterances only.
    device : str
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
        have no or not all scores; `failures` says why.

    Raises
    ------
    AvseError
        If the arguments contradict each other, the manifest has no mixtures, or `out` holds scores of other settings.
    """
    from avse.evaluation.report import write_report
    from avse.evaluation.summary import summarise

    out = Path(out)
    names = tuple(dict.fromkeys(metrics or METRICS))
    corruption = _check_arguments(model, estimates, use_video, corrupt, jobs, limit)
    if overrides and not isinstance(model, str | Path):
        raise AvseError(f"{', '.join(f'--{key}' for key in overrides)}: only the recipe of a model can be changed.")
    built = build_metrics(names)
    utterances = _mixtures(manifest, splits, limit)
    label = label or _label(model, estimates)
    settings = {
        "system": label,
        "manifest": str(manifest),
        "manifest_sha256": hashlib.sha256(Path(manifest).read_bytes()).hexdigest(),
        **({"model": _name(model), "model_sha256": _model_hash(model)} if estimates is None else {}),
        **({} if estimates is None else {"estimates": str(estimates), "estimates_sha256": _listing(Path(estimates))}),
        "use_video": use_video,
        "corrupt": corrupt,
        "metrics": list(names),
        "splits": None if splits is None else sorted(splits),
        "limit": limit,
        "device": device,
        "seed": seed,
        **({} if tracker is None else {"tracker": tracker}),
        **({"overrides": {key: str(value) for key, value in overrides.items()}} if overrides else {}),
    }
    header = columns(built)
    done = _resume(out, settings, header, overwrite)
    todo = [one for one in utterances if done.get(one.id, {}).get("status", "failed") == "failed"]
    task = Task(
        metrics=names,
        model=model,
        estimates=None if estimates is None else Path(estimates),
        use_video=use_video,
        corrupt=corruption,
        seed=seed,
        device=device,
        keep=out / _KEPT if keep_estimates and estimates is None else None,
        tracker=tracker,
        crops=None if crops is None else Path(crops),
        overrides=overrides,
    )
    done.update(_run(task, todo, jobs, out / "scores.csv", header, progress, label))
    _write_rows(out / "scores.csv", [done[one.id] for one in utterances], header)
    rows = read_scores(out)  # what the file says, so that going on gives the same summary as one run
    summary = summarise(rows, built, settings=settings, jobs=jobs)
    with atomic_path(out / "summary.json") as path:
        path.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    kept = out / _KEPT if estimates is None else Path(estimates)
    write_report(out / "report.html", summary, rows, {one.id: one for one in utterances}, kept)
    noted = sum(bool(row["note"]) for row in rows)
    if noted:
        warnings.warn(f"{noted} utterances were cut or resampled; column `note` of {out / 'scores.csv'}", stacklevel=2)
    return summary


def read_scores(out: str | Path) -> list[Row]:
    """Rows of the `scores.csv` of an evaluation: numbers as float, None where there is no score.

    Raises
    ------
    AvseError
        If the folder holds no evaluation.
    """
    path = Path(out) / "scores.csv"
    if not path.is_file():
        raise AvseError(f"{out}: holds no scores.csv. Name a folder that `avse evaluate --out` wrote.")
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        try:
            return [
                {
                    key: value if key in ABOUT and key not in ("snr", "duration") else float(value) if value else None
                    for key, value in row.items()
                }
                for row in reader
                if None not in row.values()  # the line that was being written when a run was killed
            ]
        except (ValueError, TypeError) as error:
            raise AvseError(f"{path}:{reader.line_num}: is no line of scores ({error}). Evaluate again.") from None


def _check_arguments(
    model: Any, estimates: str | Path | None, use_video: bool, corrupt: str | None, jobs: int, limit: int | None
) -> tuple[str, float] | None:
    from avse import plugins

    if (model is None) == (estimates is None):
        raise AvseError("Give either a model (--model NAME_OR_DIR) or estimates (--estimates DIR) to evaluate.")
    if estimates is not None and not Path(estimates).is_dir():
        raise AvseError(f"{estimates}: there is no such folder of estimates.")
    if jobs < 1 or (limit is not None and limit < 1):
        raise AvseError(f"jobs ({jobs}) and limit ({limit}) must be at least 1.")
    if corrupt is None:
        return None
    if estimates is not None or not use_video:
        raise AvseError(f"corrupt={corrupt!r} changes the video; it needs a model that gets the video.")
    name, _, severity = corrupt.partition("=")
    try:
        level = float(severity)
    except ValueError:
        raise AvseError(f"corrupt={corrupt!r} is not NAME=SEVERITY; for example blur=3.") from None
    level = int(level) if level.is_integer() else level
    try:
        plugins.get("corruption", name)(level)
    except ValueError as error:
        raise AvseError(f"corrupt={corrupt!r}: {error}") from None
    return name, level


def _mixtures(manifest: str | Path, splits: Collection[str] | None, limit: int | None) -> list[Utterance]:
    utterances = read_manifest(manifest, splits=splits, kinds=["speech"])
    if not any(one.noisy for one in utterances):
        raise AvseError(
            f"{manifest}: no row names a noisy sound, so there is nothing to enhance. Mix one with a scene file "
            "(avse.data.rendering.render_scenes), or add a column `noisy`."
        )
    return utterances[:limit]


def _resume(out: Path, settings: dict[str, Any], header: list[str], overwrite: bool) -> dict[str, Row]:
    """Rows by id that an earlier call with these settings left."""
    try:
        if overwrite:
            for name in _WRITTEN:
                (out / name).unlink(missing_ok=True)
            shutil.rmtree(out / _KEPT, ignore_errors=True)
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AvseError(f"{out}: cannot write there ({error.strerror}). Choose another --out.") from None
    earlier: dict[str, Any] = {}
    if (out / "settings.json").is_file():
        try:
            earlier = json.loads((out / "settings.json").read_text(encoding="utf-8"))
        except ValueError:
            raise AvseError(f"{out / 'settings.json'}: is damaged. Give another --out or --overwrite.") from None
    elif (out / "scores.csv").is_file():
        raise AvseError(f"{out}: holds scores but no settings.json. Give another --out or --overwrite.")
    # A manifest may have moved, and a system have another name.
    keys = [key for key in dict.fromkeys([*settings, *earlier]) if key not in ("manifest", "system", "estimates")]
    differ = [f"{key}: {earlier.get(key)} there, {settings.get(key)} now" for key in keys if earlier]
    differ = [line for key, line in zip(keys, differ) if earlier.get(key) != settings.get(key)]
    if differ:
        raise AvseError(
            "\n  ".join([f"{out}: holds scores of other settings. Give another --out or --overwrite."] + differ)
        )
    with atomic_path(out / "settings.json") as path:
        path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    if not (out / "scores.csv").is_file():
        return {}
    rows = {row["id"]: row for row in read_scores(out)}
    _write_rows(out / "scores.csv", list(rows.values()), header)
    return rows


def _run(
    task: Task, todo: list[Utterance], jobs: int, path: Path, header: list[str], progress: bool, label: str
) -> dict[str, Row]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from avse.evaluation.workers import score_all

    if not todo:
        return {}
    rows: dict[str, Row] = {}
    fresh = not path.is_file()
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not progress,
    )
    try:
        with open(path, "a", newline="", encoding="utf-8") as file, bar:
            writer = csv.DictWriter(file, header, lineterminator="\n")
            if fresh:
                writer.writeheader()
            bar_id = bar.add_task(f"Scoring {label}", total=len(todo))
            for row in score_all(task, todo, jobs):
                rows[row["id"]] = row
                writer.writerow(_cells(row))
                file.flush()
                failed = sum(one["status"] != "ok" for one in rows.values())
                bar.update(bar_id, advance=1, description=f"Scoring {label}" + f", {failed} failed" * bool(failed))
    except OSError as error:
        raise AvseError(f"{path}: cannot be written ({error.strerror}). What was scored is kept.") from error
    return rows


def _write_rows(path: Path, rows: list[Row], header: list[str]) -> None:
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, header, lineterminator="\n")
        writer.writeheader()
        writer.writerows(_cells(row) for row in rows)


def _cells(row: Row) -> dict[str, Any]:
    return {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()}


def _name(model: Any) -> str:
    if isinstance(model, str | Path):
        return str(model)
    return str(getattr(model, "name", type(model).__name__))


def _label(model: Any, estimates: str | Path | None) -> str:
    return Path(_name(model) if estimates is None else estimates).resolve().name


def _model_hash(model: Any) -> str | None:
    """Hash of the files of a model's folder, or of a loaded model's weights; None where there are neither."""
    digest = hashlib.sha256()
    if isinstance(model, str | Path):
        from avse.model import PRETRAINED

        folder = next((one for one in (Path(model), PRETRAINED / str(model)) if one.is_dir()), None)
        if folder is None:
            return None
        for path in sorted(one for one in folder.rglob("*") if one.is_file()):
            digest.update(path.relative_to(folder).as_posix().encode())
            digest.update(path.read_bytes())
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
