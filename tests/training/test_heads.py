"""Heads: what they compute, that dropout reaches them, weights per backbone, export's view of them, TF32."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torch.nn.functional as F

from tests.support.toy_training import run, toy_config, toy_data
from tune_btxrd.errors import ConfigError
from tune_btxrd.inference.export import _write_formats
from tune_btxrd.inference.open_model import open_checkpoint, open_model
from tune_btxrd.training.checkpoint import checkpoint_dict, load_model, save
from tune_btxrd.training.device import seeded
from tune_btxrd.training.loop import predict
from tune_btxrd.training.models.heads import HIDDEN, CosineHead
from tune_btxrd.training.models.shell import create
from tune_btxrd.training.slot import Slot


def test_cosine_head_by_hand():
    head = CosineHead(2, 3)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[2.0, 0.0], [0.0, 5.0], [-1.0, -1.0]]))
    out = head(torch.tensor([[3.0, 0.0], [1.0, 1.0]]))
    half = 0.5**0.5
    torch.testing.assert_close(out, torch.tensor([[1.0, 0.0, -half], [half, half, -1.0]]))
    torch.testing.assert_close(head(torch.tensor([[30.0, 0.0], [0.1, 0.1]])), out)  # lengths say nothing


@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_resnet", "test_convnext", "mobilenetv3_small_100"])
def test_mlp_head_by_hand(backbone: str):
    model = create(backbone, 3, head="mlp").eval()
    first, _, _, last = model.get_classifier()
    assert (first.out_features, last.in_features, last.out_features) == (HIDDEN, HIDDEN, 3)
    images = torch.randn(2, 3, 64, 64)
    features = model.forward_head(model.forward_features(images), pre_logits=True)
    torch.testing.assert_close(model(images), last(F.relu(first(features))))


def test_dropout_of_the_mlp_head_is_half_of_the_backbones():
    slot = Slot(device="cpu")
    model = slot.start(toy_config(head="mlp", dropout=0.3), toy_data(), keep_best=False).model
    assert (model.drop_rate, model.get_classifier()[2].p) == (0.3, 0.15)
    model = slot.start(toy_config(head="mlp", dropout=0), toy_data(), keep_best=False).model
    assert (model.drop_rate, model.get_classifier()[2].p) == (0, 0)


def test_a_backbone_without_a_linear_classifier_keeps_its_own():
    with torch.device("meta"), pytest.raises(ConfigError, match="needs a backbone with a linear classifier"):
        create("levit_128", 3, head="mlp")


@pytest.mark.parametrize("head", ["mlp", "cosine"])
def test_a_checkpoint_brings_its_head_back(head: str, tmp_path: Path):
    slot = Slot(device="cpu")
    state = slot.start(toy_config(epochs=1, head=head), toy_data(), keep_best=True)
    run(state)
    save(checkpoint_dict(state, class_names=("a", "b", "c")), tmp_path / "a.pt")
    model, _ = load_model(tmp_path / "a.pt")
    own, loaded = (
        predict(m, state.pixels, state.val_rows, mean=state.mean, std=state.std, precision="fp32")
        for m in (state.model, model)
    )
    torch.testing.assert_close(own, loaded, atol=1e-5, rtol=1e-5)


def test_heads_take_turns_in_one_slot():
    slot = Slot(device="cpu")
    rows = {
        head: run(slot.start(toy_config(epochs=1, head=head), toy_data(), keep_best=False))
        for head in ("mlp", "cosine", "linear")
    }
    assert rows["linear"] == run(Slot(device="cpu").start(toy_config(epochs=1), toy_data(), keep_best=False))
    assert rows["mlp"] == run(slot.start(toy_config(epochs=1, head="mlp"), toy_data(), keep_best=False))
    assert len({row[0]["train_loss"] for row in rows.values()}) == 3


def test_a_folder_of_weights_holds_each_backbones_file(tmp_path: Path):
    for name in ("test_efficientnet", "test_resnet"):
        with seeded(9, torch.device("cpu")):
            tensors = timm.create_model(name, num_classes=5).state_dict()
        safetensors.torch.save_file(tensors, tmp_path / f"{name}.safetensors")
        state = Slot(device="cpu").start(toy_config(backbone=name, weights=str(tmp_path)), toy_data(), keep_best=False)
        first = next(iter(state.model.state_dict()))
        assert torch.equal(state.model.state_dict()[first], tensors[first])
    with pytest.raises(ConfigError, match=r"has no test_convnext.safetensors or test_convnext.pt"):
        Slot(device="cpu").start(toy_config(backbone="test_convnext", weights=str(tmp_path)), toy_data(), keep_best=False)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_tf32_is_the_trainings_own_choice():
    slot, left = Slot(device="cuda"), torch.randn(512, 512, device="cuda")
    exact = left.double() @ left.double()
    errors = []
    for tf32 in (True, False, True):
        slot.start(toy_config(tf32=tf32), toy_data(), keep_best=False)
        errors.append(((left @ left).double() - exact).abs().max().item())
    assert errors[1] < errors[0] / 10 and errors[0] == errors[2]


def test_tf32_leaves_the_settings_of_a_cpu_alone():
    before = torch.get_float32_matmul_precision()
    Slot(device="cpu").start(toy_config(tf32=False), toy_data(), keep_best=False)
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.parametrize("head", ["mlp", "cosine"])
def test_other_heads_are_exported_to_onnx_and_not_to_timm(head: str, tmp_path: Path):
    state = Slot(device="cpu").start(toy_config(epochs=1, head=head), toy_data(), keep_best=True)
    run(state)
    save(checkpoint_dict(state, class_names=("a", "b", "c")), tmp_path / "best_s.pt")
    original = open_checkpoint(tmp_path / "best_s.pt")
    assert original.info.head == head
    (tmp_path / "export").mkdir()
    _write_formats(original, tmp_path / "best_s.pt", tmp_path / "export")
    assert not (tmp_path / "export" / "timm").exists()
    again = open_model(tmp_path / "export" / "model.onnx")
    images = toy_data().images[:5]
    np.testing.assert_allclose(again.logits(images), original.logits(images), atol=1e-4)
    assert again.info == original.info
