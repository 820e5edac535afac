"""One optimizer step: gradients of one or more batches, scaled where the precision is fp16, clipped, taken, averaged."""

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor

from tune_btxrd.tasks.losses import Terms
from tune_btxrd.training.device import autocast
from tune_btxrd.training.state import TrainState

Batch = tuple[Tensor, Tensor]  # the model's input, targets
SUMS = ("losses", "weights", "skipped")  # what a step returns: of weighted losses, of weights, of steps left out
LEAST_WEIGHT = 1e-12  # far below any weight of an image


def train_step(state: TrainState, batches: Iterable[Batch], terms: Terms) -> Tensor:
    """One step as of all batches together, which are taken one after the other.

    Returns:
        One number for each of SUMS, detached.
    """
    state.optimizer.zero_grad(set_to_none=True)
    sums = torch.stack([_gradients(state, images, targets, terms) for images, targets in batches]).sum(dim=0)
    if state.scaler is not None:
        state.scaler.unscale_(state.optimizer)
    if state.config.accumulate > 1:
        gradients = [parameter.grad for parameter in state.model.parameters() if parameter.grad is not None]
        torch._foreach_mul_(gradients, state.config.batch_size / above_zero(sums[1]))
    if state.config.clip:
        torch.nn.utils.clip_grad_norm_(state.model.parameters(), state.config.clip)
    skipped = _take(state)
    if state.averages is not None:
        state.averages.update(state.model)
    return torch.cat([sums, skipped.to(sums)[None]])


def above_zero(weight: Tensor) -> Tensor:
    """The sum of weights as a divisor: a batch without a single known label has a loss of 0 and no gradient."""
    return weight.clamp_min(LEAST_WEIGHT)


def _gradients(state: TrainState, images: Tensor, targets: Tensor, terms: Terms) -> Tensor:
    """Adds the gradients of a batch; (2,) its sum of weighted losses and sum of weights, detached.

    The sum of the weights of all batches of a step is known after the last one: until then batch_size stands for it.
    """
    if state.static_step is not None and state.static_step.fits(images):
        return state.static_step(images, targets, terms, dropout=state.config.dropout)
    with autocast(state.device, state.precision):
        logits = state.model(images)
    total, weight = state.data.task.loss(logits.float(), targets, terms)
    loss = total / (above_zero(weight) if state.config.accumulate == 1 else state.config.batch_size)
    torch.autograd.backward(loss if state.scaler is None else state.scaler.scale(loss))
    return torch.stack([total.detach(), weight])


def _take(state: TrainState) -> Tensor:
    """The optimizer's step; 1 where the scaler left it out, else 0."""
    if state.scaler is None:
        state.optimizer.step()
        return torch.zeros((), device=state.device)
    overflows = state.scaler._found_inf_per_device(state.optimizer)  # torch tells it publicly only by a sync
    skipped = cast(Tensor, sum(overflows.values())).clone()
    state.scaler.step(state.optimizer)
    state.scaler.update()
    return skipped
