"""Groups: which images must stay in the same part, because they are the same file or, probably, the same patient."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers.btxrd import REGION_COLUMNS, SITE_COLUMNS, TYPE_COLUMNS
from tune_btxrd.data.readers.spreadsheet import read_table, require_columns, require_values
from tune_btxrd.errors import DataError

GroupKind = Literal["duplicates", "patients", "none"]
Pair = tuple[str, str]

PERSON_COLUMNS = ("age", "gender")
MANY_SITES_COLUMN = "multiple osteochondromas"


def duplicate_pairs(hashes: Mapping[str, str], order: Sequence[str]) -> list[Pair]:
    """Every image whose bytes stood earlier in the table, as (first image with these bytes, this image).

    Args:
        hashes: image id -> hash of the file's bytes; images without a hash (missing files) are left out.
        order: image ids in table order.
    """
    first_of: dict[str, str] = {}
    hashed = [image_id for image_id in order if image_id in hashes]
    return [(first, i) for i in hashed if (first := first_of.setdefault(hashes[i], i)) != i]


def read_pairs(path: Path) -> list[Pair]:
    """Duplicate pairs from a table with the columns `first` and `second` (further columns are ignored).

    Raises:
        DataError: the file is no such table, or a row does not name two different images.
    """
    table = read_table(path)
    require_columns(table, ("first", "second"), path)
    cure = "name both images or remove the row"
    firsts, seconds = (require_values(table, column, path, cure) for column in ("first", "second"))
    for row, first, second in zip(table.index, firsts, seconds, strict=True):
        if first == second:
            raise DataError(
                f"A pair must name two different images, but row {row} of {path} has {first!r} twice: remove it."
            )
    return list(zip(firsts, seconds, strict=True))


def group_numbers(manifest: Manifest, pairs: Iterable[Pair], kind: GroupKind = "duplicates") -> np.ndarray:
    """Group number per image: images with the same number must stay in the same part.

    Groups given by the manifest always hold. `duplicates` joins the pairs; `patients` also joins neighbouring rows that
    are probably one patient (`patient_links`); `none` joins nothing else.

    Returns:
        (N,) int64; numbers count up from 0 in the order in which groups first appear in the table.

    Raises:
        DataError: a pair names an image that the dataset does not hold, or patients cannot be told from the table.
    """
    links = _given_links(manifest)
    if kind != "none":
        links += _pair_links(manifest, pairs)
    if kind == "patients" and (manifest.groups is None or names_persons(manifest)):
        links += [(int(row), int(row) + 1) for row in np.flatnonzero(patient_links(manifest))]
    return _components(len(manifest), links)


def patient_links(manifest: Manifest) -> np.ndarray:
    """Whether each row and the next are probably views of one patient: (N-1,) bool.

    Both rows agree in center, class, age, gender and tumour type, and they share a body site, or a region where no site
    is given. A patient with multiple osteochondromas is imaged at many sites, so there the site is not asked.
    Without the site, precision falls; without the exception, recall falls (`tests/test_data_groups.py` measures both).

    Raises:
        DataError: the table has no columns `age` and `gender`.
    """
    if not names_persons(manifest):
        raise DataError(
            f"Groups of patients need the columns {' and '.join(PERSON_COLUMNS)} or given groups, but {manifest.dataset} "
            "has neither: name the patients in a column `group`, or use --groups duplicates."
        )
    table = manifest.table
    same = manifest.task.same(manifest.targets[1:], manifest.targets[:-1])
    if manifest.centers is not None:
        same &= np.array(manifest.centers[1:]) == np.array(manifest.centers[:-1])
    for column in (*PERSON_COLUMNS, *_present(table, TYPE_COLUMNS)):
        values = table[column].to_numpy(dtype=object)
        same &= np.asarray(values[1:] == values[:-1], dtype=bool) & pd.notna(values[1:])
    many_sites = np.any(_flags(table, (MANY_SITES_COLUMN,))[1:], axis=1)
    return np.asarray(same & (many_sites | _share_place(table)), dtype=bool)


def _share_place(table: pd.DataFrame) -> np.ndarray:
    """Whether each row and the next share a site, or a region where a row names no site, or name no place: (N-1,) bool."""
    sites, regions = _flags(table, SITE_COLUMNS), _flags(table, REGION_COLUMNS)
    share_site, share_region = ((place[1:] & place[:-1]).any(axis=1) for place in (sites, regions))
    has_site, has_region = (place[1:].any(axis=1) & place[:-1].any(axis=1) for place in (sites, regions))
    return np.asarray(np.where(has_site, share_site, np.where(has_region, share_region, True)))


def _flags(table: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """The 0/1 columns that the table has, as (N, k) bool; an empty cell counts as 0."""
    return np.asarray(table[_present(table, columns)].fillna(0).to_numpy() == 1).reshape(len(table), -1)


def _present(table: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    return [column for column in columns if column in table.columns]


def names_persons(manifest: Manifest) -> bool:
    """Whether the table has the columns from which probable patients are rebuilt."""
    return len(_present(manifest.table, PERSON_COLUMNS)) == len(PERSON_COLUMNS)


def _given_links(manifest: Manifest) -> list[tuple[int, int]]:
    """Row pairs that join the groups which the dataset itself names; a blank group is a group of its own."""
    first_of: dict[str, int] = {}
    return [(first_of.setdefault(group, row), row) for row, group in enumerate(manifest.groups or ()) if group]


def _pair_links(manifest: Manifest, pairs: Iterable[Pair]) -> list[tuple[int, int]]:
    pairs = list(pairs)
    firsts, seconds = (manifest.rows(pair[side] for pair in pairs).tolist() for side in (0, 1))
    return list(zip(firsts, seconds, strict=True))


def _components(count: int, links: Iterable[tuple[int, int]]) -> np.ndarray:
    """Connected components of rows 0..count-1 (union-find; the root of a component is its first row): (count,) int64."""
    parent = list(range(count))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for one, other in links:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    return np.unique([root(row) for row in range(count)], return_inverse=True)[1].astype(np.int64)
