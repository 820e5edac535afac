"""Terminals and users as they are: an encoding without our characters, names that are no text, no home folder, markup."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.reports import StubSearch, make_search, make_settings
from tune_btxrd.cli.main import main
from tune_btxrd.console import make_table, show, tell, warn


def run(folder: Path, *words: str, **variables: str) -> "subprocess.CompletedProcess[bytes]":
    """A verb in a process of its own with some environment variables changed."""
    environment = {**os.environ, **variables}
    command = [sys.executable, "-m", "tune_btxrd", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_terminal_that_is_not_utf_8(encoding: str, tmp_path: Path) -> None:
    folder = tmp_path / "ray_results" / "stub"
    StubSearch(folder, make_settings(folder)).search(6).write()
    for words in (["watch", "stub"], ["list"]):
        answer = run(tmp_path, *words, PYTHONIOENCODING=encoding)
        assert answer.returncode == 0, answer.stderr
        assert b"stub" in answer.stdout and b"\\u258" not in answer.stdout  # no escaped block where a plain one does
    told = run(tmp_path, "report", "Röntgen 🦴", PYTHONIOENCODING=encoding)
    assert told.returncode == 2 and b"Traceback" not in told.stderr and b"ntgen" in told.stderr


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    name = b"r\xf6ntgen"
    answer = subprocess.run(
        [sys.executable, "-m", "tune_btxrd", "report", name], cwd=tmp_path, capture_output=True, check=False
    )
    assert answer.returncode == 2 and len(answer.stderr.splitlines()) == 1 and b"\\udcf6" in answer.stderr


@pytest.mark.parametrize("variables", [{"HOME": "/proc/nowhere", "XDG_CACHE_HOME": ""}, {"XDG_CACHE_HOME": "/dev/null/x"}])
def test_a_home_that_cannot_be_written(variables: dict[str, str], tmp_path: Path) -> None:
    answer = run(tmp_path, "prepare", "--quiet", **variables)
    assert answer.returncode == 2, answer.stderr
    assert b"--cache" in answer.stderr and len(answer.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_text_from_outside_is_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    names = ("[copy]", "[/x]", "[bold]b[/bold]", "a\\[b]")
    show(make_table("[title]", ("[red]column", *names[1:]), [names, names]))
    tell("[/odd]")
    shown = capsys.readouterr().out
    for name in (*names, "[title]", "[red]column", "[/odd]"):
        assert name in shown


def test_text_from_outside_is_no_order_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A file name may hold escape sequences, and marks that turn what follows round: exe.png reads gnp.exe."""
    names = ("a\x1b[2Jb", "\x1b]0;title\x07", "\u202egnp", "tab\there")
    show(make_table(names[0], names, [names]))
    for line in names:
        tell(line)
        warn(line)
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "\u202e" not in shown and "\x07" not in shown
    assert shown.count(r"a\x1b[2Jb") == 5 and shown.count(r"\u202egnp") == 4


def test_long_names_are_folded_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    show(make_table("t", ("name",), [("x" * 500,)]))
    shown = capsys.readouterr().out
    assert shown.count("x") == 500 and "…" not in shown


@pytest.mark.parametrize("words", [["list", "--storage"], ["report", "stub", "--storage"], ["watch", "stub", "--storage"]])
def test_a_file_where_a_folder_is_meant(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert main([*words, str(file)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_dead_search_is_interrupted_in_list_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_search(tmp_path / "ray_results" / "done", trials=6, odd=False, name="done")
    dead = tmp_path / "ray_results" / "dead"
    stub = StubSearch(dead, make_settings(dead, name="dead")).search(12)
    stub.write(lines=len(stub.lines) // 2)
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    assert "interrupted: " in shown and "finished: " in shown
