"""Listeners: called as trials start, report and end (the terminal, the dashboard, the copy in the storage)."""

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
