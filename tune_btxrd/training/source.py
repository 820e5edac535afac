"""Source: picklable reference to a prepared dataset; paths and names, no manifest, no images in memory."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tune_btxrd.data.cache.cache import ImageCache
from tune_btxrd.data.splits.split_files import read_split
from tune_btxrd.errors import DataError
from tune_btxrd.tasks.registry import DEFAULT, task_named

if TYPE_CHECKING:  # torch stays out of the driver
    from tune_btxrd.training.pixels import TrainingData


@dataclass(frozen=True, kw_only=True)
class SizedCache:
    """The image cache of one of several sizes."""

    image_size: int
    cache: str


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where trainings find pixels and parts: absolute paths, since Ray changes the working directory of a trial.

    Attributes:
        cache: the image cache; splits: the folder of `<split>.csv` files and of `targets.csv`.
        sizes: where `image_size` is searched: the cache of each size, that of `cache` among them; else empty.
        centers: of the dataset, as its tables of splits name them; empty where none are known.
    """

    cache: str
    splits: str
    class_names: tuple[str, ...]
    positive_class: int
    task: str = DEFAULT.name
    sizes: tuple[SizedCache, ...] = ()
    centers: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Plain data."""
        lists = {"class_names": list(self.class_names), "centers": list(self.centers)}
        return asdict(self) | lists | {"sizes": [asdict(item) for item in self.sizes]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Source":
        """The inverse of `to_dict`."""
        sizes = tuple(SizedCache(**item) for item in values.get("sizes", ()))
        names = {name: tuple(values.get(name, ())) for name in ("class_names", "centers")}
        return cls(**{**values, **names, "sizes": sizes})

    def at(self, image_size: int) -> "Source":
        """The same with the cache of this size; unchanged where there is one size alone. Raises: DataError."""
        if not self.sizes:
            return self
        found = [item.cache for item in self.sizes if item.image_size == image_size]
        if not found:
            known = ", ".join(str(item.image_size) for item in self.sizes)
            raise DataError(
                f"Images must be decoded at the size of a config, but got {image_size} px: there are {known} px."
            )
        return replace(self, cache=found[0])

    def images(self, image_size: int) -> ImageCache:
        """The decoded images of this size, opened. Raises: DataError where there are none."""
        cache = ImageCache.open(Path(self.at(image_size).cache))
        if cache.image_size != image_size:
            raise DataError(
                f"Images must be decoded at the size of a model, but {cache.path} holds {cache.image_size} px and it "
                f"takes {image_size} px: retrain."
            )
        return cache

    @property
    def sides(self) -> tuple[int, ...]:
        """Sizes at which there are decoded images, px. Raises: DataError where the only cache is gone."""
        return tuple(item.image_size for item in self.sizes) or (ImageCache.open(Path(self.cache)).image_size,)

    @property
    def caches(self) -> tuple[str, ...]:
        """Every cache, of one size or several."""
        return tuple(item.cache for item in self.sizes) or (self.cache,)

    def training_data(self, split: str) -> "TrainingData":
        """Pixels (memory map), targets, train and val rows of a split; its test part stays unread."""
        return _training_data(self, split)

    def check(self, split: str) -> None:
        """Raises DataError where the cache is not whole or the split's table does not fit it."""
        table = read_split(Path(self.splits), split, self.class_names, task=task_named(self.task), parts=("train", "val"))
        for cache in self.caches:
            ImageCache.open(Path(cache)).rows(table.ids)


@lru_cache(maxsize=64)  # of splits and sizes; pixels are mapped, so that each costs its targets alone
def _training_data(source: Source, split: str) -> "TrainingData":
    from tune_btxrd.training.pixels import TrainingData

    cache = ImageCache.open(Path(source.cache))
    task = task_named(source.task)
    table = read_split(Path(source.splits), split, source.class_names, task=task, parts=("train", "val"))
    rows = cache.rows(table.ids)
    targets = task.unknown(len(cache.image_ids), len(source.class_names))
    groups = np.full(len(cache.image_ids), "", dtype=table.groups.dtype)
    targets[rows], groups[rows] = table.targets, table.groups
    centers = np.full(len(cache.image_ids), -1, dtype=np.int64)
    centers[rows] = [source.centers.index(name) if name in source.centers else -1 for name in table.centers]
    return TrainingData(
        images=cache.images,
        targets=targets,
        train_rows=rows[table.parts == "train"],
        val_rows=rows[table.parts == "val"],
        num_classes=len(source.class_names),
        positive_class=source.positive_class,
        task=task,
        centers=centers if source.centers else None,
        num_centers=len(source.centers),
        channel_names=cache.channels,
        spacing=cache.spacing,
        window=cache.window,
        groups=groups,
    )
