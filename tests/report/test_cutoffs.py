"""Who was cut at which cutoff: by hand, and against Ray's own scheduler."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.reports import make_search
from tests.support.searches import make_record, make_spec, make_trial
from tune_btxrd.report.cutoffs import rung_visits
from tune_btxrd.search.record import read_search


def timed(number: int, losses: list[float], start: float, state: str = "complete"):
    trial = make_trial(number, losses, state=state)
    for row in trial.epochs:
        row["time"] = start + row["epoch"]
    return trial


def test_a_trial_meets_the_cutoff_of_those_before_it(tmp_path: Path):
    spec = make_spec(grace_period=1, epochs=4, reduction_factor=2)
    first, second, third = timed(0, [3.0] * 4, 0), timed(1, [1.0] * 4, 10), timed(2, [2.5], 20, state="pruned")
    visits = [visit for visit in rung_visits(make_record(tmp_path, first, second, third), spec) if visit.rung == 1]
    assert [(v.trial.label, v.objective, v.cutoff, v.before, v.cut) for v in visits] == [
        ("0", 3.0, None, 0, False),
        ("1", 1.0, 3.0, 1, False),
        ("2", 2.5, 2.0, 2, True),  # the median of 3 and 1
    ]
    assert str(visits[2]) == "epoch 1: 2.5000 > cutoff 2.0000 of 2 before it"


def test_a_trial_that_the_time_budget_stopped_at_a_rung_was_not_cut(tmp_path: Path):
    spec = make_spec(grace_period=1, epochs=4, reduction_factor=2)
    record = make_record(tmp_path, timed(0, [3.0] * 4, 0), timed(1, [1.0], 10, state="pruned"))
    assert not rung_visits(record, spec)[-1].cut


def test_with_promotion_a_trial_meets_the_cutoff_of_all_who_came(tmp_path: Path):
    spec = make_spec(grace_period=1, epochs=4, reduction_factor=2, scheduler="promote")
    record = make_record(tmp_path, timed(0, [3.0], 0, "pruned"), timed(1, [1.0] * 4, 10), timed(2, [2.5, 2.4], 20, "pruned"))
    first, second, third = record.search_trials
    first.pauses, second.pauses, second.promotions = [1], [1], [1, 2]
    third.pauses, third.promotions = [2], [1]
    visits = [(v.trial.label, v.epoch, v.cutoff, v.before, v.cut) for v in rung_visits(record, spec)]
    assert visits == [
        ("0", 1, 1.0, 2, True),  # the best one in two of three is one
        ("1", 1, 1.0, 2, False),
        ("1", 2, 1.0, 1, False),
        ("2", 1, 1.0, 2, False),  # promoted while fewer had come
        ("2", 2, 1.0, 1, True),
    ]
    assert str(rung_visits(record, spec)[0]) == "epoch 1: 3.0000 > cutoff 1.0000 of 2 others"


@pytest.mark.slow
def test_cutoffs_are_those_of_rays_scheduler(tmp_path: Path):
    from ray.tune.schedulers.async_hyperband import _Bracket

    record = read_search(make_search(tmp_path / "stub", trials=60, odd=False))
    spec = make_spec(grace_period=3, epochs=27, reduction_factor=3)
    visits = {(v.trial.label, v.epoch): v for v in rung_visits(record, spec)}
    bracket = _Bracket(3, 27, 3, 0)
    rows = sorted((row["time"], t.label, row) for t in record.search_trials for row in t.epochs if row["epoch"] < 27)
    for _, label, row in rows:
        decision = bracket.on_result(type("T", (), {"trial_id": label})(), row["epoch"], -row["objective"])
        visit = visits.get((label, row["epoch"]))
        assert (decision == "STOP") == (visit is not None and visit.cut)
    assert sum(visit.cut for visit in visits.values()) > 20
    assert np.isclose(
        min(v.cutoff for v in visits.values() if v.rung == 9 and v.cutoff), -bracket.cutoff(bracket._rungs[1][1]), atol=0.2
    )
