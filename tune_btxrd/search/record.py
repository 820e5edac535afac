"""Record: a search read from disk, its trials with epochs, states and reasons. Plain data, without Ray and torch."""

import itertools
import json
import math
from bisect import insort
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tune_btxrd.config import TrainConfig
from tune_btxrd.errors import ResultError, first_line
from tune_btxrd.monitor import ALL_IMAGES, Monitor, monitor_of
from tune_btxrd.search.events import END_STATES, EpochRow, Event, EventError, check_event
from tune_btxrd.search.journal import JournalReader, damaged_line

STATE_WORDS = {  # state on disk -> what a person reads, in every place
    "complete": "complete",
    "pruned": "stopped early",
    "diverged": "diverged",
    "failed": "failed",
    "running": "unfinished",
    "paused": "paused",
}
SETTINGS_FILE = "search.json"
HAND_MADE_NUMBER = 0  # of the search trial with the hand-made config


@dataclass(kw_only=True)
class TrialRecord:
    """One trial as the journal tells it.

    Attributes:
        label: what a person reads: the number, or `7r2` for repeat 2 of trial 7.
        number: Optuna's number in its study (a confirmation trial is numbered in the confirmation study).
        role: "search" or "confirm".
        of, repeat: for a confirmation trial, the trial it repeats and which repeat it is; else None.
        config: the complete config. `params`: the searched values alone.
        state: one of STATE_WORDS; reason: why it ended so, in words.
        unneeded: why the choice of the winner leaves this repeat out, though it was begun; empty where it counts.
        epochs: one row per epoch, in order, with the names of `epochs.csv`.
        notes: what happened to it on its way: a failure that was retried, a damaged checkpoint.
        pauses, promotions: epochs of the rungs where it paused, and of those that it was let go past (`scheduler: promote`).
        started, ended: seconds since 1970; ended is None while it runs or is paused.
    """

    label: str
    number: int
    role: str
    config: Mapping[str, Any]
    params: Mapping[str, Any]
    of: int | None = None
    repeat: int | None = None
    state: str = "running"
    reason: str = ""
    unneeded: str = ""
    epochs: list[EpochRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    pauses: list[int] = field(default_factory=list)
    promotions: list[int] = field(default_factory=list)
    started: float = 0.0
    ended: float | None = None

    @property
    def best(self) -> EpochRow | None:
        """The row of the best epoch so far: the last one that improved the monitored value."""
        return next((row for row in reversed(self.epochs) if row["improved"]), None)

    @property
    def train_config(self) -> TrainConfig:
        """The complete config, checked. Raises: ConfigError, where another version wrote it and this one lacks a name."""
        return TrainConfig.from_dict(self.config)

    @property
    def objective(self) -> float | None:
        """Best monitored value so far as it is minimised, or None before the first epoch."""
        return float(self.epochs[-1]["objective"]) if self.epochs else None

    @property
    def monitor(self) -> Monitor:
        """What this trial is judged by."""
        asked = self.config  # that of a search of before there was a choice has neither
        return monitor_of(asked.get("monitor", "val_loss"), asked.get("objective", ALL_IMAGES))

    @property
    def score(self) -> float | None:
        """Best monitored value so far with its own sign, or None before the first epoch."""
        return None if self.objective is None else self.monitor.score(self.objective)

    @property
    def shown(self) -> str:
        """The score in words, e.g. "val loss 0.4312"; empty before the first epoch."""
        return "" if self.objective is None else self.monitor.show(self.objective)

    @property
    def told_reason(self) -> str:
        """Why it ended so, and why it was not needed, where that is another reason."""
        return "; ".join(dict.fromkeys(text for text in (self.reason, self.unneeded) if text))

    @property
    def state_words(self) -> str:
        """The state as a person reads it."""
        return STATE_WORDS[self.state]

    @property
    def has_ended(self) -> bool:
        """Whether it has its final state; else it runs, waits at a rung, or was interrupted."""
        return self.state in END_STATES

    @property
    def waits(self) -> bool:
        """Whether it is paused, or was when it ended."""
        last = self.epochs[-1]["epoch"] if self.epochs else 0
        return last in self.pauses and last not in self.promotions

    @property
    def is_hand_made(self) -> bool:
        """Whether this is the search trial of the hand-made config."""
        return self.role == "search" and self.number == HAND_MADE_NUMBER

    @property
    def rank(self) -> tuple[float, float, int]:
        """Sorts trials, the best first: by objective, then by the monitor's tie, then by number; without one, last."""
        tie = self.monitor.tie
        return (
            math.inf if self.objective is None else self.objective,
            -float(self.best[tie]) if tie and self.best else 0.0,
            self.number,
        )


def best_trial(trials: Iterable[TrialRecord]) -> TrialRecord | None:
    """The best trial so far (see `TrialRecord.rank`), or None before the first epoch of any."""
    scored = [trial for trial in trials if trial.objective is not None]
    return min(scored, key=lambda trial: trial.rank, default=None)


def state_counts(trials: Collection[TrialRecord]) -> dict[str, int]:
    """State on disk -> how many trials are in it, without states that none is in."""
    counts = {state: sum(trial.state == state for trial in trials) for state in STATE_WORDS}
    return {state: count for state, count in counts.items() if count}


def states_line(trials: Collection[TrialRecord]) -> str:
    """How many trials are in which state, e.g. "5 complete, 2 stopped early"."""
    return ", ".join(f"{count} {STATE_WORDS[state]}" for state, count in state_counts(trials).items()) or "no trial yet"


@dataclass(kw_only=True)
class SearchRecord:
    """A whole search as read from its folder."""

    folder: Path
    settings: Mapping[str, Any]
    trials: dict[str, TrialRecord]
    sessions: list[Event]
    _sorted: dict[str, list[TrialRecord]] = field(default_factory=dict, init=False, repr=False, compare=False)  # by role
    _known: int = field(default=0, init=False, repr=False, compare=False)  # so many trials are sorted in

    @property
    def search_trials(self) -> list[TrialRecord]:
        """The trials of the search itself, in order of their numbers."""
        return self._of_role("search")

    @property
    def confirmations(self) -> list[TrialRecord]:
        """The confirmation trials, in order of their numbers."""
        return self._of_role("confirm")

    def _of_role(self, role: str) -> list[TrialRecord]:
        """Asked several times at every step of the driver, so a trial is sorted in once: when it has been added."""
        if len(self.trials) < self._known:
            self._sorted, self._known = {}, 0
        for trial in itertools.islice(self.trials.values(), self._known, None):
            insort(self._sorted.setdefault(trial.role, []), trial, key=lambda other: other.number)
        self._known = len(self.trials)
        return list(self._sorted.get(role, ()))


def read_search(folder: Path) -> SearchRecord:
    """The search of a results folder, also of one that is running, was killed, or was copied from elsewhere.

    Raises:
        ResultError: the folder holds no search, or its journal is damaged.
    """
    record = new_record(folder)
    read_on(record, JournalReader(folder))
    return record


def new_record(folder: Path) -> SearchRecord:
    """The search of a results folder before its first event. Raises: ResultError."""
    return SearchRecord(folder=folder, settings=read_settings(folder), trials={}, sessions=[])


def read_on(record: SearchRecord, reader: JournalReader) -> None:
    """Applies what is new in the journal.

    Raises:
        ResultError: an event that is none, or that does not follow from those before it.
    """
    for line, event in reader.new_events():
        try:
            check_event(event)
            _check_columns(reader, event)
            apply_event(record, event)
        except EventError as error:
            raise damaged_line(reader.path, line, str(error)) from error


def read_settings(folder: Path) -> dict[str, Any]:
    """`search.json`: all settings, versions, git commit, data hash.

    Raises:
        ResultError: missing, or no JSON object.
    """
    path = folder / SETTINGS_FILE
    cure = "restore it from the storage's copy"
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ResultError(
            f"No search called {folder.name!r} in {folder.parent}: `list` shows the searches at hand."
        ) from error
    except json.JSONDecodeError as error:
        raise ResultError(f"{path} must be JSON, but line {error.lineno} is not: {cure}.") from error
    except (OSError, ValueError, RecursionError) as error:  # no text, numbers of thousands of digits, nested without end
        raise ResultError(f"{path} must be a readable JSON file, but: {first_line(error)}: {cure}.") from error
    if not isinstance(settings, dict):
        raise ResultError(f"{path} must hold an object, but holds {settings!r:.40}: {cure}.")
    return settings


def apply_event(record: SearchRecord, event: Event) -> None:
    """One event's effect on the record; the running search and the reader share it, so they cannot disagree.

    An epoch told twice (by a trial that was retried or resumed) counts once.

    Raises:
        EventError: the event does not follow from those before it.
    """
    kind = event["event"]
    if kind == "session":
        record.sessions.append(event)
    elif kind == "start":
        _start(record, event)
    else:
        trial = record.trials.get(event["trial"])
        if trial is None:
            raise EventError(f"is about trial {event['trial']}, whose start no line before it tells")
        if kind == "epoch" and (not trial.epochs or event["epoch"] > trial.epochs[-1]["epoch"]):
            trial.epochs.append({name: value for name, value in event.items() if name not in ("event", "trial")})
        elif kind == "note":
            trial.notes.append(event["text"])
        elif kind in ("pause", "promote"):
            _at_rung(trial, kind)
        elif kind in ("unneeded", "needed"):
            _judged(trial, event)
        elif kind == "end":
            if event["state"] == "complete" and not trial.epochs:
                raise EventError(f"calls trial {trial.label} complete, of which no line before it tells an epoch")
            trial.state, trial.reason, trial.ended = event["state"], event["reason"], event["time"]


def _at_rung(trial: TrialRecord, kind: str) -> None:
    if not trial.epochs or trial.has_ended:
        why = "has ended" if trial.has_ended else "has no epoch yet"
        raise EventError(f"{kind}s trial {trial.label}, which {why}")
    trial.state = "paused" if kind == "pause" else "running"
    (trial.pauses if kind == "pause" else trial.promotions).append(trial.epochs[-1]["epoch"])


def _judged(trial: TrialRecord, event: Event) -> None:
    """A repeat is needed or not. One that was stopped since it was not needed goes on where it is needed after all."""
    if trial.role != "confirm":
        raise EventError(f"calls trial {trial.label} {event['event']}, which is no repeat")
    trial.unneeded = event.get("reason", "")
    if not trial.unneeded and trial.state == "pruned":
        trial.state, trial.reason, trial.ended = "running", "", None


def _start(record: SearchRecord, event: Event) -> None:
    label, of = event["trial"], event.get("of")
    if label in record.trials:
        raise EventError(f"starts trial {label} once more")
    if of is not None and str(of) not in record.trials:
        raise EventError(f"repeats trial {of}, whose start no line before it tells")
    record.trials[label] = TrialRecord(
        label=label,
        number=event["number"],
        role=event["role"],
        config=event["config"],
        params=event["params"],
        of=of,
        repeat=event.get("repeat"),
        started=event["time"],
    )


def _check_columns(reader: JournalReader, event: Event) -> None:
    """Raises EventError for an epoch with other columns than the one before it in the same session, which one code wrote."""
    if event["event"] == "session":
        reader.columns = None
    elif event["event"] == "epoch":
        known, reader.columns = reader.columns, event.keys()
        if known is not None and (odd := sorted(known ^ event.keys())):
            raise EventError(f"and the epoch before it differ in whether they have {ascii(odd[0])[:40]}")
