"""SampleKind: what a training asks of its samples; their dimensions are known here, in the cache and in the models."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from tune_btxrd.config import TrainConfig
from tune_btxrd.training.augment.images import IMAGES
from tune_btxrd.training.augment.volumes import VOLUMES
from tune_btxrd.training.models.names import is_volume_backbone


class SampleKind(Protocol):
    """Images and volumes. A new kind is one file with such a class, and its line in KINDS.

    Attributes:
        fewest: samples in a batch of validation, whatever their size.
    """

    fewest: int

    def accepts(self, samples: np.ndarray) -> bool:
        """Whether these uint8 samples (N, ...) are of this kind."""
        ...

    def side(self, samples: np.ndarray) -> int:
        """Length of a sample's sides, px."""
        ...

    def pixels(self, samples: np.ndarray) -> int:
        """Places in one sample, channels not counted."""
        ...

    def channels(self, samples: np.ndarray) -> int | None:
        """Channels that a model for these samples takes; None where the kind alone decides it."""
        ...

    def to_float(self, samples: Tensor) -> Tensor:
        """uint8 (B, ...) -> float32 with channels second, in [0, 1]."""
        ...

    def augment(self, batch: Tensor, generator: torch.Generator, config: TrainConfig) -> Tensor:
        """The augmented float batch; a pure function of batch and generator."""
        ...

    def normalise(self, batch: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """The model's input."""
        ...

    def memory_format(self, device: torch.device) -> torch.memory_format:
        """That in which models of this kind are fastest."""
        ...

    def blank(self, count: int, side: int, device: torch.device, *, channels: int | None) -> Tensor:
        """`count` model inputs of zeros, in the memory format that the model takes."""
        ...


KINDS: tuple[SampleKind, ...] = (IMAGES, VOLUMES)


def kind_of(samples: np.ndarray) -> SampleKind:
    """The kind of these samples."""
    found = [kind for kind in KINDS if kind.accepts(samples)]
    assert len(found) == 1, (samples.dtype, samples.shape)
    return found[0]


def serving(backbone: str) -> SampleKind:
    """The kind of samples that a backbone takes."""
    return VOLUMES if is_volume_backbone(backbone) else IMAGES
