"""The pictures of an evaluation: confusion matrices, ROC and PR curves, reliability diagrams (Okabe-Ito colours)."""
# ruff: noqa: N803
# (shape suffixes: N = images, C = classes)

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

from tune_btxrd.data.figure_text import figure_text
from tune_btxrd.scoring.intervals import Proportion
from tune_btxrd.scoring.metrics import CALIBRATION_BINS, Metric, bin_of, confusions, ones
from tune_btxrd.scoring.score_tables import Judged

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # blue, vermilion, green, purple: distinct to all kinds of sight
LONGEST_NAME, LONGEST_TITLE = 24, 300  # characters; a title is wrapped
STYLES = ("-", "--")
MARKERS = ("o", "s", "^")
MOST_ACROSS = 4  # panels in a row
MOST_LABELS = 24  # independent labels in a picture: the first ones; the tables have all
STYLE = {"font.size": 9, "axes.titlesize": 9, "axes.spines.top": False, "axes.spines.right": False, "legend.fontsize": 7.5}


def draw_figures(
    models: Sequence[Judged], folder: Path, *, title: str, class_names: Sequence[str], positive_class: int
) -> None:
    """Writes confusion.png, roc.png, pr.png, reliability.png; `title` stands above each of them.

    Of independent labels the confusion is yes and no of each, and each has its own reliability.
    """
    names = [figure_text(name, longest=LONGEST_NAME) for name in class_names]
    labels = bool(models[0].decisions.labels)
    if labels and len(names) > MOST_LABELS:
        title, names = f"{title}; the first {MOST_LABELS} of {len(names)} labels", names[:MOST_LABELS]
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]  # the keys are plain rc names
        confusion = _label_confusions(models, names) if labels else _confusion_figure(models, names)
        _save(confusion, folder / "confusion.png", title)
        _save(_curves(models, names, kind="roc"), folder / "roc.png", title)
        _save(_curves(models, names, kind="pr"), folder / "pr.png", title)
        reliability = _label_reliability(models[0], names) if labels else _reliability(models, names, positive_class)
        _save(reliability, folder / "reliability.png", title)


def _save(figure: Figure, path: Path, title: str) -> None:
    figure.suptitle(figure_text(title, longest=LONGEST_TITLE), fontsize=9, x=0.01, ha="left", wrap=True)
    figure.savefig(path, dpi=150)


def _panels(count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    across = min(count, MOST_ACROSS)
    down = -(-count // across)
    figure = Figure(figsize=(width * across, height * down + 0.35), layout="constrained")
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    for axis in axes[count:]:
        axis.set_visible(False)
    return figure, axes[:count]


def _confusion_figure(models: Sequence[Judged], class_names: Sequence[str]) -> Figure:
    """Counts; the shade is the share of the true class, so that a rare class is seen."""
    figure, panels = _panels(len(models), 3.6, 3.3)
    for axis, model in zip(panels, models, strict=True):
        counts = confusions(model.targets, model.predicted, len(class_names), ones(len(model.targets)))[0]
        _matrix(axis, counts, class_names, title=figure_text(model.name))
    return figure


def _label_confusions(models: Sequence[Judged], names: Sequence[str]) -> Figure:
    """Yes and no of each label, of the images of which it is known; one panel per model."""
    figure, panels = _panels(len(models) * len(names), 2.4, 2.6)
    for (index, model), axis in zip(product(range(len(names)), models), panels, strict=True):
        _, yes, called = model.answers.one(index)
        counts = np.array([[np.sum((yes == row) & (called == column)) for column in (0, 1)] for row in (0, 1)])
        _matrix(axis, counts, ("no", "yes"), title=f"{figure_text(model.name)}: {names[index]}")
    return figure


def _matrix(axis: Axes, counts: np.ndarray, names: Sequence[str], *, title: str) -> None:
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(counts.shape):
        colour = "white" if share[row, column] > 0.6 else "black"
        text = f"{counts[row, column]:.0f}\n{share[row, column]:.0%}"
        axis.text(column, row, text, ha="center", va="center", color=colour)
    ticks = range(len(names))
    axis.set_xticks(ticks, names)
    axis.set_yticks(ticks, names, rotation=90, va="center")
    axis.set(xlabel="predicted", ylabel="true", title=title)
    axis.spines[:].set_visible(False)


def _curves(models: Sequence[Judged], class_names: Sequence[str], *, kind: str) -> Figure:
    """One panel per class against the rest, or per label; every model, with the winner's operating points."""
    figure, panels = _panels(len(class_names), 3.2, 3.7)
    rest = "" if models[0].decisions.labels else " against the rest"
    for index, axis in enumerate(panels):
        known, positive, _ = models[0].answers.one(index)
        axis.set_title(f"{class_names[index]}{rest}")
        if positive.all() or not positive.any():
            axis.text(0.5, 0.5, "no curve without a yes and a no", ha="center", va="center")
            axis.set_axis_off()
            continue
        for number, model in enumerate(models):
            chance = model.probabilities[known, index]
            metric = Metric("auc" if kind == "roc" else "average_precision", index)
            label = f"{figure_text(model.name)} {model.point[metric]:.3f} ({model.interval(metric)})"
            if kind == "roc":
                xs, ys, _ = roc_curve(positive, chance)
            else:
                ys, xs, _ = precision_recall_curve(positive, chance)
            axis.plot(
                xs,
                ys,
                drawstyle="default" if kind == "roc" else "steps-post",
                color=COLOURS[number],
                linestyle=STYLES[number % 2],
                label=label,
                linewidth=1.6,
            )
        _mark_points(axis, models[0], index, kind)
        _frame(axis, kind, share=float(positive.mean()))
        axis.legend(loc="upper left", bbox_to_anchor=(0, -0.2), frameon=False)  # below: no curve runs there
    return figure


def _mark_points(axis: Axes, model: Judged, index: int, kind: str) -> None:
    known, positive, _ = model.answers.one(index)
    for marker, (name, calls) in zip(MARKERS, model.decisions.calls(model.logits, index=index).items(), strict=False):
        called = calls[known]
        sensitivity, false_rate = float(called[positive].mean()), float(called[~positive].mean())
        if kind == "pr" and not called.any():
            continue
        place = (false_rate, sensitivity) if kind == "roc" else (sensitivity, float(positive[called].mean()))
        axis.plot(
            *place, marker, color="black", markersize=5, markerfacecolor="white", label=name, linestyle="none", clip_on=False
        )


def _frame(axis: Axes, kind: str, *, share: float) -> None:
    chance = ([0, 1], [0, 1]) if kind == "roc" else ([0, 1], [share, share])
    axis.plot(*chance, color="0.6", linewidth=1, linestyle=":")
    names = ("1 - specificity", "sensitivity") if kind == "roc" else ("sensitivity (recall)", "PPV (precision)")
    axis.set(xlabel=names[0], ylabel=names[1], xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))


def _reliability(models: Sequence[Judged], class_names: Sequence[str], positive_class: int) -> Figure:
    """Winner (first model): share right in each bin of probability, before and after calibration, with Wilson intervals."""
    model = models[0]
    after = model.decisions.calibration.probabilities(model.logits)
    figure, panels = _panels(2, 3.8, 3.4)
    stages = {"before": model.probabilities, "after calibration": after}
    for number, (stage, probabilities) in enumerate(stages.items()):
        right = model.decisions.task.same(model.decisions.task.decide(probabilities), model.targets)
        _bins(panels[0], probabilities.max(axis=1), right, number, stage)
        _bins(panels[1], probabilities[:, positive_class], model.answers.yes_NC[:, positive_class], number, stage)
    name = figure_text(model.name)
    titles = (f"{name}: predicted class", f"{name}: {class_names[positive_class]}")
    for axis, title in zip(panels, titles, strict=True):
        _diagonal(axis, title)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return figure


def _label_reliability(model: Judged, names: Sequence[str]) -> Figure:
    """The same of the winner's labels, each over the images of which it is known."""
    stages = {
        "before": model.probabilities,
        "after calibration": model.decisions.calibration.probabilities(model.logits),
    }
    figure, panels = _panels(len(names), 3.0, 2.9)
    for index, axis in enumerate(panels):
        known, yes, _ = model.answers.one(index)
        for number, (stage, probabilities) in enumerate(stages.items()):
            _bins(axis, probabilities[known, index], yes, number, stage)
        _diagonal(axis, f"{figure_text(model.name)}: {names[index]}")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return figure


def _diagonal(axis: Axes, title: str) -> None:
    axis.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle=":")
    axis.set(xlabel="probability", ylabel="share that is so", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), title=title)


def _bins(axis: Axes, probability_N: np.ndarray, true_N: np.ndarray, number: int, label: str) -> None:
    """Mean probability against share, area by count; bins with no image are left out."""
    where = bin_of(probability_N)
    for index in (index for index in range(CALIBRATION_BINS) if (where == index).any()):
        inside = where == index
        count = Proportion(found=int(true_N[inside].sum()), asked=int(inside.sum()))
        x, colour = float(probability_N[inside].mean()), COLOURS[number]
        axis.plot([x, x], [count.wilson.low, count.wilson.high], color=colour, linewidth=1, alpha=0.6)
        size = 12 + 90 * count.asked / len(where)
        axis.scatter(
            [x], [count.value], s=size, color=colour, marker=MARKERS[number], edgecolors="white", linewidths=0.6, zorder=3
        )
    axis.plot([], [], MARKERS[number], color=COLOURS[number], label=label)
