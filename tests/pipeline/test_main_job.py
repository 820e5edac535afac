"""The main job on a small phantom with a small network, from the command line, as a user runs it."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import timm
import torch

from tests.support.paths import ROOT
from tune_btxrd.cli.main import main
from tune_btxrd.search.record import read_search
from tune_btxrd.training.checkpoint import load_model

pytestmark = pytest.mark.slow

SMALL = ["--phantom-count", "90", "--phantom-size", "96", "--image-size", "32", "--backbone", "test_efficientnet"]
SIZED = [*(word for word in SMALL if word not in ("--image-size", "32"))]  # searched among 32 and 48 px
SIZED += ["--space", str(ROOT / "tests" / "support" / "sizes.yaml"), "--slots", "1"]
SHORT = ["--space", str(ROOT / "tests" / "support" / "small.yaml"), "--slots", "1"]  # two: test_dashboard
ENVIRONMENT = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 32, "COLUMNS": "200"}


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    """A verb in a process of its own, with `folder` as its working directory."""
    command = [sys.executable, "-m", "tune_btxrd", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stdout=pipe, stderr=subprocess.STDOUT, text=True)


def run(folder: Path, *arguments: str) -> str:
    """A verb that must succeed; what it printed."""
    process = start(folder, *arguments)
    shown, _ = process.communicate(timeout=500)
    assert process.returncode == 0, shown
    return shown


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished main job over two image sizes, and what it printed."""
    folder = tmp_path_factory.mktemp("job")
    return folder, run(folder, "run", "--name", "small", *SIZED, "--cache", str(folder / "cache"))


def test_it_says_what_a_user_needs(job: tuple[Path, str]) -> None:
    _, shown = job
    for words in (
        "Ray dashboard: http",
        "ray get-auth-token",
        "It will take about",
        "Winner: trial",
        "--resume",
        "Checkpoints:",
    ):
        assert words in shown
    assert re.search(r"stratified\W+winner", shown) and re.search(r"center\W+winner", shown)
    assert "Configuration for experiment" not in shown  # none of Tune's own output


def test_it_leaves_what_the_contract_names(job: tuple[Path, str]) -> None:
    folder, _ = job
    results, checkpoints = folder / "ray_results" / "small", folder / "checkpoints" / "small"
    for name in ("search.json", "space.yaml", "audit.json", "optuna.db", "trials.csv", "epochs.csv", "summary.json"):
        assert (results / name).stat().st_size > 0
    for split in ("stratified", "center"):
        assert (results / "splits" / f"{split}.csv").is_file()
        for name in ("training_log.csv", "loss_curve.png", "recall_curve.png", "export/manifest.json"):
            assert (checkpoints / split / name).is_file()
        assert (checkpoints / f"final_{split}.pt").is_file()
    columns = list(pd.read_csv(checkpoints / "center" / "training_log.csv"))
    recalls = [f"val_recall_{name}" for name in ("normal", "benign", "malignant")]
    assert columns[:8] == ["epoch", "train_loss", "val_loss", "val_acc", *recalls, "lr"]
    assert {*columns[:8], "val_macro_f1", "objective"} <= set(pd.read_csv(results / "epochs.csv"))
    assert not list((results / "trial_checkpoints").glob("*.pt"))  # every trial ended
    assert set(json.loads((results / "search.json").read_text())["environment"]["packages"]) >= {"torch", "ray", "optuna"}


def test_it_trains_and_delivers_at_each_size(
    job: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, shown = job
    assert re.search(r"an epoch: \S+ s at 32 px, \S+ s at 48 px; what fits was tried at 48 px", shown)
    record = read_search(folder / "ray_results" / "small")
    slots = {(trial.config["image_size"], trial.epochs[0]["slot"]) for trial in record.trials.values()}
    assert {size for size, _ in slots} == {32, 48} and len({slot for _, slot in slots}) == 1  # in turn, without a restart
    table = pd.read_csv(folder / "ray_results" / "small" / "tables" / "sizes.csv")
    assert table["image size, px"].tolist() == [32, 48] and table["trials"].sum() == 3
    checkpoints = folder / "checkpoints" / "small" / "stratified"
    winner = json.loads((checkpoints / "config.json").read_text())
    exported = json.loads((checkpoints / "export" / "timm" / "config.json").read_text())
    assert exported["pretrained_cfg"]["input_size"] == [3, winner["image_size"], winner["image_size"]]
    monkeypatch.chdir(folder)
    assert main(["trial", "small", "1", "--cache", str(folder / "cache")]) == 0
    assert "came out exactly as recorded" in capsys.readouterr().out
    assert main(["evaluate", "small", "--yes", "--splits", "stratified", "--cache", str(folder / "cache")]) == 0
    assert (checkpoints / "evaluation" / "scores.csv").is_file()


def test_the_three_readme_lines_load_the_winner_into_plain_timm(job: tuple[Path, str]) -> None:
    folder, _ = job
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = re.search(r"```python\n(import timm.*?)```", readme, re.DOTALL)
    assert lines, "the README shows how to load a checkpoint into timm"
    for split in ("stratified", "center"):
        path = folder / "checkpoints" / "small" / f"best_{split}.pt"
        code = lines[1].replace("checkpoints/NAME/best_stratified.pt", str(path))
        assert len([line for line in code.splitlines() if line]) == 3 + 1  # the import and three lines
        names: dict[str, object] = {}
        exec(code, names)  # the README's own words
        own, checkpoint = load_model(path)
        images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            assert torch.equal(names["model"].eval()(images), own(images))
        assert checkpoint["class_names"] == ["Normal", "Benign", "Malignant"]
        assert timm.__version__


def test_a_person_sees_where_the_winner_looks(
    job: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = job
    monkeypatch.chdir(folder)
    assert main(["explain", "small", "--splits", "center", "--device", "cpu"]) == 0
    assert "peak in the lesion" in capsys.readouterr().out
    explained = folder / "checkpoints" / "small" / "center" / "explain"
    assert {path.name for path in explained.iterdir()} == {"sheet.png", "pointing.csv", "pointing.json"}
    images = sorted((folder / "cache").glob("phantom-*/images/*"))[:2]
    (folder / "again").mkdir()
    twice = shutil.copy(images[0], folder / "again")  # another file of the same name
    arguments = ["predict", "checkpoints/small/best_center.pt", *map(str, images), str(twice), "--overlays", "looks"]
    assert main([*arguments, "--device", "cpu", "--format", "csv"]) == 0
    shown = capsys.readouterr()
    assert "3 overlay(s) in looks" in shown.err and len(list((folder / "looks").iterdir())) == 3
    assert len(pd.read_csv(io.StringIO(shown.out))) == 3  # nothing but the table


def test_once_more_changes_nothing_and_a_taken_name_is_refused(
    job: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = job
    monkeypatch.chdir(folder)
    checkpoint = folder / "checkpoints" / "small" / "best_center.pt"
    before = checkpoint.read_bytes(), (folder / "ray_results" / "small" / "trials.csv").read_text()
    assert main(["run", "--name", "small", "--resume", "--cache", str(folder / "cache")]) == 0
    assert "Winner: trial" in capsys.readouterr().out
    assert (checkpoint.read_bytes(), (folder / "ray_results" / "small" / "trials.csv").read_text()) == before
    assert main(["run", "--name", "small", *SMALL, *SHORT]) == 2
    assert "never overwritten" in capsys.readouterr().err


def test_a_moved_folder_retrains_to_other_checkpoints_with_averages(
    job: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = job
    shutil.copytree(folder / "ray_results", tmp_path / "ray_results")
    where = ["--checkpoints", str(tmp_path / "other"), "--splits", "center"]
    monkeypatch.chdir(tmp_path)
    words = ["retrain", "small", "--ensemble", "2", "--soup", *where]
    monkeypatch.setattr(sys, "argv", ["tune-btxrd", *words])
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert f"Next:        python -m tune_btxrd report small --checkpoints {tmp_path / 'other'}" in shown
    assert "center, ensemble minus winner on validation" in shown and "--ensemble 2 --soup" in shown
    root = tmp_path / "other" / "small"
    assert (root / "best_center.pt").is_file() and not (root / "center" / "hand_made" / "seed_43").exists()
    assert (root / "center" / "soup" / "best_center.pt").is_file()
    summary = json.loads((tmp_path / "ray_results" / "small" / "summary.json").read_text())
    assert [item["kind"] for item in summary["averages"]] == ["ensemble", "soup"]
    assert main(["report", "small", "--checkpoints", str(tmp_path / "other")]) == 0
    assert "soup minus winner on validation" in (tmp_path / "ray_results" / "small" / "report.html").read_text()
    table = pd.read_csv(tmp_path / "ray_results" / "small" / "tables" / "final_job.csv")
    assert "ensemble of 2" in set(table["config"])
    before, after = (json.loads((root / "ray_results/small/search.json").read_text()) for root in (folder, tmp_path))
    assert after["checkpoints"] == str(tmp_path / "other" / "small")
    assert after["environment"] == before["environment"] and after["resumed"][-1]["command"][1] == "retrain"


def test_ctrl_c_leaves_a_search_that_goes_on(tmp_path: Path) -> None:
    cache = ["--cache", str(tmp_path / "cache")]
    process = start(tmp_path, "search", "--name", "stopped", *SMALL, *SHORT, "--confirm", "0", "--trials", "20", *cache)
    journal = tmp_path / "ray_results" / "stopped" / "journal.jsonl"
    limit = time.monotonic() + 240
    while not (journal.is_file() and '"event": "end"' in journal.read_text()):
        assert process.poll() is None and time.monotonic() < limit
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    shown, _ = process.communicate(timeout=120)
    assert process.returncode == 130, shown
    command = re.search(r"Go on with: python -m tune_btxrd (.*)", shown)
    assert command, shown
    ended = [t.label for t in read_search(journal.parent).search_trials if t.ended]
    run(tmp_path, *command[1].split(), *cache)
    record = read_search(journal.parent)
    assert len(record.search_trials) == 20 and all(trial.ended for trial in record.search_trials)
    assert ended and len(record.sessions) == 2


def test_train_and_retrain_of_one_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = ["--cache", str(tmp_path / "cache")]
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--name", "one", *SMALL, "--epochs", "1", "--splits", "stratified", *cache]) == 0
    shown = capsys.readouterr().out
    assert (tmp_path / "checkpoints" / "one" / "best_stratified.pt").is_file() and "hand-made" not in shown
    assert "train --name one --resume" in shown
