"""A search read back from disk: trials with epochs, states and reasons. Plain data; neither Ray nor torch is needed."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from tune_btxrd.errors import ResultError, first_line
from tune_btxrd.files import write_whole
from tune_btxrd.monitor import MONITORS, Monitor
from tune_btxrd.search.journal import read_events

STATES = ("running", "complete", "pruned", "diverged", "failed")
SETTINGS_FILE = "search.json"
LABEL = re.compile(r"\d+(r\d+)?")


@dataclass(kw_only=True)
class TrialRecord:
    """One trial as the journal tells it.

    Attributes:
        label: what a person reads: the number, or `7r2` for repeat 2 of trial 7.
        number: Optuna's number in its study (a confirmation trial is numbered in the confirmation study).
        role: "search" or "confirm".
        of, repeat: for a confirmation trial, the trial it repeats and which repeat it is; else None.
        config: the complete config. `params`: the searched values alone.
        state: one of STATES; reason: why it ended so, in words.
        epochs: one row per epoch, in order, with the names of `epochs.csv`.
        notes: what happened to it on its way: a failure that was retried, a damaged checkpoint.
        started, ended: seconds since 1970; ended is None while it runs.
    """

    label: str
    number: int
    role: str
    config: dict[str, Any]
    params: dict[str, Any]
    of: int | None = None
    repeat: int | None = None
    state: str = "running"
    reason: str = ""
    epochs: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    started: float = 0.0
    ended: float | None = None

    @property
    def best(self) -> dict[str, Any] | None:
        """The row of the best epoch so far: the last one that improved the monitored value."""
        return next((row for row in reversed(self.epochs) if row["improved"]), None)

    @property
    def objective(self) -> float | None:
        """Best monitored value so far as it is minimised, or None before the first epoch."""
        return float(self.epochs[-1]["objective"]) if self.epochs else None

    @property
    def monitor(self) -> Monitor:
        """What this trial is judged by."""
        return MONITORS[self.config.get("monitor", "val_loss")]  # searches of before there was a choice

    @property
    def score(self) -> float | None:
        """Best monitored value so far with its own sign, or None before the first epoch."""
        return None if self.objective is None else self.monitor.score(self.objective)

    @property
    def shown(self) -> str:
        """The score in words, e.g. "val loss 0.4312"; empty before the first epoch."""
        return "" if self.objective is None else self.monitor.show(self.objective)

    @property
    def rank(self) -> tuple[float, float, int]:
        """Sorts trials, the best first: by objective, then by the monitor's tie, then by number; without one, last."""
        tie = self.monitor.tie
        return (
            math.inf if self.objective is None else self.objective,
            -float(self.best[tie]) if tie and self.best else 0.0,
            self.number,
        )


@dataclass(kw_only=True)
class SearchRecord:
    """A whole search as read from its folder."""

    folder: Path
    settings: dict[str, Any]
    trials: dict[str, TrialRecord]
    sessions: list[dict[str, Any]]

    @property
    def search_trials(self) -> list[TrialRecord]:
        """The trials of the search itself, in order of their numbers."""
        return sorted((t for t in self.trials.values() if t.role == "search"), key=lambda t: t.number)

    @property
    def confirmations(self) -> list[TrialRecord]:
        """The confirmation trials, in order of their numbers."""
        return sorted((t for t in self.trials.values() if t.role == "confirm"), key=lambda t: t.number)


def read_search(folder: Path) -> SearchRecord:
    """The search of a results folder, also of one that is running, was killed, or was copied from elsewhere.

    Raises:
        ResultError: the folder holds no search, or its journal is damaged.
    """
    return from_events(read_events(folder), folder=folder, settings=read_settings(folder))


def read_settings(folder: Path) -> dict[str, Any]:
    """`search.json`: all settings, versions, git commit, data hash.

    Raises:
        ResultError: missing or no JSON.
    """
    path = folder / SETTINGS_FILE
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ResultError(
            f"No search called {folder.name!r} in {folder.parent}: `list` shows the searches at hand."
        ) from error
    except json.JSONDecodeError as error:
        raise ResultError(
            f"{path} must be JSON, but line {error.lineno} is not: restore it from the storage's copy."
        ) from error
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise ResultError(f"{path} must be a readable text file, but: {first_line(error)}.") from error
    if not isinstance(settings, dict):
        raise ResultError(f"{path} must hold an object, but holds {settings!r:.40}: restore it from the storage's copy.")
    return settings


def from_events(events: Iterable[Mapping[str, Any]], *, folder: Path, settings: dict[str, Any]) -> SearchRecord:
    """Replays events into trials. An epoch told twice (a retried or resumed trial) counts once."""
    record = SearchRecord(folder=folder, settings=settings, trials={}, sessions=[])
    for event in events:
        apply_event(record, event)
    return record


def apply_event(record: SearchRecord, event: Mapping[str, Any]) -> None:
    """One event's effect on the record; the running search and the reader share it, so they cannot disagree."""
    kind, label = event["event"], event.get("trial", "")
    if kind == "session":
        record.sessions.append(dict(event))
    elif kind == "start":
        if not LABEL.fullmatch(label):  # it becomes part of file names, and a folder may come from anybody
            raise ResultError(f"A trial must be called like 7 or 7r2, but the journal in {record.folder} has {label!r}.")
        fields: dict[str, Any] = {name: event.get(name) for name in ("number", "role", "config", "params", "of", "repeat")}
        record.trials[label] = TrialRecord(label=label, started=event["time"], **fields)
    elif kind == "epoch":
        trial = record.trials[label]
        if not trial.epochs or event["epoch"] > trial.epochs[-1]["epoch"]:
            trial.epochs.append({name: value for name, value in event.items() if name not in ("event", "trial")})
    elif kind == "note":
        record.trials[label].notes.append(event["text"])
    elif kind == "end":
        trial = record.trials[label]
        trial.state, trial.reason, trial.ended = event["state"], event["reason"], event["time"]


def trials_table(record: SearchRecord) -> pd.DataFrame:
    """One row per trial: label, role, state, reason, epochs, best epoch and its values, hyperparameters, seconds."""
    rows = []
    for trial in [*record.search_trials, *record.confirmations]:
        best = {name: value for name, value in (trial.best or {}).items() if name.startswith("val_")}
        rows.append(
            {
                "trial": trial.label,
                "role": trial.role,
                "state": trial.state,
                "reason": trial.reason,
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
    return pd.DataFrame(rows)


def epochs_table(record: SearchRecord) -> pd.DataFrame:
    """One row per epoch of every trial, with the names that every row reported to Ray has."""
    return pd.DataFrame(
        [{"trial": trial.label, **row} for trial in [*record.search_trials, *record.confirmations] for row in trial.epochs]
    )


def write_tables(record: SearchRecord) -> None:
    """`trials.csv` and `epochs.csv`, each whole or not at all."""
    write_whole(record.folder / "trials.csv", trials_table(record).to_csv(index=False))
    write_whole(record.folder / "epochs.csv", epochs_table(record).to_csv(index=False))
