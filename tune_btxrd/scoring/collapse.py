"""A test result that collapses: rules by which a reader is warned before anything else. They read `scores.csv`."""

from collections.abc import Collection, Iterator
from math import comb
from typing import Any

import pandas as pd

from tune_btxrd.scoring.cells import metric_label, score_cell, shown_interval

CHANCE = 0.5  # area under the ROC curve
FLOOR = 0.5  # sensitivity of the positive class: below, it misses more than it finds
PERFECT_BY_CHANCE = 0.025  # one side of a 95 % interval
AREAS = ("macro_auc", "auc")
HEADLINE = ("macro_auc", "sensitivity")


def collapse_warnings(scores: pd.DataFrame, classes: Collection[str]) -> list[str]:
    """Of the winner (the first model): an area that may be chance, too few found, validation that promised more.

    Args:
        scores: one split's table; `validation` holds the winner's own scores on its validation part where it is known.
        classes: those that the model is asked about: the positive class; of independent labels all.
    """
    winner = scores[scores["model"] == scores["model"].iloc[0]] if len(scores) else scores
    rows = [line for _, row in winner.iterrows() for line in _of_row(row, classes)]
    return rows + [line for name in classes for line in _perfect_by_luck(winner[winner["class"] == name])]


def headline(scores: pd.DataFrame, positive_class: str) -> str:
    """The winner's macro-AUC and the positive class's sensitivity, with their intervals."""
    winner = scores[scores["model"] == scores["model"].iloc[0]]
    told = []
    for metric in HEADLINE:
        mine = winner[(winner["metric"] == metric) & winner["class"].isin(["", positive_class])]
        told += [f"{metric_label(metric, row['class'])} {score_cell(dict(row))}" for _, row in mine.iterrows()]
    return ", ".join(told)


def _perfect_by_luck(rows: pd.DataFrame) -> Iterator[str]:
    """An area of 1, of which no draw differs, on so few images that pure chance ranks them right as well: 1 of all
    `comb(images, yes)` orders does.
    """
    counts = rows.drop_duplicates("metric").set_index("metric")
    if not {"auc", "sensitivity", "specificity"} <= set(counts.index) or counts.loc["auc", "value"] != 1:
        return
    asked = pd.to_numeric(counts["asked"])
    if pd.isna(asked["sensitivity"]) or pd.isna(asked["specificity"]):
        return
    yes, no = int(asked["sensitivity"]), int(asked["specificity"])
    if 1 / comb(yes + no, yes) > PERFECT_BY_CHANCE:
        said = f"{metric_label('auc', str(counts.loc['auc', 'class']))} {score_cell(dict(counts.loc['auc']))}"
        yield f"{said} may be chance: on {yes} against {no} images, 1 of {comb(yes + no, yes)} random orders is as good."


def _of_row(row: "pd.Series[Any]", classes: Collection[str]) -> Iterator[str]:
    metric, interval = str(row["metric"]), shown_interval(dict(row))
    said = f"{metric_label(metric, str(row['class']))} {score_cell(dict(row))}"
    if metric == "sensitivity" and row["value"] == 0:
        yield f"{said}: the model finds none of them."
    if row["class"] and row["class"] not in classes:
        return
    if pd.isna(interval.low):
        if metric in AREAS and float(row["value"]) < CHANCE:
            yield f"{said} lies below chance ({CHANCE}), on too few images for an interval."
        elif metric in AREAS and float(row["value"]) < 1:  # of 1 no draw differs, however many images there are
            yield f"{said} may be chance: it has no interval that says otherwise."
        return
    if metric in AREAS and interval.high < CHANCE:
        yield f"{said} is worse than chance ({CHANCE}): the model ranks the wrong way on this test part."
    elif metric in AREAS and interval.low <= CHANCE:
        yield f"{said} may be chance: its interval contains {CHANCE}."
    if metric == "sensitivity" and row["value"] and interval.high < FLOOR:
        yield f"{said} lies below {FLOOR}: the model misses more than it finds."
    before = row.get("validation")
    if metric in HEADLINE and not pd.isna(before) and float(before) > interval.high:
        yield f"{said}: validation promised {float(before):.3f}, which lies above the whole interval."
