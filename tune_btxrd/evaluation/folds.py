"""Folds after their training: each is scored on the images that it did not train on, and all together out of fold.

checkpoints/<name>/
    folds.csv folds.png                          per fold, mean, sd, corrected interval; scores and ROC curves
    out_of_fold/                                 every image once, by the fold that did not train on it:
        predictions.csv predictions.npy          as of a fold
        scores.csv roc.png pr.png confusion.png reliability.png
    fold_<i>_of_<k>/
        best.pt final.pt training_log.csv *.png  of the training
        metrics.json                             scores, best epoch, whole history
        predictions.csv predictions.npy          its validation part; the array has the probabilities, row by row
        scores.csv roc.png pr.png confusion.png reliability.png
        tune_btxrd.json                          calibration and operating points, which `predict` finds beside best.pt
"""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from tune_btxrd.data.cache.cache import ImageCache
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.splits.split_files import load_split
from tune_btxrd.evaluation.fold_figures import draw_folds
from tune_btxrd.evaluation.notes import plain_scores, prediction_table
from tune_btxrd.evaluation.score_figures import draw_figures
from tune_btxrd.files import write_whole
from tune_btxrd.inference.model_info import INFO_FILE
from tune_btxrd.inference.open_model import open_checkpoint
from tune_btxrd.results.checkpoints import RetrainJob, best_row
from tune_btxrd.scoring.csv_tables import to_csv
from tune_btxrd.scoring.decisions import fit_decisions
from tune_btxrd.scoring.folds import fold_table
from tune_btxrd.scoring.intervals import REPLICATES, Interval, draw_weights
from tune_btxrd.scoring.metrics import HIGHEST, Metric
from tune_btxrd.scoring.score_tables import Judged, judge, score_table
from tune_btxrd.training.source import Source

SEED = 42  # of the bootstrap
OUT_OF_FOLD = "out_of_fold"
CHOSEN_HERE = "config chosen on these images"
BEST_HERE = "best epoch and calibration of each fold chosen on its own validation part"


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
        own = f"{self.pooled.point[metric]:.3f} ({self.pooled.interval(metric)})"
        over = f"{mean:.3f} +- {sd:.3f} over folds (corrected 95 % interval: {Interval(low, high)})"
        return f"{column}: {over}; out of fold {own}"


@dataclass(frozen=True, kw_only=True)
class _Scored:
    """A fold and its validation part: rows in the dataset's table, the model's logits."""

    job: RetrainJob
    rows: np.ndarray
    train_images: int
    logits: np.ndarray
    judged: Judged


def score_folds(
    jobs: Sequence[RetrainJob],
    *,
    results: Path,
    manifest: Manifest,
    source: Source,
    numbers: np.ndarray,
    is_chosen: bool,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> FoldResult:
    """Scores every fold on its validation part, and writes tables and pictures.

    Args:
        jobs: the finished trainings, one per fold, in order.
        results: `ray_results/<name>`, with the folds' splits; numbers: (N,) group of every image of the dataset.
        is_chosen: the config is the winner of a search that saw these images.

    Raises:
        ResultError: a damaged checkpoint, or a folder that cannot be written. DataError: an image is not in the cache.
    """
    root, scored = jobs[0].root, list[_Scored]()
    notes = (*([CHOSEN_HERE] if is_chosen else []), BEST_HERE)
    for done, job in enumerate(jobs, start=1):
        scored.append(_scored(job, results=results, manifest=manifest, source=source, numbers=numbers, device=device))
        _write_fold(scored[-1], manifest, notes)
        if progress is not None:
            progress(done, len(jobs))
    pooled, rows = _pooled(scored, manifest, numbers)
    _write_part(pooled, rows, root / OUT_OF_FOLD, manifest, title=_title(manifest, f"out of {len(jobs)} folds", rows, notes))
    point = {item.job.split.removeprefix("fold "): plain_scores(item.judged.point, manifest.class_names) for item in scored}
    images = {item.job.split.removeprefix("fold "): (item.train_images, len(item.rows)) for item in scored}
    table = fold_table(point, images, note="; ".join(notes), highest=HIGHEST if manifest.task.exclusive else {})
    write_whole(root / "folds.csv", to_csv(table))
    judged, positive = tuple(item.judged for item in scored), manifest.positive_class
    title = _title(manifest, f"{len(jobs)} folds", rows, notes)
    name = manifest.class_names[positive]
    draw_folds(judged, pooled, root / "folds.png", title=title, positive_class=positive, positive_name=name)
    return FoldResult(folder=root, table=table, folds=judged, pooled=pooled, notes=notes)


def _scored(
    job: RetrainJob, *, results: Path, manifest: Manifest, source: Source, numbers: np.ndarray, device: str
) -> _Scored:
    split = load_split(results / "splits" / f"{job.stem}.csv", manifest, name=job.split)
    ids, cache = split.parts["val"], ImageCache.open(Path(source.cache))
    predictor, rows = open_checkpoint(job.best, device=device), manifest.rows(split.parts["val"])
    logits, targets = predictor.logits(cache.images, cache.rows(ids)), manifest.targets[rows]
    decisions = fit_decisions(logits, targets, positive_class=manifest.positive_class, task=manifest.task)
    info = replace(predictor.info, decisions=decisions)
    write_whole(job.folder / INFO_FILE, json.dumps(info.to_dict(), indent=2) + "\n")
    weights = draw_weights(numbers[rows], replicates=REPLICATES, seed=SEED)
    judged = judge(job.split, logits, targets, weights, decisions=decisions, sha256=info.checkpoint_sha256)
    return _Scored(job=job, rows=rows, train_images=len(split.parts["train"]), logits=logits, judged=judged)


def _pooled(scored: Sequence[_Scored], manifest: Manifest, numbers: np.ndarray) -> tuple[Judged, np.ndarray]:
    """All images in the order of the dataset's table, each by the fold that did not train on it."""
    rows = np.concatenate([item.rows for item in scored])
    order = np.argsort(rows, kind="stable")
    logits, rows = np.concatenate([item.logits for item in scored])[order], rows[order]
    targets, task = manifest.targets[rows], manifest.task
    decisions = fit_decisions(logits, targets, positive_class=manifest.positive_class, task=task)
    weights = draw_weights(numbers[rows], replicates=REPLICATES, seed=SEED)
    return judge("out of fold", logits, targets, weights, decisions=decisions, sha256=""), rows


def _write_fold(item: _Scored, manifest: Manifest, notes: Sequence[str]) -> None:
    log, folder = item.job.log(), item.job.folder
    title = _title(manifest, f"validation part of {item.job.split}", item.rows, notes)
    _write_part(item.judged, item.rows, folder, manifest, title=title)
    content = {
        "fold": item.job.split,
        "images": {"train": item.train_images, "val": len(item.rows)},
        "best_epoch": int(best_row(log)["epoch"]),
        "scores": plain_scores(item.judged.point, manifest.class_names),
        "notes": list(notes),
        "history": json.loads(log.to_json(orient="records", double_precision=15)),
    }
    write_whole(folder / "metrics.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _write_part(model: Judged, rows: np.ndarray, folder: Path, manifest: Manifest, *, title: str) -> None:
    """Scores, predictions and pictures of one model on its part."""
    array = io.BytesIO()
    np.save(array, model.probabilities)
    write_whole(folder / "predictions.npy", array.getvalue())
    write_whole(folder / "predictions.csv", to_csv(prediction_table(model, rows, manifest)))
    write_whole(folder / "scores.csv", to_csv(score_table([model], manifest.class_names)))
    draw_figures([model], folder, title=title, class_names=manifest.class_names, positive_class=manifest.positive_class)


def _title(manifest: Manifest, part: str, rows: np.ndarray, notes: Sequence[str]) -> str:
    return f"{manifest.dataset}, {part} (n = {len(rows)}); {'; '.join(notes)}"
