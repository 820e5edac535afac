"""What a search and its final job found, in words and in one table."""

import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from tune_btxrd.console import make_table
from tune_btxrd.files import write_whole
from tune_btxrd.monitor import Monitor
from tune_btxrd.results.checkpoints import WINNER, RetrainJob, best_row
from tune_btxrd.results.member_list import MemberList
from tune_btxrd.results.search_json import SearchSettings
from tune_btxrd.search.columns import class_columns
from tune_btxrd.search.record import TrialRecord, best_trial
from tune_btxrd.search.selection.winner import Selection
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.tasks.record import shown
from tune_btxrd.tasks.registry import task_named
from tune_btxrd.training.source import Source

FILE = "summary.json"
ZERO_RECALL_EPOCHS = 2
LOWEST = "lowest recall"  # of the classes that validation has an image of
WIDTH = 80  # columns of a terminal, at least


def selection_lines(selection: Selection, spec: SearchSpec) -> list[str]:
    """Which config won, by how much it beats the hand-made one, and how much luck its search score held."""
    winner, standing, monitor = selection.winner, selection.standing, spec.monitored
    values = ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in winner.params.items()
    )
    lines = [f"Winner: trial {winner.label} ({values})"]
    if standing is None:
        of_many = "is one of many" if spec.recommend == "model" else "is the best of many"
        lines.append(f"Not confirmed (--confirm 0): its {monitor.label} {of_many} and flatters it; by how much is unknown.")
    elif winner.is_hand_made:
        mean = f"{spec.repeats} repeats ({standing.shown_mean:.4f})"
        better = "is better by a model of the search and" if standing.decisive != standing.mean else "has a better mean over"
        lines.append(f"The hand-made config stays: no candidate {better} {mean}.")
    elif standing.gain is not None:
        verb = "beats the hand-made config" if standing.beats_hand_made else "is not shown to beat the hand-made config"
        how = f"95 % interval over {len(standing.scores)} repeats on fresh partitions"
        lines.append(f"It {verb}: {monitor.label} {monitor.better} by {standing.gain} ({how}).")
    if standing is not None and standing.optimism is not None:
        change = standing.shown_mean - (winner.score or 0.0)
        became = f"{winner.score:.4f} became {standing.shown_mean:.4f} when repeated ({change:+.4f})"
        lines.append(f"Optimism: its search score {became}.")
    if dropped := [item for item in selection.standings if item.dropped]:
        told = ", ".join(f"{item.trial.label} after {len(item.scores)} repeats" for item in dropped)
        lines.append(f"Clearly worse and repeated no further: trial {told}.")
    if selection.unneeded:
        lines.append(_unneeded_line(selection.unneeded))
    if luckiest := _luckiest(selection):
        lines.append(luckiest)
    if spec.constraint:
        demand = " and ".join(map(str, spec.constraint))
        lines.append(
            f"No config keeps {demand}; the winner is the best of those that do not."
            if selection.none_feasible
            else f"It keeps {demand}."
        )
    return lines


def _unneeded_line(repeats: Sequence[TrialRecord]) -> str:
    """Repeats that the choice left out, and what they cost."""
    one, labels = len(repeats) == 1, ", ".join(trial.label for trial in repeats)
    epochs = sum(len(trial.epochs) for trial in repeats)
    turned = (
        "1 early repeat turned out unneeded and counts"
        if one
        else f"{len(repeats)} early repeats turned out unneeded and count"
    )
    return f"{turned} for nothing (trial {labels}): {epochs} epoch{'s' if epochs != 1 else ''}."


def _luckiest(selection: Selection) -> str | None:
    """Says so where the best search score did not survive its repeats."""
    best = best_trial(item.trial for item in selection.standings if item.trial.state == "complete")
    if best is None or best is selection.winner:
        return None
    mean = next(item.shown_mean for item in selection.standings if item.trial is best)
    return (
        f"Trial {best.label} had the best search score ({best.score:.4f}), but repeated it gives {mean:.4f}: "
        "its lead was luck."
    )


def closing_table(
    jobs: Sequence[RetrainJob], source: Source, averages: Sequence[MemberList] = ()
) -> tuple[Table, list[str]]:
    """Every training at its best epoch, with mean and standard deviation over seeds, then ensemble and soup of the seeds;
    and warnings about the positive class.

    It fits WIDTH columns: recall of every class, else of the positive class and of the one found least; else one value a
    row.
    """
    order = list(dict.fromkeys(job.split for job in jobs))
    ordered = sorted(jobs, key=lambda job: (order.index(job.split), job.role != WINNER, job.seed_index))
    trainings = [_Training(job, source) for job in ordered]
    for recalls in (_all_recalls, _some_recalls):
        rows = _with_seeds(trainings, [_Average(item, jobs[0], source) for item in averages], recalls)
        table = _table(tuple(name.replace(" ", "\n", 1) for name in rows[0]), [tuple(row.values()) for row in rows])
        if _width(table) <= WIDTH:
            break
    else:
        stacked = [(f"{row.pop('split')}, {row.pop('config')}", row) for row in rows]
        table = _table(
            ("training", "", "value"),
            [("" if at else name, key, value) for name, row in stacked for at, (key, value) in enumerate(row.items())],
        )
    return table, [line for training in trainings if (line := training.warning())]


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Without lines, which take three columns each."""
    table = make_table("Validation results of the final job", columns, rows)
    table.box, table.pad_edge = None, False
    return table


def _width(table: Table) -> int:
    """Columns that the table needs with no cell broken."""
    console = Console(width=10 * WIDTH)
    return Measurement.get(console, console.options, table).maximum


class _Shown:
    """Numbers of one model on validation, as cells of the table."""

    def __init__(self, best: Mapping[str, float | str | None], monitor: Monitor, source: Source) -> None:
        names = source.class_names
        columns = class_columns(task_named(source.task).watched, names)
        self.recalls = {name: _float(best[column]) for column, name in columns.items()}
        self.positive = names[source.positive_class]
        shown = {monitor.label: (_float(best[monitor.column]), 4), "val macro-F1": (_float(best["val_macro_f1"]), 2)}
        self.values = {name if name == "val loss" else name.removeprefix("val "): value for name, value in shown.items()}

    @property
    def defined(self) -> dict[str, float]:
        """The recalls of classes that validation has an image of."""
        return {name: value for name, value in self.recalls.items() if not math.isnan(value)}


class _Average(_Shown):
    """An ensemble or a soup as a row of the table."""

    def __init__(self, listed: MemberList, job: RetrainJob, source: Source) -> None:
        super().__init__(listed.scores, job.config.monitored, source)
        self.split, self.title = listed.split, listed.title


class _Training(_Shown):
    """One training of the final job as rows of the table."""

    def __init__(self, job: RetrainJob, source: Source) -> None:
        self.job, self.log = job, job.log()
        self.best = best_row(self.log)
        super().__init__(self.best, job.config.monitored, source)

    @property
    def best_epoch(self) -> str:
        """Which of how many."""
        return f"{int(self.best['epoch'])}/{len(self.log)}"

    def warning(self) -> str | None:
        """Says so where the positive class was lost for epochs in a row."""
        lost = int(self.log["zero_recall_epochs"].max())
        if lost < ZERO_RECALL_EPOCHS:
            return None
        return f"{self.job.label}: {lost} epochs in a row found no {self.positive} image."


Recalls = Callable[["_Shown"], dict[str, float]]


def _float(value: float | str | None) -> float:
    return math.nan if value is None else float(value)


def _all_recalls(training: _Shown) -> dict[str, float]:
    return {f"recall {name}": value for name, value in training.recalls.items()}


def _some_recalls(training: _Shown) -> dict[str, float]:
    recalls, positive = training.recalls, training.positive
    return {f"recall {positive}": recalls[positive], LOWEST: min(training.defined.values(), default=math.nan)}


def _with_seeds(trainings: Sequence[_Training], averages: Sequence[_Average], recalls: Recalls) -> list[dict[str, str]]:
    """One row per training; where several seeds were trained, their mean and standard deviation below them, and at the end
    of a split what the seeds are together.
    """
    rows: list[dict[str, str]] = []
    several = len({training.job.seed_index for training in trainings}) > 1
    for (split, title), same in groupby(trainings, key=lambda item: (item.job.split, item.job.title)):
        items = list(same)
        head = {"split": split, "config": title}
        for item in items:
            seed = {"seed": str(item.job.config.seed)} if several else {}
            rows.append({**head, **seed, **_cells(item, recalls), "best epoch": item.best_epoch})
        if len(items) > 1:
            for name, over in (("mean", statistics.fmean), ("sd", statistics.stdev)):
                values = {key: [item.values[key][0] for item in items] for key in items[0].values}
                cells = {key: shown(_over(over, column), items[0].values[key][1]) for key, column in values.items()}
                found = [recalls(item) for item in items]
                cells |= {key: shown(_over(over, [item[key] for item in found]), 2) for key in found[0]}
                rows.append({**head, "seed": name, **cells, "best epoch": ""})
        if items[-1] is [item for item in trainings if item.job.split == split][-1]:
            for average in (average for average in averages if average.split == split):
                seed = {"seed": ""} if several else {}
                rows.append({"split": split, "config": average.title, **seed, **_cells(average, recalls), "best epoch": ""})
    return rows


def _over(over: Callable[[Sequence[float]], float], values: Sequence[float]) -> float:
    """A mean or a deviation of the values that are defined."""
    known = [value for value in values if not math.isnan(value)]
    return over(known) if len(known) >= 2 else math.nan


def _cells(training: _Shown, recalls: Recalls) -> dict[str, str]:
    cells = {name: shown(value, digits) for name, (value, digits) in training.values.items()}
    found = recalls(training)
    cells |= {name: shown(value, 2) for name, value in found.items()}
    if not math.isnan(found.get(LOWEST, math.nan)):
        least = min(training.defined, key=lambda name: training.defined[name])
        cells[LOWEST] += f" ({least})"
    return cells


def write_summary(
    folder: Path,
    jobs: Sequence[RetrainJob],
    settings: SearchSettings,
    selection: Selection | None,
    *,
    warnings: Sequence[str],
    averages: Sequence[MemberList] = (),
) -> None:
    """`summary.json`: the closing table as data."""
    content: dict[str, object] = {
        "winner": selection.winner.label if selection else None,
        "standings": [
            {
                "trial": item.trial.label,
                "scores": item.shown_scores,
                "mean": item.shown_mean if item.scores else None,
                "gain": item.gain and [item.gain.mean, item.gain.low, item.gain.high],
                "optimism": item.optimism,
                "feasible": item.feasible,
                "decisive": item.decisive if item.scores else None,
                "dropped": item.dropped,
            }
            for item in (selection.standings if selection else ())
        ],
        "unneeded_repeats": {item.label: len(item.epochs) for item in (selection.unneeded if selection else ())},
        "retrain": [
            {
                "split": job.split,
                "role": job.role,
                "seed": job.config.seed,
                "checkpoint": str(job.best),
                "best": {name: None if pd.isna(value) else value for name, value in best_row(job.log()).items()},
            }
            for job in jobs
        ],
        "averages": [asdict(item) for item in averages],
        "warnings": list(warnings),
        "skipped_splits": dict(settings.flags.skipped),
    }
    write_whole(folder / FILE, json.dumps(content, indent=1, default=lambda value: value.item()))
