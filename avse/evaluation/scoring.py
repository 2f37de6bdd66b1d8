"""One utterance after the other: enhance, score, and say why where that fails."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avse.contracts.corruption import corrupted_frames
from avse.contracts.types import SAMPLE_RATE, Clip, Estimate
from avse.data.manifest import Utterance
from avse.errors import AvseError
from avse.evaluation.estimates import cut_to_common, file_below, find_estimate, is_film, read_sound

Row = dict[str, Any]
ABOUT = ("id", "status", "reason", "note", "target", "speaker", "snr", "condition", "label", "duration")
MEASURED = ("seconds", "rtf", "valid", "reliability")
FRAMES = ("intact_frames", "spoiled_frames")
_TRACKED = 4  # videos whose mouths are kept in memory


@dataclass(frozen=True)
class Condition:
    """What is done to the video before the model gets it.

    Arguments
    ---------
    video : str
        `intact`, `no_video`, or the name of a corruption.
    severity : int, optional
        Of the corruption.
    """

    video: str = "intact"
    severity: float | None = None

    @property
    def corrupts(self) -> bool:
        """Whether a corruption is applied."""
        return self.severity is not None


@dataclass(frozen=True)
class Item:
    """One estimate to make and to score.

    Arguments
    ---------
    utterance : Utterance
    condition : Condition
    other : Utterance, optional
        Whose mouth a corruption may show instead.
    """

    utterance: Utterance
    condition: Condition = Condition()
    other: Utterance | None = None


@dataclass(frozen=True)
class Task:
    """How every item is scored; the same in every process.

    Arguments
    ---------
    model : str, path or object with `enhance(Clip) -> Estimate`, optional
    estimates : path, optional
        Sounds that were enhanced before, instead of a model.
    keep : path, optional
        Folder that gets what the model gives: `<id>.flac`, and `<id>.npz` with `reliability` and `valid`.
    kept : Condition
        Whose estimates go there.
    tracker : str, optional
        Mouth tracker: see `avse.media.read_clip`.
    crops : path, optional
        Folder that keeps tracked mouths between runs.
    overrides : dict, optional
        Changes of the model's recipe: see `avse.load`.
    """

    metrics: tuple[str, ...]
    model: Any = None
    estimates: Path | None = None
    seed: int = 0
    device: str = "cpu"
    keep: Path | None = None
    kept: Condition = Condition()
    tracker: str | None = None
    crops: Path | None = None
    overrides: dict[str, Any] | None = None


def build_metrics(names: Sequence[str]) -> dict[str, Any]:
    """Metrics by name.

    Raises
    ------
    AvseError
        If there is no such metric (lists those there are), or its extra is not installed.
    """
    from avse import plugins

    return {name: plugins.get("metric", name)() for name in names}


def columns(metrics: dict[str, Any]) -> list[str]:
    """Columns of `scores.csv`: about the utterance, each score of the noisy sound and of the estimate, measurements."""
    scores = [
        column
        for name, metric in metrics.items()
        for column in ([name] if getattr(metric, "relative_to_noisy", False) else [f"{name}_input", name])
    ]
    return [*ABOUT, *scores, *MEASURED]


class Scorer:
    """Carries out a `Task`. Loads the model and the metrics once.

    Raises
    ------
    AvseError
        If the model or a metric cannot be had.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.metrics = build_metrics(task.metrics)
        self.model = task.model
        if isinstance(task.model, str | Path):
            from avse.model import load

            self.model = load(task.model, task.device, task.overrides)
        self._tracked: dict[Path, tuple[np.ndarray, np.ndarray]] = {}
        self._sounds: tuple[Utterance, dict[str, np.ndarray], list[str]] | None = None
        self._inputs: dict[tuple[str, int], float | Exception] = {}

    def __call__(self, items: Sequence[Item]) -> Iterator[Row]:
        """A row for each item. Items of one utterance should come one after the other, and utterances of one video."""
        for item in items:
            utterance = item.utterance
            row: Row = {
                "id": utterance.id,
                "video": item.condition.video,
                "severity": item.condition.severity,
                "status": "ok",
                "reason": "",
                "note": "",
                "target": _target(utterance),
                "speaker": utterance.speaker,
                "snr": utterance.snr,
                "condition": utterance.extra.get("condition", "") or utterance.label,
                "label": utterance.label,
            }
            try:
                self._score(item, row)
            except AvseError as error:
                row.update(status="failed", reason=str(error))
            except Exception as error:
                row.update(status="failed", reason=f"{type(error).__name__}: {error}")
            row["reason"] = " ".join(row["reason"].split())
            yield row

    def _score(self, item: Item, row: Row) -> None:
        read, notes = self._read(item.utterance)
        row["duration"] = read["clean"].size / SAMPLE_RATE
        if self.model is None:
            speech, note = read_sound(find_estimate(self.task.estimates, item.utterance))
            notes = [*notes, note]
        else:
            speech = self._enhance(item, read["noisy"], row)
        bad = int(speech.size - np.isfinite(speech).sum())
        if bad:
            raise AvseError(f"the estimate holds {bad} NaN or infinite samples of {speech.size}")
        sounds, note = cut_to_common({"estimate": speech, **read})
        row["note"] = "; ".join(filter(None, [*notes, note]))
        problems = {}
        for name, metric in self.metrics.items():
            relative = getattr(metric, "relative_to_noisy", False)
            for column, score in ([] if relative else [(f"{name}_input", self._input_score)]) + [(name, _score_of)]:
                try:
                    row[column] = score(name, metric, sounds)
                except Exception as error:
                    kind = "" if isinstance(error, AvseError) else f"{type(error).__name__}: "
                    problems[column] = f"{kind}{error}"
        if problems:
            row["status"] = "partial" if any(name in row for name in self.metrics) else "failed"
            reasons: dict[str, list[str]] = {}
            for column, reason in problems.items():
                reasons.setdefault(reason, []).append(column)
            row["reason"] = "; ".join(f"{reason} ({', '.join(which)})" for reason, which in reasons.items())

    def _read(self, utterance: Utterance) -> tuple[dict[str, np.ndarray], list[str]]:
        """Clean and noisy sound, and notes on them."""
        if self._sounds is None or self._sounds[0] is not utterance:
            if utterance.noisy is None or utterance.clean is None:
                raise AvseError(f"the manifest names no {'noisy' if utterance.noisy is None else 'clean'} sound")
            clean, clean_note = read_sound(utterance.clean)
            noisy, noisy_note = read_sound(utterance.noisy)
            self._sounds = (utterance, {"clean": clean, "noisy": noisy}, [clean_note, noisy_note])
            self._inputs.clear()
        return self._sounds[1:]

    def _input_score(self, name: str, metric: Any, sounds: dict[str, np.ndarray]) -> float:
        """Score of the noisy sound, measured once for all conditions of an utterance."""
        key = (name, sounds["clean"].size)
        if key not in self._inputs:
            try:
                self._inputs[key] = _score_of(name, metric, {**sounds, "estimate": sounds["noisy"]})
            except Exception as error:
                self._inputs[key] = error
        found = self._inputs[key]
        if isinstance(found, Exception):
            raise found
        return found

    def _clip(self, item: Item, noisy: np.ndarray) -> tuple[Clip, np.ndarray]:
        """What the model gets, and which frames of it a corruption spoiled, shape (video_frames,)."""
        utterance, condition = item.utterance, item.condition
        if condition.video == "no_video" or film_of(utterance) is None:
            clip = Clip(noisy, clip_id=utterance.id)
            return clip, np.zeros(len(clip.valid), dtype=bool)
        clip = Clip(noisy, *self._mouth(utterance), utterance.id)
        if not condition.corrupts:
            return clip, np.zeros(len(clip.valid), dtype=bool)
        from avse import plugins

        corruption = plugins.get("corruption", condition.video)(condition.severity)
        if item.other is not None:
            corruption = corruption.with_other(lambda: self._mouth(item.other))
        # By name, so that neither order nor number of processes changes what an utterance gets.
        rng = np.random.default_rng([self.task.seed, *hashlib.sha256(utterance.id.encode()).digest()[:8]])
        mouth, valid = corruption(clip.mouth, clip.valid, rng)
        return Clip(noisy, mouth, valid, utterance.id), corrupted_frames(clip.mouth, clip.valid, mouth, valid)

    def _mouth(self, utterance: Utterance) -> tuple[np.ndarray, np.ndarray]:
        film = film_of(utterance)
        if film not in self._tracked:
            for old in list(self._tracked)[: 1 - _TRACKED]:
                del self._tracked[old]
            self._tracked[film] = self._track(utterance)
        mouth, valid = self._tracked[film] = self._tracked.pop(film)  # the last to be dropped
        return mouth.copy(), valid.copy()

    def _track(self, utterance: Utterance) -> tuple[np.ndarray, np.ndarray]:
        if self.task.crops is not None and utterance.video is not None:
            from avse.data.cache import ClipCache

            return ClipCache(self.task.crops, self.task.tracker).mouth(utterance)
        from avse.media import read_clip

        clip = read_clip(utterance.noisy, video=utterance.video, tracker=self.task.tracker)
        return clip.mouth, clip.valid

    def _enhance(self, item: Item, noisy: np.ndarray, row: Row) -> np.ndarray:
        clip, spoiled = self._clip(item, noisy)
        start = time.perf_counter()
        estimate: Estimate = self.model.enhance(clip)
        speech = _array(estimate.speech)  # on a GPU this waits for the result
        row["seconds"] = time.perf_counter() - start
        row["rtf"] = row["seconds"] / (clip.audio.size / SAMPLE_RATE)
        if speech.ndim != 1:
            raise AvseError(f"the model gave speech of shape {speech.shape}, not (samples,)")
        reliability = _array(estimate.reliability)
        row["valid"] = float(clip.valid.mean())
        if clip.valid.any() and reliability.shape == clip.valid.shape:
            row["reliability"] = float(reliability[clip.valid].mean())
            for name, frames in zip(FRAMES, (clip.valid & ~spoiled, clip.valid & spoiled)):
                row[name] = reliability[frames]
        if self.task.keep is not None and item.condition == self.task.kept and np.isfinite(speech).all():
            self._keep(item.utterance, speech, reliability, clip.valid)
        return speech

    def _keep(self, utterance: Utterance, speech: np.ndarray, reliability: np.ndarray, valid: np.ndarray) -> None:
        from avse.data.audio import write_audio
        from avse.files import atomic_path

        peak = float(np.abs(speech).max(initial=0.0))
        write_audio(file_below(self.task.keep, utterance.id, ".flac"), speech / max(peak, 1.0))
        if valid.any():
            with atomic_path(file_below(self.task.keep, utterance.id, ".npz")) as path:
                np.savez_compressed(path, reliability=reliability.astype(np.float16), valid=valid)


def film_of(utterance: Utterance) -> Path | None:
    """The file whose pictures go with an utterance, if there is one."""
    return utterance.video or (utterance.noisy if utterance.noisy and is_film(utterance.noisy) else None)


def _score_of(name: str, metric: Any, sounds: dict[str, np.ndarray]) -> float:
    score = float(metric(sounds["estimate"], sounds["clean"], sounds["noisy"]))
    if not np.isfinite(score):
        raise AvseError(f"is {score}")
    return score


def _target(utterance: Utterance) -> str:
    """What mixtures of one clean utterance share."""
    source = utterance.video or utterance.clean
    return utterance.extra.get("target") or ("/".join(source.parts[-3:]) if source else utterance.id)


def _array(values: Any) -> np.ndarray:
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)
