"""The journal, the trials read back from it, and the tables."""

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.support.reports import make_search
from tests.support.searches import make_folder, make_record, make_repeat, make_row, make_rows, make_trial
from tune_btxrd.errors import ResultError
from tune_btxrd.files import write_whole
from tune_btxrd.search.journal import Journal, JournalReader, read_events
from tune_btxrd.search.record import read_search
from tune_btxrd.search.tables import TableKeeper, epochs_table, refresh_tables, trials_table, write_tables

START = {"trial": "0", "number": 0, "role": "search", "config": {"lr": 0.1}, "params": {"lr": 0.1}}


def write_some(folder: Path) -> None:
    """One trial with two epochs."""
    journal = Journal(make_folder(folder))
    journal.write("start", **START)
    for row in make_rows([0.9, 0.8]):
        journal.write("epoch", trial="0", **row)
    journal.close()


def test_events_come_back_in_order(tmp_path: Path) -> None:
    write_some(tmp_path)
    events = list(read_events(tmp_path))
    assert [event["event"] for event in events] == ["start", "epoch", "epoch"]
    assert events[0]["config"] == {"lr": 0.1} and events[2]["val_loss"] == 0.8
    assert events[0]["time"] <= events[1]["time"] <= events[2]["time"]


def test_every_event_is_on_the_disk_before_write_returns(tmp_path: Path) -> None:
    journal = Journal(make_folder(tmp_path))
    journal.write("session", slots=2)
    assert [event["slots"] for event in read_events(tmp_path)] == [2]
    journal.close()


@pytest.mark.parametrize("keep", [1, 20, -1])
def test_a_half_written_last_line_is_left_out_and_cut_by_the_next_session(keep: int, tmp_path: Path) -> None:
    write_some(tmp_path)
    path = tmp_path / "journal.jsonl"
    *whole, last = path.read_text().splitlines(keepends=True)
    path.write_text("".join(whole) + last[:keep])
    known = [event["event"] for event in read_events(tmp_path)]
    assert known == ["start", "epoch", *(["epoch"] if keep == -1 else [])]  # -1: only its line break is missing
    journal = Journal(tmp_path)
    journal.write("end", trial="0", state="failed", reason="x")
    journal.close()
    assert [event["event"] for event in read_events(tmp_path)] == [*known, "end"]


@pytest.mark.parametrize(
    "rubbish", [b"\n", b"\n\n  \n", b"\x00" * 50 + b"\n", b"\x00\n" * 3 + b"\x00", b"\xff\xfe\n", b"123\n", b"["]
)
def test_rubbish_at_the_end_is_left_out_and_cut_not_buried(rubbish: bytes, tmp_path: Path) -> None:
    """A blank line of an editor, zeros after a power cut."""
    write_some(tmp_path)
    path = tmp_path / "journal.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + rubbish)
    assert len(list(read_events(tmp_path))) == 3
    for _ in range(2):
        Journal(tmp_path).close()
        assert path.read_bytes() == whole
    path.write_bytes(whole + rubbish + whole)
    with pytest.raises(ResultError, match="line 4 is no JSON object"):
        Journal(tmp_path)
    path.write_bytes(whole)
    Journal(tmp_path).close()  # the lock of the one that was refused is free again


def test_a_reader_that_follows_takes_each_event_once(tmp_path: Path) -> None:
    write_some(tmp_path)
    path = tmp_path / "journal.jsonl"
    whole = path.read_bytes()
    reader, seen = JournalReader(tmp_path), []
    for size in (0, 10, len(whole) // 2, len(whole) - 1, len(whole) - 1, len(whole), len(whole)):
        path.write_bytes(whole[:size])
        seen += [line for line, _ in reader.new_events()]
    path.write_bytes(whole + whole)
    seen += [line for line, _ in reader.new_events()]
    assert seen == [1, 2, 3, 4, 5, 6]


WRONG_EVENTS: list[tuple[str, dict[str, Any]]] = [
    ("is an event of an unknown kind", {"event": "nosuch"}),
    ("is an event of an unknown kind", {"event": ["end"]}),
    ("lacks 'time'", {"event": "session", "time": ...}),
    ("has time='x' where seconds since 1970 is due", {"event": "session", "time": "x"}),
    ("lacks 'state'", {"event": "end", "trial": "0", "reason": ""}),
    ("has state='running' where one of", {"event": "end", "trial": "0", "reason": "", "state": "running"}),
    ("has reason=None where a text is due", {"event": "end", "trial": "0", "reason": None, "state": "failed"}),
    ("calls trial 0 complete, of which", {"event": "end", "trial": "0", "reason": "", "state": "complete"}),
    ("is about trial 7, whose start no line before it tells", {"event": "note", "trial": "7", "text": ""}),
    ("has trial='../../x' where a trial like 7 or 7r2", {**START, "event": "start", "trial": "../../x"}),
    ("starts trial 0 once more", {**START, "event": "start"}),
    ("calls trial 1 '2'", {**START, "event": "start", "trial": "2", "number": 1}),
    ("has other values of 'lr'", {**START, "event": "start", "trial": "1", "number": 1, "params": {"lr": 2}}),
    (
        "has config={'monitor': 'nosuch'} where a mapping with a known monitor and objective is due",
        {**START, "event": "start", "trial": "1", "number": 1, "config": {"monitor": "nosuch"}},
    ),
    ("repeats trial 5", {**START, "event": "start", "trial": "5r1", "role": "confirm", "of": 5, "repeat": 1}),
    ("has val_loss=nan where a finite number is due", make_row(1, float("nan"))),
    ("has val_acc=None where a number is due", make_row(1, 0.5, val_acc=None)),
    ("has epoch=True where a whole number from 1 is due", make_row(1, 0.5) | {"epoch": True}),
    ("has val_loss=1000", make_row(1, 0.5) | {"val_loss": 10**400}),
    ("has stop='x' where one of '', 'budget', 'patience' is due", make_row(1, 0.5, stop="x")),
]


@pytest.mark.parametrize(("reason", "event"), WRONG_EVENTS, ids=[reason for reason, _ in WRONG_EVENTS])
def test_an_event_that_is_none_is_one_line_with_file_line_and_cure(
    reason: str, event: dict[str, Any], tmp_path: Path
) -> None:
    journal = Journal(make_folder(tmp_path))
    journal.write("start", **START)
    journal.close()
    event = {
        name: value for name, value in {"event": "epoch", "time": 1.0, "trial": "0", **event}.items() if value is not ...
    }
    with (tmp_path / "journal.jsonl").open("a") as file:
        file.write(json.dumps(event) + "\n" + json.dumps({"event": "session", "time": 1.0}) + "\n")
    with pytest.raises(ResultError) as raised:
        read_search(tmp_path)
    text = str(raised.value)
    assert f"journal.jsonl must be an event of its search, but line 2 {reason}" in text
    assert text.endswith("restore the file from a copy, or keep the 1 lines before it alone.")
    assert "\n" not in text


def test_a_column_that_is_lost_or_renamed_is_found(tmp_path: Path) -> None:
    write_some(tmp_path)
    path = tmp_path / "journal.jsonl"
    whole = path.read_text()
    path.write_text(whole.replace("val_recall_benign", "val_recall_bening", 1))
    with pytest.raises(ResultError, match="line 3 and the epoch before it differ in whether they have 'val_recall_beni"):
        read_search(tmp_path)
    session = json.dumps({"event": "session", "time": 1.0}) + "\n"  # of a version that reports another metric
    start, first, second = whole.splitlines(keepends=True)
    path.write_text(start + first + session + second.replace("val_macro_auc", "val_kappa"))
    assert len(read_search(tmp_path).trials["0"].epochs) == 2


def test_what_we_advise_to_do_with_a_damaged_journal_works(tmp_path: Path) -> None:
    """Lost start lines, once for each trial of a real search; the lines before are a search again."""
    folder = make_search(tmp_path / "stub", trials=6)
    path = folder / "journal.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    for start in [index for index, line in enumerate(lines) if '"start"' in line]:
        path.write_text("".join(lines[:start] + lines[start + 1 :]))
        with pytest.raises(ResultError) as raised:
            read_search(folder)
        kept = int(str(raised.value).split("keep the ")[1].split()[0])
        path.write_text("".join([*lines[:start], *lines[start + 1 :]][:kept]))
        assert len(read_search(folder).trials) >= sum('"start"' in line for line in lines[:start])


@pytest.mark.parametrize("content", [b"5", b"[]", b"null", b"\xff", b'"x"', b"[" * 100_000, b""])
def test_settings_that_are_none_are_one_line(content: bytes, tmp_path: Path) -> None:
    (make_folder(tmp_path) / "search.json").write_bytes(content)
    with pytest.raises(ResultError, match=r"search.json must .* restore it from the storage's copy"):
        read_search(tmp_path)


def test_a_damaged_line_in_the_middle_is_an_error_with_its_number(tmp_path: Path) -> None:
    write_some(tmp_path)
    path = tmp_path / "journal.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1][:30], lines[2]]) + "\n")
    with pytest.raises(
        ResultError, match="line 2 is no JSON object: restore the file from a copy, or keep the 1 lines before"
    ):
        read_search(tmp_path)


def test_only_one_session_writes_at_a_time(tmp_path: Path) -> None:
    first = Journal(make_folder(tmp_path))
    with pytest.raises(ResultError, match=rf"One process at a time may write .*, but process {os.getpid()} on .*search"):
        Journal(tmp_path)
    first.close()
    Journal(tmp_path).close()


def test_a_missing_search_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="No search called 'absent'"):
        read_search(tmp_path / "absent")
    (tmp_path / "search.json").write_text("{")
    with pytest.raises(ResultError, match=r"search.json must be JSON, but line 1 is not"):
        read_search(tmp_path)


def test_an_epoch_told_twice_counts_once(tmp_path: Path) -> None:
    journal = Journal(make_folder(tmp_path))
    journal.write("start", **START)
    for row in [*make_rows([0.9, 0.8]), *make_rows([0.9, 0.8, 0.7])]:
        journal.write("epoch", trial="0", **row)
    journal.close()
    trial = read_search(tmp_path).trials["0"]
    assert [row["epoch"] for row in trial.epochs] == [1, 2, 3]
    assert (trial.state, trial.objective, trial.best) == ("running", 0.7, trial.epochs[2])


def test_tables_hold_every_trial_and_epoch_under_the_contracts_names(tmp_path: Path) -> None:
    record = make_record(
        tmp_path,
        make_trial(1, [0.9, 0.7, 0.8], reason="stopped by its own patience", started=10.0, ended=13.5),
        make_trial(0, [0.9], state="pruned"),
        make_repeat(1, 2, [0.75]),
    )
    table = trials_table(record)
    assert list(table["trial"]) == ["0", "1", "1r2"] and list(table["role"]) == ["search", "search", "confirm"]
    row = table.iloc[1]
    assert (row["state"], row["epochs"], row["best_epoch"], row["objective"], row["seconds"]) == ("complete", 3, 2, 0.7, 3.5)
    assert table.iloc[0]["state"] == "stopped early"  # in the words of every other place
    assert row["val_loss"] == 0.7 and row["lr"] == 1e-3 and row["val_recall_malignant"] == 0.5
    epochs = epochs_table(record)
    contract = "epoch,train_loss,val_loss,val_acc,val_recall_normal,val_recall_benign,val_recall_malignant,lr"
    assert ",".join(epochs.columns).startswith("trial," + contract)
    assert list(epochs["trial"]) == ["0", "1", "1", "1", "1r2"]


def test_tables_of_a_search_without_epochs_can_be_written_and_read(tmp_path: Path) -> None:
    trial = make_trial(0, [0.9], state="failed", reason="RuntimeError: x, y")
    trial.epochs.clear()
    write_tables(make_record(tmp_path, trial))
    table = pd.read_csv(tmp_path / "trials.csv")
    assert table.loc[0, "reason"] == "RuntimeError: x, y" and table.loc[0, "epochs"] == 0
    assert not list(tmp_path.glob("*.part"))


def test_an_unwritable_folder_is_a_mistake_with_a_cure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultError, match="Free space, or choose another folder"):
        write_whole(tmp_path / "file" / "trials.csv", "x")


def test_the_tables_follow_a_search_and_a_kill_leaves_them_to_be_refreshed(tmp_path: Path) -> None:
    folder = make_search(tmp_path / "stub", trials=6)
    record = read_search(folder)
    assert not (folder / "trials.csv").exists()
    keeper = TableKeeper(record)
    keeper.ended(record.search_trials[0])
    assert len(pd.read_csv(folder / "trials.csv")) == len(record.trials)
    journal = Journal(folder)
    journal.write("session", slots=1)
    journal.close()
    written = (folder / "trials.csv").stat().st_mtime_ns
    os.utime(folder / "journal.jsonl", ns=(written + 1, written + 1))
    (folder / "epochs.csv").unlink()
    refresh_tables(record)
    assert (folder / "epochs.csv").exists()
    os.utime(folder / "journal.jsonl", ns=(1, 1))
    (folder / "epochs.csv").unlink()
    refresh_tables(record)  # nothing is newer
    assert not (folder / "epochs.csv").exists()
