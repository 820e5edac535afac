"""Verdict: whether an epoch is the best so far, and whether the training ends with it. Pure functions of its history."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tune_btxrd.config import TrainConfig
from tune_btxrd.monitor import ALL_IMAGES, undefined_monitor, undefined_worst_center
from tune_btxrd.stages import stage_at
from tune_btxrd.tasks.record import EpochMetrics
from tune_btxrd.training.pixels import TrainingData


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What an epoch's scores mean after those before it; the fields of the record of these names."""

    objective: float
    improved: bool
    stop: str
    zero_recall_epochs: int


def best_epoch(history: Sequence[EpochMetrics]) -> int:
    """1-based number of the best epoch so far, 0 before the first."""
    return max((row.epoch for row in history if row.improved), default=0)


def judged(config: TrainConfig, history: Sequence[EpochMetrics], scores: Mapping[str, Any], data: TrainingData) -> Verdict:
    """The verdict on the epoch that follows `history`. Raises: ConfigError where the monitored value is undefined."""
    before, epoch, best = history[-1] if history else None, len(history) + 1, best_epoch(history)
    monitor = config.monitored
    if scores[monitor.column] is None or math.isnan(scores[monitor.column]):
        undefined = undefined_monitor if config.objective == ALL_IMAGES else undefined_worst_center
        raise undefined(config.monitor)
    improved = before is None or monitor.improves(scores, vars(history[best - 1]), min_delta=config.min_delta)
    found = data.task.finds(scores, data.positive_class)
    _, stage_began, _ = stage_at(config.stage_list, epoch)
    return Verdict(
        objective=monitor.objective(scores[monitor.column]) if improved or before is None else before.objective,
        improved=improved,
        stop=_stop(config, epoch, 0 if improved else epoch - max(best, stage_began)),
        zero_recall_epochs=0 if found else 1 + (before.zero_recall_epochs if before else 0),
    )


def _stop(config: TrainConfig, epoch: int, waited: int) -> str:
    """Why the training ends after this epoch, or "". Patience ends a training in its last stage only, counted from there."""
    if epoch == config.epochs:
        return "budget"
    is_last = epoch > config.epochs - config.stage_list[-1].epochs
    return "patience" if is_last and epoch >= config.min_epochs and waited >= config.patience else ""
