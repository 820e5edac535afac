"""The step that CUDA captures, on a CPU, where it computes anew each time: the same numbers as the plain step."""

import pytest
import torch
import torch.nn.functional as F

from tests.support.toy_training import run, toy_config, toy_data
from tune_btxrd.errors import ConfigError
from tune_btxrd.tasks.losses import LOSSES, Loss
from tune_btxrd.training.capture import StaticStep, step_key, threshold_dropout
from tune_btxrd.training.slot import Slot
from tune_btxrd.training.state import TrainState

CPU = torch.device("cpu")


def start(slot: Slot, step: StaticStep | None = None, **changes: object) -> tuple[TrainState, StaticStep]:
    """A toy training of three epochs that runs on the step (a new one for None)."""
    config, data = toy_config(**changes), toy_data()
    state = slot.start(config, data, keep_best=False)
    shell = slot.shell(config, data.num_classes)
    step = step or StaticStep(shell, config, toy_data(), device=CPU, precision="fp32")
    state.static_step = step
    return state, step


@pytest.mark.parametrize(
    "changes", [{"dropout": 0.0}, {"dropout": 0.0, "loss": "focal", "weight_decay": 0.3}, {"dropout": 0.0, "clip": 0.1}]
)
def test_the_same_numbers_as_the_plain_step(changes: dict[str, object]) -> None:
    plain = run(Slot(device="cpu").start(toy_config(**changes), toy_data(), keep_best=False))
    state, _ = start(Slot(device="cpu"), **changes)
    assert run(state) == plain


def test_one_step_serves_trials_of_other_rates_and_decays() -> None:
    slot = Slot(device="cpu")
    first, step = start(slot, dropout=0.5, lr=3e-3, weight_decay=0.2)
    run(first)
    other = {"dropout": 0.0, "lr": 1e-3, "weight_decay": 1e-2}
    assert step.key == step_key(toy_config(**other), toy_data(), "fp32")
    again, _ = start(slot, step, **other)
    assert run(again) == run(Slot(device="cpu").start(toy_config(**other), toy_data(), keep_best=False))


def test_every_field_that_a_loss_reads_makes_a_capture_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Loss(lambda logits, targets, terms: logits.sum() * terms.options.hue, reads=("hue",))
    monkeypatch.setitem(LOSSES, "ce", own)
    data = toy_data()
    keys = {step_key(toy_config(loss="ce", hue=value), data, "fp32") for value in (0.0, 10.0)}
    assert len(keys) == 2
    assert step_key(toy_config(hue=0.0), data, "fp32") == step_key(toy_config(hue=10.0), data, "fp32")
    for changes in (
        {"tf32": False},
        {"batch_size": 8},
        {"loss": "focal"},
        {"backbone": "test_resnet"},
        {"label_smoothing": 0.1},
    ):
        assert step_key(toy_config(**changes), data, "fp32") != step_key(toy_config(), data, "fp32"), changes
    assert step_key(toy_config(), data, "fp32") != step_key(toy_config(), data, "bf16")


def test_the_model_has_its_own_dropout_back_afterwards() -> None:
    state, step = start(Slot(device="cpu"), dropout=0.5)
    run(state)
    assert [getattr(module, name) for module, name, _ in step.shell.dropout_places] == [0.5]
    assert not step.head._forward_pre_hooks


def test_dropout_changes_the_numbers_and_depends_on_the_seed_alone() -> None:
    rows = [run(start(Slot(device="cpu"), dropout=rate)[0]) for rate in (0.5, 0.5, 0.0)]
    assert rows[0] == rows[1] != rows[2]


def test_threshold_dropout_by_hand() -> None:
    values = torch.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True)
    noise = torch.tensor([0.1, 0.25, 0.3, 0.9])
    dropped = threshold_dropout(values, noise, torch.tensor(0.25))
    assert dropped.tolist() == pytest.approx([0.0, 2 / 0.75, 3 / 0.75, 4 / 0.75])  # noise of exactly the rate stays
    torch.autograd.backward(dropped.sum())
    assert values.grad is not None and values.grad.tolist() == pytest.approx([0.0, 1 / 0.75, 1 / 0.75, 1 / 0.75])
    assert torch.equal(threshold_dropout(values, noise, torch.tensor(0.0)), values)


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_threshold_dropout_has_the_law_of_the_stock_one(rate: float) -> None:
    torch.manual_seed(0)
    values = torch.ones(200_000)
    ours, stock = threshold_dropout(values, torch.rand(200_000), torch.tensor(rate)), F.dropout(values, rate)
    assert sorted(set(ours.tolist())) == pytest.approx(sorted(set(stock.tolist())))  # 0 and 1 / (1 - rate)
    share = [(kept != 0).float().mean().item() for kept in (ours, stock)]
    assert share == pytest.approx([1 - rate, 1 - rate], abs=0.005)  # more than four standard errors


@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_convnext", "mobilenetv3_small_100"])
def test_the_mask_stands_where_the_models_dropout_stands(backbone: str) -> None:
    """Between the features and the classifier: its input is that without dropout, entry by entry gone or scaled."""
    slot, config = Slot(device="cpu"), toy_config(backbone=backbone, dropout=0.0)
    shell = slot.shell(config, 3)
    step = StaticStep(shell, config, toy_data(), device=CPU, precision="fp32")
    images, seen = torch.randn(4, 3, 32, 32), list[torch.Tensor]()

    def features(rate: float) -> torch.Tensor:
        shell.reset({name: value.clone() for name, value in shell.model.state_dict().items()}, dropout=rate)
        handle = step.head.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
        shell.model(images)
        handle.remove()
        return seen.pop()

    whole, stock = features(0.0), features(0.5)
    assert torch.allclose(torch.where(stock == 0, 0, 2 * whole), stock, rtol=1e-4) and (stock == 0).any()
    shell.reset(shell.model.state_dict(), dropout=0.5)
    step.rate.fill_(0.999)
    step.noise = torch.full_like(whole, 0.5)
    with step._dropout_as_mask():
        logits = shell.model(images)
    assert step.head.bias is not None and torch.equal(logits, step.head.bias.expand(4, 3))  # nothing else came through


def test_what_cannot_be_captured_is_refused() -> None:
    slot = Slot(device="cpu")
    for changes in ({"stages": "two_phase", "epochs": 12}, {"head": "mlp"}):
        config = toy_config(**changes)
        with pytest.raises(ConfigError, match="`capture: true` needs `stages: one` and `head: linear`"):
            StaticStep(slot.shell(config, 3), config, toy_data(), device=CPU, precision="fp32")


def test_without_cuda_nothing_is_captured() -> None:
    assert Slot(device="cpu").start(toy_config(capture=True), toy_data(), keep_best=False).static_step is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_on_cuda_one_capture_serves_two_trials() -> None:
    slot, rows = Slot(device="cuda"), []
    for changes in ({"dropout": 0.5, "lr": 3e-3}, {"dropout": 0.0}):
        state = slot.start(toy_config(capture=True, precision="fp32", tf32=False, **changes), toy_data(), keep_best=False)
        rows.append(run(state))
    plain = slot.start(toy_config(precision="fp32", tf32=False, dropout=0.0), toy_data(), keep_best=False)
    losses = [row["val_loss"] for row in run(plain)]
    assert [row["val_loss"] for row in rows[1]] == pytest.approx(losses, rel=1e-3)
