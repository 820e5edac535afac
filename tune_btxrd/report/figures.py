"""The main pictures as PNG and SVG for papers: one column wide (86 mm), colours and marks distinct to all kinds of sight."""

import math
from collections.abc import Callable, Iterator
from itertools import accumulate

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tune_btxrd.data.figure_text import figure_text
from tune_btxrd.report.canvas import LOOKS, MANY, STYLE, legend, lines, new_figure, points, score_range
from tune_btxrd.report.charts import CHARTS, MOST_ROWS
from tune_btxrd.report.figures_space import draw_importance, draw_landscape, draw_parallel, draw_slices
from tune_btxrd.report.gather import Material, Training
from tune_btxrd.report.image_sizes import draw_sizes
from tune_btxrd.report.importance import Importances
from tune_btxrd.report.landscape import Landscape, scored_trials
from tune_btxrd.results.checkpoints import WINNER
from tune_btxrd.search.record import TrialRecord
from tune_btxrd.search.rungs import rung_epochs
from tune_btxrd.search.selection.winner import pareto_front


def draw_all(material: Material, found: Importances | None, surface: Landscape | None) -> Iterator[tuple[str, Figure]]:
    """(name, figure) of every picture that the search has data for."""
    made: dict[str, Callable[[], Figure | None]] = {
        "recommendation": lambda: _recommendation(material),
        "history": lambda: _history(material),
        "curves": lambda: _curves(material),
        "pareto": lambda: _pareto(material),
        "importance": lambda: draw_importance(found),
        "slices": lambda: draw_slices(material),
        "landscape": lambda: draw_landscape(material, surface),
        "parallel": lambda: draw_parallel(material),
        "sizes": lambda: draw_sizes(material.record, material.spec, material.monitor),
        "slots": lambda: _slots(material),
        "confirmation": lambda: _confirmation(material),
        "trainings": lambda: _trainings(material),
    }
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]  # the keys are plain rc names
        for name in CHARTS:
            figure = made[name]()
            if figure is not None:
                yield name, figure


def _history(material: Material) -> Figure | None:
    trials, scored = material.record.search_trials, scored_trials(material.record)
    if not scored:
        return None
    figure, (axis,) = new_figure(2.5)
    monitor = material.monitor
    limits = score_range(monitor, [trial.score or 0.0 for trial in scored])
    best = [trial.score for trial in accumulate(scored, lambda *pair: min(pair, key=lambda one: one.rank))]
    axis.step([t.number for t in scored], np.array(best, dtype=float), where="post", color="0.4", label="best so far")
    worst, known = max(map(monitor.objective, limits)), {trial.number for trial in scored}

    def place(trial: TrialRecord) -> tuple[float, float]:
        value = trial.objective if trial.number in known and trial.objective is not None else worst
        return trial.number, monitor.score(min(value, worst))

    points(axis, trials, place)
    axis.set(xlabel="trial", ylabel=f"best {monitor.label}", ylim=limits)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(figure, axis)
    return figure


def _curves(material: Material) -> Figure | None:
    trials = [trial for trial in material.record.search_trials if trial.epochs]
    if not trials or material.spec is None:
        return None
    figure, (axis,) = new_figure(2.8)
    monitor = material.monitor
    column = monitor.column
    for state, (colour, mark, word) in LOOKS.items():
        mine = [[(row["epoch"], row[column]) for row in trial.epochs] for trial in trials if trial.state == state]
        if mine:
            lines(axis, mine, [colour] * len(mine), [0.8] * len(mine), alpha=0.8 if len(trials) <= MANY else 0.4)
            xs, ys = zip(*(line[-1] for line in mine), strict=True)
            axis.scatter(xs, ys, s=9, color=colour, marker=mark, label=word, rasterized=len(trials) > MANY, zorder=2.5)
    cuts = [visit for visit in material.visits if visit.cut]
    if cuts:
        met = [float(visit.shown_cutoff or 0.0) for visit in cuts]
        axis.plot(
            [v.epoch for v in cuts],
            met,
            "_",
            color="black",
            markersize=8,
            label="cutoff that was met",
            zorder=4,
            alpha=0.3 if len(cuts) > MANY else 1,
        )
    for rung in rung_epochs(material.spec):
        axis.axvline(rung, color="0.5", linestyle=":", linewidth=0.8, zorder=0)
    limits = score_range(monitor, [row[column] for t in trials for row in t.epochs])
    axis.set(xlabel="epoch", ylabel=monitor.label, ylim=limits)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(figure, axis)
    return figure


def _pareto(material: Material) -> Figure | None:
    front = pareto_front(material.record, material.recall)
    if not front:
        return None
    figure, (axis,) = new_figure(2.5)

    def place(trial: TrialRecord) -> tuple[float, float] | None:
        return (float(trial.score or 0.0), float(trial.best[material.recall])) if trial.best else None

    at = [point for trial in front if (point := place(trial))]
    axis.step([x for x, _ in at], [y for _, y in at], where="post", color="0.4", label="no trial beats these")
    points(axis, material.record.search_trials, place)
    limits = score_range(material.monitor, [trial.score or 0.0 for trial in scored_trials(material.record)])
    axis.set(
        xlabel=f"{material.monitor.label} at the best epoch",
        ylabel=f"{figure_text(material.positive_class)} recall",
        xlim=limits,
    )
    axis.set_ylim(-0.04, 1.04)
    legend(figure, axis)
    return figure


def _slots(material: Material) -> Figure | None:
    use = material.slots
    if use is None:
        return None
    unit, long = use.unit
    figure, (axis,) = new_figure(1.0 + 0.26 * use.lanes)
    for lane in range(use.lanes):
        mine = [span for span in use.spans if span.lane == lane]
        starts = [(span.begin / long, (span.first - span.begin) / long) for span in mine]
        works = [(span.first / long, (span.end - span.first) / long) for span in mine]
        for bars, state in ((starts, "pruned"), (works, "complete")):
            axis.broken_barh(
                bars,
                (lane - 0.35, 0.7),
                facecolors=LOOKS[state][0],
                edgecolors="white",
                linewidth=0.3,
                rasterized=len(use.spans) > MANY,
            )
    for begin, end in use.downtime:
        axis.axvspan(begin / long, end / long, color="0.85", zorder=0)
    for text, state in (("start-up", "pruned"), ("training and validation", "complete")):
        axis.barh(0, 0, color=LOOKS[state][0], label=text)
    axis.set_yticks(range(use.lanes), [f"slot {lane + 1}" for lane in range(use.lanes)])
    axis.set(xlabel=f"{unit} since the search began")
    axis.invert_yaxis()
    legend(figure, axis)
    return figure


def _confirmation(material: Material) -> Figure | None:
    items = [i for i in (material.selection.standings if material.selection else ()) if i.scores][::-1]
    if not items:
        return None
    figure, (axis,) = new_figure(1.0 + 0.34 * len(items))
    for row, item in enumerate(items):
        names = ("a repeat", "mean of repeats", "search score") if row == 0 else (None, None, None)
        score = item.trial.score if item.trial.score is not None else math.nan
        axis.plot(item.shown_scores, [row] * len(item.scores), "o", color=LOOKS["complete"][0], markersize=4, label=names[0])
        axis.plot(item.shown_mean, row, "|", color="black", markersize=13, markeredgewidth=1.6, label=names[1])
        axis.plot(score, row, "D", color=LOOKS["pruned"][0], markersize=4.5, markerfacecolor="none", label=names[2])
    axis.set_yticks(range(len(items)), [f"trial {i.trial.label}" + (" (hand-made)" * i.trial.is_hand_made) for i in items])
    axis.set(xlabel=f"best {material.monitor.label}", ylim=(-0.6, len(items) - 0.4))
    legend(figure, axis)
    return figure


def _recommendation(material: Material) -> Figure | None:
    found = material.recommendation.assessed[:MOST_ROWS][::-1] if material.recommendation else ()
    if not found:
        return None
    figure, (axis,) = new_figure(1.0 + 0.24 * len(found))
    show, rows = material.monitor.score, range(len(found))
    for row, item in zip(rows, found, strict=True):
        ends = [show(value) for value in (item.observed, item.completed, item.modelled) if value is not None]
        axis.plot([min(ends), max(ends)], [row, row], color="0.8", linewidth=1.2, zorder=1)
    looks = (
        ("observed", [item.observed for item in found], "o", LOOKS["pruned"][0]),
        ("at full length", [item.completed for item in found], ">", "0.3"),
        (
            "by the model",
            [math.nan if item.modelled is None else item.modelled for item in found],
            "D",
            LOOKS["complete"][0],
        ),
    )
    for name, values, mark, colour in looks:
        axis.plot([show(v) for v in values], rows, mark, color=colour, markersize=4, markerfacecolor="none", label=name)
    axis.set_yticks(rows, [f"trial {item.trial.label}" for item in found])
    axis.set(xlabel=f"best {material.monitor.label}", ylim=(-0.6, len(found) - 0.4))
    legend(figure, axis)
    return figure


def _trainings(material: Material) -> Figure | None:
    splits = list(dict.fromkeys(training.split for training in material.trainings))
    if not splits:
        return None
    figure, axes = new_figure(0.5 + 1.6 * len(splits), len(splits), 2)
    for row, split in enumerate(splits):
        left, right = axes[2 * row], axes[2 * row + 1]
        for training in (t for t in material.trainings if t.split == split):
            _training(left, training, "val_loss")
            _training(right, training, material.recall)
        left.set(ylabel="val loss", title=figure_text(split))
        right.set(ylabel=f"{figure_text(material.positive_class)} recall", ylim=(-0.04, 1.04))
        for axis in (left, right):
            axis.set_xlabel("epoch" if row == len(splits) - 1 else "")
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(figure, axes[0])
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
        label=figure_text(training.title),
    )
