"""Budget: epochs that a search will take, seconds that it took, and when its trials must end. Pure functions."""

import math
import time

from tune_btxrd.search.record import SearchRecord
from tune_btxrd.search.rungs import rung_epochs
from tune_btxrd.search.space.spec import SearchSpec


def expected_epochs(spec: SearchSpec) -> float:
    """Epochs of the search without confirmation: each rung lets one in `reduction_factor` go on; one per fold of a trial."""
    reached, share, total = 0, 1.0, 0.0
    for epoch in rung_epochs(spec):
        total += share * (epoch - reached)
        reached, share = epoch, share / spec.reduction_factor
    return spec.trials * spec.folds_per_trial * (total + share * (spec.epochs - reached))


def confirm_epochs(spec: SearchSpec) -> int:
    """Epochs of the confirmation, at most."""
    return (spec.confirm + 1) * spec.repeats * spec.epochs if spec.confirm else 0


def spent_epochs(record: SearchRecord, spec: SearchSpec) -> int:
    """Epochs that search trials took, of all sessions; one per fold of a trial."""
    return spec.folds_per_trial * sum(len(trial.epochs) for trial in record.search_trials)


def minutes(seconds: float) -> str:
    """A duration as a person says it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def deadline(time_budget: float | None, *, reserve: float, spent: float) -> float | None:
    """When search trials must end so that confirmation and retrain fit in; None without a budget.

    Args:
        spent: seconds that earlier sessions took: a budget counts once.
    """
    return None if time_budget is None else time.time() + max(0.0, time_budget - reserve - spent)


def spent_seconds(record: SearchRecord) -> float:
    """Seconds that the sessions of a search lasted, each from its start to its last event."""
    starts = [session["time"] for session in record.sessions]
    trials = record.trials.values()
    times = [row["time"] for trial in trials for row in trial.epochs] + [t.ended or t.started for t in trials]
    ends = [max((time for time in times if start <= time < later), default=start) for start, later in _spans(starts)]
    return float(sum(end - start for start, end in zip(starts, ends, strict=True)))


def _spans(starts: list[float]) -> list[tuple[float, float]]:
    return list(zip(starts, [*starts[1:], math.inf], strict=True)) if starts else []
