"""Scores over folds, by hand."""

import math

import pytest

from tune_btxrd.scoring.folds import corrected_interval, fold_table


def test_the_corrected_interval_by_hand() -> None:
    """Five folds, mean 0.7, variance 0.025: error sqrt(0.025 * (1/5 + 1/4)), t with 4 degrees of freedom 2.776445."""
    found = corrected_interval([0.5, 0.6, 0.7, 0.8, 0.9], ratio=0.25)
    reach = 2.776445 * math.sqrt(0.025 * 0.45)
    assert (found.low, found.high) == pytest.approx((0.7 - reach, 0.7 + reach), abs=1e-5)
    assert found.high - found.low > 2 * 2.776445 * math.sqrt(0.025 / 5)  # wider than that of independent runs


@pytest.mark.parametrize("values", [[0.5], [0.5, math.nan, 0.6]])
def test_nothing_is_said_of_one_fold_or_of_a_score_that_is_missing(values: list[float]) -> None:
    assert math.isnan(corrected_interval(values, ratio=0.5).low)


def test_the_table_has_folds_summary_and_note() -> None:
    scores = {"1/3": {"auc": 0.5}, "2/3": {"auc": 0.7}, "3/3": {"auc": 0.9}}
    images = {"1/3": (20, 10), "2/3": (20, 10), "3/3": (20, 10)}
    table = fold_table(scores, images, note="chosen here")
    assert table["fold"].tolist() == ["1/3", "2/3", "3/3", "mean", "sd", "low", "high"]
    reach = 4.302653 * math.sqrt(0.04 * (1 / 3 + 1 / 2))
    assert table["auc"].tolist() == pytest.approx([0.5, 0.7, 0.9, 0.7, 0.2, 0.7 - reach, 0.7 + reach], abs=1e-5)
    assert set(table["note"]) == {"chosen here"} and table["val_images"].tolist()[:3] == [10, 10, 10]
