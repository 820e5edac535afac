"""`docs/api.md`: its blocks run, in order, on a small phantom; and every name of the API is there, typed and described."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tune_btxrd as tb
from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "api.md"


@pytest.mark.slow
def test_the_page_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 6
    program = "".join(blocks) + "\nassert page.is_file() and answer.files and scores.splits[0].opened == 1\n"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert (tmp_path / "checkpoints" / "first" / "best_stratified.pt").is_file()


@pytest.mark.parametrize("name", [name for name in tb.__all__ if name != "__version__"])
def test_every_name_is_there_and_described(name: str) -> None:
    found = inspect.unwrap(getattr(tb, name))
    assert found.__name__ == name and len(inspect.getdoc(found) or "") > 30
    assert name in PAGE.read_text(encoding="utf-8")
    if inspect.isfunction(found):
        parameters = inspect.signature(found).parameters.values()
        assert all(parameter.annotation is not parameter.empty for parameter in parameters)
        assert sum(parameter.kind is not parameter.KEYWORD_ONLY for parameter in parameters) <= 2


def test_verbs_and_folders_share_two_words() -> None:
    code = (
        "import tune_btxrd as tb, inspect; import tune_btxrd.search.record as r; assert tb.search.record is r; "
        "assert 'space' in inspect.signature(tb.search).parameters and callable(tb.report); import sys; "
        "assert 'ray' not in dir(tb)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_import_costs_nothing() -> None:
    code = "import sys, tune_btxrd; print([m for m in ('numpy', 'pandas', 'torch', 'ray', 'rich') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True).stdout
    assert shown.strip() == "[]"
