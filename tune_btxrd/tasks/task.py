"""Task: what a target is. Data, training, scoring and inference ask it and know nothing of classes themselves.

Shapes: N images, B = batch, C classes (or labels). Targets are an array of N rows whose form only the task knows.
"""
# ruff: noqa: N803, N806
# (shape suffixes: logits_NC)

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tune_btxrd.config import TrainConfig
from tune_btxrd.errors import ConfigError, DataError
from tune_btxrd.tasks.calibrated import fold_numbers
from tune_btxrd.tasks.record import EpochMetrics

if TYPE_CHECKING:  # `data/` asks a task too, and never loads torch
    import torch

    from tune_btxrd.tasks.losses import Terms

LEAST = 1e-12  # of a probability whose logarithm is taken


class Task(ABC):
    """The seam. A new task is one file with a subclass of this and a record, and its line in `tasks/registry.py`."""

    name: ClassVar[str]
    record: ClassVar[type[EpochMetrics]]  # of an epoch: its fields are the metrics and their names
    watched: ClassVar[str]  # the field, one number per class, by which the positive class is watched
    exclusive: ClassVar[bool] = True  # an image has exactly one class; else each label is a question of its own
    losses: ClassVar[tuple[str, ...]]  # words of `config.LOSSES` that it trains with; the first is its default

    idle: ClassVar[tuple[str, ...]] = ()  # hyperparameters that take no effect with its losses

    # ---- targets

    @abstractmethod
    def unknown(self, count: int, classes: int) -> np.ndarray:
        """Targets of `count` images of which nothing is known."""

    @abstractmethod
    def read(self, cells: Mapping[str, Sequence[str]], class_names: Sequence[str]) -> np.ndarray:
        """Targets of the cells that `write` gave. Raises: DataError for a cell that names no class."""

    @abstractmethod
    def write(self, targets: np.ndarray, class_names: Sequence[str]) -> dict[str, list[str]]:
        """Column -> one cell per image: targets as `targets.csv` holds them."""

    def texts(self, targets: np.ndarray, class_names: Sequence[str]) -> list[str]:
        """Each image's target in words."""
        cells = self.write(targets, class_names)
        if len(cells) == 1:
            return next(iter(cells.values()))
        return [
            ", ".join(f"{name} {cell}" for name, cell in zip(cells, row, strict=True))
            for row in zip(*cells.values(), strict=True)
        ]

    @abstractmethod
    def indicators(self, targets: np.ndarray, classes: int) -> np.ndarray:
        """(N, C) float64: 1 where the image has the class or label, else 0."""

    def answers(self, targets: np.ndarray, classes: int) -> np.ndarray:
        """(N, K) float64: 0 or 1 per image; splits keep the share of each of the K columns even."""
        return self.indicators(targets, classes)

    def known(self, targets: np.ndarray, classes: int) -> np.ndarray:
        """(N, C) bool: where it is known whether the image has the class or label; elsewhere nothing may be scored."""
        return np.ones((len(targets), classes), dtype=bool)

    def counts(self, targets: np.ndarray, classes: int) -> np.ndarray:
        """(C,) int64: images per class or label."""
        return np.asarray(self.indicators(targets, classes).sum(axis=0), dtype=np.int64)

    def train_counts(self, targets: np.ndarray, classes: int) -> np.ndarray:
        """What weights are made of, of a train part: (C,) images per class; a task may count more."""
        return self.counts(targets, classes)

    def require_trainable(self, train_counts: np.ndarray) -> None:
        """Raises DataError where nothing can be learned from a train part with these counts."""
        if not train_counts.all():
            absent = int(np.flatnonzero(train_counts == 0)[0])
            raise DataError(f"Every class must have a training image, but class {absent} has none: check labels and split.")

    def rarest_count(self, targets: np.ndarray, whole: np.ndarray, classes: int) -> int:
        """Images among `targets` of the class that has fewest, of those that occur in `whole`; 0 where none does."""
        counts = self.counts(targets, classes)[self.counts(whole, classes) > 0]
        return int(counts.min(initial=len(targets))) if len(counts) else 0

    def count_words(self, targets: np.ndarray, class_names: Sequence[str]) -> str:
        """How many images have each class or label, in words."""
        counts = self.counts(targets, len(class_names)).tolist()
        return ", ".join(f"{name} {count}" for name, count in zip(class_names, counts, strict=True))

    @abstractmethod
    def same(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """(N,) bool: where the targets of two lists of images agree."""

    @abstractmethod
    def strata(self, targets: np.ndarray, class_names: Sequence[str]) -> np.ndarray | None:
        """(N,) text by which scikit-learn may stratify single images; None where an image has no single class."""

    def part_notes(self, targets: np.ndarray, class_names: Sequence[str]) -> list[str]:
        """What is to be said of a part with these targets, one line each; said once, before a training."""
        return []

    # ---- training

    def require_loss(self, loss: str) -> None:
        """Raises ConfigError where this task does not train with the loss."""
        if loss not in self.losses:
            raise ConfigError(
                f"{self.name.capitalize()} data are trained with one of {', '.join(self.losses)}, but got loss={loss!r}: "
                f"choose one of them, or leave `loss` out ({self.losses[0]})."
            )

    def require_monitored(self, monitor: str, targets: np.ndarray) -> None:
        """Raises DataError where validation on images with these targets leaves the monitored value undefined."""
        return

    @abstractmethod
    def loss_fields(self, loss: str) -> tuple[str, ...]:
        """The fields of TrainConfig that one of `losses` reads."""

    @abstractmethod
    def class_weights(self, train_counts: np.ndarray) -> np.ndarray:
        """(C,) float64: the weights that a checkpoint records, from `train_counts`."""

    @abstractmethod
    def terms(self, config: TrainConfig, train_counts: np.ndarray, epoch: int, device: "torch.device") -> "Terms":
        """What the loss of an epoch (1-based) is told."""

    @abstractmethod
    def loss(
        self, logits_BC: "torch.Tensor", targets: "torch.Tensor", terms: "Terms"
    ) -> "tuple[torch.Tensor, torch.Tensor]":
        """Sum of the batch's weighted losses, and sum of the weights: the loop minimises their ratio."""

    @abstractmethod
    def order(self, targets: "torch.Tensor", generator: "torch.Generator", *, sampling: str) -> "torch.Tensor":
        """int64 (N,) positions of an epoch's training images, on the CPU."""

    # ---- what a model says

    @abstractmethod
    def probabilities(self, logits_NC: np.ndarray) -> np.ndarray:
        """(N, C) float64."""

    def logits(self, probabilities_NC: np.ndarray) -> np.ndarray:
        """(N, C) float64, finite, of which `probabilities` makes these again (up to 1e-12)."""
        safe = np.clip(probabilities_NC, LEAST, 1 - LEAST)
        return np.asarray(np.log(safe) - (0 if self.exclusive else np.log1p(-safe)))

    @abstractmethod
    def decide(self, probabilities_NC: np.ndarray) -> np.ndarray:
        """Targets that probabilities stand for, where no operating point says otherwise."""

    def decide_logits(self, logits_NC: np.ndarray) -> np.ndarray:
        """Targets that logits stand for; without the rounding of probabilities where the task can."""
        return self.decide(self.probabilities(logits_NC))

    @abstractmethod
    def log_loss(self, logits_NC: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray]:
        """Sum over images of the negative log-likelihood in nats, and its slope by the logits (N, C), in float64."""

    def scores(self, logits_NC: np.ndarray, targets: np.ndarray, *, folds_N: np.ndarray | None = None) -> dict[str, Any]:
        """The record's metrics of a validation part, by name; `val_loss` is not finite where a logit is not.

        Args:
            folds_N: as `calibrated.fold_numbers` gives them; None: those of images that stand alone.
        """
        with np.errstate(all="ignore"):  # the caller checks `val_loss`
            return self.record.scores_of(self._validated(logits_NC, targets, folds_N))

    def score(self, column: str, logits_NC: np.ndarray, targets: np.ndarray, *, folds_N: np.ndarray | None = None) -> Any:
        """One of `scores`, without the others."""
        formula = self.record.columns()[column].formula
        assert formula is not None
        with np.errstate(all="ignore"):
            return formula(self._validated(logits_NC, targets, folds_N))

    def _validated(self, logits_NC: np.ndarray, targets: np.ndarray, folds_N: np.ndarray | None) -> Any:
        folds_N = fold_numbers(self.answers(targets, logits_NC.shape[1])) if folds_N is None else folds_N
        return self.validated(logits_NC, targets, folds_N)

    @abstractmethod
    def validated(self, logits_NC: np.ndarray, targets: np.ndarray, folds_N: np.ndarray) -> Any:
        """What the record's formulas take of a validation part."""

    def finds(self, scores: Mapping[str, Any], class_index: int) -> bool:
        """Whether, by these scores, the model found any image of the class, or there was none to find."""
        return bool(scores[self.watched][class_index] != 0)
