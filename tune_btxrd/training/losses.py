"""What training minimises: one function per word of `config.LOSSES`, and the class weights and sampling beside them.

A new loss is a word in `config.LOSSES`, a function here and its line in LOSSES; what it needs to be told is a field of
TrainConfig, which it finds as `terms.config`. A loss returns the sum over the batch, each image weighted by the weight of
its class; the loop divides by the sum of those weights, so that an epoch's mean is exact.
"""
# ruff: noqa: N803, N806, N815
# (shape suffixes: logits_BC, B = batch, C = classes)

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tune_btxrd.config import TrainConfig

EFFECTIVE_BETA = 0.9999  # of the effective number of images; Cui et al., CVPR 2019, sec. 5


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a loss may use beside logits and targets; the same throughout an epoch."""

    config: TrainConfig
    weights_C: Tensor  # float32, on the device: class weights of this epoch
    counts_C: Tensor  # float32, on the device: training images per class


Loss = Callable[[Tensor, Tensor, Terms], Tensor]


def cross_entropy(logits_BC: Tensor, targets_B: Tensor, terms: Terms) -> Tensor:
    """Cross-entropy; with label smoothing s the target is (1 - s) of its class and s/C of each."""
    smoothing = terms.config.label_smoothing
    return F.cross_entropy(logits_BC, targets_B, weight=terms.weights_C, label_smoothing=smoothing, reduction="sum")


def focal(logits_BC: Tensor, targets_B: Tensor, terms: Terms) -> Tensor:
    """(1 - p)^gamma * cross-entropy, p the probability of the image's own class (Lin et al., ICCV 2017, eq. 4)."""
    log_p_B = F.log_softmax(logits_BC, dim=1).gather(1, targets_B[:, None])[:, 0]
    rest_B = (-torch.expm1(log_p_B)).clamp_min(torch.finfo(log_p_B.dtype).eps)  # 1 - p; at 0 a small gamma has no slope
    return -(terms.weights_C[targets_B] * rest_B**terms.config.focal_gamma * log_p_B).sum()


def ldam(logits_BC: Tensor, targets_B: Tensor, terms: Terms) -> Tensor:
    """Cross-entropy of scale * (logit - margin of the image's own class) (Cao et al., NeurIPS 2019, eq. 13).

    Margins go with n_c^(-1/4); the rarest class has ldam_margin. The paper uses it with `head: cosine`.
    """
    margins_C = terms.counts_C**-0.25
    margins_C = margins_C * (terms.config.ldam_margin / margins_C.max())
    own_BC = F.one_hot(targets_B, len(margins_C)).to(logits_BC.dtype)
    return cross_entropy(terms.config.ldam_scale * (logits_BC - own_BC * margins_C), targets_B, terms)


def logit_adjusted(logits_BC: Tensor, targets_B: Tensor, terms: Terms) -> Tensor:
    """Cross-entropy of logit + tau * log class frequency, so that bare logits treat classes alike (Menon 2021, eq. 10)."""
    prior_C = terms.counts_C / terms.counts_C.sum()
    return cross_entropy(logits_BC + terms.config.logit_tau * prior_C.log(), targets_B, terms)


LOSSES: dict[str, Loss] = {
    "weighted_ce": cross_entropy,  # its weights: see `epoch_weights`
    "ce": cross_entropy,
    "focal": focal,
    "ldam": ldam,
    "logit_adjusted": logit_adjusted,
}


def terms_of_epoch(config: TrainConfig, train_counts: np.ndarray, epoch: int, device: torch.device) -> Terms:
    """What the losses of this epoch (1-based) are told."""
    weights = torch.tensor(epoch_weights(config, train_counts, epoch), dtype=torch.float32, device=device)
    return Terms(config=config, weights_C=weights, counts_C=torch.tensor(train_counts, dtype=torch.float32, device=device))


def epoch_weights(config: TrainConfig, train_counts: np.ndarray, epoch: int) -> np.ndarray:
    """Class weights of an epoch, float64 (C,): those of `reweighting` once it has begun, before that the loss's own."""
    if config.reweighting != "none" and epoch >= config.reweight_from:
        return REWEIGHTING[config.reweighting](train_counts)
    return class_weights(train_counts) if config.loss == "weighted_ce" else np.ones(len(train_counts))


def class_weights(train_counts: np.ndarray) -> np.ndarray:
    """Inverse-frequency weights n / (C * n_c), float64 (C,), from the (C,) counts of the train part; all counts > 0."""
    assert (train_counts > 0).all()
    weights: np.ndarray = train_counts.sum() / (len(train_counts) * train_counts)
    return weights


def sqrt_weights(train_counts: np.ndarray) -> np.ndarray:
    """sqrt(n_max / n_c), float64 (C,)."""
    weights: np.ndarray = np.sqrt(train_counts.max() / train_counts)
    return weights


def effective_weights(train_counts: np.ndarray) -> np.ndarray:
    """1 / effective number of images (1 - b^n_c) / (1 - b), scaled to mean 1, (C,) (Cui et al., CVPR 2019, eq. 6)."""
    weights = (1 - EFFECTIVE_BETA) / (1 - EFFECTIVE_BETA**train_counts)
    scaled: np.ndarray = weights / weights.mean()
    return scaled


REWEIGHTING: dict[str, Callable[[np.ndarray], np.ndarray]] = {"sqrt": sqrt_weights, "effective": effective_weights}


def epoch_order(targets_N: Tensor, generator: torch.Generator, *, sampling: str) -> Tensor:
    """int64 (N,) positions of an epoch's training images, on the CPU: each once, or drawn so that classes come alike.

    Args:
        targets_N: classes of the training images, on the CPU; every class occurs.
    """
    if sampling == "natural":
        return torch.randperm(len(targets_N), generator=generator)
    chances_N = 1 / torch.bincount(targets_N).double()[targets_N]
    return torch.multinomial(chances_N, len(targets_N), replacement=True, generator=generator)
