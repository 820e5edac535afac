"""Source: a prepared dataset is read as it was written, or refused in one line."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.sources import make_source
from tune_btxrd.errors import DataError


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        ("targets", lambda text: text.replace("Benign", "Ganglion"), "A label must be one of Normal, Benign, Malignant"),
        ("common", lambda text: text.replace("part", "prat", 1), "must have the column part"),
        ("common", lambda text: text.replace("IMG000003", "IMG000004"), "An image must be in a table once"),
        ("targets", lambda text: text.replace("IMG000003", "IMG000004"), "An image must be in a table once"),
        ("common", lambda text: text.replace("IMG000003", "IMG990003"), "Every image of a split must have a target"),
        ("common", lambda text: "", "A split's table must be readable"),
    ],
)
def test_a_wrong_split_is_one_line(table: str, change: Callable[[str], str], message: str, tmp_path: Path) -> None:
    source = make_source(tmp_path)
    source.check("common")
    path = Path(source.splits) / f"{table}.csv"
    path.write_text(change(path.read_text()))
    for read in (source.check, source.training_data):
        with pytest.raises(DataError, match=message):
            read("common")
