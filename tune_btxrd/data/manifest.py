"""What a dataset is, once it has been read: ids, files, targets, centers. Readers return it, everything else takes it."""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from tune_btxrd.data.readers.names import as_spelled, examples
from tune_btxrd.errors import DataError
from tune_btxrd.tasks.registry import DEFAULT
from tune_btxrd.tasks.task import Task

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One dataset, in table order. All tuples and arrays have length N, the number of images.

    Attributes:
        dataset: a short name used in folder names ("btxrd", "phantom", or the folder's own name).
        root: the dataset folder; nothing outside it is ever read.
        image_ids: unique ids, e.g. "IMG000001.jpeg".
        files: absolute image paths; None where only the table is at hand.
        targets: N rows, read-only; what they are, `task` knows (multiclass: int64 class indices into `class_names`).
        class_names: index -> name, e.g. ("Normal", "Benign", "Malignant").
        positive_class: index of the class to watch.
        centers: hospital per image as text ("1", "2", "3"), or None where the dataset names none.
        groups: given group per image as text (images of one group stay in one part), or None. Duplicates and probable
            patients are *found* later (`data/groups.py`) and are not stored here.
        table: the released columns, one row per image (index 0..N-1), for audit and subgroup tables. It never reaches
            the model.
        annotations: LabelMe file per image or None.
        event: of a label store: the last event that counts; None for every other dataset.
        channels: of volumes: what was recorded of each patient, in the order in which a model gets it, e.g. ("flair",
            "t1ce"); empty for images.
        volumes: of volumes: per row a file or DICOM folder per channel; None where a patient lacks one. `files` then has the
            first that is there.
        masks: of volumes: the file of the lesion's outline per row, or None; empty where none are named.
        notes: what the reader decided or noticed, one line each, for the user.
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
    notes: tuple[str, ...] = ()
    task: Task = DEFAULT
    event: int | None = None
    channels: tuple[str, ...] = ()
    volumes: tuple[tuple[Path | None, ...], ...] = ()
    masks: tuple[Path | None, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.image_ids)
        assert len(self.files) == len(self.targets) == len(self.table) == len(self.annotations) == n
        assert self.centers is None or len(self.centers) == n
        assert self.groups is None or len(self.groups) == n
        assert len(self.volumes) == (n if self.channels else 0) and len(self.masks) in (0, n)
        assert all(len(files) == len(self.channels) for files in self.volumes)
        assert 0 <= self.positive_class < len(self.class_names)
        if repeated := [(image_id, count) for image_id, count in Counter(self.image_ids).items() if count > 1]:
            image_id, count = repeated[0]
            raise DataError(f"Image ids must be unique, but {image_id!r} stands in {count} rows: keep one of them.")
        if repeated := [(name, count) for name, count in Counter(self.class_names).items() if count > 1]:
            raise DataError(f"Class names must be unique, but {repeated[0][0]!r} stands for several: rename one.")
        self.targets.setflags(write=False)

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Images per class or label, in the order of `class_names`."""
        return tuple(self.task.counts(self.targets, len(self.class_names)).tolist())

    @property
    def sha256(self) -> str:
        """Names what decides splits and labels: ids, targets, class names, centers, given groups, channels of volumes."""
        digest = hashlib.sha256()
        parts = [self.image_ids, self.targets.tolist(), self.class_names, self.centers or (), self.groups or ()]
        for part in [*parts, self.channels] if self.channels else parts:
            digest.update(repr(tuple(part)).encode())
        return digest.hexdigest()

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Image id -> row."""
        return {image_id: row for row, image_id in enumerate(self.image_ids)}

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Each image's target in words."""
        return tuple(self.task.texts(self.targets, self.class_names))

    @property
    def indicators(self) -> np.ndarray:
        """(N, C) float64: 1 where an image has the class or label, else 0."""
        return self.task.indicators(self.targets, len(self.class_names))

    @cached_property
    def answers(self) -> np.ndarray:
        """(N, K) float64: 0 or 1 per image; splits keep the share of each column even (`Task.answers`)."""
        return self.task.answers(self.targets, len(self.class_names))

    @cached_property
    def is_labelled(self) -> np.ndarray:
        """(N,) bool: whether anything is known of an image; only such images come into a part of a split."""
        return np.asarray(self.task.known(self.targets, len(self.class_names)).any(axis=1))

    def spelled(self, ids: Iterable[str]) -> list[str]:
        """The ids as this dataset spells them, where accents are composed otherwise; others stay as they are."""
        return as_spelled(ids, self.row_of)

    def rows(self, ids: Iterable[str]) -> np.ndarray:
        """(len(ids),) int64: the row of each id. Raises DataError where the dataset has no such id."""
        wanted = list(ids)
        if unknown := [image_id for image_id in wanted if image_id not in self.row_of]:
            raise DataError(
                f"Every id must be in the dataset, but {len(unknown)} are not in {self.root} "
                f"({examples(unknown)}): remove them, or read the dataset they come from."
            )
        return np.array([self.row_of[image_id] for image_id in wanted], dtype=np.int64)

    def without(self, ids: Collection[str]) -> "Manifest":
        """The same dataset less some images; classes stay. Raises DataError where an id is unknown."""
        keep = np.setdiff1d(np.arange(len(self)), self.rows(ids))
        return dataclasses.replace(
            self,
            image_ids=_take(self.image_ids, keep),
            files=_take(self.files, keep),
            targets=self.targets[keep],
            centers=None if self.centers is None else _take(self.centers, keep),
            groups=None if self.groups is None else _take(self.groups, keep),
            table=self.table.iloc[keep].reset_index(drop=True),
            annotations=_take(self.annotations, keep),
            volumes=_take(self.volumes, keep) if self.channels else (),
            masks=_take(self.masks, keep) if self.masks else (),
        )


def _take(values: tuple[T, ...], rows: np.ndarray) -> tuple[T, ...]:
    return tuple(values[row] for row in rows)
