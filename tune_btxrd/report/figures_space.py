"""Figures about hyperparameters: importance, one at a time, two at a time, all together."""

import math
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tune_btxrd.data.figure_text import figure_text
from tune_btxrd.report.canvas import LOOKS, MANY, legend, lines, loss_range, new_figure, points, score_range
from tune_btxrd.report.gather import Material
from tune_btxrd.report.importance import UNDETERMINED, Importances
from tune_btxrd.report.landscape import Landscape, scored_trials, unit
from tune_btxrd.search.record import TrialRecord
from tune_btxrd.search.space.dimension import Dimension

WHOLE = 1000  # characters; a shortened choice could be taken for another


def draw_importance(found: Importances | None) -> Figure | None:
    """Importance of each hyperparameter with its interval; None where it could not be computed."""
    if found is None or not found.items:
        return None
    figure, (axis,) = new_figure(0.9 + 0.34 * len(found.items))
    items = found.items[::-1]
    for row, item in enumerate(items):
        colour = "0.65" if item.verdict == UNDETERMINED else LOOKS["complete"][0]
        axis.barh(row, item.value, color=colour, height=0.5)
        axis.plot([item.low, item.high], [row, row], color="black", linewidth=1)
        chance = "reached by chance in 1 of 20" if row == 0 else None
        axis.plot(min(1.0, item.by_chance), row, "|", color=LOOKS["diverged"][0], markersize=12, label=chance)
    axis.set_yticks(range(len(items)), [figure_text(item.name) for item in items])
    axis.set(xlabel="share of importance, 95 % interval", xlim=(0, 1.02))
    legend(figure, axis)
    return figure


def draw_slices(material: Material) -> Figure | None:
    """The monitored value over each hyperparameter; None without scored trials."""
    scored = scored_trials(material.record)
    if not scored or material.spec is None:
        return None
    space = material.spec.space
    columns = min(3, len(space))
    figure, axes = new_figure(0.6 + 1.5 * math.ceil(len(space) / columns), math.ceil(len(space) / columns), columns)
    for axis, dimension in zip(axes, space, strict=False):
        if dimension.log:
            axis.set_xscale("log")
        points(axis, scored, lambda t, d=dimension: _slice(t, d))  # type: ignore[misc]  # a default binds the loop's value
        axis.set(xlabel=figure_text(dimension.name), ylim=score_range(material.monitor, [t.score or 0.0 for t in scored]))
        if dimension.choices is None:
            axis.set_xlim(*dimension.bounds)
            axis.xaxis.set_major_locator(MaxNLocator(3)) if not dimension.log else None
    for index, axis in enumerate(axes):
        axis.set_visible(index < len(space))
        if index % columns:
            axis.tick_params(labelleft=False)
        else:
            axis.set_ylabel(f"best {material.monitor.label}")
    legend(figure, axes[0])
    return figure


def _slice(trial: TrialRecord, dimension: Dimension) -> tuple[Any, float] | None:
    if dimension.name not in trial.params:
        return None
    value = trial.params[dimension.name]
    return (figure_text(value, longest=WHOLE) if dimension.choices is not None else value), float(trial.score or 0.0)


def draw_landscape(material: Material, surface: Landscape | None) -> Figure | None:
    """The surface over two hyperparameters; None where there is none."""
    if surface is None:
        return None
    figure, (axis,) = new_figure(2.9)
    x, y = surface.x, surface.y
    monitor, z = surface.monitor, surface.z
    higher = monitor.higher_is_better  # the best is dark; the worst tenth shares a colour
    low, high = (np.nanquantile(z, 0.1), np.nanmax(z)) if higher else (np.nanmin(z), np.nanquantile(z, 0.9))
    colours, beyond = ("Blues", "min") if higher else ("Blues_r", "max")
    filled = axis.contourf(surface.xs, surface.ys, z, levels=np.linspace(low, high, 11), cmap=colours, extend=beyond)
    figure.colorbar(filled, ax=axis, label=monitor.label, format="%.3g", pad=0.02)
    points(axis, material.record.search_trials, lambda t: (t.params[x.name], t.params[y.name]) if _has(t, x, y) else None)
    axis.set(xlabel=figure_text(x.name), ylabel=figure_text(y.name), xscale="log" if x.log else "linear")
    axis.set_yscale("log" if y.log else "linear")
    axis.set(xlim=x.bounds, ylim=y.bounds)
    legend(figure, axis)
    return figure


def _has(trial: TrialRecord, *dimensions: Dimension) -> bool:
    return all(dimension.name in trial.params for dimension in dimensions)


def draw_parallel(material: Material) -> Figure | None:
    """Every scored trial as a line over all hyperparameters; None without scored trials."""
    scored = scored_trials(material.record)
    if not scored or material.spec is None:
        return None
    figure, (axis,) = new_figure(2.6)
    low, high = loss_range([t.objective or 0.0 for t in scored])
    ordered = sorted(scored, key=lambda t: -(t.objective or 0.0))
    shares = [rank / len(ordered) for rank in range(1, len(ordered) + 1)]
    paths = []
    for trial in ordered:
        path = [(x, _height(d, trial.params[d.name])) for x, d in enumerate(material.spec.space) if d.name in trial.params]
        height = 1 - min(1.0, ((trial.objective or 0.0) - low) / (high - low))
        paths.append([*path, (len(material.spec.space), height)])
    strong = [share ** (4 if len(ordered) > MANY else 1) for share in shares]  # of many, the best alone stand out
    shades = [mpl.colormaps["Blues"](0.15 + 0.85 * share) for share in strong]
    lines(axis, paths, shades, [0.4 + share for share in strong])
    names = [figure_text(d.name) for d in material.spec.space]
    for x in range(len(names) + 1):
        axis.axvline(x, color="0.4", linewidth=0.6)
    for x, dimension in enumerate(material.spec.space):
        for y, text in _ends(dimension):
            axis.annotate(text, (x, y), (2, 0), textcoords="offset points", fontsize=6, va="center", ha="left")
    shown = material.monitor.score
    for y, text in ((0, f"{shown(high):.3g} or worse"), (1, f"{shown(low):.3g}")):
        axis.annotate(text, (len(names), y), (2, 0), textcoords="offset points", fontsize=6, va="center")
    axis.set_xticks(range(len(names) + 1), [*names, material.monitor.label])
    axis.set(yticks=[], ylim=(-0.06, 1.06), xlim=(-0.1, len(names) + 0.4))
    axis.spines[:].set_visible(False)
    return figure


def _height(dimension: Dimension, value: Any) -> float:
    if dimension.choices is not None:
        return (dimension.choices.index(value) + 0.5) / len(dimension.choices)
    return unit(dimension, value)


def _ends(dimension: Dimension) -> list[tuple[float, str]]:
    if dimension.choices is not None:
        return [(_height(dimension, choice), figure_text(choice, longest=WHOLE)) for choice in dimension.choices]
    low, high = dimension.bounds
    return [(0.0, f"{low:g}"), (1.0, f"{high:g}")]
