"""Scores as people read them: a value with the interval that the footnote names. Screen, report and model card take these.

Every place prints `score_rows` of `scores.csv` and `differences.csv`, so that none can disagree with another.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from tune_btxrd.scoring.intervals import NOT_ESTIMABLE, Interval
from tune_btxrd.scoring.metrics import CALIBRATION_BINS

EXACT, BOOTSTRAP = "Clopper-Pearson", "bootstrap"
FOOTNOTE = (
    f"Intervals: {EXACT} (exact) where counts stand beside them, else {BOOTSTRAP}; {NOT_ESTIMABLE!r} where the draws do not "
    "differ, or a class is missing in more than 1 % of them."
)
LABELS = {"calibration_error": f"calibration error (ECE, {CALIBRATION_BINS} equal bins)"}
UNDEFINED = "undefined"
AVERAGES = ("ensemble", "soup", "fold ensemble")  # models that several trainings make together; in tables of their own


def score_rows(
    scores: pd.DataFrame, differences: pd.DataFrame | None, *, classes: Sequence[str] | None = None
) -> list[dict[str, str]]:
    """Per metric: `metric`, a cell per single model and, where two are compared, `difference`.

    Args:
        scores, differences: as `score_table` and `difference_table` make them, or read back from their files.
        classes: of the metrics of one class, those of these classes; default: all.
    """
    rows = []
    is_single = ~scores["model"].isin(AVERAGES)
    scores = scores[is_single] if is_single.any() else scores
    for metric, name in _asked(scores, classes):
        mine = scores[(scores["metric"] == metric) & (scores["class"] == name)]
        row = {"metric": metric_label(metric, name)}
        row |= {str(item["model"]): score_cell(dict(item)) for _, item in mine.iterrows()}
        if differences is not None:
            same = differences[(differences["metric"] == metric) & (differences["class"] == name)]
            row["difference"] = difference_cell(dict(same.iloc[0])) if len(same) else ""
        rows.append(row)
    return rows


def average_rows(
    scores: pd.DataFrame, averages: pd.DataFrame | None, *, classes: Sequence[str] | None = None
) -> list[dict[str, str]]:
    """Per metric: `metric`, the winner and, per average, its cell and the paired difference from the winner; none without.

    Args:
        averages: as `average_table` makes it. All else as in `score_rows`.
    """
    if averages is None or not len(averages):
        return []
    rows, single = [], str(scores["model"].iloc[0])
    for metric, name in _asked(scores, classes):
        mine = scores[(scores["metric"] == metric) & (scores["class"] == name)]
        beside = averages[(averages["metric"] == metric) & (averages["class"] == name)]
        cells = {str(item["model"]): score_cell(dict(item)) for _, item in mine.iterrows()}
        row = {"metric": metric_label(metric, name), single: cells[single]}
        for _, item in beside.iterrows():
            model = str(item["model"])
            row |= {model: cells[model], f"{model} - {single}": difference_cell(dict(item))}
        rows.append(row)
    return rows


def _asked(scores: pd.DataFrame, classes: Sequence[str] | None) -> list[tuple[str, str]]:
    """Metric and class of every row to show."""
    pairs = scores[["metric", "class"]].drop_duplicates().itertuples(index=False, name=None)
    return [(metric, name) for metric, name in pairs if classes is None or not name or name in classes]


def class_rows(scores: pd.DataFrame, model: str, *, head: str) -> list[dict[str, str]]:
    """One row per class of one model: its name in a column `head`, then a cell per metric of a class."""
    own = scores[(scores["model"] == model) & (scores["class"] != "")]
    return [
        {head: str(name)} | {metric_label(str(row["metric"])): score_cell(dict(row)) for _, row in group.iterrows()}
        for name, group in own.groupby("class", sort=False)
    ]


def metric_label(metric: str, class_name: str = "") -> str:
    """A metric as a person reads it: "sensitivity Malignant"."""
    return f"{LABELS.get(metric, metric.replace('_', ' '))} {class_name}".strip()


def score_cell(row: Mapping[str, Any]) -> str:
    """`0.500 (0.068-0.932, 2/4)`: exact where it is a share; `0.731 (0.612-0.840)`: bootstrap."""
    if pd.isna(row["value"]):
        return UNDEFINED
    counts = f", {row['found']:.0f}/{row['asked']:.0f}" if not pd.isna(row.get("found")) else ""
    return f"{row['value']:.3f} ({shown_interval(row)}{counts})"


def difference_cell(row: Mapping[str, Any]) -> str:
    """`+0.125 (-0.250 to +0.500)`: of the paired bootstrap."""
    if pd.isna(row["difference"]):
        return UNDEFINED
    interval = shown_interval(row)
    ends = NOT_ESTIMABLE if pd.isna(interval.low) else f"{interval.low:+.3f} to {interval.high:+.3f}"
    return f"{row['difference']:+.3f} ({ends})"


def shown_interval(row: Mapping[str, Any]) -> Interval:
    """The interval of a row of a table; of one written by version 0.1.0, which had no column for it, chosen anew."""
    if "interval" in row and not pd.isna(row["interval"]):
        return Interval(float(row["low"]), float(row["high"]))
    kind = "clopper_pearson" if not pd.isna(row.get("found")) else "bootstrap"
    low, high = float(row[f"{kind}_low"]), float(row[f"{kind}_high"])
    nothing = pd.isna(low) or (kind == "bootstrap" and low == high)
    return Interval(float("nan"), float("nan")) if nothing else Interval(low, high)
