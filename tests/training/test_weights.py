"""Pretrained weights: files of several forms with any head, files of other backbones, no network, device and precision."""

import threading
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
import torchvision

from tests.support.paths import SHARED
from tests.support.toy_training import run, toy_config, toy_data
from tune_btxrd.errors import ConfigError
from tune_btxrd.training.device import resolve_device, resolve_precision, seeded
from tune_btxrd.training.models import weights
from tune_btxrd.training.models.weights import pretrained_tensors
from tune_btxrd.training.slot import Slot

LITE0 = SHARED / "weights" / "tf_efficientnet_lite0.safetensors"
BACKBONE = "test_efficientnet"


def source(num_classes: int = 7) -> dict[str, torch.Tensor]:
    with seeded(99, torch.device("cpu")):
        return timm.create_model(BACKBONE, num_classes=num_classes).state_dict()


def write(path: Path, content: Any) -> str:
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(content, path)
    else:
        torch.save(content, path)
    return str(path)


FORMS = {
    "plain.safetensors": lambda tensors: tensors,
    "plain.pt": lambda tensors: tensors,
    "state_dict.pth": lambda tensors: {
        "epoch": 3,
        "state_dict": {f"module.{name}": value for name, value in tensors.items()},
    },
    "ours.pt": lambda tensors: {"model_state_dict": tensors, "class_names": ["a"]},
    "lightning.ckpt": lambda tensors: {
        "state_dict": {f"net.{name}": value for name, value in tensors.items()} | {"loss.weight": torch.ones(3)},
    },
    "wrapped.pt": lambda tensors: {f"model.{name}": value for name, value in tensors.items()},
}


@pytest.mark.parametrize("name", FORMS)
def test_a_file_gives_all_but_the_head(name: str, tmp_path: Path):
    tensors = source()
    file = write(tmp_path / name, FORMS[name](tensors))
    state = Slot(device="cpu").start(toy_config(weights=file), toy_data(), keep_best=False)
    random = Slot(device="cpu").start(toy_config(), toy_data(), keep_best=False).model.state_dict()
    for key, value in state.model.state_dict().items():
        expected = random[key] if key.startswith("classifier") else tensors[key]
        assert torch.equal(value, expected), key  # the head comes from the seed, as without weights


def test_torchvision_s_names_of_the_same_backbone_are_understood(tmp_path: Path):
    with seeded(0, torch.device("cpu")):
        theirs, ours = torchvision.models.efficientnet_b0(num_classes=5).eval(), timm.create_model("efficientnet_b0").eval()
    tensors = pretrained_tensors(ours, "efficientnet_b0", write(tmp_path / "tv.pth", theirs.state_dict()))
    ours.load_state_dict(tensors, strict=False)
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(ours.forward_features(images), theirs.features(images), atol=1e-4, rtol=1e-4)


def test_a_file_is_read_again_when_it_has_changed(tmp_path: Path):
    slot, file = Slot(device="cpu"), tmp_path / "a.pt"
    config = toy_config(weights=write(file, source()), epochs=1)
    first = run(slot.start(config, toy_data(), keep_best=False))
    write(file, {name: value * 2 if value.is_floating_point() else value for name, value in source(2).items()})
    assert run(slot.start(config, toy_data(), keep_best=False)) != first


def test_files_that_do_not_fit_are_named(tmp_path: Path):
    model = timm.create_model(BACKBONE, num_classes=3)
    tensors = source()
    short = {name: value for name, value in tensors.items() if name != "conv_stem.weight"}
    cases = {
        "short": (short, "has no 'conv_stem.weight'"),
        "shape": (tensors | {"conv_stem.weight": torch.zeros(1, 2)}, r"conv_stem.weight in .* is \(1, 2\) instead of"),
        "extra": (tensors | {"blocks.9.w": torch.zeros(1)}, "also has 'blocks.9.w'"),
        "empty": ({"epoch": 3}, "must hold named tensors"),
    }
    for name, (content, message) in cases.items():
        with pytest.raises(ConfigError, match=message):
            pretrained_tensors(model, BACKBONE, write(tmp_path / f"{name}.pt", content))
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(ConfigError, match="must be readable"):
        pretrained_tensors(model, BACKBONE, str(tmp_path / "text.pt"))
    with pytest.raises(ConfigError, match="must name a file"):
        pretrained_tensors(model, BACKBONE, str(tmp_path / "absent.pt"))


def test_bits_that_changed_and_numbers_that_are_none_are_refused(tmp_path: Path):
    model, tensors = timm.create_model(BACKBONE, num_classes=3), source()
    path = Path(write(tmp_path / "flipped.pt", tensors))
    data = bytearray(path.read_bytes())
    at = bytes(data).index(tensors["conv_stem.weight"].numpy().tobytes())
    data[at + 3] ^= 0x40
    path.write_bytes(data)
    with pytest.raises(ConfigError, match="is not what was written: bits have changed"):
        pretrained_tensors(model, BACKBONE, str(path))
    tensors["conv_stem.weight"][0, 0, 0, 0] = torch.nan
    for name in ("nan.pt", "nan.safetensors"):
        with pytest.raises(ConfigError, match=r"Weights must be finite, but conv_stem\.weight in .* is not"):
            pretrained_tensors(model, BACKBONE, write(tmp_path / name, tensors))
    old = tmp_path / "before_1_6.pt"  # no zip, and so without checksums
    torch.save(source(), old, _use_new_zipfile_serialization=False)
    pretrained_tensors(model, BACKBONE, str(old))


def test_no_network_is_said_within_seconds(monkeypatch: pytest.MonkeyPatch):
    released = threading.Event()

    def hangs(*_: object, **__: object) -> None:
        released.wait(60)
        raise TimeoutError

    monkeypatch.setattr(weights, "_cached", lambda _: None)
    monkeypatch.setattr(weights, "PROBE_SECONDS", 0.2)
    monkeypatch.setattr(urllib.request, "urlopen", hangs)
    with pytest.raises(ConfigError) as caught:
        Slot(device="cpu").start(toy_config(pretrained=True), toy_data(), keep_best=False)
    assert threading.active_count() > 1  # the hub still hangs, and nobody waits for it
    released.set()
    for way_out in ("--weights FILE", "--no-pretrained", "hub cache"):
        assert way_out in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_hub_s_cache_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = write(tmp_path / "model.safetensors", source(num_classes=1000))
    monkeypatch.setattr(weights, "_cached", lambda _: file)
    monkeypatch.setattr(weights, "hub_answers", lambda: pytest.fail("the network was asked"))
    state = Slot(device="cpu").start(toy_config(pretrained=True), toy_data(), keep_best=False)
    assert torch.equal(state.model.state_dict()["conv_stem.weight"], source(num_classes=1000)["conv_stem.weight"])


@pytest.mark.skipif(not LITE0.exists(), reason="no ../shared/data here")
def test_the_real_file_gives_timm_s_own_features():
    slot = Slot(device="cpu")
    config = toy_config(backbone="tf_efficientnet_lite0", weights=str(LITE0))
    state = slot.start(config, toy_data(), keep_best=False)
    overlay = {"file": str(LITE0)}
    own = timm.create_model("tf_efficientnet_lite0", pretrained=True, pretrained_cfg_overlay=overlay).eval()
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(
        state.model.eval().forward_features(images), own.forward_features(images), atol=1e-4, rtol=1e-4
    )
    assert state.mean.tolist() == state.std.tolist() == [0.5, 0.5, 0.5]


def test_devices():
    assert resolve_device("cpu").type == "cpu"
    kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert resolve_device("auto").type == kind
    with pytest.raises(ConfigError, match="one of auto, cuda, mps, cpu, but got 'tpu'"):
        resolve_device("tpu")
    for name in {"cuda", "mps"} - {kind}:
        with pytest.raises(ConfigError, match=f"--device {name}"):
            resolve_device(name)


def test_precisions(monkeypatch: pytest.MonkeyPatch):
    cuda, cpu, mps = torch.device("cuda", 0), torch.device("cpu"), torch.device("mps")
    for has, auto in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True, has=has: has)
        assert resolve_precision("auto", cuda) == auto
    assert (resolve_precision("auto", cpu), resolve_precision("fp32", mps), resolve_precision("bf16", cpu)) == (
        "fp32",
        "fp32",
        "bf16",
    )
    for device in (cuda, mps):
        with pytest.raises(ConfigError, match="precision=bf16"):
            resolve_precision("bf16", device)


def test_bf16_trains_close_to_fp32():
    slot = Slot(device="cpu")
    exact, coarse = (
        run(slot.start(toy_config(epochs=1, precision=name), toy_data(), keep_best=False)) for name in ("fp32", "bf16")
    )
    assert exact != coarse and coarse[0]["train_loss"] == pytest.approx(exact[0]["train_loss"], rel=0.05)
