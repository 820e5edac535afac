"""95 % intervals: exact and Wilson for single proportions, a bootstrap over groups for everything else."""
# ruff: noqa: N803, N806
# (shape suffixes: R = draws, N = images)

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

TAIL = 0.025  # outside on either side
LEAST_DEFINED = 0.99  # share of the draws in which a metric must have a value
REPLICATES = 2000
ROUNDING = 1e-9  # two draws that differ by less are the same


@dataclass(frozen=True)
class Interval:
    """A 95 % interval; NaN at both ends where there is nothing to say."""

    low: float
    high: float

    def __str__(self) -> str:
        return NOT_ESTIMABLE if math.isnan(self.low) else f"{self.low:.3f}-{self.high:.3f}"


NOT_ESTIMABLE = "not estimable"
UNKNOWN = Interval(math.nan, math.nan)


@dataclass(frozen=True, kw_only=True)
class Proportion:
    """found of asked, e.g. 31 of 51 malignant images recognised."""

    found: int
    asked: int

    @property
    def value(self) -> float:
        """The share; NaN of nothing."""
        return self.found / self.asked if self.asked else math.nan

    @property
    def clopper_pearson(self) -> Interval:
        """Exact: covers at least 95 % for every true share (Clopper & Pearson, Biometrika 1934), by beta quantiles."""
        k, n = self.found, self.asked
        if not n:
            return UNKNOWN
        low = float(special.betaincinv(k, n - k + 1, TAIL)) if k else 0.0
        high = float(special.betaincinv(k + 1, n - k, 1 - TAIL)) if k < n else 1.0
        return Interval(low, high)

    @property
    def wilson(self) -> Interval:
        """Covers 95 % on average over true shares (Wilson, JASA 1927); narrower than the exact one."""
        k, n, z = self.found, self.asked, float(special.ndtri(1 - TAIL))
        if not n:
            return UNKNOWN
        center, spread = k + z * z / 2, z * math.sqrt(k * (n - k) / n + z * z / 4)
        low = (center - spread) / (n + z * z) if k else 0.0
        high = (center + spread) / (n + z * z) if k < n else 1.0
        return Interval(low, high)

    def __str__(self) -> str:
        return f"{self.found}/{self.asked}"


def draw_weights(groups_N: np.ndarray, *, replicates: int = REPLICATES, seed: int) -> np.ndarray:
    """(R, N): how often each image counts when as many groups as there are, are drawn with replacement.

    Images of one patient come and go together (cluster bootstrap; Field & Welsh, JRSS B 2007).
    """
    numbers, index_N = np.unique(groups_N, return_inverse=True)
    count = len(numbers)
    drawn_RG = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=replicates)
    return np.asarray(drawn_RG[:, index_N], dtype=np.float64)


def percentile_interval(draws_R: np.ndarray) -> Interval:
    """The middle 95 % of the draws; those in which the metric is undefined are left out."""
    known = draws_R[~np.isnan(draws_R)]
    if not len(known):
        return UNKNOWN
    low, high = np.quantile(known, [TAIL, 1 - TAIL])
    return Interval(float(low), float(high))


def bootstrap_interval(draws_R: np.ndarray) -> Interval:
    """The middle 95 % of the draws, where they can tell it; UNKNOWN where they cannot.

    A class of a few groups is absent from many draws (of three groups, from one in twenty). A score that all groups or
    none agree on is the same in every draw: 0.500 (0.500-0.500) would claim to be exact.
    """
    known = draws_R[~np.isnan(draws_R)]
    if len(known) < LEAST_DEFINED * len(draws_R) or not len(known) or np.ptp(known) < ROUNDING:
        return UNKNOWN
    return percentile_interval(known)
