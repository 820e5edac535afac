"""SampleKind: what a training asks of its samples; their dimensions are known here, in the cache and in the models."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from tune_btxrd.config import TrainConfig
from tune_btxrd.training.augment.images import IMAGES


class SampleKind(Protocol):
    """Images today. A new kind is one file with such a class, and its line in KINDS."""

    def accepts(self, samples: np.ndarray) -> bool:
        """Whether these uint8 samples (N, ...) are of this kind."""
        ...

    def side(self, samples: np.ndarray) -> int:
        """Length of a sample's sides, px."""
        ...

    def pixels(self, samples: np.ndarray) -> int:
        """Places in one sample, channels not counted."""
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

    def blank(self, count: int, side: int, device: torch.device) -> Tensor:
        """`count` model inputs of zeros, in the memory format that the model takes."""
        ...


KINDS: tuple[SampleKind, ...] = (IMAGES,)


def kind_of(samples: np.ndarray) -> SampleKind:
    """The kind of these samples."""
    found = [kind for kind in KINDS if kind.accepts(samples)]
    assert len(found) == 1, (samples.dtype, samples.shape)
    return found[0]
