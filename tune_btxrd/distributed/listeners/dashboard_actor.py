"""RowsActor: the actor behind `DashboardRows`, in a file of its own, so that its process imports nothing else."""

import queue
import threading


class RowsActor:
    """Holds one waiting call per running trial; that call itself prints the trial's lines, so that they are its log.

    Calls run in threads, not as coroutines: Ray notes where a call's log ends by what its thread last ran.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: dict[str, queue.SimpleQueue[str | None]] = {}  # trial -> lines to print; None ends its row

    def _of(self, label: str) -> "queue.SimpleQueue[str | None]":
        with self._lock:
            return self._lines.setdefault(label, queue.SimpleQueue())

    def hold(self, label: str) -> str:
        """Returns when the trial is released; its row in the dashboard is as long."""
        lines = self._of(label)
        while (line := lines.get()) is not None:
            print(line, flush=True)  # an actor's output is its log
        return label

    def tell(self, label: str, lines: list[str]) -> None:
        """Lines of the trial's log."""
        for line in lines:
            self._of(label).put(line)

    def release(self, label: str, lines: list[str]) -> None:
        """Ends the trial's row after its last lines."""
        self.tell(label, lines)
        self._of(label).put(None)
