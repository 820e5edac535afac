"""DashboardRows: one named task per trial in Ray's dashboard (Jobs > Tasks), with the trial's true duration and its own log.

Tune's own trials appear there as one long-lived actor per slot, without a trial's name. So actors without CPUs hold one
waiting task per running trial: `RowsActor.hold` is what to filter the table by. An actor holds one trial after another, and
a row's log is what the actor printed meanwhile. There are as many actors as trials at once, MOST at most; trials
beyond share one more actor and its log.
"""

import itertools
import os
from typing import Any

from tune_btxrd.distributed.listeners.dashboard_actor import RowsActor
from tune_btxrd.distributed.names import ascii_name
from tune_btxrd.search.listener import Listener
from tune_btxrd.search.record import TrialRecord

_COUNTER = itertools.count(1)  # a process may run several searches
MOST = 16  # actors; each is a process of some 70 MB
SHARED = 256  # trials in the actor that the rest share
LINES = "lines"  # the group of calls that wait for no row, answered in their order
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
        self._actors.append(self._start(rows=1))  # its process starts while the slots do

    def started(self, trial: TrialRecord) -> None:
        """Opens the row; a trial that begins again after a failure gets another one."""
        self._release(trial, "goes on in another row")
        self._holds[trial.label] = actor = self._free_actor()
        values = " ".join(f"{key}={_short(value)}" for key, value in trial.params.items())
        actor.hold.options(name=ascii_name(f"trial {trial.label} {values}")).remote(trial.label)

    def epoch(self, trial: TrialRecord) -> None:
        """A line of the row's log; the call itself leaves no row."""
        row = trial.epochs[-1]
        values = " ".join(f"{name} {_short(row[name])}" for name in row if name.startswith("val_") and name != "val_seconds")
        line = f"trial {trial.label} epoch {row['epoch']}: {values}"
        if actor := self._holds.get(trial.label):
            actor.tell.options(concurrency_group=LINES, enable_task_events=False).remote(trial.label, line)

    def paused(self, trial: TrialRecord) -> None:
        """Closes the row; the trial gets another one where it goes on."""
        self._release(trial, f"paused at epoch {trial.epochs[-1]['epoch']}")

    def ended(self, trial: TrialRecord) -> None:
        """Closes the row."""
        self._release(trial, f"{trial.state_words}: {trial.reason}")

    def _release(self, trial: TrialRecord, why: str) -> None:
        if actor := self._holds.pop(trial.label, None):
            call = actor.release.options(concurrency_group=LINES, enable_task_events=False)
            call.remote(trial.label, f"trial {trial.label} {why}")

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
