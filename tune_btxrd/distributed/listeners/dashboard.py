"""DashboardRows: one named task per trial in Ray's dashboard (Jobs > Tasks)."""

import os
from typing import Any

from tune_btxrd.distributed.listeners.dashboard_actor import RowsActor
from tune_btxrd.search.listener import Listener
from tune_btxrd.search.record import TrialRecord

ROWS_ENV = {
    "RAY_ENABLE_RECORD_ACTOR_TASK_LOGGING": "1",  # a row in the dashboard leads to its log
}


class DashboardRows(Listener):
    """One named task per trial in the dashboard (Jobs > Tasks) and its timeline, with the trial's true duration.

    Tune's own trials appear there as one long-lived actor per slot, without a trial's name; so an actor without CPUs holds
    one sleeping task per running trial. A row's log is the actor's: every epoch of every trial, each line with its trial.
    """

    def __init__(self, name: str) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        # with the process in its name: the actor of a killed driver may live on for a moment
        rows = ray.remote(num_cpus=0, max_concurrency=1000, runtime_env={"env_vars": ROWS_ENV})(RowsActor)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)  # other nodes may go
        name_of_rows = f"tune_btxrd {name} ({os.getpid()})"
        self._actor = rows.options(name=name_of_rows, namespace=name, scheduling_strategy=here).remote()

    def started(self, trial: TrialRecord) -> None:
        """Opens the row."""
        values = " ".join(f"{key}={_short(value)}" for key, value in trial.params.items())
        self._actor.hold.options(name=f"trial {trial.label} {values}").remote(trial.label)

    def epoch(self, trial: TrialRecord) -> None:
        """A line of the row's log; the call itself leaves no row."""
        row = trial.epochs[-1]
        values = " ".join(f"{name} {_short(row[name])}" for name in row if name.startswith("val_") and name != "val_seconds")
        line = f"trial {trial.label} epoch {row['epoch']}: {values}"
        self._actor.tell.options(enable_task_events=False).remote(line)

    def ended(self, trial: TrialRecord) -> None:
        """Closes the row."""
        line = f"trial {trial.label} {trial.state_words}: {trial.reason}"
        self._actor.release.options(name=f"end of trial {trial.label}: {trial.state_words}").remote(trial.label, line)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
