"""Pictures of a training: loss and recall alone, and all in 2 x 2 with the borders between its stages."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from tune_btxrd.data.figure_text import figure_text
from tune_btxrd.results.checkpoints import RetrainJob, best_row
from tune_btxrd.search.columns import class_columns, score_columns
from tune_btxrd.tasks.registry import task_named
from tune_btxrd.training.source import Source

LOSSES = {
    "train_loss": "train (as trained)",
    "val_loss": "validation (unweighted)",
    "val_criterion": "validation (as trained)",
}
RATES = {"lr": "head", "lr_backbone": "last layers of the backbone"}
SECOND = ("val_acc", "val_macro_auc")  # the panel beside the loss: the first of these that the task reports
MARKS = "os^Dv*PX" * 8


def draw_curves(job: RetrainJob, source: Source) -> None:
    """`loss_curve.png`, `recall_curve.png` and `training_curves.png` of a job, the best epoch marked."""
    recalls = class_columns(task_named(source.task).watched, source.class_names)
    titles = score_columns(source.class_names, task=source.task)
    second = next(name for name in SECOND if name in titles)
    one = "validation recall"
    _draw(job, {"cross-entropy": LOSSES}, job.folder / "loss_curve.png")
    _draw(job, {one: recalls}, job.folder / "recall_curve.png")
    panels: dict[str, Mapping[str, str]] = {
        "loss": LOSSES,
        f"validation {titles[second]}": {second: titles[second]},
        "validation macro-F1 and recalls": {name: titles[name] for name in ("val_macro_f1", *recalls)},
        "learning rate": RATES,
    }
    _draw(job, panels, job.folder / "training_curves.png")


def stage_borders(log: pd.DataFrame) -> list[float]:
    """Places on the epoch axis between the last epoch of a stage and the first of the next."""
    changed = log["stage"].diff().fillna(0) != 0
    return [float(epoch) - 0.5 for epoch in log["epoch"][changed]]


def _draw(job: RetrainJob, panels: Mapping[str, Mapping[str, str]], path: Path) -> None:
    """One panel, or 2 x 2: y label -> column -> its name in the legend."""
    from matplotlib.figure import Figure  # not pyplot: in a notebook its backend is the user's
    from matplotlib.ticker import MaxNLocator

    log, best = job.log(), int(best_row(job.log())["epoch"])
    side = 1 if len(panels) == 1 else 2
    figure = Figure(figsize=(5 * side, 3.2 * side))
    axes = figure.subplots(side, side, squeeze=False)
    for axis, (label, columns) in zip(axes.flat, panels.items(), strict=True):
        there = {column: text for column, text in columns.items() if column in log}  # an older log lacks new columns
        for mark, (column, text) in zip(MARKS, there.items(), strict=False):
            values = log[column].where(log[column] > 0) if column in RATES else log[column]  # frozen layers have no rate
            axis.plot(log["epoch"], values, marker=mark, markersize=3.5, label=figure_text(text))
        axis.axvline(best, color="0.6", linewidth=1, label=f"best epoch {best}")
        for number, border in enumerate(stage_borders(log)):
            axis.axvline(border, color="0.3", linestyle="--", linewidth=1, label="next stage" if number == 0 else None)
        axis.set(xlabel="epoch", ylabel=label, title=figure_text(job.label) if side == 1 else "")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        if label.startswith("validation"):
            axis.set_ylim(-0.03, 1.03)
        if columns is RATES:
            axis.set_yscale("log")
        above = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "ncols": 3, "frameon": False}  # covers nothing
        axis.legend(fontsize=8, **(above if side == 2 else {}))
        axis.grid(alpha=0.25)
    if side == 2:
        figure.suptitle(figure_text(job.label))
    figure.tight_layout()
    figure.savefig(path, dpi=150)
