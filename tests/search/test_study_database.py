"""`optuna.db` equals the study in memory, whenever the copying thread looked at it."""

import math
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from tests.search.test_study import all_endings, live
from tests.support.searches import make_conductor, make_folder, make_rows, make_spec, run_all
from tune_btxrd.errors import ResultError
from tune_btxrd.search.conductor import Conductor, PlannedTrial
from tune_btxrd.search.record import TrialRecord
from tune_btxrd.search.study import TrialStudy, fresh_database
from tune_btxrd.search.study_database import StudyDatabase, open_storage

FIELDS = ("number", "state", "values", "params", "distributions", "intermediate_values", "user_attrs", "constraints")


@pytest.fixture(autouse=True)
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread copies at the close alone; until then the test says when."""
    monkeypatch.setattr("tune_btxrd.search.study_database.SECONDS", 1000.0)


def make_study(folder: Path) -> TrialStudy:
    return TrialStudy(make_spec(), fresh_database(folder), "s", start=make_spec().start)


def copied(folder: Path) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="s", storage=open_storage(folder / "optuna.db")).trials


HOSTILE_FOLDERS = [
    "out?v=2",
    "a?mode=memory&cache=shared",
    "a#b",
    "%41 %s",
    "{0} {SCHEMA_VERSION}",
    "[b] [x]",
    "$$x",
    "'q' \"r\"",
    "ü 🦴",
]


@pytest.mark.parametrize("name", HOSTILE_FOLDERS)
def test_the_file_lies_in_its_folder_whatever_that_is_called(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    study = make_study(tmp_path / name)
    live(study, [0.5], state="pruned", reason="stopped by ASHA at epoch 1")
    study.close()
    assert_equal_trials(study, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert [path.name for path in (tmp_path / name).iterdir()] == ["optuna.db"]


@pytest.mark.parametrize("jobs", [2, 6, 8])
def test_after_a_resume_it_is_what_it_would_have_been(jobs: int, tmp_path: Path) -> None:
    """Killed after so many trials, one of them running; also where the search had ended and nothing is left to do."""

    def losses(config: Mapping[str, Any]) -> list[float]:
        return [1.0 + config["dropout"], 0.9 + config["dropout"]]

    def search(folder: Path, stop: int) -> Conductor:
        conductor = make_conductor(folder, make_spec(), database=fresh_database(folder))
        for state in ("pruned", "diverged", "failed"):
            if len(conductor.record.trials) < 3:
                planned = conductor.next()
                assert isinstance(planned, PlannedTrial)
                conductor.epoch(planned.label, make_rows(losses(planned.config.to_dict()))[0])
                conductor.end(planned.label, state=state, reason=f"it {state}")
        run_all(conductor, losses, jobs=max(0, stop - len(conductor.record.trials)))
        return conductor

    whole, killed = make_folder(tmp_path / "s"), make_folder(tmp_path / "killed" / "s")
    search(whole, 99).close()
    first = search(killed, jobs)
    begun = first.next()  # and that is where the driver dies
    if isinstance(begun, PlannedTrial):
        first.epoch(begun.label, make_rows(losses(begun.config.to_dict()))[0])
    search(killed, 99).close()
    for name in ("s", "s-confirm"):
        before, after = (
            optuna.load_study(study_name=name, storage=open_storage(folder / "optuna.db")).trials
            for folder in (whole, killed)
        )
        assert len(before) == len(after) > 3
        for mine, its in zip(before, after, strict=True):
            assert {field: getattr(mine, field) for field in FIELDS} == {field: getattr(its, field) for field in FIELDS}


def assert_equal_trials(study: TrialStudy, folder: Path) -> None:
    here, there = study.study.trials, copied(folder)
    assert len(here) == len(there)
    for mine, its in zip(here, there, strict=True):
        for field in FIELDS:
            assert getattr(mine, field) == getattr(its, field), field


def test_trials_that_began_and_ended_between_two_looks(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    all_endings(study)
    study.close()
    assert_equal_trials(study, tmp_path)


def test_a_running_trial_is_copied_and_brought_up_to_date(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    copy = study._database
    assert isinstance(copy, StudyDatabase)
    copy._copy()
    assert copied(tmp_path) == []  # the start config waits, and is no trial yet
    number, params, config = study.ask()
    study.report(number, 1, 0.9)
    copy._copy()
    assert copied(tmp_path)[0].state == TrialState.RUNNING and copied(tmp_path)[0].intermediate_values == {1: 0.9}
    live(study, [0.5], state="pruned", reason="stopped by ASHA at epoch 1")  # another one overtakes it
    study.report(number, 2, 0.7)
    copy._copy()
    assert_equal_trials(study, tmp_path)
    record = TrialRecord(label="0", number=number, role="search", config=config.to_dict(), params=params, started=1.0)
    record.epochs, record.state, record.reason = make_rows([0.9, 0.7], stop="budget"), "complete", "ran its full budget"
    study.tell(record)
    study.close()
    assert_equal_trials(study, tmp_path)
    assert copied(tmp_path)[0].state == TrialState.COMPLETE and copied(tmp_path)[0].user_attrs["reason"]


def test_a_file_that_cannot_be_written_ends_the_search_with_a_reason(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    live(study, [0.5], state="pruned", reason="")
    with sqlite3.connect(tmp_path / "optuna.db") as database:
        database.execute("DROP TABLE trials")
    with pytest.raises(ResultError, match=r"optuna.db must be writable, but"):
        study.close()
    with pytest.raises(ResultError, match=r"optuna.db must be writable, but"):
        study.ask()


@pytest.fixture
def far_from_greenwich() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("far_from_greenwich")
def test_numbers_and_attributes_of_every_kind_are_read_back_as_they_were(tmp_path: Path) -> None:
    study = optuna.create_study(study_name="s")
    copy = StudyDatabase(study, tmp_path / "optuna.db", threading.Lock())
    trial = study.ask()
    trial.suggest_categorical("amsgrad", [True, False])
    trial.suggest_categorical("size", [1, 2])
    trial.suggest_categorical("share", [1.0, 2.0])
    trial.suggest_int("depth", 1, 9, step=2)
    trial.report(math.inf, 1)
    trial.set_user_attr("reason", "größer als 'erwartet'")
    copy._copy()
    trial.report(-math.inf, 2)
    trial.report(math.nan, 3)
    trial.set_user_attr("text", None)
    study.tell(trial, math.inf)
    copy.close()
    (mine,), (its,) = study.trials, copied(tmp_path)
    assert repr([getattr(its, field) for field in FIELDS]) == repr([getattr(mine, field) for field in FIELDS])  # nan is nan
    for field in ("datetime_start", "datetime_complete"):
        assert getattr(its, field) == getattr(mine, field)


def test_a_look_is_one_transaction_of_what_changed(tmp_path: Path) -> None:
    study, statements = make_study(tmp_path), list[str]()
    copy = study._database
    assert isinstance(copy, StudyDatabase)
    for _ in range(3):
        live(study, [0.9, 0.8], state="pruned", reason="stopped by ASHA at epoch 2")
    copy._copy()
    number, _, _ = study.ask()
    study.report(number, 1, 0.9)
    connect = sqlite3.connect

    def traced(*given: Any, **named: Any) -> sqlite3.Connection:
        database = connect(*given, **named)
        database.set_trace_callback(statements.append)
        return database

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", traced)
        copy._copy()
        copy._copy()  # nothing has changed
    assert [statements[0], statements[-1]] == ["BEGIN ", "COMMIT"] and statements.count("COMMIT") == 1
    written = [line.split("(")[0].split()[2] for line in statements[1:-1]]
    assert written == ["trials", "trial_params", "trial_params", "trial_intermediate_values"]
    study.close()


def test_with_other_tables_optuna_writes_the_study_itself_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tune_btxrd.search.study_database.TABLES", "v9.0.0.a")
    monkeypatch.setattr("tune_btxrd.search.study_database.SECONDS", 0.01)
    study = make_study(tmp_path)
    assert "optuna.db is written when the search ends" in capsys.readouterr().out
    all_endings(study)
    study.close()
    assert_equal_trials(study, tmp_path)
