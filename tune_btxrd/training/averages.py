"""Averages: exponential moving averages of a model's weights and batch statistics (EMA), in memory of their own."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tune_btxrd.training.models.shell import load_tensors


class Averages:
    """The averages of everything in a model's state; whole numbers, as counts of batches, are those of the last step.

    The first ones would be nearly the initial weights for 1 / (1 - decay) steps. So the n-th step keeps the share
    min(decay, (1 + n) / (10 + n)) of the average, as TensorFlow's ExponentialMovingAverage does with `num_updates`.

    Attributes:
        tensors: by the names of `model.state_dict()`; steps: how many have been averaged.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.tensors = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    def load(self, tensors: Mapping[str, Tensor], *, steps: int) -> None:
        """The averages after so many steps, from elsewhere."""
        self.steps = steps
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Takes the model in as it is after a step."""
        self.steps += 1
        share = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        floats: tuple[list[Tensor], list[Tensor]] = ([], [])
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                floats[0].append(self.tensors[name])
                floats[1].append(tensor)
            else:
                self.tensors[name].copy_(tensor)
        torch._foreach_lerp_(*floats, share)

    @contextmanager
    def in_place_of(self, model: nn.Module) -> Iterator[None]:
        """Inside, the model computes with the averages; afterwards it is what it was."""
        trained = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        load_tensors(model, self.tensors)
        try:
            yield
        finally:
            load_tensors(model, trained)
