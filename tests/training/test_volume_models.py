"""Backbones of volumes: MONAI's own numbers, layers, checkpointing, and MedicalNet's files as they are published."""

import math
import zipfile
from pathlib import Path

import pytest
import torch
from monai.networks.nets import resnet

from tests.support.toy_training import run, toy_config, toy_data
from tests.support.toy_volumes import medicalnet_file, volume_config, volume_data
from tune_btxrd.errors import ConfigError
from tune_btxrd.training.checkpoint import checkpoint_dict, load, load_model, restore, save
from tune_btxrd.training.loop import train
from tune_btxrd.training.models.fit import check_fit
from tune_btxrd.training.models.layers import BASE, HEAD, TOP, parts_of
from tune_btxrd.training.models.names import VOLUME_BACKBONES, ModelChoice, check_backbone, require_serving
from tune_btxrd.training.models.shell import build_shell, create
from tune_btxrd.training.models.volumes import DEPTHS
from tune_btxrd.training.models.weights import taken_tensors
from tune_btxrd.training.slot import Slot

PARAMETERS = {"resnet3d_10": 14_356_546, "resnet3d_50": 46_159_170}  # of two classes and one channel


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        yield


@pytest.mark.parametrize("backbone", VOLUME_BACKBONES)
def test_tensors_and_answers_are_those_of_plain_monai(backbone):
    depth = DEPTHS[backbone]
    with torch.device("meta" if backbone in ("resnet3d_34", "resnet3d_50") else "cpu"):
        ours = create(backbone, 2).eval()
        plain = getattr(resnet, f"resnet{backbone.split('_')[1]}")(
            spatial_dims=3, n_input_channels=1, num_classes=2, shortcut_type=depth.shortcut, bias_downsample=False
        ).eval()
    shapes = {name: value.shape for name, value in plain.state_dict().items()}
    assert {name: value.shape for name, value in ours.state_dict().items()} == shapes
    if backbone in PARAMETERS:
        assert sum(value.numel() for value in ours.parameters()) == PARAMETERS[backbone]
    if not next(ours.parameters()).is_meta:
        plain.load_state_dict(ours.state_dict())
        volumes = torch.randn(1, 1, 16, 16, 16)
        with torch.no_grad():
            torch.testing.assert_close(ours(volumes), plain(volumes))


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_channels_and_stride_of_the_first_convolution(channels):
    model = create("resnet3d_10", 3, channels=channels, stem_stride=2)
    assert model.conv1.weight.shape == (64, channels, 7, 7, 7)
    assert model.conv1.stride == (2, 2, 2)


def test_parts_are_those_of_the_layers():
    parts = parts_of(create("resnet3d_10", 2))
    assert {parts["fc.weight"], parts["layer4.0.conv1.weight"], parts["layer2.0.conv1.weight"]} == {HEAD, TOP, BASE}


def test_the_head_and_dropout_are_found():
    shell = build_shell("resnet3d_10", 2, torch.device("cpu"), head="mlp", channels=2)
    assert sorted(share for *_, share in shell.dropout_places) == [0.5, 1.0]
    assert len(shell.mean) == len(shell.std) == 2


def test_a_shortcut_without_weights_passes_its_gradient():
    model = create("resnet3d_18", 2, stem_stride=2)
    block = model.layer4[0]
    for name, value in block.named_parameters():
        value.data.zero_()  # nothing but the shortcut is left
        assert name
    volumes = torch.randn(2, 1, 16, 16, 16)
    model(volumes).square().sum().backward()
    assert float(model.conv1.weight.grad.abs().max()) > 0


def test_checkpointing_gives_equal_numbers_and_statistics():
    data, slot = volume_data(), Slot(device="cpu")
    plain = run(slot.start(volume_config(), data, keep_best=False))
    statistics = {name: value.clone() for name, value in slot._state.model.named_buffers()}
    assert plain == run(slot.start(volume_config(checkpointing=True), data, keep_best=False))
    for name, value in slot._state.model.named_buffers():
        assert torch.equal(value, statistics[name]), name
    assert plain == run(slot.start(volume_config(), data, keep_best=False))


def test_checkpointing_keeps_less():
    model = create("resnet3d_10", 2).train()
    kept = []
    for model.checkpointing in (False, True):
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda value, saved=saved: (saved.append(value.numel()), value)[1], lambda v: v
        ):
            model(torch.randn(2, 1, 16, 16, 16))
        kept.append(sum(saved))
    assert kept[1] < kept[0] / 2


def test_images_cannot_be_checkpointed():
    with pytest.raises(ConfigError, match="needs a backbone of volumes"):
        Slot(device="cpu").start(toy_config(checkpointing=True), toy_data(), keep_best=False)


@pytest.mark.parametrize(("config", "data"), [(toy_config(), volume_data()), (volume_config(), toy_data())])
def test_a_backbone_of_the_other_kind_is_refused(config, data):
    with pytest.raises(ConfigError, match=r"`backbone` must take (volumes|images)"):
        Slot(device="cpu").start(config, data, keep_best=False)


def test_names_are_known_and_the_nearest_is_said():
    check_backbone("resnet3d_50")
    with pytest.raises(ConfigError, match="did you mean 'resnet3d_50'"):
        check_backbone("resnet3d_5o")
    with pytest.raises(ConfigError, match="use one of resnet3d_10"):
        require_serving("efficientnet_b0", volumes=True)


def test_resumed_equals_uninterrupted(tmp_path: Path):
    config = volume_config(ema=0.9, accumulate=2, backbone_share=0.1, flip_up=0.5, gamma=0.3, noise=0.2)
    data, slot = volume_data(channels=2), Slot(device="cpu")
    whole = run(slot.start(config, data, keep_best=True))
    state = slot.start(config, data, keep_best=True)
    next(train(state))
    save(checkpoint_dict(state, class_names=["a", "b"]), tmp_path / "half.pt")
    assert run(restore(Slot(device="cpu"), load(tmp_path / "half.pt"), data)) == whole
    model, _ = load_model(tmp_path / "half.pt")
    assert model.conv1.weight.shape[1] == 2 and model.conv1.stride == (2, 2, 2)


def test_the_backbone_learns_at_its_share():
    state = Slot(device="cpu").start(volume_config(backbone_share=0.1), volume_data(), keep_best=False)
    row = next(train(state))
    assert math.isclose(row.lr_backbone, 0.1 * row.lr, rel_tol=1e-9)


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_medicalnets_file_loads_as_published(tmp_path: Path, legacy, channels):
    path = tmp_path / "resnet_10.pth"
    theirs = medicalnet_file(path, legacy=legacy)
    assert zipfile.is_zipfile(path) is not legacy
    model = create("resnet3d_10", 5, channels=channels)
    taken = taken_tensors(model, "resnet3d_10", str(path))
    model.load_state_dict(model.state_dict() | taken.tensors)
    assert taken.missing == () and taken.left_out == ("conv_seg.0.weight",)
    assert taken.words.startswith(f"weights: {taken.wanted} of {taken.wanted} tensors of the backbone from resnet_10.pth")
    one = torch.randn(1, 1, 16, 16, 16)
    for name in ("conv1", "layer1"):  # equal channels give what one gave
        assert name
    torch.testing.assert_close(model.conv1(one.expand(-1, channels, -1, -1, -1)), theirs.conv1(one), rtol=1e-3, atol=1e-4)
    assert torch.equal(model.layer3[0].conv2.weight, theirs.layer3[0].conv2.weight)


def test_a_training_starts_from_medicalnets_weights(tmp_path: Path):
    theirs = medicalnet_file(tmp_path / "resnet_10.pth")
    config = volume_config(weights=str(tmp_path / "resnet_10.pth"))
    state = Slot(device="cpu").start(config, volume_data(channels=2), keep_best=False)
    assert torch.equal(state.model.layer2[0].conv1.weight, theirs.layer2[0].conv1.weight)


def test_a_file_of_another_depth_is_refused_with_the_reason(tmp_path: Path):
    medicalnet_file(tmp_path / "resnet_10.pth")
    with pytest.raises(ConfigError, match=r"At least 90% of resnet3d_34 must be in .*it has no 'layer1\.1\.conv1\.weight'"):
        taken_tensors(create("resnet3d_34", 2), "resnet3d_34", str(tmp_path / "resnet_10.pth"))
    content = torch.load(tmp_path / "resnet_10.pth", weights_only=True)
    content["state_dict"] = {name: torch.ones(3, *value.shape) for name, value in content["state_dict"].items()}
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(ConfigError, match=r"conv1\.weight is \(3, 64, 1, 7, 7, 7\) instead of \(64, 1, 7, 7, 7\)"):
        taken_tensors(create("resnet3d_10", 2), "resnet3d_10", str(tmp_path / "odd.pth"))


def test_a_few_missing_tensors_are_said_and_start_at_random(tmp_path: Path):
    medicalnet_file(tmp_path / "resnet_10.pth")
    content = torch.load(tmp_path / "resnet_10.pth", weights_only=True)
    del content["state_dict"]["module.layer4.0.conv1.weight"]
    torch.save(content, tmp_path / "less.pth")
    choice = ModelChoice(backbone="resnet3d_10", head="linear", image_size=32, weights=str(tmp_path / "less.pth"))
    (note,) = check_fit([choice], num_classes=2)
    assert "missing: 1 (layer4.0.conv1.weight); left out: 1 (conv_seg.0.weight)" in note


def test_weights_that_are_not_finite_or_run_code_are_refused(tmp_path: Path):
    medicalnet_file(tmp_path / "resnet_10.pth")
    content = torch.load(tmp_path / "resnet_10.pth", weights_only=True)
    content["state_dict"]["module.bn1.weight"][3] = math.nan
    torch.save(content, tmp_path / "nan.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(ConfigError, match=r"Weights must be finite, but bn1\.weight"):
        taken_tensors(create("resnet3d_10", 2), "resnet3d_10", str(tmp_path / "nan.pth"))
    torch.save({"state_dict": Path("x")}, tmp_path / "code.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(ConfigError, match="readable as plain tensors"):
        taken_tensors(create("resnet3d_10", 2), "resnet3d_10", str(tmp_path / "code.pth"))


def test_without_a_file_there_are_no_weights():
    with pytest.raises(ConfigError, match=r"--weights FILE.*--no-pretrained"):
        taken_tensors(create("resnet3d_10", 2), "resnet3d_10", None)
