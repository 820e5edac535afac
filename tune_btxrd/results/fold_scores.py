"""Scores of folds as they lie on disk, in words: of the winner on all folds, and of nested searches beside it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tune_btxrd.errors import ResultError, first_line
from tune_btxrd.scoring.csv_tables import read_csv
from tune_btxrd.scoring.intervals import Interval

FOLDS, NESTED = "folds.csv", Path("nested") / "folds.csv"
SHOWN = ("macro_auc", "balanced_accuracy", "macro_f1")
SUMMARY = ("mean", "sd", "low", "high")


@dataclass(frozen=True, kw_only=True)
class FoldScores:
    """The summary of one score over folds; `interval` is the corrected one."""

    name: str
    mean: float
    sd: float
    interval: Interval

    def __str__(self) -> str:
        return f"{self.name} {self.mean:.3f} +- {self.sd:.3f} (corrected 95 % interval: {self.interval})"


def fold_scores(checkpoints: Path, *, nested: bool = False) -> list[FoldScores]:
    """The scores to show of `checkpoints/<name>`; none where it holds no folds, or no nested ones.

    Raises:
        ResultError: a table that is not one of folds.
    """
    path = checkpoints / (NESTED if nested else FOLDS)
    if not path.is_file():
        return []
    try:
        table = read_csv(path).astype({"fold": str}).set_index("fold")
        return [_summary(table, name) for name in SHOWN if name in table]
    except (KeyError, ValueError, OSError) as error:
        raise ResultError(f"{path} must be a table of folds, but: {first_line(error)}. Score the folds again.") from error


def fold_lines(checkpoints: Path) -> Iterator[str]:
    """Sentences on what the folds gave, and nested searches beside it."""
    yield from (f"Folds: {item}." for item in fold_scores(checkpoints))
    yield from nested_lines(checkpoints)


def nested_lines(checkpoints: Path) -> Iterator[str]:
    """Sentences on what nested searches gave on images that their choice never saw; none without them."""
    chosen_here = {item.name: item for item in fold_scores(checkpoints)}
    for item in fold_scores(checkpoints, nested=True):
        more = chosen_here[item.name].mean - item.mean if item.name in chosen_here else None
        flattered = "" if more is None else f"; choosing on the images that are scored makes {more:+.3f}"
        yield f"Nested, each config chosen without the images that it is scored on: {item}{flattered}."


def _summary(table: pd.DataFrame, name: str) -> FoldScores:
    mean, sd, low, high = table.loc[list(SUMMARY), name].astype(float)
    return FoldScores(name=name, mean=mean, sd=sd, interval=Interval(low, high))
