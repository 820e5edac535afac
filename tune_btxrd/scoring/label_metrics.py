"""Metrics of independent labels, for many weightings of the images at once. An unknown label is left out of every sum.

R = weightings, N = images, L = labels. A weighting says how often each image counts.
"""
# ruff: noqa: N803
# (shape suffixes: weights_RN)

from collections.abc import Sequence

import numpy as np
import pandas as pd

from tune_btxrd.scoring.answers import Answers
from tune_btxrd.scoring.metrics import Metric, auc, average_precision, bin_gaps, rates, ratio

OVERALL = (
    "exact_match",
    "macro_auc",
    "macro_average_precision",
    "macro_f1",
    "macro_sensitivity",
    "macro_specificity",
    "brier",
    "calibration_error",
)
PER_LABEL = ("sensitivity", "specificity", "ppv", "npv", "f1", "auc", "average_precision", "brier", "calibration_error")


def label_scores(probabilities_NL: np.ndarray, answers: Answers, weights_RN: np.ndarray) -> dict[Metric, np.ndarray]:
    """Metric -> (R,) float64; NaN where a weighting leaves it undefined.

    A label counts with the images of which it is known. `exact_match` is the share of images with every label said right,
    of those of which all are known; all other metrics without a label are means over the labels that the part has a yes and
    a no of, NaN in a weighting that lacks one of them.
    """
    labels = probabilities_NL.shape[1]
    by_label = [_one_label(probabilities_NL[:, index], answers, index, weights_RN) for index in range(labels)]
    found = {Metric(name, index): by_label[index][name] for name in PER_LABEL for index in range(labels)}
    overall = {Metric("exact_match"): ratio(weights_RN @ answers.right_N, weights_RN @ answers.whole_N)}
    for name in OVERALL[1:]:
        columns = [by_label[index] for index in np.flatnonzero(answers.two_sided_C)]
        overall[Metric(name)] = _mean([column[name.removeprefix("macro_")] for column in columns], len(weights_RN))
    return overall | found


def label_table(answers: Answers, names: Sequence[str]) -> pd.DataFrame:
    """Per label of a part: images with a known yes, with a known no, unknown, and whether it counts in means over labels."""
    yes, no = (answers.known_NC & answers.yes_NC).sum(axis=0), (answers.known_NC & ~answers.yes_NC).sum(axis=0)
    unknown = (~answers.known_NC).sum(axis=0)
    return pd.DataFrame({"class": names, "yes": yes, "no": no, "unknown": unknown, "in_means": answers.two_sided_C})


def yes_no_log_loss(probability_N: np.ndarray, yes_N: np.ndarray) -> float:
    """Mean negative log probability of what is true, in nats; NaN of no image."""
    chosen = np.where(yes_N, probability_N, 1 - probability_N)
    return float(-np.log(np.maximum(chosen, np.finfo(np.float64).tiny)).mean()) if len(chosen) else float("nan")


def _one_label(probability_N: np.ndarray, answers: Answers, index: int, weights_RN: np.ndarray) -> dict[str, np.ndarray]:
    known, yes, called = answers.one(index)
    weights, probability = weights_RN[:, known], probability_N[known]
    real, said, total = weights @ yes, weights @ called, weights.sum(axis=1)
    found = rates(weights @ (yes & called), real, said, total)
    found["auc"] = auc(probability, yes, weights)
    found["average_precision"] = average_precision(probability, yes, weights)
    found["brier"] = ratio(weights @ (probability - yes) ** 2, total)
    found["calibration_error"] = ratio(bin_gaps(probability, yes, weights), total)
    one_sided = (real == 0) | (real == total)
    found["f1"] = np.where(one_sided, np.nan, found["f1"])  # without a yes it would be 0 whatever the model says
    return found


def _mean(columns: list[np.ndarray], weightings: int) -> np.ndarray:
    return np.asarray(np.mean(columns, axis=0)) if columns else np.full(weightings, np.nan)
