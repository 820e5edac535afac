"""Class weights from the number of training images per class. C = classes."""

from collections.abc import Callable

import numpy as np

from tune_btxrd.config import TrainConfig

EFFECTIVE_BETA = 0.9999  # of the effective number of images; Cui et al., CVPR 2019, sec. 5


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
