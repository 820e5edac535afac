"""A search as a person watches it: running trials, the best so far, what is left."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tune_btxrd import console
from tune_btxrd.console import plain, tell, tell_more
from tune_btxrd.search.budget import minutes
from tune_btxrd.search.events import EpochRow
from tune_btxrd.search.listener import Listener
from tune_btxrd.search.pace import repeats_wanted, time_left
from tune_btxrd.search.record import SearchRecord, TrialRecord
from tune_btxrd.search.selection.recommendation import best_by_rule
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.tasks.record import shown

ROWS = 12  # running trials in the live block
REST = 20  # times as long as making the lines below the table took, before the next time: it grows with the search


class SearchProgress(Listener):
    """Hears of trials; `render` is the live block, and each trial's end is a line.

    Args:
        positive_class: its name; recall: the column of its recall.
        asked: when the command was given, seconds since 1970; the first training step is told relative to it.
        slots: trials at once; measured: seconds of an epoch as measured before the search; sizes: per image size.
        past: the search so far, where it goes on.
        refresh: draws the live block anew.
        deadline, epoch_budget: what search trials may take (`Conductor`).
    """

    def __init__(
        self,
        spec: SearchSpec,
        *,
        positive_class: str,
        recall: str,
        asked: float,
        slots: int = 1,
        measured: float | None = None,
        sizes: Mapping[int, float] | None = None,
        past: SearchRecord | None = None,
        refresh: Any = None,
        deadline: float | None = None,
        epoch_budget: int | None = None,
    ) -> None:
        self.spec, self.asked = spec, asked
        self.deadline, self.epoch_budget = deadline, epoch_budget
        self.slots, self.measured, self.sizes = slots, measured, sizes
        self.recall, self.positive_class = recall, positive_class
        self.refresh = refresh or (lambda: None)
        self.trials: dict[str, TrialRecord] = dict(past.trials) if past else {}
        self.running: set[str] = set()  # labels of the trials that have a slot now
        self.epochs = 0
        self._found, self._look = ("", ""), 0.0  # the lines below the table, and when to make them anew

    def started(self, trial: TrialRecord) -> None:
        """A trial got its slot."""
        self.trials[trial.label] = trial
        self.running.add(trial.label)
        self.refresh()

    def epoch(self, trial: TrialRecord) -> None:
        """An epoch was reported."""
        self.epochs += 1
        if self.epochs == 1:
            row = trial.epochs[-1]
            lasted = row["train_seconds"] + row["val_seconds"]
            tell(f"  first training step {row['time'] - lasted - self.asked:.1f} s after the command")
        if trial.epochs[-1]["zero_recall_epochs"] == 2 and len(trial.epochs) > 2:
            when = f"two epochs in a row (epoch {len(trial.epochs)})"
            tell(f"  trial {trial.label}: no {self.positive_class} image found in {when}")
        row = trial.epochs[-1]
        done = f"epoch {row['epoch']}/{self.spec.epochs}"
        tell_more(f"  trial {trial.label:>4} {done}  val loss {row['val_loss']:.4f}  {self._recall(row)}")
        self.refresh()

    def noted(self, trial: TrialRecord) -> None:
        """Something happened to a trial that goes on."""
        tell(f"  trial {trial.label}: {trial.notes[-1]}")
        self.refresh()

    def paused(self, trial: TrialRecord) -> None:
        """A trial waits at a rung."""
        tell_more(f"  trial {trial.label:>4} paused at epoch {trial.epochs[-1]['epoch']}: {trial.shown}")
        self.running.discard(trial.label)
        self.refresh()

    def ended(self, trial: TrialRecord) -> None:
        """A trial ended: one line for the log."""
        values = " ".join(
            f"{name}={value:.2g}" if isinstance(value, float) else f"{name}={value}" for name, value in trial.params.items()
        )
        score = f"{trial.shown}{', not needed' if trial.unneeded else ''}" if trial.shown else trial.told_reason
        recall = f", {self._recall(trial.best)}" if trial.best else ""
        epochs = f"{len(trial.epochs)} epoch{'s' if len(trial.epochs) != 1 else ''}"
        left = "" if console.OUT.is_terminal else f"  {self._left()}"  # on a terminal the block says it
        tell(f"  trial {trial.label:>4} {trial.state_words:<13} {epochs:>9}  {score}{recall}  ({values}){left}")
        self.running.discard(trial.label)
        self.refresh()

    def render(self) -> Any:
        """The live block: one line per running trial, then the best so far and the time left."""
        from rich.console import Group
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for column in (
            "trial",
            "epoch",
            "val loss",
            f"{self.positive_class} recall",
            f"best {self.spec.monitored.label}",
        ):
            table.add_column(plain(column), justify="right")
        running = [self.trials[label] for label in self.trials if label in self.running]
        for trial in running[:ROWS]:
            table.add_row(*map(plain, (trial.label, *_cells(trial, self.spec.epochs, self.recall))))
        more = f"and {len(running) - ROWS} more running; " if len(running) > ROWS else ""
        told, left = self._words()
        shown = [plain(line, "italic") for line in (more + told, left) if line]
        for line in shown:
            line.no_wrap, line.overflow = True, "ellipsis"
        return Group(table, *shown)

    def _recall(self, row: EpochRow) -> str:
        return f"{self.positive_class} recall {shown(row[self.recall], 2)}"

    def _ended(self) -> str:
        done = [t for t in self.trials.values() if t.role == "search" and t.has_ended and t.label not in self.running]
        repeats = repeats_line(SearchRecord(folder=Path(), settings={}, trials=self.trials, sessions=[]), self.spec)
        paused = sum(trial.state == "paused" for trial in self.trials.values())
        waiting = f", {paused} paused" if paused else ""
        return f"{len(done)} of {self.spec.trials} trials ended{waiting}{repeats and f'; {repeats}'}"

    def _best(self) -> str:
        best = best_by_rule((trial for trial in self.trials.values() if trial.role == "search"), self.spec)
        return f"best so far: {best.words}" if best else "no result yet"

    def _words(self) -> tuple[str, str]:
        """The lines below the table, made anew once they have stood REST times as long as it took; at the end always."""
        began = time.monotonic()
        if began >= self._look or not self.running:
            self._found = f"{self._ended()}; {self._best()}", self._left()
            self._look = began + REST * (time.monotonic() - began)
        return self._found

    def _left(self) -> str:
        """Time left as expected from the epochs of this session."""
        record = SearchRecord(folder=Path(), settings={}, trials=self.trials, sessions=[])
        left = time_left(
            record,
            self.spec,
            slots=self.slots,
            since=self.asked,
            measured=self.measured,
            sizes=self.sizes,
            now=time.time(),
            deadline=self.deadline,
            epoch_budget=self.epoch_budget,
        )
        return "" if left is None else f"about {minutes(left)} left"


def _cells(trial: TrialRecord, epochs: int, recall: str) -> tuple[str, str, str, str]:
    if not trial.epochs:
        return f"0/{epochs}", "", "", ""
    row = trial.epochs[-1]
    return f"{row['epoch']}/{epochs}", f"{row['val_loss']:.4f}", shown(row[recall], 2), f"{trial.score:.4f}"


def repeats_line(record: SearchRecord, spec: SearchSpec) -> str:
    """How far the confirmation is, e.g. "repeat 5 of 12"; empty before its first repeat has begun."""
    begun = len(record.confirmations)
    return f"repeat {begun} of {repeats_wanted(record, spec)}" if begun else ""
