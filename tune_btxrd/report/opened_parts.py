"""Test parts that `evaluate` has opened, as the report tells them: read from its tables, never scored here."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tune_btxrd.data.splits.split_files import split_name
from tune_btxrd.errors import ResultError
from tune_btxrd.evaluation.openings import LOG_FILE, read_openings
from tune_btxrd.results.checkpoints import WINNER
from tune_btxrd.scoring.cells import average_rows, class_rows, score_rows
from tune_btxrd.scoring.collapse import collapse_warnings, headline
from tune_btxrd.scoring.csv_tables import read_csv

PICTURES = {  # file of `evaluate` -> what it shows
    "confusion": "Confusion: counts, and the share of the true class",
    "roc": "ROC curves; marks are the operating points, chosen on validation",
    "pr": "Precision and recall; marks are the operating points",
    "reliability": "Reliability: how often a probability comes true, before and after calibration",
}
TABLES = ("scores", "differences", "operating_points", "averages")


@dataclass(frozen=True, kw_only=True)
class OpenedPart:
    """One split's test part.

    Attributes:
        split: its name; opened: how often `evaluate` has opened it for this search.
        images: of the latest opening.
        rows: metric, then winner, hand-made and difference as far as there are two models, with 95 % intervals; empty where
            the scoring failed after the opening. Of the classes the positive one; of independent labels none.
        label_rows: of independent labels, the winner's scores of each.
        average_rows: ensemble and soup beside the winner, with paired differences; empty where none was made.
        notes: what a reader must know beside the numbers; warnings: what says that the model does not work there.
        headline: the scores that come first.
        points: the operating points with what they achieve; empty where they were not kept.
        pictures: name -> PNG.
    """

    split: str
    opened: int
    images: int
    rows: tuple[dict[str, str], ...]
    label_rows: tuple[dict[str, str], ...]
    average_rows: tuple[dict[str, str], ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    headline: str
    points: tuple[dict[str, str], ...]
    pictures: dict[str, bytes]


def read_opened_parts(checkpoints: Path, positive_class: str, *, labels: Sequence[str] = ()) -> tuple[OpenedPart, ...]:
    """Every test part that was opened, `stratified` first; empty where none was.

    Args:
        labels: names of independent labels; empty where classes exclude each other.

    Raises:
        ResultError: a log of openings or a table is damaged.
    """
    found = [_read(log.parent, positive_class, labels) for log in checkpoints.glob(f"*/evaluation/{LOG_FILE}")]
    return tuple(sorted(found, key=lambda part: (part.split != "stratified", part.split)))


def _read(folder: Path, positive_class: str, labels: Sequence[str]) -> OpenedPart:
    openings = read_openings(folder)
    try:
        scores, differences, points, averages = (_table(folder / f"{name}.csv") for name in TABLES)
        summary = folder / "summary.json"
        notes = json.loads(summary.read_text(encoding="utf-8")).get("notes", ()) if summary.is_file() else ()
        return OpenedPart(
            split=split_name(folder.parent.name),
            opened=openings[-1]["count"],
            images=int(openings[-1]["images"]),
            rows=()
            if scores is None
            else tuple(score_rows(scores, differences, classes=() if labels else [positive_class])),
            label_rows=tuple(class_rows(scores, WINNER, head="label")) if scores is not None and labels else (),
            average_rows=()
            if scores is None
            else tuple(average_rows(scores, averages, classes=() if labels else [positive_class])),
            notes=tuple(notes),
            warnings=() if scores is None else tuple(collapse_warnings(scores, labels or [positive_class])),
            headline="" if scores is None else headline(scores, positive_class),
            points=() if points is None else tuple(_point_rows(points)),
            pictures={name: file.read_bytes() for name in PICTURES if (file := folder / f"{name}.png").is_file()},
        )
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ResultError(
            f"The tables in {folder} must be those of `evaluate`, but one is damaged: evaluate again."
        ) from error


def _point_rows(points: pd.DataFrame) -> list[dict[str, str]]:
    """Per model, operating point and, where they have their own, label: threshold, and each metric as a cell."""
    rows = []
    labels = ["class"] if "class" in points else []
    for (model, *label, name), group in points.groupby(["model", *labels, "operating_point"], sort=False):
        cells = {row["metric"]: row[str(model)] for row in score_rows(group.assign(**{"class": ""}), None)}
        head = {"config": str(model), **dict(zip(("label",), map(str, label), strict=False)), "operating point": str(name)}
        rows.append({**head, "threshold": f"{group['threshold'].iloc[0]:.4f}", **cells})
    return rows


def _table(path: Path) -> pd.DataFrame | None:
    return read_csv(path) if path.is_file() else None
