"""One utterance after the other: enhance, score, and say why where that fails."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avse.contracts.types import SAMPLE_RATE, Clip, Estimate
from avse.data.manifest import Utterance
from avse.errors import AvseError
from avse.evaluation.estimates import cut_to_common, file_below, find_estimate, is_film, read_sound

Row = dict[str, Any]
ABOUT = ("id", "status", "reason", "note", "target", "speaker", "snr", "condition", "label", "duration")
MEASURED = ("seconds", "rtf", "valid", "reliability")


@dataclass(frozen=True)
class Task:
    """What is done to every utterance; the same in every process.

    Arguments
    ---------
    model : str, path or object with `enhance(Clip) -> Estimate`, optional
    estimates : path, optional
        Sounds that were enhanced before, instead of a model.
    keep : path, optional
        Folder that gets what the model gives: `<id>.flac`, and `<id>.npz` with `reliability` and `valid`.
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
    use_video: bool = True
    corrupt: tuple[str, float] | None = None
    seed: int = 0
    device: str = "cpu"
    keep: Path | None = None
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
        If the model, a metric or the corruption cannot be had.
    """

    def __init__(self, task: Task) -> None:
        from avse import plugins

        self.task = task
        self.metrics = build_metrics(task.metrics)
        self.model = task.model
        if isinstance(task.model, str | Path):
            from avse.model import load

            self.model = load(task.model, task.device, task.overrides)
        self.corruption = None
        if task.corrupt is not None:
            self.corruption = plugins.get("corruption", task.corrupt[0])(task.corrupt[1])
        self._tracked: tuple[Path, np.ndarray, np.ndarray] | None = None

    def __call__(self, utterances: Sequence[Utterance]) -> Iterator[Row]:
        """A row for each utterance. Those that share a video should come one after the other: it is tracked once."""
        for utterance in utterances:
            row: Row = {
                "id": utterance.id,
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
                self._score(utterance, row)
            except AvseError as error:
                row.update(status="failed", reason=str(error))
            except Exception as error:
                row.update(status="failed", reason=f"{type(error).__name__}: {error}")
            row["reason"] = " ".join(row["reason"].split())
            yield row

    def _score(self, utterance: Utterance, row: Row) -> None:
        if utterance.noisy is None or utterance.clean is None:
            raise AvseError(f"the manifest names no {'noisy' if utterance.noisy is None else 'clean'} sound")
        notes = []
        clean, clean_note = read_sound(utterance.clean)
        noisy, noisy_note = read_sound(utterance.noisy)
        notes = [clean_note, noisy_note]
        row["duration"] = clean.size / SAMPLE_RATE
        if self.model is None:
            speech, note = read_sound(find_estimate(self.task.estimates, utterance))
            notes.append(note)
        else:
            speech = self._enhance(utterance, self._clip(utterance, noisy), row)
        bad = int(speech.size - np.isfinite(speech).sum())
        if bad:
            raise AvseError(f"the estimate holds {bad} NaN or infinite samples of {speech.size}")
        sounds, note = cut_to_common({"estimate": speech, "clean": clean, "noisy": noisy})
        row["note"] = "; ".join(filter(None, [*notes, note]))
        problems = {}
        for name, metric in self.metrics.items():
            relative = getattr(metric, "relative_to_noisy", False)
            for column, sound in ([] if relative else [(f"{name}_input", "noisy")]) + [(name, "estimate")]:
                try:
                    score = float(metric(sounds[sound], sounds["clean"], sounds["noisy"]))
                    if not np.isfinite(score):
                        raise AvseError(f"is {score}")
                    row[column] = score
                except Exception as error:
                    kind = "" if isinstance(error, AvseError) else f"{type(error).__name__}: "
                    problems[column] = f"{kind}{error}"
        if problems:
            row["status"] = "partial" if any(name in row for name in self.metrics) else "failed"
            reasons: dict[str, list[str]] = {}
            for column, reason in problems.items():
                reasons.setdefault(reason, []).append(column)
            row["reason"] = "; ".join(f"{reason} ({', '.join(which)})" for reason, which in reasons.items())

    def _clip(self, utterance: Utterance, noisy: np.ndarray) -> Clip:
        film = utterance.video or (utterance.noisy if is_film(utterance.noisy) else None)
        if not self.task.use_video or film is None:
            return Clip(noisy, clip_id=utterance.id)
        if self._tracked is None or self._tracked[0] != film:
            self._tracked = (film, *self._track(utterance))
        mouth, valid = (array.copy() for array in self._tracked[1:])
        if self.corruption is not None:
            # By name, so that neither order nor number of processes changes what an utterance gets.
            digest = hashlib.sha256(utterance.id.encode()).digest()
            mouth, valid = self.corruption(mouth, valid, np.random.default_rng([self.task.seed, *digest[:8]]))
        return Clip(noisy, mouth, valid, utterance.id)

    def _track(self, utterance: Utterance) -> tuple[np.ndarray, np.ndarray]:
        if self.task.crops is not None and utterance.video is not None:
            from avse.data.cache import ClipCache

            return ClipCache(self.task.crops, self.task.tracker).mouth(utterance)
        from avse.media import read_clip

        clip = read_clip(utterance.noisy, video=utterance.video, tracker=self.task.tracker)
        return clip.mouth, clip.valid

    def _enhance(self, utterance: Utterance, clip: Clip, row: Row) -> np.ndarray:
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
        if self.task.keep is not None and np.isfinite(speech).all():
            self._keep(utterance, speech, reliability, clip.valid)
        return speech

    def _keep(self, utterance: Utterance, speech: np.ndarray, reliability: np.ndarray, valid: np.ndarray) -> None:
        from avse.data.audio import write_audio
        from avse.files import atomic_path

        peak = float(np.abs(speech).max(initial=0.0))
        write_audio(file_below(self.task.keep, utterance.id, ".flac"), speech / max(peak, 1.0))
        if valid.any():
            with atomic_path(file_below(self.task.keep, utterance.id, ".npz")) as path:
                np.savez_compressed(path, reliability=reliability.astype(np.float16), valid=valid)


def _target(utterance: Utterance) -> str:
    """What mixtures of one clean utterance share."""
    source = utterance.video or utterance.clean
    return utterance.extra.get("target") or ("/".join(source.parts[-3:]) if source else utterance.id)


def _array(values: Any) -> np.ndarray:
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)
