"""Exchange: labels that a table brings into a store, and a store's labels as the table that our reader takes."""

import csv
import io
import itertools
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tune_btxrd.data.readers.label_store import StoreState, read_state
from tune_btxrd.data.readers.names import examples
from tune_btxrd.data.readers.spreadsheet import read_sheet
from tune_btxrd.data.readers.table_folder import MANIFEST_NAME
from tune_btxrd.errors import DataError
from tune_btxrd.files import write_whole
from tune_btxrd.labels.grouping import keys_of, plain
from tune_btxrd.labels.records import IMPORTED, Act
from tune_btxrd.labels.store import LabelStore

PREFIX = "label:"  # of a column that answers one label
CELLS = {"1": 1, "0": 0, "1.0": 1, "0.0": 0, "true": 1, "false": 0, "yes": 1, "no": 0}
AMBIGUOUS = -1
NAMING = ("sha256", "path", "image_id")  # columns by which a table names an image, the first that it has


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What an import did; numbers of images."""

    rows: int
    recorded: int  # images with an answer that the annotator had not given before
    unchanged: int
    blank: int  # rows without any answer


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What an export wrote."""

    file: Path
    images: int
    event: int  # the last one that counts
    kept: Path | None  # what lay there before under the table's name, where it said something else


def import_labels(store: LabelStore, path: Path, *, annotator: str = IMPORTED) -> Imported:
    """Records the labels of a table: columns `label:NAME` with 1, 0 or blank, or `label` in a store of classes.

    All rows are recorded, or none. The same table again records nothing.

    Args:
        annotator: whose answers they are.

    Raises:
        DataError: a column, a cell or an image that the store does not know; an image in two rows that differ.
    """
    table, _ = read_sheet(path)
    columns = _label_columns(table, store, path)
    numbers = _numbers(table, store, path)
    said: dict[int, dict[str, int]] = {}
    blank = 0
    for row, number in zip(table.index, numbers, strict=True):
        answers = _answers(table.loc[row], columns, f"row {row} of {path}")
        blank += not answers
        if answers and said.setdefault(number, answers) != answers:
            raise DataError(f"An image has one row, but row {row} of {path} says otherwise than one above: remove one.")
    fresh = {number: answers for number, answers in said.items() if not _holds(store, number, annotator, answers)}
    store.record_all(
        [
            Act(kind="label", image=number, annotator=annotator, client=uuid.uuid4().hex, arm=IMPORTED, answers=answers)
            for number, answers in fresh.items()
        ]
    )
    return Imported(rows=len(table), recorded=len(fresh), unchanged=len(said) - len(fresh), blank=blank)


def export_labels(store: LabelStore, folder: Path | None = None, *, event: int | None = None) -> Exported:
    """Writes `manifest.csv`: every image with a known label; hold-out images are in part `test`, the others in `train`.

    A `manifest.csv` that is there already and says something else, e.g. the user's own, is kept under another name.

    Args:
        folder: where it goes; paths in it are relative to this. Default: the folder above all images.
        event: the last one that counts; default: all.

    Raises:
        DataError: nothing labelled, an image outside the folder, a name that a table cannot hold.
    """
    state = read_state(store.path, event=event)
    if not state.images:
        raise DataError(f"A label store must hold labels to export them, but {store.path} has none: label some images.")
    files = [Path(os.path.normpath(store.folder / image.path)) for image in state.images]
    home = _home(folder, files)
    rows = [_row(state, index, file.relative_to(home).as_posix()) for index, file in enumerate(files)]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    kept = _keep(home / MANIFEST_NAME, text.getvalue().encode())
    write_whole(home / MANIFEST_NAME, text.getvalue())
    return Exported(file=home / MANIFEST_NAME, images=len(rows), event=state.event, kept=kept)


def _keep(file: Path, content: bytes) -> Path | None:
    """A copy of a file under the next free name, `manifest.1.csv`; None where there is no file, or it has this content."""
    if not file.exists() or (before := file.read_bytes()) == content:
        return None
    names = (file.with_name(f"{file.stem}.{number}{file.suffix}") for number in itertools.count(1))
    kept = next(name for name in names if not name.exists() or name.read_bytes() == before)
    write_whole(kept, before)
    return kept


def _home(folder: Path | None, files: Sequence[Path]) -> Path:
    """The folder that the table goes to. Raises: DataError where an image lies outside."""
    above = Path(os.path.commonpath([file.parent for file in files]))
    if folder is None:
        return above
    home = folder.resolve()
    if outside := [file for file in files if not file.is_relative_to(home)]:
        raise DataError(
            f"An exported table must lie above its images, but {outside[0]} is not below {home}: export to {above}."
        )
    return home


def _row(state: StoreState, index: int, path: str) -> dict[str, str]:
    image = state.images[index]
    row = {"image_id": image.image_id, "path": path}
    if state.task == "multiclass":
        row["label"] = next(name for number, name in state.labels.items() if image.values.get(number) == 1)
    else:
        row |= {f"{PREFIX}{name}": str(image.values.get(number, "")) for number, name in state.labels.items()}
    row |= {"group": image.group, "part": "test" if image.holdout else "train"}
    return row | ({"center": image.center or ""} if any(item.center for item in state.images) else {})


def _label_columns(table: pd.DataFrame, store: LabelStore, path: Path) -> dict[str, dict[str, dict[str, int]]]:
    """Column -> cell -> answers. Raises: DataError for a column that is no label, or none at all."""
    names = [label.name for label in store.labels]
    if store.task == "multiclass":
        if "label" not in table:
            raise DataError(f"{path} must have the column `label` with a class per image, but has none: add it.")
        return {"label": {name: {name: 1} for name in names}}
    spelled = {f"{PREFIX}{' '.join(name.casefold().split())}": name for name in names}
    found = {str(column): str(column).casefold() for column in table if str(column).casefold().startswith(PREFIX)}
    if not found:
        raise DataError(f"{path} must have columns label:NAME with 1, 0 or nothing, but has none: add one.")
    if unknown := [column for column, plain_name in found.items() if plain_name not in spelled]:
        raise DataError(
            f"Every label:NAME column must be a label of the store ({examples(names, 12)}), but {path} has {unknown[0]!r}: "
            "rename or remove it, or add the label with `labels extend`."
        )
    answers = {column: spelled[plain_name] for column, plain_name in found.items()}
    return {column: {cell: {name: value} for cell, value in CELLS.items()} for column, name in answers.items()}


def _answers(row: "pd.Series[str]", columns: Mapping[str, Mapping[str, Mapping[str, int]]], where: str) -> dict[str, int]:
    """Label -> 1 or 0, of the cells of a row that are filled. Raises: DataError for a cell that is no answer."""
    answers: dict[str, int] = {}
    for column, meanings in columns.items():
        cell = row[column]
        if cell is None or pd.isna(cell):
            continue
        found = meanings.get(str(cell), meanings.get(str(cell).lower()))
        if found is None:
            known = "1, 0 or blank" if column != "label" else f"one of {examples(list(meanings), 12)}"
            raise DataError(f"A cell of {column!r} must be {known}, but {where} has {str(cell)[:60]!r}: mend it.")
        answers |= found
    return answers


def _numbers(table: pd.DataFrame, store: LabelStore, path: Path) -> list[int]:
    """The image of every row. Raises: DataError for rows that name none of the store, or could name two."""
    naming = [name for name in NAMING if name in table]
    if not naming:
        raise DataError(f"{path} must name its images in a column {', '.join(NAMING)}, but has none of them: add one.")
    index = _index(store, path.resolve().parent, naming[0])
    linked: dict[Path, int] = {}
    numbers, unknown = [], []
    for row, named in zip(table.index, table[naming[0]], strict=True):
        found = index.get(plain(named or ""))
        if found == AMBIGUOUS:
            raise DataError(f"A row must name one image, but {named!r} in row {row} of {path} fits several: give paths.")
        if found is None and naming[0] == "path":  # through a link to a folder
            linked = linked or _by_file(store)
            found = linked.get((path.resolve().parent / plain(named or "")).resolve())
        if found is None:
            unknown.append(f"{named!r} in row {row}")
        else:
            numbers.append(found)
    if unknown:
        raise DataError(
            f"Every image of {path} must be in the store, but {len(unknown)} are not ({examples(unknown)}): add their "
            "folder with `labels add`, or remove the rows."
        )
    return numbers


def _index(store: LabelStore, folder: Path, naming: str) -> dict[str, int]:
    """What a table may call each image -> its number."""
    rows = store.database.rows("SELECT image, image_id, path, sha256 FROM images")
    if naming == "sha256":
        return {sha256: number for number, _, _, sha256 in rows}
    exact: dict[str, int] = {image_id: number for number, image_id, _, _ in rows}
    loose: dict[str, int] = {}
    for number, _, path, _ in rows:
        file = Path(os.path.normpath(store.folder / path))
        for key in dict.fromkeys(keys_of(file, (folder, store.folder))):
            loose[key] = number if loose.get(key, number) == number else AMBIGUOUS
    return {**loose, **exact}


def _by_file(store: LabelStore) -> dict[Path, int]:
    """Where each image's file is -> its number, links resolved."""
    rows = store.database.rows("SELECT image, path FROM images")
    return {(store.folder / path).resolve(): number for number, path in rows}


def _holds(store: LabelStore, number: int, annotator: str, answers: Mapping[str, int]) -> bool:
    """Whether the annotator says all that already."""
    held = store.answers_of(number, annotator)
    return all(held.get(name) == value for name, value in answers.items())
