"""The journal, the trials read back from it, and the tables."""

from pathlib import Path

import pandas as pd
import pytest

from tests.support.searches import make_folder, make_record, make_repeat, make_rows, make_trial
from tune_btxrd.errors import ResultError
from tune_btxrd.files import write_whole
from tune_btxrd.search.journal import Journal, read_events
from tune_btxrd.search.record import epochs_table, read_search, trials_table, write_tables

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
    assert len(list(read_events(tmp_path))) == (2 if keep != -1 else 3)
    journal = Journal(tmp_path)
    journal.write("end", trial="0", state="failed", reason="x")
    journal.close()
    assert [event["event"] for event in read_events(tmp_path)] == ["start", "epoch", "end"]


def test_a_damaged_line_in_the_middle_is_an_error_with_its_number(tmp_path: Path) -> None:
    write_some(tmp_path)
    path = tmp_path / "journal.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1][:30], lines[2]]) + "\n")
    with pytest.raises(ResultError, match="line 2 is not"):
        read_search(tmp_path)


def test_only_one_session_writes_at_a_time(tmp_path: Path) -> None:
    first = Journal(make_folder(tmp_path))
    with pytest.raises(ResultError, match="is running already"):
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
