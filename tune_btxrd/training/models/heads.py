"""Heads: what stands between a backbone's features and the logits, see `TrainConfig.head`."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

HIDDEN = 512  # units of the mlp head


class CosineHead(nn.Module):
    """Logits are cosines of the angles between features and class vectors: within [-1, 1], no bias (Cao et al. 2019)."""

    def __init__(self, features: int, num_classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.Linear(features, num_classes, bias=False).weight.detach())

    def forward(self, features: Tensor) -> Tensor:
        """(B, features) -> (B, C) cosines."""
        return F.linear(F.normalize(features), F.normalize(self.weight))


def _mlp_head(features: int, num_classes: int, drop_rate: float) -> nn.Module:
    """The backbone's own dropout comes before it; the second one drops half as much."""
    layers = nn.Linear(features, HIDDEN), nn.ReLU(), nn.Dropout(drop_rate / 2), nn.Linear(HIDDEN, num_classes)
    return nn.Sequential(*layers)


HEADS: dict[str, Callable[[int, int, float], nn.Module]] = {
    "mlp": _mlp_head,
    "cosine": lambda features, num_classes, drop_rate: CosineHead(features, num_classes),
}
