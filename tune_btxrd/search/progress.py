"""A search as a person watches it: running trials, the best so far, what is left."""

import statistics
import time
from typing import Any

from tune_btxrd.console import say
from tune_btxrd.monitor import MONITORS
from tune_btxrd.search.measure import confirm_epochs, expected_epochs, minutes
from tune_btxrd.search.rows import recall_column
from tune_btxrd.search.space import SearchSpec
from tune_btxrd.search.trials import SearchRecord, TrialRecord

MARKS = {"complete": "done", "pruned": "cut", "diverged": "diverged", "failed": "FAILED"}


class SearchProgress:
    """Hears of trials; `render` is the live block, and each trial's end is a line.

    Args:
        asked: when the command was given, seconds since 1970; the first training step is told relative to it.
    """

    def __init__(self, spec: SearchSpec, *, positive_class: str, slots: int, asked: float, refresh: Any = None) -> None:
        self.spec, self.slots, self.asked = spec, slots, asked
        self.recall, self.positive_class = recall_column(positive_class), positive_class
        self.refresh = refresh or (lambda: None)
        self.trials: dict[str, TrialRecord] = {}
        self.began = time.monotonic()
        self.epochs = 0

    def started(self, trial: TrialRecord) -> None:
        """A trial got its slot."""
        self.trials[trial.label] = trial
        self.refresh()

    def epoch(self, trial: TrialRecord) -> None:
        """An epoch was reported."""
        self.epochs += 1
        if self.epochs == 1:
            row = trial.epochs[-1]
            seconds = row["time"] - row["train_seconds"] - row["val_seconds"] - self.asked
            say(f"  first training step {seconds:.1f} s after the command")
        if trial.epochs[-1]["zero_recall_epochs"] == 2 and len(trial.epochs) > 2:
            when = f"two epochs in a row (epoch {len(trial.epochs)})"
            say(f"  trial {trial.label}: no {self.positive_class} image found in {when}")
        self.refresh()

    def ended(self, trial: TrialRecord) -> None:
        """A trial ended: one line for the log."""
        values = " ".join(
            f"{name}={value:.2g}" if isinstance(value, float) else f"{name}={value}" for name, value in trial.params.items()
        )
        score = trial.shown or trial.reason
        recall = f", {self.positive_class} recall {trial.best[self.recall]:.2f}" if trial.best else ""
        epochs = f"{len(trial.epochs)} epoch{'s' if len(trial.epochs) != 1 else ''}"
        say(f"  trial {trial.label:>4} {MARKS[trial.state]:<5} {epochs:>9}  {score}{recall}  ({values})  {self._left()}")
        self.refresh()

    def render(self) -> Any:
        """The live block: one line per running trial, then the best so far and the time left."""
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for column in (
            "trial",
            "epoch",
            "val loss",
            f"{self.positive_class} recall",
            f"best {MONITORS[self.spec.monitor].label}",
        ):
            table.add_column(column, justify="right")
        for trial in self.trials.values():
            if trial.state == "running":
                table.add_row(trial.label, *_cells(trial, self.spec.epochs, self.recall))
        table.caption = f"{self._best()}   {self._left()}"
        return table

    def _best(self) -> str:
        scored = [t for t in self.trials.values() if t.role == "search" and t.objective is not None]
        if not scored:
            return "no result yet"
        best = min(scored, key=lambda trial: trial.rank)
        return f"best so far: trial {best.label}, {best.shown}"

    def _left(self) -> str:
        """Time left from the epochs seen so far; an upper bound, since patience saves some."""
        if not self.epochs:
            return ""
        ended = [len(t.epochs) for t in self.trials.values() if t.role == "search" and t.state != "running"]
        per_trial = statistics.fmean(ended) if ended else expected_epochs(self.spec) / self.spec.trials
        done = sum(len(t.epochs) for t in self.trials.values() if t.role == "search")
        confirmed = sum(len(t.epochs) for t in self.trials.values() if t.role == "confirm")
        left = max(0.0, per_trial * self.spec.trials - done) + max(0, confirm_epochs(self.spec) - confirmed)
        return f"about {minutes(left * (time.monotonic() - self.began) / self.epochs)} left"


def _cells(trial: TrialRecord, epochs: int, recall: str) -> tuple[str, str, str, str]:
    if not trial.epochs:
        return f"0/{epochs}", "", "", ""
    row = trial.epochs[-1]
    return f"{row['epoch']}/{epochs}", f"{row['val_loss']:.4f}", f"{row[recall]:.2f}", f"{trial.score:.4f}"


def state_of(record: SearchRecord) -> str:
    """A search's state for `list`: how many trials ended how."""
    counts = {state: sum(t.state == state for t in record.search_trials) for state in (*MARKS, "running")}
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "no trial yet"
