"""Whether the clips of a manifest are fit for training: durations, faces, sync, clipping, silence, duplicates.

What is found in each clip is kept in `clips.jsonl` as soon as it is known, so that the same call goes on where it was
interrupted. `clips.csv`, `summary.json` and `report.html` are made of it.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from avse.contracts.types import SAMPLE_RATE, SAMPLES_PER_FRAME, VIDEO_RATE, Clip
from avse.data.cache import ClipCache
from avse.data.manifest import Utterance, read_manifest, write_manifest
from avse.errors import AvseError
from avse.files import append_line, check_apart, locked, read_lines, write_csv, write_json, write_text
from avse.synchrony import CONFIDENT, LAGS, NAME, SyncEstimate, estimate_offset, pooled
from avse.workers import is_pooled, run_all

Row = dict[str, Any]

# A clip has a problem from these values on.
LEAST_FACES = 0.5  # share of video frames
LEAST_BELONGING = 0.5  # probability
OFFSET_FRAMES = 2  # video frames, of a confident estimate: it may be wrong by one
MOST_CLIPPED = 0.001  # share of samples
MOST_SILENT = 0.6  # share of video frames
LARGEST_DIFFERENCE = 0.1  # seconds, between the duration in the manifest and that of the audio
WORST = 10
_SILENCE_DB = 50.0  # below the loudest video frame of the clip
_FULL_SCALE = 32_700  # of 16-bit samples
_COLUMNS = (
    "id", "split", "dataset", "speaker", "kind", "duration", "video_frames", "face_share", "offset", "confidence",
    "lip_score", "belongs", "common_offset", "common_confidence", "new_offset", "new_weight", "clipping", "silence",
    "duplicate_of", "problems", "error",
)  # fmt: skip


def verify(
    manifest: str | Path,
    output: str | Path,
    *,
    splits: Sequence[str] | None = None,
    cache_folder: str | Path | None = None,
    tracker: str | None = None,
    jobs: int = 1,
    write: str | Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Look at every clip of a manifest, and write what was found.

    Arguments
    ---------
    manifest : path
    output : path
        Folder of `clips.csv` (a row for each clip), `summary.json`, `report.html` (with the ten worst clips).
    splits : sequence of str, optional
    cache_folder : path, optional
        Folder of decoded clips, as `avse train` fills it. Default: `cache` in `output`.
    tracker : str, optional
        Mouth tracker.
    jobs : int
        Processes.
    write : path, optional
        Write a new manifest with columns `offset` and `weight`, without the clips that cannot be read. The offset of a
        clip is its own where that is confident, else the common one of its recording (else of its speaker) where that
        is, else 0; and 0 instead of one video frame, since no estimate is as sure as that. The weight is the
        probability that lips and speech belong together.
    on_progress : callable, optional
        Takes the clips done and all.

    Returns
    -------
    dict
        What `summary.json` holds.

    Raises
    ------
    AvseError
        If the manifest cannot be used, or `write` is the manifest itself. A clip that cannot be read is a row.
    """
    output = Path(output)
    check_apart([manifest], [output / "clips.csv", *([] if write is None else [write])])
    utterances = read_manifest(manifest, splits)
    if not utterances:
        raise AvseError(f"{manifest}: has no speech and no noise in {', '.join(splits or ())}.")
    cache = Path(cache_folder or output / "cache")
    with locked(output):
        rows = _look(utterances, output / "clips.jsonl", (cache, tracker), jobs, on_progress)
    _compare(rows, utterances)
    summary = {"manifest": str(manifest), "clips": len(rows), **summarise(rows)}
    write_csv(output / "clips.csv", [_COLUMNS, *([_cell(row.get(name)) for name in _COLUMNS] for row in rows)])
    write_json(output / "summary.json", summary)
    write_text(output / "report.html", _report(summary, rows, utterances, ClipCache(cache, _tracker(tracker))))
    if write is not None:
        fit = [(one, row) for one, row in zip(utterances, rows) if not row["error"]]
        write_manifest((replace(one, offset=row["new_offset"], weight=row["new_weight"]) for one, row in fit), write)
    return summary


def _look(
    utterances: Sequence[Utterance],
    path: Path,
    worker: tuple[Path, str | None],
    jobs: int,
    on_progress: Callable[[int, int], None] | None,
) -> list[Row]:
    """A row for each utterance: from the file of an earlier call where its files have not changed, else looked at."""
    keys = {one.id: _key(one, worker[1]) for one in utterances}
    kept = [row for row in read_lines(path) if {"id", "key", "error"} <= row.keys()]
    known = {row["id"]: row for row in kept if row["key"] == keys.get(row["id"])}
    todo = [replace(one, offset=0.0) for one in utterances if one.id not in known]
    if is_pooled(jobs) and todo:
        done: Iterable[tuple[Utterance, Any]] = run_all(_Worker, worker, todo, jobs)
    else:
        look = _Worker(*worker)
        done = ((one, look(one)) for one in todo)
    for one, result in done:
        died = isinstance(result, AvseError)
        known[one.id] = row = {"id": one.id, "key": keys[one.id], **({"error": str(result)} if died else result)}
        if not died:  # the next call looks at it again
            append_line(path, row)
        if on_progress is not None:
            on_progress(len(known), len(utterances))
    about = lambda one: {name: getattr(one, name) for name in ("id", "split", "dataset", "speaker")}
    return [
        {
            **known[one.id],
            **about(one),
            "kind": "noise" if one.kind == "noise" else "av_speech" if one.video else "speech",
        }
        for one in utterances
    ]


def _key(utterance: Utterance, tracker: str | None) -> str:
    states = [
        f"{path.name}|{path.stat().st_size}|{path.stat().st_mtime_ns}"
        for path in (utterance.audio, utterance.video)
        if path is not None
    ]
    return "|".join([NAME, tracker or "", *states])


class _Worker:
    """Looks at one utterance after the other."""

    def __init__(self, cache_folder: Path, tracker: str | None) -> None:
        self.cache = ClipCache(cache_folder, _tracker(tracker))

    def __call__(self, utterance: Utterance) -> Row:
        try:
            return {"error": "", **self.look(utterance)}
        except Exception as error:  # whatever is wrong with a clip belongs to its row
            message = str(error) if isinstance(error, AvseError) else f"{type(error).__name__}: {error}"
            return {"error": " ".join(message.split())}

    def look(self, utterance: Utterance) -> Row:
        sound = self.cache.sound(utterance)
        audio = self.cache.excerpt(utterance, 0, len(sound))
        whole = np.pad(audio, (0, -len(audio) % SAMPLES_PER_FRAME)).reshape(-1, SAMPLES_PER_FRAME)
        power = (whole.astype(np.float64) ** 2).mean(axis=1)
        row: Row = {
            "duration": round(len(audio) / SAMPLE_RATE, 3),
            "stated": utterance.duration,
            "clipping": round(float((np.abs(sound.astype(np.int32)) >= _FULL_SCALE).mean()), 6),
            "silence": round(float((power <= power.max() * 10 ** (-_SILENCE_DB / 10)).mean()), 4),
            "content": hashlib.sha1(np.ascontiguousarray(sound).tobytes()).hexdigest(),
        }
        if utterance.video is None:
            return row
        mouth, valid = self.cache.mouth(utterance)
        seen = valid & (mouth.max(axis=(1, 2)) > mouth.min(axis=(1, 2)))
        estimate = estimate_offset(Clip(audio, mouth, seen), clean=utterance.clean is not None)
        return row | {
            "video_frames": len(valid),
            "face_share": round(float(seen.mean()), 4),
            "frames": estimate.frames,
            "curve": [None if np.isnan(value) else round(float(value), 4) for value in estimate.curve],
        }


def _tracker(name: str | None) -> Any:
    """The tracker with its settings, by which the cache names its crops, as a recipe has it."""
    from avse import plugins
    from avse.media.reader import DEFAULT_TRACKER

    return plugins.get("mouth_tracker", name or DEFAULT_TRACKER)()


def _estimate(row: Row) -> SyncEstimate:
    return SyncEstimate.of_curve(np.array(row["curve"], dtype=float), row["frames"])


def _compare(rows: list[Row], utterances: Sequence[Utterance]) -> None:
    """Add to the rows what only several of them tell: duplicates, common offsets; and the problems."""
    first: dict[str, Row] = {}
    groups: dict[tuple[str, str], list[tuple[Row, SyncEstimate]]] = defaultdict(list)
    for row, one in zip(rows, utterances):
        row.update(new_offset=0.0, new_weight=1.0, duplicate_of="")
        if row["error"]:
            continue
        original = first.setdefault(row["content"], row)
        if original is not row:
            row.update(duplicate_of=original["id"], in_split=original["split"])
        if "curve" in row:
            estimate = _estimate(row)
            row.update(
                offset=estimate.offset_seconds,
                confidence=round(estimate.confidence, 4),
                lip_score=round(estimate.lip_score, 4),
                belongs=round(estimate.belongs, 4),
                new_weight=round(estimate.belongs, 2),
            )
            groups[one.dataset, one.recording or one.speaker or one.id].append((row, estimate))
    for (dataset, name), members in groups.items():
        together = pooled([estimate for _, estimate in members])
        for row, estimate in members:
            row.update(common_offset=together.offset_seconds, common_confidence=round(together.confidence, 4))
            known = estimate if estimate.confidence >= CONFIDENT else together
            row.update(new_offset=known.applied if _is_off(known.applied) else 0.0)
            row["group"] = f"{dataset}: {name}"
    for row in rows:
        problems = _problems(row)
        row["problems"] = "; ".join(words for _, words, _ in problems)
        row["badness"] = sum(weight for _, _, weight in problems)
        row["worst"] = max(problems, key=lambda problem: problem[2])[0] if problems else ""


def _is_off(seconds: float) -> bool:
    return round(abs(seconds) * VIDEO_RATE) >= OFFSET_FRAMES


def _problems(row: Row) -> list[tuple[str, str, float]]:
    """What is wrong with a clip: kind, in words, and how bad it is."""
    if row["error"]:
        return [("error", "cannot be read", 5.0)]
    found = []
    if row["duplicate_of"]:
        other = row["in_split"] != row["split"]
        words = f"the same audio as {row['duplicate_of']}" + (f" in {row['in_split']}" if other else "")
        found.append(("duplicate", words, 3.0 if other else 1.0))
    if row["stated"] is not None and abs(row["duration"] - row["stated"]) > LARGEST_DIFFERENCE:
        found.append(("duration", f"lasts {row['duration']:.2f} s, not {row['stated']:.2f} s", 1.0))
    if row["clipping"] > MOST_CLIPPED:
        words = f"clipped in {row['clipping']:.1%} of its samples"
        found.append(("clipping", words, min(1.0, 20 * row["clipping"])))
    if row["silence"] > MOST_SILENT:
        found.append(("silence", f"silent in {row['silence']:.0%} of its frames", row["silence"]))
    if "curve" in row:
        late, sure = row["offset"], row["confidence"]
        if row["face_share"] < LEAST_FACES:
            found.append(("face", f"a mouth in {row['face_share']:.0%} of its frames", 2.0 - row["face_share"]))
        elif row["belongs"] == 0.0:
            found.append(("lips", "no second in which a mouth is seen and speech is heard", 1.0))
        elif row["belongs"] < LEAST_BELONGING:
            words = f"lips that say nothing ({row['belongs']:.0%} that they belong to it)"
            found.append(("lips", words, 1.0 - row["belongs"]))
        if sure >= CONFIDENT and _is_off(late):
            words = f"audio {abs(late):.2f} s {'late' if late > 0 else 'early'} (confidence {sure:.0%})"
            found.append(("offset", words, 1.0 + abs(late)))
    return found


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """By split and dataset: counts, hours, faces, offsets; and by recording or speaker the common offset."""
    tables: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        tables[row["split"], row["dataset"]].append(row)
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if "group" in row:
            groups[row["group"]].append(row)
    return {
        "by_split_and_dataset": [
            {"split": split, "dataset": dataset, **_figures(found)}
            for (split, dataset), found in sorted(tables.items())
        ],
        "recordings": {
            name: {
                "clips": len(found),
                "offset": found[0]["common_offset"],
                "confidence": found[0]["common_confidence"],
                "offsets_of_confident_clips": sorted(row["offset"] for row in found if row["confidence"] >= CONFIDENT),
            }
            for name, found in sorted(groups.items())
        },
        "duplicates_across_splits": sum(bool(row["duplicate_of"]) and row["in_split"] != row["split"] for row in rows),
    }


def _figures(rows: Sequence[Row]) -> dict[str, Any]:
    whole = [row for row in rows if not row["error"]]
    seen = [row for row in whole if "curve" in row]
    sure = [row["offset"] for row in seen if row["confidence"] >= CONFIDENT]
    share = lambda count: round(count / len(seen), 4) if seen else None
    return {
        "clips": len(rows),
        "errors": len(rows) - len(whole),
        "hours": round(sum(row["duration"] for row in whole) / 3600, 3),
        "with_video": len(seen),
        "face_share": share(sum(row["face_share"] for row in seen)),
        "without_face": sum(row["face_share"] < LEAST_FACES for row in seen),
        "confident": share(len(sure)),
        "offset_quantiles": [round(float(value), 3) for value in np.quantile(sure, (0.05, 0.5, 0.95))]
        if sure
        else None,
        "off_by_two_frames": sum(_is_off(offset) for offset in sure),
        "lips_say_nothing": share(sum(row["belongs"] < LEAST_BELONGING for row in seen)),
        "mean_weight": share(sum(row["new_weight"] for row in seen)),
        "wrong_duration": sum(
            row["stated"] is not None and abs(row["duration"] - row["stated"]) > LARGEST_DIFFERENCE for row in whole
        ),
        "clipped": sum(row["clipping"] > MOST_CLIPPED for row in whole),
        "silent": sum(row["silence"] > MOST_SILENT for row in whole),
        "duplicates": sum(bool(row["duplicate_of"]) for row in whole),
    }


def _report(summary: Mapping[str, Any], rows: Sequence[Row], utterances: Sequence[Utterance], cache: ClipCache) -> str:
    """One page that needs no other file, with a picture of each of the worst clips."""
    from base64 import b64encode

    from jinja2 import Environment, PackageLoader

    from avse.evaluation.plots.figure import to_bytes

    environment = Environment(loader=PackageLoader("avse", "jobs"), autoescape=True, trim_blocks=True)
    by_id = {one.id: one for one in utterances}
    ranked = sorted((row for row in rows if row["problems"]), key=lambda row: -row["badness"])
    pictured = [row for row in ranked if "curve" in row]
    place: dict[str, int] = defaultdict(int)  # the worst of each kind of problem come first, then the second
    for row in pictured:
        row["place"] = place[row["worst"]]
        place[row["worst"]] += 1
    worst = []
    for row in sorted(pictured, key=lambda row: row["place"])[:WORST]:
        mouth, _ = cache.mouth(replace(by_id[row["id"]], offset=0.0))
        picture = b64encode(to_bytes(_picture(mouth, row))).decode()
        worst.append({"row": row, "picture": f"data:image/png;base64,{picture}"})
    return environment.get_template("verify.html").render(summary=summary, worst=worst, ranked=ranked[:200], rows=rows)


def _picture(mouth: np.ndarray, row: Row) -> Any:
    """Twelve mouths over the clip, and the cosine at each lag."""
    from avse.evaluation.plots.figure import INPUT, colour_of, new_figure, styled

    @styled
    def draw() -> Any:
        figure, [[strip, curve]] = new_figure(10, 1.7, columns=2, width_ratios=(12, 4))
        shown = np.linspace(0, len(mouth) - 1, 12).round().astype(int)
        strip.imshow(np.hstack(mouth[shown]), cmap="gray", vmin=0, vmax=255)
        strip.set_axis_off()
        curve.plot(LAGS / VIDEO_RATE, np.array(row["curve"], dtype=float), color=colour_of(0))
        curve.axvline(0.0, color=INPUT, linewidth=0.8)
        curve.axvline(row["offset"], color=colour_of(1), linewidth=0.8)
        curve.set(xlabel="audio late by (s)", ylabel="cosine", xlim=LAGS[[0, -1]] / VIDEO_RATE, ylim=(-0.4, 1.0))
        return figure

    return draw()


def _cell(value: Any) -> Any:
    return "" if value is None else value
