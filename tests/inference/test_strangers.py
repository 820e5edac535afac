"""What a stranger sent: understood, or refused in one line with the reason; never run, never more memory than its file."""
# ruff: noqa: F811  # pytest hands fixtures over by name

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file

from tests.support.finished_search import Finished, finished  # noqa: F401  # a fixture
from tune_btxrd.errors import ResultError
from tune_btxrd.inference.export import export_search
from tune_btxrd.inference.open_model import graph_sha256, open_model
from tune_btxrd.training.models.key_names import under_own_names

NAMES = ["a", "b"]
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def foreign(**changes: object) -> dict[str, Any]:
    torch.manual_seed(0)
    model = timm.create_model("test_efficientnet", num_classes=2)
    values = {
        "model_state_dict": {f"model.{name}": tensor for name, tensor in model.state_dict().items()},
        "config": {"model": {"name": "test_efficientnet", "dropout": 0.2}, "data": {"image_size": 64}},
        "class_names": NAMES,
        "normalization": {"mean": MEAN, "std": STD},
    }
    return {name: value for name, value in (values | changes).items() if value is not None}


def weights(**changes: object) -> dict[str, Any]:
    return foreign()["model_state_dict"] | changes


def logits(path: Path, values: dict[str, Any]) -> np.ndarray:
    torch.save(values, path)
    images = np.arange(2 * 64 * 64, dtype=np.uint32).reshape(2, 64, 64).astype(np.uint8)
    return open_model(path).logits(images)


def test_many_ways_to_say_the_same_give_the_same_logits(tmp_path: Path):
    wanted = logits(tmp_path / "a.pt", foreign())
    bare = {name.removeprefix("model."): tensor for name, tensor in weights().items()}
    ways: list[dict[str, Any]] = [
        foreign(config={"backbone": "timm/test_efficientnet", "img_size": [64, 64]}),
        foreign(config={"arch": "test_efficientnet", "input_size": (3, 64, 64)}),
        foreign(class_names={"b": 1, "a": 0}),
        foreign(class_names={"0": "a", "1": "b"}),
        foreign(class_names={0: "a", 1: "b"}),
        foreign(normalization={"mean": [255 * v for v in MEAN], "std": [255 * v for v in STD]}),
        foreign(best_f1=np.float64(0.8)),
        foreign(config={"backbone": "test_efficientnet", "image_size": "64"}),
        foreign(config={"backbone": "test_efficientnet", "image_size": "64x64"}),
        foreign(config={"backbone": "test_efficientnet", "size": "base", "data": {"img_size": 64.0}}),
        foreign(config={"backbone": "test_efficientnet", "image_size": {"height": 64, "width": 64}}),
        foreign(normalization={"mean": str(MEAN), "std": list(map(str, STD))}),
        foreign(model_state_dict={f"net.{name}": tensor for name, tensor in bare.items()} | {"loss.weight": torch.ones(2)}),
        foreign(model_state_dict={f"module._orig_mod.{name}": tensor for name, tensor in bare.items()}),
        foreign(model_state_dict=None, state_dict=bare, config=None, hyper_parameters=foreign()["config"]),
    ]
    for way in ways:
        found = logits(tmp_path / "a.pt", way)
        np.testing.assert_allclose(found, wanted, atol=1e-5)
        assert open_model(tmp_path / "a.pt").info.class_names == ("a", "b")


def test_one_number_of_normalization_counts_for_all_channels(tmp_path: Path):
    one = logits(tmp_path / "a.pt", foreign(normalization={"mean": [0.5], "std": [0.25]}))
    for mean, std in ((0.5, 0.25), ("0.5", "0.25")):
        assert np.array_equal(one, logits(tmp_path / "a.pt", foreign(normalization={"mean": mean, "std": std})))
    assert np.array_equal(one, logits(tmp_path / "a.pt", foreign(normalization={"mean": [0.5] * 3, "std": [0.25] * 3})))


@pytest.mark.parametrize("mixed", [{"mean": [123.7, 116.3, 103.5], "std": STD}, {"mean": MEAN, "std": [58.4, 57.1, 57.4]}])
def test_a_mean_and_a_std_of_two_scales_are_refused(tmp_path: Path, mixed: object):
    with pytest.raises(ResultError, match="must be of one scale"):
        logits(tmp_path / "a.pt", foreign(normalization=mixed))


def test_a_mean_of_bytes_with_std_one_is_understood(tmp_path: Path):
    given = {"mean": [255 * value for value in MEAN], "std": [1, 1, 1]}
    same = {"mean": MEAN, "std": [1 / 255] * 3}
    first, second = (logits(tmp_path / "a.pt", foreign(normalization=way)) for way in (given, same))
    np.testing.assert_allclose(first, second, rtol=1e-5)


def test_a_task_that_is_not_known_is_never_taken_for_another(tmp_path: Path):
    with pytest.raises(ResultError, match=r"A task must be one of multiclass.*, but got 'segmentation'"):
        logits(tmp_path / "a.pt", foreign(task="segmentation"))


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")  # files of it are there all the same
@pytest.mark.parametrize("kind", ["quantized", "complex"])
def test_weights_that_are_no_plain_numbers_are_refused(tmp_path: Path, kind: str):
    ways = {
        "quantized": lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8),
        "complex": lambda tensor: tensor.to(torch.complex64),
    }
    tensors = foreign()["model_state_dict"]
    tensors["model.classifier.weight"] = ways[kind](tensors["model.classifier.weight"])
    with pytest.raises(ResultError, match=r"no plain tensor|must hold plain tensors"):
        logits(tmp_path / "a.pt", foreign(model_state_dict=tensors))


def test_every_flipped_bit_of_the_zips_end_is_called_damage(tmp_path: Path):
    torch.save(foreign(), tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    for at in range(len(whole) - 98, len(whole)):  # the three records that close a zip64
        (tmp_path / "a.pt").write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        try:
            open_model(tmp_path / "a.pt")  # some of these bytes mean nothing
        except ResultError as error:
            assert "must be complete" in str(error)


def test_names_of_torchvision_are_understood_where_the_backbone_is_the_same():
    torch.manual_seed(0)
    theirs = torchvision.models.efficientnet_b0(num_classes=3).eval()
    ours = timm.create_model("efficientnet_b0", num_classes=3).eval()
    found = under_own_names({f"net.{name}": value for name, value in theirs.state_dict().items()}, ours.state_dict())
    ours.load_state_dict(found)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, 2], "must be a dictionary, but .* holds a list"),
        (foreign(normalization=None), "has no 'normalization'"),
        (foreign(config={"lr": 1}), "must name its backbone"),
        (foreign(config={"backbone": "efficientnet_b0", "image_size": 64}), "must fit efficientnet_b0, .* is missing"),
        (foreign(config={"backbone": "no_such_net", "image_size": 64}), "must name a backbone of timm"),
        (foreign(config={"backbone": "hf-hub:some/one", "image_size": 64}), "must name a backbone of timm"),
        (foreign(config={"backbone": "test_efficientnet", "image_size": [96, 64]}), "must be square"),
        (foreign(config={"backbone": "test_efficientnet", "image_size": "large"}), "image size, but in .* 'large' is none"),
        (foreign(config={"backbone": "test_efficientnet", "image_size": True}), "image size, but in .* True is none"),
        (foreign(config={"backbone": 7, "image_size": 64}), "backbone, but in .* 7 is none"),
        (foreign(config={"backbone": "test_efficientnet", "image_size": 40_000}), "8 <= image_size <= 2048"),
        (foreign(normalization={"mean": 0.5}), "must be plain lists"),
        (foreign(normalization={"mean": [0.5, 0.5], "std": [1, 1]}), "three numbers each"),
        (foreign(normalization={"mean": [0.5] * 3, "std": [0.0] * 3}), "must be those of pixels"),
        (foreign(normalization={"mean": [float("nan")] * 3, "std": [1] * 3}), "three numbers each"),
        (foreign(class_names=["a", "a"]), "class names must differ"),
        (foreign(class_names={"0": "a", "2": "b"}), "numbered from 0 without a gap"),
        (foreign(class_names=[str(n) for n in range(5000)]), "2 to 1000 classes"),
        (foreign(model_state_dict=weights(**{"model.bn1.weight": torch.full((8,), torch.nan)})), "finite|instead of"),
        (foreign(model_state_dict={f"{p}.{k}": v for p in ("x", "y") for k, v in weights().items()}), "is missing"),
        (foreign(model_state_dict=[1]), "must be named tensors"),
        (foreign(best=np.arange(3)), "plain tensors and data alone, but .* holds numpy"),
    ],
)
def test_an_alien_checkpoint_gets_one_line_with_the_reason(tmp_path: Path, values: object, message: str):
    torch.save(values, tmp_path / "alien.pt")
    with pytest.raises(ResultError, match=message) as caught:
        open_model(tmp_path / "alien.pt")
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)


def test_a_weight_that_is_no_number_is_refused(tmp_path: Path):
    spoiled = {name: value.clone() for name, value in weights().items()}
    spoiled["model.classifier.bias"][0] = torch.nan
    torch.save(foreign(model_state_dict=spoiled), tmp_path / "nan.pt")
    with pytest.raises(ResultError, match=r"must be finite, but in .* 'classifier.bias' is not"):
        open_model(tmp_path / "nan.pt")


def test_a_small_file_cannot_ask_for_a_huge_model(tmp_path: Path):
    """Repeated values take four bytes in the file and gigabytes in the model."""
    with torch.device("meta"):
        shapes = timm.create_model("vit_giant_patch14_224", num_classes=2).state_dict()
    one = torch.zeros(1)
    values = {name: one.expand(value.shape) for name, value in shapes.items()}
    torch.save(
        foreign(config={"backbone": "vit_giant_patch14_224", "image_size": 224}, model_state_dict=values), tmp_path / "a.pt"
    )
    assert (tmp_path / "a.pt").stat().st_size < 10**6
    with pytest.raises(ResultError, match="larger than the file"):
        open_model(tmp_path / "a.pt")


def test_a_backbone_that_cannot_take_its_images_is_refused(tmp_path: Path):
    model = timm.create_model("vit_tiny_patch16_224", num_classes=2)
    values = foreign(model_state_dict=model.state_dict(), config={"backbone": "vit_tiny_patch16_224", "image_size": 96})
    torch.save(values, tmp_path / "vit.pt")
    with pytest.raises(ResultError, match="vit_tiny_patch16_224 takes none of 96 px"):
        open_model(tmp_path / "vit.pt")


@pytest.fixture
def exported(finished: Finished, tmp_path: Path) -> Path:
    folder = export_search(finished.checkpoints, results=finished.results, source=finished.source)[0].folder
    return Path(shutil.copytree(folder, tmp_path / "export"))


class Code:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pth", "model.bin", "open_clip_pytorch_model.bin"])
def test_a_pickle_in_a_folder_is_never_read(exported: Path, tmp_path: Path, name: str):
    (exported / "timm" / "model.safetensors").unlink()
    torch.save({"state_dict": Code(tmp_path / "ran")}, exported / "timm" / name)
    with pytest.raises(ResultError, match=r"has no model\.safetensors"):
        open_model(exported / "timm")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("file", ["timm/model.safetensors", "timm/config.json", "model.onnx", "best_stratified.pt"])
def test_one_flipped_bit_in_an_export_is_refused(exported: Path, file: str):
    content = bytearray((exported / file).read_bytes())
    content[len(content) // 2] ^= 1
    (exported / file).unlink()  # it may be a link to the checkpoint itself
    (exported / file).write_bytes(content)
    with pytest.raises(ResultError, match="SHA-256 is not that in"):
        open_model(exported / file.split("/", maxsplit=1)[0])


def test_a_calibration_that_was_changed_is_refused(exported: Path):
    path = exported / "tune_btxrd.json"
    path.write_text(path.read_text().replace('"positive_class"', '"positive_class" ', 1))  # one byte more, the same meaning
    with pytest.raises(ResultError, match=r"tune_btxrd\.json must be what was exported, but its SHA-256"):
        open_model(exported / "best_stratified.pt")


def test_a_folder_copied_without_its_manifest_still_opens(exported: Path, tmp_path: Path):
    shutil.copytree(exported / "timm", tmp_path / "alone")
    assert open_model(tmp_path / "alone").info.class_names == ("Normal", "Benign", "Malignant")


@pytest.mark.parametrize("form", ["timm/model.safetensors", "model.onnx"])
def test_one_flipped_bit_is_refused_also_where_a_form_was_copied_alone(exported: Path, tmp_path: Path, form: str):
    alone = tmp_path / form.split("/", maxsplit=1)[0]
    source = exported / form.split("/", maxsplit=1)[0]
    shutil.copytree(source, alone) if source.is_dir() else shutil.copy(source, alone)
    file = tmp_path / form
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1  # in the middle of the weights
    file.write_bytes(content)
    with pytest.raises(ResultError, match="SHA-256"):
        open_model(alone)


def without_manifest(exported: Path) -> Path:
    (exported / "manifest.json").unlink()
    return exported


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: [1], "must be a JSON object"),
        (lambda c: c | {"tune_btxrd": 5}, "must describe a model"),
        (
            lambda c: c | {"tune_btxrd": {k: v for k, v in c["tune_btxrd"].items() if k != "image_size"}},
            "'image_size' is missing",
        ),
        (lambda c: c | {"tune_btxrd": c["tune_btxrd"] | {"image_size": 10**6}}, "image_size <= 2048"),
        (lambda c: c | {"tune_btxrd": c["tune_btxrd"] | {"mean": "abc"}}, "another kind"),
        (lambda c: c | {"tune_btxrd": c["tune_btxrd"] | {"decisions": [1]}}, "another kind"),
        (lambda c: c | {"tune_btxrd": c["tune_btxrd"] | {"backbone": "resnet18"}}, "must agree with itself"),
        (lambda c: c | {"architecture": "resnet18"}, "must agree with itself"),
        (lambda c: c | {"label_names": ["b", "a", "c"]}, "must agree with itself"),
        (lambda c: {k: v for k, v in c.items() if k != "tune_btxrd"}, "must carry its preprocessing"),
        (lambda c: c | {"model_args": {"img_size": 10**6}}, "must be plain"),
    ],
)
def test_a_hostile_config_of_a_folder_gets_one_line(exported: Path, change: Any, message: str):
    path = without_manifest(exported) / "timm" / "config.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(ResultError, match=message) as caught:
        open_model(exported / "timm")
    assert "\n" not in str(caught.value)


def test_json_that_nests_too_deep_gets_one_line(exported: Path):
    (without_manifest(exported) / "timm" / "config.json").write_text("[" * 10**6)
    with pytest.raises(ResultError, match="damaged"):
        open_model(exported / "timm")


def test_cut_and_changed_safetensors_get_one_line(exported: Path):
    path = without_manifest(exported) / "timm" / "model.safetensors"
    config = path.with_name("config.json")
    values = json.loads(config.read_text())
    del values["tune_btxrd"]["weights_sha256"]  # as version 0.1.0 wrote it, or as a stranger does
    config.write_text(json.dumps(values))
    tensors = load_file(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ResultError, match="must be whole, but it is damaged"):
        open_model(exported / "timm")
    save_file(tensors | {"classifier.bias": torch.tensor([0.0, torch.inf, 0.0])}, path)
    with pytest.raises(ResultError, match="must be finite"):
        open_model(exported / "timm")


def test_onnx_that_gives_no_number_is_refused(exported: Path):
    path = without_manifest(exported) / "model.onnx"
    graph = onnx.load(path)
    bias = next(item for item in graph.graph.initializer if item.name.endswith("classifier.bias"))
    bias.CopyFrom(onnx.numpy_helper.from_array(np.full(3, np.nan, dtype=np.float32), bias.name))
    own = next(item for item in graph.metadata_props if item.key == "tune_btxrd")
    own.value = json.dumps(json.loads(own.value) | {"weights_sha256": graph_sha256(graph)})  # a stranger's own
    onnx.save(graph, path)
    with pytest.raises(ResultError, match="logits must be finite"):
        open_model(path).logits(np.zeros((1, 32, 32), dtype=np.uint8))


def test_a_calibration_of_another_checkpoint_is_said(exported: Path):
    path = without_manifest(exported) / "tune_btxrd.json"
    assert open_model(exported / "best_stratified.pt").notes == ()
    path.write_text(json.dumps(json.loads(path.read_text()) | {"checkpoint_sha256": "0" * 64}))
    predictor = open_model(exported / "best_stratified.pt")
    assert predictor.info.decisions is None and "fitted for another checkpoint" in predictor.notes[0]
    path.write_text("{")
    with pytest.raises(ResultError, match=r"tune_btxrd\.json must be JSON"):
        open_model(exported / "best_stratified.pt")
