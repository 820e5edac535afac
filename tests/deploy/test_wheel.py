"""The wheel: what `pip install` gets holds all that the package reads, and nothing of the checkout beside it."""

import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from tests.support.paths import ROOT
from tune_btxrd.version import __version__

pytest.importorskip("setuptools", reason="building a wheel needs setuptools, which `make .venv/dev.done` installs")
BUILT_FROM = ("tune_btxrd", "search_spaces", "pyproject.toml", "README.md", "LICENSE")
READ_BY_THE_PACKAGE = {".html", ".css", ".js", ".typed"}


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Names in a wheel that was built from a copy, without network."""
    copy = tmp_path_factory.mktemp("wheel")
    for name in BUILT_FROM:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, copy / name)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", "out", "."]
    done = subprocess.run(command, cwd=copy, env=dict(os.environ), check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (copy / "out").glob("*.whl")
    assert wheel.name.startswith(f"tune_btxrd-{__version__}-")
    with zipfile.ZipFile(wheel) as file:
        return file.namelist()


def test_every_module_and_every_file_that_it_reads(names: list[str]) -> None:
    package = ROOT / "tune_btxrd"
    wanted = [path for path in package.rglob("*") if path.suffix in {".py", *READ_BY_THE_PACKAGE}]
    assert {path.suffix for path in wanted} == {".py", *READ_BY_THE_PACKAGE}
    assert not [path for path in wanted if path.relative_to(ROOT).as_posix() not in names]
    others = {path.suffix for path in package.rglob("*") if path.is_file()} - {".py", ".pyc", *READ_BY_THE_PACKAGE}
    assert not others, f"files of a kind that package-data does not name: {others}"


def test_every_search_space_with_its_schema(names: list[str]) -> None:
    shared = f"tune_btxrd-{__version__}.data/data/share/tune_btxrd/search_spaces/"
    spaces = {name.removeprefix(shared) for name in names if name.startswith(shared)}
    assert spaces == {path.name for path in (ROOT / "search_spaces").iterdir()} and "btxrd.yaml" in spaces


def test_nothing_else_and_a_command(names: list[str]) -> None:
    tops = {name.split("/")[0] for name in names}
    assert tops == {"tune_btxrd", f"tune_btxrd-{__version__}.data", f"tune_btxrd-{__version__}.dist-info"}
    assert f"tune_btxrd-{__version__}.dist-info/entry_points.txt" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
