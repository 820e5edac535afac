"""Stages: recipes by hand, learning rates, who trains when, frozen BatchNorm, optimizer and weights at borders, resuming."""

import math

import pytest
import timm
import torch

from tests.support.toy_training import numbers, run, toy_config, toy_data
from tune_btxrd.errors import ConfigError
from tune_btxrd.stages import Stage, stages_of
from tune_btxrd.training.checkpoint import checkpoint_dict, restore
from tune_btxrd.training.loop import train
from tune_btxrd.training.models.layers import BASE, HEAD, TOP, parts_of
from tune_btxrd.training.schedule import learning_rates
from tune_btxrd.training.slot import Slot
from tune_btxrd.training.state import TrainState

THREE = (
    {"epochs": 1, "trains": "head"},
    {"epochs": 2, "trains": "top", "lr_head": 0.5, "lr_backbone": 0.1},
    {"epochs": "rest", "trains": "all", "lr_head": 0.2, "lr_backbone": 0.05},
)


def start(slot: Slot | None = None, **changes: object) -> TrainState:
    config = toy_config(**{"epochs": 5, "stages": THREE, "lr": 1e-2, "min_lr": 0, **changes})
    return (slot or Slot(device="cpu")).start(config, toy_data(), keep_best=False)


@pytest.mark.parametrize(
    ("name", "epochs", "plan"),
    [
        ("one", 7, [(7, "all")]),
        ("two_phase", 20, [(5, "head"), (15, "all")]),
        ("two_phase", 9, [(3, "head"), (6, "all")]),
        ("two_phase", 2, [(2, "all")]),
        ("three_stage", 25, [(5, "head"), (10, "top"), (10, "all")]),
        ("three_stage", 2, [(1, "top"), (1, "all")]),
    ],
)
def test_recipes_by_hand(name: str, epochs: int, plan: list[tuple[int, str]]):
    assert [(stage.epochs, stage.trains) for stage in stages_of(name, epochs)] == plan


def test_a_list_with_a_rest():
    assert stages_of(THREE, 9)[2] == Stage(epochs=6, trains="all", lr_head=0.2, lr_backbone=0.05)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("four", "stages is one of one, two_phase, three_stage"),
        ([{"epochs": 3}], "a stage has epochs and trains"),
        ([{"epochs": 3, "trains": "tail"}], "trains is one of head, top, all"),
        ([{"epochs": 3, "trains": "all", "lr": 1}], r"a stage has .* but got \['lr'\]"),
        ([{"epochs": 3, "trains": "all", "lr_head": 0}], "0 < lr_head <= 1e"),
        ([{"epochs": 3, "trains": "all", "lr_head": math.inf}], "but got lr_head=inf"),
        ([{"epochs": 4, "trains": "all"}], "add up to epochs"),
        ([{"epochs": 3, "trains": "head"}, {"epochs": "rest", "trains": "all"}], r"epochs >= 1"),
        ([{"epochs": "rest", "trains": "head"}, {"epochs": "rest", "trains": "all"}], "one stage at most"),
        (3, "stages must be a text or a list of mappings, but got 3"),
    ],
)
def test_mistakes_in_stages_are_named(value: object, message: str):
    with pytest.raises(ConfigError, match=message):
        toy_config(epochs=3, stages=value)


def test_learning_rates_by_hand():
    config = toy_config(epochs=5, stages=THREE, lr=1.0, min_lr=0.02)
    rows = [learning_rates(finished, config) for finished in range(5)]
    half = (1 + math.cos(math.pi / 2)) / 2
    assert [row[HEAD] for row in rows] == pytest.approx([1, 0.5, 0.02 + 0.48 * half, 0.2, 0.02 + 0.18 * half])
    assert [row[TOP] for row in rows] == pytest.approx([0, 0.1, 0.02 + 0.08 * half, 0.05, 0.02 + 0.03 * half])
    assert [row[BASE] for row in rows] == pytest.approx([0, 0, 0, 0.05, 0.02 + 0.03 * half])


@pytest.mark.parametrize("name", ["resnet50", "efficientnet_b0", "mobilenetv3_small_100", "test_convnext", "test_vit"])
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_every_parameter_belongs_to_one_part(name: str, head: str):
    from tune_btxrd.training.models.shell import create  # beside its only use

    with torch.device("meta"):
        model = create(name, 3, head=head)
    parts = parts_of(model)
    assert list(parts) == [parameter for parameter, _ in model.named_parameters()]
    heads = {parameter for parameter, part in parts.items() if part == HEAD}
    assert len(heads) == (4 if head == "mlp" else 2)
    layers = {part: [parameter for parameter in parts if parts[parameter] == part] for part in (BASE, TOP)}
    assert layers[BASE] and layers[TOP]


def test_top_layers_of_the_three_named_backbones():
    tops = {}
    for name in ("resnet50", "efficientnet_b0", "mobilenetv3_small_100"):
        with torch.device("meta"):
            parts = parts_of(timm.create_model(name, num_classes=3))
        tops[name] = {".".join(parameter.split(".")[:2]) for parameter, part in parts.items() if part == TOP}
    assert {place.split(".")[0] for place in tops["resnet50"]} == {"layer3", "layer4"}
    assert {place for place in tops["efficientnet_b0"] if place.startswith("blocks")} == {"blocks.5", "blocks.6"}
    assert {"conv_head.weight", "bn2.weight", "bn2.bias"} <= tops["efficientnet_b0"]
    assert {"conv_head.weight", "conv_head.bias", "blocks.5"} <= tops["mobilenetv3_small_100"]


def test_only_what_a_stage_trains_moves_and_frozen_statistics_stand_still():
    state = start()
    parts = parts_of(state.model)
    moved: list[set[str]] = []
    rows = train(state)
    for _ in range(5):
        before = {name: value.clone() for name, value in state.model.state_dict().items()}
        next(rows)
        moved.append({name for name, value in state.model.state_dict().items() if not torch.equal(value, before[name])})
    trained = [{parts[name] for name in names if name in parts} for names in moved]
    assert trained == [{HEAD}, {TOP, HEAD}, {TOP, HEAD}, {BASE, TOP, HEAD}, {BASE, TOP, HEAD}]
    assert not any("running" in name or "batches" in name for name in moved[0])
    assert {name for name in moved[1] if "running_mean" in name} and "bn1.running_mean" not in moved[1]
    assert "bn1.running_mean" in moved[3]
    assert [row.stage for row in state.history] == [1, 2, 2, 3, 3]
    assert [row.lr_backbone > 0 for row in state.history] == [False, True, True, True, True]


def test_the_optimizer_forgets_at_a_border():
    state = start()
    rows, steps = train(state), []
    for _ in range(5):
        next(rows)
        counts = {int(moments["step"]) for moments in state.optimizer.state.values()}
        steps.append((len(state.optimizer.state), counts))
    total = len(list(state.model.parameters()))
    assert [counts for _, counts in steps] == [{3}, {3}, {6}, {3}, {6}]  # 3 batches an epoch
    assert steps[0][0] == 2 and 2 < steps[1][0] < total and steps[4][0] == total


@pytest.mark.parametrize("reload_best", [False, True])
@pytest.mark.parametrize("stop_after", [1, 2, 3, 4])
def test_resumed_equals_uninterrupted_across_borders(stop_after: int, reload_best: bool):
    changes = {"lr": 5e-2, "reload_best": reload_best}
    slot = Slot(device="cpu")
    whole = run(start(slot, **changes))
    state = start(slot, **changes)
    rows = train(state)
    for _ in range(stop_after):
        next(rows)
    saved = checkpoint_dict(state, class_names=("a", "b", "c"))
    resumed = restore(Slot(device="cpu"), saved, toy_data())
    list(train(resumed))
    assert numbers(resumed.history) == whole


def test_best_weights_are_reloaded_at_the_border():
    stages = ({"epochs": 3, "trains": "all"}, {"epochs": 1, "trains": "all", "lr_head": 1e-9, "lr_backbone": 1e-9})
    changes = {"epochs": 4, "stages": stages, "lr": 1e-2, "min_delta": 1000}  # the first epoch stays the best
    left, back = (start(**changes, reload_best=value) for value in (False, True))
    rows = train(back)
    snapshots = []
    for _ in range(3):
        next(rows)
        snapshots.append({name: value.clone() for name, value in back.model.state_dict().items()})
    best = back.best_epoch
    assert best == 1
    next(rows)
    name = "classifier.weight"
    torch.testing.assert_close(back.model.state_dict()[name], snapshots[best - 1][name], atol=1e-6, rtol=0)
    run(left)
    torch.testing.assert_close(left.model.state_dict()[name], snapshots[2][name], atol=1e-6, rtol=0)


def test_patience_waits_for_the_last_stage():
    rows = run(start(epochs=8, patience=2, min_delta=100))
    assert [row["stop"] for row in rows] == ["", "", "", "", "patience"]  # the last stage begins with epoch 4


def test_a_training_with_stages_in_a_used_slot_is_as_in_a_new_one():
    slot = Slot(device="cpu")
    run(start(slot, seed=5, head="mlp"))
    next(train(start(slot, epochs=5)))  # abandoned while all but the head is frozen
    assert run(start(slot)) == run(start())
    fresh = toy_config(epochs=2)
    assert run(slot.start(fresh, toy_data(), keep_best=False)) == run(
        Slot(device="cpu").start(fresh, toy_data(), keep_best=False)
    )


def test_all_at_once_as_a_list_is_the_same_as_one():
    plain = run(start(stages="one"))
    assert run(start(stages=({"epochs": 5, "trains": "all"},))) == plain
