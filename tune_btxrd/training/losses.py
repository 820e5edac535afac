"""What training minimises. A loss returns (sum over the batch, its normaliser), so that an epoch's mean is exact."""
# ruff: noqa: N803
# (shape suffixes: logits_BC)

import numpy as np
import torch.nn.functional as F
from torch import Tensor


def class_weights(train_counts: np.ndarray) -> np.ndarray:
    """Inverse-frequency weights n / (C * n_c), float64 (C,), from the (C,) counts of the train part; all counts > 0."""
    assert (train_counts > 0).all()
    weights: np.ndarray = train_counts.sum() / (len(train_counts) * train_counts)
    return weights


def weighted_cross_entropy(logits_BC: Tensor, targets_B: Tensor, weights_C: Tensor) -> tuple[Tensor, Tensor]:
    """(sum of w[y] * cross-entropy, sum of w[y]); their ratio is torch's weighted mean."""
    total = F.cross_entropy(logits_BC, targets_B, weight=weights_C, reduction="sum")
    return total, weights_C[targets_B].sum()
