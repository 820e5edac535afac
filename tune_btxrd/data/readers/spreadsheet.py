"""Spreadsheets as text: one reader for .csv and .xlsx, strict about what a cell may hold."""

import csv
import io
import zipfile
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import openpyxl
import pandas as pd

from tune_btxrd.data.readers.names import BLANKS, RUNS, examples
from tune_btxrd.errors import DataError, first_line

MOST_BYTES = 512 * 2**20  # of a table, unpacked; BTXRD's has half a MiB
MOST_ROWS, MOST_CELLS = 500_000, 50_000_000  # of a sheet; one cell far below makes all rows above it
LABEL_KIND = "label"  # of a column `label:NAME`
HEADER_WITHIN = 20  # rows: a title or a note may stand above the header
Rows = list[Sequence[object]]


def read_table(path: Path, aliases: dict[str, str] | None = None) -> pd.DataFrame:
    """The table of `path` (.csv, or the first sheet of .xlsx with a table): every cell as stripped text, blank as None.

    Column names are lower case with single spaces, but the NAME of a `label:NAME` stays; `aliases` renames older ones. The
    index is the row number in the file, rows that are blank throughout are left out.

    Raises:
        DataError: the file is no readable table, two columns share a name, a cell holds a formula.
    """
    return read_sheet(path, aliases)[0]


def read_sheet(
    path: Path, aliases: dict[str, str] | None = None, *, needs: Collection[str] = ()
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """`read_table`, and what to say of the place where the table was found.

    Args:
        needs: columns by which the header is known, in whichever sheet and row it stands. Without them, or where no row
            has them, the first row of the first sheet with cells is the header.

    Raises:
        DataError: as `read_table`.
    """
    sheets = {name: [[_text(cell) for cell in row] for row in rows] for name, rows in _read_sheets(path).items()}
    found = _find_header(sheets, needs, aliases or {})
    if found is None:
        raise DataError(f"{path} must hold a header and at least one row, but it is empty: copy it again.")
    name, start = found
    rows = sheets[name]
    header = [column_name(cell, aliases or {}) for cell in rows[start]]
    while header and not header[-1]:
        header.pop()
    if repeated := [column for column, count in Counter(header).items() if count > 1]:
        raise DataError(f"Column names of {path} must be unique, but {repeated[0]!r} stands twice: rename one.")
    body = {number: row for number, row in enumerate(rows[start + 1 :], start=start + 2) if any(row)}
    if not body:
        raise DataError(f"{path} must hold a row below its header, but holds none{_of(name, sheets)}: copy it again.")
    cells = [_row(row, len(header), f"Row {number} of {path}") for number, row in body.items()]
    notes = [f"The table was read{_of(name, sheets)}, its header in row {start + 1}."]
    plain = start == 0 and name == next(iter(sheets))
    return pd.DataFrame(cells, index=list(body), columns=header, dtype=object), () if plain else tuple(notes)


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


def _find_header(
    sheets: dict[str, list[list[str | None]]], needs: Collection[str], aliases: dict[str, str]
) -> tuple[str, int] | None:
    """Sheet and row (from 0) of the header; None where no sheet holds a cell."""
    for name, rows in sheets.items():
        for index, row in enumerate(rows[:HEADER_WITHIN]):
            if needs and set(needs) <= {column_name(cell, aliases) for cell in row}:
                return name, index
    first = ((name, index) for name, rows in sheets.items() for index, row in enumerate(rows) if any(row))
    return next(first, None)


def _of(name: str, sheets: Collection[str]) -> str:
    return f" from sheet {name!r} of {len(sheets)}" if len(sheets) > 1 else ""


def _read_sheets(path: Path) -> dict[str, Rows]:
    """Sheet -> its rows; a .csv is one sheet."""
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise DataError(f"A table must have at most {MOST_BYTES >> 20} MiB, but {path} has {size >> 20}: check it.")
    except OSError as error:
        raise DataError(f"{path} must be a readable file, but it is not ({error.strerror}): check the path.") from error
    return {path.name: _read_csv(path)} if path.suffix.lower() == ".csv" else _read_workbook(path)


def _read_workbook(path: Path) -> dict[str, Rows]:
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > MOST_BYTES:
            raise DataError(f"A table must have at most {MOST_BYTES >> 20} MiB, but {path} unpacks to {unpacked >> 20}.")
        # Formulas are read as they are, so that they can be refused: a cached value may be stale or missing.
        with path.open("rb") as file:
            book = openpyxl.load_workbook(file, read_only=True, data_only=False)
            return {sheet.title: _rows_of(sheet, path) for sheet in book.worksheets}
    except DataError:
        raise
    except Exception as error:  # openpyxl's parsers raise all kinds on damaged bytes; each is reported with its reason
        raise DataError(
            f"{path} must be a readable Excel file, but it is not ({first_line(error)}): copy it again."
        ) from error


def _rows_of(sheet: Any, path: Path) -> Rows:
    """All rows of a sheet, without the empty ones at its end."""
    sheet.reset_dimensions()  # the range that a workbook declares is often wrong; every row is read
    rows: Rows = []
    cells = 0
    for row in sheet.iter_rows(values_only=True):
        rows.append(row)
        cells += len(row)
        if len(rows) > MOST_ROWS or cells > MOST_CELLS:
            raise DataError(f"A table must have at most {MOST_ROWS:,} rows, but sheet {sheet.title!r} of {path} has more.")
    while rows and not any(cell is not None for cell in rows[-1]):
        rows.pop()
    return rows


def _read_csv(path: Path) -> Rows:
    try:
        text = _read_text(path)
        return list(csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=_separator(text)))
    except csv.Error as error:
        raise DataError(f"{path} must be a readable CSV file, but it is not ({error}): save it again.") from error


def _separator(text: str) -> str:
    """A comma, or what spreadsheets of other countries write where the first line has none: a semicolon or a tab."""
    first = text.lstrip("\r\n").partition("\n")[0]
    return next((sign for sign in ",;\t" if sign in first), ",")


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


def column_name(name: str | None, aliases: Mapping[str, str] = MappingProxyType({})) -> str:
    """A cell of the header as the name of its column."""
    words = " ".join((name or "").split())
    kind, colon, label = words.partition(":")
    if colon and kind.strip().lower() == LABEL_KIND:
        return f"{LABEL_KIND}:{label.strip()}"
    return aliases.get(words.lower(), words.lower())


def _row(row: list[str | None], width: int, what: str) -> list[str | None]:
    if any(row[width:]):
        raise DataError(f"{what} must have {width} cells, but has {len(row)}: quote cells that hold a comma.")
    if formulas := [cell for cell in row if cell is not None and RUNS.match(cell)]:
        raise DataError(f"{what} must hold plain values, but got the formula {formulas[0][:60]!r}: write its value instead.")
    return row[:width] + [None] * (width - len(row))
