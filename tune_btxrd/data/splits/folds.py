"""Folds as a result: every image validates once, each training sees all others, and there is no test part."""

from collections.abc import Collection, Sequence

import numpy as np

from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.splits.splits import Split, require_classes
from tune_btxrd.data.splits.whole_groups import partitioned
from tune_btxrd.errors import ConfigError

FEWEST, MOST = 2, 50


def fold_names(count: int) -> tuple[str, ...]:
    """The names of so many folds. Raises: ConfigError."""
    if not FEWEST <= count <= MOST:
        raise ConfigError(f"`{FEWEST} <= folds <= {MOST}` must hold, but got --folds {count}.")
    return tuple(f"fold {number}/{count}" for number in range(1, count + 1))


def closed_rows(manifest: Manifest, numbers: np.ndarray) -> np.ndarray:
    """(N,) bool: images that no fold may hold: the dataset's own test part (a store's hold-out), and their groups."""
    if "part" not in manifest.table:
        return np.zeros(len(manifest), dtype=bool)
    return np.isin(numbers, numbers[np.asarray(manifest.table["part"] == "test")])


def make_folds(
    manifest: Manifest, ids: Collection[str], *, numbers: np.ndarray, count: int, seed: int, even_centers: bool = False
) -> list[Split]:
    """The folds of these images: groups stay whole, and each fold's validation part has the classes of all (and, where asked
    for, the centers).

    Args:
        numbers: (N,) group number of every image of the dataset; seed: decides who goes where.

    Raises:
        ConfigError: too few or too many folds. DataError: a class that a fold would lack.
    """
    names, rows = fold_names(count), np.sort(manifest.rows(ids))
    block = partitioned(manifest, numbers, rows, shares=(1 / count,) * count, seed=seed, even_centers=even_centers)
    folds = []
    for number, name in enumerate(names):
        parts = {
            part: tuple(manifest.image_ids[row] for row in rows[chosen])
            for part, chosen in (("train", block != number), ("val", block == number))
        }
        folds.append(Split(name=name, parts={**parts, "test": ()}))
        cure = f"use fewer folds than {count}, or add images of {{name}} (each group counts once)"
        require_classes(folds[-1], manifest, ("train", "val"), cure=cure)
    return folds


def make_outer(
    manifest: Manifest, folds: Sequence[Split], *, numbers: np.ndarray, seed: int, even_centers: bool = False
) -> list[Split]:
    """What nested folds search on: each fold's validation part becomes the test part, and of the rest one part in as many
    as there are folds validates, with groups whole.

    Raises:
        DataError: a class that train or val would lack.
    """
    outer, count = [], len(folds)
    for number, fold in enumerate(folds, start=1):
        rows = np.sort(manifest.rows(fold.parts["train"]))
        shares = (1 / count,) * count
        block = partitioned(manifest, numbers, rows, shares=shares, seed=seed, even_centers=even_centers)
        train, val = (tuple(manifest.image_ids[row] for row in rows[chosen]) for chosen in (block != 0, block == 0))
        parts = {"train": train, "val": val, "test": fold.parts["val"]}
        outer.append(Split(name=f"outer_{number}_of_{count}", parts=parts))
        cure = f"use fewer folds than {count}, leave out --nested, or add images of {{name}} (each group counts once)"
        require_classes(outer[-1], manifest, ("train", "val"), cure=cure)
    return outer
