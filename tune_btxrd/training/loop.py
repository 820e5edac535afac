"""train(state): a generator of frozen per-epoch records; `state` is all that it changes.

The randomness of an epoch (order, augmentation, dropout) depends on (seed, epoch) alone, so a training that was saved
between two epochs and restored continues as if nothing had happened.
"""
# ruff: noqa: N803
# (shape suffixes: logits_BC)

import copy
import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from tune_btxrd.config import TrainConfig
from tune_btxrd.monitor import MONITORS
from tune_btxrd.stages import stage_at
from tune_btxrd.tasks.losses import Terms
from tune_btxrd.tasks.record import EpochMetrics
from tune_btxrd.training.device import Clock, autocast, derive_seed, seeded
from tune_btxrd.training.models.layers import HEAD, TOP
from tune_btxrd.training.pixels import Pixels
from tune_btxrd.training.schedule import enter_epoch, learning_rates
from tune_btxrd.training.state import BestState, Diverged, TrainState

VAL_PIXELS = {"cpu": 128 * 64**2, "mps": 64 * 224**2, "cuda": 256 * 224**2}  # per validation batch; a CPU gains no more


def train(state: TrainState) -> Iterator[EpochMetrics]:
    """Trains to the end of the budget or of the patience; yields after every epoch, with `state` complete.

    Raises:
        Diverged: a loss is not finite.
    """
    while not state.finished:
        yield train_epoch(state)


def train_epoch(state: TrainState) -> EpochMetrics:
    """One more epoch and its validation, with one device-to-host sync. Raises: Diverged."""
    assert state.live and state.whole and not state.finished
    epoch, clock = state.epoch + 1, Clock(state.device)
    _keep_best(state)
    state.whole = False
    enter_epoch(state)
    clock.mark()
    with seeded(derive_seed(state.config.seed, epoch, "dropout"), state.device):
        sums = _train_pass(state, epoch)
    clock.mark()
    logits = predict(state.model, state.pixels, state.val_rows, mean=state.mean, std=state.std, precision=state.precision)
    clock.mark()
    values = torch.cat([sums, logits.flatten().to(sums)]).cpu().numpy()  # the one sync
    train_loss = float(values[0] / values[1])
    row = _record(state, train_loss, values[2:].reshape(-1, state.data.num_classes), clock.seconds())
    state.history.append(row)
    state.whole = True
    return row


def batch_bounds(count: int, batch_size: int, *, drop_last: bool = False) -> list[tuple[int, int]]:
    """(start, stop) of each batch. The last partial batch is kept, but one single last image joins the batch before it:
    BatchNorm in training cannot normalise one value per channel. With `drop_last` it goes, unless it is the only one.
    """
    if drop_last and count > batch_size:
        count -= count % batch_size
    starts = list(range(0, count, batch_size))
    if len(starts) > 1 and count - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], count], strict=True))


def _train_pass(state: TrainState, epoch: int) -> Tensor:
    """One pass over the training images; (2,) sum of weighted losses and sum of weights, left on the device."""
    config, data, device, kind = state.config, state.data, state.device, state.pixels.kind
    shuffler = torch.Generator().manual_seed(derive_seed(config.seed, epoch, "order"))
    train_targets = torch.from_numpy(data.targets[data.train_rows])
    order = data.task.order(train_targets, shuffler, sampling=config.sampling)
    rows = state.train_rows[order.to(device)]
    generator = torch.Generator(device).manual_seed(derive_seed(config.seed, epoch, "augment"))
    terms = data.task.terms(config, data.train_counts, epoch, device)
    sums = torch.zeros(2, device=device, dtype=torch.float32 if device.type == "mps" else torch.float64)
    for start, stop in batch_bounds(len(rows), config.batch_size, drop_last=config.drop_last):
        batch = rows[start:stop]
        images = kind.augment(kind.to_float(state.pixels.take(batch)), generator, config)
        sums += train_step(state, kind.normalise(images, state.mean, state.std), state.targets[batch], terms)
    return sums


def train_step(state: TrainState, images: Tensor, targets: Tensor, terms: Terms) -> Tensor:
    """One optimizer step; (2,) the batch's sum of weighted losses and sum of weights, detached."""
    state.optimizer.zero_grad(set_to_none=True)
    if state.static_step is not None and state.static_step.fits(images):
        sums = state.static_step(images, targets, terms, dropout=state.config.dropout)
    else:
        sums = _gradients(state, images, targets, terms)
    if state.config.clip:
        torch.nn.utils.clip_grad_norm_(state.model.parameters(), state.config.clip)
    state.optimizer.step()
    return sums


def _gradients(state: TrainState, images: Tensor, targets: Tensor, terms: Terms) -> Tensor:
    """Forward and backward; (2,) the batch's sum of weighted losses and sum of weights, detached."""
    with autocast(state.device, state.precision):
        logits = state.model(images)
    total, weight = state.data.task.loss(logits.float(), targets, terms)
    torch.autograd.backward(total / weight)
    return torch.stack([total.detach(), weight])


@torch.inference_mode()
def predict(model: nn.Module, pixels: Pixels, rows: Tensor, *, mean: Tensor, std: Tensor, precision: str) -> Tensor:
    """(rows, C) float32 logits without augmentation, on the device; the model is left in eval mode."""
    model.eval()
    kind = pixels.kind
    size = val_batch(pixels.device, kind.pixels(pixels.images))
    logits = []
    for batch in torch.split(rows, size):
        with autocast(rows.device, precision):
            logits.append(model(kind.normalise(kind.to_float(pixels.take(batch)), mean, std)).float())
    return torch.cat(logits)


def val_batch(device: torch.device, pixels: int) -> int:
    """Samples of so many pixels per validation batch, so that they fit the device: 16 to 512."""
    return max(16, min(512, VAL_PIXELS[device.type] // pixels))


def _record(state: TrainState, train_loss: float, logits_NC: np.ndarray, seconds: list[float]) -> EpochMetrics:
    data, config, epoch = state.data, state.config, state.epoch + 1
    rates, (stage, stage_began, _) = learning_rates(state.epoch, config), stage_at(config.stage_list, epoch)
    scores = data.task.scores(logits_NC, data.targets[data.val_rows])
    if not math.isfinite(train_loss + scores["val_loss"]):
        raise Diverged(epoch, rates[HEAD], scores["val_loss"] if math.isfinite(train_loss) else train_loss)
    before = state.history[-1] if state.history else None
    monitor = MONITORS[config.monitor]
    improved = before is None or monitor.improves(
        scores, vars(state.history[state.best_epoch - 1]), min_delta=config.min_delta
    )
    found = data.task.finds(scores, data.positive_class)
    return data.task.record(
        epoch=epoch,
        train_loss=train_loss,
        **scores,
        lr=rates[HEAD],
        lr_backbone=rates[TOP],
        stage=stage,
        objective=monitor.objective(scores[monitor.column]) if improved or before is None else before.objective,
        improved=improved,
        stop=_stop(config, epoch, 0 if improved else epoch - max(state.best_epoch, stage_began)),
        zero_recall_epochs=0 if found else 1 + (before.zero_recall_epochs if before else 0),
        images_per_second=len(data.train_rows) / seconds[0],
        train_seconds=seconds[0],
        val_seconds=seconds[1],
    )


def _stop(config: TrainConfig, epoch: int, waited: int) -> str:
    """Why the training ends after this epoch, or "". Patience ends a training in its last stage only, counted from there."""
    if epoch == config.epochs:
        return "budget"
    is_last = epoch > config.epochs - config.stage_list[-1].epochs
    return "patience" if is_last and epoch >= config.min_epochs and waited >= config.patience else ""


def _keep_best(state: TrainState) -> None:
    """Copies the state of the best epoch just before the next epoch changes it."""
    wanted = state.keep_best or state.config.reload_best
    if wanted and state.history and state.history[-1].improved:
        state.best = BestState(
            model={name: tensor.clone() for name, tensor in state.model.state_dict().items()},
            optimizer=copy.deepcopy(state.optimizer.state_dict()),
        )
