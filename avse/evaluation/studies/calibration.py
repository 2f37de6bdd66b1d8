"""Make a model's reliability the probability that a frame is clean, from a sweep over corrupted video."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from avse.errors import AvseError
from avse.evaluation.runner import model_hash, read_sweep
from avse.evaluation.statistics import calibration, expected_calibration_error
from avse.evaluation.studies.robustness import sweep_frames
from avse.files import check_apart

_SURE = 1e-3  # nothing is more certain than this, here and in training
_LEAST_FRAMES = 100
_WRITTEN_ANEW = ("format", "name", "avse", "torch", "parameters", "sha256")  # by `Model.save`


def calibrate(model: str | Path, sweep: str | Path, out: str | Path) -> dict[str, float]:
    """Fit scale and shift of the reliability's log-odds (Platt, 1999), and write the model that has them.

    Nothing else changes but what follows from it: the video is weighed by the reliability.

    Arguments
    ---------
    model : name or path
        Of which the sweep was made.
    sweep : path
        Results of `evaluate` with `corruptions`, on development clips. Clean frames count as often as the sweep has
        them: with each corruption those of the same clip with clean video and those that it left alone.
    out : path
        Folder of the new model.

    Returns
    -------
    dict of str to float
        `scale` and `shift`; `before` and `after`: expected calibration errors over these frames.

    Raises
    ------
    AvseError
        If the sweep is of another model or too small, or the model estimates no reliability.
    """
    from avse.model import load
    from avse.model_folder import find

    check_apart([find(model)], [out])
    loaded = load(model)
    rows, settings = read_sweep(sweep)
    if settings.get("model_sha256") != model_hash(model):
        raise AvseError(f"{sweep}: is a sweep of another model than {model}. Evaluate this one first.")
    clean, corrupted = sweep_frames(rows)
    if min(len(clean), len(corrupted)) < _LEAST_FRAMES:
        raise AvseError(
            f"{sweep}: holds {len(clean)} clean and {len(corrupted)} corrupted frames; {_LEAST_FRAMES} of each are "
            "needed."
        )
    reliability = np.r_[clean, corrupted]
    truth = np.r_[np.ones(len(clean), dtype=bool), np.zeros(len(corrupted), dtype=bool)]
    scale, shift = fit_log_odds(reliability, truth)
    system: Any = loaded.system  # an enhancer or an inference
    system.calibrate(scale, shift)
    result = {"scale": scale, "shift": shift}
    moved = 1 / (1 + np.exp(-(scale * _log_odds(reliability) + shift)))
    result["before"], result["after"] = (
        expected_calibration_error(calibration(one, truth)) or 0.0 for one in (reliability, moved)
    )
    facts = {key: value for key, value in (loaded.description or {}).items() if key not in _WRITTEN_ANEW}
    loaded.save(out, description={**facts, "reliability": result})
    return result


def fit_log_odds(probability: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Scale and shift of the log-odds of probabilities that make the truth most likely.

    Arguments
    ---------
    probability : array, shape (values,), in [0, 1]
    truth : array, shape (values,), bool

    Returns
    -------
    scale, shift : float

    Example
    -------
    >>> odds = np.array([0.5] * 10)
    >>> scale, shift = fit_log_odds(odds, np.arange(10) < 8)
    >>> round(float(1 / (1 + np.exp(-shift))), 3)
    0.8
    """
    from scipy.optimize import minimize
    from scipy.special import log_expit

    odds, sign = _log_odds(probability), np.where(truth, 1.0, -1.0)

    def negative_log_likelihood(parameters: np.ndarray) -> float:
        return -float(log_expit(sign * (parameters[0] * odds + parameters[1])).mean())

    scale, shift = minimize(negative_log_likelihood, [1.0, 0.0], method="BFGS").x
    return float(scale), float(shift)


def _log_odds(probability: np.ndarray) -> np.ndarray:
    from scipy.special import logit

    return logit(np.clip(probability, _SURE, 1 - _SURE))
