"""Files are written whole or not at all."""

from pathlib import Path

import pytest

from tune_btxrd.errors import ResultError
from tune_btxrd.files import write_whole


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_whole(tmp_path / "new" / "a.csv", "one\n")
    write_whole(tmp_path / "new" / "a.csv", "two\n")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.csv"]
    assert (tmp_path / "new" / "a.csv").read_text() == "two\n"
    with pytest.raises(ResultError, match="must be writable"):
        write_whole(tmp_path / "new" / "a.csv" / "b.csv", "three\n")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ResultError, match="must be writable"):
        write_whole(tmp_path / "folder", "four\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "new"]
