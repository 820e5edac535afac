"""Whole groups of a dataset into parts, by the rules of its task."""

import numpy as np

from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.splits.label_partition import partition_labels
from tune_btxrd.data.splits.partition import partition_groups


def partitioned(
    manifest: Manifest,
    numbers: np.ndarray,
    rows: np.ndarray,
    *,
    shares: tuple[float, ...],
    seed: int,
    even_centers: bool = False,
) -> np.ndarray:
    """The part (index into `shares`) of each of these rows: (len(rows),) int64; `even_centers` as in `repartition`."""
    columns = (manifest.indicators if manifest.task.exclusive else manifest.answers)[rows]
    if even_centers and manifest.centers is not None:
        own = np.array(manifest.centers)[rows]
        columns = np.concatenate([columns, *(columns * (own == name)[:, None] for name in sorted(set(own)))], axis=1)
        columns = columns[:, columns.any(axis=0)]
    deal = partition_groups if manifest.task.exclusive else partition_labels
    return deal(columns, numbers[rows], shares=shares, seed=seed)
