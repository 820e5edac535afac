"""ASHA's rungs: the milestones as Ray's `ASHAScheduler` computes them, and the epochs at which trials are compared.

A milestone may lie between two epochs (grace period 2, factor 1.5: 2, 3, 4.5, 6.75). Ray compares a trial at the highest
milestone that it has reached and was not yet compared at; with factors below 2 milestones lie closer than epochs, so a trial
passes some and is compared at them later. At its last epoch a trial ends in any case, so nothing is compared there.
"""

import math
from bisect import bisect_right

import numpy as np

from tune_btxrd.search.space.spec import SearchSpec


def milestones(spec: SearchSpec) -> tuple[float, ...]:
    """Ray's milestones in epochs, ascending, up to the budget; none without ASHA."""
    if spec.scheduler == "none":
        return ()
    count = int(np.log(spec.epochs / spec.grace_period) / np.log(spec.reduction_factor) + 1)  # as Ray computes it
    return tuple(float(spec.grace_period * spec.reduction_factor**power) for power in range(count))


def rung_epochs(spec: SearchSpec) -> tuple[int, ...]:
    """The epochs at which a trial may be stopped or paused, ascending; the last epoch of the budget is none of them."""
    pending, compared, epoch = list(milestones(spec)), list[int](), 0
    while pending and (epoch := max(epoch + 1, math.ceil(pending[0]))) < spec.epochs:
        pending.pop(bisect_right(pending, epoch) - 1)
        compared.append(epoch)
    return tuple(compared)


def pausing_epochs(spec: SearchSpec) -> tuple[int, ...]:
    """The rungs at which every trial pauses, ascending; none without promotion."""
    return rung_epochs(spec) if spec.scheduler == "promote" else ()


def paused_at_most(spec: SearchSpec) -> int:
    """How many trials may be paused at once: at each rung those that might yet be among the best ones."""
    return len(pausing_epochs(spec)) * max(1, math.floor(spec.trials / spec.reduction_factor))
