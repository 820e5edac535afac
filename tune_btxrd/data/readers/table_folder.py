"""Table reader: own data with `manifest.csv` (image_id, path, label or label:NAME ..., [, center, group, ...])."""

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers.btxrd import require_files
from tune_btxrd.data.readers.label_columns import label_columns, read_labels
from tune_btxrd.data.readers.names import apart, check_id, check_name
from tune_btxrd.data.readers.paths import FileFinder
from tune_btxrd.data.readers.spreadsheet import read_sheet, require_columns, require_values
from tune_btxrd.errors import DataError
from tune_btxrd.tasks.multiclass import LABEL

MANIFEST_NAME = "manifest.csv"


def read_folder(root: Path, *, dataset: str, table_only: bool = False, exclude: Collection[str] = ()) -> Manifest:
    """The dataset in `root`. Excluded images are still in it, but their files may be missing.

    Classes are in alphabetical order, labels in that of their columns (`label_columns.py`); the positive class or label
    is the rarest (at a tie the first). A blank group is a group
    of its own. Further columns stay in the table; those that hold only numbers become numbers.

    Args:
        dataset: the manifest's short name.
        table_only: look for no images; every file is None.
        exclude: ids whose image may be missing.

    Raises:
        DataError: a missing column, value or image, an answer that is none, fewer than two classes, a path that leads out
            of the folder.
    """
    finder = FileFinder(root)
    path = finder.find(MANIFEST_NAME, "The table")
    if path is None:
        raise DataError(f"{root} must hold {MANIFEST_NAME}, but does not: write one.")
    table, notes = read_sheet(path, needs=("image_id", "path"))
    require_columns(table, ("image_id", "path", *(() if label_columns(table.columns) else (LABEL,))), path)
    image_ids = require_values(table, "image_id", path, "name the image or remove the row")
    paths = require_values(table, "path", path, "give the file, relative to the folder")
    labels = read_labels(table, path)
    check_cells(table)
    located = zip(table.index, paths, strict=True)
    files = [finder.find(file, f"path in row {number} of {path}") for number, file in located]
    manifest = Manifest(
        dataset=dataset,
        root=root.resolve(),
        image_ids=tuple(image_ids),
        files=tuple(None if table_only else file for file in files),
        targets=labels.targets,
        class_names=labels.class_names,
        positive_class=labels.positive_class,
        centers=named_centers(table, path),
        groups=given_groups(table),
        table=typed_columns(table),
        annotations=(None,) * len(image_ids),
        notes=(*notes, *labels.notes, *finder.notes()),
        task=labels.task,
    )
    if not table_only:
        require_files(manifest, exclude, where="the path that manifest.csv gives", nearest=_nearest(manifest, paths, finder))
    return manifest


def _nearest(manifest: Manifest, paths: list[str], finder: FileFinder) -> str:
    """The first path without a file and the file that looks most like it, for a message; empty where there is none."""
    for path, file in zip(paths, manifest.files, strict=True):
        if file is None:
            near = finder.nearest(path)
            return "{}, nearest is {}".format(*apart(path, near)) if near else ""
    return ""


def check_cells(table: pd.DataFrame) -> None:
    """Raises DataError for ids, centers and groups that cannot be names."""
    for number, image_id in table["image_id"].items():
        check_id(image_id, f"image_id in row {number}")
    for name in (name for name in ("center", "group") if name in table):
        for value in table[name].dropna().unique():
            check_name(value, name)


def named_centers(table: pd.DataFrame, path: Path) -> tuple[str, ...] | None:
    """The hospital of each row, or None where the table names none. Raises: DataError where some cells are blank."""
    if "center" not in table or table["center"].isna().all():
        return None
    return tuple(require_values(table, "center", path, "fill it in, or remove the whole column"))


def given_groups(table: pd.DataFrame) -> tuple[str, ...] | None:
    """The group of each row, "" where the cell is blank; None where the table names none."""
    if "group" not in table or table["group"].isna().all():
        return None
    return tuple(str(group) for group in table["group"].fillna(""))


def typed_columns(table: pd.DataFrame) -> pd.DataFrame:
    """The table with numbers in the columns that hold nothing else."""
    typed = table.reset_index(drop=True)
    for name in typed.columns.difference(["image_id", "path", LABEL, "center", "group"]):
        numbers = pd.to_numeric(typed[name], errors="coerce")
        if (numbers.notna() == typed[name].notna()).all():
            typed[name] = numbers
    return typed
