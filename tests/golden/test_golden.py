"""Numbers that no change of structure may move: trainings, a search, a retrain, an evaluation, a prediction on the phantom.

`numbers.json` was recorded on commit 2fa4b01, before the package was rearranged. On the machine kind that recorded it
(CPU, versions) they must be equal to the bit; elsewhere floating-point sums differ in their last digits, and trainings are
compared with a tolerance. `python tests/golden/test_golden.py FILE` records them anew.
"""

import json
import math
import os
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from tune_btxrd.cli.main import main
from tune_btxrd.config import TrainConfig
from tune_btxrd.training.loop import train
from tune_btxrd.training.slot import Slot
from tune_btxrd.training.source import Source

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
SPLITS = ("stratified", "center")
NUMBERS = HERE / "numbers.json"
PHANTOM = ["--phantom-count", "90", "--phantom-size", "96", "--image-size", "32", "--backbone", "test_efficientnet"]
CLOCKED = ("time", "slot", "images_per_second", "train_seconds", "val_seconds")
RECORDED_THREADS = 2  # of the evaluation; slots have one each
TOLERANCE = 0.05  # on another kind of machine
CONFIGS: dict[str, dict[str, Any]] = {
    "test_efficientnet": {},
    "test_resnet": {"backbone": "test_resnet"},
    "staged": {"stages": "two_phase", "reload_best": True},
    "ldam": {"loss": "ldam", "head": "cosine", "reweighting": "effective", "reweight_from": 2, "monitor": "macro_auc"},
}
SMALL = {"backbone": "test_efficientnet", "pretrained": False, "image_size": 32, "epochs": 3, "batch_size": 16}


def observe(folder: Path) -> dict[str, Any]:
    """Every number, made in this folder (the working directory)."""
    where = ["--cache", str(folder / "cache")]
    slots = ["--slots", "1", "--cpus-per-trial", "1"]
    run("search", "--name", "golden", "--space", str(HERE / "search.yaml"), *PHANTOM, *slots, *where)
    run("retrain", "golden", "--cache", str(folder / "cache"))
    run("evaluate", "golden", "--yes", "--device", "cpu")
    image = sorted((folder / "cache").glob("phantom-*/images/*"))[:3]
    answer = ["--format", "json", "--output", "answer.json", "--device", "cpu"]
    run("predict", "checkpoints/golden/best_center.pt", *map(str, image), *answer)
    checkpoints = folder / "checkpoints" / "golden"
    return {
        "machine": machine(),
        "trainings": trainings(folder / "ray_results" / "golden"),
        "journal": journal(folder / "ray_results" / "golden" / "journal.jsonl"),
        "retrain": {split: table(checkpoints / split / "training_log.csv") for split in SPLITS},
        "evaluation": {split: table(checkpoints / split / "evaluation" / "scores.csv") for split in SPLITS},
        "prediction": [without_paths(item) for item in json.loads((folder / "answer.json").read_text())["images"]],
    }


def run(*arguments: str) -> None:
    """A verb that must succeed."""
    assert main(list(arguments)) == 0, arguments


def trainings(results: Path) -> dict[str, list[dict[str, Any]]]:
    """Three epochs of each of CONFIGS on the search's split."""
    source = Source.from_dict(json.loads((results / "search.json").read_text())["source"])
    slot = Slot(device="cpu", threads=1)
    found = {}
    for name, changes in CONFIGS.items():
        state = slot.start(TrainConfig.from_dict(SMALL | changes), source.training_data("common"), keep_best=True)
        list(train(state))
        found[name] = [unclocked(row.to_dict()) for row in state.history]
    return found


def journal(path: Path) -> list[dict[str, Any]]:
    """Every event of the trials, without what a clock decides."""
    events = [json.loads(line) for line in path.read_text().splitlines()]
    return [unclocked(event) for event in events if event["event"] != "session"]


def table(path: Path) -> list[dict[str, Any]]:
    """A CSV file, every digit kept."""
    rows: list[dict[str, Any]] = json.loads(pd.read_csv(path).to_json(orient="records", double_precision=15))
    return [unclocked(row) for row in rows]


def unclocked(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in CLOCKED}


def without_paths(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "file"}


def machine() -> dict[str, str]:
    """What decides the last bits: processor and versions."""
    info = Path("/proc/cpuinfo")
    models = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    packages = {name: version(name) for name in ("torch", "timm", "numpy", "optuna", "scikit-learn", "pillow")}
    return {"processor": models[0] if models else platform.processor(), **packages}


def differences(old: Any, new: Any, *, tolerance: float, path: str = "") -> list[str]:
    """Places where two documents differ: numbers by more than the tolerance, all else at all; new names are none."""
    if isinstance(old, dict):
        absent = [f"{path}/{name} is gone" for name in old.keys() - new.keys()]
        pairs = [(name, old[name], new[name]) for name in old.keys() & new.keys()]
        return absent + [d for name, a, b in pairs for d in differences(a, b, tolerance=tolerance, path=f"{path}/{name}")]
    if isinstance(old, list):
        if len(old) != len(new):
            return [f"{path} has {len(new)} entries instead of {len(old)}"]
        pairs = [(str(index), a, b) for index, (a, b) in enumerate(zip(old, new, strict=True))]
        return [d for name, a, b in pairs for d in differences(a, b, tolerance=tolerance, path=f"{path}/{name}")]
    if isinstance(old, float) and isinstance(new, float | int):
        same = old == new or math.isclose(old, new, rel_tol=tolerance, abs_tol=tolerance)
        return [] if same else [f"{path} is {new!r} instead of {old!r}"]
    return [] if old == new else [f"{path} is {new!r} instead of {old!r}"]


def test_numbers_do_not_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(RECORDED_THREADS)
    try:
        old, new = json.loads(NUMBERS.read_text()), observe(tmp_path)
    finally:
        torch.set_num_threads(threads)
    if old["machine"] == new["machine"]:
        assert not differences(old, new, tolerance=0)
    else:  # sums of another processor or version: the trainings alone are near enough to be compared
        assert not differences(old["trainings"], new["trainings"], tolerance=TOLERANCE)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as aside:
        os.chdir(aside)
        text = json.dumps(observe(Path(aside)), indent=1) + "\n"
    Path(sys.argv[1]).write_text(text)
