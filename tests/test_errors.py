"""Errors: one line that every terminal shows, and that travels between processes as it is."""

import pickle

import pytest

from tests.support.hostile import EVERYTHING
from tune_btxrd.errors import DataError, JobError, TuneBtxrdError


@pytest.mark.parametrize("name", EVERYTHING, ids=ascii)
def test_whatever_name_a_message_holds_it_is_one_printable_line(name: str) -> None:
    text = str(DataError(f"A class must be fine, but {name} is not: rename it."))
    assert text.isprintable() and text.encode() and len(text.splitlines()) == 1
    if name.isprintable():
        assert name in text


def test_what_cannot_be_shown_is_escaped() -> None:
    assert str(TuneBtxrdError("a\nb \ud800 \u202e \x1b[2J é 骨")) == r"a\nb \ud800 \u202e \x1b[2J é 骨"


def test_an_error_is_the_same_after_a_journey() -> None:
    error = pickle.loads(pickle.dumps(JobError("a\nb")))
    assert isinstance(error, JobError) and str(error) == r"a\nb" and error.exit_code == 1
