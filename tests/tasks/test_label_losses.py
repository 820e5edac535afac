"""Losses of labels by hand and as the multiclass ones of two classes; unknown adds nothing; weights; balanced sampling."""

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.support.labels import toy_labels
from tests.support.toy_training import run, toy_config
from tune_btxrd.errors import ConfigError, DataError
from tune_btxrd.tasks.label_losses import LABEL_LOSSES, label_order
from tune_btxrd.tasks.multiclass import MULTICLASS
from tune_btxrd.tasks.multilabel import MULTILABEL, UNKNOWN
from tune_btxrd.training.capture import StaticStep
from tune_btxrd.training.slot import Slot

CPU = torch.device("cpu")
COUNTS = np.array([[30, 5], [10, 20]])  # no, yes of two labels
LOGITS = torch.tensor([[2.0, -1.0], [0.5, 3.0]], dtype=torch.float64)
TARGETS = torch.tensor([[1, 0], [UNKNOWN, 1]])


def total(name: str, logits: torch.Tensor = LOGITS, targets: torch.Tensor = TARGETS, **changes: object) -> float:
    terms = MULTILABEL.terms(toy_config(loss=name, **changes), COUNTS, 1, CPU)
    return MULTILABEL.loss(logits, targets, terms)[0].item()


def mean(name: str, logits: torch.Tensor = LOGITS, targets: torch.Tensor = TARGETS, **changes: object) -> float:
    terms = MULTILABEL.terms(toy_config(loss=name, **changes), COUNTS, 1, CPU)
    loss, weight = MULTILABEL.loss(logits, targets, terms)
    return (loss / weight).item()


def log_p(logit: float) -> float:
    return -math.log(1 + math.exp(-logit))


def test_binary_cross_entropy_by_hand() -> None:
    cells = [-log_p(2), -log_p(1), -log_p(3)]  # yes at 2, no at -1, yes at 3
    assert total("bce") == pytest.approx(sum(cells))
    assert mean("bce") == pytest.approx(sum(cells) / 3)
    assert total("weighted_bce") == pytest.approx(3 * cells[0] + cells[1] + 0.25 * cells[2])
    known = F.binary_cross_entropy_with_logits(
        LOGITS, TARGETS.double().clamp_min(0), pos_weight=torch.tensor([3.0, 0.25]).double(), reduction="none"
    )[TARGETS != UNKNOWN].sum()
    assert total("weighted_bce") == pytest.approx(known.item())


def test_focal_by_hand() -> None:
    def cell(weight: float, logit: float) -> float:
        p = 1 / (1 + math.exp(-logit))
        return -weight * (1 - p) ** 2 * math.log(p)

    assert total("focal", focal_gamma=2.0, focal_alpha=0.25) == pytest.approx(cell(0.25, 2) + cell(0.75, 1) + cell(0.25, 3))
    assert mean("focal", focal_gamma=0.0) == pytest.approx(mean("bce"))


def test_asymmetric_by_hand() -> None:
    p_yes, p_no, p_third = (1 / (1 + math.exp(-value)) for value in (2.0, -1.0, 3.0))
    shifted = p_no - 0.1
    expected = -(1 - p_yes) * math.log(p_yes) - shifted**4 * math.log(1 - shifted) - (1 - p_third) * math.log(p_third)
    asked = {"asymmetric_gamma_pos": 1.0, "asymmetric_gamma_neg": 4.0, "asymmetric_clip": 0.1}
    assert total("asymmetric", **asked) == pytest.approx(expected)
    easy = torch.tensor([[-4.0, -5.0]], dtype=torch.float64)
    assert total("asymmetric", easy, torch.tensor([[0, 0]]), **asked) == pytest.approx(0, abs=1e-12)  # below the clip
    plain = dict.fromkeys(asked, 0.0)
    assert total("asymmetric", **plain) == pytest.approx(total("bce"))
    focal = {"asymmetric_gamma_pos": 2.0, "asymmetric_gamma_neg": 2.0, "asymmetric_clip": 0.0}
    assert mean("asymmetric", **focal) == pytest.approx(mean("focal", focal_gamma=2.0))


@pytest.mark.parametrize(
    ("name", "twin", "changes"),
    [
        ("bce", "ce", {}),
        ("bce", "ce", {"label_smoothing": 0.2}),
        ("weighted_bce", "weighted_ce", {}),
        ("weighted_bce", "weighted_ce", {"reweighting": "sqrt"}),
        ("bce", "ce", {"reweighting": "effective"}),
        ("focal", "focal", {"focal_gamma": 1.5}),
        ("focal", "focal", {"focal_gamma": 0.5, "reweighting": "sqrt"}),
    ],
)
def test_one_label_is_two_classes(name: str, twin: str, changes: dict[str, object]) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(9, 1, generator=generator)
    targets, counts = torch.arange(9) % 3 % 2, np.array([60, 12])
    ours = MULTILABEL.terms(toy_config(loss=name, **changes), counts[:, None], 1, CPU)
    theirs = MULTICLASS.terms(toy_config(loss=twin, **changes), counts, 1, CPU)
    loss, weight = MULTILABEL.loss(logits, targets[:, None], ours)
    both = torch.cat([torch.zeros_like(logits), logits], dim=1)
    twin_loss, twin_weight = MULTICLASS.loss(both, targets, theirs)
    assert (loss / weight).item() == pytest.approx((twin_loss / twin_weight).item(), rel=1e-5)


@pytest.mark.parametrize("name", LABEL_LOSSES)
def test_what_is_unknown_adds_nothing(name: str) -> None:
    changed = LOGITS.clone()
    changed[1, 0] = -50.0  # the unknown cell
    assert total(name, changed) == total(name)
    more = torch.cat([LOGITS, LOGITS])
    nothing = torch.cat([TARGETS, torch.full_like(TARGETS, UNKNOWN)])
    assert total(name, more, nothing) == total(name) and mean(name, more, nothing) == mean(name)
    logits = LOGITS.clone().requires_grad_()
    terms = MULTILABEL.terms(toy_config(loss=name), COUNTS, 1, CPU)
    MULTILABEL.loss(logits, TARGETS, terms)[0].backward()
    assert logits.grad is not None and logits.grad[1, 0] == 0 and logits.grad[0].abs().min() > 0
    loss, weight = MULTILABEL.loss(LOGITS, torch.full_like(TARGETS, UNKNOWN), terms)
    assert loss == 0 and (loss / weight).isfinite()


def test_weights_leave_out_what_is_unknown_and_labels_that_have_one_answer() -> None:
    targets = np.array([[1, 1, UNKNOWN], [0, 1, UNKNOWN], [0, UNKNOWN, 0], [0, 1, 0], [UNKNOWN, 1, 0]])
    counts = MULTILABEL.train_counts(targets, 3)
    assert counts.tolist() == [[3, 0, 3], [1, 4, 0]]
    assert MULTILABEL.class_weights(counts).tolist() == [3, 1, 1]
    MULTILABEL.require_trainable(counts)
    with pytest.raises(DataError, match="Some label must have a yes and a no"):
        MULTILABEL.require_trainable(counts[:, 1:])


def test_reweighting_is_deferred() -> None:
    config = toy_config(loss="weighted_bce", reweighting="sqrt", reweight_from=3)
    weights = [MULTILABEL.terms(config, COUNTS, epoch, CPU).weights_C.tolist() for epoch in (2, 3)]
    assert weights[0] == [3, 0.25] and weights[1] == pytest.approx([math.sqrt(3), 1])


def test_natural_order_holds_each_image_once() -> None:
    targets = torch.randint(-1, 2, (100, 3), generator=torch.Generator().manual_seed(0))
    assert sorted(label_order(targets, torch.Generator(), sampling="natural").tolist()) == list(range(100))


def test_balanced_sampling_draws_yes_and_no_alike() -> None:
    targets = torch.full((10_000, 2), UNKNOWN)
    targets[:5000, 0] = (torch.arange(5000) % 50 == 0).long()
    targets[5000:, 1] = (torch.arange(5000) % 10 == 0).long()
    drawn = targets[label_order(targets, torch.Generator().manual_seed(1), sampling="balanced")]
    for label in (0, 1):
        known = drawn[drawn[:, label] != UNKNOWN, label]
        assert len(known) / len(drawn) == pytest.approx(0.5, abs=0.03)
        assert known.double().mean().item() == pytest.approx(0.5, abs=0.03)
    alone = torch.tensor([[1, UNKNOWN], [UNKNOWN, UNKNOWN], [0, 1]])
    assert 1 not in label_order(alone.repeat(40, 1), torch.Generator(), sampling="balanced") % 3  # nothing known


@pytest.mark.parametrize("name", LABEL_LOSSES)
def test_a_training_with_each_loss_learns(name: str) -> None:
    rows = run(Slot(device="cpu").start(toy_config(epochs=4, lr=3e-3, loss=name), toy_labels(), keep_best=False))
    assert rows[-1]["train_loss"] < rows[0]["train_loss"] and rows[-1]["val_macro_auc"] > 0.8


@pytest.mark.parametrize("name", LABEL_LOSSES)
def test_the_captured_step_gives_the_same_numbers(name: str) -> None:
    config, data = toy_config(loss=name, dropout=0.0, epochs=2), toy_labels()
    plain, slot = run(Slot(device="cpu").start(config, data, keep_best=False)), Slot(device="cpu")
    state = slot.start(config, data, keep_best=False)
    state.static_step = StaticStep(slot.shell(config, 2), config, data, device=slot.device, precision="fp32")
    assert run(state) == plain


def test_a_loss_of_the_other_task_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Multilabel data are trained with one of weighted_bce, .*, but got loss='ldam'"):
        MULTILABEL.terms(toy_config(loss="ldam"), COUNTS, 1, CPU)
    with pytest.raises(ConfigError, match=r"Multiclass data are trained with one of weighted_ce, .*, but got loss='bce'"):
        MULTICLASS.terms(toy_config(loss="bce"), np.array([3, 4]), 1, CPU)


def test_sampling_reaches_the_training() -> None:
    data = dataclasses.replace(toy_labels(), positive_class=0)
    first, second = (
        run(Slot(device="cpu").start(toy_config(epochs=1, loss="bce", sampling=s), data, keep_best=False))
        for s in ("natural", "balanced")
    )
    assert first[0]["train_loss"] != second[0]["train_loss"]
