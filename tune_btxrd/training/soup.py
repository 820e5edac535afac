"""Soups: the mean of several trainings' weights as one model, taken in greedily by what validation says.

Wortsman et al., Model soups, ICML 2022, recipe 1: the members are sorted by their own validation value, and each is kept
only if the value of the mean does not fall. The mean of weights is a network whose activations nobody has normalised yet,
so the statistics of its BatchNorm layers are computed anew, from the training images *without* augmentation: they are then
those of images as the model will be asked of, and a fixed order of batches gives the same numbers every time.
"""
# (shape suffixes: logits_NC)

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from tune_btxrd.config import TrainConfig
from tune_btxrd.training.device import resolve_device
from tune_btxrd.training.loop import batch_bounds, predict, val_batch
from tune_btxrd.training.models.shell import build_shell, load_tensors
from tune_btxrd.training.pixels import Pixels, TrainingData

Tensors = Mapping[str, Tensor]
NORMS = nn.modules.batchnorm._BatchNorm  # the base class of every BatchNorm; torch's own `update_bn` asks for it too


@dataclass(frozen=True, kw_only=True)
class Step:
    """One member as a greedy soup took it in or not.

    Attributes:
        member: its place in the list that was given.
        objective: of the mean with it, lower is better; of the first, its own.
    """

    member: int
    objective: float
    kept: bool


def greedy(objectives: Sequence[float], together: Callable[[Sequence[int]], float]) -> list[Step]:
    """Who is kept, from the best member down; ties in the given order. The first is always kept, as it is.

    Args:
        objectives: of each member alone, lower is better; together: of the mean of several.
    """
    order = sorted(range(len(objectives)), key=lambda index: objectives[index])
    kept, best = order[:1], objectives[order[0]]
    steps = [Step(member=order[0], objective=best, kept=True)]
    for member in order[1:]:
        found = together([*kept, member])
        better = found <= best  # never true of NaN
        steps.append(Step(member=member, objective=found, kept=better))
        if better:
            kept, best = [*kept, member], found
    return steps


def mean_tensors(states: Sequence[Tensors]) -> dict[str, Tensor]:
    """The mean of every floating-point tensor, computed in float64; of others, as counts of batches, the first."""
    return {
        name: torch.stack([state[name].double() for state in states]).mean(dim=0).to(tensor.dtype)
        if tensor.is_floating_point()
        else tensor.clone()
        for name, tensor in states[0].items()
    }


@torch.no_grad()
def update_statistics(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Mean and variance of every BatchNorm anew, each the mean over these batches; the model is in eval mode afterwards.

    As `torch.optim.swa_utils.update_bn`, but everything else stays in eval mode: dropout and stochastic depth would put
    noise into what deeper layers see. Without a BatchNorm nothing happens.
    """
    model.eval()
    norms = [module for module in model.modules() if isinstance(module, NORMS) and module.track_running_stats]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over batches
        norm.train()
    for batch in batches:
        model(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()


class WeightEvaluator:
    """One model, and the images of a split, for trying weights one after the other; computes in float32.

    Args:
        config: what the members have in common.
    """

    def __init__(self, config: TrainConfig, data: TrainingData, *, device: str) -> None:
        place = resolve_device(device)
        shell = build_shell(
            config.backbone,
            data.num_classes,
            place,
            head=config.head,
            channels=data.channels,
            stem_stride=config.stem_stride,
        )
        self.data, self.model, self.pixels = data, shell.model, Pixels(data.images, place)
        self.mean, self.std = (torch.tensor(values, device=place) for values in (shell.mean, shell.std))

    def logits(self, tensors: Tensors) -> np.ndarray:
        """(V, C) float32 logits of the validation part with these weights."""
        load_tensors(self.model, tensors)
        rows = torch.tensor(self.data.val_rows, device=self.pixels.device)
        found = predict(self.model, self.pixels, rows, mean=self.mean, std=self.std, precision="fp32")
        return np.asarray(found.cpu().numpy())

    def averaged(self, states: Sequence[Tensors]) -> dict[str, Tensor]:
        """The mean of weights with BatchNorm statistics of the training images, on the CPU."""
        load_tensors(self.model, mean_tensors(states))
        update_statistics(self.model, self._batches())
        return {name: tensor.detach().cpu().clone() for name, tensor in self.model.state_dict().items()}

    def _batches(self) -> Iterator[Tensor]:
        """The training images as the model takes them, in the order of the dataset, without augmentation."""
        kind, device = self.pixels.kind, self.pixels.device
        rows = torch.tensor(np.sort(self.data.train_rows), device=device)
        size = val_batch(device, kind.pixels(self.pixels.images), fewest=kind.fewest)
        for start, stop in batch_bounds(len(rows), size):
            yield kind.normalise(kind.to_float(self.pixels.take(rows[start:stop])), self.mean, self.std)
