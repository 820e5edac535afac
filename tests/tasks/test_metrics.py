"""Epoch metrics against sklearn and by hand; class weights against the published ones; the loss against torch."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, f1_score, recall_score, roc_auc_score

from tests.support.toy_training import run, toy_config, toy_data
from tune_btxrd.errors import ResultError
from tune_btxrd.tasks import multiclass as metrics
from tune_btxrd.tasks.multiclass import MulticlassMetrics
from tune_btxrd.tasks.weights import class_weights
from tune_btxrd.training.slot import Slot


@pytest.mark.parametrize("seed", range(5))
def test_as_sklearn(seed: int):
    rng = np.random.default_rng(seed)
    targets, predicted = rng.integers(0, 4, 50), rng.integers(0, 3, 50)  # class 3 is never predicted
    counts = metrics.confusion(targets, predicted, 4)
    assert metrics.accuracy(counts) == pytest.approx(accuracy_score(targets, predicted))
    assert metrics.recalls(counts) == pytest.approx(tuple(recall_score(targets, predicted, average=None)))
    assert metrics.macro_f1(counts) == pytest.approx(f1_score(targets, predicted, average="macro", zero_division=0))


def test_by_hand():
    counts = metrics.confusion(np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 0]), 3)
    assert counts.tolist() == [[1, 1, 0], [1, 2, 0], [0, 0, 0]]
    assert metrics.recalls(counts) == (0.5, 2 / 3, 0.0)
    assert metrics.macro_f1(counts) == pytest.approx((0.5 + 2 / 3 + 0) / 3)


def test_cross_entropy_as_torch_and_by_hand():
    logits = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32) * 30
    targets = np.arange(9) % 3
    expected = F.cross_entropy(torch.from_numpy(logits).double(), torch.from_numpy(targets)).item()
    assert metrics.cross_entropy(logits, targets) == pytest.approx(expected, rel=1e-12)
    assert metrics.cross_entropy(np.zeros((2, 4)), np.array([1, 3])) == pytest.approx(np.log(4))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_cross_entropy_is_not_finite_where_a_logit_is_not(bad: float):
    assert not np.isfinite(metrics.cross_entropy(np.array([[0.0, bad], [0.0, 1.0]]), np.array([0, 1])))


def test_record_as_plain_data_and_back():
    state = Slot(device="cpu").start(toy_config(epochs=1), toy_data(), keep_best=False)
    run(state)
    row = state.history[0]
    assert MulticlassMetrics.from_dict(json.loads(json.dumps(row.to_dict()))) == row


@pytest.mark.parametrize(("change", "found"), [({"val_kappa": 0.5}, "also has 'val_kappa'"), ({"lr": None}, "has no 'lr'")])
def test_a_record_of_another_version_is_refused(change: dict[str, object], found: str) -> None:
    values: dict[str, object] = dict.fromkeys(MulticlassMetrics.columns(), 0.5)
    changed = {name: value for name, value in (values | change).items() if value is not None}
    with pytest.raises(ResultError, match=found):
        MulticlassMetrics.from_dict(changed)


@pytest.mark.parametrize(
    ("counts", "published"), [((1315, 1066, 240), (0.664, 0.820, 3.640)), ((1355, 944, 200), (0.615, 0.882, 4.165))]
)
def test_class_weights_are_the_published_ones(counts: tuple[int, ...], published: tuple[float, ...]):
    assert class_weights(np.array(counts)) == pytest.approx(published, abs=6e-4)


@pytest.mark.parametrize("seed", range(3))
def test_macro_auc_as_sklearn(seed: int):
    rng = np.random.default_rng(seed)
    targets = np.r_[0, 1, 2, rng.integers(0, 3, 40)]
    logits = rng.normal(size=(43, 3))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = roc_auc_score(targets, chances, multi_class="ovr", average="macro")
    assert metrics.macro_auc(logits, targets) == pytest.approx(expected)


def test_macro_auc_by_hand():
    logits = np.array([[3.0, 0.0], [1.0, 0.0], [2.0, 0.0], [0.0, 0.0]])
    assert metrics.macro_auc(logits, np.array([0, 0, 1, 1])) == pytest.approx(3 / 4)  # one pair of four is in wrong order
    assert metrics.macro_auc(logits[[0, 1, 1, 3]], np.array([0, 0, 1, 1])) == pytest.approx(3.5 / 4)  # a tie is half
    assert metrics.macro_auc(logits, np.array([0, 0, 0, 0])) == 0.5  # nothing to rank
