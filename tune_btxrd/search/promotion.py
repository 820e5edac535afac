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
from bisect import bisect_left, insort
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
        objective: as it entered the last rung that it reached.
        reached, passed: how many rungs it has reached, and how many of them it went past.
    """

    order: int
    objective: float = math.inf
    reached: int = 0
    passed: int = 0
    state: Literal["running", "paused", "ended"] = "running"


Value = tuple[float, int, str]  # objective, order, label


class Promotion:
    """Rungs with the values of all trials that reached them.

    A question costs next to nothing however many there are: the driver asks at every step.

    Args:
        rungs: epochs at which trials pause, ascending; none: no trial ever pauses.
        reduction_factor: the best one in so many goes on.
        trials: how many there will be in all; a rung that no further trial can reach lets at least its best one go on.
    """

    def __init__(self, rungs: Sequence[int], *, reduction_factor: float, trials: int) -> None:
        self.rungs, self.reduction_factor, self.trials = tuple(rungs), reduction_factor, trials
        self._progress: dict[str, _Progress] = {}
        self._values: list[list[Value]] = [[] for _ in rungs]  # of each rung, best first
        self._waiting: list[list[Value]] = [[] for _ in rungs]  # of each rung, those that are paused there, best first
        self._heading = [0] * (len(rungs) + 1)  # running trials, by how many rungs they have reached

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
            self._turn(trial.label, "ended")
            return
        progress.passed = min(progress.reached, len(trial.promotions))
        if progress.passed < progress.reached and not trial.epochs[-1]["stop"]:
            progress.passed = progress.reached - 1
            self._turn(trial.label, "paused")

    def begin(self, label: str) -> None:
        """Enters a new trial."""
        self._progress[label] = _Progress(order=len(self._progress))
        self._heading[0] += 1

    def report(self, label: str, epoch: int, objective: float, *, ends: bool = False) -> bool:
        """Takes an epoch; True where the trial pauses. It goes on at once where it would be the next to go on anyway.

        Args:
            objective: best value so far, lower is better; ends: the trial ends with this epoch and is compared only.
        """
        progress = self._progress[label]
        if self._enter(label, epoch, objective) and not ends:
            self._turn(label, "paused")
            if self.candidate() == label:
                self.promote(label)
        return progress.state == "paused"

    def end(self, label: str) -> None:
        """Takes a trial's end; its values stay in the rungs."""
        self._turn(label, "ended")

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
            size = len(self._values[rung])
            if self._places_within(rung, self._quota(size, closed=size == sizes[rung])):
                return self._waiting[rung][0][2]
        return None

    def promote(self, label: str) -> None:
        """Lets a paused trial go on."""
        progress = self._progress[label]
        assert progress.state == "paused", f"trial {label} is {progress.state}"
        self._turn(label, "running")
        progress.passed = progress.reached

    def hopeless(self) -> list[str]:
        """Paused trials that no result of others can let go on, lowest rung first."""
        found = []
        for rung, size in enumerate(self._final_sizes()):
            within = self._places_within(rung, self._quota(size, closed=True))
            found += [label for _, _, label in self._waiting[rung][within:]]
        return found

    def _enter(self, label: str, epoch: int, objective: float) -> bool:
        """Enters a value into its rung; False where there is none at this epoch, or it is there already."""
        progress = self._progress[label]
        if progress.reached == len(self.rungs) or epoch != self.rungs[progress.reached]:
            return False
        insort(self._values[progress.reached], (objective, progress.order, label))
        state = progress.state
        self._turn(label, "ended")  # counted nowhere while it moves
        progress.objective, progress.reached = objective, progress.reached + 1
        self._turn(label, state)
        return True

    def _turn(self, label: str, state: Literal["running", "paused", "ended"]) -> None:
        """Changes a trial's state. One that is paused waits at the last rung that it reached."""
        progress = self._progress[label]
        value = (progress.objective, progress.order, label)
        if progress.state == "running":
            self._heading[progress.reached] -= 1
        elif progress.state == "paused":
            waiting = self._waiting[progress.reached - 1]
            waiting.pop(bisect_left(waiting, value))
        progress.state = state
        if state == "running":
            self._heading[progress.reached] += 1
        elif state == "paused":
            insort(self._waiting[progress.reached - 1], value)

    def _places_within(self, rung: int, quota: int) -> int:
        """How many of those that wait at a rung are among its `quota` best."""
        values, waiting = self._values[rung], self._waiting[rung]
        return bisect_left(waiting, values[quota]) if quota < len(values) else len(waiting)

    def _quota(self, size: int, *, closed: bool) -> int:
        return max(math.floor(size / self.reduction_factor), 1 if closed else 0)

    def _final_sizes(self) -> list[int]:
        """The most trials that may ever have reached each rung."""
        sizes: list[int] = []
        to_come = max(0, self.trials - len(self._progress))  # that may still reach the rung from below
        for rung, values in enumerate(self._values):
            heading = self._heading[rung]
            sizes.append(len(values) + to_come + heading)
            to_come += heading + self._places_within(rung, self._quota(sizes[rung], closed=True))
        return sizes
