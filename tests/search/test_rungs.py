"""ASHA's rungs, the best trial so far and the epochs ahead: one function each, checked by hand and against Ray."""

from types import SimpleNamespace

import pytest

from tests.support.searches import make_spec, make_trial
from tune_btxrd.search.budget import expected_epochs
from tune_btxrd.search.record import best_trial
from tune_btxrd.search.rungs import milestones, rung_epochs

SPACES = [
    (4, 30, 3.0),
    (1, 4, 3.0),
    (5, 5, 3.0),
    (1, 8, 2.0),
    (2, 10, 1.5),
    (2, 7, 1.5),
    (1, 12, 1.2),
    (3, 243, 3.0),
    (8, 27, 1.5),
]


@pytest.mark.parametrize(("grace", "epochs", "factor"), SPACES)
def test_rungs_are_those_of_rays_scheduler(grace: int, epochs: int, factor: float) -> None:
    from ray.tune.schedulers import ASHAScheduler

    scheduler = ASHAScheduler(
        time_attr="epoch", metric="loss", mode="min", max_t=epochs, grace_period=grace, reduction_factor=factor
    )
    spec = make_spec(grace_period=grace, epochs=epochs, reduction_factor=factor)
    bracket = scheduler._brackets[0]
    assert list(milestones(spec)) == [milestone for milestone, _ in reversed(bracket._rungs)]
    trial = SimpleNamespace(trial_id="7")
    scheduler.on_trial_add(None, trial)
    compared, entered = [], 0
    for epoch in range(1, epochs):
        scheduler.on_trial_result(None, trial, {"epoch": epoch, "loss": 1.0})
        now = sum(len(recorded) for _, recorded in bracket._rungs)
        compared += [epoch] if now > entered else []
        entered = now
    assert list(rung_epochs(spec)) == compared


def test_rungs_by_hand() -> None:
    assert rung_epochs(make_spec(epochs=30, grace_period=4)) == (4, 12)
    assert milestones(make_spec(epochs=10, grace_period=2, reduction_factor=1.5)) == (2, 3, 4.5, 6.75)
    assert rung_epochs(make_spec(epochs=10, grace_period=2, reduction_factor=1.5)) == (2, 3, 5, 7)
    assert rung_epochs(make_spec(epochs=7, grace_period=2, reduction_factor=1.5)) == (
        2,
        3,
        5,
    )  # 6.75 would be the last epoch
    assert rung_epochs(make_spec(epochs=4, grace_period=4)) == () == rung_epochs(make_spec(scheduler="none"))


def test_the_epochs_of_a_search_follow_from_its_rungs() -> None:
    spec = make_spec(trials=9, epochs=30, grace_period=4, reduction_factor=3, confirm=0)
    assert expected_epochs(spec) == 9 * (4 + (12 - 4) / 3 + (30 - 12) / 9)
    between = make_spec(trials=1, epochs=10, grace_period=3, reduction_factor=1.5)  # 3, 4.5 and 6.75: compared at 3, 5, 7
    assert expected_epochs(between) == pytest.approx(3 + 2 / 1.5 + 2 / 1.5**2 + 3 / 1.5**3)
    assert expected_epochs(make_spec(trials=5, epochs=7, scheduler="none")) == 35


def test_the_best_trial_is_found_in_one_way() -> None:
    """A tie in the monitored value is decided by the monitor's own tie, then by the number."""
    equal: dict[str, object] = {"config": {"monitor": "macro_auc"}}
    trials = [
        make_trial(0, [-0.8], values={"val_macro_f1": 0.4}, **equal),
        make_trial(1, [-0.8], values={"val_macro_f1": 0.6}, **equal),
        make_trial(2, [-0.8], values={"val_macro_f1": 0.6}, **equal),
        make_trial(3, [-0.5], values={"val_macro_f1": 0.9}, **equal),
    ]
    best = best_trial(reversed(trials))
    assert best is not None
    assert best.number == 1
    assert best_trial([]) is None
