"""What a multilabel training minimises: one function per word of `config.LABEL_LOSSES`, and sampling beside it.

A new loss is a word in `config.LABEL_LOSSES`, and here a function with its line in LABEL_LOSSES; it declares what it reads
as in `tasks/losses.py`. A function returns the loss of every cell (image, label); weights come afterwards in one place,
where an unknown cell weighs nothing, so that no loss can count one.
"""
# ruff: noqa: N803, N806, N815
# (shape suffixes: logits_BL, B = batch, L = labels; yes_BL is 1.0 for a yes, 0.0 for a no and for unknown)

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tune_btxrd import config as words
from tune_btxrd.config import TrainConfig
from tune_btxrd.tasks.losses import Loss, Options, Terms
from tune_btxrd.tasks.weights import label_weights

YES, NO, UNKNOWN = 1, 0, -1
CellLoss = Callable[[Tensor, Tensor, Terms], Tensor]


@dataclass(frozen=True, kw_only=True)
class LabelTerms(Terms):
    """As `Terms`; `weights_C` are the weights of a yes per label, `counts_C` the yes of the train part."""

    no_weights_C: Tensor  # float32, on the device: weights of a no per label


def cell_weights(targets_BL: Tensor, terms: LabelTerms) -> Tensor:
    """(B, L): the weight of a yes or of a no of its label; 0 where nothing is known."""
    weights_BL = torch.where(targets_BL == YES, terms.weights_C, terms.no_weights_C)
    return weights_BL * (targets_BL != UNKNOWN)


def summed(cell_loss: CellLoss) -> CellLoss:
    """The loss of a batch from that of its cells: their weighted sum."""

    def total(logits_BL: Tensor, targets_BL: Tensor, terms: Terms) -> Tensor:
        assert isinstance(terms, LabelTerms)
        yes_BL = (targets_BL == YES).to(logits_BL.dtype)
        return (cell_loss(logits_BL, yes_BL, terms) * cell_weights(targets_BL, terms)).sum()

    return total


def binary_cross_entropy(logits_BL: Tensor, yes_BL: Tensor, terms: Terms) -> Tensor:
    """Binary cross-entropy; with label smoothing s the target is (1 - s) of its answer and s/2 of each.

    The weight of a cell is that of its answer, for the smoothed share of the other answer too.
    """
    smoothing = terms.options.label_smoothing
    return F.binary_cross_entropy_with_logits(logits_BL, yes_BL * (1 - smoothing) + smoothing / 2, reduction="none")


def focal(logits_BL: Tensor, yes_BL: Tensor, terms: Terms) -> Tensor:
    """(1 - p)^gamma * binary cross-entropy, p the probability of the right answer (Lin et al., ICCV 2017, eq. 5).

    Its alpha is the weight of a yes, 1 - alpha that of a no (`label_weights`).
    """
    log_p_BL = F.logsigmoid((2 * yes_BL - 1) * logits_BL)
    rest_BL = (-torch.expm1(log_p_BL)).clamp_min(torch.finfo(log_p_BL.dtype).eps)  # 1 - p; at 0 a small gamma has no slope
    loss_BL: Tensor = -(rest_BL**terms.options.focal_gamma) * log_p_BL
    return loss_BL


def asymmetric(logits_BL: Tensor, yes_BL: Tensor, terms: Terms) -> Tensor:
    """Focal loss with a gamma for yes and another for no, whose probability is shifted down (Ridnik et al., ICCV 2021).

    A yes costs -(1 - p)^gamma_pos * log p; a no costs -q^gamma_neg * log(1 - q), q = max(p - clip, 0) (eq. 5 to 7).
    """
    options = terms.options
    clip, smallest = options.asymmetric_clip, torch.finfo(logits_BL.dtype).eps
    p_BL, rest_BL = torch.sigmoid(logits_BL), torch.sigmoid(-logits_BL)  # both exact near 0
    of_yes_BL = -(rest_BL.clamp_min(smallest) ** options.asymmetric_gamma_pos) * F.logsigmoid(logits_BL)
    log_rest_BL = (rest_BL + clip).clamp_max(1).log() if clip else F.logsigmoid(-logits_BL)
    of_no_BL = -((p_BL - clip).clamp_min(smallest) ** options.asymmetric_gamma_neg) * log_rest_BL
    return torch.where(yes_BL > 0, of_yes_BL, of_no_BL)


LABEL_LOSSES: dict[str, Loss] = {
    "weighted_bce": Loss(summed(binary_cross_entropy), reads=("label_smoothing",)),  # its weights: see `label_weights`
    "bce": Loss(summed(binary_cross_entropy), reads=("label_smoothing",)),
    "focal": Loss(summed(focal), reads=("focal_gamma", "focal_alpha")),
    "asymmetric": Loss(summed(asymmetric), reads=("asymmetric_gamma_neg", "asymmetric_gamma_pos", "asymmetric_clip")),
}
assert tuple(LABEL_LOSSES) == words.LABEL_LOSSES, "every word of config.LABEL_LOSSES is a loss, and the other way round"


def label_terms(config: TrainConfig, train_counts_2L: np.ndarray, epoch: int, device: torch.device) -> LabelTerms:
    """What the losses of this epoch (1-based) are told."""
    loss = LABEL_LOSSES[config.loss]
    no, yes = torch.tensor(label_weights(config, train_counts_2L, epoch), dtype=torch.float32, device=device)
    counts = torch.tensor(train_counts_2L[YES], dtype=torch.float32, device=device)
    return LabelTerms(loss=loss, options=Options(config, loss.reads), weights_C=yes, no_weights_C=no, counts_C=counts)


def label_order(targets_NL: Tensor, generator: torch.Generator, *, sampling: str) -> Tensor:
    """int64 (N,) positions of an epoch's training images, on the CPU: each once, or drawn so that answers come alike.

    Balanced: an image is drawn by the mean, over its known cells, of 1 / images with this answer to this label. So yes and
    no of a label come as often as each other as far as images that carry several labels allow; what is unknown has no say.
    """
    if sampling == "natural":
        return torch.randperm(len(targets_NL), generator=generator)
    chances_NL = torch.zeros(targets_NL.shape, dtype=torch.float64)
    for answer in (NO, YES):
        given_NL = targets_NL == answer
        chances_NL += given_NL / given_NL.sum(dim=0).clamp_min(1)
    chances_N = chances_NL.sum(dim=1) / (targets_NL != UNKNOWN).sum(dim=1).clamp_min(1)
    return torch.multinomial(chances_N, len(targets_NL), replacement=True, generator=generator)
