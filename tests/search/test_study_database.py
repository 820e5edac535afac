"""`optuna.db` equals the study in memory, whenever the copying thread looked at it."""

import sqlite3
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from tests.search.test_study import all_endings, live
from tests.support.searches import make_rows, make_spec
from tune_btxrd.errors import ResultError
from tune_btxrd.search.record import TrialRecord
from tune_btxrd.search.study import Bridge, fresh_database
from tune_btxrd.search.study_database import Mirror

FIELDS = ("number", "state", "values", "params", "distributions", "intermediate_values", "user_attrs", "system_attrs")


@pytest.fixture(autouse=True)
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread copies at the close alone; until then the test says when."""
    monkeypatch.setattr("tune_btxrd.search.study_database.SECONDS", 1000.0)


def make_bridge(folder: Path) -> Bridge:
    return Bridge(make_spec(), fresh_database(folder), "s", start=make_spec().start)


def copied(folder: Path) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="s", storage=f"sqlite:///{folder / 'optuna.db'}").trials


def assert_equal_trials(bridge: Bridge, folder: Path) -> None:
    here, there = bridge.study.trials, copied(folder)
    assert len(here) == len(there)
    for mine, its in zip(here, there, strict=True):
        for field in FIELDS:
            assert getattr(mine, field) == getattr(its, field), field


def test_trials_that_began_and_ended_between_two_looks(tmp_path: Path) -> None:
    bridge = make_bridge(tmp_path)
    all_endings(bridge)
    bridge.close()
    assert_equal_trials(bridge, tmp_path)


def test_a_running_trial_is_copied_and_brought_up_to_date(tmp_path: Path) -> None:
    bridge = make_bridge(tmp_path)
    mirror = bridge._mirror
    assert isinstance(mirror, Mirror)
    mirror._copy()
    assert copied(tmp_path) == []  # the start config waits, and is no trial yet
    number, params, config = bridge.ask()
    bridge.report(number, 1, 0.9)
    mirror._copy()
    assert copied(tmp_path)[0].state == TrialState.RUNNING and copied(tmp_path)[0].intermediate_values == {1: 0.9}
    live(bridge, [0.5], state="pruned", reason="stopped by ASHA at epoch 1")  # another one overtakes it
    bridge.report(number, 2, 0.7)
    mirror._copy()
    assert_equal_trials(bridge, tmp_path)
    record = TrialRecord(label="0", number=number, role="search", config=config.to_dict(), params=params, started=1.0)
    record.epochs, record.state, record.reason = make_rows([0.9, 0.7], stop="budget"), "complete", "ran its full budget"
    bridge.tell(record)
    bridge.close()
    assert_equal_trials(bridge, tmp_path)
    assert copied(tmp_path)[0].state == TrialState.COMPLETE and copied(tmp_path)[0].user_attrs["reason"]


def test_a_file_that_cannot_be_written_ends_the_search_with_a_reason(tmp_path: Path) -> None:
    bridge = make_bridge(tmp_path)
    live(bridge, [0.5], state="pruned", reason="")
    with sqlite3.connect(tmp_path / "optuna.db") as database:
        database.execute("DROP TABLE trials")
    with pytest.raises(ResultError, match=r"optuna.db must be writable, but"):
        bridge.close()
    with pytest.raises(ResultError, match=r"optuna.db must be writable, but"):
        bridge.ask()
