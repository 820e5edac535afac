# ruff: noqa: F811  # pytest hands fixtures over by name
import json
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
import timm
import torch

from tests.support.finished_search import SIZE, Finished, finished  # noqa: F401  # a fixture
from tests.support.paths import ROOT
from tune_btxrd.errors import ResultError
from tune_btxrd.files import file_sha256
from tune_btxrd.inference import export
from tune_btxrd.inference.export import export_search, with_decisions
from tune_btxrd.inference.open_model import network_input, open_checkpoint, open_model
from tune_btxrd.results.checkpoints import finished_splits


@pytest.fixture(scope="module")
def exported(finished: Finished) -> list[export.Exported]:
    return export_search(finished.checkpoints, results=finished.results, source=finished.source)


def test_each_split_is_exported_and_every_file_is_in_the_manifest(exported, finished):
    assert [item.split for item in exported] == ["stratified", "center"]
    for item in exported:
        manifest = json.loads((item.folder / "manifest.json").read_text())
        found = {str(path.relative_to(item.folder)) for path in item.folder.rglob("*") if path.is_file()} - {"manifest.json"}
        assert found == set(manifest["files"]) == set(item.files) | {"MODEL_CARD.md"}
        assert all(file_sha256(item.folder / name) == digest for name, digest in manifest["files"].items())
        assert item.files[f"best_{item.split}.pt"] == file_sha256(finished.checkpoint(item.split))
        assert item.images == 14 or item.split == "center"


def test_three_lines_load_a_checkpoint_into_plain_timm(finished):
    predictor = open_checkpoint(finished.checkpoint())
    images = finished.source.training_data("stratified").images[:7]

    checkpoint = torch.load(finished.checkpoint(), weights_only=True)
    model = timm.create_model(checkpoint["config"]["backbone"], num_classes=len(checkpoint["class_names"]))
    model.load_state_dict(checkpoint["model_state_dict"])

    norm = checkpoint["normalization"]
    mean, std = (torch.tensor(norm[key]).view(3, 1, 1) for key in ("mean", "std"))
    pixels = torch.from_numpy(np.array(images)).unsqueeze(1).expand(-1, 3, -1, -1) / 255
    with torch.no_grad():
        plain = model.eval()((pixels - mean) / std).numpy()
    np.testing.assert_allclose(plain, predictor.logits(images), atol=2e-5)


def test_pt_timm_folder_and_onnx_give_the_same_logits(exported, finished):
    images = finished.source.training_data("stratified").images[:5]
    folder = exported[0].folder
    own, plain, graph = (open_model(folder / name).logits(images) for name in ("best_stratified.pt", "timm", "model.onnx"))
    np.testing.assert_array_equal(own, plain)
    np.testing.assert_allclose(graph, own, atol=1e-4)
    assert exported[0].differences["timm"] == 0 and exported[0].differences["onnx"] < 1e-4


def test_the_folder_that_export_names_opens_too(exported, finished, tmp_path):
    images = finished.source.training_data("stratified").images[:5]
    folder = exported[0].folder
    np.testing.assert_array_equal(open_model(folder).logits(images), open_model(folder / "timm").logits(images))
    bare = shutil.copytree(folder, tmp_path / "export", ignore=shutil.ignore_patterns("timm"))  # as of `head: mlp`
    np.testing.assert_array_equal(open_model(bare).logits(images), open_model(folder / "model.onnx").logits(images))


def test_timm_alone_loads_the_folder(exported):
    model = timm.create_model(f"local-dir:{exported[0].folder / 'timm'}", pretrained=True)
    assert model.num_classes == 3
    config = timm.data.resolve_model_data_config(model)
    assert config["input_size"] == (3, SIZE, SIZE) and config["crop_mode"] == "border" and config["crop_pct"] == 1.0
    checkpoint = torch.load(exported[0].folder / "best_stratified.pt", weights_only=True)
    assert torch.equal(model.state_dict()["classifier.bias"], checkpoint["model_state_dict"]["classifier.bias"])


def test_onnx_takes_any_batch_and_describes_its_input(exported):
    graph = onnx.load(exported[0].folder / "model.onnx")
    metadata = {entry.key: entry.value for entry in graph.metadata_props}
    assert "black 32 x 32 square" in metadata["preprocessing"] and metadata["use"] == "Not for clinical use."
    values = json.loads(metadata["tune_btxrd"])
    assert values["class_names"] == ["Normal", "Benign", "Malignant"] and values["decisions"]["positive_class"] == 2
    predictor = open_model(exported[0].folder / "model.onnx")
    images = np.zeros((33, SIZE, SIZE), dtype=np.uint8)
    assert predictor.logits(images).shape == (33, 3) and predictor.logits(images[:1]).shape == (1, 3)


def test_decisions_come_from_the_validation_part_alone(finished, exported):
    data = finished.source.training_data("stratified")
    predictor = open_checkpoint(finished.checkpoint("stratified"))
    decisions = with_decisions(predictor, source=finished.source, split="stratified").info.decisions
    assert decisions.images == len(data.val_rows) == 14
    assert open_model(exported[0].folder / "model.onnx").info.decisions == decisions
    assert predictor.info.decisions == decisions, "found beside the checkpoint, by its hash"
    assert open_checkpoint(finished.checkpoints / "stratified" / "hand_made" / "best.pt").info.decisions is None


def test_a_format_with_other_numbers_is_not_exported(finished, tmp_path, monkeypatch):
    real = export.write_onnx  # runs after the timm folder has been written

    def spoiled(predictor, path):
        with torch.no_grad():
            predictor.model.classifier.bias += 0.01
        real(predictor, path)

    monkeypatch.setattr(export, "write_onnx", spoiled)
    with pytest.raises(ResultError, match=r"onnx is off by 0\.01"):
        split = finished_splits(finished.checkpoints)[0]
        export.export_checkpoint(split, tmp_path / "export", source=finished.source, results=finished.results)
    assert list(tmp_path.iterdir()) == []


def test_no_checkpoint_is_one_line(tmp_path, finished):
    with pytest.raises(ResultError, match=r"best_<split>\.pt, but holds none: run `retrain"):
        export_search(tmp_path, results=finished.results, source=finished.source)


def test_network_input_by_hand(exported):
    info = open_model(exported[0].folder / "model.onnx").info
    pixels = network_input(np.full((1, 2, 2), 51, dtype=np.uint8), info)
    assert pixels.shape == (1, 3, 2, 2) and pixels.dtype == np.float32
    np.testing.assert_allclose(pixels[0, :, 0, 0], (0.2 - np.array(info.mean)) / np.array(info.std), rtol=1e-6)


def test_damaged_files_get_one_line(tmp_path, finished, exported):
    (tmp_path / "cut.pt").write_bytes(finished.checkpoint().read_bytes()[:5000])
    (tmp_path / "cut.onnx").write_bytes((exported[0].folder / "model.onnx").read_bytes()[:5000])
    for name in ("cut.pt", "cut.onnx", "absent.pt"):
        with pytest.raises(ResultError) as caught:
            open_model(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_onnx_is_used_without_torch(exported):
    code = (
        "import sys; from pathlib import Path; import numpy as np; from tune_btxrd.inference.open_model import open_model;"
        f"p = open_model(Path({str(exported[0].folder / 'model.onnx')!r}));"
        f"p.logits(np.zeros((2, {SIZE}, {SIZE}), dtype=np.uint8));"
        "sys.exit(int('torch' in sys.modules or 'timm' in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_checkpoint_in_an_export_takes_no_space(exported, finished, tmp_path, monkeypatch):
    for item in exported:
        assert (item.folder / f"best_{item.split}.pt").samefile(finished.checkpoint(item.split))

    def no_links(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(export.os, "link", no_links)
    split = finished_splits(finished.checkpoints)[0]
    export.export_checkpoint(split, tmp_path / "export", source=finished.source, results=finished.results)
    manifest = json.loads((tmp_path / "export" / "manifest.json").read_text())
    assert not (tmp_path / "export" / "best_stratified.pt").exists()
    assert (tmp_path / "export" / manifest["checkpoint"]).samefile(finished.checkpoint())
