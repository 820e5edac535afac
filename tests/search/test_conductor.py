"""The conductor without Ray: order of jobs, slots, resuming, confirmation, deadline, extension."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from tests.support.searches import make_conductor, make_folder, make_rows, make_spec, run_all
from tune_btxrd.errors import ResultError
from tune_btxrd.search.conductor import Conductor, PlannedTrial
from tune_btxrd.search.record import read_search
from tune_btxrd.search.selection.winner import confirm_seed, select


def bowl(config: Mapping[str, Any]) -> list[float]:
    """Made-up losses with a minimum at lr = 1e-4, dropout = 0.4; the seed adds a little luck."""
    loss = 0.5 + 0.1 * (math.log10(config["lr"]) + 4) ** 2 + (config["dropout"] - 0.4) ** 2 + config["seed"] % 97 / 1e4
    return [loss + 0.3 / epoch for epoch in range(1, 5)]


def job_of(conductor: Conductor) -> PlannedTrial:
    """The next job; fails where there is none."""
    job = conductor.next()
    assert isinstance(job, PlannedTrial)
    return job


def facts(folder: Path) -> list[tuple[Any, ...]]:
    """What two searches must agree on."""
    record = read_search(folder)
    trials = [*record.search_trials, *record.confirmations]
    return [(t.label, t.number, t.state, t.config, t.params, [row["objective"] for row in t.epochs]) for t in trials]


def test_search_trials_come_first_then_pairs_of_the_confirmation(tmp_path: Path) -> None:
    conductor = make_conductor(make_folder(tmp_path), make_spec(trials=5, confirm=2, repeats=3, recommend="best"))
    labels = run_all(conductor, bowl)
    assert labels[:5] == ["0", "1", "2", "3", "4"] and conductor.finished
    top = [label[:-2] for label in labels[5:] if label.endswith("r1")]
    assert labels[5:] == [f"{number}r{repeat}" for repeat in (1, 2, 3) for number in top]
    assert top[-1] == "0" and len(top) == 3
    repeats = [trial for trial in conductor.record.confirmations if trial.repeat == 2]
    assert {trial.config["seed"] for trial in repeats} == {confirm_seed(42, 2)}
    for trial in repeats:
        origin = conductor.record.trials[str(trial.of)]
        assert trial.params == origin.params and trial.config | {"seed": 42} == origin.config
    assert select(conductor.record, conductor.spec, val_share=0.2).winner.label == top[0]
    states = [trial.state for trial in conductor.confirmation.study.trials]
    assert states == [TrialState.COMPLETE] * 9 and conductor.confirmation.study.trials[0].user_attrs["repeat"] == 1


def test_a_confirmation_sees_its_own_partition(tmp_path: Path) -> None:
    conductor = make_conductor(make_folder(tmp_path), make_spec(trials=1, confirm=1))
    assert job_of(conductor).splits == ("common",)
    run_all(make_conductor(tmp_path, make_spec(trials=1, confirm=1)), bowl, jobs=1)
    again = make_conductor(tmp_path, make_spec(trials=1, confirm=1), slots=2)
    assert [job_of(again).splits for _ in range(2)] == [("confirm_1",), ("confirm_2",)]


def test_no_more_jobs_than_slots(tmp_path: Path) -> None:
    conductor = make_conductor(make_folder(tmp_path), make_spec(), slots=2)
    assert [job_of(conductor).label for _ in range(2)] == ["0", "1"]
    assert conductor.next() == "wait"
    conductor.epoch("0", make_rows([0.5])[0])
    conductor.end("0", state="pruned", reason="stopped by ASHA at epoch 1")
    assert job_of(conductor).label == "2" and conductor.next() == "wait"


def test_idle_slots_take_the_hand_made_repeats_while_the_last_search_trials_run(tmp_path: Path) -> None:
    conductor = make_conductor(make_folder(tmp_path), make_spec(trials=2, confirm=1), slots=4)
    labels = [job_of(conductor).label for _ in range(4)]
    assert labels == ["0", "1", "0r1", "0r2"]
    assert conductor.next() == "wait"
    for label, loss in (("0", 0.9), ("1", 0.5)):
        conductor.epoch(label, make_rows([loss])[0])
        conductor.end(label, state="complete", reason="")
    assert [job_of(conductor).label for _ in range(2)] == ["1r1", "1r2"]


def test_without_confirmation_the_search_ends_with_its_trials(tmp_path: Path) -> None:
    conductor = make_conductor(make_folder(tmp_path), make_spec(trials=3, confirm=0))
    assert run_all(conductor, bowl) == ["0", "1", "2"] and conductor.next() == "finished"


@pytest.mark.parametrize("stops", [(1,), (4, 7), (2, 5, 6, 9)])
def test_killed_and_resumed_equals_uninterrupted(stops: tuple[int, ...], tmp_path: Path) -> None:
    """The driver dies after so many jobs, the last of them half done; nothing but the journal survives."""
    spec = make_spec(trials=7)
    run_all(make_conductor(make_folder(tmp_path / "whole"), spec), bowl)
    folder = make_folder(tmp_path / "killed")
    for stop in stops:
        conductor = make_conductor(folder, spec)
        run_all(conductor, bowl, jobs=stop - len([t for t in conductor.record.trials.values() if t.state != "running"]))
        job = job_of(conductor)
        for row in make_rows(bowl(job.config.to_dict()))[:2]:
            conductor.epoch(job.label, row)
    run_all(make_conductor(folder, spec), bowl)
    assert facts(folder) == facts(tmp_path / "whole")


def test_unfinished_trials_are_offered_again_first_and_know_their_epochs(tmp_path: Path) -> None:
    first = make_conductor(make_folder(tmp_path), make_spec(), slots=2)
    jobs = [job_of(first) for _ in range(2)]
    rows = make_rows([0.9, 0.8, 0.7])
    first.epoch("1", rows[0])
    again = make_conductor(tmp_path, make_spec(), slots=2)
    assert [job_of(again) for _ in range(2)] == jobs
    assert [again.epoch("1", row) for row in rows] == [False, True, True]
    assert [row["epoch"] for row in again.record.trials["1"].epochs] == [1, 2, 3]
    assert again.search.study.trials[1].intermediate_values == {1: 0.9, 2: 0.8, 3: 0.7}


def test_a_trial_killed_between_its_last_epoch_and_its_end_is_ended(tmp_path: Path) -> None:
    first = make_conductor(make_folder(tmp_path), make_spec())
    label = job_of(first).label
    for row in make_rows([0.9, 0.8], stop="patience"):
        first.epoch(label, row)
    again = make_conductor(tmp_path, make_spec())
    trial = again.record.trials[label]
    assert (trial.state, trial.reason) == ("complete", "stopped by its own patience")
    assert job_of(again).label == "1" and again.search.study.trials[0].state == TrialState.COMPLETE


def test_more_trials_extend_a_finished_search(tmp_path: Path) -> None:
    folder, small, large = make_folder(tmp_path / "a"), make_spec(trials=4), make_spec(trials=6)
    run_all(make_conductor(folder, small), bowl)
    labels = run_all(make_conductor(folder, large), bowl)
    assert labels[:2] == ["4", "5"]
    direct = make_folder(tmp_path / "b")
    run_all(make_conductor(direct, large), bowl)
    searched = [fact for fact in facts(folder) if "r" not in fact[0]]
    assert searched == [fact for fact in facts(direct) if "r" not in fact[0]]
    select(read_search(folder), large, val_share=0.2)  # what the longer search ranks highest is confirmed
    assert run_all(make_conductor(folder, large), bowl) == []


def test_a_deadline_ends_the_search_but_not_the_confirmation(tmp_path: Path) -> None:
    run_all(make_conductor(make_folder(tmp_path), make_spec(trials=6)), bowl, jobs=2)
    late = make_conductor(tmp_path, make_spec(trials=6), deadline=1.0)
    assert late.used_up == "time"
    assert {label[-2:] for label in run_all(late, bowl)} == {"r1", "r2"}
    assert len(late.record.search_trials) == 2 and late.finished


def fail(conductor: Conductor, *reasons: str) -> None:
    """Trials that fail at once."""
    for reason in reasons:
        conductor.end(job_of(conductor).label, state="failed", reason=reason)


def test_first_trials_that_fail_alike_stop_the_search(tmp_path: Path) -> None:
    conductor = make_conductor(make_folder(tmp_path), make_spec())
    fail(conductor, "MemoryError: 31 MB", "MemoryError: 7 MB", "MemoryError: 12 MB")
    with pytest.raises(ResultError, match="The first 3 trials failed alike, so the search stopped: MemoryError: 12 MB"):
        conductor.next()


def test_different_failures_or_one_success_let_the_search_go_on(tmp_path: Path) -> None:
    mixed = make_conductor(make_folder(tmp_path / "a"), make_spec())
    fail(mixed, "ValueError: no", "KeyError: 1", "ValueError: no")
    assert job_of(mixed).label == "3"
    lucky = make_conductor(make_folder(tmp_path / "b"), make_spec())
    run_all(lucky, bowl, jobs=1)
    fail(lucky, "ValueError: no", "ValueError: no", "ValueError: no")
    assert job_of(lucky).label == "4"


def test_optuna_and_journal_agree_at_the_end(tmp_path: Path) -> None:
    conductor = make_conductor(make_folder(tmp_path), make_spec(trials=5))
    run_all(conductor, bowl)
    record = read_search(tmp_path)
    for study, trials in (
        (conductor.search.study, record.search_trials),
        (conductor.confirmation.study, record.confirmations),
    ):
        assert [trial.number for trial in study.trials] == [trial.number for trial in trials]
        assert [trial.value for trial in study.trials] == [trial.objective for trial in trials]
        assert [trial.params for trial in study.trials] == [trial.params for trial in trials]
