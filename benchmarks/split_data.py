"""The training data of a split that no file holds, from a cache in memory."""

import numpy as np

from tune_btxrd.data.cache.cache import ImageCache
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.splits.splits import Split
from tune_btxrd.training.pixels import TrainingData


def split_data(cache: ImageCache, manifest: Manifest, split: Split) -> TrainingData:
    """Images of the cache with the classes of the manifest, in the split's parts."""
    targets = np.full(len(cache.image_ids), -1, dtype=np.int64)
    targets[cache.rows(manifest.image_ids)] = manifest.targets
    return TrainingData(
        images=cache.images,
        targets=targets,
        train_rows=cache.rows(split.parts["train"]),
        val_rows=cache.rows(split.parts["val"]),
        num_classes=len(manifest.class_names),
        positive_class=manifest.positive_class,
    )
