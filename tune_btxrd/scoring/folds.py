"""Scores over folds: mean, standard deviation, and an interval that knows that the folds' trainings share images."""
# ruff: noqa: N803
# (shape suffixes: values_K, one number per fold)

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from tune_btxrd.scoring.intervals import Interval

LEVEL = 0.95
SUMMARY = ("mean", "sd", "low", "high")  # rows below the folds


def corrected_interval(values_K: Sequence[float], *, ratio: float) -> Interval:
    """95 % interval of the mean over folds by the corrected resampled t-test.

    The trainings of K folds share most of their images, so their scores are not independent and the usual s^2 / K is too
    small. Its correction is s^2 * (1 / K + validation images / training images), with K - 1 degrees of freedom (Nadeau &
    Bengio, Machine Learning 52, 2003, section 3).

    Args:
        ratio: validation images / training images of a fold.
    """
    values = np.asarray(values_K, dtype=np.float64)
    if len(values) < 2 or not np.isfinite(values).all():
        return Interval(math.nan, math.nan)
    error = math.sqrt(float(values.var(ddof=1)) * (1 / len(values) + ratio))
    reach = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1)) * error
    return Interval(float(values.mean()) - reach, float(values.mean()) + reach)


def fold_table(
    scores: Mapping[str, Mapping[str, float]], images: Mapping[str, tuple[int, int]], *, note: str
) -> pd.DataFrame:
    """One row per fold, then SUMMARY of each score over the folds; `low` and `high` are `corrected_interval`.

    Args:
        scores: fold -> score -> value; images: fold -> (training, validation) images.
        note: what must be known beside every number of this table.
    """
    table = pd.DataFrame(
        [
            {"fold": fold, "train_images": images[fold][0], "val_images": images[fold][1], **values}
            for fold, values in scores.items()
        ]
    )
    ratio = float((table["val_images"] / table["train_images"]).mean())
    names = [name for name in table if name not in ("fold", "train_images", "val_images")]
    intervals = {name: corrected_interval(table[name].tolist(), ratio=ratio) for name in names}
    below = {
        "mean": {name: table[name].mean() for name in names},
        "sd": {name: table[name].std(ddof=1) for name in names},
        "low": {name: interval.low for name, interval in intervals.items()},
        "high": {name: interval.high for name, interval in intervals.items()},
    }
    whole = pd.concat([table, pd.DataFrame([{"fold": name, **below[name]} for name in SUMMARY])], ignore_index=True)
    return whole.astype({"train_images": "Int64", "val_images": "Int64"}).assign(note=note)
