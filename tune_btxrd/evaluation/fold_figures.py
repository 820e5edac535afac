"""folds.png: each fold's scores with mean and standard deviation, and its ROC curve beside the out-of-fold one."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from tune_btxrd.data.figure_text import figure_text
from tune_btxrd.evaluation.score_figures import COLOURS, LONGEST_NAME, LONGEST_TITLE, STYLE
from tune_btxrd.scoring.metrics import OVERALL, Metric
from tune_btxrd.scoring.score_tables import Judged

HIDDEN = ("brier", "calibration_error")  # lower is better: in the table


def draw_folds(
    folds: Sequence[Judged],
    pooled: Judged,
    path: Path,
    *,
    title: str,
    part: str,
    positive_class: int,
    positive_name: str,
) -> None:
    """Writes the picture; `folds` in their order, `pooled` all of their images together, `part` what is scored."""
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]  # the keys are plain rc names
        figure = Figure(figsize=(9, 3.9), layout="constrained")
        left, right = figure.subplots(1, 2)
        _scores(left, folds)
        left.set_title(part)
        name = figure_text(positive_name, longest=LONGEST_NAME)
        _curves(right, folds, pooled, positive_class)
        right.set_title(f"ROC of {name}")
        figure.suptitle(figure_text(title, longest=LONGEST_TITLE), fontsize=9, x=0.01, ha="left", wrap=True)
        figure.savefig(path, dpi=150)


def _scores(axis: Axes, folds: Sequence[Judged]) -> None:
    names = [name for name in OVERALL if name not in HIDDEN and Metric(name) in folds[0].point]
    for place, name in enumerate(names):
        values = np.array([fold.point[Metric(name)] for fold in folds])
        axis.scatter([place] * len(values), values, s=14, color=COLOURS[0], alpha=0.7, label="a fold" if not place else None)
        spread = float(values.std(ddof=1))
        axis.errorbar(
            [place + 0.2],
            [values.mean()],
            yerr=[spread],
            fmt="s",
            color=COLOURS[1],
            markersize=5,
            capsize=3,
            label=None if place else "mean ± sd",
        )
    axis.set_xticks(range(len(names)), [name.replace("_", "\n") for name in names])
    axis.set_ylim(-0.01, 1.01)
    axis.legend(loc="lower right", frameon=False)


def _curves(axis: Axes, folds: Sequence[Judged], pooled: Judged, positive_class: int) -> None:
    for number, fold in enumerate([*folds, pooled]):
        is_pooled = fold is pooled
        known, yes = answers(fold, positive_class)
        if yes.all() or not yes.any():
            continue
        xs, ys, _ = roc_curve(yes, fold.probabilities[known, positive_class])
        area = fold.point[Metric("auc", positive_class)]
        label = f"out of fold, AUC {area:.3f}" if is_pooled else "a fold" if number == 0 else None
        axis.plot(xs, ys, label=label, color=COLOURS[1] if is_pooled else "0.65", linewidth=1.8 if is_pooled else 0.9)
    axis.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle=":")
    axis.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
    axis.legend(loc="lower right", frameon=False)


def answers(model: Judged, index: int) -> tuple[np.ndarray, np.ndarray]:
    """(N,) bool where it is known whether an image has the class, and for those whether it has it."""
    task, classes = model.decisions.task, model.logits.shape[1]
    known = task.known(model.targets, classes)[:, index]
    return known, task.indicators(model.targets, classes)[known, index] > 0
