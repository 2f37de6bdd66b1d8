"""How much pretrained visual front-ends tell of the clean speech of speakers that they have not seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from avse.contracts.types import SAMPLE_RATE, SAMPLES_PER_FRAME, Batch, Clip
from avse.data.cache import ClipCache
from avse.data.manifest import Utterance, read_manifest
from avse.devices import AUTO, find_device
from avse.errors import AvseError
from avse.evaluation.studies.clips import mean_and_interval, scores_of, visible_speech, write_study
from avse.evaluation.tables import verdict
from avse.nnet.lip_synchrony import LipSynchrony
from avse.training.lip_reading import SynchronyLoss

SCORES = {
    "correlation": "correlation of predicted and true band levels of a clip",
    "found": "share of windows of a clip whose audio is found among that of other speakers",
    "found_in_speaker": "share of windows of a clip whose audio is found among that of the same speaker",
    "speaking_auc": "AUC of the probability of speaking, of speaking against silent video frames of a clip",
}
ALL = "all"
_BATCH = 16
_STEP = 10  # video frames from one window to the next
_SMALLEST_VALID_SHARE = 0.8


@dataclass
class _Window:
    """A part of a clip, and the windows whose audio it must be told from."""

    clip: int
    start: int
    frames: int
    others: list[int] | None = None
    in_speaker: list[int] | None = None


def measure_frontends(
    runs: Mapping[str, str | Path],
    manifest: str | Path,
    out: str | Path,
    *,
    splits: Sequence[str] = ("test",),
    seconds: float = 2.0,
    rivals: int = 100,
    rivals_in_speaker: int = 20,
    crops: str | Path | None = None,
    tracker: str = "mtcnn",
    device: str = AUTO,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Measure what front-ends that were trained by `lip_synchrony.yaml` tell of the speech of unseen speakers.

    The audio of a window of video is to be found among that of other windows: of other speakers (those of the same
    corpus first), and of the same speaker (other clips, and other parts of the clip, from 0.4 s away on). All runs
    answer the same questions.

    Arguments
    ---------
    runs : dict of str to path
        Run folders of `avse train`, or folders with weights, by the names that tables show; others are compared with
        the first.
    manifest : path
        Rows with `clean` and `video` of speakers that are not in its training split count.
    out : path
        Folder that gets `frontends.csv` (a row for each run and clip), `frontends.json`, and where the runs differ in
        their training data `frontends.png`, the learning curve.
    seconds : float
        Length of windows; a shorter clip is one window.
    rivals, rivals_in_speaker : int
        Windows among which to find, the right one among them.
    crops : path, optional
        Folder that keeps tracked mouths. Default: a folder in `out`.

    Returns
    -------
    dict
        `runs`: for each its `parameters` (of the front-end), the `speakers`, `minutes` and `clips` with video that it
        was trained on (None where its manifest is not there), and `scores` by corpus and by name: `mean`, `low`, `high`
        (a bootstrap over speakers), `n` clips, and `difference` to the first run; `meaning` of each score.

    Raises
    ------
    AvseError
        If a run cannot be read, or there are too few clips.
    """
    from avse import plugins
    from avse.evaluation.plots.figure import save
    from avse.evaluation.plots.frontends import plot_learning_curve

    out = Path(out)
    device = str(find_device(device))
    models = {name: _read(Path(folder), device) for name, folder in runs.items()}
    cache = ClipCache(crops or out / "crops", plugins.get("mouth_tracker", tracker)())
    seen = {(row.dataset, row.speaker) for row in read_manifest(manifest, splits=["train"])}
    utterances = [row for row in visible_speech(manifest, splits) if (row.dataset, row.speaker) not in seen]
    clips, kept = [], []
    for utterance in utterances:
        clip = cache.clip(utterance)
        frames = len(clip.audio) // SAMPLES_PER_FRAME
        if frames > 0 and clip.valid[:frames].mean() >= _SMALLEST_VALID_SHARE:
            clips.append(_cut(clip, 0, frames))
            kept.append(utterance)
    windows = _windows(clips, kept, seconds, rivals, rivals_in_speaker, np.random.default_rng(seed))
    if not any(window.others for window in windows):
        raise AvseError(
            f"{manifest}: has fewer than {rivals} windows of {seconds} s of unseen speakers with speech and video."
        )
    corpora = [utterance.dataset or "" for utterance in kept]
    speakers = [f"{utterance.dataset} {utterance.speaker or utterance.id}" for utterance in kept]
    found: dict[str, dict[str, np.ndarray]] = {}
    for number, (name, (model, _)) in enumerate(models.items()):
        found[name] = _scores(model, clips, windows, device)
        if progress is not None:
            progress(number + 1, len(models))
    first = next(iter(found))
    summary: dict[str, Any] = {"clips": len(clips), "speakers": len(set(speakers)), "meaning": SCORES, "runs": {}}
    for name, (_, facts) in models.items():
        by_corpus = {}
        for corpus in (ALL, *dict.fromkeys(corpora)):
            rows = [row for row, owner in enumerate(corpora) if corpus in (ALL, owner)]
            targets = [speakers[row] for row in rows]
            values = {score: column[rows] for score, column in found[name].items()}
            by_corpus[corpus] = scores_of(values, targets, seed)
            if name != first:
                moved = {score: column - found[first][score][rows] for score, column in values.items()}
                for score, difference in scores_of(moved, targets, seed).items():
                    by_corpus[corpus][score]["difference"] = difference
        summary["runs"][name] = {**facts, "scores": by_corpus}
    table = [["run", "id", "dataset", "speaker", *SCORES]]
    for name, columns in found.items():
        for row, utterance in enumerate(kept):
            cells = ["" if np.isnan(columns[score][row]) else columns[score][row] for score in SCORES]
            table.append([name, utterance.id, utterance.dataset or "", utterance.speaker or "", *cells])
    write_study(out, "frontends", table, summary)
    if len({run["minutes"] for run in summary["runs"].values()} - {None}) > 1:
        save(plot_learning_curve(summary), out / "frontends.png")
    return summary


def frontends_table(summary: Mapping[str, Any]) -> str:
    """What `measure_frontends` found, as lines of text; + and - mark what is clearly above or below the first run."""
    lines = [f"{summary['clips']} clips of {summary['speakers']} unseen speakers"]
    for name, run in summary["runs"].items():
        data = "" if run["speakers"] is None else f", trained on {run['minutes']:.0f} min of {run['speakers']} speakers"
        lines += ["", f"{name}: {run['parameters']:,} parameters{data}"]
        lines.append(" " * 16 + "".join(f"{score:22}" for score in SCORES).rstrip())
        for corpus, scores in run["scores"].items():
            lines.append(f"{corpus:16}" + "".join(f"{_cell(scores[score]):22}" for score in SCORES).rstrip())
    return "\n".join(lines)


def _cell(score: Mapping[str, Any]) -> str:
    if not score["n"]:
        return "-"
    judged = verdict(score["difference"], True) if "difference" in score else 0
    return mean_and_interval(score, "4.2f", " ") + {1: " +", 0: "", -1: " -"}[judged]


def _read(folder: Path, device: str) -> tuple[LipSynchrony, dict[str, Any]]:
    """A pretrained network, and what it was trained on."""
    import safetensors.torch

    from avse.recipe import load_recipe

    path = next(
        (p for p in (folder / "model" / "model.safetensors", folder / "model.safetensors") if p.is_file()), None
    )
    if path is None or not (folder / "recipe.yaml").is_file():
        raise AvseError(f"{folder}: holds no run of lip_synchrony.yaml (recipe.yaml and model.safetensors).")
    weights = {name: value.float() for name, value in safetensors.torch.load_file(path).items()}
    recipe = load_recipe(folder / "recipe.yaml")
    frontend = recipe.build("visual_frontend")["visual_frontend"]
    try:
        model = LipSynchrony(frontend, bands=len(weights["head.bias"]), speaking="speaking.bias" in weights)
        model.load_state_dict(weights)
    except (KeyError, RuntimeError) as error:
        raise AvseError(f"{path}: is not a network of lip_synchrony.yaml ({error}).") from error
    facts: dict[str, Any] = {"parameters": sum(weight.numel() for weight in frontend.parameters())}
    facts |= dict.fromkeys(("speakers", "minutes", "clips"))
    manifest = recipe.scalar("manifest") if "manifest" in recipe.keys else None
    if manifest is not None and Path(manifest).is_file():
        rows = visible_speech(manifest, ["train"])
        facts["speakers"] = len({(row.dataset, row.speaker or row.id) for row in rows})
        facts["minutes"] = round(sum(row.duration or 0.0 for row in rows) / 60, 1)
        facts["clips"] = len(rows)
    return model.eval().to(device), facts


def _cut(clip: Clip, start: int, frames: int) -> Clip:
    """Video frames `start` to `start + frames` of a clip, as a clip."""
    samples = slice(start * SAMPLES_PER_FRAME, (start + frames) * SAMPLES_PER_FRAME)
    rows = slice(start, start + frames)
    return Clip(clip.audio[samples], clip.mouth[rows], clip.valid[rows], clip.clip_id)


def _windows(
    clips: Sequence[Clip],
    utterances: Sequence[Utterance],
    seconds: float,
    rivals: int,
    rivals_in_speaker: int,
    rng: np.random.Generator,
) -> list[_Window]:
    """Windows of all clips, overlapping; those that do not overlap have rivals, no shorter, where there are enough."""
    longest = round(seconds * SAMPLE_RATE / SAMPLES_PER_FRAME)
    windows = []
    for index, clip in enumerate(clips):
        frames = min(longest, len(clip.valid))
        for start in range(0, len(clip.valid) - frames + 1, _STEP):
            if clip.valid[start : start + frames].mean() >= _SMALLEST_VALID_SHARE:
                windows.append(_Window(index, start, frames))
    corpus = np.array([utterances[window.clip].dataset or "" for window in windows])
    speaker = np.array([utterances[window.clip].speaker or utterances[window.clip].id for window in windows])
    length = np.array([window.frames for window in windows])
    for place, window in enumerate(windows):
        if window.start // _STEP % -(-window.frames // _STEP):
            continue
        order = rng.permutation(len(windows))
        order = order[(length[order] >= window.frames) & (order != place)]
        same = (corpus[order] == corpus[place]) & (speaker[order] == speaker[place])
        near = corpus[order] == corpus[place]
        others = [*order[near & ~same], *order[~near]][: rivals - 1]
        in_speaker = order[same][: rivals_in_speaker - 1]
        window.others = others if len(others) == rivals - 1 else None
        window.in_speaker = list(in_speaker) if len(in_speaker) == rivals_in_speaker - 1 else None
    return windows


def _scores(
    model: LipSynchrony, clips: Sequence[Clip], windows: Sequence[_Window], device: str
) -> dict[str, np.ndarray]:
    """`SCORES` of a network, each of shape (clips,), NaN where there is none."""
    loss = SynchronyLoss(bands=model.head.out_features).to(device)
    scores = {name: np.full(len(clips), np.nan) for name in SCORES}
    for indices, batch in _batches([(clip, index) for index, clip in enumerate(clips)], device):
        with torch.no_grad():
            values = loss.scores(model(batch), batch)
        for name in ("correlation", "speaking_auc"):
            scores[name][indices] = values.get(name, np.nan)
    embeddings: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    parts = [(_cut(clips[one.clip], one.start, one.frames), place) for place, one in enumerate(windows)]
    for indices, batch in _batches(parts, device):
        with torch.no_grad():
            reading = model(batch)
        for row, place in enumerate(indices):
            frames = windows[place].frames
            embeddings[place] = reading.video[row, :frames].cpu(), reading.audio[row, :frames].cpu()
    for name in ("found", "found_in_speaker"):
        hits: dict[int, list[bool]] = {}
        for place, window in enumerate(windows):
            rivals = window.others if name == "found" else window.in_speaker
            if rivals is not None:
                video = embeddings[place][0].flatten()
                audio = torch.stack([embeddings[one][1][: window.frames].flatten() for one in (place, *rivals)])
                hits.setdefault(window.clip, []).append(int((F.normalize(audio, dim=1) @ video).argmax()) == 0)
        for clip, found in hits.items():
            scores[name][clip] = np.mean(found)
    return scores


def _batches(items: Sequence[tuple[Clip, int]], device: str) -> Any:
    """Batches of clips of like length, with the number of each."""
    ordered = sorted(items, key=lambda item: len(item[0].valid))
    for first in range(0, len(ordered), _BATCH):
        clips, indices = zip(*ordered[first : first + _BATCH])
        yield list(indices), Batch.from_clips(clips, [clip.audio for clip in clips]).to(device)
