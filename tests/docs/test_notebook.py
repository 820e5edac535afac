"""`docs/first_run.ipynb`: kept small and without outputs, and it runs from its first cell to its last."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ROOT

nbformat = pytest.importorskip("nbformat", reason="notebooks are read and run by the dev extra")
PAGE = ROOT / "docs" / "first_run.ipynb"
SMALL = """DATA, NAME = None, "first"
IMAGES, PIXELS = 90, 96
SETTINGS = {"trials": 2, "epochs": 2, "confirm": 0}
FIXED = {"image_size": 32, "backbone": "test_efficientnet"}
"""


@pytest.fixture
def notebook() -> Any:
    return nbformat.read(PAGE, as_version=4)


def test_it_is_valid_small_and_without_outputs(notebook: Any) -> None:
    nbformat.validate(notebook)
    assert PAGE.stat().st_size < 15_000
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None
    assert sum("parameters" in cell.metadata.get("tags", ()) for cell in notebook.cells) == 1
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert "pip install" in first.source and 'find_spec("tune_btxrd") is None' in first.source


@pytest.mark.slow
@pytest.mark.filterwarnings("default::DeprecationWarning", "default::FutureWarning")  # of the client
def test_it_runs(notebook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient", reason="notebooks are read and run by the dev extra")
    for name, value in {
        "PYTHONPATH": ROOT,
        "XDG_CACHE_HOME": tmp_path / "cache",
        "IPYTHONDIR": tmp_path / "ipython",
    }.items():
        monkeypatch.setenv(name, os.fspath(value))
    chosen = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    names = {line.split("=")[0].split("#")[0].strip() for line in chosen.source.splitlines()}
    assert all(name in SMALL for part in names for name in part.split(", ")), "every parameter has a small value"
    chosen.source = SMALL
    nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in shown), "the curves are drawn"
    tables = [output.data["text/html"] for output in shown if "text/html" in output.get("data", {})]
    assert any("weight_decay" in table for table in tables) and any("macro_auc" in table for table in tables)
    assert (tmp_path / "ray_results" / "first" / "report.html").is_file()
