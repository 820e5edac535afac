"""A step: batches added up as one, averaged weights, optimizers, scaled gradients of fp16, and what an epoch tells."""

import copy
import dataclasses
import math
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.support.toy_training import run, toy_config, toy_data
from tune_btxrd.errors import ConfigError
from tune_btxrd.tasks.multiclass import MulticlassMetrics
from tune_btxrd.training import loop
from tune_btxrd.training.averages import Averages
from tune_btxrd.training.capture import StaticStep
from tune_btxrd.training.checkpoint import checkpoint_dict
from tune_btxrd.training.device import resolve_precision
from tune_btxrd.training.loop import batch_bounds, predict, step_bounds, train
from tune_btxrd.training.schedule import enter_epoch, make_optimizer
from tune_btxrd.training.slot import Slot
from tune_btxrd.training.state import TrainState
from tune_btxrd.training.step import train_step

NAMES = ("Normal", "Benign", "Malignant")
PLAIN = {"flip": 0, "rotation": 0, "scale_min": 1, "shift": 0, "brightness": 0, "contrast": 0, "dropout": 0}
CPU = torch.device("cpu")


def start(*, keep_best: bool = False, **changes: Any) -> TrainState:
    return Slot(device="cpu").start(toy_config(**changes), toy_data(), keep_best=keep_best)


def weights(state: TrainState) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in state.model.state_dict().items()}


# ---- accumulate


@pytest.mark.parametrize("drop_last", [False, True])
def test_steps_are_those_of_the_larger_batch_for_every_count(drop_last: bool) -> None:
    for count in range(2, 70):
        for size, times in ((4, 1), (4, 2), (4, 3), (2, 5)):
            config = toy_config(batch_size=size, accumulate=times, drop_last=drop_last)
            steps = step_bounds(count, config)
            larger = batch_bounds(count, size * times, drop_last=drop_last)
            assert [(step[0][0], step[-1][1]) for step in steps] == larger
            for step in steps:
                assert all(stop == begin for (_, stop), (begin, _) in pairwise(step))
                assert all(2 <= stop - begin <= size + 1 for begin, stop in step)
            if times == 1:
                assert [step[0] for step in steps] == larger


@pytest.mark.parametrize(
    "changes", [{}, {"loss": "focal", "optimizer": "sgd", "lr": 0.05}, {"clip": 0.05}, {"label_smoothing": 0.1}]
)
def test_accumulated_batches_equal_the_larger_one(changes: dict[str, Any]) -> None:
    same = {"backbone": "test_convnext", "epochs": 2, "optimizer": "sgd", "lr": 0.01, **PLAIN, **changes}
    rows = [run(start(batch_size=size, accumulate=times, **same)) for size, times in ((20, 1), (10, 2), (5, 4))]
    weighted = [row["train_loss"] for row in rows[0]]
    for other in rows[1:]:  # 49 images: steps of 20, 20 and 9, each a ratio of sums over unequal class weights
        assert [row["train_loss"] for row in other] == pytest.approx(weighted, rel=1e-5)
        assert [row["val_loss"] for row in other] == pytest.approx([row["val_loss"] for row in rows[0]], rel=1e-4)


def test_the_gradient_of_a_step_is_that_of_the_weighted_ratio_over_all_its_batches() -> None:
    state = start(backbone="test_convnext", batch_size=6, accumulate=9, optimizer="sgd", epochs=1, **PLAIN)
    model, data = copy.deepcopy(state.model), state.data
    images = data.kind.to_float(state.pixels.take(state.train_rows))
    logits = model(data.kind.normalise(images, state.mean, state.std))
    class_weights = torch.tensor([49 / (3 * count) for count in data.train_counts], dtype=torch.float32)
    F.cross_entropy(logits, state.targets[state.train_rows], weight=class_weights).backward()
    run(state)
    for own, slow in zip(state.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(own.grad, slow.grad, rtol=1e-3, atol=1e-6)


def test_a_step_without_a_single_weight_is_no_step_into_nothing() -> None:
    for times in (1, 2):
        state = start(accumulate=times, batch_size=4, **PLAIN)
        terms = state.data.task.terms(state.config, state.data.train_counts, 1, CPU)
        nothing = dataclasses.replace(terms, weights_C=torch.zeros(3))  # as where no label of the batch is known
        batch = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0])
        assert train_step(state, [batch] * times, nothing).tolist() == [0, 0, 0]
        assert all(torch.isfinite(tensor).all() for tensor in weights(state).values())


# ---- ema


def test_averages_by_hand() -> None:
    layer = torch.nn.BatchNorm1d(1)
    averages = Averages(layer, decay=0.25)
    for value, share, expected in ((11.0, 2 / 11, 1 * 2 / 11 + 11 * 9 / 11), (3.0, 0.25, None)):
        with torch.no_grad():
            layer.weight.fill_(value)
            layer.running_mean.fill_(value)
        layer.num_batches_tracked += 1
        before = averages.tensors["weight"].item()
        averages.update(layer)
        assert averages.tensors["weight"].item() == pytest.approx(before * share + value * (1 - share))
        assert expected is None or averages.tensors["weight"].item() == pytest.approx(expected)
    assert averages.tensors["num_batches_tracked"] == 2 and averages.tensors["running_mean"].item() != 3.0


def test_validation_best_epoch_and_checkpoint_use_the_averages_and_training_does_not() -> None:
    plain, averaged = start(keep_best=True), start(keep_best=True, ema=0.6)
    seen, steps = [], 0
    for row, _ in zip(train(averaged), train(plain), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(weights(plain).values(), weights(averaged).values(), strict=True))
        steps += 4 - 1  # 49 images: 16, 16, 17
        assert averaged.averages is not None and averaged.averages.steps == steps
        own = checkpoint_dict(averaged, class_names=NAMES)
        assert all(torch.equal(value, averaged.averages.tensors[name]) for name, value in own["model_state_dict"].items())
        assert not torch.equal(own["model_state_dict"]["bn1.running_mean"], weights(averaged)["bn1.running_mean"])
        model = copy.deepcopy(averaged.model)
        model.load_state_dict(own["model_state_dict"])
        logits = predict(model, averaged.pixels, averaged.val_rows, mean=averaged.mean, std=averaged.std, precision="fp32")
        loss = F.cross_entropy(logits.double(), averaged.targets[averaged.val_rows]).item()
        assert row.val_loss == pytest.approx(loss, rel=1e-6)
        seen.append(row.val_loss)
    assert [row.train_loss for row in averaged.history] == [row.train_loss for row in plain.history]
    assert seen != [row.val_loss for row in plain.history]


@pytest.mark.parametrize("min_delta", [0.0, 100.0])
def test_a_stage_that_starts_from_the_best_epoch_starts_from_its_averages(min_delta: float) -> None:
    changes = {"epochs": 12, "stages": "two_phase", "reload_best": True, "lr": 1e-4}
    state = start(keep_best=True, ema=0.6, min_delta=min_delta, **changes)
    last = state.config.stage_list[0].epochs
    for _ in range(last):
        next(train(state))
    assert (state.best_epoch == last) == (min_delta == 0)  # both cases: the best epoch is the last one, or before it
    best = checkpoint_dict(state, class_names=NAMES, which="best")["model_state_dict"]
    loop._keep_best(state)
    enter_epoch(state)
    assert state.averages is not None and state.averages.steps == 0
    for name, value in best.items():
        assert torch.equal(state.averages.tensors[name], value) and torch.equal(weights(state)[name], value)


# ---- optimizers


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_each_optimizer_takes_the_step_of_the_stock_one(name: str) -> None:
    config = toy_config(optimizer=name, lr=0.1, weight_decay=0.3, momentum=0.7)
    layer = torch.nn.Linear(3, 2)
    other = copy.deepcopy(layer)
    stock = {
        "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.3),
        "adam": lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.3),
        "sgd": lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.3, momentum=0.7),
    }[name](other.parameters())
    own = make_optimizer(layer, config, CPU, precision="fp32")
    for _ in range(3):
        for model, optimizer in ((layer, own), (other, stock)):
            optimizer.zero_grad()
            model(torch.tensor([[1.0, 2.0, 3.0]])).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(layer.weight, other.weight)


# ---- fp16


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_a_step_whose_gradient_overflows_is_left_out_and_counted(optimizer: str) -> None:
    state = start(precision="fp16", optimizer=optimizer, epochs=2, lr=1e-3, clip=1.0, accumulate=2, batch_size=8)
    state.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    before = weights(state)
    row = next(train(state))
    assert row.skipped_steps == 3 and math.isfinite(row.train_loss)  # 16, 16, 17 images
    moved = {name for name, value in weights(state).items() if not torch.equal(value, before[name])}
    assert moved and all("running" in name or "num_batches" in name for name in moved)
    assert state.scaler.get_scale() == 2.0**37
    state.scaler.load_state_dict(state.scaler.state_dict() | {"scale": 16.0})
    row = next(train(state))
    assert row.skipped_steps == 0
    largest = max((value - before[name]).abs().max().item() for name, value in weights(state).items() if "bn" not in name)
    assert 0 < largest < 0.1  # momentum begins at nothing, not at what lay in memory


def test_fp16_computes_in_half_precision_and_learns_as_fp32_does() -> None:
    half, whole = start(precision="fp16", lr=3e-3, epochs=6), start(precision="fp32", lr=3e-3, epochs=6)
    seen = []
    handle = half.model.get_classifier().register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    rows = [run(state) for state in (half, whole)]
    handle.remove()
    assert set(seen) == {torch.float16}
    best = [each[-1]["objective"] for each in rows]
    assert best[0] == pytest.approx(best[1], abs=0.1) and best[0] != best[1]
    assert all(row["skipped_steps"] == 0 for row in rows[1])


def test_fp16_needs_a_scaler() -> None:
    with pytest.raises(ConfigError, match="precision=fp16 needs scaled gradients, which mps has not"):
        resolve_precision("fp16", torch.device("mps"))


def test_a_captured_step_refuses_what_it_cannot_bake() -> None:
    slot = Slot(device="cpu")
    for changes, precision, found in (({"accumulate": 2}, "fp32", "accumulate=2"), ({}, "fp16", "precision=fp16")):
        config = toy_config(**changes)
        with pytest.raises(ConfigError, match=f"`capture: true` needs accumulate=1 without fp16, but got .*{found}"):
            StaticStep(slot.shell(config, 3), config, toy_data(), device=CPU, precision=precision)


# ---- what an epoch tells


def test_val_criterion_is_the_training_loss_on_validation() -> None:
    weighted, plain, ldam = (
        start(epochs=1, **changes) for changes in ({}, {"loss": "ce"}, {"loss": "ldam", "head": "cosine"})
    )
    rows = [run(state)[0] for state in (weighted, plain, ldam)]
    val = weighted.val_rows
    logits = predict(weighted.model, weighted.pixels, val, mean=weighted.mean, std=weighted.std, precision="fp32")
    by_hand = F.cross_entropy(logits, weighted.targets[val], weight=weighted.class_weights).item()
    assert rows[0]["val_criterion"] == pytest.approx(by_hand, rel=1e-5) != pytest.approx(rows[0]["val_loss"], rel=1e-5)
    assert rows[1]["val_criterion"] == pytest.approx(rows[1]["val_loss"], rel=1e-5)
    assert rows[2]["val_criterion"] > 3 * rows[2]["val_loss"]  # its scale is 30


def test_a_record_of_before_the_new_fields_is_read() -> None:
    row = start(epochs=1)
    record = next(train(row)).to_dict()
    old = {name: value for name, value in record.items() if name not in ("val_criterion", "skipped_steps")}
    read = MulticlassMetrics.from_dict(old)
    assert math.isnan(read.val_criterion) and read.skipped_steps == 0
    assert MulticlassMetrics.from_dict(record) == row.history[0]
