"""One mixture after the other, of one speaker or of several: enhance, score, and say why where that fails."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avse.contracts.corruption import corrupted_frames
from avse.contracts.types import SAMPLE_RATE, Clip, Estimate, shift_video
from avse.data.manifest import Utterance
from avse.data.rendering import Mixture
from avse.data.scenes import Span
from avse.errors import AvseError
from avse.evaluation.estimates import cut_to_common, find_estimate, is_video, read_sound
from avse.evaluation.separation import FACTS, METRICS, MIXTURE_METRICS, Unseparated, separation_scores, switch_accuracy

Row = dict[str, Any]
ABOUT = ("id", "status", "reason", "note", "target", "speaker", "dataset", "snr", "condition", "label", "duration")
MEASURED = ("seconds", "rtf", "valid", "reliability")
FRAMES = ("clean_frames", "corrupted_frames")
CLEAN, NO_VIDEO = "clean", "no_video"
_TRACKED = 4  # videos whose mouths are kept in memory


@dataclass(frozen=True)
class Condition:
    """What is done to the video before the model gets it: `clean`, `no_video`, or a corruption with its severity."""

    video: str = CLEAN
    severity: float | None = None

    @property
    def corrupts(self) -> bool:
        """Whether a corruption is applied."""
        return self.severity is not None


@dataclass(frozen=True)
class Item:
    """One mixture to enhance or to separate under one condition, and to score.

    `others` says for each speaker whose mouth a corruption may show instead; it is empty where none is needed.
    """

    mixture: Mixture
    condition: Condition = Condition()
    others: tuple[Utterance | None, ...] = ()


@dataclass(frozen=True)
class Task:
    """How every item is scored; the same in every process.

    Arguments
    ---------
    model : str, path or object, optional
        The object has `enhance(Clip) -> Estimate`; for several speakers `separate_clips(clips, names) -> Estimate`.
    speakers : str
        What a model is told of who talks: `blind`, nothing; `oracle`, the names; or one name for all.
    estimates : path, optional
        Audio that was enhanced before, instead of a model.
    keep : path, optional
        Folder that gets what the model gives: of one speaker `<id>.flac`, and `<id>.npz` with `reliability` and
        `valid`; of several `<id>.voice1.wav`, ...
    kept : Condition
        Whose estimates go there.
    tracker : str, optional
        Mouth tracker: see `avse.media.read_clip`.
    crops : path, optional
        Folder that keeps tracked mouths between runs; see `ClipCache`.
    overrides : dict, optional
        Changes of the model's recipe: see `avse.load`.
    """

    metrics: tuple[str, ...]
    model: Any = None
    speakers: str = "blind"
    estimates: Path | None = None
    seed: int = 0
    device: str = "cpu"
    keep: Path | None = None
    kept: Condition = Condition()
    tracker: str | None = None
    crops: Path | None = None
    overrides: dict[str, Any] | None = None


def build_metrics(names: Sequence[str]) -> dict[str, Any]:
    """Metrics by name; an `AvseError` says where there is no such metric, or its extra is not installed."""
    from avse import plugins

    return {name: plugins.get("metric", name)() for name in names}


def columns(metrics: dict[str, Any], several: bool = False) -> list[str]:
    """Columns of `scores.csv`: about the utterance, each score of the noisy audio and of the estimate, measurements.

    With `several`, those of separation, which has no scores of the noisy audio.
    """
    if several:
        names = dict.fromkeys([name for name in METRICS if name in metrics or name in MIXTURE_METRICS] + list(metrics))
        return [*FACTS, *names, *(name for name in ABOUT if name not in FACTS), *MEASURED]
    scores = [
        column
        for name, metric in metrics.items()
        for column in ([name] if getattr(metric, "relative_to_noisy", False) else [f"{name}_input", name])
    ]
    return [*ABOUT, *scores, *MEASURED]


class Scorer:
    """Carries out a `Task`. Loads the model and the metrics once."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.metrics = build_metrics(task.metrics)
        self.model: Any = Unseparated() if task.model == "mixture" else task.model
        if isinstance(self.model, str | Path):
            from avse.model import load

            self.model = load(self.model, task.device, task.overrides)
        self._tracked: dict[Path, tuple[np.ndarray, np.ndarray]] = {}
        self._read_last: tuple[Mixture, np.ndarray, list[np.ndarray], list[str]] | None = None
        self._inputs: dict[tuple[str, int], float | str] = {}

    def __call__(self, items: Sequence[Item]) -> list[list[Row]]:
        """Rows of each item. Items of one mixture, and mixtures of one video, should follow each other."""
        return [self.score(item) for item in items]

    def score(self, item: Item) -> list[Row]:
        """A row for each speaker; where scoring fails, `status` and `reason` say so."""
        rows = [_about(item, utterance) for utterance in item.mixture.utterances]
        try:
            self._score(item, rows)
        except Exception as error:
            for row in rows:
                row.update(status="failed", reason=_reason(error))
        for row in rows:
            row["reason"] = " ".join(row["reason"].split())
        return rows

    def _score(self, item: Item, rows: list[Row]) -> None:
        noisy, clean, notes = self._read(item.mixture)
        for row, reference in zip(rows, clean):
            row["duration"] = reference.size / SAMPLE_RATE
        several = len(rows) > 1
        estimate: Estimate | None = None
        speech: Sequence[np.ndarray]
        if self.task.estimates is not None:
            audio, note = read_sound(find_estimate(self.task.estimates, item.mixture.first))
            speech, notes = [audio], [*notes, note]
        else:
            estimate = self._enhance(item, noisy, rows)
            speech = list(_array(estimate.speech).reshape(len(rows), -1))
        samples = np.concatenate(speech)
        if bad := int((~np.isfinite(samples)).sum()):
            raise AvseError(f"the estimate holds {bad} NaN or infinite samples of {samples.size}")
        for place, row in enumerate(rows):
            signals, note = cut_to_common({"estimate": speech[place], "clean": clean[place], "noisy": noisy})
            row["note"] = "; ".join(filter(None, [*notes, note]))
            self._measure(row, signals, inputs=not several)
        if several and estimate is not None:
            shortest = min(map(len, [noisy, *speech, *clean]))
            cut = (np.stack([audio[:shortest] for audio in audios]) for audios in (speech, clean))
            for place, (row, scores) in enumerate(zip(rows, separation_scores(*cut))):
                accuracy = switch_accuracy(estimate, place, row["speaker"], clean[place])
                row.update(scores, switch_accuracy=accuracy)

    def _measure(self, row: Row, signals: dict[str, np.ndarray], inputs: bool) -> None:
        """Scores of one estimate, with `inputs` those of the noisy audio too."""
        scores: dict[str, float | str] = {}
        clean, noisy = signals["clean"], signals["noisy"]
        chosen = {name: metric for name, metric in self.metrics.items() if metric.applies(clean, noisy)}
        if not chosen:
            from avse.signal.metrics import is_silent

            what = "clean is silent" if is_silent(clean) else "the noisy audio is clean already"
            raise AvseError(f"{what}, to which none of the metrics applies ({', '.join(self.metrics)})")
        inputs = inputs and not np.array_equal(clean, noisy)
        for name, metric in chosen.items():
            if inputs and not getattr(metric, "relative_to_noisy", False):
                key = name, signals["clean"].size
                if key not in self._inputs:  # the same under all conditions of an utterance
                    self._inputs[key] = _score_of(metric, {**signals, "estimate": signals["noisy"]})
                scores[f"{name}_input"] = self._inputs[key]
            scores[name] = _score_of(metric, signals)
        reasons: dict[str, list[str]] = {}
        for column, score in scores.items():
            if isinstance(score, str):
                reasons.setdefault(score, []).append(column)
            else:
                row[column] = score
        if reasons:
            row["status"] = "partial" if any(name in row for name in self.metrics) else "failed"
            row["reason"] = "; ".join(f"{reason} ({', '.join(which)})" for reason, which in reasons.items())

    def _read(self, mixture: Mixture) -> tuple[np.ndarray, list[np.ndarray], list[str]]:
        """Noisy and clean audio, and notes on them."""
        if self._read_last is None or self._read_last[0] is not mixture:
            clean_files = [utterance.clean for utterance in mixture.utterances]
            if mixture.first.noisy is None or None in clean_files:
                raise AvseError(f"the manifest names no {'noisy' if mixture.first.noisy is None else 'clean'} audio")
            clean, clean_notes = zip(*(read_sound(path) for path in clean_files if path is not None))
            noisy, noisy_note = read_sound(mixture.first.noisy)
            self._read_last = (mixture, noisy, list(clean), [*clean_notes, noisy_note])
            self._inputs.clear()
        return self._read_last[1:]

    def _clip(self, item: Item, place: int, noisy: np.ndarray) -> tuple[Clip, np.ndarray]:
        """What the model gets of a speaker, and which frames of it are corrupted, shape (video_frames,)."""
        utterance, condition = item.mixture.utterances[place], item.condition
        name = utterance.extra.get("target", "") if len(item.mixture.utterances) > 1 else utterance.id
        clip = Clip(noisy, clip_id=name, speaker=utterance.speaker)
        corrupted = np.zeros(len(clip.valid), dtype=bool)
        if condition.video == NO_VIDEO or video_of(utterance) is None:
            return clip, corrupted
        clip = Clip(noisy, *self._mouth(utterance, Span.of(utterance)), name, utterance.speaker)
        if not condition.corrupts:
            return clip, corrupted
        from avse import plugins

        corruption = plugins.get("corruption", condition.video)(condition.severity)
        other = item.others[place] if item.others else None
        if other is not None:
            corruption = corruption.with_other(lambda: self._mouth(other))
        # By name, so that neither order nor number of processes changes what an utterance gets.
        rng = np.random.default_rng([self.task.seed, *hashlib.sha256(utterance.id.encode()).digest()[:8]])
        mouth, valid = corruption(clip.mouth, clip.valid, rng)
        corrupted = corrupted_frames(clip.mouth, clip.valid, mouth, valid)
        return Clip(noisy, mouth, valid, name, utterance.speaker), corrupted

    def _mouth(self, utterance: Utterance, span: Span | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Crops and their validity, of the whole video or of a span of it."""
        video = video_of(utterance) or Path()
        if video not in self._tracked:
            for old in list(self._tracked)[: 1 - _TRACKED]:
                del self._tracked[old]
            self._tracked[video] = self._track(utterance)
        mouth, valid = self._tracked[video] = self._tracked.pop(video)  # the last to be dropped
        if span is None:
            return mouth.copy(), valid.copy()
        rows = np.minimum(span.rows(), len(valid) - 1)
        return mouth[rows], valid[rows]

    def _track(self, utterance: Utterance) -> tuple[np.ndarray, np.ndarray]:
        if self.task.crops is not None and utterance.video is not None:
            from avse.data.cache import ClipCache

            return ClipCache(self.task.crops, self.task.tracker).mouth(utterance)
        from avse.media import read_clip

        if Span.of(utterance) is not None and utterance.video is not None:
            clip = read_clip(utterance.video, silent=True, tracker=self.task.tracker)
        else:
            clip = read_clip(utterance.noisy or utterance.audio, video=utterance.video, tracker=self.task.tracker)
        return shift_video(clip.mouth, clip.valid, utterance.offset)

    def _enhance(self, item: Item, noisy: np.ndarray, rows: list[Row]) -> Estimate:
        several = len(rows) > 1
        clips, corrupted = zip(*(self._clip(item, place, noisy) for place in range(len(rows))))
        start = time.perf_counter()
        estimate: Estimate = self._separate(clips) if several else self.model.enhance(clips[0])
        speech = _array(estimate.speech)  # on a GPU this waits for the result
        seconds = time.perf_counter() - start
        if speech.ndim != 1 + several or (several and len(speech) != len(rows)):
            shape = f"({len(rows)}, samples)" if several else "(samples,)"
            raise AvseError(f"the model gave speech of shape {speech.shape}, not {shape}")
        reliability = _array(estimate.reliability).reshape(len(rows), -1)
        for row, clip, harmed, trust in zip(rows, clips, corrupted, reliability):
            row["seconds"], row["rtf"] = seconds, seconds / (noisy.size / SAMPLE_RATE)
            row["valid"] = float(clip.valid.mean())
            if clip.valid.any() and trust.shape == clip.valid.shape:
                row["reliability"] = float(trust[clip.valid].mean())
                for name, frames in zip(FRAMES, (clip.valid & ~harmed, clip.valid & harmed)):
                    row[name] = trust[frames]
        if self.task.keep is not None and item.condition == self.task.kept and np.isfinite(speech).all():
            self._keep(self.task.keep, item.mixture, speech.reshape(len(rows), -1), reliability[0], clips[0].valid)
        return estimate

    def _separate(self, clips: Sequence[Clip]) -> Estimate:
        if not hasattr(self.model, "separate_clips"):
            raise AvseError(f"{type(self.model).__name__} separates no mixtures: it has no method separate_clips.")
        told = self.task.speakers
        names = {"blind": [], "oracle": [clip.speaker for clip in clips]}.get(told, [told] * len(clips))
        return self.model.separate_clips(clips, names)

    @staticmethod
    def _keep(folder: Path, mixture: Mixture, speech: np.ndarray, reliability: np.ndarray, valid: np.ndarray) -> None:
        from avse.data.audio import write_audio
        from avse.files import atomic_path, file_below

        if len(speech) > 1:
            for utterance, one in zip(mixture.utterances, speech):
                write_audio(file_below(folder, utterance.id, ".wav"), one)
            return
        peak = float(np.abs(speech).max(initial=0.0))
        write_audio(file_below(folder, mixture.id, ".flac"), speech[0] / max(peak, 1.0))
        if valid.any():
            with atomic_path(file_below(folder, mixture.id, ".npz")) as path:
                np.savez_compressed(path, reliability=reliability.astype(np.float16), valid=valid)


def video_of(utterance: Utterance) -> Path | None:
    """The file whose video goes with an utterance, if there is one."""
    return utterance.video or (utterance.noisy if utterance.noisy and is_video(utterance.noisy) else None)


def _about(item: Item, utterance: Utterance) -> Row:
    row: Row = {
        "id": item.mixture.id,
        "video": item.condition.video,
        "severity": item.condition.severity,
        "status": "ok",
        "reason": "",
        "note": "",
        "target": _target(utterance),
        "speaker": utterance.speaker,
        "dataset": utterance.dataset,
        "snr": utterance.snr,
        "condition": utterance.extra.get("condition", "") or utterance.label,
        "label": utterance.label,
    }
    count = len(item.mixture.utterances)
    if count > 1:
        # Mixtures of the same speakers with and without noise are not independent.
        group = "_".join(item.mixture.id.split("_")[:2])
        row.update(talkers=count, sexes=item.mixture.sexes, condition=f"{count} talkers", target=group)
    return row


def _score_of(metric: Any, signals: dict[str, np.ndarray]) -> float | str:
    """A score, or why there is none."""
    try:
        score = float(metric(signals["estimate"], signals["clean"], signals["noisy"]))
    except Exception as error:
        return _reason(error)
    return score if np.isfinite(score) else f"is {score}"


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, AvseError) else f"{type(error).__name__}: {error}"


def _target(utterance: Utterance) -> str:
    """What mixtures of one clean utterance share."""
    source = utterance.video or utterance.clean
    return utterance.extra.get("target") or ("/".join(source.parts[-3:]) if source else utterance.id)


def _array(values: Any) -> np.ndarray:
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)
