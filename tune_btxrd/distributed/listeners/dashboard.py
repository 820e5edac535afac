"""DashboardRows: one named task per trial in Ray's dashboard (Jobs > Tasks), with the trial's true duration and its own log.

Tune's own trials appear there as one long-lived actor per slot, without a trial's name. So actors without CPUs hold one
sleeping task per running trial: `RowsActor.hold` is what to filter the table by. An actor's log is that of the
trial it holds: there are as many actors as trials at once (MOST at most; beyond, trials share a log).
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
        self._class = ray.remote(num_cpus=0, max_concurrency=1000, runtime_env={"env_vars": ROWS_ENV})(RowsActor)
        self._actors: list[Any] = []
        self._holds: dict[str, Any] = {}  # trial -> the actor that holds its row
        self._actors.append(self._start())  # its process starts while the slots do

    def started(self, trial: TrialRecord) -> None:
        """Opens the row."""
        self._holds[trial.label] = actor = self._holds.get(trial.label) or self._free_actor()
        values = " ".join(f"{key}={_short(value)}" for key, value in trial.params.items())
        actor.hold.options(name=ascii_name(f"trial {trial.label} {values}")).remote(trial.label)

    def epoch(self, trial: TrialRecord) -> None:
        """A line of the row's log; the call itself leaves no row."""
        row = trial.epochs[-1]
        values = " ".join(f"{name} {_short(row[name])}" for name in row if name.startswith("val_") and name != "val_seconds")
        line = f"trial {trial.label} epoch {row['epoch']}: {values}"
        if actor := self._holds.get(trial.label):
            actor.tell.options(enable_task_events=False).remote(line)

    def ended(self, trial: TrialRecord) -> None:
        """Closes the row."""
        if actor := self._holds.pop(trial.label, None):
            line = f"trial {trial.label} {trial.state_words}: {trial.reason}"
            actor.release.options(enable_task_events=False).remote(trial.label, line)

    def _free_actor(self) -> Any:
        """The actor that holds the fewest rows; a new one where all are busy."""
        rows = [sum(holder is actor for holder in self._holds.values()) for actor in self._actors]
        if min(rows) > 0 and len(self._actors) < MOST:
            self._actors.append(self._start())
            return self._actors[-1]
        return self._actors[rows.index(min(rows))]

    def _start(self) -> Any:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)  # other nodes may go
        # with the process in its name: the actor of a killed driver may live on for a moment
        name = f"tune_btxrd {self.name} ({os.getpid()}) {next(_COUNTER)}"
        return self._class.options(name=name, namespace=self.name, scheduling_strategy=here).remote()


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
