# ruff: noqa: F811  # pytest hands fixtures over by name
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image
from torch import nn

from tests.support.finished_search import SIZE, Finished, finished  # noqa: F401  # a fixture
from tune_btxrd.cli.main import main
from tune_btxrd.data.splits.split_files import load_split
from tune_btxrd.errors import ResultError
from tune_btxrd.evaluation.explain import explain_search
from tune_btxrd.inference.export import write_onnx
from tune_btxrd.inference.grad_cam import explain_files, feature_layer, grad_cam
from tune_btxrd.inference.model_info import ModelInfo
from tune_btxrd.inference.open_model import open_checkpoint, open_onnx, torch_predictor


class Spot(nn.Module):
    """Class 1 is the mean of the picture; class 0 nothing: the heat for class 1 is the picture itself."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(3, 1, 1, bias=False)
        nn.init.constant_(self.maps.weight, 1 / 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = self.maps(x).mean(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(mean), mean], dim=1)


def test_heat_of_a_model_that_is_known():
    info = ModelInfo(
        backbone="spot", image_size=16, mean=(0, 0, 0), std=(1, 1, 1), class_names=("a", "b"), checkpoint_sha256=""
    )
    images = np.zeros((2, 16, 16), dtype=np.uint8)
    images[0, 3:6, 9:12] = 200
    images[1, 12, 1] = 255
    heat = grad_cam(torch_predictor(Spot(), info), images, np.array([1, 1]))
    assert heat.shape == (2, 16, 16) and heat.max() == pytest.approx(1, abs=1e-4)
    assert np.array_equal(heat[0] > 0.5, images[0] > 0) and np.array_equal(heat[1] > 0.5, images[1] > 0)


def test_the_validation_part_is_explained_and_no_other(finished: Finished):
    seen = []
    found = explain_search(
        finished.checkpoints,
        results=finished.results,
        source=finished.source,
        manifest=finished.manifest,
        splits=["stratified"],
        device="cpu",
        progress=lambda done, total: seen.append((done, total)),
    )
    assert [(item.split, item.part) for item in found] == [("stratified", "val")]
    folder = finished.checkpoints / "stratified" / "explain"
    with Image.open(folder / "sheet.png") as sheet:
        assert sheet.width > 1000
    table = pd.read_csv(folder / "pointing.csv")
    split = load_split(finished.results / "splits" / "stratified.csv", finished.manifest)
    annotated = {i for i in split.parts["val"] if finished.manifest.annotations[finished.manifest.row_of[i]] is not None}
    assert set(table["image_id"]) == annotated and found[0].pointing.hits.asked == len(annotated) == seen[-1][1]
    assert found[0].pointing.hits.found == table["hit"].sum()
    assert 0.03 < found[0].pointing.chance < 0.12  # a square of 14 px in 48 x 60


def test_overlays_of_files(finished, tmp_path):
    files = sorted((finished.data / "images").iterdir())[:2]
    written = explain_files(open_checkpoint(finished.checkpoint(), device="cpu"), files, tmp_path / "out")
    assert [path.name.split("_")[0] for path in written] == ["IMG000000", "IMG000001"]
    with Image.open(written[0]) as picture:
        assert picture.size == (2 * 512, 512)


def test_onnx_has_no_gradients(finished, tmp_path, capsys):
    write_onnx(open_checkpoint(finished.checkpoint()), tmp_path / "model.onnx")
    flags = ["predict", str(tmp_path / "model.onnx"), str(finished.data / "images"), "--overlays", str(tmp_path / "looks")]
    assert main(flags) == 2
    shown = capsys.readouterr()
    assert "needs gradients" in shown.err and not shown.out and not (tmp_path / "looks").exists()  # before any work
    with pytest.raises(ResultError, match="needs gradients"):
        grad_cam(open_onnx(tmp_path / "model.onnx"), np.zeros((1, SIZE, SIZE), dtype=np.uint8), np.array([0]))


def test_layers_of_other_backbones():
    efficientnet = timm.create_model("test_efficientnet", num_classes=3).eval()
    assert feature_layer(efficientnet, 224) is efficientnet.bn2
    small = feature_layer(efficientnet, 64)  # where bn2 has 2 x 2 cells
    assert any(small is module for name, module in efficientnet.named_modules() if name.startswith("blocks.3.0"))
    resnet = timm.create_model("test_resnet", num_classes=3).eval()
    assert any(feature_layer(resnet, 224) is module for name, module in resnet.named_modules() if name.startswith("layer4"))
    with pytest.raises(ResultError, match="gives none"):
        feature_layer(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2)), 8)


def test_folder_of_the_fixture_is_untouched(finished):
    assert not (Path(finished.checkpoints) / "center" / "explain").exists()
