"""What a search and its final job found, in words and in one table."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from tune_btxrd.console import make_table
from tune_btxrd.files import write_whole
from tune_btxrd.monitor import MONITORS
from tune_btxrd.results.checkpoints import WINNER, RetrainJob, best_row
from tune_btxrd.search.columns import recall_columns
from tune_btxrd.search.selection import HAND_MADE_NUMBER, Selection
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.training.source import Source

if TYPE_CHECKING:
    from tune_btxrd.results.search_json import Settings

FILE = "summary.json"
ZERO_RECALL_EPOCHS = 2
MOST_RECALLS = 5  # classes; more do not fit a line


def selection_lines(selection: Selection, spec: SearchSpec) -> list[str]:
    """Which config won, by how much it beats the hand-made one, and how much luck its search score held."""
    winner, standing, monitor = selection.winner, selection.standing, MONITORS[spec.monitor]
    values = ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in winner.params.items()
    )
    lines = [f"Winner: trial {winner.label} ({values})"]
    if standing is None:
        lines.append(
            f"Not confirmed (--confirm 0): its {monitor.label} is the best of many and flatters it; by how much is unknown."
        )
    elif winner.number == HAND_MADE_NUMBER:
        mean = f"{spec.repeats} repeats ({standing.shown_mean:.4f})"
        lines.append(f"The hand-made config stays: no candidate has a better mean over {mean}.")
    elif standing.gain is not None:
        verb = "beats the hand-made config" if standing.beats_hand_made else "is not shown to beat the hand-made config"
        how = f"95 % interval over {len(standing.scores)} repeats on fresh partitions"
        lines.append(f"It {verb}: {monitor.label} {monitor.better} by {standing.gain} ({how}).")
    if standing is not None and standing.optimism is not None:
        change = standing.shown_mean - (winner.score or 0.0)
        became = f"{winner.score:.4f} became {standing.shown_mean:.4f} when repeated ({change:+.4f})"
        lines.append(f"Optimism: its search score {became}.")
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


def _luckiest(selection: Selection) -> str | None:
    """Says so where the best search score did not survive its repeats."""
    scored = [item for item in selection.standings if item.trial.state == "complete"]
    best = min(scored, key=lambda item: item.trial.rank, default=None)
    if best is None or best.trial is selection.winner:
        return None
    return (
        f"Trial {best.trial.label} had the best search score ({best.trial.score:.4f}), but repeated it gives "
        f"{best.shown_mean:.4f}: its lead was luck."
    )


def closing_table(jobs: Sequence[RetrainJob], source: Source) -> tuple[Table, list[str]]:
    """Winner against hand-made config per split at each one's best epoch, and warnings about the positive class.

    Recall of every class; of more than MOST_RECALLS, of the positive class and of the one found least.
    """
    names, positive = source.class_names, source.class_names[source.positive_class]
    rows: list[dict[str, str]] = []
    warnings = []
    order = list(dict.fromkeys(job.split for job in jobs))
    for job in sorted(jobs, key=lambda job: (order.index(job.split), job.role != WINNER, job.seed_index)):
        log = job.log()
        best = best_row(log)
        recalls = {name: float(best[column]) for name, column in zip(names, recall_columns(names), strict=True)}
        rows.append(
            {
                "split": job.split,
                "config": job.role,
                "seed": str(job.config.seed),
                "val loss": f"{best['val_loss']:.4f}",
                "macro-F1": f"{best['val_macro_f1']:.2f}",
                **_recall_cells(recalls, positive),
                "best epoch": f"{best['epoch']}/{len(log)}",
                "checkpoint": str(job.best.relative_to(job.root)),
            }
        )
        if (log["zero_recall_epochs"] >= ZERO_RECALL_EPOCHS).any():
            warnings.append(
                f"{job.label}: {int(log['zero_recall_epochs'].max())} epochs in a row found no {positive} image."
            )
    return make_table("Validation results of the final job", tuple(rows[0]), [tuple(row.values()) for row in rows]), warnings


def _recall_cells(recalls: Mapping[str, float], positive: str) -> dict[str, str]:
    if len(recalls) <= MOST_RECALLS:
        return {f"recall {name}": f"{value:.2f}" for name, value in recalls.items()}
    least = min(recalls, key=lambda name: recalls[name])
    return {f"recall {positive}": f"{recalls[positive]:.2f}", "lowest recall": f"{recalls[least]:.2f} ({least})"}


def write_summary(
    folder: Path, jobs: Sequence[RetrainJob], settings: "Settings", selection: Selection | None, warnings: Sequence[str]
) -> None:
    """`summary.json`: the closing table as data."""
    content: dict[str, Any] = {
        "winner": selection.winner.label if selection else None,
        "standings": [
            {
                "trial": item.trial.label,
                "scores": item.shown_scores,
                "mean": item.shown_mean if item.scores else None,
                "gain": item.gain and [item.gain.mean, item.gain.low, item.gain.high],
                "optimism": item.optimism,
                "feasible": item.feasible,
            }
            for item in (selection.standings if selection else ())
        ],
        "retrain": [
            {
                "split": job.split,
                "role": job.role,
                "seed": job.config.seed,
                "checkpoint": str(job.best),
                "best": best_row(job.log()),
            }
            for job in jobs
        ],
        "warnings": list(warnings),
        "skipped_splits": settings.flags.get("skipped", {}),
    }
    write_whole(folder / FILE, json.dumps(content, indent=1, default=lambda value: value.item()))
