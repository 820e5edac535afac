"""What the documentation tells people to type: verbs and flags are ours, modules, targets and files exist."""

import re
from pathlib import Path

import pytest

from tests.support.pages import commands, pages, prose_flags
from tests.support.paths import ROOT
from tune_btxrd.cli.parser import build_parser

PARSER = build_parser()
VERBS = PARSER._subparsers._group_actions[0].choices
INNER = [
    choice for verb in VERBS.values() if verb._subparsers for choice in verb._subparsers._group_actions[0].choices.values()
]
KNOWN = {option for parser in (*VERBS.values(), *INNER) for option in parser._option_string_actions}
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
PLACES = re.compile(r"`((?:tune_btxrd|tests|benchmarks|search_spaces|deploy|docs)/[\w./-]+)`")
OURS = ("tune_btxrd", "tune-btxrd")


def ours(words: list[str]) -> list[str] | None:
    """Verb and flags, where a command is one of ours."""
    if words[0].endswith("python") and words[1:2] == ["-m"] and words[2] in OURS:
        return words[3:]
    return words[1:] if words[0] in OURS else None


def by_page() -> dict[Path, str]:
    return {page: page.read_text(encoding="utf-8") for page in pages()}


def test_pages_hold_commands_of_each_kind() -> None:
    every = [words for text in by_page().values() for words in commands(text)]
    verbs = {typed[0] for words in every if (typed := ours(words))}
    assert {"run", "prepare", "evaluate", "export", "predict", "report", "watch", "list", "space", "trial"} <= verbs
    assert ["make", "run"] in every and ["make", "test"] in every


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_are_understood_as_written(page: Path) -> None:
    for words in commands(page.read_text(encoding="utf-8")):
        if (typed := ours(words)) is not None:
            PARSER.parse_args(typed)  # argparse ends the process where it does not know one
        elif words[0] == "make":
            assert set(words[1:]) <= TARGETS, words
        elif words[:2] == ["python", "-m"] and words[2].startswith("benchmarks."):
            assert (ROOT / f"{words[2].replace('.', '/')}.py").is_file(), words


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_flags_in_prose_exist(page: Path) -> None:
    assert prose_flags(page.read_text(encoding="utf-8")) <= KNOWN


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    new = set(re.findall(r'^```python title="([^"]+)"', text, flags=re.MULTILINE))  # what a recipe makes
    missing = [name for name in PLACES.findall(text) if not (ROOT / name).exists() and name not in new]
    assert not missing
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if "://" not in target and page.parent != ROOT / "docs":  # the site's own links are checked by its build
            assert (page.parent / target).exists(), target


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_map_of_the_tests_names_every_folder() -> None:
    text = (ROOT / "tests" / "README.md").read_text(encoding="utf-8")
    folders = {path.parent.name for path in (ROOT / "tests").glob("*/__init__.py")}
    assert {name for name in folders if f"| `{name}/` |" not in text} == set()
