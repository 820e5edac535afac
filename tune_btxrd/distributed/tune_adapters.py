"""The conductor as Ray Tune sees it: a Searcher that proposes, a Callback that records, and ASHA keyed by trial labels.

`scheduler: promote` has a scheduler of its own (`pausing.py`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search import Searcher

from tune_btxrd.distributed.failures import KILLED, MEMORY_LOW, NODE_LOST, RETRIED, failure_reason, fault_in
from tune_btxrd.distributed.memory_kills import MemoryKills
from tune_btxrd.distributed.pausing import Pauses
from tune_btxrd.distributed.pending import PendingTrials
from tune_btxrd.distributed.trial_config import TrialConfig
from tune_btxrd.search.columns import own_columns
from tune_btxrd.search.conductor import Conductor, PlannedTrial
from tune_btxrd.search.events import ENDINGS
from tune_btxrd.search.listener import Listener
from tune_btxrd.search.record import SearchRecord
from tune_btxrd.search.space.spec import SearchSpec


class Proposals(Searcher):
    """Asks the conductor for the next trial whenever Ray has room for one.

    Args:
        pauses: the scheduler, where trials pause: it goes on with those that Tune holds.
    """

    def __init__(self, conductor: Conductor, pauses: Pauses | None = None) -> None:
        super().__init__(metric="objective", mode="min")
        self.conductor, self.pauses = conductor, pauses

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """A complete config with its label, None (not yet), or FINISHED."""
        if self.pauses and self.pauses.is_pausing:
            return None
        planned = self.conductor.next()
        while self.pauses and isinstance(planned, PlannedTrial) and self.pauses.holds(planned.label):
            planned = self.conductor.next()
        if planned == "wait":
            return None
        if planned == "finished":
            return str(Searcher.FINISHED)
        return trial_config(planned).to_dict()

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: `Recorder` hears of ends, with the trial at hand."""

    def save(self, checkpoint_path: str) -> None:
        """A note where Ray expects a file: the journal is the state, and nothing of it is pickled."""
        Path(checkpoint_path).write_text("The state of this search is its journal.jsonl.\n")

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see `save`."""


def trial_config(planned: PlannedTrial) -> TrialConfig:
    """What the conductor hands out as Tune's config."""
    return TrialConfig(trial=planned.label, role=planned.role, splits=planned.splits, hyperparameters=planned.config)


@dataclass(frozen=True)
class _Labelled:
    """What ASHA needs of a trial: an id that stays the same when the trial is resumed."""

    trial_id: str


class Rungs(ASHAScheduler):
    """Ray's ASHA on epochs, keyed by our labels, blind to confirmation trials, with rungs that survive a restart.

    `scheduler: none` is the same with the first rung at the last epoch.
    """

    def __init__(self, spec: SearchSpec, conductor: Conductor) -> None:
        grace = spec.grace_period if spec.scheduler == "asha" else spec.epochs
        super().__init__(
            time_attr="epoch",
            metric="objective",
            mode="min",
            max_t=spec.epochs,
            grace_period=grace,
            reduction_factor=spec.reduction_factor,
        )
        self.conductor = conductor
        self.reasons: dict[str, str] = {}  # label -> why the scheduler stopped it
        self._pending = PendingTrials()
        self._held: list[Any] = []  # Tune's trials that were not seen to have finished
        self._replay(conductor.record)

    def _replay(self, record: SearchRecord) -> None:
        """Fills the rungs from the epochs of earlier sessions, in the order in which they were reported.

        A trial that is stopped here, yet not ended, fell to a kill between its last epoch and the note of its end.
        """
        trials = record.search_trials
        for trial in trials:
            super().on_trial_add(None, _Labelled(trial.label))
        rows = [(row["time"], trial, row) for trial in trials for row in trial.epochs]
        for _, trial, row in sorted(rows, key=lambda item: item[0]):
            decision = super().on_trial_result(None, _Labelled(trial.label), row)
            if decision == TrialScheduler.STOP and trial.state == "running" and row is trial.epochs[-1]:
                self.conductor.end(trial.label, state="pruned", reason=_stopped_at(row["epoch"]))

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The next trial to begin."""
        self._held = [trial for trial in self._held if not trial.is_finished()]
        return self._pending.choose([trial for trial in self._held if trial.status == Trial.PENDING])

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Enters a trial; confirmation trials stay outside of the rungs."""
        self._held.append(trial)
        if trial.config["role"] == "search":
            super().on_trial_add(tune_controller, _Labelled(trial.config["trial"]))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """CONTINUE or STOP: by ASHA's rule, for every search trial once the budget is used up, for unneeded repeats."""
        label = trial.config["trial"]
        if result["stop"]:
            return str(TrialScheduler.CONTINUE)  # a trial that ends by itself needs no scheduler
        decision = TrialScheduler.CONTINUE
        if trial.config["role"] == "search":
            decision = super().on_trial_result(tune_controller, _Labelled(label), result)
        is_cut = decision == TrialScheduler.STOP
        if why := _stopped_at(result["epoch"]) if is_cut else self.conductor.stop_reason(label, result["epoch"]):
            self.reasons[label] = why
            return str(TrialScheduler.STOP)
        return str(TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Enters the last result into its rung, if it was not there yet."""
        if trial.config["role"] == "search" and result["stop"] != "diverged":
            super().on_trial_complete(tune_controller, _Labelled(trial.config["trial"]), result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Forgets a trial that never ran."""
        if trial.config["role"] == "search":
            super().on_trial_remove(tune_controller, _Labelled(trial.config["trial"]))


def make_scheduler(spec: SearchSpec, conductor: Conductor) -> "Rungs | Pauses":
    """The scheduler of a search's trials."""
    return Pauses(conductor) if spec.scheduler == "promote" else Rungs(spec, conductor)


class Recorder(Callback):
    """Reports every epoch (the stopping one included) and every end to the conductor, then to the listeners.

    Args:
        memory: knows how many slots there are, and hears of processes that Ray stopped for lack of memory.
        check: called after a process was killed; raises where the dataset's cache is no longer whole.
    """

    def __init__(
        self,
        conductor: Conductor,
        rungs: Rungs | Pauses,
        listeners: tuple[Listener, ...] = (),
        memory: MemoryKills | None = None,
        check: Callable[[], None] | None = None,
    ) -> None:
        self.conductor, self.rungs, self.listeners, self.memory, self.check = conductor, rungs, listeners, memory, check

    def __getstate__(self) -> dict[str, Any]:
        """Empty: Ray pickles its Tuner, and what listens here (files, a terminal) has no place in a pickle."""
        return {}

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """As many slots as the nodes of this moment have."""
        if self.memory is not None:
            self.conductor.slots = self.memory.slots()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial got its slot."""
        self._tell("started", trial.config["trial"])

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
        """One epoch; a row that marks divergence is no epoch, nor does one count after the trial's end."""
        if self.conductor.record.trials[trial.config["trial"]].has_ended:
            return
        if result.get("note") and result["note"] not in self.conductor.record.trials[trial.config["trial"]].notes:
            self._note(trial.config["trial"], result["note"])
        if result["stop"] != "diverged" and self.conductor.epoch(trial.config["trial"], own_columns(result)):
            self._tell("epoch", trial.config["trial"])
            if self.conductor.record.trials[trial.config["trial"]].state == "paused":
                self._tell("paused", trial.config["trial"])

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Paused trials that were given up have ended."""
        while self.conductor.given_up:
            self._tell("ended", self.conductor.given_up.pop(0))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial ended by itself or was stopped; one that was given up while it paused has ended already."""
        label, result = trial.config["trial"], trial.last_result
        if self.conductor.record.trials[label].has_ended:
            return
        if result["stop"] == "diverged":
            self._end(label, "diverged", result["reason"])
        elif result["stop"]:
            self._end(label, "complete", ENDINGS[result["stop"]])
        else:
            self._end(label, "pruned", self.rungs.reasons[label])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial failed for good, its retries used up. Raises: SurroundingsError where no trial is to blame."""
        reason = self._reason(trial)
        if self.conductor.record.trials[trial.config["trial"]].has_ended:
            return
        if trial.should_recover() and self.conductor.give_back(trial.config["trial"]):
            self._note(trial.config["trial"], f"{RETRIED}: {reason}")  # Ray retries none whose slot dies as it begins
        else:
            self._end(trial.config["trial"], "failed", reason)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial failed and begins again from its checkpoint. Raises: SurroundingsError where no trial is to blame."""
        reason = self._reason(trial)
        if reason == NODE_LOST or (reason == MEMORY_LOW and self.conductor.slots > 1):
            trial.run_metadata.num_failures -= 1  # lost nodes and memory that others took cost none of its retries
        self._note(trial.config["trial"], f"{RETRIED}: {reason}")

    def _reason(self, trial: Any) -> str:
        """Why the trial failed last. Raises: SurroundingsError where storage or dataset did."""
        reason = failure_reason(trial)
        if fault := fault_in(reason):
            raise fault
        if reason == KILLED and self.check is not None:
            self.check()  # reading a map of a truncated file ends the process
        if reason == MEMORY_LOW and self.memory is not None:
            self.memory.count(trial.config["trial"])
        return reason

    def _note(self, label: str, text: str) -> None:
        self.conductor.note(label, text)
        self._tell("noted", label)

    def _end(self, label: str, state: str, reason: str) -> None:
        self.conductor.end(label, state=state, reason=reason)
        self._tell("ended", label)

    def _tell(self, event: str, label: str) -> None:
        for listener in self.listeners:
            getattr(listener, event)(self.conductor.record.trials[label])


def _stopped_at(epoch: int) -> str:
    return f"stopped by ASHA at epoch {epoch}"
