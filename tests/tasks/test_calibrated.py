"""Calibrated cross-entropy: by hand, against a slow reference, and what it must not depend on."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import optimize, special

from tests.support.toy_training import run, toy_config, toy_data
from tune_btxrd.tasks.calibrated import FOLDS, class_loss, fit, fold_numbers, label_loss
from tune_btxrd.tasks.multiclass import MULTICLASS, cross_entropy
from tune_btxrd.tasks.multilabel import MULTILABEL, UNKNOWN
from tune_btxrd.training.slot import Slot


def drawn(count: int = 424, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits of a model that knows something, targets as rare as BTXRD's, folds."""
    rng = np.random.default_rng(seed)
    targets = rng.choice(3, count, p=[0.55, 0.38, 0.07])
    logits = rng.normal(size=(count, 3)) + 1.5 * np.eye(3)[targets]
    return logits, targets, fold_numbers(np.eye(3)[targets])


def test_by_hand():
    targets, folds = np.array([0, 1, 0, 0]), np.array([0, 0, 1, 1])
    # logits that tell nothing: fold 1 holds class 0 twice, smoothed (2 + 1) / (2 + 2); fold 0 holds one of each: 1/2
    by_hand = -(math.log(3 / 4) + math.log(1 / 4) + 2 * math.log(1 / 2)) / 4
    assert class_loss(np.zeros((4, 2)), targets, folds) == pytest.approx(by_hand, abs=1e-9)
    # logits that tell everything: smoothed targets are 2/3 and 1/3 in either fold, so each image costs log(3/2)
    logits = np.array([[9.0, 0.0], [0.0, 9.0], [9.0, 0.0], [0.0, 9.0]])
    assert class_loss(logits, np.array([0, 1, 0, 1]), folds) == pytest.approx(math.log(3 / 2), abs=1e-9)
    answers = np.array([[1], [0], [1], [0]])
    assert label_loss(logits[:, :1] - 4.5, answers, folds) == pytest.approx(math.log(3 / 2), abs=1e-9)


def test_as_a_slow_reference():
    logits, targets, folds = drawn(90)
    total = 0.0
    for fold in np.unique(folds):
        seen, own = folds != fold, folds == fold
        counts = np.bincount(targets[seen], minlength=3)
        wanted = np.array([(counts[t] * np.eye(3)[t] + 1) / (counts[t] + 3) for t in targets[seen]])

        def objective(theta: np.ndarray, rows: np.ndarray = logits[seen], wanted: np.ndarray = wanted) -> float:
            return -float((wanted * special.log_softmax(theta[0] * rows + theta[1:], axis=1)).sum())

        theta = optimize.minimize(objective, np.zeros(4), method="Nelder-Mead", options={"maxiter": 4000, "xatol": 1e-7}).x
        told = special.log_softmax(theta[0] * logits[own] + theta[1:], axis=1)
        total -= told[np.arange(own.sum()), targets[own]].sum()
    assert class_loss(logits, targets, folds) == pytest.approx(total / 90, abs=1e-5)


@pytest.mark.parametrize("scale", [1e-3, 0.3, 30.0])
def test_temperature_and_bias_of_the_logits_change_nothing(scale: float):
    logits, targets, folds = drawn()
    changed = logits * scale + np.array([3.0, 0.0, -5.0])
    assert class_loss(changed, targets, folds) == pytest.approx(class_loss(logits, targets, folds), abs=1e-8)
    assert cross_entropy(changed, targets) > cross_entropy(logits, targets) + 0.1
    answers = np.eye(3)[targets].astype(int)
    assert label_loss(changed, answers, folds) == pytest.approx(label_loss(logits, answers, folds), abs=1e-8)


def test_equals_plain_cross_entropy_of_calibrated_logits():
    rng = np.random.default_rng(1)
    logits = 2 * rng.normal(size=(20_000, 3))
    chances = special.softmax(logits, axis=1)
    targets = (chances.cumsum(axis=1) > rng.random((20_000, 1))).argmax(axis=1)
    folds = fold_numbers(np.eye(3)[targets])
    assert class_loss(logits, targets, folds) == pytest.approx(cross_entropy(logits, targets), abs=5e-4)


def test_logits_that_rank_the_wrong_way_are_worth_nothing():
    logits, targets, folds = drawn(2000)
    shares = np.bincount(targets) / 2000
    assert class_loss(-logits, targets, folds) == pytest.approx(special.entr(shares).sum(), abs=5e-3)
    slope, bias = fit(-logits.T[None], targets[None], np.ones((1, 2000)))
    assert slope == 0 and special.softmax(bias[0]) == pytest.approx(shares, abs=2e-3)


def test_unknown_cells_add_nothing():
    logits, targets, folds = drawn(60)
    answers = np.eye(3)[targets].astype(int)
    answers[::4, 1] = UNKNOWN
    moved = np.where(answers == UNKNOWN, 99.0, logits)
    assert label_loss(moved, answers, folds) == label_loss(logits, answers, folds)
    alone = [label_loss(logits[k][:, [i]], answers[k][:, [i]], folds[k]) for i in range(3) for k in [answers[:, i] >= 0]]
    counts = (answers >= 0).sum(axis=0)
    assert label_loss(logits, answers, folds) == pytest.approx(np.average(alone, weights=counts), abs=1e-9)
    assert math.isnan(label_loss(logits, np.full((60, 3), UNKNOWN), folds))


def test_groups_stay_whole_and_rare_classes_are_spread():
    targets = np.repeat([0, 1, 2], [120, 70, 10])
    folds = fold_numbers(np.eye(3)[targets], groups_N=np.arange(200) // 2)
    assert (folds[::2] == folds[1::2]).all()
    assert np.bincount(folds[targets == 2], minlength=FOLDS).tolist() == [2] * FOLDS
    assert (fold_numbers(np.eye(3)[targets], groups_N=np.arange(200) // 2) == folds).all()


def test_the_fewest_images():
    logits = np.array([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    one_group = np.array([0, 1, 1]), fold_numbers(np.eye(2)[[0, 1, 1]], groups_N=np.zeros(3))
    assert class_loss(logits, *one_group) == pytest.approx(cross_entropy(logits, one_group[0]))
    targets = np.array([0, 1, 1])
    assert np.isfinite(class_loss(logits, targets, fold_numbers(np.eye(2)[targets])))
    assert np.isfinite(class_loss(logits, np.zeros(3, dtype=int), np.arange(3)))  # one class alone
    assert math.isnan(class_loss(np.full((3, 2), np.inf), targets, np.arange(3)))


def test_a_training_is_judged_by_it():
    config = toy_config(epochs=6, lr=2e-2, patience=6, monitor="calibrated_loss")
    rows = run(Slot(device="cpu").start(config, toy_data(), keep_best=False))
    assert all(row["improved"] == (row["val_calibrated_loss"] == row["objective"]) for row in rows)
    assert rows[-1]["objective"] == min(row["val_calibrated_loss"] for row in rows)
    assert rows[0]["val_calibrated_loss"] != rows[0]["val_loss"]


def test_both_tasks_report_it():
    logits, targets, folds = drawn(60)
    assert MULTICLASS.scores(logits, targets)["val_calibrated_loss"] == class_loss(logits, targets, folds)
    answers = np.eye(3)[targets].astype(int)
    own = MULTILABEL.scores(logits, answers, folds_N=folds)["val_calibrated_loss"]
    assert own == label_loss(logits, answers, folds)


def test_a_part_of_the_validation_rows_keeps_its_own_groups():
    """The measuring of a layout trains on a few rows of the data of a split."""
    data = toy_data()
    grouped = dataclasses.replace(data, groups=np.arange(len(data.targets)) // 2)
    few = dataclasses.replace(grouped, val_rows=np.sort(data.val_rows)[:9])
    assert len(few.val_folds) == 9
    pairs = [few.val_rows // 2 == number for number in range(len(data.targets) // 2)]
    assert all(len(set(few.val_folds[pair])) <= 1 for pair in pairs) and any(pair.sum() == 2 for pair in pairs)
