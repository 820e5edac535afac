"""The command line: exit codes, one-line mistakes, nothing lost."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.reports import make_settings
from tune_btxrd.cli import verbs as commands
from tune_btxrd.cli.flags import read_seconds
from tune_btxrd.cli.main import main
from tune_btxrd.errors import ConfigError

MISTAKE = 2


def mistake(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Runs a verb that must fail as a user's mistake; returns its one line."""
    assert main(arguments) == MISTAKE
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = "import sys; from tune_btxrd.cli.parser import build_parser as b; b().format_help(); print(len(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(result.stdout) < 250  # about 120; pandas alone would bring 600


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--data", "/nowhere"], ("/nowhere", "--data")),
        (["run", "--data", "{}/empty"], ("dataset", "empty")),
        (["search", "--resume"], ("--name",)),
        (["search", "--resume", "--name", "none"], ("none", "list")),
        (["run", "--name", "../up"], ("plain folder name",)),
        (["run", "--time-budget", "soon"], ("--time-budget", "6h")),
        (["run", "--mlflow", ""], ("--mlflow", "leave it out")),
        (["run", "--wandb", ""], ("--wandb", "leave it out")),
        (["run", "--data", ""], ("--data", "empty", "leave it out")),
        (["search", "--split="], ("--split", "empty", "leave it out")),
        (["run", "--space", "{}/none.yaml"], ("none.yaml",)),
        (["run", "--space", "{}/typo.yaml"], ("lrr", "lr")),
        (["run", "--space", "{}/text.yaml"], ("1e-5", "text", "1.0e-05")),
        (["run", "--space", "{}/searched.yaml", "--batch-size", "8"], ("batch_size", "searched")),
        (["run", "--pretrained"], ("phantom", "--data")),
        (["run", "--seeds", "0"], ("seeds",)),
        (["run", "--gpus-per-trial", "many"], ("--gpus-per-trial",)),
        (["run", "--phantom-count", "3"], ("18",)),
        (["run", "--splits", "stratified,centre"], ("'centre'", "did you mean 'center'")),
        (["run", "--splits", "common"], ("'common'",)),
        (["search", "--split", "fold 6/5"], ("fold 6/5",)),
        (["train", "--splits", "{}/none.csv"], ("--splits", "none.csv")),
        (["train", "--seeds", "0"], ("seeds",)),
        (["run", "--soup"], ("--soup", "--ensemble N")),
        (["run", "--ensemble", "3", "--seeds", "3"], ("--ensemble", "--seeds", "leave one out")),
        (["train", "--folds", "3", "--soup"], ("--soup", "folds train on different ones")),
        (["retrain", "none", "--folds", "3", "--ensemble", "2"], ("--folds 3", "--ensemble 2")),
        (["run", "--ensemble", "1"], ("2 <= ensemble",)),
        (["run", "--positive-class", "malignant"], ("Malignant", "'malignant'")),
        (["run", "--exclude", "{}/none.txt"], ("--exclude", "none.txt")),
        (["run", "--duplicates", "{}/none.csv"], ("--duplicates", "none.csv")),
        (["run", "--weights", "{}/none.pt", "--data", "{}"], ("--weights", "none.pt")),
        (["run", "--address", "ray://host:10001"], ("ray://", "--address")),
        (["retrain", "none"], ("none", "list")),
        (["export", "none"], ("none", "list")),
    ],
)
def test_mistakes_are_one_line_with_the_cure_and_leave_nothing(
    arguments: list[str],
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    start = "start: [{lr: 1.0e-3}]\n"
    (tmp_path / "typo.yaml").write_text("space: {lrr: {low: 1.0e-5, high: 1.0e-2}}\n" + start)
    (tmp_path / "text.yaml").write_text("space: {lr: {low: 1e-5, high: 1.0e-2}}\n" + start)
    (tmp_path / "searched.yaml").write_text("space: {batch_size: {choices: [8, 16]}}\nstart: [{batch_size: 8}]\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    line = mistake(capsys, *(argument.format(tmp_path) for argument in arguments), "--storage", str(tmp_path / "results"))
    assert line.startswith("tune-btxrd: ")
    for word in words:
        assert word in line
    assert not (tmp_path / "results").exists() and not (tmp_path / "caches").exists()  # nor is a phantom drawn


def test_a_results_folder_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "taken"
    folder.mkdir()
    (folder / "search.json").write_text("{}")
    line = mistake(capsys, "run", "--name", "taken", "--storage", str(tmp_path))
    assert "--resume" in line and "another --name" in line
    assert (folder / "search.json").read_text() == "{}"


def test_a_damaged_search_json_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "half"
    folder.mkdir()
    (folder / "search.json").write_text('{"name": "ha')
    assert "search.json must be JSON" in mistake(capsys, "retrain", "half", "--storage", str(tmp_path))


def test_list_shows_searches_and_damage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, journal in (("good", '{"event": "session", "time": 1.0}\n'), ("bad", "}{\n{}\n")):
        make_settings(tmp_path / name, name=name)
        (tmp_path / name / "journal.jsonl").write_text(journal)
    assert main(["list", "--storage", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "good" in shown and "no trial yet" in shown and "is no JSON object" in " ".join(shown.split())


@pytest.mark.parametrize("folder", ["/proc/none", "/sys/none", "{}/file/inside"])
def test_a_folder_that_cannot_be_made_is_one_line(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """/proc answers that nothing is there, other systems and users that it is not allowed."""
    (tmp_path / "file").write_text("")
    there = Path(folder.format(tmp_path))
    monkeypatch.setattr(commands, "run_verb", lambda _: there.mkdir(parents=True))
    assert str(there) in mistake(capsys, "list")


def test_a_working_directory_that_is_gone_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setattr(commands, "run_verb", lambda _: Path("x").resolve())
    assert "working directory is gone" in mistake(capsys, "list")


def test_a_bug_keeps_its_traceback_and_interruption_its_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: object) -> None:
        raise ValueError("ours")

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "run_verb", broken)
    assert main(["list"]) == 1
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setattr(commands, "run_verb", interrupted)
    assert main(["list"]) == 130


def test_time_budget_reads_units() -> None:
    assert [read_seconds(text) for text in ("90s", "1.5min", "6h", ".5h", None)] == [90, 90, 21600, 1800, None]
    for wrong in ("6", "1.2.3h", ".h", "0h", "-1h", "nan h", "1e3s", ""):
        with pytest.raises(ConfigError, match="6h"):
            read_seconds(wrong)
