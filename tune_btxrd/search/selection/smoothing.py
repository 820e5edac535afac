"""Smoothing: a small Gaussian process over configs, which takes the luck out of single trials. numpy and SciPy alone.

Matern 5/2 with one length per column (Rasmussen & Williams, Gaussian Processes for Machine Learning, 2006, eq. 4.17), noise
of each point = luck (learned) + a known variance; lengths, signal and luck maximise the posterior (eq. 5.9 with a prior).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, optimize

from tune_btxrd.search.space.dimension import Dimension
from tune_btxrd.search.space.spec import SearchSpec

Floats = NDArray[np.float64]

LEARNED_FROM = 64  # points, at most, from which lengths, signal and luck are learned; all count in the mean
CAP = 3.0  # a value this many spreads above the middle counts as if it lay there: how bad a bad config is says nothing
MOST_STEPS = 25  # of the optimizer
JITTER = 1e-6
PRIOR_LENGTH, PRIOR_SIGNAL, PRIOR_LUCK = np.log(0.6), np.log(0.8), np.log(0.15)  # of standardised values; variances
PRIOR_WIDTHS = (0.9, 0.7, 1.2)  # standard deviations of the three, in logs


@dataclass(frozen=True, kw_only=True)
class Smoothed:
    """The process at its own points, in the unit of the values.

    Attributes:
        means, deviations: (N,) posterior mean of the value without luck, and its standard deviation.
        left_out: (N,) each value as predicted by all others.
        targets: (N,) the values after the cap.
    """

    means: Floats
    deviations: Floats
    left_out: Floats
    targets: Floats

    @property
    def beats_mean(self) -> bool:
        """Whether a value that was left out is predicted better than by the mean of all others."""
        count = len(self.targets)
        by_mean = (self.targets.mean() - self.targets) * count / (count - 1)
        return bool(np.sum((self.left_out - self.targets) ** 2) < np.sum(by_mean**2))


def smooth(points: Floats, values: Floats, variances: Floats) -> Smoothed:
    """Fits the process to values at points.

    Args:
        points: (N, D) in the unit cube; values: (N,), at least two; variances: (N,) known noise of each value, beside luck.
    """
    targets = capped(values)
    middle, spread = float(targets.mean()), float(targets.std()) or 1.0
    heights, noise = (targets - middle) / spread, variances / spread**2
    chosen = np.linspace(0, len(points) - 1, min(len(points), LEARNED_FROM)).astype(int)
    logs = MinusLogPosterior(points[chosen], heights[chosen], noise[chosen]).lowest()
    means, deviations, left_out = posterior(logs, points, heights, noise)
    return Smoothed(
        means=middle + spread * means,
        deviations=spread * deviations,
        left_out=middle + spread * left_out,
        targets=targets,
    )


def posterior(logs: Floats, points: Floats, heights: Floats, noise: Floats) -> tuple[Floats, Floats, Floats]:
    """(N,) means, standard deviations and left-out predictions at the points (eq. 2.25, 2.26 and 5.12).

    Args:
        logs: (D + 2,) of lengths, signal and luck; heights: (N,) values around 0; noise: (N,) variances beside luck.
    """
    signal, luck = np.exp(logs[-2:])
    shape, _ = _matern(_squares(points), np.exp(logs[:-2]))
    shared = signal * shape
    inverse, _ = _inverse(_with_noise(shared, noise + luck))
    weights = inverse @ heights
    left = np.maximum(signal - np.sum((shared @ inverse) * shared, axis=1), 0.0)
    return shared @ weights, np.sqrt(left), heights - weights / np.diag(inverse)


def capped(values: Floats) -> Floats:
    """The values, the worst of them moved to CAP spreads above the middle."""
    middle = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - middle)))
    return np.minimum(values, middle + CAP * spread) if spread else values


def unit_points(params: Sequence[Mapping[str, Any]], spec: SearchSpec) -> Floats:
    """(N, D) configs in the unit cube: a column per range, one per choice.

    A value that was not searched (its condition does not hold) lies in the middle; that it does not hold, the columns of
    what it waits for say.
    """
    columns = [column for dimension in spec.space for column in _columns(dimension, params)]
    return np.array(columns, dtype=float).T


def _columns(dimension: Dimension, params: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    values = [item.get(dimension.name) for item in params]
    if dimension.choices is not None:
        return [[0.5 if value is None else float(value == choice) for value in values] for choice in dimension.choices]
    return [[0.5 if value is None else _share(float(value), dimension) for value in values]]


def _share(value: float, dimension: Dimension) -> float:
    """Where a value lies between the ends of its range, in [0, 1]; a journal that was changed by hand may go beyond."""
    low, high = dimension.bounds
    value = min(max(value, low), high) if math.isfinite(value) else low
    if low == high:
        return 0.5
    return math.log(value / low) / math.log(high / low) if dimension.log else (value - low) / (high - low)


class MinusLogPosterior:
    """Minus the log posterior of the logs of lengths, signal and luck, with its gradient; called with those."""

    def __init__(self, points: Floats, heights: Floats, noise: Floats) -> None:
        width = points.shape[1]
        self.heights, self.noise, self.squares = heights, noise, _squares(points)
        self.prior = np.array([PRIOR_LENGTH + 0.5 * np.log(width)] * width + [PRIOR_SIGNAL, PRIOR_LUCK])
        self.widths = np.array([PRIOR_WIDTHS[0]] * width + list(PRIOR_WIDTHS[1:]))

    def lowest(self) -> Floats:
        """(D + 2,) the logs with the highest posterior, within three widths of the prior."""
        bounds = list(zip(self.prior - 3 * self.widths, self.prior + 3 * self.widths, strict=True))
        found = optimize.minimize(
            self, self.prior, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": MOST_STEPS}
        )
        return np.asarray(found.x)

    def __call__(self, logs: Floats) -> tuple[float, Floats]:
        """The value and the gradient at some logs."""
        lengths, (signal, luck) = np.exp(logs[:-2]), np.exp(logs[-2:])
        shape, slope = _matern(self.squares, lengths)
        inverse, log_det = _inverse(_with_noise(signal * shape, self.noise + luck))
        weights = inverse @ self.heights
        pull = inverse - np.outer(weights, weights)
        by_length = 0.5 * signal * np.einsum("ij,ijd->d", pull * slope, self.squares) / lengths**2
        gradient = np.append(by_length, [0.5 * signal * np.sum(pull * shape), 0.5 * luck * np.trace(pull)])
        away = (logs - self.prior) / self.widths
        return float(0.5 * (self.heights @ weights + log_det + away @ away)), gradient + away / self.widths


def _squares(points: Floats) -> Floats:
    """(N, N, D) squared distances per column."""
    return np.asarray((points[:, None, :] - points[None, :, :]) ** 2)


def _with_noise(shared: Floats, noise: Floats) -> Floats:
    whole = shared.copy()
    whole.flat[:: len(whole) + 1] += noise + JITTER
    return whole


def _inverse(matrix: Floats) -> tuple[Floats, float]:
    """The inverse of a positive matrix and the log of its determinant."""
    factor = linalg.cholesky(matrix, lower=True)
    inverse = linalg.cho_solve((factor, True), np.eye(len(matrix)))
    return inverse, 2 * float(np.log(factor.diagonal()).sum())


def _matern(squares: Floats, lengths: Floats) -> tuple[Floats, Floats]:
    """(N, N) Matern 5/2, and its slope s: the derivative by log length d is s * squares_d / length_d^2."""
    root = np.sqrt(5 * (squares @ (1 / lengths**2)))
    decay = np.exp(-root)
    return (1 + root + root**2 / 3) * decay, 5 / 3 * (1 + root) * decay
