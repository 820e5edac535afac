"""One trial without Ray: real trainings of a tiny network on made-up pictures."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.searches import make_conductor, make_folder
from tests.support.sources import FIXED, SIZE, make_source, scramble, with_wide
from tune_btxrd.config import TrainConfig
from tune_btxrd.distributed import trial_checkpoint as store
from tune_btxrd.distributed.reproduce import reproduce, session_threads
from tune_btxrd.distributed.trainable import run_trial
from tune_btxrd.distributed.trial_config import TrialConfig
from tune_btxrd.distributed.tune_adapters import trial_config
from tune_btxrd.errors import ConfigError, ResultError
from tune_btxrd.search.columns import own_columns
from tune_btxrd.search.events import ENDINGS
from tune_btxrd.search.selection.winner import select
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.training import checkpoint
from tune_btxrd.training import source as parts
from tune_btxrd.training.source import Source

SPACE = """
trials: 3
epochs: 3
grace_period: 1
startup_trials: 2
confirm: 1
repeats: 2
space:
  lr: {low: 1.0e-4, high: 1.0e-2, log: true}
  dropout: {low: 0.0, high: 0.5}
start:
  - {lr: 1.0e-3, dropout: 0.2}
"""
SPLITS = ("common", "confirm_1", "confirm_2")
TIMES = ("images_per_second", "train_seconds", "val_seconds", "slot", "time")
CONFIG = TrainConfig.from_dict({**FIXED, "lr": 1e-3, "dropout": 0.2, "epochs": 4, "patience": 4, "seed": 1})
TRIAL = TrialConfig(trial="7", role="search", splits=("common",), hyperparameters=CONFIG)


class KilledError(Exception):
    """The end of a process, in place of SIGKILL."""


def numbers(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without what a clock decides."""
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


def run(
    config: TrialConfig, source: Source, folder: Path, *, die_after: int = 10**6, pauses: tuple[int, ...] = ()
) -> list[dict[str, Any]]:
    """The rows of one trial in this process."""
    rows: list[dict[str, Any]] = []

    def report(row: dict[str, Any]) -> None:
        rows.append(row)
        if len(rows) == die_after:
            raise KilledError

    try:
        run_trial(config, source, report, device="cpu", threads=1, checkpoints=folder, pauses=pauses)
    except KilledError:
        assert len(rows) == die_after
    return rows


def search(folder: Path, source: Source, spec: SearchSpec) -> Any:
    """A whole search with real trainings, one trial after another, without Ray and scheduler."""
    conductor = make_conductor(make_folder(folder), spec)
    conductor.journal.write("session", threads=1)
    while not isinstance(job := conductor.next(), str):
        rows = run(trial_config(job), source, folder / "checkpoints")
        for row in rows:
            conductor.epoch(job.label, own_columns(row))
        conductor.end(job.label, state="complete", reason=ENDINGS[rows[-1]["stop"]])
    return conductor.record


@pytest.fixture(autouse=True)
def forget_data() -> None:
    """Trainings of one test read nothing that another has read."""
    parts._training_data.cache_clear()


def test_one_report_per_epoch_under_the_contracts_names(tmp_path: Path) -> None:
    rows = run(TRIAL, make_source(tmp_path), tmp_path / "checkpoints")
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4] and rows[-1]["stop"] == "budget"
    contract = "epoch,train_loss,val_loss,val_acc,val_recall_normal,val_recall_benign,val_recall_malignant,lr"
    assert ",".join(rows[0]).startswith(contract) and {"val_macro_f1", "objective"} <= rows[0].keys()


@pytest.mark.parametrize(("die_after", "pauses"), [(1, ()), (2, ()), (3, ()), (2, (2,)), (3, (2,))])
def test_killed_and_resumed_from_its_checkpoint_gives_the_same_rows(
    die_after: int, pauses: tuple[int, ...], tmp_path: Path
) -> None:
    source = make_source(tmp_path)
    whole = run(TRIAL, source, tmp_path / "a")
    before = run(TRIAL, source, tmp_path / "b", die_after=die_after, pauses=pauses)
    kept = die_after - (
        die_after not in pauses
    )  # what ends as it tells an epoch has saved the one before, at a rung that one
    assert (tmp_path / "b" / "7.pt").exists() == (kept > 0)
    after = run(TRIAL, source, tmp_path / "b")
    assert numbers(before) == numbers(whole)[:die_after]
    assert numbers(after) == numbers(whole)  # the epochs of the checkpoint are told again
    times = [[row["train_seconds"] for row in rows[:kept]] for rows in (before, after)]
    assert times[0] == times[1]  # not trained again


def test_killed_at_one_image_size_and_resumed_after_a_trial_of_another(tmp_path: Path) -> None:
    source = with_wide(make_source(tmp_path))
    wide = replace(TRIAL, trial="8", hyperparameters=CONFIG.replace(image_size=48))
    whole = run(wide, source.at(48), tmp_path / "whole")
    before = run(wide, source.at(48), tmp_path / "cut", die_after=2)
    run(TRIAL, source.at(SIZE), tmp_path / "cut")  # the slot served another size meanwhile
    after = run(wide, source.at(48), tmp_path / "cut")
    rows = {row["epoch"]: row for row in [*before, *after]}
    assert numbers([rows[epoch] for epoch in sorted(rows)]) == numbers(whole)


def test_a_trial_that_is_over_leaves_no_write_behind(tmp_path: Path) -> None:
    """Neither the last epoch nor one that ends in a stop is worth a checkpoint: the next trial would wait for it."""
    source = make_source(tmp_path)
    run(TRIAL, source, tmp_path / "budget")
    assert checkpoint.load(tmp_path / "budget" / "7.pt")["epoch"] == CONFIG.epochs - 1
    run(TRIAL, source, tmp_path / "stopped", die_after=1)
    assert not list((tmp_path / "stopped").glob("*"))


def test_whoever_dies_as_it_tells_an_epoch_loses_that_one_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where writing takes longer than training."""
    real, kept = checkpoint.save, []
    monkeypatch.setattr(store, "save", lambda *values: (time.sleep(0.3), real(*values)))

    def report(row: dict[str, Any]) -> None:
        path = tmp_path / "checkpoints" / "7.pt"
        kept.append((row["epoch"], checkpoint.load(path)["epoch"] if path.exists() else 0))

    run_trial(TRIAL, make_source(tmp_path), report, device="cpu", threads=1, checkpoints=tmp_path / "checkpoints")
    assert kept == [(1, 0), (2, 1), (3, 2), (4, 3)]


def test_a_loss_that_is_not_finite_is_reported_as_divergence(tmp_path: Path) -> None:
    rows = run(
        replace(TRIAL, hyperparameters=CONFIG.replace(lr=1e30, min_lr=0.0)), make_source(tmp_path), tmp_path / "checkpoints"
    )
    assert rows[-1]["stop"] == "diverged" and rows[-1]["lr"] == pytest.approx(1e30, rel=1)
    assert "use a smaller lr" in rows[-1]["reason"] and rows[-1]["epoch"] == len(rows)


def everything(folder: Path, *, spoil: str) -> tuple[Any, ...]:
    """All numbers of a search, its confirmation and its selection, with one part of the data scrambled."""
    spec = SearchSpec.from_text(SPACE).override({"trials": 2}, FIXED)
    source = make_source(folder, splits=SPLITS)
    scramble(source, spoil)
    parts._training_data.cache_clear()
    record = search(folder / "search", source, spec)
    trials = [(t.label, t.config, numbers(t.epochs)) for t in [*record.search_trials, *record.confirmations]]
    chosen = select(record, spec, val_share=1 / 3)
    standings = [(item.trial.label, item.scores, str(item.gain), item.optimism) for item in chosen.standings]
    return trials, chosen.winner.label, standings


def test_the_test_part_stays_shut(tmp_path: Path) -> None:
    """Other pixels and labels in the test parts change no number; in the validation part they do."""
    clean = everything(tmp_path / "clean", spoil="no part")
    assert everything(tmp_path / "test", spoil="test") == clean
    assert everything(tmp_path / "val", spoil="val") != clean


def test_a_trial_run_again_alone_gives_the_same_numbers(tmp_path: Path) -> None:
    spec = SearchSpec.from_text(SPACE).override({"trials": 2}, FIXED)
    source = make_source(tmp_path, splits=SPLITS)
    folder = tmp_path / "search"
    record = search(folder, source, spec)
    heard: list[Any] = []
    hear: Callable[[Any], None] = heard.append
    assert session_threads(folder, "1") == 1
    for label in ("1", "0r2"):
        again = reproduce(folder, label, source, splits=("common",), device="cpu", threads=1, heard=hear)
        assert again.is_equal and len(again.rows) == len(record.trials[label].epochs) == 3
    assert len(heard) == 6 and not list(tmp_path.glob("**/1.pt.part"))


def test_a_pruned_trial_is_run_again_as_far_as_it_came_and_a_difference_is_named(tmp_path: Path) -> None:
    source, spec = make_source(tmp_path), SearchSpec.from_text(SPACE).override({}, FIXED)
    conductor = make_conductor(make_folder(tmp_path / "search"), spec)
    job = conductor.next()
    assert not isinstance(job, str)
    first, second = map(own_columns, run(trial_config(job), source, tmp_path / "checkpoints", die_after=2))
    conductor.epoch("0", first)
    conductor.epoch("0", {**second, "val_loss": second["val_loss"] + 1.0})
    conductor.end("0", state="pruned", reason="stopped by ASHA at epoch 2")
    again = reproduce(tmp_path / "search", "0", source, splits=("common",), device="cpu", threads=1)
    assert [row["epoch"] for row in again.rows] == [1, 2] and not again.is_equal
    assert again.differences == ((2, "val_loss", second["val_loss"] + 1.0, second["val_loss"]),)
    with pytest.raises(ResultError, match="has no '9': it has 0 to 0"):
        reproduce(tmp_path / "search", "9", source, splits=("common",), device="cpu", threads=1)


def test_labels_and_hyperparameters_of_a_trial_are_told_apart_and_nothing_unknown_is_dropped() -> None:
    values = TRIAL.to_dict()
    assert TrialConfig.from_dict(values) == TRIAL and values["hyperparameters"] == CONFIG.to_dict()
    with pytest.raises(ConfigError, match="got 'dropot': did you mean 'dropout'"):
        TrialConfig.from_dict({**values, "hyperparameters": {**CONFIG.to_dict(), "dropot": 0.1}})
    with pytest.raises(AssertionError, match="a trial's config has"):
        TrialConfig.from_dict({**values, "dropout": 0.1})
