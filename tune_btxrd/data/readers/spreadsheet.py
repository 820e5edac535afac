"""Spreadsheets as text: one reader for .csv and .xlsx, strict about what a cell may hold."""

import csv
import io
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import openpyxl
import pandas as pd
from openpyxl.utils.exceptions import InvalidFileException

from tune_btxrd.data.readers.names import examples, is_formula
from tune_btxrd.errors import DataError

BLANKS = ("", "nan", "#n/a")  # lower case; "None" and "NA" are left alone: they may be class names


def read_table(path: Path, aliases: dict[str, str] | None = None) -> pd.DataFrame:
    """The table of `path` (.csv or first sheet of .xlsx): every cell as stripped text, blank and NaN cells as None.

    Column names are lower case with single spaces; `aliases` renames older ones. The index is the row number in the
    file (the header is row 1), rows that are blank throughout are left out.

    Raises:
        DataError: the file is no readable table, two columns share a name, a cell holds a formula.
    """
    rows = [[_text(cell) for cell in row] for row in _read_rows(path)]
    header = [_column_name(name, aliases or {}) for name in rows[0]] if rows else []
    while header and not header[-1]:
        header.pop()
    if repeated := [name for name, count in Counter(header).items() if count > 1]:
        raise DataError(f"Column names of {path} must be unique, but {repeated[0]!r} stands twice: rename one.")
    body = {number: row for number, row in enumerate(rows[1:], start=2) if any(row)}
    if not header or not body:
        raise DataError(f"{path} must hold a header and at least one row, but it is empty: copy it again.")
    cells = [_row(row, len(header), f"Row {number} of {path}") for number, row in body.items()]
    return pd.DataFrame(cells, index=list(body), columns=header, dtype=object)


def require_columns(table: pd.DataFrame, names: Sequence[str], path: Path) -> None:
    """Raises DataError where `table` lacks one of the columns."""
    if missing := [name for name in names if name not in table]:
        found = examples([str(name) for name in table.columns], 8)
        raise DataError(f"{path} must have the column(s) {', '.join(missing)}, but has {found}: add or rename them.")


def require_values(table: pd.DataFrame, name: str, path: Path, cure: str) -> list[str]:
    """The column as a list of text. Raises DataError where a cell is blank, with the number of such rows."""
    if len(rows := table.index[table[name].isna()]):
        numbers = examples([str(row) for row in rows])
        raise DataError(f"Every row of {path} needs a value of {name}, but it is blank in row {numbers}: {cure}.")
    return [str(value) for value in table[name]]


def read_ids(path: Path) -> tuple[str, ...]:
    """The ids in a text file (`--exclude FILE`): one per line; blank lines, `#` comments and a header are skipped.

    Raises:
        DataError: the file cannot be read as text.
    """
    lines = [line.strip() for line in _read_text(path).splitlines()]
    return tuple(dict.fromkeys(line for line in lines if line and not line.startswith("#") and line != "image_id"))


def _read_rows(path: Path) -> list[Iterable[object]]:
    if path.suffix.lower() == ".csv":
        return _read_csv(path)
    try:
        # Formulas are read as they are, so that they can be refused: a cached value may be stale or missing.
        with path.open("rb") as file:
            sheet = openpyxl.load_workbook(file, read_only=True, data_only=False).worksheets[0]
            return list(sheet.iter_rows(values_only=True))
    except (InvalidFileException, zipfile.BadZipFile, KeyError, ValueError, OSError, IndexError) as error:
        raise DataError(f"{path} must be a readable Excel file, but it is not ({error}): copy it again.") from error


def _read_csv(path: Path) -> list[Iterable[object]]:
    try:
        return list(csv.reader(io.StringIO(_read_text(path), newline=""), strict=True))
    except csv.Error as error:
        raise DataError(f"{path} must be a readable CSV file, but it is not ({error}): save it again.") from error


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} must be UTF-8 text, but byte {error.start} is not: save it as 'CSV UTF-8'.") from error
    except OSError as error:
        raise DataError(f"{path} must be a readable file, but it is not ({error.strerror}): check the path.") from error


def _text(cell: object) -> str | None:
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    text = "" if cell is None else str(cell).strip()
    return None if text.lower() in BLANKS else text


def _column_name(name: str | None, aliases: dict[str, str]) -> str:
    plain = " ".join((name or "").lower().split())
    return aliases.get(plain, plain)


def _row(row: list[str | None], width: int, what: str) -> list[str | None]:
    if any(row[width:]):
        raise DataError(f"{what} must have {width} cells, but has {len(row)}: quote cells that hold a comma.")
    if formulas := [cell for cell in row if cell is not None and is_formula(cell)]:
        raise DataError(f"{what} must hold plain values, but got the formula {formulas[0][:60]!r}: write its value instead.")
    return row[:width] + [None] * (width - len(row))
