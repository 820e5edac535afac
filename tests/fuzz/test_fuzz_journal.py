"""Journals that were cut, mixed up, edited or damaged: `list`, `watch`, `report` and `--resume` answer in one line."""

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.fuzz import Case, Fuzz, changed_json, check, damaged, run_verb, sealed
from tests.support.reports import make_search
from tune_btxrd.errors import TuneBtxrdError
from tune_btxrd.results.search_json import SearchSettings
from tune_btxrd.search.conductor import Conductor
from tune_btxrd.search.journal import FILE, Journal
from tune_btxrd.search.record import read_search

OTHER_LINES = (
    *("garbage", "", " ", "123", "null", "[]", '"s"', "true", "{}", "1e999", "NaN", "\x00" * 50, "[" * 2000),
    *('{"event": 5}', '{"event": [1]}', '[{"event": 1}]', '{"event": "nosuch"}', '{"event": "session"}'),
    *('{"event": "epoch"}', '{"event": "start"}', '{"event": "end", "trial": "99"}', '{"event": "epoch", "trial": "0"}'),
)
REPORT_EVERY = 20  # cases; a report takes seconds


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small finished searches in one storage; the first one's journal is spoilt."""
    storage = tmp_path_factory.mktemp("journals")
    make_search(storage / "spoilt", trials=4, name="spoilt")
    make_search(storage / "whole", trials=2, odd=False, name="whole")
    check(run_verb("report", "whole", "--storage", str(storage)))  # libraries make their caches
    return storage


def spoilt(case: Case, content: bytes) -> bytes:
    """A journal with lines lost, doubled, moved, put in or changed."""
    lines = content.decode().splitlines()
    index = case.randrange(len(lines))
    doing = case.randrange(9)
    if doing == 0:
        return damaged(case, content)
    if doing == 1:
        lines.insert(index, lines[case.randrange(len(lines))])
    elif doing == 2:
        del lines[index]
    elif doing == 3:
        lines.insert(index, case.choice(OTHER_LINES))
    elif doing == 4:
        case.shuffle(lines)
    elif doing == 5:
        lines = lines[:index]
    else:
        event: dict[str, Any] = json.loads(lines[index])
        lines[index] = json.dumps(changed_json(case, event))
    return ("\n".join(lines) + case.choice(("\n", ""))).encode()


def go_on(folder: Path) -> None:
    """What `--resume` does with a journal before Ray is started; a mistake of the user is fine."""
    with contextlib.suppress(TuneBtxrdError):
        spec, record = SearchSettings.load(folder).spec(folder), read_search(folder)
        journal = Journal(folder)
        try:
            conductor = Conductor(spec, journal=journal, record=record, slots=2, split="common")
            conductor.next()
            conductor.close()
        finally:
            journal.close()


def test_spoilt_journals(fuzz: Fuzz, original: Path, tmp_path: Path) -> None:
    content = (original / "spoilt" / FILE).read_bytes()
    storage = tmp_path / "storage"
    shutil.copytree(original, storage)
    journal = storage / "spoilt" / FILE
    for case in fuzz.cases(120):
        with sealed(tmp_path, programs=True):
            journal.write_bytes(spoilt(case, content))
            listed = run_verb("list", "--storage", str(storage))
            check(listed)
            assert listed.code == 0
            assert "whole" in listed.out, "a damaged search must not hide the others"
            check(run_verb("watch", "spoilt", "--storage", str(storage)))
            if case.number % REPORT_EVERY == 0:
                check(run_verb("report", "spoilt", "--storage", str(storage)))
            go_on(storage / "spoilt")
