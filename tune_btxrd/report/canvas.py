"""What all figures for papers share: size, colours, marks, legends that cover nothing, saving."""

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from tune_btxrd.errors import ResultError
from tune_btxrd.monitor import Monitor
from tune_btxrd.search.record import STATE_WORDS, TrialRecord

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
LOOKS = {  # state -> colour (Okabe-Ito), mark, words
    "complete": ("#0072B2", "o", STATE_WORDS["complete"]),
    "pruned": ("#E69F00", "v", STATE_WORDS["pruned"]),
    "diverged": ("#D55E00", "X", STATE_WORDS["diverged"]),
    "failed": ("#CC79A7", "s", STATE_WORDS["failed"]),
    "running": ("#009E73", "D", STATE_WORDS["running"]),
    "paused": ("#56B4E9", "P", STATE_WORDS["paused"]),
}
MANY = 60  # trials; above, dense layers become pixels inside the SVG


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


def new_figure(height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure one column wide, with its axes in order of rows."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def loss_range(values: list[float]) -> tuple[float, float]:
    """Limits that a few diverging losses cannot stretch: to the 97th percentile."""
    ordered = sorted(value for value in values if math.isfinite(value)) or [0.0, 1.0]
    low, high = ordered[0], ordered[min(len(ordered) - 1, int(0.97 * len(ordered)))]
    pad = 0.06 * ((high - low) or 1.0)
    return low - pad, high + pad


def score_range(monitor: Monitor, scores: list[float]) -> tuple[float, float]:
    """Limits of monitored values that a few bad ones cannot stretch."""
    low, high = sorted(map(monitor.score, loss_range([monitor.objective(score) for score in scores])))
    return low, high


def points(axis: Axes, trials: list[TrialRecord], place: Callable[[TrialRecord], tuple[float, float] | None]) -> None:
    """A mark per trial, one look per state."""
    for state, (colour, mark, word) in LOOKS.items():
        found = [at for trial in trials if trial.state == state and (at := place(trial)) is not None]
        if found:
            axis.scatter(
                [x for x, _ in found],
                [y for _, y in found],
                s=14 if len(trials) <= MANY else 7,
                color=colour,
                marker=mark,
                linewidths=0.3,
                edgecolors="white",
                label=word,
                zorder=3,
                rasterized=len(trials) > MANY,
            )


def lines(axis: Axes, paths: list[Any], colours: list[Any], widths: list[float], *, alpha: float = 1.0) -> None:
    """Many curves as one layer."""
    layer = LineCollection(paths, colors=colours, linewidths=widths, alpha=alpha, rasterized=len(paths) > MANY)
    axis.add_collection(layer)
    axis.autoscale_view()


def legend(figure: Figure, axis: Axes, columns: int = 3) -> None:
    """Outside, below: it can cover nothing."""
    handles, labels = axis.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(columns, len(labels)), handletextpad=0.4)
