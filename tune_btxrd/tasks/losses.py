"""What a multiclass training minimises: one function per word of `config.CLASS_LOSSES`, and sampling beside it.

A new loss is a word in `config.CLASS_LOSSES`, and here a function with its line in LOSSES. What it needs to be told is a
field of TrainConfig; its line declares the field, and the loss finds it as `terms.options.FIELD`. Fields that are not
declared cannot be read: what a captured training step bakes in is derived from the declared ones (`training/capture.py`).
A loss returns the sum over the batch, each image weighted by the weight of its class.
"""
# ruff: noqa: N803, N806, N815
# (shape suffixes: logits_BC, B = batch, C = classes)

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tune_btxrd import config as words
from tune_btxrd.config import TrainConfig
from tune_btxrd.tasks.weights import epoch_weights


class Options:
    """The hyperparameters of a config that a loss has declared; any other one is a NameError, which no `getattr` with a
    default and no `hasattr` takes for "not there".
    """

    def __init__(self, config: TrainConfig, reads: tuple[str, ...]) -> None:
        self._values = {name: getattr(config, name) for name in reads}

    def __getattr__(self, name: str) -> Any:
        values = self.__dict__.get("_values", {})
        if name.startswith("__"):  # Python's own questions, of copy and pickle
            raise AttributeError(name)
        if name not in values:
            declared = ", ".join(values) or "none"
            raise NameError(f"A loss must declare what it reads, but {name!r} is not among its fields ({declared}).")
        return values[name]


@dataclass(frozen=True)
class Loss:
    """A loss and the fields of TrainConfig that it reads."""

    function: "Callable[[Tensor, Tensor, Terms], Tensor]"
    reads: tuple[str, ...] = ()

    def __call__(self, logits_BC: Tensor, targets_B: Tensor, terms: "Terms") -> Tensor:
        """The sum over the batch."""
        total: Tensor = self.function(logits_BC, targets_B, terms)
        return total


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a loss may use beside logits and targets; the same throughout an epoch."""

    loss: Loss
    options: Options
    weights_C: Tensor  # float32, on the device: class weights of this epoch
    counts_C: Tensor  # float32, on the device: training images per class

    def tensors(self) -> dict[str, Tensor]:
        """All but loss and options, by name; they lie in the device's memory, so that a captured step reads them anew."""
        known = {item.name for item in dataclasses.fields(Terms)[:2]}
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self) if item.name not in known}
        assert all(isinstance(value, Tensor) for value in values.values()), "a term that is no tensor would be baked in"
        return values


def cross_entropy(logits_BC: Tensor, targets_B: Tensor, terms: Terms) -> Tensor:
    """Cross-entropy; with label smoothing s the target is (1 - s) of its class and s/C of each."""
    smoothing = terms.options.label_smoothing
    return F.cross_entropy(logits_BC, targets_B, weight=terms.weights_C, label_smoothing=smoothing, reduction="sum")


def focal(logits_BC: Tensor, targets_B: Tensor, terms: Terms) -> Tensor:
    """(1 - p)^gamma * cross-entropy, p the probability of the image's own class (Lin et al., ICCV 2017, eq. 4)."""
    log_p_B = F.log_softmax(logits_BC, dim=1).gather(1, targets_B[:, None])[:, 0]
    rest_B = (-torch.expm1(log_p_B)).clamp_min(torch.finfo(log_p_B.dtype).eps)  # 1 - p; at 0 a small gamma has no slope
    loss_B: Tensor = -terms.weights_C[targets_B] * rest_B**terms.options.focal_gamma * log_p_B
    return loss_B.sum()


def ldam(logits_BC: Tensor, targets_B: Tensor, terms: Terms) -> Tensor:
    """Cross-entropy of scale * (logit - margin of the image's own class) (Cao et al., NeurIPS 2019, eq. 13).

    Margins go with n_c^(-1/4); the rarest class has ldam_margin. The paper uses it with `head: cosine`.
    """
    margins_C = terms.counts_C**-0.25
    margins_C = margins_C * (terms.options.ldam_margin / margins_C.max())
    own_BC = F.one_hot(targets_B, len(margins_C)).to(logits_BC.dtype)
    return cross_entropy(terms.options.ldam_scale * (logits_BC - own_BC * margins_C), targets_B, terms)


def logit_adjusted(logits_BC: Tensor, targets_B: Tensor, terms: Terms) -> Tensor:
    """Cross-entropy of logit + tau * log class frequency, so that bare logits treat classes alike (Menon 2021, eq. 10)."""
    prior_C = terms.counts_C / terms.counts_C.sum()
    return cross_entropy(logits_BC + terms.options.logit_tau * prior_C.log(), targets_B, terms)


LOSSES: dict[str, Loss] = {
    "weighted_ce": Loss(cross_entropy, reads=("label_smoothing",)),  # its weights: see `tasks/weights.py`
    "ce": Loss(cross_entropy, reads=("label_smoothing",)),
    "focal": Loss(focal, reads=("focal_gamma",)),
    "ldam": Loss(ldam, reads=("ldam_margin", "ldam_scale", "label_smoothing")),
    "logit_adjusted": Loss(logit_adjusted, reads=("logit_tau", "label_smoothing")),
}
assert tuple(LOSSES) == words.CLASS_LOSSES, "every word of config.CLASS_LOSSES is a loss, and the other way round"


def terms_of_epoch(config: TrainConfig, train_counts: np.ndarray, epoch: int, device: torch.device) -> Terms:
    """What the losses of this epoch (1-based) are told."""
    loss = LOSSES[config.loss]
    weights = torch.tensor(epoch_weights(config, train_counts, epoch), dtype=torch.float32, device=device)
    counts = torch.tensor(train_counts, dtype=torch.float32, device=device)
    return Terms(loss=loss, options=Options(config, loss.reads), weights_C=weights, counts_C=counts)


def epoch_order(targets_N: Tensor, generator: torch.Generator, *, sampling: str) -> Tensor:
    """int64 (N,) positions of an epoch's training images, on the CPU: each once, or drawn so that classes come alike.

    Args:
        targets_N: classes of the training images, on the CPU; every class occurs.
    """
    if sampling == "natural":
        return torch.randperm(len(targets_N), generator=generator)
    chances_N = 1 / torch.bincount(targets_N).double()[targets_N]
    return torch.multinomial(chances_N, len(targets_N), replacement=True, generator=generator)
