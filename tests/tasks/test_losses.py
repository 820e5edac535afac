"""Losses by hand, their special cases, their gradients; class weights, deferral, and balanced sampling."""

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.support.toy_training import run, toy_config, toy_data
from tune_btxrd.config import CLASS_LOSSES as WORDS
from tune_btxrd.config import FIELDS, TrainConfig
from tune_btxrd.config import REWEIGHTING as SCHEMES
from tune_btxrd.tasks.losses import LOSSES, Loss, Options, Terms, epoch_order, terms_of_epoch
from tune_btxrd.tasks.weights import REWEIGHTING, epoch_weights
from tune_btxrd.training.slot import Slot

COUNTS = np.array([16, 8, 1])
LOGITS = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 3.0]], dtype=torch.float64)
TARGETS = torch.tensor([0, 1])


def loss(name: str, logits: torch.Tensor = LOGITS, *, weights: tuple[float, ...] = (1, 1, 1), **changes: object) -> float:
    config = toy_config(loss=name, **changes)
    given = torch.tensor(weights, dtype=logits.dtype)
    counts = torch.tensor(COUNTS, dtype=logits.dtype)
    return LOSSES[name](logits, TARGETS, terms_of(LOSSES[name], config, given, counts))


def terms_of(loss: Loss, config: TrainConfig, weights: torch.Tensor, counts: torch.Tensor) -> Terms:
    return Terms(loss=loss, options=Options(config, loss.reads), weights_C=weights, counts_C=counts)


def log_p(row: list[float], target: int) -> float:
    return row[target] - math.log(sum(map(math.exp, row)))


def test_words_and_functions_are_the_same():
    assert tuple(LOSSES) == WORDS and ("none", *REWEIGHTING) == SCHEMES
    assert all(name in FIELDS for item in LOSSES.values() for name in item.reads)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_reads_exactly_what_it_declares(name: str):
    asked: set[str] = set()

    class Watched(Options):
        def __getattr__(self, field: str):
            asked.add(field)
            return super().__getattr__(field)

    item = LOSSES[name]
    options = Watched(toy_config(loss=name), item.reads)
    asked.clear()
    terms = Terms(loss=item, options=options, weights_C=torch.ones(3).double(), counts_C=torch.tensor(COUNTS).double())
    item(LOGITS, TARGETS, terms)
    assert asked == set(item.reads)


def test_a_loss_that_reads_an_undeclared_field_fails():
    greedy = Loss(lambda logits, targets, terms: logits.sum() * terms.options.focal_gamma, reads=("logit_tau",))
    with pytest.raises(NameError, match=r"'focal_gamma' is not among its fields \(logit_tau\)"):
        greedy(LOGITS, TARGETS, terms_of(greedy, toy_config(), torch.ones(3), torch.ones(3)))


def test_a_loss_cannot_read_past_what_is_baked_in():
    """A default for a field that is not declared, and a term that is no tensor: both would go into a captured step."""
    modest = Loss(lambda logits, targets, terms: logits.sum() * getattr(terms.options, "focal_gamma", 2.0))
    terms = terms_of(modest, toy_config(), torch.ones(3), torch.ones(3))
    with pytest.raises(NameError, match="'focal_gamma' is not among"):
        modest(LOGITS, TARGETS, terms)

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Scheduled(Terms):
        temperature: float

    assert set(terms.tensors()) == {"weights_C", "counts_C"}
    with pytest.raises(AssertionError, match="baked in"):
        Scheduled(**vars(terms), temperature=2.0).tensors()


def test_cross_entropy_by_hand():
    first, second = -log_p([2, 1, 0], 0), -log_p([0, 1, 3], 1)
    assert loss("ce").item() == pytest.approx(first + second)
    assert loss("weighted_ce", weights=(0.5, 3, 1)).item() == pytest.approx(0.5 * first + 3 * second)


def test_weighted_ce_is_torch_s_weighted_mean():
    weights = torch.tensor([0.5, 3.0, 1.0], dtype=torch.float64)
    expected = F.cross_entropy(LOGITS, TARGETS, weight=weights)
    assert (loss("weighted_ce", weights=(0.5, 3, 1)) / weights[TARGETS].sum()).item() == pytest.approx(expected.item())


def test_label_smoothing_by_hand():
    logs = [[log_p(row, c) for c in range(3)] for row in ([2, 1, 0], [0, 1, 3])]
    expected = sum(-(0.7 * row[target] + 0.1 * sum(row)) for row, target in zip(logs, (0, 1), strict=True))
    assert loss("ce", label_smoothing=0.3).item() == pytest.approx(expected)
    assert loss("ce", label_smoothing=0).item() == loss("ce").item()


def test_focal_by_hand():
    logs = [log_p([2, 1, 0], 0), log_p([0, 1, 3], 1)]
    expected = sum(-((1 - math.exp(value)) ** 2) * value for value in logs)
    assert loss("focal", focal_gamma=2).item() == pytest.approx(expected)
    assert loss("focal", focal_gamma=2, weights=(2, 2, 2)).item() == pytest.approx(2 * expected)


def test_focal_with_gamma_0_is_cross_entropy():
    assert loss("focal", focal_gamma=0, weights=(0.5, 3, 1)).item() == pytest.approx(loss("ce", weights=(0.5, 3, 1)).item())


@pytest.mark.parametrize("gamma", [0, 0.5, 2])
def test_focal_has_a_finite_gradient_where_the_answer_is_certain(gamma: float):
    logits = torch.tensor([[200.0, 0.0, 0.0], [0.0, -200.0, 0.0]], requires_grad=True)
    loss("focal", logits, focal_gamma=gamma).backward()
    assert torch.isfinite(logits.grad).all() and logits.grad[1].abs().max() > 0.4


def test_ldam_by_hand():
    margins = [0.5 / 16**0.25, 0.5 / 8**0.25, 0.5]  # n_c^(-1/4), the rarest class at 0.5
    rows = [[10 * (2 - margins[0]), 10 * 1, 0], [0, 10 * (1 - margins[1]), 10 * 3]]
    expected = -log_p(rows[0], 0) - log_p(rows[1], 1)
    assert loss("ldam", ldam_margin=0.5, ldam_scale=10).item() == pytest.approx(expected)


def test_ldam_with_equal_counts_is_scaled_cross_entropy_with_one_margin():
    terms = terms_of(LOSSES["ldam"], toy_config(), torch.ones(3).double(), torch.full((3,), 7.0).double())
    expected = F.cross_entropy(30 * (LOGITS - 0.5 * F.one_hot(TARGETS, 3)), TARGETS, reduction="sum")
    assert LOSSES["ldam"](LOGITS, TARGETS, terms).item() == pytest.approx(expected.item())
    flat = loss("ldam", ldam_margin=0, ldam_scale=1)
    assert flat.item() == pytest.approx(loss("ce").item())


def test_logit_adjusted_by_hand():
    add = [1.5 * math.log(count / 25) for count in COUNTS]
    rows = [[a + b for a, b in zip(row, add, strict=True)] for row in ([2, 1, 0], [0, 1, 3])]
    assert loss("logit_adjusted", logit_tau=1.5).item() == pytest.approx(-log_p(rows[0], 0) - log_p(rows[1], 1))
    assert loss("logit_adjusted", logit_tau=0).item() == pytest.approx(loss("ce").item())


@pytest.mark.parametrize("name", LOSSES)
def test_gradients(name: str):
    logits = torch.randn(2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    scale = {"ldam_scale": 3} if name == "ldam" else {}
    smooth = {} if name == "focal" else {"label_smoothing": 0.1}
    assert torch.autograd.gradcheck(lambda x: loss(name, x, weights=(0.5, 3, 1), **scale, **smooth), (logits,))


def test_class_weights_by_hand():
    none = toy_config(loss="ce")
    assert epoch_weights(none, COUNTS, 1).tolist() == [1, 1, 1]
    assert epoch_weights(toy_config(), COUNTS, 1) == pytest.approx([25 / 48, 25 / 24, 25 / 3])
    assert epoch_weights(none.replace(reweighting="sqrt"), COUNTS, 1) == pytest.approx([1, math.sqrt(2), 4])
    effective = epoch_weights(none.replace(reweighting="effective"), COUNTS, 1)
    raw = [(1 - 0.9999) / (1 - 0.9999**count) for count in COUNTS]
    assert effective == pytest.approx([value * 3 / sum(raw) for value in raw])


def test_reweighting_is_deferred():
    config = toy_config(loss="ldam", reweighting="sqrt", reweight_from=3)
    weights = [terms_of_epoch(config, COUNTS, epoch, torch.device("cpu")).weights_C.tolist() for epoch in (1, 2, 3, 4)]
    late = pytest.approx([1, math.sqrt(2), 4])
    assert weights[:2] == [[1, 1, 1]] * 2 and weights[2] == late and weights[3] == late


def test_natural_order_holds_each_image_once():
    targets = torch.tensor([0] * 90 + [1] * 9 + [2])
    assert sorted(epoch_order(targets, torch.Generator(), sampling="natural").tolist()) == list(range(100))


def test_balanced_sampling_draws_classes_alike():
    targets = torch.tensor([0] * 9000 + [1] * 900 + [2] * 100)
    generator = torch.Generator().manual_seed(3)
    drawn = epoch_order(targets, generator, sampling="balanced")
    assert len(drawn) == 10_000
    assert (torch.bincount(targets[drawn]) / 10_000).tolist() == pytest.approx([1 / 3] * 3, abs=0.03)
    assert not torch.equal(drawn, epoch_order(targets, generator, sampling="balanced"))


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "weighted_ce"])
def test_a_training_with_each_loss_learns_and_differs(name: str):
    slot, data = Slot(device="cpu"), toy_data()
    config = toy_config(epochs=4, lr=3e-3, loss=name, head="cosine" if name == "ldam" else "linear")
    rows = run(slot.start(config, data, keep_best=False))
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    if name == "ce":
        plain = run(slot.start(config.replace(loss="weighted_ce"), data, keep_best=False))
        assert plain[0]["train_loss"] != rows[0]["train_loss"]


def test_balanced_sampling_reaches_the_training():
    data = dataclasses.replace(toy_data(), positive_class=1)
    slot = Slot(device="cpu")
    natural, balanced = (
        run(slot.start(toy_config(epochs=1, sampling=s), data, keep_best=False)) for s in ("natural", "balanced")
    )
    assert natural[0]["train_loss"] != balanced[0]["train_loss"]
