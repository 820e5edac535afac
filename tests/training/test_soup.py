"""Soups: who is kept, the mean of weights, and BatchNorm statistics as torch's own function computes them."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from tests.support.toy_training import toy_config, toy_data
from tune_btxrd.training.soup import Step, WeightEvaluator, greedy, mean_tensors, update_statistics


def steps(objectives: Sequence[float], table: dict[tuple[int, ...], float]) -> list[Step]:
    return greedy(objectives, lambda members: table[tuple(members)])


def test_greedy_by_hand():
    table = {(2, 0): 0.4, (2, 0, 1): 0.39}  # 0.4: equal, so validation has not fallen
    found = steps([0.5, 0.7, 0.4], table)
    assert [(step.member, step.objective, step.kept) for step in found] == [(2, 0.4, True), (0, 0.4, True), (1, 0.39, True)]


def test_a_member_that_lowers_validation_stays_out_and_the_next_is_tried_without_it():
    found = steps([0.5, 0.7, 0.4], {(2, 0): 0.41, (2, 1): 0.3})
    assert [(step.member, step.kept) for step in found] == [(2, True), (0, False), (1, True)]
    assert not steps([0.4, 0.5], {(0, 1): math.nan})[1].kept


def test_mean_of_weights_by_hand():
    first = {"w": torch.tensor([1.0, 3.0]), "count": torch.tensor(7)}
    second = {"w": torch.tensor([2.0, -3.0]), "count": torch.tensor(9)}
    found = mean_tensors([first, second])
    assert found["w"].tolist() == [1.5, 0.0] and found["w"].dtype == torch.float32 and found["count"] == 7
    found["count"] += 1
    assert first["count"] == 7  # no shared memory


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.BatchNorm2d(2))


def test_statistics_as_torch():
    batches = [torch.randn(8, 1, 9, 9) * 3 + 1 for _ in range(5)]
    ours, torchs = network(), network()
    update_statistics(ours, batches)
    update_bn(batches, torchs)
    for name, tensor in torchs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], tensor)
    assert not ours.training and ours[1].momentum == 0.1 and ours[1].running_mean.abs().sum() > 0


def test_statistics_are_not_those_of_dropped_activations():
    batches = [torch.randn(64, 1, 9, 9) for _ in range(3)]
    with_dropout, without = network(), network()
    with_dropout.insert(2, nn.Dropout(0.9))
    update_statistics(with_dropout, batches)
    update_statistics(without, batches)
    torch.testing.assert_close(with_dropout[5].running_var, without[4].running_var)


def test_without_batch_norm_nothing_is_computed():
    def refuse() -> object:
        raise AssertionError("no batch may be made")
        yield

    update_statistics(nn.Linear(2, 2).train(), refuse())  # type: ignore[arg-type]


def test_an_average_has_the_statistics_of_the_train_part():
    """Equal members: the mean of weights is theirs, and the statistics are those of bare training images, in any order."""
    data = toy_data()
    evaluator = WeightEvaluator(toy_config(dropout=0.5), data, device="cpu")
    own = {name: tensor.clone() for name, tensor in evaluator.model.state_dict().items()}
    found, again = evaluator.averaged([own, own]), evaluator.averaged([own, own, own])
    assert all(torch.equal(found[name], again[name]) for name in found)
    moved = [name for name in own if not torch.equal(own[name], found[name])]
    assert moved and all("running_" in name or "num_batches" in name for name in moved)
    logits = evaluator.logits(found)
    assert logits.shape == (len(data.val_rows), 3) and np.isfinite(logits).all()
    assert not np.allclose(logits, evaluator.logits(own))


def test_the_first_is_kept_as_it_is():
    assert greedy([0.3], lambda members: math.nan) == [Step(member=0, objective=0.3, kept=True)]
