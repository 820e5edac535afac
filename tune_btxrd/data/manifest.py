"""What a dataset is, once it has been read: ids, files, targets, centers. Readers return it, everything else takes it."""

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tune_btxrd.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One dataset, in table order. All tuples and arrays have length N, the number of images.

    Attributes:
        dataset: a short name used in folder names ("btxrd", "phantom", or the folder's own name).
        root: the dataset folder; nothing outside it is ever read.
        image_ids: unique ids, e.g. "IMG000001.jpeg".
        files: absolute image paths; None where only the table is at hand.
        targets: (N,) int64 class indices into `class_names`, read-only.
        class_names: index -> name, e.g. ("Normal", "Benign", "Malignant").
        positive_class: index of the class to watch.
        centers: hospital per image as text ("1", "2", "3"), or None where the dataset names none.
        groups: given group per image as text (images of one group stay in one part), or None. Duplicates and probable
            patients are *found* later (`data/audit.py`) and are not stored here.
        table: the released columns, one row per image, for audit and subgroup tables. It never reaches the model.
        annotations: LabelMe file per image or None.
    """

    dataset: str
    root: Path
    image_ids: tuple[str, ...]
    files: tuple[Path | None, ...]
    targets: np.ndarray
    class_names: tuple[str, ...]
    positive_class: int
    centers: tuple[str, ...] | None
    groups: tuple[str, ...] | None
    table: pd.DataFrame
    annotations: tuple[Path | None, ...]

    def __post_init__(self) -> None:
        n = len(self.image_ids)
        assert len(self.files) == len(self.targets) == len(self.table) == len(self.annotations) == n
        assert self.centers is None or len(self.centers) == n
        assert self.groups is None or len(self.groups) == n
        if repeated := [image_id for image_id, count in Counter(self.image_ids).items() if count > 1]:
            raise DataError(f"Image ids must be unique, but {repeated[0]!r} stands {len(repeated)} time(s) more: remove it.")
        self.targets.setflags(write=False)

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Images per class, in class order."""
        return tuple(int(count) for count in np.bincount(self.targets, minlength=len(self.class_names)))

    @property
    def sha256(self) -> str:
        """Names what decides splits and labels: ids, targets, class names, centers, given groups."""
        digest = hashlib.sha256()
        for part in (self.image_ids, self.targets.tolist(), self.class_names, self.centers or (), self.groups or ()):
            digest.update(repr(tuple(part)).encode())
        return digest.hexdigest()
