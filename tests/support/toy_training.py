"""A small problem that a small network learns in seconds, for the tests of training."""

from typing import Any

import numpy as np

from tune_btxrd.config import TrainConfig
from tune_btxrd.tasks.record import EpochMetrics
from tune_btxrd.training.loop import train
from tune_btxrd.training.pixels import TrainingData
from tune_btxrd.training.state import TrainState

SIZE = 32


def toy_data(*, train: int = 49, val: int = 24, seed: int = 0, colour: bool = False, size: int = SIZE) -> TrainingData:
    """Noisy images whose brightness tells the class; every array is read-only, as a memory map is."""
    rng = np.random.default_rng(seed)
    count = train + val
    targets = (np.arange(count) % 3).astype(np.int64)
    shape = (count, size, size, 3) if colour else (count, size, size)
    noise = rng.integers(0, 60, shape)
    images = (noise + 60 * targets.reshape(-1, *[1] * (len(shape) - 1))).astype(np.uint8)
    rows = rng.permutation(count)
    for array in (targets, images, rows):
        array.setflags(write=False)
    return TrainingData(
        images=images, targets=targets, train_rows=rows[:train], val_rows=rows[train:], num_classes=3, positive_class=2
    )


def toy_config(**changes: Any) -> TrainConfig:
    """A tiny network from random weights, three epochs of four batches."""
    tiny = {"backbone": "test_efficientnet", "pretrained": False, "image_size": SIZE, "epochs": 3, "batch_size": 16}
    return TrainConfig.from_dict(tiny | changes)


def numbers(rows: list[EpochMetrics]) -> list[dict[str, Any]]:
    """The records without what a clock decides."""
    clocked = ("images_per_second", "train_seconds", "val_seconds")
    return [{name: value for name, value in row.to_dict().items() if name not in clocked} for row in rows]


def run(state: TrainState) -> list[dict[str, Any]]:
    """Trains to the end; all records, without seconds."""
    list(train(state))
    return numbers(state.history)
