"""Conformance of losses: every entry of `LOSSES` keeps these promises; a new one is run through them by its name alone."""

import pytest
import torch
from torch import Tensor

from tune_btxrd.config import FIELDS, TrainConfig
from tune_btxrd.tasks.losses import LOSSES, Options, Terms

CLASSES = 3
COUNTS = torch.tensor([30.0, 20.0, 5.0], dtype=torch.float64)


def terms_of(name: str, *, weights: Tensor | None = None) -> Terms:
    loss = LOSSES[name]
    ones = torch.ones(CLASSES, dtype=torch.float64)
    config = TrainConfig(loss=name)
    return Terms(
        loss=loss, options=Options(config, loss.reads), weights_C=ones if weights is None else weights, counts_C=COUNTS
    )


def batch(count: int = 12, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, CLASSES, generator=generator, dtype=torch.float64)
    return logits, torch.arange(count) % CLASSES


@pytest.fixture(params=sorted(LOSSES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_loss_of_two_batches_is_the_sum_of_both(name: str) -> None:
    logits, targets = batch()
    terms = terms_of(name)
    both = LOSSES[name](logits, targets, terms)
    parts = LOSSES[name](logits[:5], targets[:5], terms) + LOSSES[name](logits[5:], targets[5:], terms)
    assert both.ndim == 0 and both.item() == pytest.approx(parts.item(), rel=1e-12)


def test_the_order_of_images_does_not_matter(name: str) -> None:
    logits, targets = batch()
    order, terms = torch.randperm(len(targets), generator=torch.Generator().manual_seed(1)), terms_of(name)
    shuffled = LOSSES[name](logits[order], targets[order], terms)
    assert shuffled.item() == pytest.approx(LOSSES[name](logits, targets, terms).item(), rel=1e-12)


def test_it_is_linear_in_the_class_weights(name: str) -> None:
    logits, targets = batch()
    twice = LOSSES[name](logits, targets, terms_of(name, weights=torch.full((CLASSES,), 2.0, dtype=torch.float64)))
    assert twice.item() == pytest.approx(2 * LOSSES[name](logits, targets, terms_of(name)).item(), rel=1e-12)
    alone = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    weighted = LOSSES[name](logits, targets, terms_of(name, weights=alone))
    own = LOSSES[name](logits[targets == 1], targets[targets == 1], terms_of(name, weights=alone))
    assert weighted.item() == pytest.approx(own.item(), rel=1e-12)  # a class of weight 0 adds nothing


def test_its_gradient_is_that_of_its_value(name: str) -> None:
    logits, targets = batch(6)
    terms = terms_of(name)
    assert torch.autograd.gradcheck(lambda values: LOSSES[name](values, targets, terms), logits.requires_grad_())


def test_being_right_costs_less_than_being_wrong(name: str) -> None:
    _, targets = batch()
    right = 4.0 * torch.nn.functional.one_hot(targets, CLASSES).double()
    wrong = 4.0 * torch.nn.functional.one_hot((targets + 1) % CLASSES, CLASSES).double()
    terms = terms_of(name)
    assert 0 <= LOSSES[name](right, targets, terms) < LOSSES[name](wrong, targets, terms)


@pytest.mark.parametrize("size", [1e3, -1e3])
def test_extreme_logits_stay_finite(name: str, size: float) -> None:
    logits = (size * torch.eye(CLASSES, dtype=torch.float64)).requires_grad_()
    terms = terms_of(name)
    loss = LOSSES[name](logits, torch.arange(CLASSES), terms)
    loss.backward()
    assert loss.isfinite() and logits.grad is not None and logits.grad.isfinite().all()


def test_it_reads_nothing_that_it_does_not_declare(name: str) -> None:
    options = Options(TrainConfig(loss=name), LOSSES[name].reads)
    assert set(LOSSES[name].reads) <= set(FIELDS)
    undeclared = next(field for field in FIELDS if field not in LOSSES[name].reads)
    with pytest.raises(NameError, match="must declare what it reads"):
        getattr(options, undeclared)
