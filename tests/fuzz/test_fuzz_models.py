"""Damaged and hostile checkpoints and exports through `predict`: one line or an answer, nothing run, nothing written."""
# ruff: noqa: F811  # pytest hands fixtures over by name

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.finished_search import Finished, finished  # noqa: F401  # a fixture
from tests.support.fuzz import Case, Fuzz, changed_json, check, damaged, run_verb, sealed
from tune_btxrd.inference.export import export_search

FILES = (
    "timm/model.safetensors",
    "timm/config.json",
    "model.onnx",
    "best_stratified.pt",
    "tune_btxrd.json",
    "manifest.json",
)


@pytest.fixture(scope="module")
def export(finished: Finished) -> Path:
    return export_search(finished.checkpoints, results=finished.results, source=finished.source)[0].folder


@pytest.fixture
def image(tmp_path: Path) -> Path:
    Image.fromarray(np.arange(3000, dtype=np.uint32).reshape(60, 50).astype(np.uint8)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def spoil(case: Case, folder: Path) -> str:
    """Changes one file of an export; returns what of it is then opened."""
    name = case.choice(FILES)
    file = folder / name
    content = file.read_bytes()
    file.unlink()
    if name.endswith(".json") and case.random() < 0.6:
        file.write_text(json.dumps(changed_json(case, json.loads(content))))
    else:
        file.write_bytes(damaged(case, content))
    if case.random() < 0.7:
        (folder / "manifest.json").unlink(missing_ok=True)  # what it would find is not to hide what the readers do
    return {"timm": "timm", "tune_btxrd.json": "best_stratified.pt", "manifest.json": "timm"}.get(name.split("/")[0], name)


def test_damaged_exports(fuzz: Fuzz, export: Path, image: Path, tmp_path: Path):
    opened = 0
    for case in fuzz.cases(150):
        folder = tmp_path / f"case{case.number}"
        shutil.copytree(export, folder)
        chosen = spoil(case, folder)
        with sealed(folder):
            outcome = run_verb("predict", str(folder / chosen), str(image), "--format", "json", "--device", "cpu")
        check(outcome)
        opened += outcome.code == 0
        if outcome.code == 0:
            row = json.loads(outcome.out)["images"][0]
            assert all(np.isfinite(value) for value in row.values() if isinstance(value, float))
        shutil.rmtree(folder)
    assert opened < 150 or fuzz.first is not None
