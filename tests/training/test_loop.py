"""The loop: schedule and batches against hand-made tables, an epoch against a slow readable one, stopping, divergence."""

import copy
import dataclasses
import math
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.support.toy_training import run, toy_config, toy_data
from tune_btxrd.errors import ConfigError, DataError
from tune_btxrd.monitor import MONITORS
from tune_btxrd.training.device import derive_seed
from tune_btxrd.training.loop import batch_bounds, train
from tune_btxrd.training.pixels import TrainingData
from tune_btxrd.training.schedule import cosine_lr
from tune_btxrd.training.slot import Slot
from tune_btxrd.training.state import Diverged, TrainState

PLAIN = {"flip": 0, "rotation": 0, "scale_min": 1, "shift": 0, "brightness": 0, "contrast": 0, "dropout": 0}


def start(data: TrainingData | None = None, **changes: object) -> TrainState:
    return Slot(device="cpu").start(toy_config(**changes), data or toy_data(), keep_best=False)


def test_cosine_by_hand():
    config = toy_config(lr=1.0, min_lr=0.2, epochs=4)
    table = [1.0, 0.6 + 0.4 * math.sqrt(0.5), 0.6, 0.6 - 0.4 * math.sqrt(0.5), 0.2]
    assert [cosine_lr(finished, config) for finished in range(5)] == pytest.approx(table)


@pytest.mark.parametrize(
    ("count", "size", "bounds"),
    [
        (6, 3, [(0, 3), (3, 6)]),
        (8, 3, [(0, 3), (3, 6), (6, 8)]),  # a partial batch is kept
        (7, 3, [(0, 3), (3, 7)]),  # a single image joins the batch before
        (2, 3, [(0, 2)]),
        (1, 3, [(0, 1)]),
        (5, 2, [(0, 2), (2, 5)]),
    ],
)
def test_batches_by_hand(count: int, size: int, bounds: list[tuple[int, int]]):
    assert batch_bounds(count, size) == bounds


def test_a_last_partial_batch_is_dropped_where_asked():
    assert batch_bounds(8, 3, drop_last=True) == [(0, 3), (3, 6)]
    assert batch_bounds(6, 3, drop_last=True) == [(0, 3), (3, 6)]
    assert batch_bounds(2, 3, drop_last=True) == [(0, 2)]  # the only one stays
    state = start(epochs=1, drop_last=True)
    run(state)
    assert state.model.state_dict()["bn1.num_batches_tracked"] == 49 // 16


def test_gradients_are_clipped_to_the_norm():
    data, norms = toy_data(), []
    for clip in (0, 1e-3):
        state = start(data, epochs=1, clip=clip)
        run(state)
        gradients = [parameter.grad.flatten() for parameter in state.model.parameters()]
        norms.append(torch.cat(gradients).norm().item())
    assert norms[0] > 0.1 and norms[1] == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize(("monitor", "column"), [("macro_f1", "val_macro_f1"), ("macro_auc", "val_macro_auc")])
def test_other_monitors_name_the_best_epoch(monitor: str, column: str):
    rows = run(start(epochs=8, lr=2e-2, patience=8, monitor=monitor))
    best, tie = -math.inf, -math.inf
    for row in rows:
        better = row[column] > best or (monitor == "macro_auc" and row[column] == best and row["val_macro_f1"] > tie)
        assert row["improved"] == better
        if better:
            best, tie = row[column], row["val_macro_f1"]
        assert row["objective"] == -best
    assert any(not row["improved"] for row in rows)


def test_equal_auc_is_decided_by_f1():
    auc = MONITORS["macro_auc"]
    old = {"val_macro_auc": 0.9, "val_macro_f1": 0.5, "val_loss": 1.0}
    assert auc.improves(old | {"val_macro_f1": 0.6}, old) and not auc.improves(old, old)
    assert auc.improves(old | {"val_macro_auc": 0.91, "val_macro_f1": 0}, old)
    assert not auc.improves(old | {"val_macro_auc": 0.91}, old, min_delta=0.02)
    assert not auc.improves(old | {"val_macro_auc": 0.89, "val_macro_f1": 1}, old)
    assert MONITORS["val_loss"].improves(old | {"val_loss": 0.9}, old)
    assert not MONITORS["macro_f1"].improves(old | {"val_macro_f1": 0.4}, old)


def test_patience_waits_for_min_epochs():
    rows = run(start(epochs=9, patience=2, min_delta=100, min_epochs=5))
    assert [row["stop"] for row in rows] == ["", "", "", "", "patience"]


def test_derive_seed_gives_unrelated_seeds():
    seeds = {
        derive_seed(seed, epoch, use) for seed in range(9) for epoch in range(9) for use in ("order", "augment", "dropout")
    }
    assert len(seeds) == 9 * 9 * 3 and all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(42, 1, "order") == derive_seed(42, 1, "order")


def test_an_epoch_as_a_slow_readable_one():
    data, config = toy_data(), toy_config(epochs=2, **PLAIN)
    state = start(data, epochs=2, **PLAIN)
    model, loss_sum, weight_sum = copy.deepcopy(state.model), 0.0, 0.0
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    weights = torch.tensor([49 / (3 * count) for count in np.bincount(data.targets[data.train_rows])], dtype=torch.float32)

    def pixels(rows: np.ndarray) -> torch.Tensor:
        grey = torch.tensor(data.images[rows]).float()[:, None].expand(-1, 3, -1, -1) / 255
        return (grey - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
            :, None, None
        ]

    rows = data.train_rows[torch.randperm(49, generator=torch.Generator().manual_seed(derive_seed(42, 1, "order"))).numpy()]
    for batch in (rows[0:16], rows[16:32], rows[32:49]):
        targets = torch.tensor(data.targets[batch])
        loss = F.cross_entropy(model(pixels(batch)), targets, weight=weights)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss_sum += loss.item() * weights[targets].sum().item()
        weight_sum += weights[targets].sum().item()
    model.eval()
    val_loss = F.cross_entropy(model(pixels(data.val_rows)), torch.tensor(data.targets[data.val_rows])).item()

    row = next(train(state))
    assert (row.epoch, row.lr) == (1, config.lr)
    assert row.train_loss == pytest.approx(loss_sum / weight_sum, rel=1e-4)
    assert row.val_loss == pytest.approx(val_loss, rel=1e-3)  # AdamW turns rounding of tiny gradients into steps


def test_it_learns_and_ends_with_the_budget():
    rows = run(start(epochs=8, lr=3e-3))
    assert [row["stop"] for row in rows] == [""] * 7 + ["budget"]
    assert rows[-1]["objective"] < 0.5 * rows[0]["val_loss"] and max(row["val_acc"] for row in rows) > 0.8


def test_every_epoch_trains_in_train_mode():
    state = start(epochs=3)
    run(state)
    assert state.model.state_dict()["bn1.num_batches_tracked"] == 3 * 3  # 16, 16 and 17 images


def test_patience_counts_epochs_without_improvement():
    rows = run(start(epochs=9, patience=3, min_delta=100))
    assert [row["improved"] for row in rows] == [True, False, False, False]
    assert [row["stop"] for row in rows] == ["", "", "", "patience"]
    assert {row["objective"] for row in rows} == {rows[0]["val_loss"]}


def test_objective_is_the_best_so_far():
    rows = run(start(epochs=8, lr=2e-2, patience=8))
    assert any(not row["improved"] for row in rows)
    best = math.inf
    for row in rows:
        assert row["improved"] == (row["val_loss"] < best)
        best = min(best, row["val_loss"])
        assert row["objective"] == best


def test_epochs_without_recall_of_the_positive_class_are_counted():
    counts = []
    for positive in range(3):
        rows = run(start(dataclasses.replace(toy_data(), positive_class=positive), epochs=4, lr=1e-2, seed=0))
        counts += [[row["zero_recall_epochs"] for row in rows]]
        for before, now, row in zip([0, *counts[-1]], counts[-1], rows, strict=False):
            assert now == (before + 1 if row["val_recall"][positive] == 0 else 0)
    assert max(map(max, counts)) > 1 and any(0 in count and max(count) > 0 for count in counts)  # both were seen


def test_a_loss_that_is_not_finite_stops_with_its_circumstances():
    state = start(lr=1e30, **PLAIN)
    with pytest.raises(Diverged, match=r"loss must stay finite, but got .* in epoch 1 at lr=1e\+30") as caught:
        list(train(state))
    assert (caught.value.epoch, caught.value.lr) == (1, 1e30) and isinstance(caught.value, ConfigError)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.epoch, again.lr, str(again)) == (1, 1e30, str(caught.value))
    with pytest.raises(AssertionError):
        next(train(state))


def test_the_global_generator_does_not_move():
    before = torch.get_rng_state()
    run(start())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("changes", [{"colour": True}, {"train": 33}, {"train": 9, "val": 1}])
def test_other_shapes_of_data(changes: dict[str, object]):
    assert len(run(start(toy_data(**changes), epochs=1))) == 1


def test_data_that_cannot_be_trained_on():
    data = toy_data()
    with pytest.raises(DataError, match="class 1 has none"):
        dataclasses.replace(data, train_rows=data.train_rows[data.targets[data.train_rows] != 1])
    with pytest.raises(DataError, match="hold 49 and 0"):
        dataclasses.replace(data, val_rows=data.val_rows[:0])
