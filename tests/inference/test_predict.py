# ruff: noqa: F811  # pytest hands fixtures over by name
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tests.support.datasets import SHARED, needs_shared
from tests.support.finished_search import SIZE, Finished, finished  # noqa: F401  # a fixture
from tests.support.paths import ROOT
from tune_btxrd.data.cache.cache import build_cache
from tune_btxrd.data.cache.hashes import file_hashes
from tune_btxrd.data.readers.registry import read_dataset
from tune_btxrd.errors import DataError
from tune_btxrd.evaluation.evaluate import open_test_parts, seal_search
from tune_btxrd.inference.export import export_search
from tune_btxrd.inference.model_info import ModelInfo
from tune_btxrd.inference.open_model import Predictor, open_checkpoint
from tune_btxrd.inference.predict import RULE, Predictions, _disagreement, image_files, predict_images, rank_uncertain
from tune_btxrd.scoring.calibration import Calibration
from tune_btxrd.scoring.decisions import Decisions
from tune_btxrd.training.loop import predict as loop_predict
from tune_btxrd.training.pixels import Pixels


@pytest.fixture(scope="module")
def exported(finished: Finished) -> Path:
    return export_search(finished.checkpoints, results=finished.results, source=finished.source)[0].folder


def test_equal_to_the_evaluation_on_thirty_files(finished):
    """The test parts hold L and RGB files and some that EXIF turns; predict decodes the files, evaluate reads the cache."""
    sealed = seal_search(
        finished.checkpoints,
        results=finished.results,
        source=finished.source,
        manifest=finished.manifest,
        replicates=10,
        device="cpu",
    )
    open_test_parts(sealed)
    table = pd.read_csv(finished.checkpoints / "center" / "evaluation" / "predictions.csv")
    files = [finished.data / "images" / name for name in table["image_id"]]
    kinds = [header(file) for file in files]
    assert len(files) >= 30 and {mode for mode, _ in kinds} == {"L", "RGB"} and sum(turned for _, turned in kinds) >= 3
    found = predict_images(finished.checkpoint("center"), files, device="cpu")
    np.testing.assert_allclose(found.logits, table[[f"logit_{n}" for n in found.info.class_names]], atol=1e-5)
    assert [file.name for file in found.files] == list(table["image_id"])


def header(file: Path) -> tuple[str, bool]:
    with Image.open(file) as image:
        return image.mode, 0x0112 in image.getexif()


@needs_shared
def test_thirty_genuine_radiographs_equal_the_training_loop(tmp_path, finished):
    manifest = read_dataset(SHARED / "btxrd_sample30")
    hashes = file_hashes(manifest, cache_dir=tmp_path)
    cache = build_cache(manifest, image_size=SIZE, cache_dir=tmp_path, hashes=hashes)
    predictor = open_checkpoint(finished.checkpoint())
    found = predict_images(finished.checkpoint(), manifest.files, device="cpu")
    mean, std = torch.tensor(predictor.info.mean), torch.tensor(predictor.info.std)
    pixels, rows = Pixels(cache.images, torch.device("cpu")), torch.arange(30)
    expected = loop_predict(predictor.model, pixels, rows, mean=mean, std=std, precision="fp32").numpy()
    assert len(found.files) == 30
    np.testing.assert_allclose(found.logits, expected, atol=1e-5)


def test_pt_timm_folder_and_onnx_predict_alike(exported, finished):
    names = ("best_stratified.pt", "timm", "model.onnx")
    own, plain, graph = (predict_images(exported / name, [finished.data / "images"], device="cpu") for name in names)
    assert len(own.files) == 96
    np.testing.assert_allclose(plain.logits, own.logits, atol=1e-6)
    np.testing.assert_allclose(graph.logits, own.logits, atol=1e-4)
    assert own.to_csv().splitlines()[0] == graph.to_csv().splitlines()[0]
    assert list(own.table.columns[-3:]) == [
        "Malignant at Youden",
        "Malignant at sensitivity >= 0.90",
        "Malignant at specificity >= 0.95",
    ]


def test_onnx_predicts_without_torch(exported, finished):
    code = (
        "import sys; from tune_btxrd.inference.predict import predict_images;"
        f"found = predict_images({str(exported / 'model.onnx')!r}, [{str(finished.data / 'images')!r}]);"
        "assert len(found.files) == 96; sys.exit(int('torch' in sys.modules or 'timm' in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_broken_images_are_reported_and_the_rest_goes_on(tmp_path, exported, finished):
    good = sorted((finished.data / "images").iterdir())[:3]
    (tmp_path / "cut.jpeg").write_bytes(good[0].read_bytes()[:200])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("hello")
    seen = []
    paths = [good[0], tmp_path / "cut.jpeg", good[1], tmp_path / "empty.png", tmp_path / "notes.txt", good[2]]
    found = predict_images(exported / "model.onnx", paths, progress=lambda done, total: seen.append((done, total)))
    assert found.files == tuple(good) and len(found.logits) == 3 and seen[-1] == (6, 6)
    assert [file.name for file, _ in found.broken] == ["cut.jpeg", "empty.png", "notes.txt"]
    assert dict((f.name, r) for f, r in found.broken)["empty.png"] == "is empty (0 bytes)"
    values = json.loads(found.to_json())
    assert len(values["images"]) == 3 and len(values["broken"]) == 3


def test_all_broken_is_no_crash(tmp_path, exported):
    (tmp_path / "empty.png").write_bytes(b"")
    found = predict_images(exported / "model.onnx", [tmp_path])
    assert found.files == () and len(found.table) == 0 and len(found.broken) == 1


def test_folders_are_searched_and_files_named_are_taken_once(tmp_path):
    for name in ("b.PNG", "sub/a.jpg", ".hidden.png", "table.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = image_files([tmp_path / "b.PNG", tmp_path])
    assert [str(file.relative_to(tmp_path)) for file in found] == ["b.PNG", "sub/a.jpg"]
    with pytest.raises(DataError, match=r"absent\.png does not"):
        image_files([tmp_path / "absent.png"])
    with pytest.raises(DataError, match="holds none"):
        (tmp_path / "nothing").mkdir()
        image_files([tmp_path / "nothing"])


def made(logits: list[list[float]], names: list[str]) -> Predictions:
    info = ModelInfo(
        backbone="b", image_size=8, mean=(0, 0, 0), std=(1, 1, 1), class_names=("x", "y", "z"), checkpoint_sha256=""
    )
    return Predictions(info=info, files=tuple(map(Path, names)), logits=np.array(logits, dtype=np.float32), broken=())


def test_ranking_by_hand():
    found = made([[9, 0, 0], [0, 0, 0], [1, 1, -9], [2, 0, 0]], ["sure.png", "even.png", "=two.png", "known.png"])
    ranked = rank_uncertain(found, labelled={"known.png"})
    assert list(ranked["file"]) == ["even.png", "./=two.png", "sure.png"] and list(ranked["rank"]) == [1, 2, 3]
    assert ranked["entropy"][0] == pytest.approx(np.log(3)) and ranked["entropy"][1] == pytest.approx(np.log(2), abs=1e-3)
    assert ranked["margin"][1] == pytest.approx(0) and (ranked["label"] == "").all()


def test_without_calibration_there_are_probabilities_alone():
    table = made([[9.0, 0, 0]], ["a.png"]).table
    assert list(table.columns) == ["file", "predicted", "rule", "probability_x", "probability_y", "probability_z"]
    assert table["predicted"].item() == "x"


def test_the_label_is_of_one_rule_that_the_output_names():
    """A calibration that takes back the class weights makes another class the most probable one; it is said."""
    found = made([[2.0, 1, 0], [0, 3.0, 0]], ["a.png", "b.png"])
    calibration = Calibration(temperature=1.0, bias=(-2.0, 2.0, 0.0))
    decisions = Decisions(positive_class=1, images=20, calibration=calibration, operating_points=())
    predictor = Predictor(info=replace(found.info, decisions=decisions), forward=lambda images: found.logits[: len(images)])
    told = replace(found, info=predictor.info, notes=tuple(_disagreement(replace(found, info=predictor.info))))
    assert list(told.table["predicted"]) == ["x", "y"] and set(told.table["rule"]) == {RULE}
    assert told.notes == (
        f"For 1 of 2 images another class than the predicted one is the most probable after calibration; "
        f"`predicted` is the {RULE}.",
    )
    assert json.loads(told.to_json())["rule"] == RULE
    assert set(rank_uncertain(told)["predicted"]) == {"x", "y"}
