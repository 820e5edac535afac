"""Nested folds after their searches: each winner is scored once on the outer part that its search never saw.

checkpoints/<name>/nested/
    folds.csv folds.png out_of_fold/ outer_<i>_of_<k>/    as of folds; train_images are those that the inner search saw,
                                                          val_images those of the outer part
    optimism.csv                                          each score beside that of the folds that the config was chosen on
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.splits.split_files import load_split
from tune_btxrd.evaluation.fold_results import SEED, FoldResult, FoldWords, ScoredFold, write_fold, write_together
from tune_btxrd.files import write_whole
from tune_btxrd.inference.open_model import open_checkpoint
from tune_btxrd.results.checkpoints import RetrainJob
from tune_btxrd.scoring.csv_tables import read_csv, to_csv
from tune_btxrd.scoring.decisions import fit_decisions
from tune_btxrd.scoring.intervals import REPLICATES, draw_weights
from tune_btxrd.scoring.score_tables import judge
from tune_btxrd.training.source import Source

UNSEEN = "nested: config, best epoch and calibration of each fold chosen without these images"
TOGETHER = "calibration and thresholds out of fold are of all inner validation parts together"
WORDS = FoldWords(part="outer part", all_parts="outer parts", notes=(UNSEEN, TOGETHER))


def score_nested(
    jobs: Sequence[RetrainJob],
    *,
    splits: Sequence[Path],
    folder: Path,
    manifest: Manifest,
    source: Source,
    numbers: np.ndarray,
    centers: Sequence[str] = (),
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> FoldResult:
    """Scores the winner of each inner search on its outer part, and writes tables and pictures.

    Args:
        jobs: the winners' finished trainings, in order; splits: the file of each, whose test part is the outer part.
        folder: where the results go; numbers: (N,) group of every image of the dataset.
        centers: of center folds the one that each search did not see.

    Raises:
        ResultError: a damaged checkpoint, or a folder that cannot be written. DataError: an image is not in the cache.
    """
    scored = list[ScoredFold]()
    for done, (job, path) in enumerate(zip(jobs, splits, strict=True), start=1):
        number = f"center {centers[done - 1]}" if centers else f"{done}/{len(jobs)}"
        item = _scored(job, path, number, folder, manifest=manifest, source=source, numbers=numbers, device=device)
        write_fold(item, manifest, WORDS)
        scored.append(item)
        if progress is not None:
            progress(done, len(jobs))
    return write_together(scored, folder, manifest=manifest, numbers=numbers, words=WORDS)


def write_optimism(nested: Path, chosen_here: Path) -> pd.DataFrame:
    """`optimism.csv` from two tables of folds: each score's mean, nested and on the images that the config was chosen on.

    Both are of the same outer parts, so that their difference is what choosing there flattered (and what the smaller
    training sets of the inner searches cost).
    """
    tables = [read_csv(path).astype({"fold": str}).set_index("fold") for path in (nested, chosen_here)]
    known = ("train_images", "val_images", "note")
    names = [str(name) for name in tables[0] if name in tables[1] and name not in known]
    means = [table.loc["mean"][names].astype(float) for table in tables]
    found = pd.DataFrame({"score": names, "nested": means[0].to_numpy(), "config_chosen_here": means[1].to_numpy()})
    found["difference"] = found["config_chosen_here"] - found["nested"]
    write_whole(nested.parent / "optimism.csv", to_csv(found))
    return found


def _scored(
    job: RetrainJob,
    path: Path,
    number: str,
    folder: Path,
    *,
    manifest: Manifest,
    source: Source,
    numbers: np.ndarray,
    device: str,
) -> ScoredFold:
    split = load_split(path, manifest, numbers=numbers, name=job.split)
    predictor = open_checkpoint(job.best, device=device)
    cache = source.images(predictor.info.image_size)
    rows = {part: manifest.rows(ids) for part, ids in split.parts.items()}
    logits = {part: predictor.logits(cache.images, cache.rows(split.parts[part])) for part in ("val", "test")}
    fitted = logits["val"], manifest.targets[rows["val"]]
    decisions = fit_decisions(*fitted, positive_class=manifest.positive_class, task=manifest.task)
    weights = draw_weights(numbers[rows["test"]], replicates=REPLICATES, seed=SEED)
    sha256, targets = predictor.info.checkpoint_sha256, manifest.targets[rows["test"]]
    return ScoredFold(
        job=job,
        number=number,
        folder=folder / job.stem,
        images={"train": len(rows["train"]), "val": len(rows["val"]), "outer": len(rows["test"])},
        learned=len(rows["train"]) + len(rows["val"]),
        rows=rows["test"],
        judged=judge(job.split, logits["test"], targets, weights, decisions=decisions, sha256=sha256),
        fitted=fitted,
    )
