"""A search followed through its journal: what is new, whether it has finished, how fast it goes. Neither Ray nor torch."""

import json
import statistics
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tune_btxrd.errors import ResultError
from tune_btxrd.search.budget import confirm_epochs, expected_epochs
from tune_btxrd.search.journal import FILE
from tune_btxrd.search.record import SearchRecord, apply_event, read_search
from tune_btxrd.search.selection import ranking
from tune_btxrd.search.space.spec import SearchSpec

SILENT = 600.0  # seconds without news, at least, before a search counts as interrupted


class Follower:
    """A search's record that grows with its journal; only what is new is read."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / FILE
        self._read_all()

    def update(self) -> SearchRecord:
        """The record with every line that is complete by now; a journal that shrank (a resumed search) is read anew."""
        size = self.path.stat().st_size if self.path.is_file() else 0
        if size < self._offset:
            self._read_all()
        elif size > self._offset:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                self._take(file.read())
        return self.record

    def _read_all(self) -> None:
        self.record = read_search(self.folder)  # says what is wrong with a folder that holds no search
        self.record.trials.clear()
        self.record.sessions.clear()
        self._offset = 0
        self._take(self.path.read_bytes())

    def _take(self, content: bytes) -> None:
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.decode("utf-8", errors="replace").splitlines(), start=1):
            try:
                apply_event(self.record, json.loads(line))
            except (json.JSONDecodeError, KeyError) as error:
                raise ResultError(
                    f"A new line of {self.path} must be an event of a search, but line {number} of them is none: restore it."
                ) from error
        self._offset += len(whole)


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast a search goes.

    Attributes:
        left: seconds until all its trials have ended, at most; None before the first epoch.
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
    if not trials or any(trial.state == "running" for trial in record.trials.values()):
        return False
    if not spec.confirm:
        return len(trials) >= spec.trials
    try:
        wanted = {(t.number, repeat) for t in ranking(record, spec).confirmed for repeat in range(1, spec.repeats + 1)}
    except ResultError:  # no trial ran to its end: there is nothing to confirm
        return len(trials) >= spec.trials
    return wanted <= {(trial.of, trial.repeat) for trial in record.confirmations}


def pace(record: SearchRecord, spec: SearchSpec, *, now: float) -> Pace:
    """Time left from the epochs of the present session (patience saves some of it), and how long it has been silent."""
    began = record.sessions[-1]["time"] if record.sessions else 0.0
    news = sorted(row["time"] for trial in record.trials.values() for row in trial.epochs if row["time"] >= began)
    starts = [max(trial.started, began) for trial in record.trials.values()]
    ends = [trial.ended for trial in record.trials.values() if trial.ended]
    last = max([began, *news, *starts, *ends])
    silence = max(0.0, now - last)
    gaps = [later - earlier for earlier, later in pairwise([began, *news])]
    is_silent = silence > max(SILENT, 10 * max(gaps, default=0.0))
    if not news:
        return Pace(left=None, silence=silence, is_silent=is_silent)
    ended = [len(t.epochs) for t in record.search_trials if t.state != "running"]
    per_trial = statistics.fmean(ended) if ended else expected_epochs(spec) / spec.trials
    done = sum(len(t.epochs) for t in record.search_trials)
    confirmed = sum(len(t.epochs) for t in record.confirmations)
    epochs = max(0.0, per_trial * spec.trials - done) + max(0, confirm_epochs(spec) - confirmed)
    rate = (last - began) / len(news)
    return Pace(left=epochs * rate, silence=silence, is_silent=is_silent)
