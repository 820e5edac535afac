"""Tables as CSV: text that a spreadsheet would run as a formula gets an apostrophe, and is read back as it was."""

import re
from pathlib import Path
from typing import Any

import pandas as pd

from tune_btxrd.data.readers.names import is_formula

TEXT = ("model", "class", "metric", "interval", "kind", "level", "image_id", "label", "predicted", "operating_point", "seed")
_DIFFERENCE = re.compile(r"[+-]\d+\.\d{3} \((not estimable|[+-]\d+\.\d{3} to [+-]\d+\.\d{3})\)")  # a cell of our own
_MARKED = re.compile(r"'+(?=[=@+-])")


def to_csv(table: pd.DataFrame) -> str:
    """The table as CSV without an index, safe to open in a spreadsheet."""
    safe = table.rename(columns={name: safe_cell(name) for name in table})
    for name in safe:
        if safe[name].dtype == object or isinstance(safe[name].dtype, pd.StringDtype):
            safe[name] = [safe_cell(value) for value in safe[name]]
    return safe.to_csv(index=False)


def read_csv(path: Path) -> pd.DataFrame:
    """What `to_csv` wrote: names as they were ("None" is one), empty numbers as NaN."""
    table = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=dict.fromkeys(TEXT, str))
    table = table.rename(columns={name: plain_cell(name) for name in table})
    for name in (name for name in TEXT if name in table):
        table[name] = ["" if pd.isna(value) else plain_cell(value) for value in table[name]]
    return table


def safe_cell(value: Any) -> Any:
    """A text that would run, with an apostrophe before it (one more where it has some already); all else as it is."""
    if not isinstance(value, str):
        return value
    runs = is_formula(value) and not _DIFFERENCE.fullmatch(value)
    return f"'{value}" if runs or _hides_formula(value) else value


def plain_cell(value: Any) -> Any:
    """The inverse of `safe_cell`."""
    return value[1:] if isinstance(value, str) and _hides_formula(value) else value


def _hides_formula(value: str) -> bool:
    found = _MARKED.match(value)
    return bool(found) and is_formula(value[found.end() :]) if found else False
