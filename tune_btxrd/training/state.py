"""TrainState: one training between two epochs. `Slot.start` and `checkpoint.restore` make it, `loop.train` changes it."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from tune_btxrd.config import TrainConfig
from tune_btxrd.errors import ConfigError
from tune_btxrd.tasks.record import EpochMetrics
from tune_btxrd.training.averages import Averages
from tune_btxrd.training.capture import StaticStep
from tune_btxrd.training.pixels import Pixels, TrainingData
from tune_btxrd.training.verdict import best_epoch


class Diverged(ConfigError):  # noqa: N818  # an event of a training, not a slip of ours
    """A loss that is not finite. `epoch` and `lr` say where; `loss` is what was found."""

    def __init__(self, epoch: int, lr: float, loss: float = math.nan) -> None:
        super().__init__(epoch, lr, loss)  # the arguments themselves: Ray pickles the exception
        self.epoch, self.lr, self.loss = epoch, lr, loss

    def __str__(self) -> str:
        return f"The loss must stay finite, but got {self.loss} in epoch {self.epoch} at lr={self.lr:g}: use a smaller lr."


@dataclass(frozen=True, kw_only=True, eq=False)
class BestState:
    """Copies of the states of a training at the best epoch.

    Attributes:
        model: what was validated; with `ema` the averages.
        trained: with `ema` the weights that were averaged, else None; averaged: the steps behind the averages.
        scaler: of fp16's gradients, else None.
    """

    model: dict[str, Tensor]
    optimizer: dict[str, object]
    trained: dict[str, Tensor] | None = None
    averaged: int = 0
    scaler: dict[str, object] | None = None


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
    optimizer: torch.optim.Optimizer
    pixels: Pixels
    data: TrainingData
    targets: Tensor  # N rows, on the device; see `data.task`
    train_rows: Tensor  # int64, on the device
    val_rows: Tensor  # int64, on the device
    class_weights: Tensor  # float32 (C,), on the device
    mean: Tensor  # float32, one number per channel, on the device
    std: Tensor  # float32, one number per channel, on the device
    device: torch.device
    precision: str  # "fp32", "bf16" or "fp16"
    keep_best: bool
    averages: Averages | None = None  # of the weights, where `ema` asks for them
    scaler: torch.amp.GradScaler | None = None  # of gradients, with fp16
    static_step: StaticStep | None = None  # what full batches run on where a CUDA graph was asked for
    history: list[EpochMetrics] = field(default_factory=list)
    best: BestState | None = None
    live: bool = True
    whole: bool = True

    def states(self) -> BestState:
        """The present states, in the training's own memory."""
        own = self.model.state_dict()
        return BestState(
            model=own if self.averages is None else self.averages.tensors,
            optimizer=self.optimizer.state_dict(),
            trained=None if self.averages is None else own,
            averaged=0 if self.averages is None else self.averages.steps,
            scaler=None if self.scaler is None else self.scaler.state_dict(),
        )

    @property
    def epoch(self) -> int:
        """Epochs finished."""
        return len(self.history)

    @property
    def best_epoch(self) -> int:
        """1-based number of the best epoch so far, 0 before the first."""
        return best_epoch(self.history)

    @property
    def finished(self) -> bool:
        """Whether the last record stopped the training."""
        return bool(self.history) and self.history[-1].stop != ""
