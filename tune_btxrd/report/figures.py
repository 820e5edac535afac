"""The main pictures as PNG and SVG for papers: one column wide (86 mm), colours and marks distinct to all kinds of sight."""

import io
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tune_btxrd.errors import ResultError
from tune_btxrd.report.gather import Material, Training
from tune_btxrd.report.importance import UNDETERMINED, Importances
from tune_btxrd.report.landscape import Landscape, scored_trials, unit
from tune_btxrd.report.rungs import rungs
from tune_btxrd.retrain import WINNER
from tune_btxrd.search.dimension import Dimension
from tune_btxrd.search.select import pareto_front
from tune_btxrd.search.trials import TrialRecord

WIDTH = 3.4  # inches, one column
STYLE = {
    "font.size": 8,
    "axes.titlesize": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.0,
    "legend.frameon": False,
    "svg.hashsalt": "tune_btxrd",  # the same search, the same file
}
LOOKS = {  # state -> colour (Okabe-Ito), mark, word
    "complete": ("#0072B2", "o", "ran to its end"),
    "pruned": ("#E69F00", "v", "stopped early"),
    "diverged": ("#D55E00", "X", "diverged"),
    "failed": ("#CC79A7", "s", "failed"),
    "running": ("#009E73", "D", "unfinished"),
}
MANY = 60  # trials; above, dense layers become pixels inside the SVG


def draw_all(material: Material, found: Importances | None, surface: Landscape | None) -> Iterator[tuple[str, Figure]]:
    """(name, figure) of every picture that the search has something for."""
    made: dict[str, Callable[[], Figure | None]] = {
        "history": lambda: _history(material),
        "curves": lambda: _curves(material),
        "pareto": lambda: _pareto(material),
        "importance": lambda: _importance(found),
        "slices": lambda: _slices(material),
        "landscape": lambda: _landscape(material, surface),
        "parallel": lambda: _parallel(material),
        "slots": lambda: _slots(material),
        "confirmation": lambda: _confirmation(material),
        "trainings": lambda: _trainings(material),
    }
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]  # the keys are plain rc names
        for name, draw in made.items():
            figure = draw()
            if figure is not None:
                yield name, figure


def save(figure: Figure, folder: Path, name: str) -> str:
    """Writes `<name>.png` and `<name>.svg`; returns the SVG. Raises: ResultError where the folder is not writable."""
    svg, png = io.StringIO(), io.BytesIO()
    figure.savefig(svg, format="svg", dpi=150, metadata={"Date": None})
    figure.savefig(png, format="png", dpi=300)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.svg").write_text(svg.getvalue(), encoding="utf-8")
        (folder / f"{name}.png").write_bytes(png.getvalue())
    except OSError as error:
        raise ResultError(
            f"{folder} must be writable, but: {error.strerror}. Free space or choose another folder."
        ) from error
    return svg.getvalue()


def _figure(height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def loss_range(values: list[float]) -> tuple[float, float]:
    """Limits that a few diverging losses cannot stretch: to the 97th percentile."""
    ordered = sorted(value for value in values if math.isfinite(value)) or [0.0, 1.0]
    low, high = ordered[0], ordered[min(len(ordered) - 1, int(0.97 * len(ordered)))]
    pad = 0.06 * ((high - low) or 1.0)
    return low - pad, high + pad


def _points(axis: Axes, trials: list[TrialRecord], place: Callable[[TrialRecord], tuple[float, float] | None]) -> None:
    """A mark per trial, one look per state."""
    for state, (colour, mark, word) in LOOKS.items():
        found = [at for trial in trials if trial.state == state and (at := place(trial)) is not None]
        if found:
            axis.scatter(
                [x for x, _ in found],
                [y for _, y in found],
                s=14,
                color=colour,
                marker=mark,
                linewidths=0.3,
                edgecolors="white",
                label=word,
                zorder=3,
                rasterized=len(trials) > MANY,
            )


def _lines(axis: Axes, paths: list[Any], colours: list[Any], widths: list[float], *, alpha: float = 1.0) -> None:
    """Many curves as one layer."""
    lines = LineCollection(paths, colors=colours, linewidths=widths, alpha=alpha, rasterized=len(paths) > MANY)
    axis.add_collection(lines)
    axis.autoscale_view()


def _legend(figure: Figure, axis: Axes, columns: int = 3) -> None:
    """Outside, below: it can cover nothing."""
    handles, labels = axis.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(columns, len(labels)), handletextpad=0.4)


def _history(material: Material) -> Figure | None:
    trials, scored = material.record.search_trials, scored_trials(material.record)
    if not scored:
        return None
    figure, (axis,) = _figure(2.5)
    limits = loss_range([trial.objective or 0.0 for trial in scored])
    lowest = [min(t.objective or 0.0 for t in scored[: index + 1]) for index in range(len(scored))]
    axis.step([t.number for t in scored], lowest, where="post", color="0.4", label="best so far")
    _points(axis, trials, lambda t: (t.number, min(t.objective if t in scored and t.objective else limits[1], limits[1])))
    axis.set(xlabel="trial", ylabel="best val loss", ylim=limits)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(figure, axis)
    return figure


def _curves(material: Material) -> Figure | None:
    trials = [trial for trial in material.record.search_trials if trial.epochs]
    if not trials or material.spec is None:
        return None
    figure, (axis,) = _figure(2.8)
    for state, (colour, mark, word) in LOOKS.items():
        mine = [[(row["epoch"], row["val_loss"]) for row in trial.epochs] for trial in trials if trial.state == state]
        if mine:
            _lines(axis, mine, [colour] * len(mine), [0.8] * len(mine), alpha=0.8 if len(trials) <= MANY else 0.4)
            xs, ys = zip(*(line[-1] for line in mine), strict=True)
            axis.scatter(xs, ys, s=9, color=colour, marker=mark, label=word, rasterized=len(trials) > MANY, zorder=2.5)
    cuts = [visit for visit in material.visits if visit.cut]
    if cuts:
        met = [float(visit.cutoff or 0.0) for visit in cuts]
        axis.plot([v.epoch for v in cuts], met, "_", color="black", markersize=8, label="cutoff that was met", zorder=4)
    for rung in (rung for rung in rungs(material.spec) if rung < material.spec.epochs):
        axis.axvline(rung, color="0.5", linestyle=":", linewidth=0.8, zorder=0)
    axis.set(xlabel="epoch", ylabel="val loss", ylim=loss_range([row["val_loss"] for t in trials for row in t.epochs]))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(figure, axis)
    return figure


def _pareto(material: Material) -> Figure | None:
    front = pareto_front(material.record, material.recall)
    if not front:
        return None
    figure, (axis,) = _figure(2.5)

    def place(trial: TrialRecord) -> tuple[float, float] | None:
        return (float(trial.objective or 0.0), float(trial.best[material.recall])) if trial.best else None

    at = [point for trial in front if (point := place(trial))]
    axis.step([x for x, _ in at], [y for _, y in at], where="post", color="0.4", label="no trial beats these")
    _points(axis, material.record.search_trials, place)
    limits = loss_range([trial.objective or 0.0 for trial in scored_trials(material.record)])
    axis.set(xlabel="val loss at the best epoch", ylabel=f"{_plain(material.positive_class)} recall", xlim=limits)
    axis.set_ylim(-0.04, 1.04)
    _legend(figure, axis)
    return figure


def _importance(found: Importances | None) -> Figure | None:
    if found is None or not found.items:
        return None
    figure, (axis,) = _figure(0.9 + 0.34 * len(found.items))
    items = found.items[::-1]
    for row, item in enumerate(items):
        colour = "0.65" if item.verdict == UNDETERMINED else LOOKS["complete"][0]
        axis.barh(row, item.value, color=colour, height=0.5)
        axis.plot([item.low, item.high], [row, row], color="black", linewidth=1)
        chance = "reached by chance in 1 of 20" if row == 0 else None
        axis.plot(item.by_chance, row, "|", color=LOOKS["diverged"][0], markersize=12, label=chance)
    axis.set_yticks(range(len(items)), [_plain(item.name) for item in items])
    axis.set(xlabel="share of importance, 95 % interval", xlim=(0, 1.02))
    _legend(figure, axis)
    return figure


def _slices(material: Material) -> Figure | None:
    scored = scored_trials(material.record)
    if not scored or material.spec is None:
        return None
    space = material.spec.space
    columns = min(3, len(space))
    figure, axes = _figure(0.6 + 1.5 * math.ceil(len(space) / columns), math.ceil(len(space) / columns), columns)
    for axis, dimension in zip(axes, space, strict=False):
        if dimension.log:
            axis.set_xscale("log")
        _points(axis, scored, lambda t, d=dimension: _slice(t, d))  # type: ignore[misc]  # a default binds the loop's value
        axis.set(xlabel=_plain(dimension.name), ylim=loss_range([t.objective or 0.0 for t in scored]))
        if dimension.choices is None:
            axis.set_xlim(*dimension.bounds)
            axis.xaxis.set_major_locator(MaxNLocator(3)) if not dimension.log else None
    for index, axis in enumerate(axes):
        axis.set_visible(index < len(space))
        if index % columns:
            axis.tick_params(labelleft=False)
        else:
            axis.set_ylabel("best val loss")
    _legend(figure, axes[0])
    return figure


def _slice(trial: TrialRecord, dimension: Dimension) -> tuple[Any, float] | None:
    if dimension.name not in trial.params:
        return None
    value = trial.params[dimension.name]
    return (_plain(value) if dimension.choices is not None else value), float(trial.objective or 0.0)


def _landscape(material: Material, surface: Landscape | None) -> Figure | None:
    if surface is None:
        return None
    import numpy as np

    figure, (axis,) = _figure(2.9)
    x, y = surface.x, surface.y
    top = np.nanquantile(surface.z, 0.9)
    levels = np.linspace(np.nanmin(surface.z), top, 11)
    filled = axis.contourf(surface.xs, surface.ys, surface.z, levels=levels, cmap="Blues_r", extend="max")
    figure.colorbar(filled, ax=axis, label="val loss", format="%.3g", pad=0.02)
    _points(axis, material.record.search_trials, lambda t: (t.params[x.name], t.params[y.name]) if _has(t, x, y) else None)
    axis.set(xlabel=_plain(x.name), ylabel=_plain(y.name), xscale="log" if x.log else "linear")
    axis.set_yscale("log" if y.log else "linear")
    axis.set(xlim=x.bounds, ylim=y.bounds)
    _legend(figure, axis)
    return figure


def _has(trial: TrialRecord, *dimensions: Dimension) -> bool:
    return all(dimension.name in trial.params for dimension in dimensions)


def _parallel(material: Material) -> Figure | None:
    scored = scored_trials(material.record)
    if not scored or material.spec is None:
        return None
    figure, (axis,) = _figure(2.6)
    low, high = loss_range([t.objective or 0.0 for t in scored])
    ordered = sorted(scored, key=lambda t: -(t.objective or 0.0))
    shares = [rank / len(ordered) for rank in range(1, len(ordered) + 1)]
    paths = []
    for trial in ordered:
        path = [(x, _height(d, trial.params[d.name])) for x, d in enumerate(material.spec.space) if d.name in trial.params]
        height = 1 - min(1.0, ((trial.objective or 0.0) - low) / (high - low))
        paths.append([*path, (len(material.spec.space), height)])
    _lines(axis, paths, [mpl.colormaps["Blues"](0.15 + 0.85 * share) for share in shares], [0.4 + share for share in shares])
    names = [_plain(d.name) for d in material.spec.space]
    for x in range(len(names) + 1):
        axis.axvline(x, color="0.4", linewidth=0.6)
    for x, dimension in enumerate(material.spec.space):
        for y, text in _ends(dimension):
            axis.annotate(text, (x, y), (2, 0), textcoords="offset points", fontsize=6, va="center", ha="left")
    for y, text in ((0, f"{high:.3g}+"), (1, f"{low:.3g}")):
        axis.annotate(text, (len(names), y), (2, 0), textcoords="offset points", fontsize=6, va="center")
    axis.set_xticks(range(len(names) + 1), [*names, "val loss"])
    axis.set(yticks=[], ylim=(-0.06, 1.06), xlim=(-0.1, len(names) + 0.4))
    axis.spines[:].set_visible(False)
    return figure


def _height(dimension: Dimension, value: Any) -> float:
    if dimension.choices is not None:
        return (dimension.choices.index(value) + 0.5) / len(dimension.choices)
    return unit(dimension, value)


def _ends(dimension: Dimension) -> list[tuple[float, str]]:
    if dimension.choices is not None:
        return [(_height(dimension, choice), _plain(choice)) for choice in dimension.choices]
    low, high = dimension.bounds
    return [(0.0, f"{low:g}"), (1.0, f"{high:g}")]


def _slots(material: Material) -> Figure | None:
    use = material.slots
    if use is None:
        return None
    figure, (axis,) = _figure(1.0 + 0.26 * use.lanes)
    for lane in range(use.lanes):
        mine = [span for span in use.spans if span.lane == lane]
        starts = [(span.begin / 60, (span.first - span.begin) / 60) for span in mine]
        works = [(span.first / 60, (span.end - span.first) / 60) for span in mine]
        for bars, state in ((starts, "pruned"), (works, "complete")):
            look: dict[str, Any] = {"facecolors": LOOKS[state][0], "edgecolors": "white", "linewidth": 0.3}
            axis.broken_barh(bars, (lane - 0.35, 0.7), **look, rasterized=len(use.spans) > MANY)
    for begin, end in use.downtime:
        axis.axvspan(begin / 60, end / 60, color="0.85", zorder=0)
    for text, state in (("start-up", "pruned"), ("training and validation", "complete")):
        axis.barh(0, 0, color=LOOKS[state][0], label=text)
    axis.set_yticks(range(use.lanes), [f"slot {lane + 1}" for lane in range(use.lanes)])
    axis.set(xlabel="minutes since the search began")
    axis.invert_yaxis()
    _legend(figure, axis)
    return figure


def _confirmation(material: Material) -> Figure | None:
    items = [i for i in (material.selection.standings if material.selection else ()) if i.scores][::-1]
    if not items:
        return None
    figure, (axis,) = _figure(1.0 + 0.34 * len(items))
    for row, item in enumerate(items):
        names = ("a repeat", "mean of repeats", "search score") if row == 0 else (None, None, None)
        score = item.trial.objective if item.trial.objective is not None else math.nan
        axis.plot(item.scores, [row] * len(item.scores), "o", color=LOOKS["complete"][0], markersize=4, label=names[0])
        axis.plot(item.mean, row, "|", color="black", markersize=13, markeredgewidth=1.6, label=names[1])
        axis.plot(score, row, "D", color=LOOKS["pruned"][0], markersize=4.5, markerfacecolor="none", label=names[2])
    axis.set_yticks(range(len(items)), [f"trial {i.trial.label}" + (" (hand-made)" * (i.trial.number == 0)) for i in items])
    axis.set(xlabel="best val loss", ylim=(-0.6, len(items) - 0.4))
    _legend(figure, axis)
    return figure


def _trainings(material: Material) -> Figure | None:
    splits = list(dict.fromkeys(training.split for training in material.trainings))
    if not splits:
        return None
    figure, axes = _figure(0.5 + 1.6 * len(splits), len(splits), 2)
    for row, split in enumerate(splits):
        left, right = axes[2 * row], axes[2 * row + 1]
        for training in (t for t in material.trainings if t.split == split):
            _training(left, training, "val_loss")
            _training(right, training, material.recall)
        left.set(ylabel="val loss", title=_plain(split))
        right.set(ylabel=f"{_plain(material.positive_class)} recall", ylim=(-0.04, 1.04))
        for axis in (left, right):
            axis.set_xlabel("epoch" if row == len(splits) - 1 else "")
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(figure, axes[0])
    return figure


def _training(axis: Axes, training: Training, column: str) -> None:
    winner = training.role == WINNER
    axis.plot(
        training.log["epoch"],
        training.log[column],
        color=LOOKS["complete" if winner else "pruned"][0],
        linestyle="-" if winner else "--",
        marker="o" if winner else "s",
        markersize=2.5,
        alpha=1.0 if training.seed is None else 0.45,
        label=training.title,
    )


def _plain(text: Any) -> str:
    """Names as they are: matplotlib would read `$...$` as a formula."""
    return str(text).replace("$", r"\$")
