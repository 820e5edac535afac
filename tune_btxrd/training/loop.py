"""train(state): a generator of frozen per-epoch records; `state` is all that it changes.

The randomness of an epoch (order, augmentation, dropout) depends on (seed, epoch) alone, so a training that was saved
between two epochs and restored continues as if nothing had happened.
"""
# ruff: noqa: N803, N806
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
from tune_btxrd.training import metrics
from tune_btxrd.training.augment.images import augment, normalise, to_float
from tune_btxrd.training.device import Clock, autocast, derive_seed, seeded
from tune_btxrd.training.losses import LOSSES, Terms, epoch_order, terms_of_epoch
from tune_btxrd.training.metrics import EpochMetrics
from tune_btxrd.training.models.layers import HEAD, TOP
from tune_btxrd.training.pixels import Pixels
from tune_btxrd.training.schedule import enter_epoch, learning_rates
from tune_btxrd.training.state import Diverged, TrainState

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
    config, device = state.config, state.device
    shuffler = torch.Generator().manual_seed(derive_seed(config.seed, epoch, "order"))
    train_targets = torch.from_numpy(state.data.targets[state.data.train_rows])
    order = epoch_order(train_targets, shuffler, sampling=config.sampling)
    rows = state.train_rows[order.to(device)]
    generator = torch.Generator(device).manual_seed(derive_seed(config.seed, epoch, "augment"))
    terms = terms_of_epoch(config, state.data.train_counts, epoch, device)
    sums = torch.zeros(2, device=device, dtype=torch.float32 if device.type == "mps" else torch.float64)
    for start, stop in batch_bounds(len(rows), config.batch_size, drop_last=config.drop_last):
        batch = rows[start:stop]
        images = augment(to_float(state.pixels.take(batch)), generator, config)
        sums += train_step(state, normalise(images, state.mean, state.std), state.targets[batch], terms)
    return sums


def train_step(state: TrainState, images: Tensor, targets: Tensor, terms: Terms) -> Tensor:
    """One optimizer step; (2,) the batch's sum of weighted losses and sum of weights, detached."""
    state.optimizer.zero_grad(set_to_none=True)
    if state.static_step is not None and state.static_step.fits(images):
        sums = state.static_step(images, targets, terms)
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
    total, weight = LOSSES[state.config.loss](logits.float(), targets, terms), terms.weights_C[targets].sum()
    torch.autograd.backward(total / weight)
    return torch.stack([total.detach(), weight])


@torch.inference_mode()
def predict(model: nn.Module, pixels: Pixels, rows: Tensor, *, mean: Tensor, std: Tensor, precision: str) -> Tensor:
    """(rows, C) float32 logits without augmentation, on the device; the model is left in eval mode."""
    model.eval()
    size = val_batch(pixels.device, pixels.images.shape[1])
    logits = []
    for batch in torch.split(rows, size):
        with autocast(rows.device, precision):
            logits.append(model(normalise(to_float(pixels.take(batch)), mean, std)).float())
    return torch.cat(logits)


def val_batch(device: torch.device, image_size: int) -> int:
    """Images per validation batch, so that their pixels fit the device: 16 to 512."""
    return max(16, min(512, VAL_PIXELS[device.type] // image_size**2))


def _record(state: TrainState, train_loss: float, logits_NC: np.ndarray, seconds: list[float]) -> EpochMetrics:
    data, config = state.data, state.config
    targets_N, epoch = data.targets[data.val_rows], state.epoch + 1
    rates, (stage, stage_began, _) = learning_rates(state.epoch, config), stage_at(config.stage_list, epoch)
    val_loss = metrics.cross_entropy(logits_NC, targets_N)
    if not math.isfinite(train_loss + val_loss):
        raise Diverged(epoch, rates[HEAD], val_loss if math.isfinite(train_loss) else train_loss)
    counts_CC = metrics.confusion(targets_N, logits_NC.argmax(axis=1), data.num_classes)
    recall = metrics.recalls(counts_CC)
    scores = {
        "val_loss": val_loss,
        "val_macro_f1": metrics.macro_f1(counts_CC),
        "val_macro_auc": metrics.macro_auc(logits_NC, targets_N),
    }
    before = state.history[-1] if state.history else None
    monitor = MONITORS[config.monitor]
    improved = before is None or monitor.improves(
        scores, vars(state.history[state.best_epoch - 1]), min_delta=config.min_delta
    )
    return EpochMetrics(
        epoch=epoch,
        train_loss=train_loss,
        **scores,
        val_acc=metrics.accuracy(counts_CC),
        val_recall=recall,
        lr=rates[HEAD],
        lr_backbone=rates[TOP],
        stage=stage,
        objective=monitor.objective(scores[monitor.column]) if improved or before is None else before.objective,
        improved=improved,
        stop=_stop(config, epoch, 0 if improved else epoch - max(state.best_epoch, stage_began)),
        zero_recall_epochs=(before.zero_recall_epochs if before else 0) + 1 if recall[data.positive_class] == 0 else 0,
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
        state.best = {
            "model": {name: tensor.clone() for name, tensor in state.model.state_dict().items()},
            "optimizer": copy.deepcopy(state.optimizer.state_dict()),
        }
