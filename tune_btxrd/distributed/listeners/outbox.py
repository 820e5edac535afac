"""Outbox: what a tracker is told, one thing after another beside the driver's loop; the first failure ends it, said once."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from tune_btxrd.console import warn
from tune_btxrd.errors import first_line

T = TypeVar("T")


class Outbox:
    """A thread that sends. A tracker that fails costs the runs there, not the search: its truth is the journal.

    Args:
        whose: the tracker, as the warning has it; cure: what completes its runs later.
    """

    def __init__(self, whose: str, cure: str) -> None:
        self._whose, self._cure, self._broken = whose, cure, False
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=whose)

    def put(self, send: Callable[[T], None], what: T) -> None:
        """Sends it after all that was put before, unless something has failed."""
        if not self._broken:
            self._worker.submit(self._send, send, what).add_done_callback(self._check)

    def close(self) -> None:
        """Waits until all is sent."""
        self._worker.shutdown(wait=True)

    def _send(self, send: Callable[[T], None], what: T) -> None:
        if not self._broken:
            send(what)

    def _check(self, done: "Future[None]") -> None:
        if (error := done.exception()) and not self._broken:
            self._broken = True
            warn(f"{self._whose}'s runs are incomplete from here, {self._cure}: {first_line(error, 200)}")
