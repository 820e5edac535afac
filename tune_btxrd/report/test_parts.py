"""What `evaluate` found on the test parts, as the report tells it: read from its tables, never scored here."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tune_btxrd.data.splits.split_files import split_name
from tune_btxrd.evaluation.openings import LOG_FILE, read_openings

TOLD = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc", "sensitivity", "specificity", "auc", "average_precision")


@dataclass(frozen=True, kw_only=True)
class OpenedPart:
    """One split's test part.

    Attributes:
        split: its name; opened: how often `evaluate` has opened it for this search.
        images: of the latest opening.
        rows: metric, then winner, hand-made and difference as far as there are two models, with 95 % intervals; empty where
            the scoring failed after the opening.
        notes: what a reader must know beside the numbers.
    """

    split: str
    opened: int
    images: int
    rows: tuple[dict[str, str], ...]
    notes: tuple[str, ...]


def read_test_parts(checkpoints: Path, positive_class: str) -> tuple[OpenedPart, ...]:
    """Every test part that was opened, `stratified` first; empty where none was.

    Raises:
        ResultError: a log of openings is damaged.
    """
    found = []
    for log in checkpoints.glob(f"*/evaluation/{LOG_FILE}"):
        openings = read_openings(log.parent)
        summary = log.parent / "summary.json"
        notes = json.loads(summary.read_text(encoding="utf-8")).get("notes", ()) if summary.is_file() else ()
        found.append(
            OpenedPart(
                split=split_name(log.parent.parent.name),
                opened=len(openings),
                images=int(openings[-1]["images"]),
                rows=tuple(_rows(log.parent, positive_class)),
                notes=tuple(notes),
            )
        )
    return tuple(sorted(found, key=lambda part: (part.split != "stratified", part.split)))


def _rows(folder: Path, positive_class: str) -> Iterator[dict[str, str]]:
    """Metrics over all classes and those of the positive one, in the order of the evaluation's own table."""
    if not (folder / "scores.csv").is_file():
        return
    scores = _read(folder / "scores.csv")
    differences = _read(folder / "differences.csv") if (folder / "differences.csv").is_file() else None
    for metric, class_name in scores[["metric", "class"]].drop_duplicates().itertuples(index=False):
        if metric not in TOLD or class_name not in ("", positive_class):
            continue
        row = {"metric": f"{metric} {class_name}".strip().replace("_", " ")}
        mine = scores[(scores["metric"] == metric) & (scores["class"] == class_name)]
        row |= {str(item["model"]): _cell(item, "value", "{:.3f}") for _, item in mine.iterrows()}
        if differences is not None:
            same = differences[(differences["metric"] == metric) & (differences["class"] == class_name)]
            row["difference"] = _cell(same.iloc[0], "difference", "{:+.3f}") if len(same) else ""
        yield row


def _read(path: Path) -> pd.DataFrame:
    frame = pd.read_csv(path, keep_default_na=False, na_values=[""])  # a class may be called "None"
    return frame.assign(**{"class": ["" if pd.isna(name) else str(name) for name in frame["class"]]})


def _cell(row: "pd.Series[Any]", column: str, form: str) -> str:
    """`0.429 [0.154, 0.693]`; "undefined" for a score without a value, e.g. of a class that is not there."""
    if pd.isna(row[column]):
        return "undefined"
    low, high = (form.format(row[name]) for name in ("bootstrap_low", "bootstrap_high"))
    return f"{form.format(row[column])} [{low}, {high}]"
