"""Folds after their training: each is scored on the images that it did not train on, and all together out of fold.

checkpoints/<name>/
    folds.csv folds.png                          per fold, mean, sd, corrected interval; scores and ROC curves
    out_of_fold/                                 every image once, by the fold that did not train on it:
        predictions.csv predictions.npy          as of a fold, and which one it was
        scores.csv roc.png pr.png confusion.png reliability.png
    fold_<i>_of_<k>/
        best.pt final.pt training_log.csv *.png  of the training
        metrics.json                             scores, best epoch, whole history
        predictions.csv predictions.npy          its validation part; the array has the probabilities, row by row
        scores.csv roc.png pr.png confusion.png reliability.png
        tune_btxrd.json                          calibration and operating points, which `predict` finds beside best.pt
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.splits.split_files import load_split
from tune_btxrd.evaluation.fold_results import SEED, FoldResult, FoldWords, ScoredFold, write_fold, write_together
from tune_btxrd.files import write_whole
from tune_btxrd.inference.model_info import INFO_FILE
from tune_btxrd.inference.open_model import open_checkpoint
from tune_btxrd.results.checkpoints import RetrainJob
from tune_btxrd.scoring.decisions import fit_decisions
from tune_btxrd.scoring.intervals import REPLICATES, draw_weights
from tune_btxrd.scoring.score_tables import judge
from tune_btxrd.training.source import Source

CHOSEN_HERE = "config chosen on these images"
BEST_HERE = "best epoch and calibration of each fold chosen on its own validation part"


def score_folds(
    jobs: Sequence[RetrainJob],
    *,
    results: Path,
    manifest: Manifest,
    source: Source,
    numbers: np.ndarray,
    is_chosen: bool,
    centers: Sequence[str] = (),
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> FoldResult:
    """Scores every fold on its validation part, and writes tables and pictures.

    Args:
        jobs: the finished trainings, one per fold, in order.
        results: `ray_results/<name>`, with the folds' splits; numbers: (N,) group of every image of the dataset.
        is_chosen: the config is the winner of a search that saw these images.
        centers: of center folds the center that each leaves out, which is what tables call the fold.

    Raises:
        ResultError: a damaged checkpoint, or a folder that cannot be written. DataError: an image is not in the cache.
    """
    notes = (*([CHOSEN_HERE] if is_chosen else []), BEST_HERE)
    words = FoldWords(part="left-out center" if centers else "validation part", all_parts="folds", notes=notes)
    scored = list[ScoredFold]()
    for done, (job, number) in enumerate(zip(jobs, fold_labels(jobs, centers), strict=True), start=1):
        scored.append(
            _scored(job, number, results=results, manifest=manifest, source=source, numbers=numbers, device=device)
        )
        write_fold(scored[-1], manifest, words)
        if progress is not None:
            progress(done, len(jobs))
    return write_together(scored, jobs[0].root, manifest=manifest, numbers=numbers, words=words)


def fold_labels(jobs: Sequence[RetrainJob], centers: Sequence[str]) -> list[str]:
    """What tables call each fold: "2/5", or "center 2" where it leaves that one out."""
    if centers:
        return [f"center {name}" for name in centers]
    return [job.split.removeprefix("fold ") for job in jobs]


def _scored(
    job: RetrainJob, number: str, *, results: Path, manifest: Manifest, source: Source, numbers: np.ndarray, device: str
) -> ScoredFold:
    split = load_split(results / "splits" / f"{job.stem}.csv", manifest, name=job.split)
    ids, predictor = split.parts["val"], open_checkpoint(job.best, device=device)
    cache, rows = source.images(predictor.info.image_size), manifest.rows(ids)
    logits, targets = predictor.logits(cache.images, cache.rows(ids)), manifest.targets[rows]
    decisions = fit_decisions(logits, targets, positive_class=manifest.positive_class, task=manifest.task)
    info = replace(predictor.info, decisions=decisions)
    write_whole(job.folder / INFO_FILE, json.dumps(info.to_dict(), indent=2) + "\n")
    weights = draw_weights(numbers[rows], replicates=REPLICATES, seed=SEED)
    learned = len(split.parts["train"])
    return ScoredFold(
        job=job,
        number=number,
        folder=job.folder,
        images={"train": learned, "val": len(rows)},
        learned=learned,
        rows=rows,
        judged=judge(job.split, logits, targets, weights, decisions=decisions, sha256=info.checkpoint_sha256),
        fitted=(logits, targets),
    )
