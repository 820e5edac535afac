"""Workbooks: what they say about themselves is not believed; the table is found on whatever sheet and row it stands."""

import re
import zipfile
from pathlib import Path

import openpyxl
import pandas as pd
import pytest

from tests.support.datasets import small_table, write_dataset
from tune_btxrd.data.readers import spreadsheet
from tune_btxrd.data.readers.registry import read_dataset
from tune_btxrd.data.readers.spreadsheet import read_table
from tune_btxrd.errors import DataError


@pytest.mark.parametrize("declared", ["A1", "A1:B2", "A1:AK2", "A1:XFD1048576", None])
def test_every_row_is_read_whatever_range_is_declared(tmp_path: Path, declared: str | None) -> None:
    root = write_dataset(tmp_path, small_table(), suffix="xlsx")
    with zipfile.ZipFile(root / "dataset.xlsx") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    sheet = "xl/worksheets/sheet1.xml"
    said = b"" if declared is None else b'<dimension ref="%s"/>' % declared.encode()
    members[sheet] = re.sub(rb'<dimension ref="[^"]*"\s*/>', said, members[sheet])
    with zipfile.ZipFile(root / "dataset.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    assert len(read_dataset(root)) == 3


def test_the_table_may_stand_on_another_sheet_below_a_title(tmp_path: Path) -> None:
    root = write_dataset(tmp_path, small_table(), suffix="xlsx")
    book = openpyxl.load_workbook(root / "dataset.xlsx")
    book.worksheets[0].title = "cases"
    book.worksheets[0].insert_rows(1, 2)
    book.worksheets[0]["A1"] = "Released in 2025"
    book.create_sheet("read me", 0)["A1"] = "A note to whoever opens this"
    book.create_sheet("empty", 0)
    book.save(root / "dataset.xlsx")
    manifest = read_dataset(root)
    assert manifest.class_counts == (1, 1, 1)
    assert manifest.notes[0] == "The table was read from sheet 'cases' of 3, its header in row 3."


def test_without_a_table_anywhere_the_columns_are_asked_for(tmp_path: Path) -> None:
    root = write_dataset(tmp_path, pd.DataFrame({"a": [1]}), suffix="xlsx")
    with pytest.raises(DataError, match=r"must have the column\(s\) image_id, benign, malignant, but has a"):
        read_dataset(root)
    openpyxl.Workbook().save(root / "dataset.xlsx")
    with pytest.raises(DataError, match="must hold a header and at least one row, but it is empty"):
        read_dataset(root)


@pytest.mark.parametrize("suffix", ["csv", "xlsx"])
def test_tables_that_unpack_to_too_much_are_refused(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_dataset(tmp_path, small_table(), suffix=suffix)
    monkeypatch.setattr(spreadsheet, "MOST_BYTES", 100)
    with pytest.raises(DataError, match="A table must have at most 0 MiB"):
        read_table(root / f"dataset.{suffix}")


def test_one_cell_far_below_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    root = write_dataset(tmp_path, small_table(), suffix="xlsx")
    book = openpyxl.load_workbook(root / "dataset.xlsx")
    book.worksheets[0].cell(1_048_576, 16_384).value = "x"
    book.save(root / "dataset.xlsx")
    with pytest.raises(DataError, match="at most 500,000 rows, but sheet 'Sheet1' of"):
        read_dataset(root)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_csv_of_another_country_is_read_by_its_own_separator(tmp_path: Path, separator: str) -> None:
    (tmp_path / "a.csv").write_text(f"image_id{separator}label\r\n1.png{separator}a\r\n", encoding="utf-8-sig")
    assert read_table(tmp_path / "a.csv").to_dict("list") == {"image_id": ["1.png"], "label": ["a"]}
