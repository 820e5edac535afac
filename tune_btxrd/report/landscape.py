"""The monitored value between the trials: a surface over two hyperparameters, inside the hull of the trials alone."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import griddata
from scipy.spatial import QhullError

from tune_btxrd.monitor import Monitor
from tune_btxrd.search.record import SearchRecord, TrialRecord
from tune_btxrd.search.space.dimension import Dimension
from tune_btxrd.search.space.spec import SearchSpec

PREFERRED = ("lr", "weight_decay")
GRID = 40  # points per side
FEWEST = 6  # trials


@dataclass(frozen=True, kw_only=True)
class Landscape:
    """A surface of objectives.

    Attributes:
        x, y: the two hyperparameters; xs, ys: their values on the grid, (GRID,) each.
        z: (GRID, GRID) interpolated score, rows along y, NaN outside the hull of the trials.
        monitor: what the score is.
    """

    x: Dimension
    y: Dimension
    xs: np.ndarray
    ys: np.ndarray
    z: np.ndarray
    monitor: Monitor


def landscape(record: SearchRecord, spec: SearchSpec) -> Landscape | None:
    """The surface over lr and weight decay, or the first two ranges searched; None where the trials span none.

    Linear between trials, each with the best monitored value that it reached, cut or not.
    """
    ranges = {dimension.name: dimension for dimension in spec.space if dimension.choices is None}
    names = PREFERRED if set(PREFERRED) <= set(ranges) else tuple(ranges)[:2]
    scored = [t for t in scored_trials(record) if set(names) <= set(t.params)]
    if len(names) < 2 or len(scored) < FEWEST:
        return None
    x, y = ranges[names[0]], ranges[names[1]]
    points = np.array([[unit(x, t.params[x.name]), unit(y, t.params[y.name])] for t in scored])
    sides = np.linspace(0, 1, GRID)
    try:
        z = griddata(points, [t.score for t in scored], tuple(np.meshgrid(sides, sides)), method="linear")
    except QhullError:  # all trials on one line span no surface
        return None
    return Landscape(x=x, y=y, xs=_values(x, sides), ys=_values(y, sides), z=np.asarray(z), monitor=spec.monitored)


def scored_trials(record: SearchRecord) -> list[TrialRecord]:
    """Trials of the search that reached a finite monitored value."""
    return [t for t in record.search_trials if t.objective is not None and math.isfinite(t.objective)]


def unit(dimension: Dimension, value: float) -> float:
    """A value's place in its range, 0 at the lowest and 1 at the highest, on the scale on which it was searched."""
    low, high = dimension.bounds
    if dimension.log:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


def _values(dimension: Dimension, sides: np.ndarray) -> np.ndarray:
    low, high = dimension.bounds
    return np.asarray(low * (high / low) ** sides if dimension.log else low + (high - low) * sides)
