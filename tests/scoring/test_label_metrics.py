"""Metrics of independent labels against scikit-learn and by hand; what is unknown changes none of them."""

import numpy as np
import pytest
from sklearn import metrics as sk

from tune_btxrd.scoring.answers import Answers
from tune_btxrd.scoring.label_metrics import OVERALL, PER_LABEL, label_scores, label_table, yes_no_log_loss
from tune_btxrd.scoring.metrics import Metric, class_rates, confusions, ones, scores
from tune_btxrd.scoring.score_tables import proportions
from tune_btxrd.tasks.multiclass import MULTICLASS
from tune_btxrd.tasks.multilabel import MULTILABEL, UNKNOWN

RNG = np.random.default_rng(3)
N, L = 300, 4
TARGETS = (RNG.random((N, L)) < (0.5, 0.3, 0.1, 0.7)).astype(np.int64)
CHANCES = np.round(np.clip(0.35 * TARGETS + 0.65 * RNG.random((N, L)), 0.001, 0.999), 2)  # rounded: with ties
TARGETS[RNG.random((N, L)) < 0.3] = UNKNOWN
DECIDED = (CHANCES >= (0.5, 0.4, 0.3, 0.6)).astype(np.int64)


def scored(targets: np.ndarray, *, chances: np.ndarray = CHANCES, decided: np.ndarray = DECIDED) -> dict[Metric, float]:
    answers = Answers.of(targets, decided, targets.shape[1], task=MULTILABEL)
    return {metric: float(values[0]) for metric, values in label_scores(chances, answers, ones(len(targets))).items()}


def test_every_metric_of_a_label_is_scikit_learn_s_over_the_known_images():
    found = scored(TARGETS)
    for index in range(L):
        known = TARGETS[:, index] != UNKNOWN
        true, said, chance = TARGETS[known, index], DECIDED[known, index], CHANCES[known, index]
        expected = {
            "sensitivity": sk.recall_score(true, said),
            "specificity": sk.recall_score(1 - true, 1 - said),
            "ppv": sk.precision_score(true, said),
            "npv": sk.precision_score(1 - true, 1 - said),
            "f1": sk.f1_score(true, said),
            "auc": sk.roc_auc_score(true, chance),
            "average_precision": sk.average_precision_score(true, chance),
            "brier": sk.brier_score_loss(true, chance),
        }
        for name, value in expected.items():
            assert found[Metric(name, index)] == pytest.approx(value, abs=1e-12), (name, index)
        assert yes_no_log_loss(chance, true == 1) == pytest.approx(sk.log_loss(true, chance), abs=1e-12)


def test_means_are_over_labels_and_exact_match_over_whole_images():
    found = scored(TARGETS)
    for name in OVERALL[1:]:
        parts = [found[Metric(name.removeprefix("macro_"), index)] for index in range(L)]
        assert found[Metric(name)] == pytest.approx(np.mean(parts))
    whole = (TARGETS != UNKNOWN).all(axis=1)
    assert found[Metric("exact_match")] == sk.accuracy_score(TARGETS[whole], DECIDED[whole])
    assert [metric.name for metric in found][: len(OVERALL)] == list(OVERALL)
    assert {metric.name for metric in found if metric.class_index == 0} == set(PER_LABEL)


def test_what_a_model_says_of_an_unknown_changes_nothing():
    chances, decided = CHANCES.copy(), DECIDED.copy()
    unknown = TARGETS == UNKNOWN
    chances[unknown], decided[unknown] = 1 - chances[unknown], 1 - decided[unknown]
    assert scored(TARGETS, chances=chances, decided=decided) == scored(TARGETS)
    more = np.concatenate([TARGETS, np.full((50, L), UNKNOWN)])
    extra = {"chances": np.concatenate([CHANCES, CHANCES[:50]]), "decided": np.concatenate([DECIDED, DECIDED[:50]])}
    assert scored(more, **extra) == pytest.approx(scored(TARGETS))


def test_a_calibration_error_by_hand():
    """Of 3 known images in one bin (0.60, 0.62, 0.64), one is a yes: |1/3 - 0.62|."""
    targets = np.array([[1], [0], [0], [UNKNOWN]])
    found = scored(targets, chances=np.array([[0.60], [0.62], [0.64], [0.61]]), decided=np.ones((4, 1), dtype=np.int64))
    assert found[Metric("calibration_error", 0)] == pytest.approx(0.62 - 1 / 3)


def test_a_one_sided_label_is_left_out_of_every_mean():
    targets = TARGETS.copy()
    targets[targets[:, 2] == 1, 2] = UNKNOWN
    found, rest = scored(targets), [0, 1, 3]
    for name in ("sensitivity", "f1", "auc", "average_precision"):
        assert np.isnan(found[Metric(name, 2)]), name
    assert found[Metric("specificity", 2)] == scored(TARGETS)[Metric("specificity", 2)]
    for name in OVERALL[1:]:
        parts = [found[Metric(name.removeprefix("macro_"), index)] for index in rest]
        assert found[Metric(name)] == pytest.approx(np.mean(parts)), name
    answers = Answers.of(targets, DECIDED, L, task=MULTILABEL)
    table = label_table(answers, ("a", "b", "c", "d"))
    assert table["in_means"].tolist() == [True, True, False, True] and table["yes"][2] == 0
    assert (table[["yes", "no", "unknown"]].sum(axis=1) == N).all()
    nothing = np.full((5, 2), UNKNOWN)
    assert np.isnan(list(scored(nothing, chances=np.full((5, 2), 0.4), decided=np.zeros((5, 2))).values())).all()


def test_a_weight_is_a_repetition_and_a_draw_without_a_label_has_no_mean():
    answers = Answers.of(TARGETS, DECIDED, L, task=MULTILABEL)
    weights = RNG.integers(0, 3, (1, N)).astype(float)
    twice = np.repeat(np.arange(N), weights[0].astype(int))
    repeated = scored(TARGETS[twice], chances=CHANCES[twice], decided=DECIDED[twice])
    for metric, values in label_scores(CHANCES, answers, weights).items():
        assert values[0] == pytest.approx(repeated[metric]), metric
    without = np.where(TARGETS[:, 2] == 1, 0.0, 1.0)[None]
    found = label_scores(CHANCES, answers, without)
    assert np.isnan(found[Metric("macro_auc")][0]) and not np.isnan(found[Metric("exact_match")][0])


def test_counts_behind_a_share_are_those_of_the_known():
    answers = Answers.of(TARGETS, DECIDED, L, task=MULTILABEL)
    found, values = proportions(answers, task=MULTILABEL), scored(TARGETS)
    assert len(found) == 1 + 4 * L
    for metric, count in found.items():
        assert count.value == pytest.approx(values[metric]), metric
    assert found[Metric("sensitivity", 1)].asked == (TARGETS[:, 1] == 1).sum()


def test_two_exclusive_classes_are_one_label():
    """Rates, AUC and precision of class 1 are those of a label with the same probability."""
    targets = RNG.integers(0, 2, 120)
    chance = np.round(np.clip(0.3 * targets + 0.7 * RNG.random(120), 0, 1), 2)
    chance[chance == 0.5] = 0.51
    pair = np.stack([1 - chance, chance], axis=1)
    as_class = scores(pair, targets, ones(120))
    as_label = scored(targets[:, None], chances=chance[:, None], decided=MULTILABEL.decide(chance[:, None]))
    for name in ("sensitivity", "specificity", "ppv", "npv", "f1", "auc", "average_precision"):
        assert as_label[Metric(name, 0)] == pytest.approx(float(as_class[Metric(name, 1)][0])), name
    assert as_class[Metric("brier")][0] == pytest.approx(2 * as_label[Metric("brier", 0)])
    predicted = MULTICLASS.decide(pair)
    rates = class_rates(confusions(targets, predicted, 2, ones(120)))
    counts = proportions(Answers.of(targets, predicted, 2, task=MULTICLASS), task=MULTICLASS)
    assert counts[Metric("accuracy")].value == np.mean(predicted == targets)
    assert counts[Metric("npv", 0)].value == pytest.approx(rates["npv"][0, 0])
