"""Confirmation: how many configs are repeated how often, which of them stop being repeated, and how repeats decide.

Sizes: K configs x R repeats (and R of the hand-made config) that take at most SHARE of the epochs that there are.
Sequence: a config that is clearly worse than the best one after two repeats or more is not repeated further; the hand-made
config always is, for the gain is measured against it. That the truly best one is dropped happens in under ERROR of searches
(`benchmarks/confirmation.py`).
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import special

from tune_btxrd.search.space.spec import SearchSpec

SHARE = 1 / 3  # of all epochs, at most, that confirmation takes
ERROR = 0.05  # chance that the truly best config is dropped, over all looks and configs
POOLED = 1.0  # repeats that the value of the model counts as much as, for the decision alone


@dataclass(frozen=True, kw_only=True)
class Size:
    """K configs and the hand-made one, R times each; K = 0: none."""

    configs: int
    repeats: int

    def epochs(self, spec: SearchSpec) -> int:
        """What it takes at most."""
        return (self.configs + 1) * self.repeats * spec.epochs if self.configs else 0


SIZES = (Size(configs=3, repeats=3), Size(configs=2, repeats=3), Size(configs=2, repeats=2))  # the largest first


def fitting_size(spec: SearchSpec, total: float) -> Size:
    """The largest confirmation, not above the one of the space, that takes at most SHARE of so many epochs."""
    asked = Size(configs=spec.confirm, repeats=spec.repeats)
    smaller = [size for size in SIZES if size.configs <= spec.confirm and size.repeats <= spec.repeats]
    fits = [size for size in (asked, *smaller) if size.epochs(spec) <= SHARE * total]
    return fits[0] if fits else Size(configs=0, repeats=spec.repeats)


def smallest_total(spec: SearchSpec) -> float:
    """Epochs below which there is no confirmation."""
    least = SIZES[-1]
    return Size(configs=min(least.configs, spec.confirm), repeats=min(least.repeats, spec.repeats)).epochs(spec) / SHARE


def losers(scores: Mapping[int, Sequence[float]], *, looks: int) -> set[int]:
    """The configs that are clearly worse than the best one, by repeats on the same partitions.

    A one-sided t-test of the mean paired difference from the best, with the spread of all configs together, at
    ERROR / (configs - 1) / looks.

    Args:
        scores: config -> the objective of each repeat, as many of each; looks: how often this is asked in one search.
    """
    count, rounds = len(scores), len(next(iter(scores.values()), ()))
    if count < 2 or rounds < 2:
        return set()
    means = {key: statistics.fmean(values) for key, values in scores.items()}
    per_round = [statistics.fmean(column) for column in zip(*scores.values(), strict=True)]
    middle = statistics.fmean(per_round)
    rest = [value - means[key] - per_round[at] + middle for key, values in scores.items() for at, value in enumerate(values)]
    freedom = (count - 1) * (rounds - 1)
    variance = sum(value**2 for value in rest) / freedom
    limit = -float(special.stdtrit(freedom, ERROR / (count - 1) / max(looks, 1))) * math.sqrt(2 * variance / rounds)
    best = min(means.values())
    return {key for key, mean in means.items() if mean - best > limit}
