"""Several labels from the first file to the opened test part, once from a table and once from a label store, as typed.

One Ray for all: a verb joins the session that its process has, and leaves it running.
"""

import json
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tune_btxrd.cli.main import main
from tune_btxrd.data.readers.registry import read_dataset
from tune_btxrd.distributed.connect import DRIVER_ENV
from tune_btxrd.distributed.start_ray import WORKER_ENV
from tune_btxrd.labels.store import LabelStore
from tune_btxrd.search.record import read_search

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # Ray's own warnings are not ours to mend

LABELS = ("bright", '<b>"left"</b> =1', "rare")
COUNT, SIDE = 60, 32
SPACE = """\
trials: 2
epochs: 2
seed: 7
monitor: macro_auc
grace_period: 2
reduction_factor: 2
confirm: 0
fixed: {loss: bce, batch_size: 16, pretrained: false, backbone: test_efficientnet, image_size: 32}
space:
  lr: {low: 1.0e-4, high: 1.0e-2, log: true}
start:
  - {lr: 1.0e-3}
"""


@pytest.fixture(scope="module")
def ray_session() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in DRIVER_ENV}
    os.environ.update(DRIVER_ENV)
    import ray

    settings = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    ray.init(address="local", num_cpus=2, runtime_env={"env_vars": WORKER_ENV}, **settings)
    yield
    ray.shutdown()
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with drawn images of two per patient, their table with unknowns, and a short space."""
    folder, rng = tmp_path, np.random.default_rng(0)
    targets = np.stack([rng.random(COUNT) < share for share in (0.5, 0.5, 0.2)], axis=1)
    cells = targets.astype(int).astype(str).astype(object)
    cells[rng.random((COUNT, 3)) < (0.0, 0.3, 0.1)] = ""
    table = pd.DataFrame(cells, columns=[f"label:{name}" for name in LABELS])
    paths = [f"images/p{row // 2:02}/{row}.png" for row in range(COUNT)]
    for path, (bright, left, rare) in zip(paths, targets, strict=True):
        pixels = rng.integers(20, 60, (SIDE, SIDE)).astype(np.uint8)
        pixels[8:22, (at := 3 if left else 19) : at + 10] = 220 if bright else 120
        pixels[26:30] = 0 if rare else pixels[26:30]
        (folder / "table" / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / "table" / path)
    table.insert(0, "group", [f"p{row // 2:02}" for row in range(COUNT)])
    table.insert(0, "path", paths)
    table.insert(0, "image_id", [f"I{row}" for row in range(COUNT)])
    table.to_csv(folder / "table" / "manifest.csv", index=False)
    table["path"] = [f"table/{path}" for path in paths]
    table.iloc[:40].to_csv(folder / "first.csv", index=False)
    table.iloc[40:].to_csv(folder / "later.csv", index=False)
    (folder / "space.yaml").write_text(SPACE)
    return folder


@pytest.fixture(autouse=True)
def inside(place: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def typed(*words: str) -> int:
    """A verb's exit code, with the flags that keep it in this folder where it takes them."""
    short = ["--cache", "cache", "--device", "cpu", "--slots", "1"] if words[0] in ("run", "train") else []
    return main([*words, *short])


def evaluation(name: str, split: str) -> dict[str, object]:
    return json.loads(Path("checkpoints", name, split, "evaluation", "test_log.json").read_text())[-1]


def test_a_table_goes_from_its_columns_to_its_opened_test_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert typed("run", "--data", "table", "--space", "space.yaml", "--name", "table", "--splits", "stratified") == 0
    shown = capsys.readouterr().out
    assert "val macro-AUC" in shown and "Checkpoints:" in shown
    record = read_search(Path("ray_results/table"))
    assert [len(trial.epochs) for trial in record.search_trials] == [2, 2]
    log = pd.read_csv("checkpoints/table/stratified/training_log.csv")
    assert {"val_macro_auc", "val_exact_match", "val_recall_bright", "val_auc__b_left_b_1", "val_recall_rare"} <= set(log)
    assert log["val_macro_auc"].between(0, 1).all()
    assert main(["evaluate", "table", "--yes"]) == 0
    assert main(["evaluate", "table", "--yes"]) == 0
    assert evaluation("table", "stratified")["count"] == 2
    scores = pd.read_csv("checkpoints/table/stratified/evaluation/scores.csv")
    assert set(LABELS) <= set(scores["class"].dropna())
    assert main(["report", "table"]) == 0
    page = Path("ray_results/table/report.html").read_text(encoding="utf-8")
    assert "<b>&#34;left" not in page and "<b>&quot;left" not in page and '<b>"left"</b>' not in page


def store_with(table: str) -> None:
    assert main(["labels", "import", "study.db", table]) == 0


def interrupt_after_an_epoch(name: str) -> threading.Thread:
    """Types Ctrl-C once the search has told an epoch."""

    def wait() -> None:
        journal, until = Path("ray_results", name, "journal.jsonl"), time.monotonic() + 120
        while time.monotonic() < until and not (journal.is_file() and '"epoch"' in journal.read_text()):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_a_store_is_frozen_resumed_scored_and_its_hold_out_counted(capsys: pytest.CaptureFixture[str]) -> None:
    labels = [word for name in LABELS for word in ("--label", name)]
    assert main(["labels", "init", "study.db", *labels, "--holdout-share", "0.2"]) == 0
    assert main(["labels", "add", "study.db", "table", "--group-pattern", r"(p\d+)"]) == 0
    store_with("first.csv")
    words = ("run", "--data", "study.db", "--space", "space.yaml", "--name", "store", "--splits", "holdout")
    interrupt = interrupt_after_an_epoch("store")
    assert typed(*words, "--epochs", "6") == 130
    interrupt.join()
    began = json.loads(Path("ray_results/store/search.json").read_text())
    splits = Path("ray_results/store/splits/holdout.csv").read_text()
    store_with("later.csv")
    assert typed(*words, "--epochs", "6", "--resume") == 0
    ended = json.loads(Path("ray_results/store/search.json").read_text())
    assert ended["dataset"] == began["dataset"]
    assert Path("ray_results/store/splits/holdout.csv").read_text() == splits
    assert read_dataset(Path("study.db")).sha256 != began["dataset"]["sha256"]  # what is labelled now is another dataset
    with LabelStore(Path("study.db"), read_only=True) as store:
        held = store.database.one("SELECT count(*) FROM images WHERE holdout = 1")
        scored = store.database.one("SELECT count(DISTINCT image) FROM predictions")
        assert held and scored and held[0] and scored[0] == COUNT - held[0]
    assert [main(["evaluate", "store", "--yes"]), main(["evaluate", "store", "--yes"])] == [0, 0]
    assert evaluation("store", "holdout")["count"] == 2
    with sqlite3.connect("study.db") as file:  # the hold-out is taken as it is labelled now, the later table included
        answered = file.execute("SELECT count(DISTINCT image_id), max(event) FROM current, events WHERE holdout = 1")
        images, event = answered.fetchone()
    assert (evaluation("store", "holdout")["images"], evaluation("store", "holdout")["event"]) == (images, event)
    assert images > splits.count(",test,")
    summary = json.loads(Path("checkpoints/store/holdout/evaluation/summary.json").read_text())
    assert summary["events"] == {"trained": began["request"]["event"], "tested": event}
    assert any(f"{images - splits.count(',test,')} labelled since" in note for note in summary["notes"])
    capsys.readouterr()
    assert main(["labels", "score", "study.db", "store"]) == 0  # by its winner, which has scored all of them already
    assert f"0 image(s) scored by store/holdout, {scored[0]} before" in capsys.readouterr().out
    assert typed("train", "--data", "study.db", "--name", "second", "--splits", "holdout", *fixed(), "--no-score") == 0
    assert main(["evaluate", "second", "--yes"]) == 0
    assert evaluation("second", "holdout")["count"] == 3  # whichever search opens it
    tested = set(pd.read_csv("ray_results/second/splits/holdout.csv").query("part == 'test'")["image_id"])
    with sqlite3.connect("study.db") as file:
        assert tested <= {row[0] for row in file.execute("SELECT image_id FROM images WHERE holdout = 1")}


def fixed() -> list[str]:
    """The network of the space, for one training."""
    small = {"backbone": "test_efficientnet", "image_size": 32, "batch_size": 16, "epochs": 1, "pretrained": "false"}
    return [word for name, value in small.items() for word in ("--set", f"{name}={value}")]
