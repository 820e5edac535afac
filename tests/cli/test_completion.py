"""Completion in the shell: bash is asked as if a person typed; the scripts of other shells name everything there is."""

import subprocess
from pathlib import Path

import pytest

from tests.cli.test_flags import parsers
from tune_btxrd.cli.completion import completion_script
from tune_btxrd.cli.main import main
from tune_btxrd.cli.parser import SHELLS, VERBS

ASK = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); COMPREPLY=()
$(complete -p tune-btxrd | sed 's/.*-F \\([^ ]*\\) .*/\\1/') tune-btxrd "${COMP_WORDS[$COMP_CWORD]}" ""
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "script"
    path.write_text(completion_script("bash"))
    return path


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ([""], set(VERBS)),
        (["expl"], {"explain"}),
        (["labels", "ex"], {"extend", "export"}),
        (["export", "first", "--pu"], {"--push-to-hub", "--public"}),
        (["run", "--groups", ""], {"duplicates", "patients", "none"}),
        (["run", "--space", "{}/a"], {"{}/a.yaml", "{}/afolder"}),
        (["run", "--data", "{}/a"], {"{}/afolder"}),
        (["completion", ""], set(SHELLS)),
    ],
)
def test_bash_offers_what_fits(typed: list[str], wanted: set[str], script: Path, tmp_path: Path) -> None:
    (tmp_path / "afolder").mkdir()
    (tmp_path / "a.yaml").write_text("")
    words = [word.format(tmp_path) for word in typed]
    command = ["bash", "--norc", "-c", ASK, "ask", str(script), "tune-btxrd", *words]
    offered = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not offered.stderr
    assert set(offered.stdout.split()) == {word.format(tmp_path) for word in wanted}


@pytest.mark.parametrize("shell", SHELLS)
def test_every_verb_and_flag_is_named(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    shown = capsys.readouterr().out
    flags = {flag for parser in parsers().values() for action in parser._actions for flag in action.option_strings}
    long = {flag for flag in flags if flag.startswith("--")}
    assert not {word for word in (*VERBS, *long) if word.lstrip("-") not in shown}
