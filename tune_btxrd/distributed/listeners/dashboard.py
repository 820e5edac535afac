"""DashboardRows: one named task per trial in Ray's dashboard (Jobs > Tasks), with the trial's true duration and its own log.

Tune's own trials appear there as one long-lived actor per slot, without a trial's name. So actors without CPUs hold one
waiting task per running trial: `RowsActor.hold` is what to filter the table by. An actor holds one trial after another, and
a row's log is what the actor printed meanwhile. There are as many actors as trials at once, MOST at most; trials
beyond share one more actor and its log.
"""

import itertools
import os
import threading
from typing import Any

from tune_btxrd.distributed.listeners.dashboard_actor import RowsActor
from tune_btxrd.distributed.names import ascii_name
from tune_btxrd.search.listener import Listener
from tune_btxrd.search.record import TrialRecord

_COUNTER = itertools.count(1)  # a process may run several searches
MOST = 16  # actors; each is a process of some 70 MB
SHARED = 256  # trials in the actor that the rest share
LINES = "lines"  # the group of calls that wait for no row, answered in their order
SECONDS = 1.0  # between two sendings of lines: each is a call, which would cost the driver as much as a result does Ray
ROWS_ENV = {
    "RAY_ENABLE_RECORD_ACTOR_TASK_LOGGING": "1",  # a row in the dashboard leads to its log
}


class DashboardRows(Listener):
    """Opens and closes the rows of a search.

    Args:
        name: the search's; actors are found by it.
    """

    def __init__(self, name: str) -> None:
        import ray

        self.name = ascii_name(name)
        self._class = ray.remote(num_cpus=0, concurrency_groups={LINES: 1}, runtime_env={"env_vars": ROWS_ENV})(RowsActor)
        self._actors: list[Any] = []  # each holds one row at a time
        self._shared: Any = None  # holds what is beyond MOST
        self._holds: dict[str, Any] = {}  # trial -> the actor that holds its row
        self._lock = threading.Lock()
        self._lines: dict[str, list[str]] = {}  # trial -> those that its row does not have yet
        self._timer: threading.Timer | None = None  # until they are sent
        self._error: Exception | None = None  # of that sending
        self._actors.append(self._start(rows=1))  # its process starts while the slots do

    def started(self, trial: TrialRecord) -> None:
        """Opens the row; a trial that begins again after a failure gets another one."""
        self._release(trial, "goes on in another row")
        actor = self._free_actor()
        with self._lock:
            self._holds[trial.label] = actor
        values = " ".join(f"{key}={_short(value)}" for key, value in trial.params.items())
        actor.hold.options(name=ascii_name(f"trial {trial.label} {values}")).remote(trial.label)

    def epoch(self, trial: TrialRecord) -> None:
        """A line of the row's log, sent within a second; the call itself leaves no row."""
        row = trial.epochs[-1]
        values = " ".join(f"{name} {_short(row[name])}" for name in row if name.startswith("val_") and name != "val_seconds")
        line = f"trial {trial.label} epoch {row['epoch']}: {values}"
        if self._error is not None:
            raise self._error
        with self._lock:
            if trial.label not in self._holds:
                return
            self._lines.setdefault(trial.label, []).append(line)
            if self._timer is None:
                self._timer = threading.Timer(SECONDS, self._send)
                self._timer.daemon = True
                self._timer.start()

    def paused(self, trial: TrialRecord) -> None:
        """Closes the row; the trial gets another one where it goes on."""
        self._release(trial, f"paused at epoch {trial.epochs[-1]['epoch']}")

    def ended(self, trial: TrialRecord) -> None:
        """Closes the row."""
        self._release(trial, f"{trial.state_words}: {trial.reason}")

    def close(self) -> None:
        """Sends what is left; the rows of trials that have not ended close with the search."""
        if self._timer is not None:
            self._timer.cancel()
        self._send()

    def _send(self) -> None:
        """The lines of all rows that are still open, from a thread of its own."""
        with self._lock:
            self._timer, lines, self._lines = None, self._lines, {}
            try:
                for label, new in lines.items():
                    call = self._holds[label].tell.options(concurrency_group=LINES, enable_task_events=False)
                    call.remote(label, new)
            except Exception as error:  # whatever Ray raises; `epoch` raises it to who can say so
                self._error = error

    def _release(self, trial: TrialRecord, why: str) -> None:
        with self._lock:
            lines, actor = self._lines.pop(trial.label, []), self._holds.pop(trial.label, None)
            if actor is not None:
                call = actor.release.options(concurrency_group=LINES, enable_task_events=False)
                call.remote(trial.label, [*lines, f"trial {trial.label} {why}"])

    def _free_actor(self) -> Any:
        """An actor that holds no row; where all are busy, a new one."""
        for actor in self._actors:
            if not any(holder is actor for holder in self._holds.values()):
                return actor
        if len(self._actors) < MOST:
            self._actors.append(self._start(rows=1))
            return self._actors[-1]
        self._shared = self._shared or self._start(rows=SHARED)
        return self._shared

    def _start(self, *, rows: int) -> Any:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)  # other nodes may go
        # with the process in its name: the actor of a killed driver may live on for a moment
        name = f"tune_btxrd {self.name} ({os.getpid()}) {next(_COUNTER)}"
        options = {"name": name, "namespace": self.name, "max_concurrency": rows, "scheduling_strategy": here}
        return self._class.options(**options).remote()


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
