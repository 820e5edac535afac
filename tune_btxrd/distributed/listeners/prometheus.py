"""A running search as Ray metrics, for Prometheus and Grafana: what each slot does, how many trials are in which state.

Ray exports them at every node's metrics port with `ray_` before the name; `deploy/grafana.json` draws them. Tags are the
search and the slot, never a trial: a search of 500 trials has as many series as one of five.
"""

import itertools
import math
from collections import Counter

from tune_btxrd.distributed.names import ascii_name
from tune_btxrd.monitor import Monitor
from tune_btxrd.search.listener import Listener
from tune_btxrd.search.record import STATE_WORDS, SearchRecord, TrialRecord

PREFIX = "tune_btxrd_"
PER_SLOT = {
    "val_loss": "Unweighted validation loss of the slot's last epoch",
    "positive_recall": "Validation recall of the positive class in the slot's last epoch",
    "epoch": "Epochs that the slot's trial has finished",
    "images_per_second": "Training images per second in the slot's last epoch",
}


class Gauges(Listener):
    """Listener that sets Ray's metrics.

    Args:
        record: the search as it grows; monitor: what it is judged by.
        recall: the column of the positive class; slots: trials at once.
    """

    def __init__(self, record: SearchRecord, *, monitor: Monitor, recall: str, slots: int) -> None:
        from ray.util import metrics

        self.record, self.monitor, self.lanes = record, monitor, Lanes(slots)
        self.columns = {"val_loss": "val_loss", "positive_recall": recall, "epoch": "epoch"}
        self.columns |= {"images_per_second": "images_per_second"}
        search = {"search": ascii_name(record.folder.name)}
        self.slot_gauges = {name: metrics.Gauge(PREFIX + name, text, ("search", "slot")) for name, text in PER_SLOT.items()}
        self.states = metrics.Gauge(PREFIX + "trials", "Trials by state, confirmation included", ("search", "state"))
        self.best = metrics.Gauge(PREFIX + "best_score", f"Best {monitor.label} of the search's trials so far", ("search",))
        self.epochs = metrics.Counter(PREFIX + "epochs", "Epochs reported since the driver started", ("search",))
        for metric in (*self.slot_gauges.values(), self.states, self.best, self.epochs):
            metric.set_default_tags(search)
        past = (trial.objective for trial in record.search_trials)
        self.lowest = min((value for value in past if value is not None), default=math.inf)
        self._known, self._open, self._ended = 0, list[TrialRecord](), Counter[str]()
        self._tell_states()

    def started(self, trial: TrialRecord) -> None:
        """A trial got its slot."""
        self._tell_states()

    def epoch(self, trial: TrialRecord) -> None:
        """Sets the values that the trial's slot just reported."""
        row = trial.epochs[-1]
        slot = {"slot": str(self.lanes.of(str(row["slot"]), trial.label))}
        for name, column in self.columns.items():
            if row.get(column) is not None:
                self.slot_gauges[name].set(float(row[column]), slot)
        self.epochs.inc(1)
        if trial.role == "search":
            self.lowest = min(self.lowest, row["objective"])
        if self.lowest < math.inf:
            self.best.set(self.monitor.score(self.lowest))

    def paused(self, trial: TrialRecord) -> None:
        """A trial left its slot to wait at a rung."""
        self.ended(trial)

    def ended(self, trial: TrialRecord) -> None:
        """A trial ended: one more in its state, one less running."""
        self.lanes.leave(trial.label)
        self._tell_states()

    def _tell_states(self) -> None:
        """Counts anew those that have not ended; an end is for good."""
        self._open += itertools.islice(self.record.trials.values(), self._known, None)
        self._known = len(self.record.trials)
        self._ended.update(trial.state for trial in self._open if trial.has_ended)
        self._open = [trial for trial in self._open if not trial.has_ended]
        counts = self._ended + Counter(trial.state for trial in self._open)
        for state, words in STATE_WORDS.items():
            self.states.set(counts[state], {"state": words})


class Lanes:
    """Numbers of slots from 1: a process keeps its number; one that came after another had died takes over the other's."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.numbers: dict[str, int] = {}  # process -> number
        self.busy: dict[str, str] = {}  # running trial -> process

    def of(self, process: str, label: str) -> int:
        """The number of the process that the trial runs in, at most the number of slots."""
        self.busy[label] = process
        if process not in self.numbers:
            busy = {self.numbers[other] for other in self.busy.values() if other in self.numbers}
            unseen = set(range(1, self.slots + 1)) - set(self.numbers.values())
            free = unseen or set(range(1, self.slots + 1)) - busy or {self.slots}
            self.numbers = {name: number for name, number in self.numbers.items() if number != min(free)}
            self.numbers[process] = min(free)
        return self.numbers[process]

    def leave(self, label: str) -> None:
        """The trial ended; its process may begin another."""
        self.busy.pop(label, None)
