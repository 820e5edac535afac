"""A trial over several folds, without Ray: real trainings of a tiny network on made-up pictures."""

import math
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.distributed.test_trainable import CONFIG, TRIAL, numbers, run
from tests.support.searches import make_conductor, make_folder
from tests.support.sources import FIXED, make_source
from tune_btxrd.distributed.reproduce import reproduce
from tune_btxrd.distributed.tune_adapters import trial_config
from tune_btxrd.errors import ConfigError
from tune_btxrd.search.budget import expected_epochs
from tune_btxrd.search.columns import own_columns
from tune_btxrd.search.forecast import forecast
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.training import source as parts

SPACE = """
trials: 2
epochs: 3
scheduler: none
startup_trials: 1
confirm: 1
repeats: 2
folds_per_trial: 3
space:
  lr: {low: 1.0e-4, high: 1.0e-2, log: true}
start:
  - {lr: 1.0e-3}
"""
FOLDS = ("trial_fold_1_of_3", "trial_fold_2_of_3", "trial_fold_3_of_3")
OVER_FOLDS = replace(TRIAL, splits=FOLDS)
MEANS = ("train_loss", "val_loss", "val_criterion", "val_acc", "val_recall_benign", "val_macro_f1", "val_macro_auc")


@pytest.fixture(autouse=True)
def forget_data() -> None:
    """Trainings of one test read nothing that another has read."""
    parts._training_data.cache_clear()


def test_each_epoch_is_the_mean_over_the_folds_trained_alone(tmp_path: Path) -> None:
    source = make_source(tmp_path, splits=FOLDS)
    config = CONFIG.replace(monitor="macro_auc")
    each = [run(replace(TRIAL, splits=(name,), hyperparameters=config), source, tmp_path / name) for name in FOLDS]
    rows = run(replace(OVER_FOLDS, hyperparameters=config), source, tmp_path / "together")
    assert len(rows) == CONFIG.epochs and len({fold[0]["val_loss"] for fold in each}) == 3
    for at, row in enumerate(rows):
        for name in MEANS:
            assert row[name] == statistics.fmean(fold[at][name] for fold in each), name
        assert row["fold_sd"] == statistics.stdev(fold[at]["val_macro_auc"] for fold in each)
        assert (row["epoch"], row["lr"]) == (at + 1, each[0][at]["lr"])
        assert row["objective"] == min(-earlier["val_macro_auc"] for earlier in rows[: at + 1])
    assert [row["stop"] for row in rows] == ["", "", "", "budget"]


def test_patience_judges_the_mean(tmp_path: Path) -> None:
    """No epoch is better than the first by so much, so the trial waits once."""
    impatient = replace(OVER_FOLDS, hyperparameters=CONFIG.replace(patience=1, min_delta=1e6))
    rows = run(impatient, make_source(tmp_path, splits=FOLDS), tmp_path / "checkpoints")
    assert [(row["improved"], row["stop"]) for row in rows] == [(True, ""), (False, "patience")]


@pytest.mark.parametrize("die_after", [1, 2, 3])
def test_killed_and_resumed_gives_the_same_rows(die_after: int, tmp_path: Path) -> None:
    source = make_source(tmp_path, splits=FOLDS)
    whole = run(OVER_FOLDS, source, tmp_path / "a")
    run(OVER_FOLDS, source, tmp_path / "b", die_after=die_after)
    if die_after == 3:  # the kill came as the folds were being saved: one is an epoch behind, one has no file
        (tmp_path / "b" / "7.fold2.before.pt").replace(tmp_path / "b" / "7.fold2.pt")
        for path in (tmp_path / "b").glob("7.fold3.*"):
            path.unlink()
    assert numbers(run(OVER_FOLDS, source, tmp_path / "b")) == numbers(whole)


def test_a_search_over_folds_is_recorded_reproduced_and_confirmed_on_single_partitions(tmp_path: Path) -> None:
    spec = SearchSpec.from_text(SPACE).override({}, FIXED)
    source = make_source(tmp_path, splits=(*FOLDS, "confirm_1", "confirm_2"))
    folder, seen = tmp_path / "search", dict[str, tuple[str, ...]]()
    conductor = make_conductor(make_folder(folder), spec)
    while not isinstance(job := conductor.next(), str):
        seen[job.label] = job.splits
        rows = run(trial_config(job), source, tmp_path / "checkpoints")
        for row in map(own_columns, rows):
            conductor.epoch(job.label, row)
        conductor.end(job.label, state="complete", reason="ran its full budget")
        if job.label == "1":
            ahead = forecast(conductor.record.trials.values(), spec, repeats=4)
    assert seen["0"] == seen["1"] == FOLDS and seen["0r1"] == ("confirm_1",)
    assert expected_epochs(spec) == 2 * 3 * 3 and (ahead.search, ahead.confirmation) == (0, 2 * 2 * 3), (
        "an epoch counts once per fold; confirmation has none"
    )
    trials = conductor.record.trials
    assert all(row["fold_sd"] > 0 for row in trials["1"].epochs) and all(r["fold_sd"] == 0 for r in trials["0r1"].epochs)
    again = reproduce(folder, "1", source, splits=spec.trial_splits("common"), device="cpu", threads=1)
    assert again.is_equal and len(again.rows) == 3


def test_a_fold_that_diverges_ends_the_trial(tmp_path: Path) -> None:
    config = replace(OVER_FOLDS, hyperparameters=CONFIG.replace(lr=1e30, min_lr=0.0))
    rows: list[dict[str, Any]] = run(config, make_source(tmp_path, splits=FOLDS), tmp_path / "checkpoints")
    assert rows[-1]["stop"] == "diverged" and math.isinf(rows[-1]["objective"]) and rows[-1]["epoch"] == len(rows)


def test_how_many_folds_are_a_trial_s_is_checked() -> None:
    assert SearchSpec.from_text(SPACE.replace("folds_per_trial: 3", "folds_per_trial: 1")).trial_splits("common") == (
        "common",
    )
    with pytest.raises(ConfigError, match=r"`1 <= folds_per_trial <= 50` must hold, but got folds_per_trial=0"):
        SearchSpec.from_text(SPACE.replace("folds_per_trial: 3", "folds_per_trial: 0"))
