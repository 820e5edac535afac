import math

import numpy as np
import pytest
from scipy import stats

from tune_btxrd.scoring.intervals import Interval, Proportion, draw_weights, percentile_interval
from tune_btxrd.scoring.metrics import auc

SHARES = np.linspace(0.01, 0.99, 99)


def coverage(intervals: list[Interval], asked: int, share: float) -> float:
    weight = stats.binom.pmf(np.arange(asked + 1), asked, share)
    return float(sum(w for w, i in zip(weight, intervals, strict=True) if i.low <= share <= i.high))


def test_textbook_intervals():
    """Exact 0/10 is 1 - 0.025^(1/10) = 0.3085; Wilson of 5/10 is 0.5 +- z sqrt(...) = 0.2366..0.7634."""
    none, half = Proportion(found=0, asked=10), Proportion(found=5, asked=10)
    assert none.clopper_pearson.low == 0 and none.clopper_pearson.high == pytest.approx(1 - 0.025 ** (1 / 10))
    z2 = stats.norm.ppf(0.975) ** 2
    spread = math.sqrt(z2 * (10 * 0.25 + z2 / 4)) / (10 + z2)
    assert (half.wilson.low, half.wilson.high) == (pytest.approx(0.5 - spread), pytest.approx(0.5 + spread))


@pytest.mark.parametrize(("found", "asked"), [(0, 7), (7, 7), (1, 8), (31, 51), (282, 564)])
def test_intervals_equal_scipy(found, asked):
    count, theirs = Proportion(found=found, asked=asked), stats.binomtest(found, asked)
    for own, method in ((count.clopper_pearson, "exact"), (count.wilson, "wilson")):
        limits = theirs.proportion_ci(0.95, method=method)
        assert (own.low, own.high) == (pytest.approx(limits.low, abs=1e-9), pytest.approx(limits.high, abs=1e-9))


def test_a_share_of_nothing_is_unknown():
    empty = Proportion(found=0, asked=0)
    assert math.isnan(empty.value) and str(empty.wilson) == str(empty.clopper_pearson) == "not estimable"


@pytest.mark.parametrize("asked", [10, 51, 107])
def test_coverage_of_single_proportions(asked):
    counts = [Proportion(found=found, asked=asked) for found in range(asked + 1)]
    intervals = ([count.clopper_pearson for count in counts], [count.wilson for count in counts])
    exact, wilson = ([coverage(kind, asked, share) for share in SHARES] for kind in intervals)
    assert min(exact) >= 0.95 and 0.94 <= np.mean(wilson) <= 0.96


def test_images_of_a_group_are_drawn_together():
    groups = np.array([7, 7, 3, 3, 3, 9])
    weights = draw_weights(groups, replicates=200, seed=1)
    assert weights.shape == (200, 6)
    assert (weights[:, 0] == weights[:, 1]).all() and (weights[:, 2:5] == weights[:, [2]]).all()
    assert (weights[:, [0, 2, 5]].sum(axis=1) == 3).all(), "as many groups as there are"
    assert np.array_equal(weights, draw_weights(groups, replicates=200, seed=1))
    assert not np.array_equal(weights, draw_weights(groups, replicates=200, seed=2))


def test_percentiles_by_hand():
    found = percentile_interval(np.append(np.arange(201.0), np.nan))
    assert (found.low, found.high) == (pytest.approx(5), pytest.approx(195)), "NaN is left out"
    assert str(percentile_interval(np.full(5, np.nan))) == "not estimable"


def test_group_bootstrap_covers_what_the_image_bootstrap_misses():
    """Four views per patient that share 80 % of their variance: a bootstrap over images is far too sure of itself."""
    truth, covered = stats.norm.cdf(1.0 / math.sqrt(2)), {"group": 0, "image": 0}
    for seed in range(150):
        rng = np.random.default_rng(seed)
        group = np.repeat(np.arange(80), 4)
        positive = group < 30
        score = np.repeat(rng.normal(size=80), 4) * 0.8**0.5 + rng.normal(size=320) * 0.2**0.5 + positive
        for kind, groups in (("group", group), ("image", np.arange(320))):
            interval = percentile_interval(auc(score, positive, draw_weights(groups, replicates=200, seed=seed)))
            covered[kind] += interval.low <= truth <= interval.high
    assert covered["group"] >= 0.88 * 150 and covered["image"] <= 0.80 * 150
