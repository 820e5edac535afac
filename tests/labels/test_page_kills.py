"""The page's server killed under load, a few times (`python -m benchmarks.label_kills` does it a hundred times)."""

import sqlite3
from pathlib import Path

import pytest

from benchmarks import label_kills


@pytest.mark.slow
def test_a_killed_page_loses_nothing_and_counts_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(label_kills.__file__).parents[1]))
    found = label_kills.run(tmp_path, kills=4, seed=7)
    assert found["events"] == found["acknowledged"] > 50
    # the check itself: an event that nobody sent is found
    annotators = [label_kills.Annotator("anna", tmp_path / "kills.db", 0, label_kills.random.Random(0))]
    with pytest.raises(AssertionError, match="each once"):
        label_kills.check(tmp_path / "kills.db", annotators)
    database = sqlite3.connect(tmp_path / "kills.db")
    with pytest.raises(sqlite3.IntegrityError, match="appended"):
        database.execute("DELETE FROM events")
    database.close()
