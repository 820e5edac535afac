"""Scores over folds: mean, standard deviation, and an interval that knows that the folds' trainings share images."""
# ruff: noqa: N803
# (shape suffixes: values_K, one number per fold)

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from tune_btxrd.scoring.intervals import ROUNDING, UNKNOWN, Interval

LEVEL = 0.95
FEWEST = 3  # folds that an interval is told of
SUMMARY = ("mean", "sd", "low", "high")  # rows below the folds


def corrected_interval(values_K: Sequence[float], *, ratio: float, highest: float = 1.0) -> Interval:
    """95 % interval of the mean over folds by the corrected resampled t-test.

    The trainings of K folds share most of their images, so their scores are not independent and the usual s^2 / K is too
    small. Its correction is s^2 * (1 / K + validation images / training images), with K - 1 degrees of freedom (Nadeau &
    Bengio, Machine Learning 52, 2003, section 3). The formula knows no bounds, scores do: what lies beyond is cut off.

    UNKNOWN for two folds (one degree of freedom: t is 12.7, whatever the folds say), for equal ones (a width of 0 would
    claim to be exact), and where a fold lacks the score.

    Args:
        ratio: validation images / training images of a fold.
        highest: that the score can be; the lowest is 0.
    """
    values = np.asarray(values_K, dtype=np.float64)
    if len(values) < FEWEST or not np.isfinite(values).all() or np.ptp(values) < ROUNDING:
        return UNKNOWN
    error = math.sqrt(float(values.var(ddof=1)) * (1 / len(values) + ratio))
    reach = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1)) * error
    mean = float(values.mean())
    return Interval(max(mean - reach, 0.0), min(mean + reach, highest))


def fold_table(
    scores: Mapping[str, Mapping[str, float]],
    images: Mapping[str, tuple[int, int]],
    *,
    note: str,
    highest: Mapping[str, float],
) -> pd.DataFrame:
    """One row per fold, then SUMMARY of each score over the folds; `low` and `high` are `corrected_interval`.

    Args:
        scores: fold -> score -> value; images: fold -> (training, validation) images.
        note: what must be known beside every number of this table.
        highest: that a score can be, where it is not 1.
    """
    table = pd.DataFrame(
        [
            {"fold": fold, "train_images": images[fold][0], "val_images": images[fold][1], **values}
            for fold, values in scores.items()
        ]
    )
    ratio = float((table["val_images"] / table["train_images"]).mean())
    names = [name for name in table if name not in ("fold", "train_images", "val_images")]
    intervals = {
        name: corrected_interval(table[name].tolist(), ratio=ratio, highest=highest.get(str(name), 1.0)) for name in names
    }
    below = {
        "mean": {name: table[name].mean() for name in names},
        "sd": {name: table[name].std(ddof=1) for name in names},
        "low": {name: interval.low for name, interval in intervals.items()},
        "high": {name: interval.high for name, interval in intervals.items()},
    }
    whole = pd.concat([table, pd.DataFrame([{"fold": name, **below[name]} for name in SUMMARY])], ignore_index=True)
    return whole.astype({"train_images": "Int64", "val_images": "Int64"}).assign(note=note)
