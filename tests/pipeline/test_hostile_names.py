"""Hostile names end to end: as files, classes, folders and the search itself, through every verb and picture.

One tiny training is shared by all verbs.
"""

import io
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.support.hostile import CLASS_NAMES, EVERYTHING, FILE_STEMS, MARKUP
from tests.support.shells import typed_in_bash
from tune_btxrd.cli.main import main
from tune_btxrd.cli.parser import parse_words
from tune_btxrd.cli.submit import entrypoint, job_id, stage
from tune_btxrd.distributed.connect import connected
from tune_btxrd.search.columns import class_keys

pytestmark = pytest.mark.slow

EACH = 8  # images of a class
NAME = "".join(name for name in CLASS_NAMES if not name.startswith("-"))[:150] + "\u200f"
SPACE = """
trials: 2
epochs: 2
grace_period: 1
reduction_factor: 2
startup_trials: 1
confirm: 1
repeats: 2
fixed: {backbone: test_efficientnet, image_size: 32, batch_size: 16, pretrained: false}
space:
  lr: {low: 1.0e-4, high: 1.0e-2, log: true}
start:
  - {lr: 1.0e-3}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory with a dataset whose every name is hostile, and the main job done; all in one Ray."""
    folder = tmp_path_factory.mktemp("hostile") / "a b $ [red] {0} %s ?#'\""
    rng = np.random.default_rng(0)
    for kind, label in enumerate(CLASS_NAMES):
        (folder / "data [x] $$" / label).mkdir(parents=True)
        for number in range(EACH):
            stem = FILE_STEMS[(kind + number) % len(FILE_STEMS)]
            pixels = rng.integers(0, 200, (32, 32)) + 2 * kind
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "data [x] $$" / label / f"{stem}.png")
    (folder / "space [b] $.yaml").write_text(SPACE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        words = ["--data", "data [x] $$", "--space", "space [b] $.yaml", "--cache", "cache {0}", *PLACES, "--slots", "1"]
        with connected(address=None, name=NAME):
            assert main(["run", "--name", NAME, *words, "--cpus-per-trial", "1"]) == 0
            yield folder


PLACES = ["--storage", "results ?v=2#x%s", "--checkpoints", "check $points$"]
CACHE = ["--cache", "cache {0}"]
FOLDER = Path("check $points$") / NAME / "stratified"


@pytest.fixture
def here(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same as the working directory."""
    monkeypatch.chdir(home)
    monkeypatch.setenv("COLUMNS", "4000")
    return home


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a verb that must succeed prints on standard output."""
    capsys.readouterr()
    code = main(words)
    said = capsys.readouterr()
    assert code == 0, said.err
    return said.out


def test_the_main_job_left_every_file_and_picture(here: Path) -> None:
    results = here / "results ?v=2#x%s" / NAME
    assert {"search.json", "optuna.db", "journal.jsonl", "trials.csv", "report.html"} <= {p.name for p in results.iterdir()}
    assert {path.name for path in here.iterdir()} == {
        *("data [x] $$", "space [b] $.yaml", "cache {0}", "results ?v=2#x%s", "check $points$"),
    }
    pictures = [*results.rglob("*.png"), *(here / "check $points$").rglob("*.png")]
    assert {"images.png", "loss_curve.png", "recall_curve.png"} <= {path.name for path in pictures}
    for path in pictures:
        with Image.open(path) as picture:
            picture.verify()
    columns = (FOLDER / "training_log.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
    assert [name for name in columns if name.startswith("val_recall_")] == [
        f"val_recall_{key}" for key in class_keys(sorted(CLASS_NAMES))
    ]


def test_prepare_and_space(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = shown(capsys, "prepare", "--data", "data [x] $$", "--image-size", "32", *CACHE)
    for name in CLASS_NAMES:
        assert f"{EACH} {name}" in said, name
    assert "lr" in shown(capsys, "space", "space [b] $.yaml")


def test_search_goes_on_and_retrain(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = shown(capsys, "search", "--name", NAME, "--resume", *PLACES)
    typed = typed_in_bash(next(line for line in said.splitlines() if line.startswith("Next:")).removeprefix("Next:"))
    flags = parse_words(typed[3:])
    assert (flags.verb, flags.name, flags.storage) == ("retrain", NAME, "results ?v=2#x%s")
    shown(capsys, "retrain", NAME, *PLACES)


def test_a_job_is_sent_as_it_was_typed(tmp_path: Path) -> None:
    for number, name in enumerate(MARKUP):
        asked = ["submit", "--storage", "/a $b", "--name", f"x{name}", f"--positive-class={name}", f"--set=weights={name}"]
        sent = entrypoint(stage(tmp_path / str(number), parse_words(asked)))
        flags = parse_words(shlex.split(sent)[3:])
        assert (flags.verb, flags.name, flags.positive_class, flags.set) == ("run", f"x{name}", name, [f"weights={name}"])
        assert re.fullmatch(r"[A-Za-z0-9_.-]+", job_id(name))


def test_labels(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, names = "store $ [x] {0} %s.db", sorted(CLASS_NAMES)
    made = [
        "labels",
        "init",
        store,
        "--task",
        "multiclass",
        "--holdout-share",
        "0.2",
        *(f"--label={name}" for name in names),
    ]
    assert [label["label"] for label in json.loads(shown(capsys, *made, "--json"))["labels"]] == names
    assert f"{EACH * len(names)} new" in shown(capsys, "labels", "add", store, "data [x] $$")
    rows = [(f"data [x] $$/{name}/{path.name}", name) for name in names for path in Path("data [x] $$", name).iterdir()]
    pd.DataFrame(rows, columns=["path", "label"]).to_csv("table $.csv", index=False)
    found = json.loads(shown(capsys, "labels", "import", store, "table $.csv", "--annotator", "a $ [b]", "--json"))
    assert found["recorded"] == len(rows)
    said = shown(capsys, "labels", "status", store)
    assert all(name in said for name in names) and "a $ [b]" in said
    written = Path(json.loads(shown(capsys, "labels", "export", store, "--json"))["file"])
    assert set(pd.read_csv(written, keep_default_na=False)["label"]) == set(names)
    for path in (written, *(path for path in here.iterdir() if path.name.startswith(("store $", "table $")))):
        path.rename(here.parent / f"moved {path.name}")


def test_evaluate_explain_and_export(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(shown(capsys, "evaluate", NAME, "--yes", "--json", "--device", "cpu", *PLACES))
    assert found["class_names"] == sorted(CLASS_NAMES)
    scored = {row["class"] for row in found["splits"][0]["tables"]["scores"] if row["metric"] == "sensitivity"}
    assert scored == set(CLASS_NAMES)
    shown(capsys, "evaluate", NAME, "--yes", "--device", "cpu", *PLACES)
    shown(capsys, "explain", NAME, "--device", "cpu", *PLACES)
    shown(capsys, "export", NAME, *PLACES)
    for path in FOLDER.rglob("*.png"):
        with Image.open(path) as picture:
            picture.verify()
    assert (FOLDER / "explain" / "sheet.png").is_file() and (FOLDER / "evaluation" / "confusion.png").is_file()


@pytest.mark.parametrize("model", ["best", "timm", "model.onnx"])
def test_predict(here: Path, capsys: pytest.CaptureFixture[str], model: str) -> None:
    path = str(FOLDER.parent / "best_stratified.pt" if model == "best" else FOLDER / "export" / model)
    data = ["data [x] $$"]
    found = json.loads(shown(capsys, "predict", path, *data, "--json", "--device", "cpu"))
    names = {Path(item["file"]).name for item in found["images"]}
    assert names == {f"{stem}.png" for stem in FILE_STEMS} and found["model"]["class_names"] == sorted(CLASS_NAMES)
    table = pd.read_csv(io.StringIO(shown(capsys, "predict", path, *data, "--format", "csv", "--device", "cpu")))
    assert {Path(file).name for file in table["file"]} == names
    assert f"{len(table)} image(s)" in shown(capsys, "predict", path, *data, "--device", "cpu")
    if model == "best":
        more = ["--output", "out $.csv", "--overlays", "over [x]", "--rank-uncertain", "rank {0}.csv"]
        shown(capsys, "predict", path, f"{data[0]}/{CLASS_NAMES[0]}", *more, "--device", "cpu")
        assert len(list((here / "over [x]").iterdir())) == EACH
        for name in ("out $.csv", "rank {0}.csv", "over [x]"):
            (here / name).rename(here.parent / f"moved {name}")


def test_report_list_watch_and_trial(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = json.loads(shown(capsys, "report", NAME, "--json", *PLACES))["report"]
    text = Path(page).read_text(encoding="utf-8")
    assert "<b>&amp;" not in text and "&lt;b&gt;&amp;amp;" in text
    storage = PLACES[:2]
    assert [item["name"] for item in json.loads(shown(capsys, "list", "--json", *storage))["searches"]] == [NAME]
    shown(capsys, "list", *storage)
    shown(capsys, "watch", NAME, *storage)
    shown(capsys, "trial", NAME, "1", *storage, *CACHE)


@pytest.mark.parametrize("name", [name for name in EVERYTHING if "/" not in name])
def test_any_name_of_a_search_is_missed_in_one_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("watch", "report", "export"):
        assert main([verb, "--storage", str(tmp_path), "--", name]) == 2
        said = capsys.readouterr().err
        assert len(said.splitlines()) == 1 and "Traceback" not in said
