"""The recommendation by a model, on hand-made curves and against scikit-learn's Gaussian process."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import check_grad
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

from tests.support.searches import SPACE, make_spec, make_trial
from tune_btxrd.monitor import MONITORS
from tune_btxrd.search.record import TrialRecord
from tune_btxrd.search.selection import smoothing
from tune_btxrd.search.selection.completion import complete, prior_steps, steps
from tune_btxrd.search.selection.recommendation import recommend
from tune_btxrd.search.space.spec import SearchSpec

HERE = Path()
CONDITIONAL = SPACE.replace(
    "start:\n  - {lr: 1.0e-3, dropout: 0.2}",
    """  optimizer: {choices: [adamw, sgd]}
  momentum: {low: 0.5, high: 0.9, when: {optimizer: sgd}}
start:
  - {lr: 1.0e-3, dropout: 0.2, optimizer: adamw}""",
)


def valley(seed: int, count: int, *, luck: float) -> list[TrialRecord]:
    """Complete trials whose loss has its valley at lr = 1e-3, and luck of one training on top."""
    generator = np.random.default_rng(seed)
    lrs = 10 ** generator.uniform(-5, -2, count)
    losses = [0.4 * math.exp(0.5 * math.log10(lr / 1e-3) ** 2 + luck * generator.normal()) for lr in lrs]
    return [
        make_trial(n, [1.02 * loss, loss], params={"lr": lr, "dropout": 0.2})
        for n, (lr, loss) in enumerate(zip(lrs, losses, strict=True))
    ]


def test_a_curve_is_completed_by_the_steps_of_those_that_went_on() -> None:
    e = math.e
    going_on = [make_trial(n, [1.0, 1 / e, 1 / e**3]) for n in range(2)]  # log errors 0, -1, -3
    cut = make_trial(2, [0.5], state="pruned")
    means, variances = steps([np.array([0.0, -1.0, -3.0])] * 2 + [np.array([math.log(0.5)])], 3)
    first, second = (-1 - 1 - 2 * 0.06) / 4, (-2 - 2 - 2 * 0.06 / math.sqrt(2)) / 4
    assert means == pytest.approx([first, second])
    assert variances[0] == pytest.approx((2 * (-1 - first) ** 2 + 2 * 0.06**2) / 4)
    done, _, short = complete([*going_on, cut], 3)
    assert (done.value, done.variance) == (pytest.approx(-3), 0)
    assert short.value == pytest.approx(math.log(0.5) + first + second)
    assert short.variance == pytest.approx(2 * variances.sum())


def test_prior_steps_shrink_and_then_stay() -> None:
    expected = [-0.06, -0.06 / math.sqrt(2), -0.06 / math.sqrt(11), -0.008, -0.008]
    assert prior_steps(15)[[0, 1, 10, 11, 13]] == pytest.approx(expected)


def test_a_trial_that_ran_to_its_own_patience_is_not_completed_further() -> None:
    patient = make_trial(0, [1.0, 0.5])
    [found] = complete([patient], 30)
    assert (found.value, found.variance) == (pytest.approx(math.log(0.5)), 0)


@pytest.mark.parametrize("name", list(MONITORS))
def test_an_error_counts_from_the_perfect_value(name: str) -> None:
    monitor = MONITORS[name]
    assert monitor.error(monitor.objective(monitor.perfect)) == 0
    assert monitor.error(monitor.objective(0.25)) == pytest.approx(abs(0.25 - monitor.perfect))
    assert monitor.from_error(monitor.error(monitor.objective(0.25))) == pytest.approx(monitor.objective(0.25))


def test_the_process_is_that_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    points, values, variances = generator.random((20, 2)), generator.normal(size=20), generator.random(20) * 0.1
    lengths, signal, luck = np.array([0.3, 0.7]), 0.9, 0.2
    kernel = ConstantKernel(signal) * Matern(length_scale=lengths, nu=2.5)
    slow = GaussianProcessRegressor(kernel, alpha=variances + luck + smoothing.JITTER, optimizer=None).fit(points, values)
    expected, deviation = slow.predict(points, return_std=True)
    logs = np.log([*lengths, signal, luck])
    means, deviations, left_out = smoothing.posterior(logs, points, values, variances)
    assert means == pytest.approx(expected) and deviations == pytest.approx(deviation)
    rest = np.arange(1, 20)
    slow = GaussianProcessRegressor(kernel, alpha=(variances + luck + smoothing.JITTER)[rest], optimizer=None)
    assert left_out[0] == pytest.approx(slow.fit(points[rest], values[rest]).predict(points[:1])[0])


def test_the_gradient_is_the_slope_of_the_posterior() -> None:
    generator = np.random.default_rng(1)
    points, values, noise = generator.random((12, 3)), generator.normal(size=12), generator.random(12) * 0.2
    loss = smoothing.MinusLogPosterior(points, values, noise)
    at = loss.prior + 0.3
    assert check_grad(lambda logs: loss(logs)[0], lambda logs: loss(logs)[1], at) < 1e-4


def test_the_luckiest_of_many_loses_to_the_middle_of_the_valley() -> None:
    """A lucky outlier far from the valley has the best score; what its neighbours reached tells that it was luck."""
    trials = valley(3, 30, luck=0.03)
    far = min(trials, key=lambda trial: trial.params["lr"])
    far.epochs[-1]["objective"] = min(trial.objective or 0 for trial in trials) - 0.005
    found = recommend(trials, make_spec(epochs=2))
    assert not found.why_plain and found.best is not None and found.best.trial is not far
    assert abs(math.log10(found.best.trial.params["lr"] / 1e-3)) < 0.5
    item = next(item for item in found.assessed if item.trial is far)
    assert item.modelled is not None and item.modelled > item.observed + 0.1 and item.doubt == 0


def test_cut_and_running_trials_count_and_diverged_and_failed_ones_do_not() -> None:
    trials = valley(3, 12, luck=0.0)
    cut = make_trial(12, [0.30], state="pruned")
    running = make_trial(13, [0.31], state="running")
    lost = [make_trial(14, [0.1], state="diverged"), make_trial(15, [0.1], state="failed")]
    silent = make_trial(16, [0.1], state="running")
    silent.epochs.clear()
    found = recommend([*trials, cut, running, *lost, silent], make_spec(epochs=2))
    assert not found.why_plain and [item.trial.number for item in found.assessed][:2] == [12, 13]
    assert len(found.assessed) == 14 and found.assessed[0].completed < 0.30 and found.assessed[0].doubt > 0


def test_few_trials_and_trials_without_a_pattern_leave_the_best_so_far_and_say_so() -> None:
    few = recommend([make_trial(0, [0.5]), make_trial(1, [0.4], state="pruned")], make_spec())
    assert few.best is not None and few.best.trial.number == 1 and few.best.modelled is None
    assert "needs 8 trials with an epoch, but there are 2" in few.why_plain
    generator = np.random.default_rng(0)
    noise = [
        make_trial(n, [float(loss)], params={"lr": float(lr), "dropout": 0.2})
        for n, (loss, lr) in enumerate(
            zip(generator.uniform(0.4, 0.6, 12), 10 ** generator.uniform(-5, -2, 12), strict=True)
        )
    ]
    found = recommend(noise, make_spec())
    assert "no better than their mean" in found.why_plain
    assert found.best is not None and found.best.observed == min(trial.objective or 1 for trial in noise)
    nothing = recommend([], make_spec())
    assert nothing.best is None and nothing.why_plain


def test_one_value_for_all_is_no_reason_to_fail() -> None:
    trials = [make_trial(n, [0.5]) for n in range(10)]
    found = recommend(trials, make_spec())
    assert found.why_plain and found.best is not None and found.best.trial.number == 0


def test_choices_and_conditions_have_their_columns() -> None:
    spec = SearchSpec.from_text(CONDITIONAL)
    points = smoothing.unit_points(
        [
            {"lr": 1e-5, "dropout": 0.5, "optimizer": "adamw"},
            {"lr": 1e-2, "dropout": 0.25, "optimizer": "sgd", "momentum": 0.9},
        ],
        spec,
    )
    assert points == pytest.approx(np.array([[0, 1, 1, 0, 0.5], [1, 0.5, 0, 1, 1]]))


def test_a_feasible_trial_goes_before_a_better_one_that_is_not() -> None:
    spec = SearchSpec.from_text(SPACE + 'constraint: {val_recall_malignant: ">= 0.6"}\n')
    trials = [make_trial(0, [0.4], values={"val_recall_malignant": 0.5})]
    trials += [make_trial(1, [0.5], values={"val_recall_malignant": 0.7})]
    assert [item.trial.number for item in recommend(trials, spec).assessed] == [1, 0]
