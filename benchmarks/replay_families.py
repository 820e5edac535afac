"""Families of curves that searches are compared on: what a training of any config would report, and how good it truly is.

    family.curve(point, rng)      one training's validation loss per epoch: expected log loss + luck
    family.truth(points)          the expected best loss of a training under the trainer's patience, over all luck

Two families per recorded table (nearest neighbours, a Gaussian process), five made ones on the same three dimensions. Luck
is drawn from real repeats: a repeat's deviation from the mean of its config, whole, so that its epochs hang together. It has
mean zero at each location, and truth is averaged over exactly the luck that a training there may have. Made families have
the luck of the first phantom configs that learned, everywhere alike.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from benchmarks import replay_curves
from benchmarks.replay_curves import RECORDINGS
from tune_btxrd.config import TrainConfig
from tune_btxrd.search.space.spec import SearchSpec

Floats = NDArray[np.float64]

NEIGHBOURS = 5  # recorded configs whose mean is the expected curve
LUCK_FROM, LEARNED = 12, 0.1  # made families: the first configs whose best log loss is so far below chance
COMPONENTS = 5  # of the recorded curves, each with a Gaussian process
PATIENCE = TrainConfig().patience
CHANCE = math.log(1.1)  # log loss of three classes before training


@dataclass(frozen=True)
class Luck:
    """Deviations of real repeats from their config's mean.

    Attributes:
        points: (N, D) configs with repeats; deviations: (N, R, E) log losses, mean zero over R.
        scale: factor of the deviations; near: the nearest configs whose repeats are the luck of a location.
    """

    points: Floats
    deviations: Floats
    scale: float = 1.0
    near: int = 3

    @classmethod
    def recorded(cls, points: Floats, losses: Floats) -> "Luck":
        """From all configs whose repeats are all there; (R / (R - 1)) ** 0.5 makes their variance that of one training."""
        whole = ~np.isnan(losses).any(axis=(1, 2))
        repeats = losses.shape[1]
        assert whole.any() and repeats > 1, "record at least two repeats of a config first"
        chosen = losses[whole]
        return cls(points[whole], (chosen - chosen.mean(axis=1, keepdims=True)) * (repeats / (repeats - 1)) ** 0.5)

    def at(self, points: Floats) -> Floats:
        """(M, K, E) all deviations that a training at each point may have, equally likely."""
        near = _nearest(self.points, points)[:, : self.near]
        found = self.deviations[near] * self.scale
        return found.reshape(len(points), -1, found.shape[-1])


@dataclass(frozen=True)
class Family:
    """Curves over the unit cube of the searched dimensions.

    Attributes:
        expected: (M, D) points -> (M, E) expected log losses.
    """

    name: str
    epochs: int
    expected: Callable[[Floats], Floats]
    luck: Luck
    spec: SearchSpec

    def unit(self, config: Mapping[str, Any]) -> Floats:
        """(D,) the config in the unit cube."""
        shares = []
        for item in self.spec.space:
            (low, high), value = item.bounds, float(config[item.name])
            shares.append(math.log(value / low) / math.log(high / low) if item.log else (value - low) / (high - low))
        return np.array(shares)

    def config(self, point: Floats) -> dict[str, float]:
        """The inverse of `unit`."""
        values = {}
        for item, share in zip(self.spec.space, map(float, point), strict=True):
            low, high = item.bounds
            values[item.name] = low * (high / low) ** share if item.log else low + (high - low) * share
        return values

    def curve(self, config: Mapping[str, Any], generator: np.random.Generator) -> list[float]:
        """Validation loss per epoch of one training."""
        point = self.unit(config)[None]
        chances = self.luck.at(point)[0]
        return [float(loss) for loss in np.exp(self.expected(point)[0] + chances[generator.integers(len(chances))])]

    def truth(self, points: Floats) -> Floats:
        """(M,) expected best loss."""
        return np.concatenate([self._truth(part) for part in np.array_split(points, math.ceil(len(points) / 512))])

    def _truth(self, points: Floats) -> Floats:
        curves = np.exp(self.expected(points)[:, None, :] + self.luck.at(points))
        return np.asarray(best_under_patience(curves).mean(axis=1))

    def limit(self) -> float:
        """Lowest truth among 8,192 points."""
        return float(self.truth(qmc.Sobol(d=len(self.spec.space), rng=1).random_base2(13)).min())

    def at_quantile(self, share: float) -> dict[str, float]:
        """A config whose truth is the lowest (0), the highest (1), or in between, among 512 points."""
        points = qmc.Sobol(d=len(self.spec.space), rng=2).random_base2(9)
        return self.config(points[np.argsort(self.truth(points))[round(share * (len(points) - 1))]])

    def crossings(self, early: int = 4) -> float:
        """Share of pairs of 512 points whose expected best so far at an epoch is not in the order of their truth."""
        points = qmc.Sobol(d=len(self.spec.space), rng=2).random_base2(9)
        start, end = self.expected(points)[:, :early].min(axis=1), self.truth(points)
        first, second = np.triu_indices(len(points), k=1)
        return float(np.mean((start[first] - start[second]) * (end[first] - end[second]) < 0))

    def luck_of_best(self) -> float:
        """Standard deviation of the best loss of one training, over luck; mean over 512 points."""
        points = qmc.Sobol(d=len(self.spec.space), rng=2).random_base2(9)
        return float(
            best_under_patience(np.exp(self.expected(points)[:, None, :] + self.luck.at(points))).std(axis=1).mean()
        )


def best_under_patience(curves: Floats) -> Floats:
    """(...) lowest loss of curves (..., E) that end PATIENCE epochs after their best."""
    best, waited = np.full(curves.shape[:-1], np.inf), np.zeros(curves.shape[:-1], dtype=int)
    for losses in np.moveaxis(curves, -1, 0):
        improved = (losses < best) & (waited < PATIENCE)
        best, waited = np.where(improved, losses, best), np.where(improved, 0, waited + 1)
    return best


@lru_cache(maxsize=16)
def family(name: str) -> Family:
    """One of NAMES."""
    source, _, kind = name.partition(", ")
    if kind:
        recording = RECORDINGS[source]
        points, losses, spec = _recorded(source)
        expected = {"neighbours": _neighbours, "process": _process}[kind](points, np.nanmean(losses, axis=1))
        return Family(name, recording.epochs, expected, Luck.recorded(points, losses), spec)
    points, losses, spec = _recorded("phantom")
    first = losses[:LUCK_FROM]
    learned = np.nanmean(first, axis=1).min(axis=1) < CHANCE - LEARNED
    luck = Luck.recorded(points[:LUCK_FROM][learned], first[learned])
    made, scale = MADE[name]
    everywhere = Luck(luck.points, luck.deviations, scale, near=len(luck.points))
    return Family(name, RECORDINGS["phantom"].epochs, made, everywhere, spec)


def _recorded(source: str) -> tuple[Floats, Floats, SearchSpec]:
    """Configs in the unit cube, log losses of all repeats, and the spec of a search there."""
    recording = RECORDINGS[source]
    spec = SearchSpec.load(replay_curves.SPACE).override({"confirm": 0, "trials": 100_000, "epochs": recording.epochs}, {})
    values, losses = replay_curves.curves(recording)
    empty = Family("", 0, np.asarray, Luck(values, losses), spec)
    return np.array([empty.unit(dict(zip(replay_curves.NAMES, row, strict=True))) for row in values]), losses, spec


def _neighbours(points: Floats, curves: Floats) -> Callable[[Floats], Floats]:
    """Mean of the nearest recorded curves, weighted by closeness."""

    def expected(at: Floats) -> Floats:
        near = _nearest(points, at)[:, :NEIGHBOURS]
        weights = 1 / (np.linalg.norm(points[near] - at[:, None], axis=2) + 0.05)
        return np.asarray(np.einsum("mk,mke->me", weights, curves[near]) / weights.sum(axis=1, keepdims=True))

    return expected


def _process(points: Floats, curves: Floats) -> Callable[[Floats], Floats]:
    """A Gaussian process on each of the first components of the recorded curves."""
    middle = curves.mean(axis=0)
    left, sizes, shapes = np.linalg.svd(curves - middle, full_matrices=False)
    spreads = sizes[:COMPONENTS] / len(points) ** 0.5
    kernel = ConstantKernel(1.0) * Matern(np.ones(points.shape[1]), (0.1, 20.0), nu=2.5) + WhiteKernel(0.1, (1e-4, 1.0))
    processes = [
        GaussianProcessRegressor(kernel, random_state=0).fit(points, left[:, k] * len(points) ** 0.5)
        for k in range(COMPONENTS)
    ]

    def expected(at: Floats) -> Floats:
        heights = np.stack([process.predict(at) for process in processes], axis=1)
        return np.asarray(middle + (heights * spreads) @ shapes[:COMPONENTS])

    return expected


def _nearest(points: Floats, at: Floats) -> NDArray[np.intp]:
    """(M, N) rows of `points`, the nearest to each of `at` first."""
    squares = ((at[:, None, :] - points[None, :, :]) ** 2).sum(axis=2)
    return np.argsort(squares, axis=1, kind="stable")


def _epochs() -> Floats:
    return np.arange(1.0, RECORDINGS["phantom"].epochs + 1)


def _bowl(at: Floats, centre: tuple[float, float, float]) -> Floats:
    """(M,) 0 at the centre; lr (first) matters most, and its best value moves with the dropout (second)."""
    lr, dropout, decay = (at - np.array(centre)).T
    return np.asarray(1.6 * (lr - 0.25 * dropout) ** 2 + 0.25 * dropout**2 + 0.12 * decay**2)


def _falling(floor: Floats, pace: Floats) -> Floats:
    """(M, E) curves from chance to a floor; `pace`: epochs to half of the way."""
    share = 1 / (1 + (_epochs()[None, :] / pace[:, None]) ** 1.5)
    return np.asarray(floor[:, None] + (CHANCE - floor)[:, None] * share)


def _smooth(at: Floats) -> Floats:
    return _falling(math.log(0.45) + np.minimum(_bowl(at, (0.42, 0.75, 0.7)), 0.8), np.full(len(at), 3.0))


def _overfitting(at: Floats) -> Floats:
    """Loss rises again after an epoch that comes early with high lr and little dropout, and late elsewhere."""
    turn = 3 + 30 * np.clip(1.1 - at[:, 0] + 0.5 * at[:, 1], 0.05, 1.2)
    rise = 0.35 * np.log(np.maximum(_epochs()[None, :] / turn[:, None], 1.0))
    fall = _falling(math.log(0.45) + np.minimum(_bowl(at, (0.45, 0.8, 0.6)), 0.8), 2.0 + 6 * (1 - at[:, 0]))
    return np.asarray(fall + rise)


def _crossing(at: Floats) -> Floats:
    """What ends low falls late: the best configs need eight epochs to half of their way, most others three."""
    floor = _bowl(at, (0.38, 0.7, 0.7))
    pace = 3.0 + 5.0 * np.exp(-floor / 0.03)
    return _falling(math.log(0.45) + np.minimum(floor, 0.8), pace)


def _two_optima(at: Floats) -> Floats:
    """One region is best before epoch ten, another one after; the early one stays good, not best."""
    late = np.minimum(_bowl(at, (0.3, 0.6, 0.3)), 0.8)
    early = np.minimum(_bowl(at, (0.8, 0.2, 0.7)) + 0.12, 0.8)
    quick = _falling(math.log(0.45) + early, np.full(len(at), 1.5))
    slow = _falling(math.log(0.45) + late, np.full(len(at), 8.0))
    return np.asarray(np.minimum(quick, slow))


MADE: dict[str, tuple[Callable[[Floats], Floats], float]] = {  # expected curves; luck as a multiple of the phantom's
    "smooth": (_smooth, 0.3),
    "noisy": (_smooth, 2.0),
    "overfitting": (_overfitting, 1.0),
    "crossing": (_crossing, 1.0),
    "two optima": (_two_optima, 1.0),
}
NAMES = (*(f"{source}, {kind}" for source in RECORDINGS for kind in ("neighbours", "process")), *MADE)
