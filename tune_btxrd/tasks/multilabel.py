"""Multilabel: every image has an answer per label: yes, no or unknown. L = labels, N = images, B = batch.

Unknown adds nothing: not to a loss, a weight, a metric or a mean. A probability of 0.5 is a yes.
"""
# ruff: noqa: N802, N803, N815
# (shape suffixes: logits_NL)

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from tune_btxrd.config import LABEL_LOSSES, TrainConfig
from tune_btxrd.errors import DataError
from tune_btxrd.monitor import undefined_monitor
from tune_btxrd.tasks.calibrated import label_loss
from tune_btxrd.tasks.record import FIRST, NEXT, EpochMetrics, score
from tune_btxrd.tasks.task import Task
from tune_btxrd.tasks.weights import positive_weights

if TYPE_CHECKING:
    import torch

    from tune_btxrd.tasks.losses import Terms

PREFIX = "label:"  # of a label's column
YES, NO, UNKNOWN = 1, 0, -1
CELLS = {"1": YES, "0": NO, "": UNKNOWN}
DEFINED = ("val_loss", "calibrated_loss")  # monitored values that one known cell defines
UNDEFINED = float("nan")  # a metric of a label without a known yes, or without a known no, where it asks for one


@dataclass(frozen=True)
class Validated:
    """A validation part with the model's answers, from which the formulas of the metrics take what they need."""

    logits_NL: np.ndarray
    targets_NL: np.ndarray
    folds_N: np.ndarray | None = None  # `scores` gives it

    @cached_property
    def judged_L(self) -> np.ndarray:
        """(L,) bool: labels with a yes and a no; the others are left out of every mean over labels."""
        return judged(self.targets_NL)

    @cached_property
    def cells_4L(self) -> np.ndarray:
        """(4, L) int64: true yes, false no, true no, false yes, by a probability of 0.5."""
        called, yes, no = self.logits_NL >= 0, self.targets_NL == YES, self.targets_NL == NO
        return np.stack([(called & yes).sum(0), (~called & yes).sum(0), (~called & no).sum(0), (called & no).sum(0)])

    def mean(self, values_L: np.ndarray | Sequence[float]) -> float:
        """Mean over the judged labels; undefined where there is none."""
        return float(np.asarray(values_L)[self.judged_L].mean()) if self.judged_L.any() else UNDEFINED


def judged(targets_NL: np.ndarray) -> np.ndarray:
    """(L,) bool: labels with a known yes and a known no among these images."""
    return np.asarray((targets_NL == YES).any(axis=0) & (targets_NL == NO).any(axis=0))


def cross_entropy(logits_NL: np.ndarray, targets_NL: np.ndarray) -> float:
    """Binary cross-entropy in nats, mean over known cells, in float64; not finite where a logit of a known cell is not."""
    known = targets_NL != UNKNOWN
    wrong = np.where(targets_NL == YES, -logits_NL.astype(np.float64), logits_NL)[known]
    return float(np.logaddexp(0.0, wrong).mean())


def recalls(v: Validated) -> np.ndarray:
    """(L,) found / all images with a yes; undefined where there is none."""
    return _ratio(v.cells_4L[0], v.cells_4L[0] + v.cells_4L[1])


def specificities(v: Validated) -> np.ndarray:
    """(L,) images called no / all images with a no; undefined where there is none."""
    return _ratio(v.cells_4L[2], v.cells_4L[2] + v.cells_4L[3])


def f1s(v: Validated) -> np.ndarray:
    """(L,) 2 TP / (2 TP + FP + FN); undefined without a yes or a no."""
    true_yes, false_no, _, false_yes = v.cells_4L
    return np.where(v.judged_L, _ratio(2 * true_yes, 2 * true_yes + false_yes + false_no), UNDEFINED)


def aucs(v: Validated) -> tuple[float, ...]:
    """Per label: area under the ROC curve over known images, a tie counts half; undefined without a yes or a no."""
    areas = []
    for index, fine in enumerate(v.judged_L):
        scores, targets = v.logits_NL[:, index], v.targets_NL[:, index]
        areas.append(_auc(scores[targets == YES], np.sort(scores[targets == NO])) if fine else UNDEFINED)
    return tuple(areas)


def average_precisions(v: Validated) -> tuple[float, ...]:
    """Per label: mean precision over the known images with a yes, at the threshold that finds each.

    Undefined without a yes.
    """
    return tuple(_average_precision(v.logits_NL[:, index], v.targets_NL[:, index]) for index in range(v.targets_NL.shape[1]))


def exact_match(v: Validated) -> float:
    """Share of images with every label right, of those whose labels are all known; undefined where there is none."""
    whole = (v.targets_NL != UNKNOWN).all(axis=1)
    right = ((v.logits_NL >= 0) == (v.targets_NL == YES)).all(axis=1)
    return float(right[whole].mean()) if whole.any() else UNDEFINED


def _auc(yes: np.ndarray, sorted_no: np.ndarray) -> float:
    below = sum(int(np.searchsorted(sorted_no, yes, side).sum()) for side in ("left", "right"))
    return below / (2 * len(yes) * len(sorted_no))


def _average_precision(scores_N: np.ndarray, targets_N: np.ndarray) -> float:
    """Sum over thresholds of (recall gained) * precision; images with the same score come at one threshold."""
    yes_scores, scores = np.sort(scores_N[targets_N == YES]), np.sort(scores_N[targets_N != UNKNOWN])
    if not len(yes_scores):
        return UNDEFINED
    found = len(yes_scores) - np.searchsorted(yes_scores, yes_scores)  # of a yes, at its own threshold
    called = len(scores) - np.searchsorted(scores, yes_scores)
    return float((found / called).mean())


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    ratio: np.ndarray = np.divide(part, whole, out=np.full(len(part), UNDEFINED), where=whole > 0)
    return ratio


def _tuple(values: np.ndarray) -> tuple[float, ...]:
    return tuple(values.tolist())


@dataclass(frozen=True, kw_only=True)
class MultilabelMetrics(EpochMetrics):
    """An epoch of a multilabel training. A mean over labels is one over those that have a yes and a no in validation.

    What cannot be computed is NaN in the record, nan or empty in tables and "-" where a person reads it.
    """

    val_loss: float = score(
        "unweighted binary cross-entropy in nats, mean over known cells",
        lambda v: cross_entropy(v.logits_NL, v.targets_NL),
        better="lower",
        label="val loss",
        place=FIRST,
    )
    val_exact_match: float = score(
        "share of images with every label right, of those whose labels are all known, in [0, 1]; NaN: no such image",
        exact_match,
        better="higher",
        label="exact match",
        place=NEXT,
    )
    val_recall: tuple[float, ...] = score(
        "found images of a label, at probability 0.5, in [0, 1]; NaN for a label without a yes",
        lambda v: _tuple(recalls(v)),
        better="higher",
        label="recall",
        per_class=True,
        place=NEXT,
    )
    val_macro_f1: float = score("mean of the labels' F1", lambda v: v.mean(f1s(v)), better="higher", label="macro-F1")
    val_macro_auc: float = score("mean of the labels' AUC", lambda v: v.mean(aucs(v)), better="higher", label="macro-AUC")
    val_calibrated_loss: float = score(
        "binary cross-entropy in nats after calibration on the validation part's other folds, mean over known cells",
        lambda v: label_loss(v.logits_NL, v.targets_NL, v.folds_N),
        better="lower",
        label="calibrated loss",
        before=math.nan,
    )
    val_macro_ap: float = score(
        "mean of the labels' average precision", lambda v: v.mean(average_precisions(v)), better="higher", label="macro-AP"
    )
    val_macro_recall: float = score(
        "mean of the labels' recall", lambda v: v.mean(recalls(v)), better="higher", label="macro recall"
    )
    val_macro_specificity: float = score(
        "mean of the labels' specificity", lambda v: v.mean(specificities(v)), better="higher", label="macro specificity"
    )
    val_auc: tuple[float, ...] = score(
        "area under a label's ROC curve; NaN without a yes or a no", aucs, better="higher", label="AUC", per_class=True
    )
    val_ap: tuple[float, ...] = score(
        "average precision of a label; NaN without a yes",
        average_precisions,
        better="higher",
        label="average precision",
        per_class=True,
    )
    val_specificity: tuple[float, ...] = score(
        "images called no, of those with a no, at probability 0.5; NaN without a no",
        lambda v: _tuple(specificities(v)),
        better="higher",
        label="specificity",
        per_class=True,
    )
    val_f1: tuple[float, ...] = score(
        "F1 of a label at probability 0.5; NaN without a yes or a no",
        lambda v: _tuple(f1s(v)),
        better="higher",
        label="F1",
        per_class=True,
    )


@dataclass(frozen=True)
class Multilabel(Task):
    """Targets are int64 (N, L): YES, NO or UNKNOWN per label. A train part is counted as (2, L): its no, its yes."""

    name: ClassVar[str] = "multilabel"
    record: ClassVar[type[EpochMetrics]] = MultilabelMetrics
    watched: ClassVar[str] = "val_recall"
    exclusive: ClassVar[bool] = False
    losses: ClassVar[tuple[str, ...]] = LABEL_LOSSES

    def unknown(self, count: int, classes: int) -> np.ndarray:
        """(count, L) UNKNOWN."""
        return np.full((count, classes), UNKNOWN, dtype=np.int64)

    def known(self, targets: np.ndarray, classes: int) -> np.ndarray:
        """Where the answer is not UNKNOWN."""
        return np.asarray(targets != UNKNOWN)

    def read(self, cells: Mapping[str, Sequence[str]], class_names: Sequence[str]) -> np.ndarray:
        """The answers in the columns `label:NAME`: 1, 0, or empty for unknown. Raises: DataError."""
        columns = []
        for name in class_names:
            if (column := PREFIX + name) not in cells:
                raise DataError(f"Every label must have its column, but there is no {column!r}: the targets are another's.")
            if alien := [cell for cell in cells[column] if cell not in CELLS]:
                raise DataError(f"A cell of {column!r} must be 1, 0 or empty, but got {alien[0]!r}: correct it.")
            columns.append([CELLS[cell] for cell in cells[column]])
        return np.array(columns, dtype=np.int64).reshape(len(columns), -1).T.copy()

    def write(self, targets: np.ndarray, class_names: Sequence[str]) -> dict[str, list[str]]:
        """A column `label:NAME` per label, with 1, 0, or empty for unknown."""
        texts = np.where(targets == UNKNOWN, "", targets.astype(str))
        return {PREFIX + name: texts[:, index].tolist() for index, name in enumerate(class_names)}

    def texts(self, targets: np.ndarray, class_names: Sequence[str]) -> list[str]:
        """The labels that are a yes, and with a question mark those that are unknown: `supine, male?`."""
        marks = {YES: "{}", UNKNOWN: "{}?"}
        return [
            ", ".join(marks[cell].format(name) for name, cell in zip(class_names, row, strict=True) if cell in marks)
            or "none"
            for row in targets.tolist()
        ]

    def indicators(self, targets: np.ndarray, classes: int) -> np.ndarray:
        """1 per yes; a no and unknown are 0."""
        return np.asarray(targets == YES, dtype=np.float64)

    def answers(self, targets: np.ndarray, classes: int) -> np.ndarray:
        """(N, 3 L): whether the image has a yes, a no, nothing known of each label."""
        return np.concatenate([targets == answer for answer in (YES, NO, UNKNOWN)], axis=1).astype(np.float64)

    def train_counts(self, targets: np.ndarray, classes: int) -> np.ndarray:
        """(2, L) int64: images with a no, with a yes."""
        return np.stack([(targets == answer).sum(axis=0) for answer in (NO, YES)])

    def require_trainable(self, train_counts: np.ndarray) -> None:
        """Some label has a yes and a no; a label that has not learns nothing, and is said (`part_notes`)."""
        if not train_counts.all(axis=0).any():
            raise DataError(
                "Some label must have a yes and a no among the training images, but none has: label more images."
            )

    def require_monitored(self, monitor: str, targets: np.ndarray) -> None:
        """The means over labels need a label with a yes and a no."""
        if monitor not in DEFINED and not judged(targets).any():
            raise undefined_monitor(monitor)

    def rarest_count(self, targets: np.ndarray, whole: np.ndarray, classes: int) -> int:
        """Known answers yes, or no, of the label that has fewest, of those with both in `whole`; 0 where none has."""
        found = [(targets[:, index] == answer).sum() for index in np.flatnonzero(judged(whole)) for answer in (YES, NO)]
        return int(min(found, default=0))

    def same(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """No label has a yes in one and a no in the other; what is unknown contradicts nothing."""
        return np.asarray(((first == second) | (first == UNKNOWN) | (second == UNKNOWN)).all(axis=1))

    def strata(self, targets: np.ndarray, class_names: Sequence[str]) -> np.ndarray | None:
        """None: an image has several labels."""
        return None

    def rarest(self, targets: np.ndarray) -> int:
        """The label with the fewest yes, of those with a yes and a no where there are any; readers watch it by default."""
        found = (targets == YES).sum(axis=0)
        return int(np.argmin(np.where(judged(targets), found, len(targets) + 1 + (found == 0))))

    def count_words(self, targets: np.ndarray, class_names: Sequence[str]) -> str:
        """Yes, no and unknown per label."""
        of_label = zip(
            class_names, *((targets == answer).sum(axis=0).tolist() for answer in (YES, NO, UNKNOWN)), strict=True
        )
        return ", ".join(f"{name} {yes} yes {no} no {unknown} unknown" for name, yes, no, unknown in of_label)

    def part_notes(self, targets: np.ndarray, class_names: Sequence[str]) -> list[str]:
        """Labels without a yes or a no, which are left out of means over labels."""
        lacks = {"yes": (targets == YES).any(axis=0), "no": (targets == NO).any(axis=0)}
        notes = []
        for index, name in enumerate(class_names):
            absent = [answer for answer, found in lacks.items() if not found[index]]
            if absent:
                notes.append(f"no image has a known {' or '.join(absent)} for {name}: left out of means over labels")
        return notes

    def class_weights(self, train_counts: np.ndarray) -> np.ndarray:
        """(L,) weights of a yes, n_no / n_yes of the train part."""
        return positive_weights(train_counts)

    def loss_fields(self, loss: str) -> tuple[str, ...]:
        """The fields of TrainConfig that the loss reads."""
        from tune_btxrd.tasks import label_losses

        return label_losses.LABEL_LOSSES[loss].reads

    def terms(self, config: TrainConfig, train_counts: np.ndarray, epoch: int, device: "torch.device") -> "Terms":
        """Weights of yes and no, and the loss with its own hyperparameters."""
        from tune_btxrd.tasks.label_losses import label_terms

        self.require_loss(config.loss)
        return label_terms(config, train_counts, epoch, device)

    def loss(
        self, logits_BC: "torch.Tensor", targets: "torch.Tensor", terms: "Terms"
    ) -> "tuple[torch.Tensor, torch.Tensor]":
        """Each known cell counts with the weight of its answer; a batch in which nothing is known has loss 0."""
        from tune_btxrd.tasks.label_losses import LabelTerms, cell_weights

        assert isinstance(terms, LabelTerms)
        weight = cell_weights(targets, terms).sum()
        return terms.loss(logits_BC, targets, terms), weight.clamp_min(1e-12)

    def order(self, targets: "torch.Tensor", generator: "torch.Generator", *, sampling: str) -> "torch.Tensor":
        """Each image once, or drawn so that yes and no of each label come alike."""
        from tune_btxrd.tasks.label_losses import label_order

        return label_order(targets, generator, sampling=sampling)

    def probabilities(self, logits_NC: np.ndarray) -> np.ndarray:
        """sigmoid."""
        from scipy import special

        return np.asarray(special.expit(logits_NC.astype(np.float64)))

    def decide(self, probabilities_NC: np.ndarray) -> np.ndarray:
        """(N, L): a yes from 0.5 on; nothing is unknown."""
        return np.where(probabilities_NC >= 0.5, YES, NO).astype(np.int64)

    def decide_logits(self, logits_NC: np.ndarray) -> np.ndarray:
        """(N, L): a yes from 0 on."""
        return np.where(logits_NC >= 0, YES, NO).astype(np.int64)

    def log_loss(self, logits_NC: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray]:
        """Binary cross-entropy, summed over known cells; the slope of an unknown one is 0."""
        from scipy import special

        known, logits = targets != UNKNOWN, logits_NC.astype(np.float64)
        each = np.logaddexp(0.0, np.where(targets == YES, -logits, logits))
        return float(each[known].sum()), np.where(known, special.expit(logits) - (targets == YES), 0.0)

    def validated(self, logits_NC: np.ndarray, targets: np.ndarray, folds_N: np.ndarray) -> Validated:
        """All three."""
        return Validated(logits_NC, targets, folds_N)


MULTILABEL = Multilabel()
