"""Ray's ASHA behind our labels, fed by hand: decisions, divergence, and rungs that survive a restart. No Ray session."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import TrialScheduler

from tests.support.searches import make_conductor, make_folder, make_rows, make_spec
from tune_btxrd.distributed.tune_adapters import Recorder, Rungs, make_scheduler
from tune_btxrd.search.conductor import Conductor, PlannedTrial

CURVES = [[0.9, 0.8, 0.7, 0.6], [0.5, 0.5, 0.5, 0.4], [0.8, 0.7, 0.6, 0.5], [0.85, 0.6, 0.3, 0.2], [0.45, 0.44, 0.43, 0.1]]


class FakeTune:
    """The part of Tune's loop that calls scheduler and callbacks, in Tune's order."""

    def __init__(self, conductor: Conductor) -> None:
        self.conductor, self.rungs = conductor, make_scheduler(conductor.spec, conductor)
        self.recorder = Recorder(conductor, self.rungs)

    def begin(self) -> Any:
        """The next trial, as Tune holds it."""
        job = self.conductor.next()
        assert isinstance(job, PlannedTrial)
        return self.held(job)

    def held(self, job: PlannedTrial) -> Any:
        """A planned trial, as Tune holds it."""
        trial = SimpleNamespace(config={"trial": job.label, "role": job.role}, last_result={}, trial_id=job.label)
        self.rungs.on_trial_add(None, trial)
        return trial

    def result(self, trial: Any, row: dict[str, Any]) -> bool:
        """One report; whether the trial left its slot for it."""
        decision = self.rungs.on_trial_result(None, trial, row)
        self.recorder.on_trial_result(0, [], trial, row)
        trial.last_result = row
        if row["stop"] or decision == TrialScheduler.STOP:
            self.rungs.on_trial_complete(None, trial, row)
            self.recorder.on_trial_complete(0, [], trial)
        return decision in (TrialScheduler.STOP, TrialScheduler.PAUSE)

    def run(self, losses: list[float]) -> None:
        """One trial from start to end."""
        self.feed(self.begin(), losses)

    def feed(self, trial: Any, losses: list[float]) -> None:
        """The epochs that the trial has not told yet, until it leaves its slot."""
        done = len(self.conductor.record.trials[trial.trial_id].epochs)
        for row in make_rows(losses, stop="budget")[done:]:
            if self.result(trial, row):
                return

    def contents(self) -> list[tuple[float, dict[str, float]]]:
        """Milestone -> label -> value, as Ray holds it, but for a rung at the last epoch, which decides nothing."""
        assert isinstance(self.rungs, Rungs)
        rungs = self.rungs._brackets[0]._rungs
        return [(milestone, dict(recorded)) for milestone, recorded in rungs if milestone < self.conductor.spec.epochs]


def states(conductor: Conductor) -> list[tuple[str, str, int]]:
    return [(trial.state, trial.reason, len(trial.epochs)) for trial in conductor.record.search_trials]


def whole(folder: Path) -> FakeTune:
    """All curves in one session: rungs at 1 and 2, the better half goes on."""
    tune = FakeTune(make_conductor(make_folder(folder), make_spec(trials=5, reduction_factor=2, confirm=0)))
    for losses in CURVES:
        tune.run(losses)
    return tune


def test_asha_stops_what_is_worse_than_the_better_half(tmp_path: Path) -> None:
    tune = whole(tmp_path)
    assert states(tune.conductor) == [
        ("complete", "ran its full budget", 4),
        ("complete", "ran its full budget", 4),
        ("pruned", "stopped by ASHA at epoch 1", 1),
        ("pruned", "stopped by ASHA at epoch 1", 1),
        ("complete", "ran its full budget", 4),
    ]
    rung_2, rung_1 = (set(recorded) for _, recorded in tune.contents())
    assert rung_1 == {"0", "1", "2", "3", "4"} and rung_2 == {"0", "1", "4"}


@pytest.mark.parametrize("done", [1, 2, 3, 4])
@pytest.mark.parametrize("half", [0, 1, 2])
def test_resumed_equals_uninterrupted(done: int, half: int, tmp_path: Path) -> None:
    """Killed after `done` trials and `half` epochs of the next; even between an epoch and the decision on it."""
    uninterrupted = whole(tmp_path / "a")
    spec = uninterrupted.conductor.spec
    first = FakeTune(make_conductor(make_folder(tmp_path / "b"), spec))
    for losses in CURVES[:done]:
        first.run(losses)
    trial = first.begin()
    for row in make_rows(CURVES[done])[:half]:
        stopped = first.rungs.on_trial_result(None, trial, row) == TrialScheduler.STOP
        first.recorder.on_trial_result(0, [], trial, row)
        if stopped:
            break
    again = FakeTune(make_conductor(tmp_path / "b", spec))
    ended = sum(trial.state != "running" for trial in again.conductor.record.search_trials)
    for losses in CURVES[ended:]:
        again.run(losses)
    assert states(again.conductor) == states(uninterrupted.conductor)
    assert again.contents() == uninterrupted.contents()


def test_divergence_is_no_epoch_and_enters_no_rung(tmp_path: Path) -> None:
    tune = FakeTune(make_conductor(make_folder(tmp_path), make_spec(grace_period=2, confirm=0)))
    trial = tune.begin()
    tune.result(trial, make_rows([0.9])[0])
    row = {"epoch": 2, "lr": 0.01, "objective": float("inf"), "stop": "diverged", "reason": "loss nan in epoch 2 at lr=0.01"}
    tune.result(trial, row)
    assert states(tune.conductor) == [("diverged", "loss nan in epoch 2 at lr=0.01", 1)]
    assert all(not recorded for _, recorded in tune.contents())


def test_no_scheduler_stops_nothing(tmp_path: Path) -> None:
    tune = FakeTune(make_conductor(make_folder(tmp_path), make_spec(trials=5, scheduler="none", confirm=0)))
    for losses in CURVES:
        tune.run(losses)
    assert {state for state, _, _ in states(tune.conductor)} == {"complete"}


def test_a_process_that_dies_as_its_trial_pauses_costs_nothing(tmp_path: Path) -> None:
    """Tune begins the trial again: it pauses once more, or stops where it was given up meanwhile; its slot is free."""
    spec = make_spec(trials=5, reduction_factor=2, confirm=0, scheduler="promote")
    tune = FakeTune(make_conductor(make_folder(tmp_path), spec))
    first, rows = tune.begin(), make_rows(CURVES[0])
    assert tune.result(first, rows[0]) and tune.conductor.record.trials["0"].state == "paused"
    assert tune.rungs.on_trial_result(None, first, rows[0]) == TrialScheduler.PAUSE
    assert tune.conductor.give_back("0") and not tune.conductor.live
    tune.run(CURVES[1])  # goes on past both rungs
    for losses in CURVES[2:4]:
        tune.run(losses)
    assert tune.conductor.record.trials["0"].reason == "not promoted at epoch 1"
    for row in rows[:2]:
        assert tune.rungs.on_trial_result(None, first, row) == TrialScheduler.STOP
        tune.recorder.on_trial_result(0, [], first, row)
    tune.recorder.on_trial_complete(0, [], first)
    assert states(tune.conductor)[0] == ("pruned", "not promoted at epoch 1", 1)


def test_confirmation_trials_stay_outside_the_rungs(tmp_path: Path) -> None:
    tune = FakeTune(make_conductor(make_folder(tmp_path), make_spec(trials=1, confirm=1)))
    for losses in ([0.5, 0.4, 0.3, 0.2], [0.9] * 4, [0.9] * 4):
        tune.run(losses)
    assert [trial.state for trial in tune.conductor.record.confirmations] == ["complete"] * 2
    assert [set(recorded) for _, recorded in tune.contents()] == [{"0"}, {"0"}]


@pytest.mark.parametrize("scheduler", ["promote", "asha", "none"])
def test_an_early_repeat_that_is_not_needed_is_stopped_after_its_next_epoch(scheduler: str, tmp_path: Path) -> None:
    spec = make_spec(trials=3, epochs=3, grace_period=3, scheduler=scheduler, recommend="best", confirm=1, repeats=2)
    tune = FakeTune(make_conductor(make_folder(tmp_path), spec, slots=5))
    searched = [tune.begin() for _ in range(3)]
    tune.feed(searched[0], [0.9] * 3)
    tune.feed(searched[1], [0.5] * 3)
    *_, third, fourth = [tune.begin() for _ in range(4)]
    assert (third.trial_id, fourth.trial_id) == ("1r1", "1r2")
    rows = make_rows([0.1] * 3, stop="budget")
    assert not tune.result(third, rows[0]) and not any(tune.result(fourth, row) for row in rows[:2])  # may be needed yet
    tune.feed(searched[2], [0.4] * 3)
    assert tune.begin().trial_id == "2r1"
    assert tune.result(third, rows[1]) and not tune.result(fourth, rows[2])  # the last epoch ends it anyway
    why = "not needed after all: trial 1 is not among those confirmed"
    told = [(trial.state, trial.reason, len(trial.epochs)) for trial in tune.conductor.record.confirmations[2:4]]
    assert told == [("pruned", why, 2), ("complete", "ran its full budget", 3)]


def test_the_time_budget_stops_search_trials_and_says_so(tmp_path: Path) -> None:
    conductor = make_conductor(make_folder(tmp_path), make_spec(scheduler="none"))
    tune = FakeTune(conductor)
    trial = tune.begin()
    conductor.deadline = 1.0
    tune.result(trial, make_rows([0.9])[0])
    assert states(conductor) == [("pruned", "stopped by the time budget at epoch 1", 1)]


def test_the_epoch_budget_of_all_sessions_stops_search_trials_and_says_so(tmp_path: Path) -> None:
    tune = FakeTune(make_conductor(make_folder(tmp_path), make_spec(scheduler="none", folds_per_trial=2), epoch_budget=6))
    tune.result(tune.begin(), make_rows([0.9])[0])
    assert tune.conductor.used_up == ""
    spec = make_spec(scheduler="none", folds_per_trial=2)
    again = FakeTune(make_conductor(tmp_path, spec, slots=2, epoch_budget=6))
    first, second = again.begin(), again.begin()
    again.result(first, make_rows([0.9, 0.8])[1])  # an epoch over two folds counts twice
    assert again.conductor.used_up == ""
    again.result(second, make_rows([0.7])[0])
    assert again.conductor.next() == "wait" and again.conductor.used_up == "epoch"
    again.result(second, make_rows([0.7, 0.6])[1])  # what is in training reports once more
    assert states(again.conductor)[1] == ("pruned", "stopped by the epoch budget at epoch 2", 2)
