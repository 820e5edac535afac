"""The fuzz helpers see what they are there to see."""

import os
import socket
from pathlib import Path

import pytest

from tests.support.fuzz import Case, Fuzz, Outcome, changed_json, check, damaged, run_verb, sealed


def test_cases_are_the_same_each_time_and_one_can_be_repeated_alone() -> None:
    first, again = ([case.random() for case in Fuzz().cases(5)] for _ in range(2))
    assert first == again and len(set(first)) == 5
    assert [case.random() for case in Fuzz(first=3).cases(5)] == [first[3]]


def test_content_and_data_change_and_the_original_stays() -> None:
    content, data = b"0123456789" * 5, {"a": [1, {"b": 2}], "c": "d"}
    assert {damaged(Case(seed), content) != content for seed in range(50)} == {True}
    assert len({repr(changed_json(Case(seed), data)) for seed in range(50)}) > 20
    assert data == {"a": [1, {"b": 2}], "c": "d"}


def test_what_leaves_the_folder_or_the_machine_is_found(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    with sealed(inside):
        (inside / "a.txt").write_text("fine")
        (inside / "a.txt").rename(inside / "b.txt")
    with pytest.raises(AssertionError, match=r"open .*outside\.txt"), sealed(inside):
        (tmp_path / "outside.txt").write_text("not fine")
    with pytest.raises(AssertionError, match=r"os\.remove .*outside\.txt"), sealed(inside):
        (tmp_path / "outside.txt").unlink()
    with pytest.raises(AssertionError, match="connected"), sealed(inside), socket.socket() as end, pytest.raises(OSError):
        end.connect(("127.0.0.1", 9))
    with pytest.raises(AssertionError, match=r"os\.system"), sealed(inside):
        os.system("true")


def test_a_verb_ends_with_0_or_with_2_and_one_line(tmp_path: Path) -> None:
    check(run_verb("list", "--storage", str(tmp_path)))
    check(run_verb("watch", "nosuch", "--storage", str(tmp_path)))
    check(run_verb("nosuch"))
    for bad in (
        Outcome(code=1, out="", error="Traceback"),
        Outcome(code=2, out="", error=""),
        Outcome(code=2, out="", error="a\nb"),
        Outcome(code="raised KeyError('x')", out="", error=""),
    ):
        with pytest.raises(AssertionError):
            check(bad)
