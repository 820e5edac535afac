"""Splits on disk: image_id, part, group, with the targets once beside them; the user's own files under the same checks."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers.spreadsheet import read_table, require_columns, require_values
from tune_btxrd.data.splits.splits import FOLD, PARTS, Split, holdout_ids, is_store, require_classes
from tune_btxrd.errors import DataError, first_line
from tune_btxrd.files import write_whole
from tune_btxrd.tasks.registry import DEFAULT
from tune_btxrd.tasks.task import Task

TARGETS = "targets"  # stem of the file beside the splits that holds every image's target


def split_stem(name: str) -> str:
    """The split's name as part of a file name: "fold 2/5" -> "fold_2_of_5"."""
    return re.sub(r"[^\w.-]+", "_", FOLD.sub(r"fold_\1_of_\2", name))


def split_name(stem: str) -> str:
    """The name behind a file's stem: "fold_2_of_5" -> "fold 2/5"."""
    return re.sub(r"fold_(\d+)_of_(\d+)", r"fold \1/\2", stem)


def asked_name(asked: str) -> str:
    """The name of a split that is asked for, by its name or by the path of its file: "mine" for "splits/mine.csv"."""
    return Path(asked).stem if asked.endswith(".csv") else asked


@dataclass(frozen=True, kw_only=True)
class SplitTable:
    """A split as our files have it: N rows of images in a part."""

    ids: tuple[str, ...]
    parts: np.ndarray  # (N,) text
    groups: np.ndarray  # (N,) text
    centers: np.ndarray  # (N,) text; empty where the dataset names none
    targets: np.ndarray  # N rows, as the task has them


def save_splits(splits: Iterable[Split], folder: Path, *, manifest: Manifest, numbers: np.ndarray) -> None:
    """Writes `<split>.csv` (image_id, part, group) of each, and the targets of all images once, beside them.

    A dataset with centers has them in a column more. All in table order, each file whole or not at all. `numbers` is (N,),
    the group numbers.

    Raises:
        DataError: two splits would share a file.
        ResultError: the folder cannot be written to.
    """
    splits = list(splits)
    require_own_files(splits)
    folder.mkdir(parents=True, exist_ok=True)
    cells = manifest.task.write(manifest.targets, manifest.class_names)
    _write(folder / f"{TARGETS}.csv", {"image_id": manifest.image_ids, **cells})
    for split in splits:
        part_of = {image_id: part for part, ids in split.parts.items() for image_id in ids}
        rows = np.sort(manifest.rows(part_of))
        ids = [manifest.image_ids[row] for row in rows]
        columns = {"image_id": ids, "part": [part_of[i] for i in ids], "group": numbers[rows]}
        if manifest.centers is not None:
            columns["center"] = [manifest.centers[row] for row in rows]
        _write(folder / f"{split_stem(split.name)}.csv", columns)


def require_own_files(splits: Iterable[Split]) -> None:
    """Raises DataError where two splits would share a file, or one would take that of the targets."""
    taken: dict[str, Split] = {}
    for split in splits:
        stem = split_stem(split.name)
        if stem == TARGETS:
            raise DataError(f"A split may not be called {TARGETS}, for {TARGETS}.csv holds the labels: rename its file.")
        if (other := taken.setdefault(stem.casefold(), split)) is not split and other != split:
            names = f"{other.name!r} and {split.name!r}"
            raise DataError(f"Every split must have a file of its own, but {names} would share {stem}.csv: rename one.")


def read_split(
    folder: Path, stem: str, class_names: Sequence[str], *, task: Task = DEFAULT, parts: Sequence[str] = PARTS
) -> SplitTable:
    """What `save_splits` wrote of one split, or version 0.1.0, which had the labels in it; of these parts alone.

    Raises:
        DataError: a table that is missing or damaged, a label that is no class, an image twice or without a target.
    """
    table = _read(folder / f"{stem}.csv", ("image_id", "part", "group"))
    table = table[table["part"].isin(parts)].reset_index(drop=True)
    cells, path = table, folder / f"{TARGETS}.csv"
    if path.is_file():
        known = _read(path, ("image_id",)).set_index("image_id")
        if absent := sorted(set(table["image_id"]) - set(known.index)):
            raise DataError(
                f"Every image of a split must have a target, but {path} lacks {absent[0]}: make the splits again."
            )
        cells = known.loc[table["image_id"]]
    columns = {str(name): cells[name].tolist() for name in cells}
    return SplitTable(
        ids=tuple(table["image_id"]),
        parts=table["part"].to_numpy(dtype=str),
        groups=table["group"].to_numpy(dtype=str),
        centers=table["center"].to_numpy(dtype=str) if "center" in table else np.full(len(table), "", dtype=str),
        targets=task.read(columns, class_names),
    )


def _read(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """A table that we wrote, with these columns at least and each image once."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DataError(f"A split's table must be readable, but {path}: {first_line(error)}.") from error
    if absent := [name for name in columns if name not in table]:
        raise DataError(f"A split's table must have the column {absent[0]}, but {path} has none: restore the file.")
    if twice := table["image_id"][table["image_id"].duplicated()].tolist():
        raise DataError(f"An image must be in a table once, but {path} has {twice[0]!r} twice: restore the file.")
    return table


def _write(path: Path, columns: Mapping[str, Sequence[object] | np.ndarray]) -> None:
    write_whole(path, pd.DataFrame(columns).to_csv(index=False, lineterminator="\n"))


def load_split(path: Path, manifest: Manifest, *, numbers: np.ndarray | None = None, name: str | None = None) -> Split:
    """A split from disk: ours or the user's own. `label` and `group` may be missing there; the test part may be empty.

    Args:
        numbers: (N,) group numbers that must not be torn either, e.g. of duplicates.
        name: of the split; default: from the file's name.

    Raises:
        DataError: an unknown id or part, an image twice, another label, a torn group, a class that a part lacks.
    """
    table = read_table(path)
    require_columns(table, ("image_id", "part"), path)
    ids = manifest.spelled(require_values(table, "image_id", path, "name the image or remove the row"))
    table["image_id"] = ids
    parts = require_values(table, "part", path, f"write {', '.join(PARTS)}")
    if unknown := sorted(set(parts) - set(PARTS)):
        raise DataError(f"The part must be train, val or test, but {path} has {unknown[0]!r}: rename it.")
    labelled = manifest.is_labelled[manifest.rows(ids)].tolist()
    members = {
        part: tuple(i for i, p, fine in zip(ids, parts, labelled, strict=True) if p == part and fine) for part in PARTS
    }
    note = "" if all(labelled) else f"{labelled.count(False)} image(s) of the file have no known label: left out."
    split = Split(name=name or split_name(path.stem), parts=members, note=note)
    _check_labels(table, manifest, path)
    if seen := holdout_ids(manifest) & {*split.parts["train"], *split.parts["val"]}:
        raise DataError(
            f"The hold-out of a label store is only tested on, but {path} trains or validates on {min(seen)}: remove it."
        )
    filled = PARTS if split.parts["test"] and not is_store(manifest) else PARTS[:2]
    require_classes(split, manifest, filled, cure="give {part} an image of {name} in that file")
    for groups in (_own_groups(table, manifest), numbers):
        if groups is not None:
            require_whole_groups(split, manifest, groups)
    return split


def require_whole_groups(split: Split, manifest: Manifest, numbers: np.ndarray) -> None:
    """Raises DataError, with an example, where images of one group lie in two parts. `numbers` is (N,)."""
    first: dict[int, tuple[str, str]] = {}
    for part, ids in split.parts.items():
        for image_id, number in zip(ids, numbers[manifest.rows(ids)].tolist(), strict=True):
            other, other_part = first.setdefault(number, (image_id, part))
            if other_part != part:
                raise DataError(
                    f"Images of one group must lie in one part, but in split {split.name!r} {other} is in {other_part} and "
                    f"{image_id} of the same group in {part}: move one, or allow it with --groups none."
                )


def _check_labels(table: pd.DataFrame, manifest: Manifest, path: Path) -> None:
    rows = manifest.rows(table["image_id"])
    known = manifest.task.write(manifest.targets[rows], manifest.class_names)
    for column in (column for column in known if column in table):
        for image_id, found, label in zip(table["image_id"], table[column], known[column], strict=True):
            if found != label:
                raise DataError(
                    f"Labels of a split must be the dataset's, but {path} calls {image_id} {found!r} where the dataset says "
                    f"{label!r}: the split belongs to another dataset or revision; make it again."
                )


def _own_groups(table: pd.DataFrame, manifest: Manifest) -> np.ndarray | None:
    """The file's groups as (N,) numbers; images that it does not name, or names no group for, stand alone."""
    if "group" not in table:
        return None
    numbers = -1 - np.arange(len(manifest))
    named = table[table["group"].notna()]
    numbers[manifest.rows(named["image_id"])] = pd.factorize(named["group"])[0]
    return np.asarray(numbers)
