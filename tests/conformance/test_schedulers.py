"""Conformance of schedulers: every word of `SCHEDULERS` keeps these promises; a new one is run through them by its name."""

from pathlib import Path

import pytest

from tests.search.test_asha import CURVES, FakeTune, states
from tests.support.searches import make_conductor, make_folder, make_rows, make_spec
from tune_btxrd.search.conductor import PlannedTrial
from tune_btxrd.search.space.spec import SCHEDULERS, SearchSpec


@pytest.fixture(params=SCHEDULERS)
def spec(request: pytest.FixtureRequest) -> SearchSpec:
    return make_spec(trials=5, grace_period=2, reduction_factor=2, confirm=0, scheduler=request.param)


def play(folder: Path, spec: SearchSpec, *, handed_out: int = 0) -> FakeTune:
    """All curves; the driver dies once after it handed out so many trials."""
    made = make_folder(folder)
    if handed_out:
        play_on(FakeTune(make_conductor(made, spec)), at_most=handed_out)
    tune = FakeTune(make_conductor(made, spec))
    play_on(tune)
    return tune


def play_on(tune: FakeTune, *, at_most: int = 10**6) -> None:
    """Whatever the conductor hands out, one after another."""
    while at_most and not tune.conductor.finished:
        planned = tune.conductor.next()
        if isinstance(planned, PlannedTrial):
            tune.feed(tune.held(planned), CURVES[int(planned.label)])
            at_most -= 1


def test_no_trial_is_stopped_before_the_grace_period(spec: SearchSpec, tmp_path: Path) -> None:
    ended = play(tmp_path, spec).conductor.record.search_trials
    assert len(ended) == spec.trials
    assert all(len(trial.epochs) >= spec.grace_period for trial in ended)


def test_a_trial_that_is_alone_runs_to_its_end(spec: SearchSpec, tmp_path: Path) -> None:
    assert states(play(tmp_path, spec.override({"trials": 1}, {})).conductor)[0][0] == "complete"


def test_the_best_of_all_at_every_epoch_is_never_stopped(spec: SearchSpec, tmp_path: Path) -> None:
    tune = play(tmp_path, spec)
    assert states(tune.conductor)[4][0] == "complete"  # its curve lies below all others from the first epoch on


def test_a_restart_changes_no_decision(spec: SearchSpec, tmp_path: Path) -> None:
    whole = states(play(tmp_path / "whole", spec).conductor)
    for first in range(1, len(CURVES)):
        halves = play(tmp_path / f"halves{first}", spec, handed_out=first)
        assert states(halves.conductor) == whole


def test_confirmation_is_none_of_its_business(tmp_path: Path, spec: SearchSpec) -> None:
    confirmed = spec.override({"trials": 2, "confirm": 1}, {})
    tune = FakeTune(make_conductor(make_folder(tmp_path), confirmed))
    while (repeat := tune.begin()).config["role"] == "search":
        tune.feed(repeat, CURVES[int(repeat.trial_id)])
    assert not any(tune.result(repeat, row) for row in make_rows([9.0, 9.0, 9.0, 9.0], stop="budget"))  # worse than all
