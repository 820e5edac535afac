"""A small problem of two labels that a small network learns in seconds."""

import dataclasses

import numpy as np

from tests.support.toy_training import toy_data
from tune_btxrd.tasks.multilabel import MULTILABEL, UNKNOWN
from tune_btxrd.training.pixels import TrainingData


def toy_labels() -> TrainingData:
    """Bright images have the first label, the brightest the second too; every seventh answer to the second is unknown."""
    toy = toy_data()
    targets = np.stack([toy.targets > 0, toy.targets > 1], axis=1).astype(np.int64)
    targets[::7, 1] = UNKNOWN
    return dataclasses.replace(toy, targets=targets, num_classes=2, positive_class=1, task=MULTILABEL)
