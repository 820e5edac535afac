"""Task: what a target is. Data, training, scoring and inference ask it and know nothing of classes themselves.

Shapes: N images, B = batch, C classes (or labels). Targets are an array of N rows whose form only the task knows.
"""
# ruff: noqa: N803
# (shape suffixes: logits_NC)

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tune_btxrd.config import TrainConfig
from tune_btxrd.tasks.record import EpochMetrics

if TYPE_CHECKING:  # `data/` asks a task too, and never loads torch
    import torch

    from tune_btxrd.tasks.losses import Terms


class Task(ABC):
    """The seam. A new task is one file with a subclass of this and a record, and its line in `tasks/registry.py`."""

    name: ClassVar[str]
    record: ClassVar[type[EpochMetrics]]  # of an epoch: its fields are the metrics and their names
    watched: ClassVar[str]  # the field, one number per class, by which the positive class is watched
    exclusive: ClassVar[bool] = True  # an image has exactly one class; else each label is a question of its own

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
        """(N, C) float64: 1 where the image has the class or label, else 0. What splits are balanced by."""

    def known(self, targets: np.ndarray, classes: int) -> np.ndarray:
        """(N, C) bool: where it is known whether the image has the class or label; elsewhere nothing may be scored."""
        return np.ones((len(targets), classes), dtype=bool)

    def counts(self, targets: np.ndarray, classes: int) -> np.ndarray:
        """(C,) int64: images per class or label."""
        return np.asarray(self.indicators(targets, classes).sum(axis=0), dtype=np.int64)

    @abstractmethod
    def same(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """(N,) bool: where the targets of two lists of images agree."""

    @abstractmethod
    def strata(self, targets: np.ndarray, class_names: Sequence[str]) -> np.ndarray | None:
        """(N,) text by which scikit-learn may stratify single images; None where an image has no single class."""

    # ---- training

    @abstractmethod
    def class_weights(self, train_counts: np.ndarray) -> np.ndarray:
        """(C,) float64: the weights that a checkpoint records, from the counts of the train part."""

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

    @abstractmethod
    def decide(self, probabilities_NC: np.ndarray) -> np.ndarray:
        """Targets that these probabilities stand for, where no operating point says otherwise."""

    @abstractmethod
    def log_loss(self, logits_NC: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray]:
        """Sum over images of the negative log-likelihood in nats, and its slope by the logits (N, C), in float64."""

    @abstractmethod
    def scores(self, logits_NC: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
        """The record's metrics of a validation part, by name; `val_loss` is not finite where a logit is not."""

    def finds(self, scores: Mapping[str, Any], class_index: int) -> bool:
        """Whether, by these scores, the model found any image of the class."""
        return bool(scores[self.watched][class_index] > 0)
