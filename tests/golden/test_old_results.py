"""A results folder that version 0.1.0 wrote opens in every verb of this one."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest

from tune_btxrd.cli.main import main

pytestmark = pytest.mark.slow

PACKED = Path(__file__).with_name("results_0_1_0.tar.xz")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder as it would come from another machine: its image cache is not there."""
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(PACKED) as file:
        file.extractall(folder, filter="data")
    return folder


@pytest.fixture
def old(unpacked: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, as the working directory, with a cache folder of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(unpacked / "caches"))
    monkeypatch.chdir(unpacked)
    return unpacked


def run(*arguments: str) -> None:
    assert main([*arguments]) == 0, arguments


def test_list_and_watch_tell_of_it(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("list")
    run("watch", "old")
    shown = capsys.readouterr().out
    assert "old" in shown and "of 6 trials" in shown and "trial 3" in shown


def test_report_has_its_winner(old: Path) -> None:
    run("report", "old")
    assert "trial 3" in (old / "ray_results" / "old" / "report.html").read_text(encoding="utf-8")


def test_evaluate_export_and_explain_find_its_checkpoints_and_pixels(old: Path) -> None:
    cache = ["--cache", str(old / "cache")]
    run("export", "old", *cache)
    run("evaluate", "old", "--yes", "--device", "cpu", *cache)
    run("explain", "old", "--device", "cpu", *cache)
    split = old / "checkpoints" / "old" / "stratified"
    assert (split / "export" / "manifest.json").is_file() and (split / "evaluation" / "scores.csv").is_file()


def test_what_was_done_counts_when_it_goes_on(old: Path) -> None:
    results, checkpoints = old / "ray_results" / "old", old / "checkpoints" / "old"
    before = (results / "trials.csv").read_bytes(), (checkpoints / "best_stratified.pt").read_bytes()
    run("run", "--name", "old", "--resume", "--cache", str(old / "cache"))
    assert (checkpoints / "best_stratified.pt").read_bytes() == before[1]
    events = [json.loads(line) for line in (results / "journal.jsonl").read_text().splitlines()]
    assert sum(event["event"] == "session" for event in events) == 2
    assert sum(event["event"] == "start" for event in events) == sum(event["event"] == "end" for event in events)


def test_it_is_retrained_to_other_checkpoints(old: Path, tmp_path: Path) -> None:
    shutil.copytree(old / "ray_results", tmp_path / "ray_results")
    where = [
        "--storage",
        str(tmp_path / "ray_results"),
        "--checkpoints",
        str(tmp_path / "other"),
        "--cache",
        str(old / "cache"),
    ]
    run("retrain", "old", "--splits", "stratified", *where)
    assert (tmp_path / "other" / "old" / "best_stratified.pt").is_file()
