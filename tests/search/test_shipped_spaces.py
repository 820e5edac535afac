"""Every shipped space: its first trial and random ones train for real, small, in one used slot."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.labels import toy_labels
from tests.support.paths import ROOT
from tests.support.toy_training import numbers, toy_data
from tests.support.toy_volumes import volume_data
from tune_btxrd.config import TrainConfig
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.search.study import blind_trials
from tune_btxrd.training.loop import train
from tune_btxrd.training.pixels import TrainingData
from tune_btxrd.training.slot import Slot

SHIPPED = sorted((ROOT / "search_spaces").glob("*.yaml"))
SMALL = {"backbone": "test_efficientnet", "pretrained": False, "image_size": 32, "epochs": 2, "batch_size": 16}
SMALL_3D = SMALL | {"backbone": "resnet3d_10", "stem_stride": 2, "batch_size": 4}
RECIPES = {
    "two_phase_focal": {
        "loss": "focal",
        "stages": "two_phase",
        "dropout": 0.4,
        "weight_decay": 0.01,
        "clip": 1.0,
        "epochs": 20,
    },
    "multilabel": {"loss": "weighted_bce", "monitor": "macro_auc", "epochs": 30},
    "multilabel_focal": {
        "loss": "focal",
        "stages": "two_phase",
        "reload_best": True,
        "dropout": 0.4,
        "weight_decay": 0.01,
        "clip": 1.0,
        "erasing": 0.2,
        "crop_min": 0.8,
    },
    "three_stage_backbones": {
        "loss": "ce",
        "label_smoothing": 0.1,
        "head": "mlp",
        "dropout": 0.3,
        "min_lr": 1e-7,
        "epochs": 25,
    },
    "ldam_drw": {"loss": "ldam", "ldam_margin": 0.5, "ldam_scale": 30, "reweight_from": 15, "lr": 1e-4, "min_epochs": 10},
    "volumes": {
        "loss": "ldam",
        "ldam_margin": 0.5,
        "reweight_from": 15,
        "batch_size": 4,
        "epochs": 50,
        "patience": 7,
        "min_epochs": 10,
        "monitor": "macro_auc",
    },
    "btxrd_wide": {"loss": "weighted_ce", "stages": "one", "lr": 1e-3, "epochs": 30},
    "btxrd_resolution": {"image_size": 224, "backbone": "efficientnet_b0", "lr": 1e-3, "epochs": 30},
    "btxrd_robust": {"monitor": "macro_auc", "objective": "worst_center", "invert": 0.0, "lr": 1e-3},
    "btxrd_losses": {"loss": "weighted_ce", "sampling": "natural", "lr": 1e-3, "monitor": "macro_auc"},
}


@pytest.fixture(scope="module")
def slot() -> Slot:
    return Slot(device="cpu")


def test_all_recipes_are_there() -> None:
    assert {*RECIPES, "btxrd", "phantom"} <= {path.stem for path in SHIPPED}


@pytest.mark.parametrize("name", RECIPES)
def test_trial_0_is_the_recipe(name: str) -> None:
    config = SearchSpec.load(ROOT / "search_spaces" / f"{name}.yaml").hand_made
    assert {key: getattr(config, key) for key in RECIPES[name]} == RECIPES[name]


def _data(name: str) -> TrainingData:
    if name.endswith("volumes"):
        return volume_data()
    data = toy_labels() if name.startswith("multilabel") else toy_data()
    return replace(data, centers=np.zeros(len(data.targets), dtype=np.int64), num_centers=1)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_space_trains(path: Path, slot: Slot) -> None:
    spec, data = SearchSpec.load(path), _data(path.stem)
    configs = [spec.hand_made, *(spec.suggest(trial) for trial in blind_trials(spec, 3))]
    for config in configs:
        small = TrainConfig.from_dict(config.to_dict() | (SMALL_3D if data.channels else SMALL))
        rows = numbers(list(train(slot.start(small, data, keep_best=False))))
        assert len(rows) == 2 and all(math.isfinite(row["val_loss"]) for row in rows)
        assert sum(row["improved"] for row in rows) >= 1
