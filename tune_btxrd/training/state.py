"""TrainState: one training between two epochs. `Slot.start` and `checkpoint.restore` make it, `loop.train` changes it."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from tune_btxrd.config import TrainConfig
from tune_btxrd.errors import ConfigError
from tune_btxrd.tasks.record import EpochMetrics
from tune_btxrd.training.capture import StaticStep
from tune_btxrd.training.pixels import Pixels, TrainingData


class Diverged(ConfigError):  # noqa: N818  # an event of a training, not a slip of ours
    """A loss that is not finite. `epoch` and `lr` say where; `loss` is what was found."""

    def __init__(self, epoch: int, lr: float, loss: float = math.nan) -> None:
        super().__init__(epoch, lr, loss)  # the arguments themselves: Ray pickles the exception
        self.epoch, self.lr, self.loss = epoch, lr, loss

    def __str__(self) -> str:
        return f"The loss must stay finite, but got {self.loss} in epoch {self.epoch} at lr={self.lr:g}: use a smaller lr."


@dataclass(frozen=True, kw_only=True, eq=False)
class BestState:
    """Copies of the states of model and optimizer at the best epoch."""

    model: dict[str, Tensor]
    optimizer: dict[str, object]


@dataclass(kw_only=True, eq=False)
class TrainState:
    """One training. `Slot.start` and `checkpoint.restore` make it; `train` alone changes it.

    Attributes:
        history: one record per finished epoch; epoch, best epoch and patience follow from it.
        best: copies of model and optimizer state at the best epoch, made when an epoch begins after it; None before that
            and without `keep_best` or `reload_best`. Where the last epoch is the best one, model and optimizer are the best.
        live: False as soon as the slot has started another training in the same shell.
        whole: False while an epoch is under way, and for ever after one that failed.
    """

    config: TrainConfig
    model: nn.Module
    optimizer: torch.optim.AdamW
    pixels: Pixels
    data: TrainingData
    targets: Tensor  # N rows, on the device; see `data.task`
    train_rows: Tensor  # int64, on the device
    val_rows: Tensor  # int64, on the device
    class_weights: Tensor  # float32 (C,), on the device
    mean: Tensor  # float32, one number per channel, on the device
    std: Tensor  # float32, one number per channel, on the device
    device: torch.device
    precision: str  # "fp32" or "bf16"
    keep_best: bool
    static_step: StaticStep | None = None  # what full batches run on where a CUDA graph was asked for
    history: list[EpochMetrics] = field(default_factory=list)
    best: BestState | None = None
    live: bool = True
    whole: bool = True

    @property
    def epoch(self) -> int:
        """Epochs finished."""
        return len(self.history)

    @property
    def best_epoch(self) -> int:
        """1-based number of the best epoch so far, 0 before the first."""
        return max((row.epoch for row in self.history if row.improved), default=0)

    @property
    def finished(self) -> bool:
        """Whether the last record stopped the training."""
        return bool(self.history) and self.history[-1].stop != ""
