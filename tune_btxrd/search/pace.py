"""Pace: a search followed through its journal, whether it has finished, how fast it goes. Neither Ray nor torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

from tune_btxrd.errors import ResultError
from tune_btxrd.search.budget import spent_epochs
from tune_btxrd.search.cost import Costs, epoch_costs
from tune_btxrd.search.forecast import forecast, seconds_left
from tune_btxrd.search.journal import JournalReader
from tune_btxrd.search.record import SETTINGS_FILE, SearchRecord, new_record, read_on
from tune_btxrd.search.selection.winner import wanted_repeats, was_stopped
from tune_btxrd.search.space.spec import SearchSpec

SILENT = 600.0  # seconds without news, at least, before a search counts as interrupted


class Follower:
    """A search's record that grows with its journal; only what is new is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read_all()

    def update(self) -> SearchRecord:
        """The record with every line that is complete by now; a journal that shrank (a resumed search) is read anew."""
        path = self._reader.path
        size = path.stat().st_size if path.is_file() else 0
        if size < self._reader.offset:
            self._read_all()
        elif size > self._reader.offset:
            read_on(self.record, self._reader)
        return self.record

    def _read_all(self) -> None:
        self.record, self._reader = new_record(self.folder), JournalReader(self.folder)
        read_on(self.record, self._reader)


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast a search goes.

    Attributes:
        left: seconds until all its trials have ended, as expected; None before the first epoch.
        silence: seconds since the last news; is_silent: more than any epoch takes.
    """

    left: float | None
    silence: float
    is_silent: bool


def is_finished(record: SearchRecord, spec: SearchSpec) -> bool:
    """Whether every trial has ended and every repeat that the confirmation asks for is there.

    A time budget may have ended the search with fewer trials than the space asks for; its confirmation tells.
    """
    trials = record.search_trials
    if not trials or any(not trial.has_ended for trial in record.trials.values()):
        return False
    if not spec.confirm:
        return len(trials) >= spec.trials
    try:
        wanted = {(trial.number, repeat) for trial, repeat in wanted_repeats(record, spec)}
    except ResultError:  # no trial ran to its end: there is nothing to confirm
        return len(trials) >= spec.trials
    return wanted <= {(trial.of, trial.repeat) for trial in record.confirmations if not was_stopped(trial)}


def repeats_wanted(record: SearchRecord, spec: SearchSpec) -> int:
    """How many confirmation trials there will be, those that were begun early and are not needed included; the most there
    can be while no trial of the search is complete.
    """
    try:
        wanted = {(trial.number, repeat) for trial, repeat in wanted_repeats(record, spec)}
    except ResultError:
        return (spec.confirm + 1) * spec.repeats
    return len(wanted | {(trial.of, trial.repeat) for trial in record.confirmations})


def progress_of(record: SearchRecord, spec: SearchSpec, *, now: float) -> Literal["finished", "interrupted", "running"]:
    """Where a search stands: it is interrupted where no news came for longer than any epoch takes."""
    if is_finished(record, spec):
        return "finished"
    return "interrupted" if pace(record, spec, now=now).is_silent else "running"


def pace(record: SearchRecord, spec: SearchSpec, *, now: float) -> Pace:
    """Time left by the epochs of the present session, and how long it has been silent."""
    began = record.sessions[-1]["time"] if record.sessions else _written(record.folder)
    news = sorted(row["time"] for trial in record.trials.values() for row in trial.epochs if row["time"] >= began)
    starts = [max(trial.started, began) for trial in record.trials.values()]
    ends = [trial.ended for trial in record.trials.values() if trial.ended]
    last = max([began, *news, *starts, *ends])
    silence = max(0.0, now - last)
    gaps = [later - earlier for earlier, later in pairwise([began, *news])]
    is_silent = silence > max(SILENT, 10 * max(gaps, default=0.0))
    if not news:
        return Pace(left=None, silence=silence, is_silent=is_silent)
    session = record.sessions[-1] if record.sessions else {}
    left = time_left(
        record,
        spec,
        slots=int(session.get("slots", 1)),
        since=began,
        measured=_measured(record),
        sizes=_size_seconds(record),
        now=now,
        deadline=session.get("deadline"),
        epoch_budget=session.get("epoch_budget"),
    )
    return Pace(left=left, silence=silence, is_silent=is_silent)


def time_left(
    record: SearchRecord,
    spec: SearchSpec,
    *,
    slots: int,
    since: float,
    measured: float | None,
    sizes: Mapping[int, float] | None = None,
    now: float = 0.0,
    deadline: float | None = None,
    epoch_budget: int | None = None,
) -> float | None:
    """Seconds until the search has ended, confirmation included; arguments as `forecast.seconds_left` has them.

    Args:
        sizes: image size -> seconds of an epoch as measured before the search, where several are searched.
        deadline, epoch_budget: when the search trials end, seconds since 1970, and after how many epochs; now: since 1970.
    """
    trials = record.trials.values()
    costs = epoch_costs(spec, trials, measured=sizes, since=since)
    ahead = forecast(trials, spec, repeats=repeats_known(record, spec), costs=costs)
    if epoch_budget is not None:  # it counts epochs, whatever they cost
        epochs = forecast(trials, spec, costs=Costs(dict.fromkeys(costs.by_size, 1.0), costs.base)).search
        share = min(1.0, max(0, epoch_budget - spent_epochs(record, spec)) / epochs) if epochs else 0.0
        ahead = replace(ahead, search=share * ahead.search)
    longest = math.inf if deadline is None else max(0.0, deadline - now)
    return seconds_left(ahead, trials, spec, slots=slots, since=since, measured=measured, costs=costs, longest=longest)


def repeats_known(record: SearchRecord, spec: SearchSpec) -> int | None:
    """How many confirmation trials there will be; None while trials of the search go on or are to come."""
    searched = record.search_trials
    is_whole = len(searched) >= spec.trials or any(t.role == "confirm" and t.of != 0 for t in record.trials.values())
    if not is_whole or any(not trial.has_ended for trial in searched):
        return None
    return repeats_wanted(record, spec) if spec.confirm else 0


def _measured(record: SearchRecord) -> float | None:
    """Seconds of an epoch as measured before the search, where `search.json` has them."""
    layout = record.settings.get("layout")
    seconds = layout.get("epoch_seconds") if isinstance(layout, dict) else None
    return _duration(seconds)


def _size_seconds(record: SearchRecord) -> dict[int, float]:
    """Seconds of an epoch per image size as measured before the search; empty where `search.json` has none."""
    layout = record.settings.get("layout")
    found = layout.get("size_seconds") if isinstance(layout, dict) else None
    known = found.items() if isinstance(found, dict) else ()
    read = {int(size): _duration(seconds) for size, seconds in known if size.isdecimal()}
    return {size: seconds for size, seconds in read.items() if seconds is not None}


def _duration(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) and value > 0 else None


def _written(folder: Path) -> float:
    """Time at which `search.json` was written: the start of a search that has no session yet; 0 where there is no file."""
    path = folder / SETTINGS_FILE
    return path.stat().st_mtime if path.is_file() else 0.0
