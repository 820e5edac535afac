"""EpochMetrics, the record of one epoch, and the pure functions on plain arrays that fill it. C = classes, N = images."""
# ruff: noqa: N803, N806
# (shape suffixes: logits_BC)

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

ZERO_RECALL_EPOCHS = 2  # so many epochs in a row without one found image of the positive class call for a warning


@dataclass(frozen=True, kw_only=True)
class EpochMetrics:
    """What one epoch of one training gave. Names of classes are attached at the boundary."""

    epoch: int  # 1-based: epochs finished
    train_loss: float  # weighted cross-entropy, weighted mean over the epoch's augmented images, dropout on
    val_loss: float  # unweighted cross-entropy, mean over images, lower is better
    val_acc: float  # share of images, in [0, 1]
    val_recall: tuple[float, ...]  # one per class, in [0, 1]; 0 for a class without a validation image
    val_macro_f1: float  # mean of the classes' F1, in [0, 1]
    val_macro_auc: float  # mean of the classes' AUC against the rest, in [0, 1]
    lr: float  # learning rate of this epoch's steps; of the head where the backbone has its own
    lr_backbone: float  # learning rate of the last layers before the head; 0 while they are frozen
    stage: int  # 1-based
    objective: float  # monitored value of the best epoch so far, negated where higher is better; it never rises
    improved: bool  # the monitored value got better by more than min_delta: this is the best epoch so far
    stop: str  # "" go on, "patience" or "budget": this was the last epoch
    zero_recall_epochs: int  # epochs in a row, this one included, with recall 0 of the positive class
    images_per_second: float  # trained images per train second
    train_seconds: float  # without validation
    val_seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data: name -> value; the recalls as a list."""
        return dataclasses.asdict(self) | {"val_recall": list(self.val_recall)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "EpochMetrics":
        """The inverse of `to_dict`."""
        return cls(**{**values, "val_recall": tuple(values["val_recall"])})


def cross_entropy(logits_NC: np.ndarray, targets_N: np.ndarray) -> float:
    """Unweighted cross-entropy in nats, mean over images, in float64; not finite where a logit is not."""
    with np.errstate(invalid="ignore", over="ignore"):  # the caller checks the result
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
