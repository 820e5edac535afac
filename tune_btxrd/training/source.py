"""Source: picklable reference to a prepared dataset; paths and names, no manifest, no images in memory."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tune_btxrd.data.cache.cache import ImageCache
from tune_btxrd.data.splits.split_files import read_split
from tune_btxrd.tasks.registry import DEFAULT, task_named

if TYPE_CHECKING:  # torch stays out of the driver
    from tune_btxrd.training.pixels import TrainingData


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where trainings find pixels and parts: absolute paths, since Ray changes the working directory of a trial.

    Attributes:
        cache: the image cache; splits: the folder of `<split>.csv` files and of `targets.csv`.
    """

    cache: str
    splits: str
    class_names: tuple[str, ...]
    positive_class: int
    task: str = DEFAULT.name

    def to_dict(self) -> dict[str, object]:
        """Plain data."""
        return asdict(self) | {"class_names": list(self.class_names)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Source":
        """The inverse of `to_dict`."""
        return cls(**{**values, "class_names": tuple(values["class_names"])})

    def training_data(self, split: str) -> "TrainingData":
        """Pixels (memory map), targets, train and val rows of a split; its test part stays unread."""
        return _training_data(self, split)

    def check(self, split: str) -> None:
        """Raises DataError where the cache is not whole or the split's table does not fit it."""
        table = read_split(Path(self.splits), split, self.class_names, task=task_named(self.task), parts=("train", "val"))
        ImageCache.open(Path(self.cache)).rows(table.ids)


@lru_cache(maxsize=8)
def _training_data(source: Source, split: str) -> "TrainingData":
    from tune_btxrd.training.pixels import TrainingData

    cache = ImageCache.open(Path(source.cache))
    task = task_named(source.task)
    table = read_split(Path(source.splits), split, source.class_names, task=task, parts=("train", "val"))
    rows = cache.rows(table.ids)
    targets = task.unknown(len(cache.image_ids), len(source.class_names))
    groups = np.full(len(cache.image_ids), "", dtype=table.groups.dtype)
    targets[rows], groups[rows] = table.targets, table.groups
    return TrainingData(
        images=cache.images,
        targets=targets,
        train_rows=rows[table.parts == "train"],
        val_rows=rows[table.parts == "val"],
        num_classes=len(source.class_names),
        positive_class=source.positive_class,
        task=task,
        channel_names=cache.channels,
        spacing=cache.spacing,
        window=cache.window,
        groups=groups,
    )
