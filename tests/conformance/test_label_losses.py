"""Conformance of label losses: every entry of `LABEL_LOSSES` keeps these promises; a new one is run through them by name."""

import pytest
import torch
from torch import Tensor

from tune_btxrd.config import FIELDS, TrainConfig
from tune_btxrd.config import LABEL_LOSSES as WORDS
from tune_btxrd.tasks.label_losses import LABEL_LOSSES, LabelTerms
from tune_btxrd.tasks.losses import Options

LABELS = 3
UNKNOWN = -1


def terms_of(name: str, *, yes: float = 1.0, no: float = 1.0, options: Options | None = None) -> LabelTerms:
    loss, ones = LABEL_LOSSES[name], torch.ones(LABELS, dtype=torch.float64)
    options = options or Options(TrainConfig(loss=name), loss.reads)
    return LabelTerms(loss=loss, options=options, weights_C=yes * ones, no_weights_C=no * ones, counts_C=10 * ones)


def batch(count: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(count, LABELS, generator=generator, dtype=torch.float64)
    return logits, torch.randint(UNKNOWN, 2, (count, LABELS), generator=generator)


@pytest.fixture(params=sorted(LABEL_LOSSES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_words_and_functions_are_the_same() -> None:
    assert tuple(LABEL_LOSSES) == WORDS


def test_the_loss_of_two_batches_is_the_sum_of_both(name: str) -> None:
    (logits, targets), terms = batch(), terms_of(name)
    parts = terms.loss(logits[:5], targets[:5], terms) + terms.loss(logits[5:], targets[5:], terms)
    assert terms.loss(logits, targets, terms).item() == pytest.approx(parts.item(), rel=1e-12)


def test_the_order_of_labels_does_not_matter(name: str) -> None:
    (logits, targets), terms = batch(), terms_of(name)
    order = torch.tensor([2, 0, 1])
    shuffled = terms.loss(logits[:, order], targets[:, order], terms)
    assert shuffled.item() == pytest.approx(terms.loss(logits, targets, terms).item(), rel=1e-12)


def test_it_is_linear_in_the_weights(name: str) -> None:
    logits, targets = batch()
    of = {key: terms_of(name, yes=yes, no=no) for key, (yes, no) in {"yes": (1, 0), "no": (0, 1), "both": (3, 2)}.items()}
    found = {key: terms.loss(logits, targets, terms).item() for key, terms in of.items()}
    assert found["both"] == pytest.approx(3 * found["yes"] + 2 * found["no"], rel=1e-12)


def test_its_gradient_is_that_of_its_value(name: str) -> None:
    (logits, targets), terms = batch(6), terms_of(name)
    assert torch.autograd.gradcheck(lambda values: terms.loss(values, targets, terms), logits.requires_grad_())


def test_being_right_costs_less_than_being_wrong(name: str) -> None:
    (_, targets), terms = batch(), terms_of(name)
    right = 4.0 * (2.0 * targets.clamp_min(0).double() - 1)
    assert 0 <= terms.loss(right, targets, terms) < terms.loss(-right, targets, terms)


@pytest.mark.parametrize("size", [1e3, -1e3])
def test_extreme_logits_stay_finite(name: str, size: float) -> None:
    for kind in (torch.float32, torch.float64):
        logits = torch.full((3, LABELS), size, dtype=kind, requires_grad=True)
        terms = terms_of(name)
        loss = terms.loss(logits, torch.tensor([[1] * LABELS, [0] * LABELS, [UNKNOWN] * LABELS]), terms)
        loss.backward()
        assert loss.isfinite() and logits.grad is not None and logits.grad.isfinite().all()


def test_it_reads_what_it_declares(name: str) -> None:
    asked: set[str] = set()

    class Watched(Options):
        def __getattr__(self, field: str) -> object:
            asked.add(field)
            return super().__getattr__(field)

    reads = LABEL_LOSSES[name].reads
    terms = terms_of(name, options=Watched(TrainConfig(loss=name), reads))
    asked.clear()
    terms.loss(*batch(), terms)
    of_weights = {"focal_alpha"}  # read where weights are made
    assert asked == set(reads) - of_weights and set(reads) <= set(FIELDS)
