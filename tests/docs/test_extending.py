"""The recipes of `docs/extending.md`, applied to a copy of the project and run there."""

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support.recipes import Block, copy_project, recipes

RECIPES = recipes()
KINDS = {"A loss", "A label loss", "A metric", "A dataset reader", "A sampler", "A backbone", "A listener"}
EVERY_MEMBER = {
    "A loss": ("tests/tasks/test_losses.py",),
    "A label loss": ("tests/conformance/test_label_losses.py",),
}  # tests that take each member of a seam, a new one too
HOUSE = ("test_imports_point_downwards", "test_no_import_circle", "test_ray_is_imported_in_one_folder")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Test file -> what is wrong with it ("" where nothing is), of all recipes in one copy and one process."""
    copy = tmp_path_factory.mktemp("project")
    copy_project(copy)
    for block in every_block():
        block.apply(copy)
    files = [path for title in RECIPES for path in files_of(title)]
    house = [f"tests/test_architecture.py::{name}" for name in HOUSE]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml=out.xml", *files, *house]
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    done = subprocess.run(command, cwd=copy, env=environment, check=False, capture_output=True, text=True)
    assert (copy / "out.xml").exists(), done.stdout + done.stderr
    cases = list(ElementTree.parse(copy / "out.xml").iter("testcase"))  # our own file
    assert len(cases) > len(files), done.stdout + done.stderr
    found = dict.fromkeys([*files, "tests/test_architecture.py"], "no test ran")
    for case in cases:
        path = case.get("classname", "").replace(".", "/") + ".py"
        wrong = [item.text or item.get("message", "") for kind in ("failure", "error") for item in case.iter(kind)]
        found[path] = "\n".join([found.get(path, "").replace("no test ran", ""), *wrong]).strip()
    return found


def every_block() -> list[Block]:
    return [block for blocks in RECIPES.values() for block in blocks]


def files_of(title: str) -> list[str]:
    own = [block.path for block in RECIPES[title] if block.is_test]
    assert own, "a recipe says which test to write"
    return [*own, *EVERY_MEMBER.get(title, ())]


def test_the_page_has_a_recipe_of_each_kind() -> None:
    assert set(RECIPES) == KINDS


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_fits_the_code_by_itself(title: str, tmp_path: Path) -> None:
    copy_project(tmp_path)
    for block in RECIPES[title]:
        block.apply(tmp_path)
        if block.path.endswith(".py"):
            compile((tmp_path / block.path).read_text(encoding="utf-8"), block.path, "exec")


@pytest.mark.slow
@pytest.mark.parametrize("title", RECIPES)
def test_what_a_recipe_adds_works(title: str, outcomes: dict[str, str]) -> None:
    files = files_of(title)
    assert all(not outcomes[path] for path in files), "\n".join(outcomes[path] for path in files)


@pytest.mark.slow
def test_the_house_stands_with_all_of_them(outcomes: dict[str, str]) -> None:
    assert not outcomes["tests/test_architecture.py"]
