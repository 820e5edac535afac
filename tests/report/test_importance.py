"""Importance says what is there, and "undetermined" where nothing is."""

import math
from pathlib import Path

import numpy as np
import pytest

from tests.support.searches import make_record, make_spec, make_trial
from tune_btxrd.report.importance import FEWEST, UNDETERMINED, importances
from tune_btxrd.search.record import SearchRecord


def search(folder: Path, count: int, *, effect: float, seed: int = 0) -> SearchRecord:
    """Trials whose loss depends on lr by `effect` and on dropout not at all."""
    rng = np.random.default_rng(seed)
    trials = []
    for number in range(count):
        params = {"lr": float(10 ** rng.uniform(-5, -2)), "dropout": float(rng.uniform(0, 0.5))}
        loss = 1 + effect * abs(math.log10(params["lr"]) + 3) + float(rng.normal(0, 0.1))
        trials.append(make_trial(number, [loss], params=params))
    return make_record(folder, *trials)


def test_a_strong_effect_is_found(tmp_path: Path):
    found = importances(search(tmp_path, 60, effect=1.0), make_spec(), draws=60)
    assert [item.name for item in found.items] == ["lr", "dropout"]
    assert [item.verdict for item in found.items] == ["matters", "matters little"]
    assert found.items[0].low > 0.5 > found.items[1].value
    assert sum(item.value for item in found.items) == pytest.approx(1)


def test_noise_is_undetermined(tmp_path: Path):
    found = importances(search(tmp_path, 24, effect=0.0), make_spec(), draws=60)
    assert {item.verdict for item in found.items} == {UNDETERMINED}


def test_few_trials_get_no_answer(tmp_path: Path):
    found = importances(search(tmp_path, FEWEST - 1, effect=1.0), make_spec(), draws=5)
    assert found.items == ()
    assert found.why.startswith("Undetermined: 11 trials")


def test_failed_and_unfinished_trials_are_left_out_and_diverged_ones_are_the_worst(tmp_path: Path):
    record = search(tmp_path, 30, effect=1.0)
    trials = record.search_trials
    trials[0].state, trials[1].state, trials[2].state = "failed", "running", "diverged"
    trials[2].epochs.clear()
    assert importances(record, make_spec(), draws=5).trials == 28


def test_the_same_trials_give_the_same_answer(tmp_path: Path):
    record = search(tmp_path, 20, effect=0.5)
    assert importances(record, make_spec(), draws=20) == importances(record, make_spec(), draws=20)
