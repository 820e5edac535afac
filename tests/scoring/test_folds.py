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


def test_what_no_score_can_be_is_cut_off() -> None:
    """Three folds, t with 2 degrees of freedom: plainly 0.55 to 1.25 (and 1.35 to 2.05 of a Brier score, below 2)."""
    assert corrected_interval([0.8, 0.9, 1.0], ratio=0.5).high == 1.0
    assert corrected_interval([0.0, 0.1, 0.2], ratio=0.5).low == 0.0
    assert corrected_interval([1.6, 1.7, 1.8], ratio=0.5, highest=2.0).high == 2.0
    images = {f"{i}/3": (20, 10) for i in (1, 2, 3)}
    scores = {
        fold: {"brier": value, "auc Malignant": value - 0.8} for fold, value in zip(images, (1.6, 1.7, 1.8), strict=True)
    }
    table = fold_table(scores, images, note="", highest={"brier": 2.0}).set_index("fold")
    assert table.at["high", "brier"] == 2.0 and table.at["high", "auc Malignant"] == 1.0


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.6], [0.7, 0.7, 0.7], [0.5, math.nan, 0.6]])
def test_nothing_is_said_of_two_folds_of_equal_ones_or_of_a_score_that_is_missing(values: list[float]) -> None:
    assert math.isnan(corrected_interval(values, ratio=0.5).low)


def test_the_table_has_folds_summary_and_note() -> None:
    scores = {"1/3": {"auc": 0.5}, "2/3": {"auc": 0.7}, "3/3": {"auc": 0.9}}
    images = {"1/3": (20, 10), "2/3": (20, 10), "3/3": (20, 10)}
    table = fold_table(scores, images, note="chosen here", highest={})
    assert table["fold"].tolist() == ["1/3", "2/3", "3/3", "mean", "sd", "low", "high"]
    reach = 4.302653 * math.sqrt(0.04 * (1 / 3 + 1 / 2))
    assert table["auc"].tolist() == pytest.approx([0.5, 0.7, 0.9, 0.7, 0.2, max(0.7 - reach, 0), 1.0], abs=1e-5)
    assert set(table["note"]) == {"chosen here"} and table["val_images"].tolist()[:3] == [10, 10, 10]
