"""Listeners: called as trials start, report and end (the terminal, the dashboard, the copy in the storage)."""

import time
from collections.abc import Callable

from tune_btxrd.search.record import TrialRecord


class Listener:
    """Base class for events of a search; its methods do nothing."""

    def started(self, trial: TrialRecord) -> None:
        """A trial got its slot, perhaps once more after a failure."""

    def epoch(self, trial: TrialRecord) -> None:
        """A new epoch is the last of `trial.epochs`."""

    def paused(self, trial: TrialRecord) -> None:
        """A trial waits at a rung and has left its slot; `started` follows where it goes on, `ended` where it never does."""

    def noted(self, trial: TrialRecord) -> None:
        """Something happened to a trial that goes on; it is the last of `trial.notes`."""

    def ended(self, trial: TrialRecord) -> None:
        """A trial has its final state and reason."""


class Rest:
    """Work of a listener that grows with the search: it rests so many times as long as it took.

    Attributes:
        until: as `time.monotonic` has it.
    """

    def __init__(self, times: float) -> None:
        self.times, self.until = times, 0.0

    def after(self, work: Callable[[], object]) -> None:
        """Does the work, unless it rests."""
        began = time.monotonic()
        if began >= self.until:
            work()
            ended = time.monotonic()
            self.until = ended + self.times * (ended - began)
