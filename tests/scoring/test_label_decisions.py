"""Calibration and thresholds of independent labels: each by its own known answers, or not at all."""

import json

import numpy as np
import pytest
from scipy import special

from tune_btxrd.scoring.calibration import fit_calibration
from tune_btxrd.scoring.decisions import EVEN, LABEL_RULE, RULE, UNFITTED_RULE, Decisions, decide, fit_decisions, rule_of
from tune_btxrd.scoring.operating_points import YOUDEN, choose_operating_points
from tune_btxrd.tasks.multiclass import MULTICLASS
from tune_btxrd.tasks.multilabel import MULTILABEL, UNKNOWN

RNG = np.random.default_rng(5)
NAMES = ("a", "b", "c")
TRUE_LOGITS = RNG.normal(size=(4000, 2)) * 2
TARGETS = (special.expit(TRUE_LOGITS) > RNG.random((4000, 2))).astype(np.int64)
TOLD = TRUE_LOGITS * (3.0, 0.5) + (1.5, -1.0)  # what a model that is too sure and shifted would say


def test_each_label_gets_its_own_temperature_and_bias():
    """True logit = told / t + b: t = 3, b = -0.5; t = 0.5, b = 2."""
    found = fit_calibration(TOLD, TARGETS, task=MULTILABEL)
    assert found.temperatures == pytest.approx((3.0, 0.5), rel=0.12) and found.bias == pytest.approx((-0.5, 2.0), abs=0.15)
    before = MULTILABEL.log_loss(TOLD, TARGETS)[0]
    after = MULTILABEL.log_loss(special.logit(found.probabilities(TOLD)), TARGETS)[0]
    assert after < before - 100


def test_unknown_answers_and_other_labels_move_nothing():
    targets = TARGETS[:200].copy()
    targets[::3, 0] = UNKNOWN
    known = targets[:, 0] != UNKNOWN
    both = fit_calibration(TOLD[:200], targets, task=MULTILABEL)
    alone = fit_calibration(TOLD[:200][known][:, :1], targets[known][:, :1], task=MULTILABEL)
    assert (both.temperatures[0], both.bias[0]) == (alone.temperatures[0], alone.bias[0])
    changed = np.where(targets == UNKNOWN, 100.0, TOLD[:200])
    assert fit_calibration(changed, targets, task=MULTILABEL) == both


def test_thresholds_are_chosen_per_label_on_what_is_known():
    targets = TARGETS[:300].copy()
    targets[::4] = UNKNOWN
    found = fit_decisions(TOLD[:300], targets, positive_class=1, task=MULTILABEL)
    chances = found.calibration.probabilities(TOLD[:300])
    for index in (0, 1):
        known = targets[:, index] != UNKNOWN
        assert found.points_of(index) == choose_operating_points(chances[known, index], targets[known, index] == 1)
        assert found.labels[index].images == known.sum()
    assert found.operating_points == found.points_of(1) and found.asked == (0, 1)
    called = np.stack([found.calls(TOLD[:300], index=index)[YOUDEN] for index in (0, 1)], axis=1)
    assert (found.decide(TOLD[:300]) == called).all() and found.rule == LABEL_RULE
    assert list(found.named_calls(TOLD[:3], NAMES))[3] == "b at Youden"


def test_a_label_without_a_known_no_is_not_fitted_and_that_is_said():
    targets = np.concatenate([TARGETS[:150], np.ones((150, 1), dtype=np.int64)], axis=1)
    targets[:140, 2], targets[:80, 1] = UNKNOWN, UNKNOWN
    logits = np.concatenate([TOLD[:150], RNG.normal(size=(150, 1))], axis=1)
    found = fit_decisions(logits, targets, positive_class=2, task=MULTILABEL)
    assert (found.calibration.temperatures[2], found.calibration.bias[2]) == (1.0, 0.0)
    assert found.operating_points == () and found.labels[2].threshold == EVEN
    assert (found.decide(logits)[:, 2] == (logits[:, 2] >= 0)).all()
    notes = list(found.notes(NAMES))
    assert notes[0] == "Not calibrated and decided at 0.5, since validation knows no yes or no no of them: c."
    assert "fewer than 100 validation images" in notes[1] and notes[1].endswith("a guess: b (70).")
    again = Decisions.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again == found


def test_one_rule_is_named_for_each_way_to_decide():
    logits = np.array([[0.2, -0.1], [-3.0, 2.0]])
    assert decide(logits, task=MULTILABEL, decisions=None).tolist() == [[1, 0], [0, 1]]
    assert decide(logits, task=MULTICLASS, decisions=None).tolist() == [0, 1]
    assert (rule_of(MULTILABEL, None), rule_of(MULTICLASS, None)) == (UNFITTED_RULE, RULE)
    fitted = fit_decisions(TRUE_LOGITS[:200], TARGETS[:200, 0], positive_class=1)
    assert rule_of(MULTICLASS, fitted) == RULE and "labels" not in fitted.to_dict()
