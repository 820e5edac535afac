"""Label columns: targets of a table, from its one column `label`, or from one column `label:NAME` per label."""

import csv
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tune_btxrd.data.readers.names import check_class_names, check_label_names, check_name, examples
from tune_btxrd.data.readers.spreadsheet import HEADER_WITHIN, column_name, require_values
from tune_btxrd.errors import DataError
from tune_btxrd.tasks.multiclass import LABEL, MULTICLASS
from tune_btxrd.tasks.multilabel import MULTILABEL, NO, PREFIX, UNKNOWN, YES
from tune_btxrd.tasks.task import Task

ANSWERS = {  # lower case; as people and libraries write them
    **dict.fromkeys(("1", "1.0", "true", "yes"), YES),
    **dict.fromkeys(("0", "0.0", "false", "no"), NO),
}


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What a table says of its images: N targets, as the task has them."""

    task: Task
    targets: np.ndarray
    class_names: tuple[str, ...]
    positive_class: int  # the rarest
    notes: tuple[str, ...] = ()


def label_columns(columns: pd.Index) -> list[str]:
    """The columns `label:NAME`, in their order."""
    return [str(name) for name in columns if str(name).startswith(PREFIX)]


def has_label_columns(path: Path) -> bool:
    """Whether a header among the first rows has a column `label:NAME`; a file that cannot be read has none."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(itertools.islice(csv.reader(file), HEADER_WITHIN))
    except (OSError, UnicodeDecodeError, csv.Error):
        return False  # whoever reads the table says what is wrong with it
    return any(label_columns(pd.Index(column_name(cell) for cell in row)) for row in rows)


def read_labels(table: pd.DataFrame, path: Path) -> Labels:
    """Classes in alphabetical order from the column `label`, or labels in the order of their columns `label:NAME`.

    Raises:
        DataError: both kinds of columns, a blank class, an answer that is neither yes, no nor blank, a name that is none.
    """
    several = label_columns(table.columns)
    if several and LABEL in table:
        raise DataError(
            f"{path} must have one column {LABEL!r} (one class per image), or columns {PREFIX}NAME (several labels), "
            f"but has {LABEL!r} and {several[0]!r}: remove one of the two kinds."
        )
    return _answers(table, several, path) if several else _classes(table, path)


def _classes(table: pd.DataFrame, path: Path) -> Labels:
    labels = require_values(table, LABEL, path, "give the class or remove the row")
    for value in table[LABEL].dropna().unique():
        check_name(value, LABEL)
    names = tuple(sorted(set(labels)))
    check_class_names(names, str(path))
    index_of = {name: index for index, name in enumerate(names)}
    targets = np.array([index_of[label] for label in labels], dtype=np.int64)
    return Labels(task=MULTICLASS, targets=targets, class_names=names, positive_class=MULTICLASS.rarest(targets))


def _answers(table: pd.DataFrame, columns: list[str], path: Path) -> Labels:
    names = tuple(column.removeprefix(PREFIX) for column in columns)
    if "" in names:
        raise DataError(f"A label must have a name, but {path} has a column {PREFIX!r}: write {PREFIX}NAME.")
    check_label_names(names, str(path))
    targets = np.stack([_column(table[column], path) for column in columns], axis=1)
    notes = []
    if nothing := int((targets == UNKNOWN).all(axis=1).sum()):
        notes.append(f"{nothing} image(s) have no known label: they are in no part of a split.")
    if empty := [name for name, known in zip(names, (targets != UNKNOWN).any(axis=0), strict=True) if not known]:
        notes.append(f"Nothing is known of {examples(empty)}: nothing can be learned of it.")
    rarest = MULTILABEL.rarest(targets)
    return Labels(task=MULTILABEL, targets=targets, class_names=names, positive_class=rarest, notes=tuple(notes))


def _column(cells: "pd.Series[str]", path: Path) -> np.ndarray:
    """(N,) answers of a column. Raises DataError with the row and the column of a cell that is no answer."""
    answers = np.full(len(cells), UNKNOWN, dtype=np.int64)
    for position, (row, cell) in enumerate(cells.items()):
        if cell is None or pd.isna(cell):
            continue
        if (answer := ANSWERS.get(str(cell).lower())) is None:
            raise DataError(
                f"An answer must be 1, 0 or empty (unknown), but row {row} of {path} has {str(cell)[:40]!r} in column "
                f"{cells.name!r}: correct it."
            )
        answers[position] = answer
    return answers
