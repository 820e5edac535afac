"""FoldStates: one config trained on several folds in step, as one training whose record is the mean over the folds.

A slot holds one training at a time. Between two epochs each fold lies in memory as the checkpoint that it would be saved
as, so its numbers are those of the fold trained alone, and a fold that was saved an epoch later than another goes on from
there. Patience judges the mean; a fold has none of its own.
"""

import dataclasses
import math
import statistics
from collections.abc import Iterator, Sequence

from tune_btxrd.config import TrainConfig
from tune_btxrd.tasks.centers import over_centers
from tune_btxrd.tasks.record import EpochMetrics
from tune_btxrd.training.checkpoint import Checkpoint, checkpoint_dict, restore
from tune_btxrd.training.loop import train_epoch
from tune_btxrd.training.pixels import TrainingData
from tune_btxrd.training.slot import Slot
from tune_btxrd.training.verdict import judged


class FoldStates:
    """The folds of one training.

    Args:
        config: of the training as a whole; parts: the data of each fold.
        saved: the checkpoint from which each fold goes on, or None.

    Attributes:
        checkpoints: of each fold after its last epoch; never changed, so they may be written in the background.
        history: one record per epoch that all folds have finished.
    """

    def __init__(
        self,
        slot: Slot,
        config: TrainConfig,
        *,
        parts: Sequence[TrainingData],
        saved: Sequence[Checkpoint | None],
        class_names: Sequence[str],
    ) -> None:
        self.slot, self.config, self.parts, self.class_names = slot, config, parts, class_names
        self.checkpoints, self.history = list(saved), list[EpochMetrics]()
        while min(map(_epochs, self.checkpoints)) > len(self.history):
            self._add_mean()

    @property
    def finished(self) -> bool:
        """Whether the last record stopped the training."""
        return bool(self.history) and self.history[-1].stop != ""

    def train(self) -> Iterator[EpochMetrics]:
        """Trains to the end of the budget or of the patience; yields the mean over the folds after every epoch.

        Raises:
            Diverged: a loss on one of the folds is not finite.
        """
        while not self.finished:
            for index in range(len(self.parts)):
                if _epochs(self.checkpoints[index]) == len(self.history):
                    self._train_fold(index)
            yield self._add_mean()

    def _train_fold(self, index: int) -> None:
        """One more epoch of one fold."""
        config, data, saved = fold_config(self.config), self.parts[index], self.checkpoints[index]
        state = self.slot.start(config, data, keep_best=False) if saved is None else restore(self.slot, saved, data)
        train_epoch(state)
        self.checkpoints[index] = checkpoint_dict(state, class_names=self.class_names)

    def _add_mean(self) -> EpochMetrics:
        """The record of the first epoch that is not in `history`."""
        data, at = self.parts[0], len(self.history)
        record = data.task.record
        rows = [record.from_dict(known["history"][at]) for known in self.checkpoints if known is not None]
        own = [getattr(row, self.config.monitored.column) for row in rows]
        known = [value for value in own if value is not None and not math.isnan(value)]
        seconds = sum(row.train_seconds for row in rows)
        mean = record.over_folds(
            rows,
            fold_sd=statistics.stdev(known) if len(known) > 1 else 0.0,
            images_per_second=sum(row.images_per_second * row.train_seconds for row in rows) / seconds,
        )
        mean = mean.with_centers(over_centers(record, mean.val_center, self.config.monitor))
        verdict = judged(self.config, self.history, vars(mean), data)
        self.history.append(dataclasses.replace(mean, **vars(verdict)))
        return self.history[-1]


def fold_config(config: TrainConfig) -> TrainConfig:
    """What each fold trains: the same without a patience of its own."""
    return config.replace(patience=config.epochs)


def _epochs(checkpoint: Checkpoint | None) -> int:
    return 0 if checkpoint is None else checkpoint["epoch"]
