"""What a search writes is read back equal, whatever stands in names, reasons and values."""

import csv
import math
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.searches import SPACE, make_folder, make_record, make_rows, make_trial
from tune_btxrd.files import write_whole
from tune_btxrd.search.columns import recall_columns
from tune_btxrd.search.journal import Journal, read_events
from tune_btxrd.search.record import SearchRecord, read_search
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.search.tables import write_tables

ODD = (
    "+ve",
    "-ve",
    "benign ",
    " benign",
    "nan",
    "NaN",
    "None",
    "=1+1",
    "a,b",
    'a"b',
    "a\nb",
    "a\r\nb",
    "ü",
    "🦴",
    "\u202e",
    "",
)
TEXTS = st.sampled_from(ODD) | st.text(max_size=30)
ANY_TEXT = TEXTS | st.just("Latin-1 \udce9.png")  # as Python reads a file name that is no UTF-8
NUMBERS = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300)
VALUES = st.none() | st.booleans() | st.integers(-(10**12), 10**12) | NUMBERS | ANY_TEXT


@settings(max_examples=40, deadline=None)
@given(reason=ANY_TEXT, params=st.dictionaries(TEXTS, VALUES, max_size=4), loss=NUMBERS, note=ANY_TEXT)
def test_events_of_the_journal(reason: str, params: dict[str, Any], loss: float, note: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = make_folder(Path(name) / "s")
        journal = Journal(folder)
        written = [journal.write("session", slots=1, dashboard=None)]
        written.append(journal.write("start", trial="0", number=0, role="search", config=params, params=params))
        written += [journal.write("epoch", trial="0", **row) for row in make_rows([loss])]
        written.append(journal.write("note", trial="0", text=note))
        written.append(journal.write("end", trial="0", state="failed", reason=reason))
        journal.close()
        assert list(read_events(folder)) == written
        if params.get("monitor", "val_loss") == "val_loss":
            trial = read_search(folder).trials["0"]
            assert (trial.params, trial.reason, trial.notes) == (params, reason, [note])
            assert trial.objective == loss


@settings(max_examples=40, deadline=None)
@given(reason=TEXTS, name=TEXTS, value=TEXTS, loss=NUMBERS, classes=st.lists(TEXTS, min_size=2, max_size=4, unique=True))
@example(reason="nan", name="+ve", value="nan", loss=0.1, classes=["HER2+", "HER2-"])
def test_trials_csv_and_epochs_csv(reason: str, name: str, value: str, loss: float, classes: list[str]) -> None:
    columns = recall_columns(classes)
    assert len(set(columns)) == len(classes)
    recalls = {column: number / 8 for number, column in enumerate(columns)}
    trial = make_trial(0, [loss], reason=reason, params={f"p_{name}": value}, values=recalls)
    with tempfile.TemporaryDirectory() as folder:
        write_tables(make_record(Path(folder), trial))
        trials, epochs = (table(Path(folder) / file) for file in ("trials.csv", "epochs.csv"))
    assert (trials[0]["reason"], trials[0][f"p_{name}"], trials[0]["state"]) == (reason, value, "complete")
    for row in (trials[0], epochs[0]):
        assert math.isclose(float(row["objective"]), loss, rel_tol=0, abs_tol=0)
        assert {column: float(row[column]) for column in recalls} == recalls


def test_a_reason_that_is_no_unicode_does_not_keep_the_tables_from_being_written(tmp_path: Path) -> None:
    write_tables(make_record(tmp_path, make_trial(0, [0.5], reason="Latin-1 \udce9.png")))
    assert table(tmp_path / "trials.csv")[0]["reason"] == "Latin-1 \\udce9.png"


@settings(max_examples=15, deadline=None)
@given(low=st.floats(1e-5, 1e-3), factor=st.floats(2, 1e3), seed=st.integers(0, 2**31))
def test_a_space_means_the_same_after_a_copy(low: float, factor: float, seed: int) -> None:
    text = SPACE.replace("low: 1.0e-5, high: 1.0e-2", f"low: {low:.17e}, high: {low * factor:.17e}")
    text = f"# ü 🦴 $x [b]\nseed: {seed}\n" + text.replace("lr: 1.0e-3", f"lr: {low:.17e}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "space.yaml"
        write_whole(path, text)
        assert SearchSpec.load(path) == SearchSpec.from_text(text)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@given(st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=30))
def test_trials_are_in_order_however_often_they_were_asked_for(added: list[tuple[int, bool]]) -> None:
    record = SearchRecord(folder=Path(), settings={}, trials={}, sessions=[])
    for number, is_asked in added:
        record.trials.setdefault(str(number), make_trial(number, [0.5]))
        if is_asked:
            record.search_trials.clear()  # a list of the asker's own
    assert [trial.number for trial in record.search_trials] == sorted(map(int, record.trials))
    record.trials.clear()
    assert record.search_trials == []
