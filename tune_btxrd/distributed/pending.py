"""Trials that wait for a process, in the order in which Ray Tune should begin them."""

from collections.abc import Collection
from typing import Any


class PendingTrials:
    """Chooses which trial begins next: first one for which no process has been asked yet.

    A trial that is chosen anew while its process starts takes a slot that has just become free, and Tune ends the process
    that starts for it. Where trials are shorter than the start of a process, a slot would never come to life.
    """

    def __init__(self) -> None:
        self._asked: set[str] = set()

    def choose(self, pending: Collection[Any]) -> Any:
        """The one of Tune's pending trials to begin, None where there is none."""
        self._asked &= {trial.trial_id for trial in pending}
        chosen = next((trial for trial in pending if trial.trial_id not in self._asked), next(iter(pending), None))
        if chosen is not None:
            self._asked.add(chosen.trial_id)
        return chosen
