"""Interval: the 95 % interval of a gain over repeats that share most of their images."""

import math
import statistics
from dataclasses import dataclass

from scipy import special


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean of paired differences with its 95 % interval; positive: better than the hand-made config."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


def corrected_interval(differences: list[float], *, val_share: float, level: float = 0.95) -> Interval:
    """The corrected resampled t-interval of paired differences from overlapping partitions.

    Variance of the mean = (1/R + n_val/n_train) * s^2, with R - 1 degrees of freedom: repeats share most of their images, so
    they tell less than R independent ones (Nadeau & Bengio, Machine Learning 52, 2003, eq. 9).
    """
    count = len(differences)
    assert count >= 2
    mean = statistics.fmean(differences)
    error = math.sqrt((1 / count + val_share) * statistics.variance(differences))
    half = float(special.stdtrit(count - 1, (1 + level) / 2)) * error
    return Interval(mean=mean, low=mean - half, high=mean + half)
