"""train(state): a generator of frozen per-epoch records; `state` is all that it changes.

The randomness of an epoch (order, augmentation, dropout) depends on (seed, epoch) alone, so a training that was saved
between two epochs and restored continues as if nothing had happened.
"""
# (shape suffixes: logits_NC, N = validation images, C = classes)

import copy
import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from tune_btxrd.config import TrainConfig
from tune_btxrd.stages import stage_at
from tune_btxrd.tasks.centers import center_scores
from tune_btxrd.tasks.losses import Terms
from tune_btxrd.tasks.record import EpochMetrics
from tune_btxrd.training.device import Clock, autocast, derive_seed, seeded
from tune_btxrd.training.models.layers import HEAD, TOP
from tune_btxrd.training.pixels import Pixels
from tune_btxrd.training.schedule import enter_epoch, learning_rates
from tune_btxrd.training.state import Diverged, TrainState
from tune_btxrd.training.step import SUMS, Batch, train_step
from tune_btxrd.training.verdict import judged

VAL_PIXELS = {"cpu": 128 * 64**2, "mps": 64 * 224**2, "cuda": 256 * 224**2}  # per validation batch; a CPU gains no more


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What an epoch left on the device, fetched at once; the logits are of the validation part."""

    train_loss: float
    skipped_steps: int
    val_criterion: float
    logits_NC: np.ndarray  # noqa: N815  # shape suffix
    seconds: list[float]  # of training and of validation


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
    terms = state.data.task.terms(state.config, state.data.train_counts, epoch, state.device)
    with seeded(derive_seed(state.config.seed, epoch, "dropout"), state.device):
        sums = _train_pass(state, epoch, terms)
    clock.mark()
    with nullcontext() if state.averages is None else state.averages.in_place_of(state.model):
        logits = predict(
            state.model, state.pixels, state.val_rows, mean=state.mean, std=state.std, precision=state.precision
        )
    clock.mark()
    criterion = torch.stack(state.data.task.loss(logits, state.targets[state.val_rows], terms))
    values = torch.cat([sums, criterion.to(sums), logits.flatten().to(sums)]).cpu().numpy()  # the one sync
    with np.errstate(all="ignore"):  # a loss that is not finite is told of in words
        train_loss, criterion_of_val = (float(values[at] / values[at + 1]) for at in (0, 3))
    seen = Seen(
        train_loss=train_loss,
        skipped_steps=int(values[2]),
        val_criterion=criterion_of_val,
        logits_NC=values[5:].reshape(-1, state.data.num_classes),
        seconds=clock.seconds(),
    )
    row = _record(state, seen)
    state.history.append(row)
    state.whole = True
    return row


def step_bounds(count: int, config: TrainConfig) -> list[list[tuple[int, int]]]:
    """Per optimizer step the (start, stop) of its batches: the steps are those of batches `accumulate` times as large."""
    steps = batch_bounds(count, config.batch_size * config.accumulate, drop_last=config.drop_last)
    return [
        [(begin + start, begin + stop) for start, stop in batch_bounds(end - begin, config.batch_size)]
        for begin, end in steps
    ]


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


def _train_pass(state: TrainState, epoch: int, terms: Terms) -> Tensor:
    """One pass over the training images; SUMS over its steps, left on the device."""
    config, data, device, kind = state.config, state.data, state.device, state.pixels.kind
    shuffler = torch.Generator().manual_seed(derive_seed(config.seed, epoch, "order"))
    train_targets = torch.from_numpy(data.targets[data.train_rows])
    order = data.task.order(train_targets, shuffler, sampling=config.sampling)
    rows = state.train_rows[order.to(device)]
    generator = torch.Generator(device).manual_seed(derive_seed(config.seed, epoch, "augment"))
    sums = torch.zeros(len(SUMS), device=device, dtype=torch.float32 if device.type == "mps" else torch.float64)

    def batch(start: int, stop: int) -> Batch:
        own = rows[start:stop]
        images = kind.augment(kind.to_float(state.pixels.take(own)), generator, config)
        return kind.normalise(images, state.mean, state.std), state.targets[own]

    for bounds in step_bounds(len(rows), config):
        sums += train_step(state, (batch(*each) for each in bounds), terms)
    return sums


@torch.inference_mode()
def predict(model: nn.Module, pixels: Pixels, rows: Tensor, *, mean: Tensor, std: Tensor, precision: str) -> Tensor:
    """(rows, C) float32 logits without augmentation, on the device; the model is left in eval mode."""
    model.eval()
    kind = pixels.kind
    size = val_batch(pixels.device, kind.pixels(pixels.images), fewest=kind.fewest)
    logits = []
    for batch in torch.split(rows, size):
        with autocast(rows.device, precision):
            logits.append(model(kind.normalise(kind.to_float(pixels.take(batch)), mean, std)).float())
    return torch.cat(logits)


def val_batch(device: torch.device, pixels: int, *, fewest: int = 16) -> int:
    """Samples of so many pixels per validation batch, so that they fit the device: `fewest` to 512."""
    return max(fewest, min(512, VAL_PIXELS[device.type] // pixels))


def _record(state: TrainState, seen: Seen) -> EpochMetrics:
    data, config, epoch, train_loss = state.data, state.config, state.epoch + 1, seen.train_loss
    rates = learning_rates(state.epoch, config)
    validated = seen.logits_NC, data.targets[data.val_rows]
    scores = data.task.scores(*validated, folds_N=data.val_folds)
    if not math.isfinite(train_loss + scores["val_loss"]):
        raise Diverged(epoch, rates[HEAD], scores["val_loss"] if math.isfinite(train_loss) else train_loss)
    scores |= center_scores(
        data.task,
        config.monitor,
        *validated,
        centers_N=data.val_centers,
        count=data.num_centers,
        folds_N=data.val_folds,
    )
    verdict = judged(config, state.history, scores, data)
    return data.task.record(
        epoch=epoch,
        train_loss=train_loss,
        **scores,
        val_criterion=seen.val_criterion,
        skipped_steps=seen.skipped_steps,
        lr=rates[HEAD],
        lr_backbone=rates[TOP],
        stage=stage_at(config.stage_list, epoch)[0],
        **vars(verdict),
        fold_sd=0.0,
        images_per_second=len(data.train_rows) / seen.seconds[0],
        train_seconds=seen.seconds[0],
        val_seconds=seen.seconds[1],
    )


def _keep_best(state: TrainState) -> None:
    """Copies the state of the best epoch just before the next epoch changes it."""
    wanted = state.keep_best or state.config.reload_best
    if wanted and state.history and state.history[-1].improved:
        state.best = copy.deepcopy(state.states())
