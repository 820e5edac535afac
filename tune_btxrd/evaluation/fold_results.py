"""What several models say of parts that they did not train on, and all together: files, tables and pictures of folds."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tune_btxrd.data.manifest import Manifest
from tune_btxrd.evaluation.fold_figures import draw_folds
from tune_btxrd.evaluation.notes import plain_scores, prediction_table
from tune_btxrd.evaluation.score_figures import draw_figures
from tune_btxrd.files import write_whole
from tune_btxrd.results.checkpoints import RetrainJob, best_row
from tune_btxrd.scoring.csv_tables import to_csv
from tune_btxrd.scoring.decisions import fit_decisions
from tune_btxrd.scoring.folds import fold_table
from tune_btxrd.scoring.intervals import REPLICATES, Interval, draw_weights
from tune_btxrd.scoring.metrics import HIGHEST, Metric
from tune_btxrd.scoring.score_tables import Judged, judge, score_table
from tune_btxrd.tasks.record import shown

SEED = 42  # of the bootstrap
OUT_OF_FOLD = "out_of_fold"


@dataclass(frozen=True, kw_only=True)
class FoldResult:
    """What all folds together gave.

    Attributes:
        table: `folds.csv`; pooled: every image by the fold that did not train on it.
        notes: what must be known beside the numbers.
    """

    folder: Path
    table: pd.DataFrame
    folds: tuple[Judged, ...]
    pooled: Judged
    notes: tuple[str, ...]

    def shown(self, metric: Metric, column: str) -> str:
        """One line: mean, sd and interval over folds, and the value out of fold with its own interval."""
        rows = self.table.set_index("fold")[column]
        mean, sd, low, high = (rows[name] for name in ("mean", "sd", "low", "high"))
        own = f"{shown(self.pooled.point[metric], 3)} ({self.pooled.interval(metric)})"
        over = f"{shown(mean, 3)} +- {shown(sd, 3)} over folds (corrected 95 % interval: {Interval(low, high)})"
        return f"{column}: {over}; out of fold {own}"

    def lines(self, manifest: Manifest) -> list[str]:
        """`shown` of the mean AUC over classes, and of the class to watch."""
        positive = manifest.positive_class
        watched = self.shown(Metric("auc", positive), f"auc {manifest.class_names[positive]}")
        return [self.shown(Metric("macro_auc"), "macro_auc"), watched]


@dataclass(frozen=True, kw_only=True)
class ScoredFold:
    """A training and the part that it is scored on.

    Attributes:
        number: "2/5", or "center 2"; folder: where its files go.
        images: part -> how many; learned: those that training and choosing saw.
        rows: (N,) of the part in the dataset's table; judged: on them.
        fitted: logits and targets that calibration and operating points were fitted on.
    """

    job: RetrainJob
    number: str
    folder: Path
    images: Mapping[str, int]
    learned: int
    rows: np.ndarray
    judged: Judged
    fitted: tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class FoldWords:
    """How folds are called: the part that each is scored on, all of them, and what must be known beside every number."""

    part: str
    all_parts: str
    notes: tuple[str, ...]


def write_fold(item: ScoredFold, manifest: Manifest, words: FoldWords) -> None:
    """`metrics.json`, predictions, scores and pictures of one fold. Raises: ResultError."""
    log = item.job.log()
    content = {
        "fold": item.job.split,
        "images": dict(item.images),
        "best_epoch": int(best_row(log)["epoch"]),
        "scores": plain_scores(item.judged.point, manifest.class_names),
        "notes": list(words.notes),
        "history": json.loads(log.to_json(orient="records", double_precision=15)),
    }
    title = _title(manifest, f"{words.part} of {item.job.split}", item.rows, words.notes)
    _write_part(item.judged, prediction_table(item.judged, item.rows, manifest), item.folder, manifest, title=title)
    write_whole(item.folder / "metrics.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def write_together(
    scored: Sequence[ScoredFold], root: Path, *, manifest: Manifest, numbers: np.ndarray, words: FoldWords
) -> FoldResult:
    """The table of folds, its picture, and every image by the fold that did not train on it, in the dataset's order.

    Args:
        numbers: (N,) group of every image of the dataset.
    """
    rows = np.concatenate([item.rows for item in scored])
    order = np.argsort(rows, kind="stable")
    pooled = _pooled(scored, manifest, rows, order, numbers)
    rows, names = rows[order], manifest.class_names
    number = np.repeat([item.number for item in scored], [len(item.rows) for item in scored])[order]
    said = prediction_table(pooled, rows, manifest).assign(fold=number)
    title = _title(manifest, f"out of {len(scored)} folds", rows, words.notes)
    _write_part(pooled, said, root / OUT_OF_FOLD, manifest, title=title)
    table = fold_table(
        {item.number: plain_scores(item.judged.point, names) for item in scored},
        {item.number: (item.learned, len(item.rows)) for item in scored},
        note="; ".join(words.notes),
        highest=HIGHEST if manifest.task.exclusive else {},
    )
    write_whole(root / "folds.csv", to_csv(table))
    judged, positive = tuple(item.judged for item in scored), manifest.positive_class
    draw_folds(
        judged,
        pooled,
        root / "folds.png",
        title=_title(manifest, f"{len(scored)} {words.all_parts}", rows, words.notes),
        part=f"{words.part} of each fold",
        positive_class=positive,
        positive_name=names[positive],
    )
    return FoldResult(folder=root, table=table, folds=judged, pooled=pooled, notes=words.notes)


def _pooled(
    scored: Sequence[ScoredFold], manifest: Manifest, rows: np.ndarray, order: np.ndarray, numbers: np.ndarray
) -> Judged:
    logits = np.concatenate([item.judged.logits for item in scored])[order]
    fitted = [np.concatenate(values) for values in zip(*(item.fitted for item in scored), strict=True)]
    decisions = fit_decisions(*fitted, positive_class=manifest.positive_class, task=manifest.task)
    weights = draw_weights(numbers[rows[order]], replicates=REPLICATES, seed=SEED)
    return judge("out of fold", logits, manifest.targets[rows[order]], weights, decisions=decisions, sha256="")


def _write_part(model: Judged, predictions: pd.DataFrame, folder: Path, manifest: Manifest, *, title: str) -> None:
    """Scores, predictions and pictures of one model on its part."""
    array = io.BytesIO()
    np.save(array, model.probabilities)
    write_whole(folder / "predictions.npy", array.getvalue())
    write_whole(folder / "predictions.csv", to_csv(predictions))
    write_whole(folder / "scores.csv", to_csv(score_table([model], manifest.class_names)))
    draw_figures([model], folder, title=title, class_names=manifest.class_names, positive_class=manifest.positive_class)


def _title(manifest: Manifest, part: str, rows: np.ndarray, notes: Sequence[str]) -> str:
    return f"{manifest.dataset}, {part} (n = {len(rows)}); {'; '.join(notes)}"
