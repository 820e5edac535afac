"""Conformance of samplers: every word of `SAMPLERS` keeps these promises; a new one is run through them by its name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.searches import make_conductor, make_folder, make_rows, run_all
from tune_btxrd.search.conductor import Conductor
from tune_btxrd.search.record import read_search
from tune_btxrd.search.space.spec import SAMPLERS, SearchSpec

SPACE = """
trials: 9
epochs: 4
scheduler: none
startup_trials: 3
confirm: 0
monitor: macro_auc
space:
  lr: {low: 1.0e-5, high: 1.0e-2, log: true}
  dropout: {low: 0.0, high: 0.5, step: 0.1}
  patience: {low: 2, high: 6}
  loss: {choices: [weighted_ce, focal]}
  focal_gamma: {low: 0.5, high: 3.0, when: {loss: focal}}
start:
  - {lr: 1.0e-3, dropout: 0.2, patience: 4, loss: weighted_ce}
"""


@pytest.fixture(params=SAMPLERS)
def spec(request: pytest.FixtureRequest) -> SearchSpec:
    return SearchSpec.from_text(SPACE).override({"sampler": request.param}, {})


def losses(config: Mapping[str, Any]) -> list[float]:
    return [0.9 + config["dropout"], 0.5 + config["dropout"], 0.4 + config["dropout"], 0.4 + config["dropout"]]


def proposals(folder: Path) -> list[dict[str, Any]]:
    return [dict(trial.params) for trial in read_search(folder).search_trials]


def test_every_proposal_lies_in_the_space(spec: SearchSpec, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "search")
    run_all(make_conductor(folder, spec), losses)
    made = proposals(folder)
    assert len(made) == spec.trials and made[0] == dict(spec.start[0])
    for values in made:
        assert spec.complete(values)  # names every active dimension, within its range and on its steps, and no other


def test_it_depends_on_seed_number_and_past_alone(spec: SearchSpec, tmp_path: Path) -> None:
    whole, again, halves, other = (make_folder(tmp_path / name) for name in ("whole", "again", "halves", "other"))
    for folder in (whole, again):
        run_all(make_conductor(folder, spec), losses)
    run_all(make_conductor(halves, spec), losses, jobs=5)
    run_all(make_conductor(halves, spec), losses)  # a new process would go on like this
    run_all(make_conductor(other, spec.override({"seed": 43}, {})), losses)
    assert proposals(whole) == proposals(again) == proposals(halves)
    assert proposals(whole)[1:] != proposals(other)[1:]


def test_it_goes_on_after_trials_that_taught_it_nothing(spec: SearchSpec, tmp_path: Path) -> None:
    conductor = make_conductor(make_folder(tmp_path / "search"), spec)
    endings = [("complete", 4), ("failed", 0), ("diverged", 2), ("diverged", 0), ("failed", 3), ("pruned", 1)]
    for state, epochs in endings:
        end(conductor, state, epochs)
    labels = run_all(conductor, losses)
    assert len(labels) == spec.trials - len(endings)
    assert all(spec.complete(trial.params) for trial in conductor.record.search_trials)


def end(conductor: Conductor, state: str, epochs: int) -> None:
    """The next trial ends like this after so many epochs."""
    trial = conductor.next()
    assert not isinstance(trial, str)
    for row in make_rows([0.9, 0.8, 0.7, 0.6][: max(epochs, 1)])[:epochs]:
        conductor.epoch(trial.label, row)
    conductor.end(trial.label, state=state, reason="made up")
