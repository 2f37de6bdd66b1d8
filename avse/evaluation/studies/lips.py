"""Does the video matter? What a diffusion prior makes of lips, measured on clean speech, without any noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avse.contracts.types import SAMPLE_RATE, SAMPLES_PER_FRAME, Batch, Clip
from avse.data.cache import ClipCache
from avse.data.manifest import Utterance
from avse.errors import AvseError
from avse.evaluation.runner import model_hash
from avse.evaluation.studies.clips import mean_and_interval, scores_of, visible_speech, write_study
from avse.model import load
from avse.priors.diffusion.generation import diffusion_prior, draw_speech

_SCORES = {
    "misfit_right": "denoising loss with the right video",
    "misfit_shuffled": "denoising loss with another clip's video",
    "misfit_null": "denoising loss without video",
    "rank": "place of the right utterance among the rivals",
    "found": "right utterance found",
    "envelope_right": "correlation of the energy of drawn and true speech, with the video",
    "envelope_null": "the same, drawn without video",
}


def measure_lips(
    model: str | Path,
    manifest: str | Path,
    out: str | Path,
    *,
    splits: Sequence[str] = ("test",),
    limit: int | None = None,
    seconds: float = 1.2,
    rivals: int = 8,
    draws: int = 8,
    samples: int = 1,
    sampler: str = "dpm_solver",
    steps: int = 12,
    crops: str | Path | None = None,
    tracker: str | None = None,
    device: str = "cpu",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Measure what a diffusion prior takes from the lips of unseen clips.

    Three questions. Denoising: how badly is clean speech denoised with the right video, with that of another clip, and
    with none, noise and times being the same? Retrieval: by how much a video lowers that loss, against none, which of
    several utterances is it of? Chance finds one in `rivals`. Envelope: does the energy of speech drawn from the
    video, frame by frame and in dB, rise and fall with the true one?

    Arguments
    ---------
    model : str or path
        With an audio-visual diffusion prior.
    manifest : path
        Rows with `clean` and `video` count; equal values of `dataset` are compared with each other.
    out : path
        Folder that gets `lips.csv`, a row for each clip, and `lips.json`.
    limit : int, optional
        The first so many clips only.
    seconds : float
        What of each clip is used, from its middle; shorter clips are passed over.
    rivals : int
        Utterances among which to look, the right one among them; of the same corpus, of other speakers too.
    draws : int
        Noise levels of each denoising loss.
    samples : int
        Draws of speech from each video, by `sampler` in `steps`; 0: the envelopes are left out.
    crops : path, optional
        Folder that keeps tracked mouths. Default: a folder in `out`.

    Returns
    -------
    dict
        `scores`: by name, with `mean`, `low`, `high` (a bootstrap over speakers) and `n`; `chance` of `found`;
        `meaning` of each score; `clips`.

    Raises
    ------
    AvseError
        If the model has no audio-visual diffusion prior, or there are too few clips.
    """
    from avse import plugins

    out = Path(out)
    loaded = load(model, device=device)
    prior = diffusion_prior(loaded.system, loaded.name, sees=True)
    cache = ClipCache(crops or out / "crops", tracker)
    clips, corpora = _middles(visible_speech(manifest, splits), cache, seconds, limit)
    groups = [[place for place, owner in enumerate(corpora) if owner == corpus] for corpus in dict.fromkeys(corpora)]
    groups = [group for group in groups if len(group) > 1]
    if not groups:
        raise AvseError(f"{manifest}: fewer than two clips of a corpus with speech and video of {seconds} s.")
    drawer = plugins.get("sampler", sampler)(steps=steps)
    rows: list[dict[str, Any]] = []
    rng = np.random.default_rng(seed)
    total = sum(map(len, groups))
    for group in groups:
        for place, index in enumerate(group):
            others = [other for other in group if other != index]
            drawn = rng.choice(others, size=min(rivals - 1, len(others)), replace=False).tolist()
            row = {"id": clips[index].clip_id, "rivals": len(drawn) + 1}
            row |= _denoising(prior, clips, index, group[(place + 1) % len(group)], drawn, draws, seed, loaded.device)
            if samples:
                row |= _envelopes(prior, clips[index], drawer, samples, seed, loaded.device)
            rows.append(row)
            if progress is not None:
                progress(len(rows), total)
    names = [name for name in _SCORES if name in rows[0]]
    speakers = [clips[index].speaker for group in groups for index in group]
    summary = {
        "clips": len(rows),
        "speakers": len(set(speakers)),
        "settings": {"model_sha256": model_hash(model), "seed": seed},
        "chance": float(np.mean([1 / row["rivals"] for row in rows])),
        "scores": scores_of({name: [row[name] for row in rows] for name in names}, speakers, seed),
        "meaning": {name: _SCORES[name] for name in names},
    }
    write_study(out, "lips", [list(rows[0]), *(list(row.values()) for row in rows)], summary)
    return summary


def lips_table(summary: dict[str, Any]) -> str:
    """What `measure_lips` found, as lines of text."""
    clips = f"{summary['clips']} clips of {summary['speakers']} speakers"
    lines = [f"{clips}; chance finds the right utterance in {summary['chance']:.1%}"]
    for name, score in summary["scores"].items():
        lines.append(f"{name:16} {mean_and_interval(score, '8.4f', '  ')}   {_SCORES[name]}")
    return "\n".join(lines)


def envelope(audio: np.ndarray) -> np.ndarray:
    """Level of each video frame, in dB, no lower than 50 dB below the loudest.

    >>> envelope(np.concatenate([np.full(640, 0.1), np.full(640, 1.0)])).round(3).tolist()
    [-20.0, 0.0]
    """
    frames = len(audio) // SAMPLES_PER_FRAME
    power = np.square(np.asarray(audio[: frames * SAMPLES_PER_FRAME], np.float64)).reshape(frames, -1).mean(axis=1)
    return 10 * np.log10(np.maximum(power, max(power.max(initial=0.0) * 1e-5, 1e-20)))


def _middles(
    utterances: Sequence[Utterance], cache: ClipCache, seconds: float, limit: int | None
) -> tuple[list[Clip], list[str]]:
    """The middle of each clip that is long enough, and its corpus."""
    frames = max(1, round(seconds * SAMPLE_RATE / SAMPLES_PER_FRAME))
    clips: list[Clip] = []
    corpora: list[str] = []
    for utterance in utterances:
        whole = cache.clip(utterance)
        spare = len(whole.audio) // SAMPLES_PER_FRAME - frames
        if spare < 0 or not whole.valid.any():
            continue
        first = spare // 2
        audio = whole.audio[first * SAMPLES_PER_FRAME : (first + frames) * SAMPLES_PER_FRAME]
        clips.append(Clip(audio, whole.mouth[first:], whole.valid[first:], utterance.id, utterance.speaker))
        corpora.append(utterance.dataset or "")
        if limit is not None and len(clips) == limit:
            break
    return clips, corpora


def _denoising(
    prior: Any,
    clips: Sequence[Clip],
    index: int,
    wrong: int,
    rivals: Sequence[int],
    draws: int,
    seed: int,
    device: torch.device,
) -> dict[str, float]:
    shown = lambda audio, mouth: Clip(clips[audio].audio, clips[mouth].mouth, clips[mouth].valid)
    candidates = [index, *rivals]
    pairs = [shown(one, index) for one in candidates] + [shown(index, wrong)]
    batch = Batch.from_clips(pairs, [pair.audio for pair in pairs]).to(device)
    with torch.no_grad():
        with_video = prior.denoising_losses(batch, draws, seed).double().cpu().numpy()
        without = prior.denoising_losses(batch.without_video(), draws, seed).double().cpu().numpy()
    gain = without[: len(candidates)] - with_video[: len(candidates)]
    rank = 1 + int((gain[1:] > gain[0]).sum()) + 0.5 * int((gain[1:] == gain[0]).sum())
    return {
        "misfit_right": with_video[0],
        "misfit_shuffled": with_video[-1],
        "misfit_null": without[0],
        "rank": rank,
        "found": float(rank == 1),
    }


def _envelopes(prior: Any, clip: Clip, sampler: Any, samples: int, seed: int, device: torch.device) -> dict[str, float]:
    true = envelope(clip.audio)
    correlations = {}
    for name, given in (("envelope_right", clip), ("envelope_null", clip.without_video())):
        batch = Batch.from_clips([given]).to(device)
        drawn = [draw_speech(prior, batch, sampler, seed + number)[0].cpu().numpy() for number in range(samples)]
        correlations[name] = float(np.mean([_correlation(true, envelope(audio)) for audio in drawn]))
    return correlations


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    spread = first.std() * second.std()
    return float(((first - first.mean()) * (second - second.mean())).mean() / spread) if spread > 1e-9 else 0.0
