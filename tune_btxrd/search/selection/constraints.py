"""Constraints: whether trials keep the demands of a search on reported values."""

import math
import statistics
from collections.abc import Sequence

from tune_btxrd.search.record import TrialRecord
from tune_btxrd.search.space.spec import SearchSpec


def is_feasible(spec: SearchSpec, trials: Sequence[TrialRecord]) -> bool:
    """Whether the mean over the trials' best epochs keeps every constraint; an epoch without the value has no say."""
    best = [trial.best for trial in trials if trial.best]
    known = [[row[item.metric] for row in best if not math.isnan(row[item.metric])] for item in spec.constraint]
    return bool(best) and all(
        item.violation(statistics.fmean(values) if values else math.nan) <= 0
        for item, values in zip(spec.constraint, known, strict=True)
    )
