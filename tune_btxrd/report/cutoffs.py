"""Cutoffs that trials met at rungs: Ray's rule replayed on the epochs of a search, in the order of their reports.

At its first epoch at or past a rung a trial is compared with all trials that were there before it; it goes on where its
objective is no worse than their best 1/reduction_factor (Ray's `AsyncHyperBandScheduler`, whose decisions this reproduces).
With promotion it waits for all others, so that its cutoff is that of all who ever reached the rung.
"""

import math
from dataclasses import dataclass

import numpy as np

from tune_btxrd.search.events import EpochRow
from tune_btxrd.search.record import SearchRecord, TrialRecord
from tune_btxrd.search.rungs import milestones, rung_epochs
from tune_btxrd.search.space.spec import SearchSpec


@dataclass(frozen=True, kw_only=True)
class RungVisit:
    """A trial's arrival at a rung.

    Attributes:
        epoch: at which it arrived; objective: with what.
        cutoff: the worst objective that could go on; None for the first trial there.
        before: trials that it was compared with: those there before it, with promotion all others.
        cut: whether the trial ended here, stopped or not promoted.
    """

    trial: TrialRecord
    rung: float
    epoch: int
    objective: float
    cutoff: float | None
    before: int
    cut: bool

    def __str__(self) -> str:
        if self.cutoff is None:
            return f"epoch {self.epoch}: the first one there, {self.score:.4f}"
        whom = "others" if self.trial.pauses or self.trial.promotions else "before it"
        signs = ("<", ">=") if self.trial.monitor.higher_is_better else (">", "<=")
        sign = signs[0] if self.objective > self.cutoff else signs[1]
        return f"epoch {self.epoch}: {self.score:.4f} {sign} cutoff {self.shown_cutoff:.4f} of {self.before} {whom}"

    @property
    def score(self) -> float:
        """The objective with the monitor's own sign."""
        return self.trial.monitor.score(self.objective)

    @property
    def shown_cutoff(self) -> float | None:
        """The cutoff with the monitor's own sign."""
        return None if self.cutoff is None else self.trial.monitor.score(self.cutoff)


def rung_visits(record: SearchRecord, spec: SearchSpec) -> tuple[RungVisit, ...]:
    """Every arrival at a rung before the last epoch, in the order of time."""
    if spec.scheduler == "promote":
        return _promotions(record, spec)
    rungs = milestones(spec)
    known: dict[float, dict[str, float]] = {rung: {} for rung in rungs}
    rows = [(row["time"], trial, row) for trial in record.search_trials for row in trial.epochs]
    visits = []
    for _, trial, row in sorted(rows, key=lambda item: item[0]):
        rung = next((r for r in reversed(rungs) if row["epoch"] >= r and trial.label not in known[r]), None)
        if rung is None or row["objective"] is None or not math.isfinite(row["objective"]):
            continue
        visits.append(_visit(trial, row, rung=rung, known=known[rung], share=1 / spec.reduction_factor))
        known[rung][trial.label] = visits[-1].objective
    return tuple(visit for visit in visits if visit.epoch < spec.epochs)


def _promotions(record: SearchRecord, spec: SearchSpec) -> tuple[RungVisit, ...]:
    rows = [(row, trial) for trial in record.search_trials for row in trial.epochs if row["epoch"] in rung_epochs(spec)]
    values: dict[int, list[float]] = {}
    for row, _ in rows:
        values.setdefault(row["epoch"], []).append(float(row["objective"]))
    return tuple(
        RungVisit(
            trial=trial,
            rung=float(row["epoch"]),
            epoch=row["epoch"],
            objective=float(row["objective"]),
            cutoff=sorted(there)[max(1, math.floor(len(there) / spec.reduction_factor)) - 1] if len(there) > 1 else None,
            before=len(there) - 1,
            cut=trial.state == "pruned" and trial.waits and trial.epochs[-1] is row,
        )
        for row, trial in sorted(rows, key=lambda item: item[0]["time"])
        for there in [values[row["epoch"]]]
    )


def _visit(trial: TrialRecord, row: EpochRow, *, rung: float, known: dict[str, float], share: float) -> RungVisit:
    cutoff = float(np.percentile(list(known.values()), 100 * share)) if known else None
    epoch, objective = int(row["epoch"]), float(row["objective"])
    return RungVisit(
        trial=trial,
        rung=rung,
        epoch=epoch,
        objective=objective,
        cutoff=cutoff,
        before=len(known),
        cut=trial.state == "pruned" and epoch == trial.epochs[-1]["epoch"] and cutoff is not None and objective > cutoff,
    )
