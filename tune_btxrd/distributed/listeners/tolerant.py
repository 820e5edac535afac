"""Tolerant: keeps a view of the search (dashboard, metrics, event files) from ending it."""

from collections.abc import Callable
from typing import Any

from tune_btxrd.console import warn
from tune_btxrd.errors import first_line
from tune_btxrd.search.listener import Listener
from tune_btxrd.search.record import TrialRecord


class Tolerant(Listener):
    """Passes events on to a listener until it fails; that is said once, and the search goes on without it.

    Args:
        what: name of the view, as the warning has it; make: makes the listener.
    """

    def __init__(self, what: str, make: Callable[[], Any]) -> None:
        self.what = what
        self._listener: Any = None
        self._try(lambda: setattr(self, "_listener", make()))

    def started(self, trial: TrialRecord) -> None:
        """Passed on."""
        self._pass_on("started", trial)

    def epoch(self, trial: TrialRecord) -> None:
        """Passed on."""
        self._pass_on("epoch", trial)

    def paused(self, trial: TrialRecord) -> None:
        """Passed on."""
        self._pass_on("paused", trial)

    def noted(self, trial: TrialRecord) -> None:
        """Passed on."""
        self._pass_on("noted", trial)

    def ended(self, trial: TrialRecord) -> None:
        """Passed on."""
        self._pass_on("ended", trial)

    def close(self) -> None:
        """Closes the listener, where it has something to close."""
        self._try(getattr(self._listener, "close", lambda: None))

    def _pass_on(self, event: str, trial: TrialRecord) -> None:
        if self._listener is not None:
            self._try(lambda: getattr(self._listener, event)(trial))

    def _try(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except Exception as error:  # whatever a library raises: the journal is the truth, this is a view of it
            self._listener = None
            warn(f"{self.what} will show no more of this search, which goes on: {type(error).__name__}: {first_line(error)}")
