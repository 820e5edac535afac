import numpy as np
import pytest
from sklearn import metrics as sk

from tune_btxrd.scoring.metrics import (
    Metric,
    auc,
    average_precision,
    calibration_error,
    metrics_of,
    ones,
    scores,
)

PERFECT = np.eye(3)
RNG = np.random.default_rng(7)
TARGETS = RNG.integers(0, 3, 200)
PROBABILITIES = RNG.dirichlet([1, 1, 1], 200) * 0.6 + 0.4 * np.eye(3)[TARGETS] * RNG.random((200, 1))
PROBABILITIES = np.round(PROBABILITIES / PROBABILITIES.sum(axis=1, keepdims=True), 2)  # rounded: with ties
WEIGHTS = RNG.integers(0, 4, (5, 200)).astype(float)


def test_four_images_by_hand():
    """Targets 0 0 1 2; predictions 0 1 1 1."""
    probabilities = np.array([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.2, 0.5, 0.3], [0.1, 0.5, 0.4]])
    found = scores(probabilities, np.array([0, 0, 1, 2]), ones(4))
    expected = {
        Metric("accuracy"): 0.5,
        Metric("balanced_accuracy"): (0.5 + 1 + 0) / 3,
        Metric("macro_f1"): (2 / 3 + 0.5 + 0) / 3,
        Metric("sensitivity", 0): 0.5,
        Metric("specificity", 0): 1.0,
        Metric("ppv", 0): 1.0,
        Metric("npv", 0): 2 / 3,
        Metric("specificity", 1): 1 / 3,
        Metric("ppv", 1): 1 / 3,
        Metric("auc", 0): 1.0,
        Metric("auc", 1): (1 + 0.5 + 0) / 3,  # above 0.2, level with 0.5, below 0.6
        Metric("auc", 2): 1.0,
        Metric("average_precision", 1): 1 / 3,
        Metric("brier"): (0.14 + 0.86 + 0.38 + 0.62) / 4,
    }
    assert {metric: pytest.approx(found[metric][0]) for metric in expected} == expected
    assert np.isnan(found[Metric("ppv", 2)][0]), "nothing was called Malignant"


def test_calibration_error_by_hand():
    """Two images in the bin of 0.9 (one right), one in that of 0.5 (right): (|1 - 1.8| + |1 - 0.5|) / 3."""
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.5, 0.5]])
    assert calibration_error(probabilities, np.array([0, 1, 0]), ones(3))[0] == pytest.approx((0.8 + 0.5) / 3)


@pytest.mark.parametrize("row", range(5))
def test_weighted_scores_equal_scikit_learn(row):
    weights, predicted, onehot = WEIGHTS[row], PROBABILITIES.argmax(axis=1), np.eye(3)[TARGETS]
    found = {metric: values[row] for metric, values in scores(PROBABILITIES, TARGETS, WEIGHTS).items()}
    expected = {
        Metric("accuracy"): sk.accuracy_score(TARGETS, predicted, sample_weight=weights),
        Metric("balanced_accuracy"): sk.balanced_accuracy_score(TARGETS, predicted, sample_weight=weights),
        Metric("macro_f1"): sk.f1_score(TARGETS, predicted, average="macro", sample_weight=weights),
        Metric("macro_auc"): sk.roc_auc_score(onehot, PROBABILITIES, average="macro", sample_weight=weights),
        Metric("brier"): np.average(((PROBABILITIES - onehot) ** 2).sum(axis=1), weights=weights),
    }
    for index in range(3):
        positive, score, called = index == TARGETS, PROBABILITIES[:, index], predicted == index
        given = {"sample_weight": weights}
        expected[Metric("sensitivity", index)] = sk.recall_score(positive, called, **given)
        expected[Metric("specificity", index)] = sk.recall_score(~positive, ~called, **given)
        expected[Metric("ppv", index)] = sk.precision_score(positive, called, **given)
        expected[Metric("npv", index)] = sk.precision_score(~positive, ~called, **given)
        expected[Metric("f1", index)] = sk.f1_score(positive, called, **given)
        expected[Metric("auc", index)] = sk.roc_auc_score(positive, score, **given)
        expected[Metric("average_precision", index)] = sk.average_precision_score(positive, score, **given)
    assert set(expected) | {Metric("calibration_error")} == set(metrics_of(3)) == set(found)
    for metric, value in expected.items():
        assert found[metric] == pytest.approx(value, abs=1e-12), metric


def test_a_weight_of_two_is_the_image_twice():
    twice = np.repeat(np.arange(200), WEIGHTS[0].astype(int))
    weighted = scores(PROBABILITIES, TARGETS, WEIGHTS[:1])
    repeated = scores(PROBABILITIES[twice], TARGETS[twice], ones(len(twice)))
    for metric, values in weighted.items():
        assert values[0] == pytest.approx(repeated[metric][0], abs=1e-12), metric


def test_perfect_and_useless_scores():
    perfect = scores(np.eye(3)[TARGETS], TARGETS, ones(200))
    assert all(
        values[0] == (0 if metric.name in ("brier", "calibration_error") else 1) for metric, values in perfect.items()
    )
    constant, positive = np.full(200, 0.5), TARGETS == 2
    assert auc(constant, positive, ones(200))[0] == 0.5
    assert average_precision(constant, positive, ones(200))[0] == pytest.approx(positive.mean())


def test_a_class_that_a_draw_lacks_is_undefined_not_zero():
    without = np.where(TARGETS == 2, 0.0, 1.0)[None]
    found = scores(PROBABILITIES, TARGETS, np.concatenate([ones(200), without]))
    assert np.isnan(found[Metric("auc", 2)][1]) and np.isnan(found[Metric("macro_auc")][1])
    assert not np.isnan(found[Metric("macro_auc")][0]) and not np.isnan(found[Metric("auc", 0)][1])
