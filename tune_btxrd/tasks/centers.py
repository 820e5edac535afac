"""Scores by center: the monitored value of each center of a validation part, the worst one, and the gap to the best.

A center counts where it has the images that the value needs; the others are left out, as if they had none. Mean losses ask
for FEWEST_IMAGES. All else ranks or counts classes, so it asks for FEWEST_OF_A_CLASS images of each class that the whole
part has (of each label that it can judge: so many yes and so many no). Shapes: N images, M centers.
"""
# ruff: noqa: N803
# (shape suffixes: centers_N)

from collections.abc import Sequence

import numpy as np

from tune_btxrd.monitor import MONITORS
from tune_btxrd.tasks.record import EpochMetrics
from tune_btxrd.tasks.task import Task

FEWEST_OF_A_CLASS, FEWEST_IMAGES = 5, 10
MEAN_LOSSES = ("val_loss",)  # monitors that any image adds to


def counted(task: Task, monitor: str, targets: np.ndarray, centers_N: np.ndarray, *, count: int, classes: int) -> np.ndarray:
    """(M,) bool: centers with enough of these images for the monitor. `centers_N` holds indices below `count`, or -1."""
    own = [targets[centers_N == center] for center in range(count)]
    if monitor in MEAN_LOSSES:
        return np.array([len(each) >= FEWEST_IMAGES for each in own], dtype=bool)
    return np.array([task.rarest_count(each, targets, classes) >= FEWEST_OF_A_CLASS for each in own], dtype=bool)


def center_scores(
    task: Task,
    monitor: str,
    logits_NC: np.ndarray,
    targets: np.ndarray,
    *,
    centers_N: np.ndarray,
    count: int,
    folds_N: np.ndarray | None = None,
) -> dict[str, object]:
    """The record's values by center: `val_center` (M numbers, None for a center that does not count), worst, gap."""
    column, values = MONITORS[monitor].column, list[float | None]([None] * count)
    enough = counted(task, monitor, targets, centers_N, count=count, classes=logits_NC.shape[1])
    for center in np.flatnonzero(enough):
        own = centers_N == center
        values[center] = task.score(column, logits_NC[own], targets[own], folds_N=None if folds_N is None else folds_N[own])
    return {"val_center": tuple(values), **over_centers(task.record, values, monitor)}


def over_centers(record: type[EpochMetrics], values: Sequence[float | None], monitor: str) -> dict[str, float | None]:
    """The record's scores of the centers' values, of which None says nothing."""
    known = (value for value in values if value is not None)
    return record.scores_of_centers(sorted(known, key=MONITORS[monitor].objective))
