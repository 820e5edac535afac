"""Promotion-type ASHA: which trial pauses at a rung, which paused one goes on. Neither Ray, nor a clock, nor chance.

A trial that reaches a rung pauses. It goes on once it is among the best 1 / reduction_factor of all trials that have
reached that rung, higher rungs first; otherwise the free slot begins a new trial (Li et al., MLSys 2020, algorithm 2). So a
trial that starts slowly is not stopped for ever by its first comparison, as it is with stopping-type ASHA.

    promotion = Promotion(rung_epochs(spec), reduction_factor=spec.reduction_factor, trials=spec.trials)
    promotion.begin("7")                          trial 7 starts
    promotion.report("7", 4, 0.61)                after every epoch, with the best value so far: True where it pauses now
    promotion.end("7")                            it ended by itself, diverged, failed or was given up
    promotion.candidate()                         a slot is free: the paused trial that goes on, or None: begin a new one
    promotion.promote("7")                        it goes on
    promotion.hopeless()                          paused trials that can never go on: end them as pruned

`Conductor` does all of this for `scheduler: promote`: its caller asks `conductor.pauses(label, row)` before it tells
`conductor.epoch(label, row)`, leaves a paused trial where it is, and finds it again in `conductor.next()`.
"""

import math
from bisect import insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from tune_btxrd.search.events import END_STATES
from tune_btxrd.search.record import TrialRecord


@dataclass(kw_only=True)
class _Progress:
    """How far a trial is.

    Attributes:
        order: position among all trials, which decides between equal values.
        reached, passed: how many rungs it has reached, and how many of them it went past.
    """

    order: int
    reached: int = 0
    passed: int = 0
    state: Literal["running", "paused", "ended"] = "running"


class Promotion:
    """Rungs with the values of all trials that reached them.

    Args:
        rungs: epochs at which trials pause, ascending; none: no trial ever pauses.
        reduction_factor: the best one in so many goes on.
        trials: how many there will be in all; a rung that no further trial can reach lets at least its best one go on.
    """

    def __init__(self, rungs: Sequence[int], *, reduction_factor: float, trials: int) -> None:
        self.rungs, self.reduction_factor, self.trials = tuple(rungs), reduction_factor, trials
        self._progress: dict[str, _Progress] = {}
        self._values: list[list[tuple[float, int, str]]] = [[] for _ in rungs]  # of each rung, best first

    @classmethod
    def of_trials(
        cls, past: Iterable[TrialRecord], rungs: Sequence[int], *, reduction_factor: float, trials: int
    ) -> "Promotion":
        """The state that these trials, in order of their numbers, left behind.

        One that runs at a rung and was not promoted there is paused: a kill came between its epoch and that note.
        """
        promotion = cls(rungs, reduction_factor=reduction_factor, trials=trials)
        for trial in past:
            promotion._recall(trial)
        return promotion

    def _recall(self, trial: TrialRecord) -> None:
        self.begin(trial.label)
        for row in trial.epochs:
            self._enter(trial.label, row["epoch"], row["objective"])
        progress = self._progress[trial.label]
        if trial.state in END_STATES:
            progress.state = "ended"
            return
        progress.passed = min(progress.reached, len(trial.promotions))
        if progress.passed < progress.reached and not trial.epochs[-1]["stop"]:
            progress.passed, progress.state = progress.reached - 1, "paused"

    def begin(self, label: str) -> None:
        """Enters a new trial."""
        self._progress[label] = _Progress(order=len(self._progress))

    def report(self, label: str, epoch: int, objective: float, *, ends: bool = False) -> bool:
        """Takes an epoch; True where the trial pauses. It goes on at once where it would be the next to go on anyway.

        Args:
            objective: best value so far, lower is better; ends: the trial ends with this epoch and is compared only.
        """
        progress = self._progress[label]
        if self._enter(label, epoch, objective) and not ends:
            progress.state = "paused"
            if self.candidate() == label:
                self.promote(label)
        return progress.state == "paused"

    def end(self, label: str) -> None:
        """Takes a trial's end; its values stay in the rungs."""
        self._progress[label].state = "ended"

    def is_paused(self, label: str) -> bool:
        """Whether the trial waits at a rung."""
        return self._progress[label].state == "paused"

    def passed(self, label: str) -> int:
        """How many rungs the trial went past."""
        return self._progress[label].passed

    def candidate(self) -> str | None:
        """The paused trial that goes on next: of the highest rung that has one, the best; None: no one may."""
        sizes = self._final_sizes()
        for rung in reversed(range(len(self.rungs))):
            values = self._values[rung]
            for _, _, label in values[: self._quota(len(values), closed=len(values) == sizes[rung])]:
                if self._waits(label, rung):
                    return label
        return None

    def promote(self, label: str) -> None:
        """Lets a paused trial go on."""
        progress = self._progress[label]
        assert progress.state == "paused", f"trial {label} is {progress.state}"
        progress.state, progress.passed = "running", progress.reached

    def hopeless(self) -> list[str]:
        """Paused trials that no result of others can let go on, lowest rung first."""
        found = []
        for rung, size in enumerate(self._final_sizes()):
            values = self._values[rung]
            found += [label for _, _, label in values[self._quota(size, closed=True) :] if self._waits(label, rung)]
        return found

    def _enter(self, label: str, epoch: int, objective: float) -> bool:
        """Enters a value into its rung; False where there is none at this epoch, or it is there already."""
        progress = self._progress[label]
        if progress.reached == len(self.rungs) or epoch != self.rungs[progress.reached]:
            return False
        insort(self._values[progress.reached], (objective, progress.order, label))
        progress.reached += 1
        return True

    def _waits(self, label: str, rung: int) -> bool:
        progress = self._progress[label]
        return progress.state == "paused" and progress.reached == rung + 1

    def _quota(self, size: int, *, closed: bool) -> int:
        return max(math.floor(size / self.reduction_factor), 1 if closed else 0)

    def _final_sizes(self) -> list[int]:
        """The most trials that may ever have reached each rung."""
        sizes: list[int] = []
        to_come = max(0, self.trials - len(self._progress))  # that may still reach the rung from below
        for rung, values in enumerate(self._values):
            heading = sum(item.state == "running" and item.reached == rung for item in self._progress.values())
            sizes.append(len(values) + to_come + heading)
            best = values[: self._quota(sizes[rung], closed=True)]
            to_come += heading + sum(self._waits(label, rung) for _, _, label in best)
        return sizes
