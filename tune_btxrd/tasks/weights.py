"""Class weights from the number of training images per class. C = classes."""

from collections.abc import Callable

import numpy as np

from tune_btxrd.config import TrainConfig

# ruff: noqa: N803
# (shape suffixes: counts_2L; row 0 of a label's no, row 1 of its yes, L = labels)

EFFECTIVE_BETA = 0.9999  # of the effective number of images; Cui et al., CVPR 2019, sec. 5


def epoch_weights(config: TrainConfig, train_counts: np.ndarray, epoch: int) -> np.ndarray:
    """Class weights of an epoch, float64 (C,): those of `reweighting` once it has begun, before that the loss's own."""
    if config.reweighting != "none" and epoch >= config.reweight_from:
        return REWEIGHTING[config.reweighting](train_counts)
    return class_weights(train_counts) if config.loss == "weighted_ce" else np.ones(len(train_counts))


def label_weights(config: TrainConfig, train_counts_2L: np.ndarray, epoch: int) -> np.ndarray:
    """Weights of an epoch for several labels, float64 (2, L): of a no and of a yes, from the counts of both.

    Those of `reweighting` once it has begun, each label as a problem of two classes; before that the loss's own.
    """
    weights = np.ones(train_counts_2L.shape)
    if config.reweighting != "none" and epoch >= config.reweight_from:
        for label in np.flatnonzero(train_counts_2L.all(axis=0)):
            weights[:, label] = REWEIGHTING[config.reweighting](train_counts_2L[:, label])
    elif config.loss == "weighted_bce":
        weights[1] = positive_weights(train_counts_2L)
    elif config.loss == "focal":
        weights *= [[1 - config.focal_alpha], [config.focal_alpha]]
    return weights


def class_weights(train_counts: np.ndarray) -> np.ndarray:
    """Inverse-frequency weights n / (C * n_c), float64 (C,), from the (C,) counts of the train part; all counts > 0."""
    assert (train_counts > 0).all()
    weights: np.ndarray = train_counts.sum() / (len(train_counts) * train_counts)
    return weights


def positive_weights(train_counts_2L: np.ndarray) -> np.ndarray:
    """Weight of a yes per label: n_no / n_yes, float64 (L,), from the (2, L) counts of both; 1 where one of them is 0."""
    no, yes = train_counts_2L.astype(np.float64)
    weights: np.ndarray = np.divide(no, yes, out=np.ones(len(yes)), where=(no > 0) & (yes > 0))
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
