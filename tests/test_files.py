"""Files are written whole or not at all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.support.paths import ROOT
from tune_btxrd.errors import ResultError, UnwritableError
from tune_btxrd.files import encodable, held_alone, require_writable, require_writable_file, write_whole
from tune_btxrd.inference.predict import safe_text


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


def test_a_folder_is_tried_before_the_work_and_nothing_is_left(tmp_path: Path) -> None:
    require_writable(tmp_path / "deep" / "er", "choose another")
    (tmp_path / "a.csv").write_text("a")
    require_writable_file(tmp_path / "a.csv", "choose another")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
    for place in (tmp_path / "a.csv" / "b", Path("/proc/none"), Path("/sys/none/x")):
        with pytest.raises(UnwritableError, match=rf"{place} must be writable, but: .* Mend it, or choose another\.$"):
            require_writable(place, "choose another")
    with pytest.raises(UnwritableError, match="but is a folder"):
        require_writable_file(tmp_path, "choose another")


def test_of_two_processes_one_holds_a_folder_and_the_other_says_who(tmp_path: Path) -> None:
    folder = tmp_path / "held"
    with held_alone(folder, "final job"):
        program = "import sys; from pathlib import Path; from tune_btxrd.files import held_alone\n"
        program += "with held_alone(Path(sys.argv[1]), 'final job'): pass"
        command = [sys.executable, "-c", program, str(folder)]
        other = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        assert f"One process at a time may write {folder}, but process {os.getpid()} on" in other.stderr
        assert "(final job since 20" in other.stderr
    with held_alone(folder, "final job"):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultError, match="must be writable"), held_alone(tmp_path / "file" / "held", "export"):
        pass


def test_names_that_utf_8_cannot_hold_are_written_and_read_back_from_json(tmp_path: Path) -> None:
    name = os.fsdecode(b"M\xfcller.png")  # Latin-1, as an old archive unpacks
    write_whole(tmp_path / "a.json", json.dumps({"file": name}, ensure_ascii=False))
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"file": name}
    assert safe_text(Path(name)) == encodable(name) == r"M\udcfcller.png"
    assert pd.DataFrame({"file": [safe_text(Path(name))]}).to_csv(index=False) == "file\nM\\udcfcller.png\n"
