"""A second task, as small as can be: two labels per sample, each yes, no or unknown. It proves that the seam holds one."""
# ruff: noqa: N803
# (shape suffixes: logits_NL; N samples, L labels)

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from scipy import special

from tune_btxrd.config import TrainConfig
from tune_btxrd.tasks.losses import Loss, Options, Terms
from tune_btxrd.tasks.record import EpochMetrics, score
from tune_btxrd.tasks.task import Task

YES, NO, UNKNOWN = 1, 0, -1


@dataclass(frozen=True, kw_only=True)
class LabelMetrics(EpochMetrics):
    """An epoch of a training on labels."""

    val_loss: float = score("mean over known labels", lambda v: _loss(*v), better="lower", label="val loss")
    val_found: tuple[float, ...] = score(
        "share of the yes that are found", lambda v: _found(*v), better="higher", label="found", per_class=True
    )
    val_macro_f1: float = score("constant", lambda v: 0.5, better="higher", label="macro-F1")
    val_macro_auc: float = score("constant", lambda v: 0.5, better="higher", label="macro-AUC")


def _loss(logits_NL: np.ndarray, targets_NL: np.ndarray) -> float:
    known = targets_NL != UNKNOWN
    return float(-special.log_expit(np.where(targets_NL == YES, logits_NL, -logits_NL))[known].mean())


def _found(logits_NL: np.ndarray, targets_NL: np.ndarray) -> tuple[float, ...]:
    yes = targets_NL == YES
    return tuple((((logits_NL > 0) & yes).sum(axis=0) / np.maximum(yes.sum(axis=0), 1)).tolist())


def _cross_entropy(logits: torch.Tensor, targets: torch.Tensor, terms: Terms) -> torch.Tensor:
    each = F.binary_cross_entropy_with_logits(logits, targets.float().clamp_min(0), reduction="none")
    return (each * terms.weights_C)[targets != UNKNOWN].sum()


@dataclass(frozen=True)
class TwoLabels(Task):
    """Targets are int64 (N, L): YES, NO or UNKNOWN."""

    name: ClassVar[str] = "two_labels"
    record: ClassVar[type[EpochMetrics]] = LabelMetrics
    watched: ClassVar[str] = "val_found"
    exclusive: ClassVar[bool] = False
    losses: ClassVar[tuple[str, ...]] = ("weighted_ce",)  # the word of a plain config

    def unknown(self, count: int, classes: int) -> np.ndarray:
        return np.full((count, classes), UNKNOWN)

    def read(self, cells: Mapping[str, Sequence[str]], class_names: Sequence[str]) -> np.ndarray:
        columns = [[int(cell) if cell else UNKNOWN for cell in cells[f"label:{name}"]] for name in class_names]
        return np.array(columns).T

    def write(self, targets: np.ndarray, class_names: Sequence[str]) -> dict[str, list[str]]:
        texts = np.where(targets == UNKNOWN, "", targets.astype(str))
        return {f"label:{name}": texts[:, index].tolist() for index, name in enumerate(class_names)}

    def indicators(self, targets: np.ndarray, classes: int) -> np.ndarray:
        return (targets == YES).astype(np.float64)

    def known(self, targets: np.ndarray, classes: int) -> np.ndarray:
        return np.asarray(targets != UNKNOWN)

    def same(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return (first == second).all(axis=1)

    def strata(self, targets: np.ndarray, class_names: Sequence[str]) -> np.ndarray | None:
        return None

    def class_weights(self, train_counts: np.ndarray) -> np.ndarray:
        return np.ones(len(train_counts))

    def loss_fields(self, loss: str) -> tuple[str, ...]:
        return ()

    def terms(self, config: TrainConfig, train_counts: np.ndarray, epoch: int, device: torch.device) -> Terms:
        counts = torch.tensor(train_counts, dtype=torch.float32, device=device)
        loss = Loss(_cross_entropy)
        return Terms(loss=loss, options=Options(config, loss.reads), weights_C=torch.ones_like(counts), counts_C=counts)

    def loss(self, logits_BC: torch.Tensor, targets: torch.Tensor, terms: Terms) -> tuple[torch.Tensor, torch.Tensor]:
        return terms.loss(logits_BC, targets, terms), (targets != UNKNOWN).sum().float()

    def order(self, targets: torch.Tensor, generator: torch.Generator, *, sampling: str) -> torch.Tensor:
        return torch.randperm(len(targets), generator=generator)

    def probabilities(self, logits_NC: np.ndarray) -> np.ndarray:
        return np.asarray(special.expit(logits_NC.astype(np.float64)))

    def decide(self, probabilities_NC: np.ndarray) -> np.ndarray:
        return (probabilities_NC > 0.5).astype(np.int64)

    def log_loss(self, logits_NC: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray]:
        known = targets != UNKNOWN
        each = -special.log_expit(np.where(targets == YES, logits_NC, -logits_NC))
        return float(each[known].sum()), (special.expit(logits_NC) - targets) * known

    def validated(self, logits_NC: np.ndarray, targets: np.ndarray, folds_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return logits_NC, targets


TWO_LABELS = TwoLabels()
