"""Conformance of schedulers: every word of `SCHEDULERS` keeps these promises; a new one is run through them by its name."""

from pathlib import Path

import pytest

from tests.search.test_asha import CURVES, FakeTune, states
from tests.support.searches import make_conductor, make_folder, make_rows, make_spec
from tune_btxrd.search.space.spec import SCHEDULERS, SearchSpec


@pytest.fixture(params=SCHEDULERS)
def spec(request: pytest.FixtureRequest) -> SearchSpec:
    return make_spec(trials=5, grace_period=2, reduction_factor=2, confirm=0, scheduler=request.param)


def play(folder: Path, spec: SearchSpec, *, sessions: tuple[int, ...] = (len(CURVES),)) -> FakeTune:
    """All curves, in so many trials a session."""
    made, curves = make_folder(folder), iter(CURVES)
    for count in sessions:
        tune = FakeTune(make_conductor(made, spec))
        for losses in [next(curves) for _ in range(count)]:
            tune.run(losses)
    return tune


def test_no_trial_is_stopped_before_the_grace_period(spec: SearchSpec, tmp_path: Path) -> None:
    ended = play(tmp_path, spec).conductor.record.search_trials
    assert len(ended) == spec.trials
    assert all(len(trial.epochs) >= spec.grace_period for trial in ended)


def test_the_first_trial_runs_to_its_end(spec: SearchSpec, tmp_path: Path) -> None:
    assert states(play(tmp_path, spec).conductor)[0][0] == "complete"


def test_the_best_of_all_at_every_epoch_is_never_stopped(spec: SearchSpec, tmp_path: Path) -> None:
    tune = play(tmp_path, spec)
    assert states(tune.conductor)[4][0] == "complete"  # its curve lies below all others from the first epoch on


def test_a_restart_changes_no_decision(spec: SearchSpec, tmp_path: Path) -> None:
    whole = states(play(tmp_path / "whole", spec).conductor)
    for first in range(1, len(CURVES)):
        halves = play(tmp_path / f"halves{first}", spec, sessions=(first, len(CURVES) - first))
        assert states(halves.conductor) == whole


def test_confirmation_is_none_of_its_business(tmp_path: Path, spec: SearchSpec) -> None:
    confirmed = spec.override({"trials": 2, "confirm": 1}, {})
    tune = FakeTune(make_conductor(make_folder(tmp_path), confirmed))
    for losses in CURVES[:2]:
        tune.run(losses)
    repeat = tune.begin()
    assert repeat.config["role"] == "confirm"
    assert not any(tune.result(repeat, row) for row in make_rows([9.0, 9.0, 9.0, 9.0], stop="budget"))  # worse than all
