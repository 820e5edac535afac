"""Metrics of exclusive classes, for many weightings of the images at once: the point estimate and all bootstrap draws.

What independent labels have of their own stands in `label_metrics.py`.
R = weightings, N = images, C = classes, L = distinct scores. A weighting says how often each image counts.
"""
# ruff: noqa: N803, N806
# (shape suffixes: weights_RN)

from typing import NamedTuple

import numpy as np

from tune_btxrd.tasks.registry import DEFAULT
from tune_btxrd.tasks.task import Task

CALIBRATION_BINS = 15  # equally wide; Guo et al., ICML 2017, eq. 3


class Metric(NamedTuple):
    """Which number: its name and, for one of a class, the class index."""

    name: str
    class_index: int | None = None


OVERALL = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc", "brier", "calibration_error")
PER_CLASS = ("sensitivity", "specificity", "ppv", "npv", "f1", "auc", "average_precision")
PROPORTIONS = ("accuracy", "exact_match", "sensitivity", "specificity", "ppv", "npv")  # found / asked: exact intervals
LOWER_IS_BETTER = ("brier", "calibration_error")
HIGHEST = {"brier": 2.0}  # of a metric of exclusive classes; all others end at 1


def scores(
    probabilities_NC: np.ndarray, targets_N: np.ndarray, weights_RN: np.ndarray, *, task: Task = DEFAULT
) -> dict[Metric, np.ndarray]:
    """Metric -> (R,) float64; NaN where a weighting leaves it undefined (no image of a class, nothing predicted).

    The predicted class is the most probable one. `balanced_accuracy` and `macro_auc` are means over classes (one against
    the rest), `macro_f1` counts 0 for a class that is never found; `brier` is the mean sum of squared errors over classes
    (0..2), `calibration_error` that of the predicted class over CALIBRATION_BINS bins.
    """
    classes = probabilities_NC.shape[1]
    counts_RCC = confusions(targets_N, task.decide(probabilities_NC), classes, weights_RN)
    found: dict[Metric, np.ndarray] = {}
    for name, values_RC in class_rates(counts_RCC).items():
        found |= {Metric(name, index): values_RC[:, index] for index in range(classes)}
    for index in range(classes):
        positive = targets_N == index
        found[Metric("auc", index)] = auc(probabilities_NC[:, index], positive, weights_RN)
        found[Metric("average_precision", index)] = average_precision(probabilities_NC[:, index], positive, weights_RN)
    trace = np.trace(counts_RCC, axis1=1, axis2=2)
    found[Metric("accuracy")] = ratio(trace, counts_RCC.sum(axis=(1, 2)))
    found[Metric("balanced_accuracy")] = _class_mean(found, "sensitivity", classes)
    found[Metric("macro_f1")] = np.mean([np.nan_to_num(found[Metric("f1", i)]) for i in range(classes)], axis=0)
    found[Metric("macro_auc")] = _class_mean(found, "auc", classes)
    found[Metric("brier")] = brier(probabilities_NC, targets_N, weights_RN, task=task)
    found[Metric("calibration_error")] = calibration_error(probabilities_NC, targets_N, weights_RN, task=task)
    return {metric: found[metric] for metric in metrics_of(classes)}


def metrics_of(classes: int) -> list[Metric]:
    """All metrics in the order of the tables."""
    return [Metric(name) for name in OVERALL] + [Metric(name, index) for name in PER_CLASS for index in range(classes)]


def ones(count: int) -> np.ndarray:
    """(1, N): every image counts once."""
    return np.ones((1, count))


def confusions(targets_N: np.ndarray, predicted_N: np.ndarray, classes: int, weights_RN: np.ndarray) -> np.ndarray:
    """(R, C, C): weight of the images per target (row) and prediction (column)."""
    cells = np.eye(classes * classes)[targets_N * classes + predicted_N]
    return np.asarray(weights_RN @ cells).reshape(len(weights_RN), classes, classes)


def class_rates(counts_RCC: np.ndarray) -> dict[str, np.ndarray]:
    """sensitivity, specificity, ppv, npv, f1 of every class against the rest: (R, C) each."""
    hit = np.diagonal(counts_RCC, axis1=1, axis2=2)
    real, called = counts_RCC.sum(axis=2), counts_RCC.sum(axis=1)
    return rates(hit, real, called, counts_RCC.sum(axis=(1, 2))[:, None])


def rates(hit: np.ndarray, real: np.ndarray, called: np.ndarray, total: np.ndarray) -> dict[str, np.ndarray]:
    """The same from weights: positives that are called, all positives, all that are called, all images."""
    rest_right = total - real - called + hit
    return {
        "sensitivity": ratio(hit, real),
        "specificity": ratio(rest_right, total - real),
        "ppv": ratio(hit, called),
        "npv": ratio(rest_right, total - called),
        "f1": ratio(2 * hit, real + called),
    }


def auc(score_N: np.ndarray, positive_N: np.ndarray, weights_RN: np.ndarray) -> np.ndarray:
    """(R,) area under the ROC curve: how often a positive scores above a negative, ties counting half."""
    yes_RL, no_RL = _by_level(score_N, positive_N, weights_RN)
    below = np.cumsum(no_RL, axis=1) - no_RL / 2
    return ratio((yes_RL * below).sum(axis=1), yes_RL.sum(axis=1) * no_RL.sum(axis=1))


def average_precision(score_N: np.ndarray, positive_N: np.ndarray, weights_RN: np.ndarray) -> np.ndarray:
    """(R,) precision averaged over the steps of recall, from the highest score down, without interpolation."""
    yes_RL, no_RL = (level[:, ::-1] for level in _by_level(score_N, positive_N, weights_RN))
    hits, calls = np.cumsum(yes_RL, axis=1), np.cumsum(yes_RL + no_RL, axis=1)
    precision = np.divide(hits, calls, out=np.zeros_like(hits), where=calls > 0)
    return ratio((yes_RL * precision).sum(axis=1), yes_RL.sum(axis=1))


def brier(
    probabilities_NC: np.ndarray, targets_N: np.ndarray, weights_RN: np.ndarray, *, task: Task = DEFAULT
) -> np.ndarray:
    """(R,) mean over images of the sum over classes of (probability - truth) squared, in [0, 2]."""
    error = probabilities_NC - task.indicators(targets_N, probabilities_NC.shape[1])
    return ratio(weights_RN @ (error**2).sum(axis=1), weights_RN.sum(axis=1))


def calibration_error(
    probabilities_NC: np.ndarray, targets_N: np.ndarray, weights_RN: np.ndarray, *, task: Task = DEFAULT
) -> np.ndarray:
    """(R,) expected calibration error of the predicted class: |share right - mean confidence|, averaged over bins."""
    confidence = probabilities_NC.max(axis=1)
    right = task.same(task.decide(probabilities_NC), targets_N)
    return ratio(bin_gaps(confidence, right, weights_RN), weights_RN.sum(axis=1))


def bin_gaps(probability_N: np.ndarray, true_N: np.ndarray, weights_RN: np.ndarray) -> np.ndarray:
    """(R,) weight of the images in a bin * |share that is true - mean probability|, summed over CALIBRATION_BINS bins."""
    gaps_RB = weights_RN @ (np.eye(CALIBRATION_BINS)[bin_of(probability_N)] * (true_N - probability_N)[:, None])
    return np.asarray(np.abs(gaps_RB).sum(axis=1))


def bin_of(probability_N: np.ndarray) -> np.ndarray:
    """Index of the calibration bin; 1.0 belongs to the last."""
    return np.asarray(np.minimum((probability_N * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1))


def log_loss(probabilities_NC: np.ndarray, targets_N: np.ndarray) -> float:
    """Mean negative log probability of the true class, in nats."""
    chosen = probabilities_NC[np.arange(len(targets_N)), targets_N]
    return float(-np.log(np.maximum(chosen, np.finfo(np.float64).tiny)).mean())


def _by_level(score_N: np.ndarray, positive_N: np.ndarray, weights_RN: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(R, L) weight of positives and of negatives at each distinct score, in rising order."""
    order = np.argsort(score_N, kind="stable")
    starts = np.unique(score_N[order], return_index=True)[1]
    sorted_RN = weights_RN[:, order]
    yes = sorted_RN * positive_N[order]
    yes_RL = np.add.reduceat(yes, starts, axis=1)
    return yes_RL, np.add.reduceat(sorted_RN - yes, starts, axis=1)


def _class_mean(found: dict[Metric, np.ndarray], name: str, classes: int) -> np.ndarray:
    """Mean over the classes that some weighting has images of; NaN in a weighting that lacks one of them."""
    columns = [found[Metric(name, index)] for index in range(classes)]
    present = [column for column in columns if not np.isnan(column).all()]
    return np.asarray(np.mean(present, axis=0) if present else columns[0])


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole; NaN where the whole is 0."""
    share: np.ndarray = np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)
    return share
