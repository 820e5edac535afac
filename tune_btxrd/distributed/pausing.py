"""Scheduler of `scheduler: promote` as Ray Tune sees it: trials pause at rungs and go on where the conductor says so.

The conductor decides, and its journal is the state. A trial that Tune holds as PAUSED goes on (or is dropped) in
`choose_trial_to_run`; one that paused in an earlier session is a new trial for Tune and begins from its checkpoint.
"""

from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from tune_btxrd.distributed.pending import PendingTrials
from tune_btxrd.search.conductor import Conductor


class Pauses(FIFOScheduler):  # type: ignore[misc]  # untyped in Ray
    """Pauses search trials at their rungs; confirmation trials run to their end, but for those that are not needed."""

    _supports_buffered_results = False

    def __init__(self, conductor: Conductor) -> None:
        super().__init__()
        self.conductor = conductor
        self.reasons: dict[str, str] = {}  # label -> why the scheduler stopped it
        self._pending = PendingTrials()
        self._held: dict[str, Any] = {}  # label -> Tune's trial, until it is seen to have finished
        self._pausing: dict[str, Any] = {}  # those that still have their slots, though not for long

    def holds(self, label: str) -> bool:
        """Whether Tune has this trial, paused or not; to begin it once more would run it twice."""
        return label in self._held and not self._held[label].is_finished()

    @property
    def is_pausing(self) -> bool:
        """Whether a slot is about to become free: a trial begun now would be given a process of its own."""
        self._pausing = {label: trial for label, trial in self._pausing.items() if trial.status == Trial.RUNNING}
        return bool(self._pausing)

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Remembers Tune's trial."""
        self._held[trial.config["trial"]] = trial

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """CONTINUE, PAUSE at a rung, or STOP once the budget is used up, or a repeat is not needed."""
        label = trial.config["trial"]
        if self.conductor.record.trials[label].has_ended:
            return str(TrialScheduler.STOP)  # given up, while Tune began it again since its process died as it paused
        pauses = self.conductor.pauses(label, result)
        if result["stop"]:
            return str(TrialScheduler.CONTINUE)  # a trial that ends by itself needs no scheduler
        if pauses:
            self._pausing[label] = trial
            return str(TrialScheduler.PAUSE)
        if why := self.conductor.stop_reason(label, result["epoch"]):
            self.reasons[label] = why
            return str(TrialScheduler.STOP)
        return str(TrialScheduler.CONTINUE)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """A paused trial that goes on, else the next new one. Paused ones that were given up end here."""
        promoted, pending = None, []
        for label, trial in list(self._held.items()):  # at every step, so no finished one is looked at twice
            record = self.conductor.record.trials[label]
            if trial.is_finished():
                del self._held[label]
            elif trial.status == Trial.PENDING:
                pending.append(trial)
            elif trial.status == Trial.PAUSED and record.has_ended:
                tune_controller.stop_trial(trial)
            elif trial.status == Trial.PAUSED and record.state == "running":
                promoted = promoted or trial
        return promoted or self._pending.choose(pending)
