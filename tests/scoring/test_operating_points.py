import numpy as np
import pytest

from tune_btxrd.scoring.decisions import Decisions, fit_decisions
from tune_btxrd.scoring.operating_points import SENSITIVE, SPECIFIC, YOUDEN, choose_operating_points

SCORES = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
POSITIVE = np.array([0, 0, 0, 1, 0, 1, 1, 1], dtype=bool)


def test_points_by_hand():
    """Above 0.55: 3 of 4 positives, no negative (sum 1.75). Above 0.35: all positives, one negative (1.75, and more
    sensitive). Specificity 0.95 asks for no negative at all: above 0.55."""
    points = {point.name: point for point in choose_operating_points(SCORES, POSITIVE)}
    assert points[YOUDEN].threshold == pytest.approx(0.35)
    assert (points[YOUDEN].val_sensitivity, points[YOUDEN].val_specificity) == (1.0, 0.75)
    assert points[SENSITIVE].threshold == pytest.approx(0.35)
    assert points[SPECIFIC].threshold == pytest.approx(0.55)
    assert (points[SPECIFIC].val_sensitivity, points[SPECIFIC].val_specificity) == (0.75, 1.0)


def test_useless_scores_call_all_or_nothing():
    points = {point.name: point for point in choose_operating_points(np.full(8, 0.5), POSITIVE)}
    assert points[SENSITIVE].threshold == 0 and points[SENSITIVE].val_specificity == 0
    assert points[SPECIFIC].threshold > 0.5 and points[SPECIFIC].val_sensitivity == 0


def test_rules_hold_on_random_scores():
    rng = np.random.default_rng(3)
    for _ in range(50):
        positive = rng.random(90) < 0.2
        positive[:2] = True, False
        score = rng.random(90).round(1) * 0.5 + 0.4 * positive * rng.random(90)
        points = {point.name: point for point in choose_operating_points(score, positive)}
        assert points[SENSITIVE].val_sensitivity >= 0.90 and points[SPECIFIC].val_specificity >= 0.95
        for point in points.values():
            called = score >= point.threshold
            assert called[positive].mean() == pytest.approx(point.val_sensitivity)
            assert (~called[~positive]).mean() == pytest.approx(point.val_specificity)


def test_decisions_survive_json_and_apply_the_calibrated_threshold():
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 3, 60)
    logits = rng.normal(size=(60, 3)) + 2 * np.eye(3)[targets]
    decisions = fit_decisions(logits, targets, positive_class=2)
    assert Decisions.from_dict(decisions.to_dict()) == decisions and decisions.images == 60
    called = decisions.calls(logits)[SENSITIVE]
    point = {p.name: p for p in decisions.operating_points}[SENSITIVE]
    assert called[targets == 2].mean() == pytest.approx(point.val_sensitivity) and point.val_sensitivity >= 0.9
