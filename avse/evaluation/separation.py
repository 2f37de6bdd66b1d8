"""Scores of separation: how far each voice was freed of the others, and whether it is whose it should be."""

from __future__ import annotations

import csv
import json
import math
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avse.contracts.types import SAMPLES_PER_FRAME, Clip, Estimate
from avse.data.audio import read_audio
from avse.data.mixing import active_samples
from avse.data.separation_scenes import Mixture, read_mixtures
from avse.errors import AvseError
from avse.evaluation.statistics import bootstrap_means
from avse.files import atomic_path
from avse.signal.metrics import si_sdr

METRICS = {
    "si_sdr_improvement": "SI-SDR improvement (dB)",
    "sdr": "SDR (dB)",
    "sir": "SIR (dB)",
    "sar": "SAR (dB)",
    "pesq_wb": "PESQ-WB",
    "estoi": "ESTOI",
    "wrong_speaker": "wrong speaker (%)",
    "switch_accuracy": "switch accuracy (%)",
}
_PERCENT = ("wrong_speaker", "switch_accuracy")
_FACTS = ("id", "talkers", "speaker", "sexes", "snr")

System = Callable[[Mixture, Sequence[Clip]], Estimate]


def evaluate_separation(
    manifest: str | Path,
    out: str | Path,
    *,
    model: str | Path = "av-vae",
    voices: str = "free",
    label: str | None = None,
    limit: int | None = None,
    tracker: str | None = None,
    crops: str | Path | None = None,
    device: str = "cpu",
    overrides: Mapping[str, Any] | None = None,
    enrolment: str | Path | None = None,
    keep: bool = False,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Score a system on every mixture that `avse mix` wrote from scenes of separation.

    Writes `scores.csv` (a row for each voice of each mixture), `summary.json` and `table.md` into `out`.

    Arguments
    ---------
    manifest : path
        `mixtures.csv`, or the folder that holds it.
    out : path
        Folder of the results.
    model : str or path
        See `avse.load`; or `nmf`: a factorisation with spectra of each talker, learned from other clips of `enrolment`;
        or `mixture`: what is not separated at all.
    voices : str
        Of a model whose prior knows speakers: `free`, it chooses; `known`, it is told who talks (the oracle); or the
        name of one voice for all, such as `anybody`.
    label : str, optional
        Name of the system in the table.
    limit : int, optional
        Score the first so many only.
    tracker, crops : optional
        Mouth tracker, and a folder that keeps tracked mouths.
    device : str
    overrides : dict, optional
        Changes of the model's recipe.
    enrolment : path, optional
        Manifest of clean speech of the talkers, for `nmf`.
    keep : bool
        Whether to write the voices that were found.
    seed : int
        Of the bootstrap, which draws groups of talkers.
    progress : callable, optional
        Called with how many mixtures are done, and of how many.

    Returns
    -------
    dict
        As in `summary.json`: `label`, `n`, and for each group of mixtures the mean, interval and number of each metric.

    Raises
    ------
    AvseError
        If a file cannot be read, or the model knows no such voices.
    """
    mixtures = read_mixtures(manifest)[:limit]
    system = _system(model, voices, device, overrides, enrolment)
    out = Path(out)
    rows: list[dict[str, Any]] = []
    for done, one in enumerate(mixtures, start=1):
        clips = _clips(one, tracker, crops)
        clean = np.stack([_cut(read_audio(path), len(clips[0].audio)) for path in one.clean])
        found = system(one, clips)
        rows += score_voices(found, clean, clips[0].audio, one)
        if keep:
            from avse.data.audio import write_audio

            for number, sound in enumerate(found.speech.numpy(), start=1):
                write_audio(out / "voices" / f"{one.id}.voice{number}.wav", sound)
        if progress is not None:
            progress(done, len(mixtures))
    summary = summarise(rows, label or (f"{model}" if voices == "free" else f"{model}, {voices}"), seed)
    columns = [*_FACTS, *METRICS]
    with atomic_path(out / "scores.csv") as path, open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, **{name: _shown(row[name]) for name in METRICS}} for row in rows)
    with atomic_path(out / "summary.json") as path:
        path.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    with atomic_path(out / "table.md") as path:
        path.write_text(separation_table([summary]), encoding="utf-8")
    return summary


def score_voices(found: Estimate, clean: np.ndarray, mixture: np.ndarray, facts: Mixture) -> list[dict[str, Any]]:
    """Scores of each voice of one mixture.

    Arguments
    ---------
    found : Estimate
        Of one clip.
    clean : array, shape (sources, samples)
        The true voices, in the order of those found.
    mixture : array, shape (samples,)
    facts : Mixture

    Returns
    -------
    list of dict
        A row for each voice; a score that is not defined is NaN.
    """
    from avse import plugins

    estimates = found.speech.double().numpy()
    truth, heard = torch.from_numpy(clean).double(), torch.from_numpy(mixture).double()
    near = si_sdr(found.speech.double()[:, None].expand(-1, len(clean), -1), truth.expand(len(clean), -1, -1))
    ratios = bss_ratios(estimates, clean)
    rows = []
    for place in range(len(clean)):
        row: dict[str, Any] = {
            "id": facts.id,
            "talkers": len(clean),
            "speaker": facts.speaker[place],
            "sexes": facts.sexes,
            "snr": "" if facts.snr is None else facts.snr,
            "si_sdr_improvement": float(near[place, place] - si_sdr(heard, truth[place])),
            **{name: ratio[place] for name, ratio in zip(("sdr", "sir", "sar"), ratios)},
            "wrong_speaker": float(near[place].argmax() != place),
            "switch_accuracy": _switch_accuracy(found, place, facts.speaker[place], clean[place]),
        }
        for name in ("pesq_wb", "estoi"):
            try:
                row[name] = plugins.get("metric", name)()(found.speech[place].numpy(), clean[place], mixture)
            except AvseError:
                row[name] = math.nan
        rows.append(row)
    return rows


def bss_ratios(estimates: np.ndarray, clean: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """SDR, SIR and SAR in dB of voices that are in the right order, by mir_eval (Vincent et al., 2006).

    Arguments
    ---------
    estimates, clean : array, shape (sources, samples)

    Returns
    -------
    sdr, sir, sar : array, shape (sources,)
        NaN where one of them is silent.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            from mir_eval.separation import bss_eval_sources
    except ImportError as error:
        raise AvseError("SDR, SIR and SAR need mir_eval: pip install 'avse[separation]'.") from error
    nothing = np.full(len(clean), np.nan)
    if not (np.any(estimates, axis=1).all() and np.any(clean, axis=1).all() and np.isfinite(estimates).all()):
        return nothing, nothing, nothing
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        sdr, sir, sar, _ = bss_eval_sources(clean, estimates, compute_permutation=False)
    return sdr, sir, sar


def summarise(rows: Sequence[Mapping[str, Any]], label: str, seed: int = 0) -> dict[str, Any]:
    """Means and bootstrap intervals of all mixtures and of each kind of them.

    Arguments
    ---------
    rows : sequence of dict
        From `score_voices`.
    label : str
    seed : int

    Returns
    -------
    dict
        `label`; `n`, of voices; `groups`: by name of the group and of the metric `mean`, `low`, `high` and `n`.
    """
    kinds: dict[str, tuple[str, Collection[Any]]] = {"all": ("", ())}
    kinds |= {f"{count} talkers": ("talkers", (count,)) for count in sorted({row["talkers"] for row in rows})}
    kinds |= {f"{sexes} sex": ("sexes", (sexes,)) for sexes in ("same", "different")}
    kinds |= {"without noise": ("snr", ("",)), "with noise": ("snr", {row["snr"] for row in rows} - {""})}
    groups = {}
    for name, (fact, values_of_fact) in kinds.items():
        own = [row for row in rows if name == "all" or row[fact] in values_of_fact]
        if own:
            # Mixtures with and without noise of the same talkers are not independent.
            targets = ["_".join(str(row["id"]).split("_")[:2]) for row in own]
            values = np.array([[row[metric] for metric in METRICS] for row in own], dtype=float)
            intervals = bootstrap_means(values, targets, seed=seed)
            groups[name] = {metric: vars(one) for metric, one in zip(METRICS, intervals)}
    return {"label": label, "n": len(rows), "groups": groups}


def separation_table(summaries: Sequence[Mapping[str, Any]], group: str = "all") -> str:
    """A Markdown table with a row for each system and group: means with 95 % intervals.

    >>> one = {name: {"mean": 0.5, "low": 0.25, "high": 0.75, "n": 4} for name in METRICS}
    >>> print(separation_table([{"label": "mine", "groups": {"all": one}}]).splitlines()[2][:37])
    | mine | all | 0.50 (0.25 to 0.75) |
    """
    lines = ["| system | mixtures | " + " | ".join(METRICS.values()) + " |", "|---" * (len(METRICS) + 2) + "|"]
    for summary in summaries:
        for name, scores in summary["groups"].items():
            cells = [_cell(scores[metric], 100.0 if metric in _PERCENT else 1.0) for metric in METRICS]
            lines.append(f"| {summary['label']} | {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(score: Mapping[str, Any], scale: float) -> str:
    if score["mean"] is None:
        return "-"
    mean = f"{scale * score['mean']:.2f}"
    return mean if score["low"] is None else f"{mean} ({scale * score['low']:.2f} to {scale * score['high']:.2f})"


def _switch_accuracy(found: Estimate, place: int, speaker: str, clean: np.ndarray) -> float:
    """Share of frames with speech in which the most likely speaker is the true one; NaN where nobody chooses."""
    if found.responsibility is None:
        return math.nan
    whose = [name.split("/")[0] for name in found.states]
    if speaker not in whose:
        return math.nan
    names = list(dict.fromkeys(whose))
    states = found.responsibility[place]
    shares = torch.stack([states[:, [name == one for one in whose]].sum(dim=1) for name in names], dim=1)
    active = active_samples(clean)
    frames = np.add.reduceat(active, np.arange(0, len(active), SAMPLES_PER_FRAME)) > SAMPLES_PER_FRAME // 2
    right = (shares.argmax(dim=1) == names.index(speaker)).numpy()[: len(frames)]
    return float(right[frames].mean()) if frames.any() else math.nan


def _system(
    model: str | Path,
    voices: str,
    device: str,
    overrides: Mapping[str, Any] | None,
    enrolment: str | Path | None,
) -> System:
    if str(model) == "mixture":
        return lambda one, clips: _unseparated(clips)
    if str(model) == "nmf":
        from avse.evaluation.nmf_baseline import NMFBaseline

        if enrolment is None:
            raise AvseError("nmf needs clean speech of the talkers: --enrolment MANIFEST.")
        return NMFBaseline(enrolment)
    from avse.model import load

    loaded = load(model, device, overrides)

    def run(one: Mixture, clips: Sequence[Clip]) -> Estimate:
        names = {"free": [], "known": list(one.speaker)}.get(voices, [voices] * len(clips))
        return loaded.separate_clips(clips, names)

    return run


def _unseparated(clips: Sequence[Clip]) -> Estimate:
    mixture = torch.from_numpy(clips[0].audio)
    trusted = torch.zeros(len(clips), len(clips[0].valid))
    return Estimate(mixture.expand(len(clips), -1), (1 - len(clips)) * mixture, trusted)


def _clips(one: Mixture, tracker: str | None, crops: str | Path | None) -> list[Clip]:
    """The mixture with the mouth of each talker."""
    from avse.media import read_clip

    clips = []
    for name, video in zip(one.talkers, one.video):
        kept = None if crops is None else Path(crops) / f"{name.replace('/', '_')}.npz"
        if kept is not None and kept.is_file():
            with np.load(kept) as found:
                clips.append(Clip(read_audio(one.mixture), found["mouth"], found["valid"]))
            continue
        clips.append(read_clip(one.mixture, video=video, tracker=tracker))
        if kept is not None:
            with atomic_path(kept) as path:
                np.savez_compressed(path, mouth=clips[-1].mouth, valid=clips[-1].valid)
    return clips


def _cut(sound: np.ndarray, samples: int) -> np.ndarray:
    return np.pad(sound[:samples], (0, max(0, samples - len(sound))))


def _shown(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"
