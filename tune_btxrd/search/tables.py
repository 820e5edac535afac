"""`trials.csv` and `epochs.csv`: a search as tables, made from its record."""

import csv
import os
from collections.abc import Sequence

import pandas as pd

from tune_btxrd.files import encodable, write_whole
from tune_btxrd.search.events import EpochRow, is_score
from tune_btxrd.search.journal import FILE
from tune_btxrd.search.listener import Listener, Rest
from tune_btxrd.search.record import SearchRecord, TrialRecord

TRIALS, EPOCHS = "trials.csv", "epochs.csv"
REST = 100  # times as long as a writing took, before the next


def trials_table(record: SearchRecord) -> pd.DataFrame:
    """One row per trial: label, role, state in words, reason, epochs, best epoch, its values, hyperparameters, seconds."""
    rows = []
    for trial in [*record.search_trials, *record.confirmations]:
        best = {name: value for name, value in (trial.best or {}).items() if is_score(name, value)}
        rows.append(
            {
                "trial": trial.label,
                "role": trial.role,
                "state": trial.state_words,
                "reason": trial.told_reason,
                "epochs": len(trial.epochs),
                "best_epoch": trial.best["epoch"] if trial.best else None,
                "objective": trial.objective,
                **best,
                **trial.params,
                "seconds": round(
                    (trial.ended or (trial.epochs[-1]["time"] if trial.epochs else trial.started)) - trial.started, 1
                ),
            }
        )
    return _frame(rows)


def epochs_table(record: SearchRecord) -> pd.DataFrame:
    """One row per epoch of every trial, with the names that every row reported to Ray has."""
    return _frame(
        [{"trial": trial.label, **row} for trial in [*record.search_trials, *record.confirmations] for row in trial.epochs]
    )


def _frame(rows: Sequence[EpochRow]) -> pd.DataFrame:
    """Rows as a table. A text that is no Unicode (a reason that names a file of any bytes) is escaped: pandas takes none."""
    return pd.DataFrame(
        [{name: encodable(value) if isinstance(value, str) else value for name, value in row.items()} for row in rows]
    )


def write_tables(record: SearchRecord) -> None:
    """`trials.csv` and `epochs.csv`, each whole or not at all."""
    for name, table in ((TRIALS, trials_table(record)), (EPOCHS, epochs_table(record))):
        text = table.to_csv(index=False)
        if "\r" in text:  # which pandas leaves unquoted, so that a reader takes it for the end of the row
            text = table.to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC)
        write_whole(record.folder / name, text)


def refresh_tables(record: SearchRecord) -> None:
    """Writes the tables of a search that is not running anew where its journal is newer: a kill left them behind.

    In a folder that is read-only they stay as they are: who only looks at a search need not be able to write it.
    """
    table, journal = record.folder / TRIALS, record.folder / FILE
    is_stale = not table.exists() or table.stat().st_mtime_ns < journal.stat().st_mtime_ns
    if is_stale and os.access(record.folder, os.W_OK):
        write_tables(record)


class TableKeeper(Listener):
    """Keeps the tables of a running search up to date, so that a killed driver leaves them as of a recent trial's end.

    Writing them grows with the search, so it rests REST times as long as it took.
    """

    def __init__(self, record: SearchRecord) -> None:
        self.record, self._rest = record, Rest(REST)

    def ended(self, trial: TrialRecord) -> None:
        """A trial ended."""
        self._rest.after(lambda: write_tables(self.record))
