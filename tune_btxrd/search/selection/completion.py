"""Completion: what a trial that was cut or still runs would have reached at full length, with its variance. numpy alone.

Works on best-so-far curves of log errors (`Monitor.error`), so that a step is a share of the error and knows no unit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tune_btxrd.search.record import TrialRecord

Floats = NDArray[np.float64]

PRIOR_TRIALS = 2.0  # the prior step counts as much as so many trials that went on
EARLY = 12  # epochs during which steps still shrink
EARLY_STEP, LATE_STEP = 0.06, 0.008  # prior fall of the log error: EARLY_STEP / sqrt(epoch), then LATE_STEP per epoch
DEPENDENT = 2.0  # steps of one trial hang together, so their variances add up to more
LEAST_ERROR = 1e-9  # its logarithm stands for a perfect score


@dataclass(frozen=True, kw_only=True)
class Completed:
    """One curve at full length: the log error expected there, and its variance (0 where the trial ran to its end)."""

    value: float
    variance: float


def log_errors(trial: TrialRecord) -> Floats:
    """(E,) the log of the best error so far, after each epoch of the trial."""
    errors = [trial.monitor.error(float(row["objective"])) for row in trial.epochs]
    return np.log(np.maximum(errors, LEAST_ERROR))


def complete(trials: Sequence[TrialRecord], epochs: int) -> list[Completed]:
    """Every trial's curve at `epochs`, in order; each has at least one epoch.

    The step from one epoch to the next is the mean of the trials that went on, shrunk to a prior.
    """
    curves = [log_errors(trial) for trial in trials]
    means, variances = steps(curves, epochs)
    ahead, doubt = _sums_from(means), DEPENDENT * _sums_from(variances)
    return [
        Completed(value=float(curve[-1]), variance=0.0)
        if trial.state == "complete"
        else Completed(value=float(curve[-1] + ahead[len(curve) - 1]), variance=float(doubt[len(curve) - 1]))
        for trial, curve in zip(trials, curves, strict=True)
    ]


def steps(curves: Sequence[Floats], epochs: int) -> tuple[Floats, Floats]:
    """(E - 1,) mean and variance of the step of the log error after epoch 1, 2, ..."""
    length = max([epochs, *map(len, curves)])
    table = np.full((len(curves), length), np.nan)
    for row, curve in zip(table, curves, strict=True):
        row[: len(curve)] = curve
    found = np.diff(table, axis=1)
    count, prior = (~np.isnan(found)).sum(axis=0) + PRIOR_TRIALS, prior_steps(length)
    means = (np.nansum(found, axis=0) + PRIOR_TRIALS * prior) / count
    variances = (np.nansum((found - means) ** 2, axis=0) + PRIOR_TRIALS * prior**2) / count
    return means, variances


def prior_steps(epochs: int) -> Floats:
    """(E - 1,) what a step is expected to be before any trial has told."""
    epoch = np.arange(1, epochs)
    return np.where(epoch < EARLY, -EARLY_STEP / np.sqrt(epoch), -LATE_STEP)


def _sums_from(values: Floats) -> Floats:
    """(E,) the sum of all that follow each epoch; 0 after the last."""
    return np.append(np.cumsum(values[::-1])[::-1], 0.0)
