"""What a training in any process needs to know of a dataset: paths and names, no manifest, no images in memory."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tune_btxrd.data.cache.cache import ImageCache

if TYPE_CHECKING:  # torch stays out of the driver
    from tune_btxrd.training.pixels import TrainingData


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where trainings find pixels and parts: absolute paths, since Ray changes the working directory of a trial.

    Attributes:
        cache: the image cache; splits: the folder of `<split>.csv` files.
    """

    cache: str
    splits: str
    class_names: tuple[str, ...]
    positive_class: int

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self) | {"class_names": list(self.class_names)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Source":
        """The inverse of `to_dict`."""
        return cls(**{**values, "class_names": tuple(values["class_names"])})

    def training_data(self, split: str) -> "TrainingData":
        """Pixels (memory map), targets, train and val rows of a split; its test part stays unread."""
        return _training_data(self, split)


@lru_cache(maxsize=8)
def _training_data(source: Source, split: str) -> "TrainingData":
    from tune_btxrd.training.pixels import TrainingData

    cache = ImageCache.open(Path(source.cache))
    table = pd.read_csv(Path(source.splits) / f"{split}.csv", dtype=str, keep_default_na=False)
    table = table[table["part"].isin(("train", "val"))]
    rows = cache.rows(table["image_id"].tolist())
    targets = np.full(len(cache.image_ids), -1, dtype=np.int64)
    targets[rows] = table["label"].map({name: index for index, name in enumerate(source.class_names)}).to_numpy()
    return TrainingData(
        images=cache.images,
        targets=targets,
        train_rows=rows[(table["part"] == "train").to_numpy()],
        val_rows=rows[(table["part"] == "val").to_numpy()],
        num_classes=len(source.class_names),
        positive_class=source.positive_class,
    )
