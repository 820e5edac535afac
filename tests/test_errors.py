"""Errors: one line that every terminal shows, and that travels between processes as it is."""

import pickle

import pytest

from tests.support.hostile import EVERYTHING
from tests.support.shells import typed_in_bash
from tune_btxrd.errors import DataError, JobError, TuneBtxrdError, printable, shell_command


@pytest.mark.parametrize("name", EVERYTHING, ids=ascii)
def test_whatever_name_a_message_holds_it_is_one_printable_line(name: str) -> None:
    text = str(DataError(f"A class must be fine, but {name} is not: rename it."))
    assert text.isprintable() and text.encode() and len(text.splitlines()) == 1
    if name.isprintable():
        assert name in text


TYPED = [name for name in EVERYTHING if "\ud800" not in name]  # no process can be given that one


@pytest.mark.parametrize("name", [*TYPED, "it's \\ \x1b[31m\n", "\U000e0001", "Latin \udcff", "\x9f", ""], ids=ascii)
def test_a_command_is_typed_as_it_is_printed(name: str) -> None:
    shown = printable(shell_command(["watch", name, "--storage", "a b"]))
    assert typed_in_bash(shown) == ["watch", name, "--storage", "a b"]


def test_what_cannot_be_shown_is_escaped() -> None:
    assert str(TuneBtxrdError("a\nb \ud800 \u202e \x1b[2J é 骨")) == r"a\nb \ud800 \u202e \x1b[2J é 骨"


def test_an_error_is_the_same_after_a_journey() -> None:
    error = pickle.loads(pickle.dumps(JobError("a\nb")))
    assert isinstance(error, JobError) and str(error) == r"a\nb" and error.exit_code == 1
