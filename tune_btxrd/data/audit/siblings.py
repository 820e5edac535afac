"""Probable patients: how many groups there are, how large they are, and which of them a split tears apart."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.splits.splits import Split


@dataclass(frozen=True, kw_only=True)
class Siblings:
    """How many images of a part have a sibling (an image of the same group) in the train part.

    Attributes:
        split: name of the split.
        part: "val" or "test".
        images: in that part.
        with_sibling: those with at least one sibling in train.
        same_file: those of which the very bytes are in train.
    """

    split: str
    part: str
    images: int
    with_sibling: int
    same_file: int

    @property
    def share(self) -> float:
        """`with_sibling` of `images`, in [0, 1]."""
        return self.with_sibling / max(self.images, 1)


def group_sizes(numbers: np.ndarray) -> dict[int, int]:
    """Images in a group -> number of such groups, by size. `numbers` is (N,), the group numbers."""
    return dict(sorted(Counter(np.unique(numbers, return_counts=True)[1].tolist()).items()))


def find_siblings(split: Split, manifest: Manifest, *, patients: np.ndarray, duplicates: np.ndarray) -> tuple[Siblings, ...]:
    """What val and test of a split share with its train part; an empty part is left out.

    Args:
        patients: (N,) group numbers of probable patients.
        duplicates: (N,) group numbers of identical files.
    """
    rows: Mapping[str, np.ndarray] = {part: manifest.rows(ids) for part, ids in split.parts.items()}

    def shared(numbers: np.ndarray, part: str) -> int:
        return int(np.isin(numbers[rows[part]], numbers[rows["train"]]).sum())

    return tuple(
        Siblings(
            split=split.name,
            part=part,
            images=len(rows[part]),
            with_sibling=shared(patients, part),
            same_file=shared(duplicates, part),
        )
        for part in ("val", "test")
        if len(rows[part])
    )
