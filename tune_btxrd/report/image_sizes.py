"""Image sizes of a search: what an epoch cost at each, what was spent there, and the scores that came of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, NullLocator

from tune_btxrd.monitor import Monitor
from tune_btxrd.report.canvas import LOOKS, legend, new_figure, points, score_range
from tune_btxrd.search.cost import epoch_costs
from tune_btxrd.search.events import EpochRow
from tune_btxrd.search.record import SearchRecord, TrialRecord, best_trial
from tune_btxrd.search.space.spec import SearchSpec


@dataclass(frozen=True, kw_only=True)
class SizeRow:
    """One image size of a search.

    Attributes:
        trials, epochs: of the search itself there.
        seconds: of an epoch, training and validation, on average; None without one.
        pixels: cost of an epoch by pixels alone, relative to the smallest size; cost: by seconds; None without both.
        share: of the seconds of all search trials, in [0, 1].
        best: the best trial there, or None.
    """

    size: int
    trials: int
    epochs: int
    seconds: float | None
    pixels: float
    cost: float | None
    share: float
    best: TrialRecord | None


def size_rows(record: SearchRecord, spec: SearchSpec | None) -> list[SizeRow]:
    """A row per size, from the smallest on; none where one size alone is trained at, or nothing has been."""
    if spec is None or len(spec.image_sizes) < 2 or not any(trial.epochs for trial in record.search_trials):
        return []
    seconds, found = {}, {}
    for size in spec.image_sizes:
        found[size] = mine = [trial for trial in record.search_trials if trial.config.get("image_size") == size]
        seconds[size] = [_lasted(row) / spec.folds_per_trial for trial in mine for row in trial.epochs]
    total, least = sum(map(sum, seconds.values())) or 1.0, spec.image_sizes[0]
    by_pixels = epoch_costs(spec).by_size
    means = {size: sum(lasted) / len(lasted) if lasted else None for size, lasted in seconds.items()}
    return [
        SizeRow(
            size=size,
            trials=len(found[size]),
            epochs=len(seconds[size]),
            seconds=means[size],
            pixels=by_pixels[size] / by_pixels[least],
            cost=_ratio(means[size], means[least]),
            share=sum(seconds[size]) / total,
            best=best_trial(found[size]),
        )
        for size in spec.image_sizes
    ]


def sizes_line(rows: Sequence[SizeRow], monitor: Monitor) -> str:
    """What the sizes cost and gave, in words; empty without rows."""
    told = [
        f"{row.size} px: {row.seconds:.3g} s an epoch, best {row.best.shown}" for row in rows if row.seconds and row.best
    ]
    if not told:
        return ""
    return (
        f"Above, best {monitor.label} of every trial by the side of its images, and the best of each; below, what an epoch "
        f"took there, and what pixels alone would say. {'; '.join(told)}. Trials of one size differ in other "
        "hyperparameters too, and a size with more trials had more chances."
    )


def draw_sizes(record: SearchRecord, spec: SearchSpec | None, monitor: Monitor) -> Figure | None:
    """Score and cost of an epoch by image size."""
    rows = size_rows(record, spec)
    if not rows:
        return None
    figure, (above, below) = new_figure(3.6, 2, 1)
    scored = [trial for trial in record.search_trials if trial.objective is not None]
    best = [(row.size, row.best.score) for row in rows if row.best and row.best.score is not None]
    if best:
        above.plot(*zip(*best, strict=True), color="0.4", marker="_", markersize=10, label="best of the size", zorder=2)
    points(above, scored, lambda trial: (trial.config["image_size"], float(trial.score or 0.0)))
    above.set(ylabel=f"best {monitor.label}", ylim=score_range(monitor, [trial.score or 0.0 for trial in scored]))
    timed = [(row, row.seconds) for row in rows if row.seconds is not None]
    colour = LOOKS["complete"][0]
    sides, lasted = [row.size for row, _ in timed], [seconds for _, seconds in timed]
    below.plot(sides, lasted, "o-", color=colour, markersize=4, label="measured")
    law = [lasted[0] * row.pixels / timed[0][0].pixels for row in rows]
    below.plot([row.size for row in rows], law, ":", color="0.4", label=f"by pixels, from {sides[0]} px")
    below.set(ylabel="seconds an epoch", xlabel="side of the images, px")
    below.set_ylim(bottom=0)
    below.yaxis.set_major_locator(MaxNLocator(5))
    for axis in (above, below):
        axis.set_xscale("log")
        axis.set_xticks([row.size for row in rows], [str(row.size) for row in rows])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_xlim(rows[0].size / 1.12, rows[-1].size * 1.12)
    legend(figure, above)
    below.legend(loc="upper left")
    return figure


def _lasted(row: EpochRow) -> float:
    return float(row["train_seconds"]) + float(row["val_seconds"])


def _ratio(value: float | None, unit: float | None) -> float | None:
    return None if value is None or not unit else value / unit
