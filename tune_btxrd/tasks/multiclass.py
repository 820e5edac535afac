"""Multiclass: every image has one class, its target is the class's index. C = classes, N = images, B = batch."""
# ruff: noqa: N803, N806
# (shape suffixes: logits_BC)

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from tune_btxrd.config import CLASS_LOSSES, TrainConfig
from tune_btxrd.errors import DataError
from tune_btxrd.tasks.calibrated import class_loss
from tune_btxrd.tasks.record import FIRST, NEXT, EpochMetrics, score
from tune_btxrd.tasks.task import Task
from tune_btxrd.tasks.weights import class_weights

if TYPE_CHECKING:
    import torch

    from tune_btxrd.tasks.losses import Terms

LABEL = "label"  # the column of the class's name
UNKNOWN = -1


@dataclass(frozen=True)
class Validated:
    """A validation part with the model's answers, from which the formulas of the metrics take what they need."""

    logits_NC: np.ndarray  # noqa: N815  # shape suffix
    targets_N: np.ndarray  # noqa: N815  # as above
    folds_N: np.ndarray | None = None  # noqa: N815  # as above; `scores` gives it

    @cached_property
    def confusion_CC(self) -> np.ndarray:  # noqa: N802  # shape suffix
        """Counts: row = target, column = prediction."""
        return confusion(self.targets_N, self.logits_NC.argmax(axis=1), self.logits_NC.shape[1])


def cross_entropy(logits_NC: np.ndarray, targets_N: np.ndarray) -> float:
    """Unweighted cross-entropy in nats, mean over images, in float64; not finite where a logit is not."""
    with np.errstate(all="ignore"):  # the caller checks the result
        shifted = logits_NC.astype(np.float64) - logits_NC.max(axis=1, keepdims=True)
        log_sum = np.log(np.exp(shifted).sum(axis=1))
        return float(np.mean(log_sum - shifted[np.arange(len(targets_N)), targets_N]))


def confusion(targets_N: np.ndarray, predicted_N: np.ndarray, num_classes: int) -> np.ndarray:
    """(C, C) counts: row = target, column = prediction."""
    cells = targets_N * num_classes + predicted_N
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def accuracy(confusion_CC: np.ndarray) -> float:
    """Share of images that are predicted right."""
    return float(np.trace(confusion_CC) / confusion_CC.sum())


def recalls(confusion_CC: np.ndarray) -> tuple[float, ...]:
    """Per class: found images / images of the class; 0 where the class has none."""
    return tuple(_ratio(np.diag(confusion_CC), confusion_CC.sum(axis=1)).tolist())


def macro_f1(confusion_CC: np.ndarray) -> float:
    """Mean over all classes of 2 TP / (2 TP + FP + FN); 0 for a class neither present nor predicted."""
    found = np.diag(confusion_CC)
    return float(_ratio(2 * found, confusion_CC.sum(axis=0) + confusion_CC.sum(axis=1)).mean())


def macro_auc(logits_NC: np.ndarray, targets_N: np.ndarray) -> float:
    """Mean over classes of the area under the ROC curve of the class's probability against the rest; a tie counts half.

    Classes that all images or none belong to are left out; 0.5 where no class is left.
    """
    shifted = logits_NC.astype(np.float64) - logits_NC.max(axis=1, keepdims=True)
    probabilities_NC = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    areas = []
    for index in range(logits_NC.shape[1]):
        own = targets_N == index
        found, rest = int(own.sum()), int((~own).sum())
        if found and rest:
            own_scores, rest_scores = probabilities_NC[own, index], np.sort(probabilities_NC[~own, index])
            below = (np.searchsorted(rest_scores, own_scores, side) for side in ("left", "right"))
            areas.append(sum(int(count.sum()) for count in below) / (2 * found * rest))
    return float(np.mean(areas)) if areas else 0.5


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    ratio: np.ndarray = np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
    return ratio


@dataclass(frozen=True, kw_only=True)
class MulticlassMetrics(EpochMetrics):
    """An epoch of a multiclass training. A new metric is one more field here."""

    val_loss: float = score(
        "unweighted cross-entropy in nats, mean over images",
        lambda v: cross_entropy(v.logits_NC, v.targets_N),
        better="lower",
        label="val loss",
        place=FIRST,
    )
    val_acc: float = score(
        "share of images, in [0, 1]", lambda v: accuracy(v.confusion_CC), better="higher", label="accuracy", place=NEXT
    )
    val_recall: tuple[float, ...] = score(
        "found images of a class, in [0, 1]; 0 for a class without a validation image",
        lambda v: recalls(v.confusion_CC),
        better="higher",
        label="recall",
        per_class=True,
        place=NEXT,
    )
    val_macro_f1: float = score(
        "mean of the classes' F1, in [0, 1]", lambda v: macro_f1(v.confusion_CC), better="higher", label="macro-F1"
    )
    val_macro_auc: float = score(
        "mean of the classes' AUC against the rest, in [0, 1]",
        lambda v: macro_auc(v.logits_NC, v.targets_N),
        better="higher",
        label="macro-AUC",
    )
    val_calibrated_loss: float = score(
        "cross-entropy in nats after calibration on the validation part's other folds, mean over images",
        lambda v: class_loss(v.logits_NC, v.targets_N, v.folds_N),
        better="lower",
        label="calibrated loss",
        before=math.nan,
    )


@dataclass(frozen=True)
class Multiclass(Task):
    """One class per image; targets are int64 (N,) class indices, UNKNOWN where none is known."""

    name: ClassVar[str] = "multiclass"
    record: ClassVar[type[EpochMetrics]] = MulticlassMetrics
    watched: ClassVar[str] = "val_recall"
    losses: ClassVar[tuple[str, ...]] = CLASS_LOSSES
    idle: ClassVar[tuple[str, ...]] = ("focal_alpha",)

    def unknown(self, count: int, classes: int) -> np.ndarray:
        """(count,) UNKNOWN."""
        return np.full(count, UNKNOWN, dtype=np.int64)

    def read(self, cells: Mapping[str, Sequence[str]], class_names: Sequence[str]) -> np.ndarray:
        """Class indices of the names in the column `label`. Raises: DataError."""
        index_of = {name: index for index, name in enumerate(class_names)}
        if alien := [name for name in cells[LABEL] if name not in index_of]:
            known = ", ".join(class_names)
            raise DataError(f"A label must be one of {known}, but got {alien[0]!r}: the targets are another dataset's.")
        return np.array([index_of[name] for name in cells[LABEL]], dtype=np.int64)

    def write(self, targets: np.ndarray, class_names: Sequence[str]) -> dict[str, list[str]]:
        """The classes' names, as the dataset writes them."""
        return {LABEL: [class_names[target] for target in targets]}

    def indicators(self, targets: np.ndarray, classes: int) -> np.ndarray:
        """One 1 per row."""
        return np.asarray(np.eye(classes)[targets])

    def counts(self, targets: np.ndarray, classes: int) -> np.ndarray:
        """(C,) int64."""
        return np.bincount(targets, minlength=classes)

    def rarest(self, targets: np.ndarray) -> int:
        """The class with the fewest images, of those that occur up to the largest index; readers watch it by default."""
        return int(np.argmin(np.bincount(targets)))

    def same(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Equal classes."""
        return np.asarray(first == second)

    def strata(self, targets: np.ndarray, class_names: Sequence[str]) -> np.ndarray | None:
        """The class's name: its alphabetical order decides the published splits."""
        return np.asarray(np.array(class_names)[targets])

    def class_weights(self, train_counts: np.ndarray) -> np.ndarray:
        """Inverse-frequency weights n / (C * n_c); all counts > 0."""
        return class_weights(train_counts)

    def loss_fields(self, loss: str) -> tuple[str, ...]:
        """The fields of TrainConfig that the loss reads."""
        from tune_btxrd.tasks import losses

        return losses.LOSSES[loss].reads

    def terms(self, config: TrainConfig, train_counts: np.ndarray, epoch: int, device: "torch.device") -> "Terms":
        """Class weights and counts, and the loss with its own hyperparameters."""
        from tune_btxrd.tasks.losses import terms_of_epoch

        self.require_loss(config.loss)
        return terms_of_epoch(config, train_counts, epoch, device)

    def loss(
        self, logits_BC: "torch.Tensor", targets: "torch.Tensor", terms: "Terms"
    ) -> "tuple[torch.Tensor, torch.Tensor]":
        """Each image counts with the weight of its class."""
        return terms.loss(logits_BC, targets, terms), terms.weights_C[targets].sum()

    def order(self, targets: "torch.Tensor", generator: "torch.Generator", *, sampling: str) -> "torch.Tensor":
        """Each image once, or drawn so that classes come alike."""
        from tune_btxrd.tasks.losses import epoch_order

        return epoch_order(targets, generator, sampling=sampling)

    def probabilities(self, logits_NC: np.ndarray) -> np.ndarray:
        """softmax."""
        from scipy import special

        return np.asarray(special.softmax(logits_NC.astype(np.float64), axis=1))

    def decide(self, probabilities_NC: np.ndarray) -> np.ndarray:
        """The most probable class, (N,)."""
        return np.asarray(probabilities_NC.argmax(axis=1))

    def decide_logits(self, logits_NC: np.ndarray) -> np.ndarray:
        """The class of the largest logit, (N,)."""
        return np.asarray(logits_NC.argmax(axis=1))

    def log_loss(self, logits_NC: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray]:
        """Cross-entropy."""
        from scipy import special

        log_p, onehot = special.log_softmax(logits_NC, axis=1), self.indicators(targets, logits_NC.shape[1])
        return -float(np.sum(log_p * onehot)), np.exp(log_p) - onehot

    def validated(self, logits_NC: np.ndarray, targets: np.ndarray, folds_N: np.ndarray) -> Validated:
        """All three."""
        return Validated(logits_NC, targets, folds_N)


MULTICLASS = Multiclass()
