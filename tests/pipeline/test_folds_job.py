"""Folds from the command line: a config alone, and the winner of a search whose test parts stay closed."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from tests.support.paths import ROOT
from tune_btxrd.cli.main import main
from tune_btxrd.inference.open_average import open_any

pytestmark = pytest.mark.slow

SMALL = ["--phantom-count", "90", "--phantom-size", "96", "--image-size", "32", "--backbone", "test_efficientnet"]
TWO = ["--slots", "2", "--cpus-per-trial", "1"]
SPACE = ["--space", str(ROOT / "tests" / "support" / "small.yaml")]


def run(*arguments: str) -> None:
    assert main(list(arguments)) == 0, arguments


def test_one_config_on_folds_goes_on_where_it_was_and_other_verbs_know_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run("train", "--folds", "2", "--ensemble", "2", "--name", "f", "--epochs", "1", "--cache", "cache", *SMALL, *TWO)
    root = tmp_path / "checkpoints" / "f"
    before = {path: path.stat().st_mtime_ns for path in root.glob("fold_*/*.pt")}
    assert len(before) == 4
    (root / "folds.csv").unlink()
    run("train", "--name", "f", "--resume", "--cache", "cache")
    assert {path: path.stat().st_mtime_ns for path in root.glob("fold_*/*.pt")} == before
    assert pd.read_csv(root / "folds.csv")["fold"].tolist()[:2] == ["1/2", "2/2"]
    assert "config chosen on these images" not in (root / "folds.csv").read_text()  # nobody chose
    image = str(next((tmp_path / "cache").glob("phantom-*/images/*")))
    run("predict", str(root), image, "--device", "cpu", "--json", "--output", "answer.json")
    answer = json.loads(Path("answer.json").read_text())["images"][0]
    assert answer["folds"] == 2
    run("export", "f", "--cache", "cache")
    for ensemble in (root / "ensemble", root / "ensemble" / "export"):
        together = open_any(ensemble).logits(np.asarray([open_any(ensemble).decode(Path(image))]))
        assert softmax(together[0]) == pytest.approx(
            [v for k, v in answer.items() if k.startswith("probability_")], abs=1e-5
        )
    card = (root / "ensemble" / "export" / "MODEL_CARD.md").read_text()
    assert "no single training but the fold ensemble of 2" in card and "fold 2/2" in card
    assert main(["train", "--name", "f", "--resume", "--folds", "3", "--cache", "cache"]) == 2
    assert main(["evaluate", "f", "--yes", "--cache", "cache"]) == 2
    assert "holds folds alone" in capsys.readouterr().err
    run("report", "f")


def test_the_winner_on_folds_of_the_images_that_its_search_saw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search's own trials are judged by a mean over folds."""
    monkeypatch.chdir(tmp_path)
    Path("space.yaml").write_text((ROOT / "tests" / "support" / "small.yaml").read_text() + "folds_per_trial: 2\n")
    space = ["--space", "space.yaml", "--trials", "2", "--epochs", "1", "--confirm", "0"]
    run("search", "--name", "s", "--cache", "cache", *space, *SMALL, *TWO)
    assert (pd.read_csv(tmp_path / "ray_results" / "s" / "epochs.csv")["fold_sd"] > 0).tolist() == [True, True]
    run("trial", "s", "1", "--cache", "cache")
    assert not list((tmp_path / "ray_results" / "s").rglob("*.fold*.pt"))
    run("retrain", "s", "--folds", "2", "--cache", "cache")
    splits = tmp_path / "ray_results" / "s" / "splits"
    tables = {name: pd.read_csv(splits / f"{name}.csv") for name in ("stratified", "center", "common", "fold_1_of_2")}
    tested = {image for name in ("stratified", "center") for image in tables[name].query("part == 'test'")["image_id"]}
    assert not tested & set(tables["fold_1_of_2"]["image_id"])
    assert set(tables["fold_1_of_2"]["image_id"]) == set(tables["common"]["image_id"])
    assert "config chosen on these images" in (tmp_path / "checkpoints" / "s" / "folds.csv").read_text()
