"""The surrogate: what a training of any config would have reported, from the recorded ones.

Nearest neighbours in the unit cube of the searched dimensions give a smooth curve; the residual of one neighbour, whole
(so that its epochs hang together), gives back the roughness of a real curve.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tune_btxrd.search.space.spec import SearchSpec

NEIGHBOURS = 5
DIVERGED = 1e3  # nats; stands for a loss that is not finite


@dataclass(frozen=True)
class Surrogate:
    """Answers any config with a curve of validation losses.

    Attributes:
        scales: (name, low, high, log) per dimension.
        points: (N, D) recorded configs in the unit cube; curves: (N, E) log losses; residuals: (N, E) against leave-one-out.
    """

    scales: tuple[tuple[str, float, float, bool], ...]
    points: np.ndarray
    curves: np.ndarray
    residuals: np.ndarray

    @classmethod
    def fit(cls, table: pd.DataFrame, spec: SearchSpec) -> "Surrogate":
        """From the recorded table; a diverged training keeps a huge loss to its end."""
        scales = tuple((item.name, *item.bounds, item.log) for item in spec.space)
        wide = table.pivot(index="config", columns="epoch", values="val_loss").ffill(axis=1).fillna(DIVERGED)
        first = table.groupby("config").first()
        points = np.array([_unit(row, scales) for row in first.to_dict("records")])
        curves = np.log(wide.to_numpy())
        empty = cls(scales, points, curves, np.zeros_like(curves))
        smooth = np.array([empty.smooth(point, skip=number) for number, point in enumerate(points)])
        return cls(scales, points, curves, curves - smooth)

    def smooth(self, point: np.ndarray, *, skip: int = -1) -> np.ndarray:
        """(E,) log losses: mean of the nearest recorded curves, weighted by closeness."""
        rows = [row for row in self._nearest(point) if row != skip][:NEIGHBOURS]
        weights = 1 / (np.linalg.norm(self.points[rows] - point, axis=1) + 0.05)
        mean: np.ndarray = weights @ self.curves[rows] / weights.sum()
        return mean

    def curve(self, config: Mapping[str, float], generator: np.random.Generator) -> list[float]:
        """Validation losses per epoch: the smooth curve, roughened by the residual of one of the nearest configs."""
        point = _unit(config, self.scales)
        rough = self.residuals[generator.choice(self._nearest(point)[:NEIGHBOURS])]
        return [float(loss) for loss in np.exp(self.smooth(point) + rough)]

    def _nearest(self, point: np.ndarray) -> np.ndarray:
        """Rows of the recorded configs, the nearest first."""
        return np.argsort(np.linalg.norm(self.points - point, axis=1), kind="stable")

    def truth(self, config: Mapping[str, float]) -> float:
        """Best loss of the smooth curve: the quality of a config without the luck of one training."""
        return float(np.exp(self.smooth(_unit(config, self.scales)).min()))

    def errors(self) -> dict[str, float]:
        """How well configs that were left out are predicted, by the best loss of their curve."""
        predicted = (self.curves - self.residuals).min(axis=1)
        real = self.curves.min(axis=1)
        rank = float(pd.Series(predicted).corr(pd.Series(real), method="spearman"))
        error = np.exp(predicted) - np.exp(real)
        spread = float(np.exp(real).std())
        return {"mean absolute error": float(np.abs(error).mean()), "spread of real": spread, "rank correlation": rank}

    def crossings(self, early: int) -> float:
        """Share of pairs of configs whose order at an epoch (best so far) is not their final order."""
        best = np.minimum.accumulate(self.curves, axis=1)
        start, end = best[:, early - 1], best[:, -1]
        first, second = np.triu_indices(len(start), k=1)
        return float(np.mean((start[first] - start[second]) * (end[first] - end[second]) < 0))


def _unit(config: Mapping[str, float], scales: tuple[tuple[str, float, float, bool], ...]) -> np.ndarray:
    values = []
    for name, low, high, log in scales:
        share = math.log(config[name] / low) / math.log(high / low) if log else (config[name] - low) / (high - low)
        values.append(share)
    return np.array(values)
