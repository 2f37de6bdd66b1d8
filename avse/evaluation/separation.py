"""What is scored of the speakers of a mixture together, and the tables of separation."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from avse import compatibility
from avse.contracts.types import SAMPLES_PER_FRAME, Clip, Estimate
from avse.data.mixing import active_samples
from avse.errors import needs_extra
from avse.evaluation.statistics import bootstrap_means, drawn
from avse.evaluation.tables import in_unit, markdown

FACTS = ("id", "talkers", "speaker", "sexes", "snr")
METRICS = ("si_sdr_improvement", "sdr", "sir", "sar", "pesq_wb", "estoi", "wrong_speaker", "switch_accuracy")
__getattr__ = compatibility.old_names(__name__)


@dataclass(frozen=True)
class MixtureMetric:
    """A score that needs the estimates of all speakers, as tables describe it; see `avse.contracts.metric`."""

    name: str
    unit: str
    definition: str
    higher_is_better: bool = True
    relative_to_noisy: bool = False


MIXTURE_METRICS = {
    "sdr": MixtureMetric("SDR", "dB", "Signal to distortion ratio (BSS Eval, Vincent et al., 2006)."),
    "sir": MixtureMetric("SIR", "dB", "Signal to interference ratio: how far the other speakers were removed."),
    "sar": MixtureMetric("SAR", "dB", "Signal to artefact ratio."),
    "wrong_speaker": MixtureMetric("wrong speaker", "", "Share of estimates nearer to another speaker.", False),
    "switch_accuracy": MixtureMetric(
        "switch accuracy", "", "Share of frames with speech whose most probable speaker is the true one."
    ),
}


class Unseparated:
    """Gives the mixture for each speaker: what a system is compared with."""

    name = "mixture"

    def separate_clips(self, clips: Sequence[Clip], names: Sequence[str] = ()) -> Estimate:
        """The mixture, as often as there are speakers."""
        import torch

        mixture = torch.from_numpy(clips[0].audio)
        reliability = torch.zeros(len(clips), len(clips[0].valid))
        return Estimate(mixture.expand(len(clips), -1), (1 - len(clips)) * mixture, reliability)


def separation_scores(estimates: np.ndarray, clean: np.ndarray) -> list[dict[str, float | None]]:
    """Scores of the speakers of one mixture that need all of them.

    Paper: Vincent, Gribonval, Fevotte, Performance measurement in blind audio source separation, TASLP 2006.

    Arguments
    ---------
    estimates, clean : array, shape (sources, samples)
        In one order.

    Returns
    -------
    list of dict
        For each speaker `sdr`, `sir`, `sar` in dB by mir_eval (None where one of them is silent), and `wrong_speaker`:
        1 where the estimate is nearer, by SI-SDR, to the speech of another speaker.
    """
    import torch

    from avse.signal.metrics import si_sdr

    estimated, truth = torch.from_numpy(estimates).double(), torch.from_numpy(clean).double()
    near = si_sdr(estimated[:, None].expand(-1, len(clean), -1), truth.expand(len(clean), -1, -1))
    wrong = near.argmax(dim=1) != torch.arange(len(clean))
    ratios: Any = [[None] * 3] * len(clean)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        with needs_extra("separation", "SDR, SIR and SAR"):
            from mir_eval.separation import bss_eval_sources
        if np.any(estimates, axis=1).all() and np.any(clean, axis=1).all() and np.isfinite(estimates).all():
            scores = bss_eval_sources(clean, np.asarray(estimates, np.float64), compute_permutation=False)[:3]
            ratios = [[None if np.isnan(value) else float(value) for value in row] for row in zip(*scores)]
    return [
        {**dict(zip(("sdr", "sir", "sar"), row)), "wrong_speaker": float(other)} for row, other in zip(ratios, wrong)
    ]


def switch_accuracy(estimate: Estimate, place: int, speaker: str, clean: np.ndarray) -> float | None:
    """Share of frames with speech in which the most probable speaker is the true one; None where no prior chooses.

    Arguments
    ---------
    estimate : Estimate
        Of one mixture.
    place : int
        Of the speaker in it.
    speaker : str
    clean : array, shape (samples,)
    """
    import torch

    if estimate.responsibility is None:
        return None
    speakers = [name.split("/")[0] for name in estimate.states]
    if speaker not in speakers:
        return None
    names = list(dict.fromkeys(speakers))
    states = estimate.responsibility[place]
    posterior = torch.stack([states[:, [name == one for one in speakers]].sum(dim=1) for name in names], dim=1)
    active = active_samples(clean)
    frames = np.add.reduceat(active, np.arange(0, len(active), SAMPLES_PER_FRAME)) > SAMPLES_PER_FRAME // 2
    right = (posterior.argmax(dim=1) == names.index(speaker)).numpy()[: len(frames)]
    return float(right[frames].mean()) if frames.any() else None


def group_means(rows: Sequence[Mapping[str, Any]], metrics: Sequence[str], seed: int = 0) -> dict[str, Any]:
    """Means and bootstrap intervals of all mixtures and of each group of them.

    Arguments
    ---------
    rows : sequence of dict
        Of `scores.csv`.
    metrics : sequence of str
    seed : int

    Returns
    -------
    dict
        By name of the group and of the metric: `mean`, `low`, `high` and `n`. Speakers are drawn.
    """
    groups = {"all": list(rows)}
    for count in sorted({int(row["talkers"]) for row in rows}):
        groups[f"{count} talkers"] = [row for row in rows if row["talkers"] == count]
    for sexes in ("same", "different"):
        groups[f"{sexes} sex"] = [row for row in rows if row["sexes"] == sexes]
    groups["without noise"] = [row for row in rows if row["snr"] is None]
    groups["with noise"] = [row for row in rows if row["snr"] is not None]
    means = {}
    for name, members in groups.items():
        if members:
            values = np.array([[row.get(metric) for metric in metrics] for row in members], dtype=float)
            intervals = bootstrap_means(values, drawn(members), seed=seed)
            means[name] = {metric: vars(interval) for metric, interval in zip(metrics, intervals)}
    return means


def separation_table(summaries: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table with a row for each system and group: means with 95 % intervals.

    >>> scores = {"sdr": {"mean": 0.5, "low": 0.25, "high": 0.75, "n": 8, "groups": 4}}
    >>> about = {"sdr": {"name": "SDR", "unit": "dB"}}
    >>> print(separation_table([{"label": "mine", "metrics": about, "groups": {"all": scores}}]))
    | system | mixtures | speakers | SDR (dB) |
    |---|---|---|---|
    | mine | all | 4 | 0.50 (0.25 to 0.75) |
    <BLANKLINE>
    """
    metrics = summaries[0]["metrics"]
    shares = [name for name in metrics if name in ("wrong_speaker", "switch_accuracy")]
    units = {name: "%" if name in shares else about["unit"] for name, about in metrics.items()}
    titles = [in_unit(metrics[name]["name"], unit if unit in ("dB", "%") else "") for name, unit in units.items()]
    rows = [
        [
            summary["label"],
            name,
            str(max(score["groups"] for score in scores.values())),
            *(_cell(scores[metric], 100.0 if metric in shares else 1.0) for metric in metrics),
        ]
        for summary in summaries
        for name, scores in summary["groups"].items()
    ]
    return markdown(["system", "mixtures", "speakers", *titles], rows) + "\n"


def _cell(score: Mapping[str, Any], scale: float) -> str:
    if score["mean"] is None:
        return "-"
    mean = f"{scale * score['mean']:.2f}"
    return mean if score["low"] is None else f"{mean} ({scale * score['low']:.2f} to {scale * score['high']:.2f})"
