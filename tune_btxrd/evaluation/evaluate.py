"""evaluate NAME: the only verb that scores a model on a test part. Winner and hand-made config, per split, with intervals.

checkpoints/<name>/<split>/evaluation/
    test_log.json                                every opening of the test part: when, checkpoints, split, count
    scores.csv differences.csv                   metrics with intervals; winner minus hand-made, paired
    operating_points.csv calibration.csv         fitted on validation, applied here
    labels.csv                                   of independent labels: known yes, known no, unknown
    subgroups.csv seeds.csv                      by center, view, region, sex, age, type; further seeds of the winner
    averages.csv                                 ensemble and soup, where they were made, minus winner, paired
    predictions.csv predictions_hand_made.csv    one row per test image; of ensemble and soup too
    confusion.png roc.png pr.png reliability.png explain/
    summary.json                                 the same for other programs
checkpoints/<name>/evaluation/gap.csv            first split minus the others
"""
# ruff: noqa: N806
# (shape suffixes: logits_NC, weights_RN)

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.splits.groups import GroupKind, Pair, group_numbers, names_persons
from tune_btxrd.data.splits.split_files import load_split
from tune_btxrd.data.splits.splits import HOLDOUT, Split
from tune_btxrd.errors import ResultError
from tune_btxrd.evaluation.evaluate_split import (
    BYTES,
    Holdout,
    SealedSplit,
    SplitEvaluation,
    SplitJob,
    illustrate,
    open_split,
    prepare_split,
    require_test_parts,
)
from tune_btxrd.evaluation.openings import reserve
from tune_btxrd.files import write_whole
from tune_btxrd.inference.model_card import write_card
from tune_btxrd.inference.model_info import MANIFEST_FILE
from tune_btxrd.results.checkpoints import chosen_splits
from tune_btxrd.scoring.cells import average_rows, score_rows
from tune_btxrd.scoring.csv_tables import to_csv
from tune_btxrd.scoring.intervals import REPLICATES, draw_weights
from tune_btxrd.scoring.score_tables import drawn_scores, gap_table
from tune_btxrd.training.source import Source

Progress = Callable[[int, int], None]
"""Called with (images scored, images in all)."""
SHOWN_OF_LABELS = ("sensitivity", "specificity", "auc", "average_precision")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A search, evaluated.

    Attributes:
        splits: in the order in which they are told.
        gap: first split minus the others, winner's scores; empty for a single split.
        groups: what the bootstrap draws: "patients" (probable ones, where the table tells), else "duplicates".
        class_names, positive_class: for readers of the tables.
    """

    splits: tuple[SplitEvaluation, ...]
    gap: pd.DataFrame
    groups: str
    class_names: tuple[str, ...]
    positive_class: int


@dataclass(frozen=True, kw_only=True)
class SealedSearch:
    """A search whose test parts can be opened: all that can fail without looking at them has been done.

    Attributes:
        checkpoints: the folder `checkpoints/<name>`.
        splits: in the order in which they are told.
    """

    checkpoints: Path
    splits: tuple[SealedSplit, ...]
    job: SplitJob


def seal_search(
    checkpoints: Path,
    *,
    results: Path,
    manifest: Manifest,
    pairs: Iterable[Pair] = (),
    source: Source,
    splits: Sequence[str] | None = None,
    holdout: Holdout | None = None,
    replicates: int = REPLICATES,
    seed: int = 42,
    device: str = "auto",
    progress: Progress | None = None,
) -> SealedSearch:
    """Prepares the evaluation of a search as far as that is possible without looking at a test part.

    Args:
        checkpoints: the folder `checkpoints/<name>`; results: the folder `ray_results/<name>`.
        manifest: the dataset, for groups and subgroups; pairs: its duplicate images.
        source: where pixels lie.
        splits: names of those to evaluate; default: all that were retrained.
        holdout: of a label store: its hold-out as it is labelled now, instead of the one that the split's file has.
        replicates: bootstrap draws; seed: decides them.
        progress: counts the validation images, of which the models' decisions are made.

    Raises:
        ResultError: no checkpoints, a damaged one, an unknown split, one without a test part, a folder that cannot be
            written. DataError: the cache is gone, or the split does not fit the dataset.
    """
    chosen = [item for item in chosen_splits(checkpoints, splits) if splits is not None or not item.is_fold]
    if not chosen:
        raise ResultError(
            f"An evaluation needs a test part, but {checkpoints} holds folds alone: folds.csv and out_of_fold/ there have "
            "the scores of every image by a fold that did not train on it."
        )
    parts = {item.stem: load_split(results / "splits" / f"{item.stem}.csv", manifest, name=item.name) for item in chosen}
    if holdout is not None:
        parts = {stem: _tested_now(split, holdout) for stem, split in parts.items()}
        manifest = holdout.labelled.manifest
    require_test_parts(parts.values())
    groups: GroupKind = "patients" if names_persons(manifest) or manifest.groups is not None else "duplicates"
    counts = [len(parts[item.stem].parts["val"]) * (len(item.models) + len(item.seeds)) for item in chosen]
    job = SplitJob(
        results=results,
        manifest=manifest,
        source=source,
        numbers=group_numbers(manifest, pairs, groups),
        groups=groups,
        replicates=replicates,
        seed=seed,
        device=device,
        holdout=holdout,
        advance=_counter(sum(counts), progress),
    )
    sealed = tuple(prepare_split(item, parts[item.stem], job) for item in chosen)
    reserve(checkpoints / "evaluation", BYTES)
    return SealedSearch(checkpoints=checkpoints, splits=sealed, job=job)


def _tested_now(split: Split, holdout: Holdout) -> Split:
    if split.name != HOLDOUT:
        return split
    return replace(split, parts={**split.parts, "test": holdout.labelled.ids})


def open_test_parts(search: SealedSearch, *, progress: Progress | None = None) -> Evaluation:
    """Opens the test part of every split, scores winner and hand-made config on it, and writes tables and pictures; the
    model card of an export learns the scores.

    An opening is logged before a pixel is read, and tables are written at once. Pictures, heat maps and model cards come
    last. Whoever calls has asked the user.
    """
    total = sum(len(item.rows) * (len(item.models) + len(item.seeds)) for item in search.splits)
    job = replace(search.job, advance=_counter(total, progress))
    manifest, folder = job.manifest, search.checkpoints / "evaluation"
    scored = [open_split(item, job) for item in search.splits]
    gap = _write_gap(_gap(scored, [item.split for item in search.splits], job), scored, folder / "gap.csv")
    evaluated = tuple(illustrate(item, before, job) for item, before in zip(scored, search.splits, strict=True))
    for before in search.splits:
        for export in before.item.exports.values():
            if (export / MANIFEST_FILE).is_file():
                write_card(export, results=job.results, split_folder=before.item.folder)
    return Evaluation(
        splits=evaluated,
        gap=gap,
        groups=job.groups,
        class_names=manifest.class_names,
        positive_class=manifest.positive_class,
    )


def summary_rows(evaluation: SplitEvaluation, class_names: Sequence[str]) -> list[tuple[str, ...]]:
    """For the screen: metric, winner, hand-made, difference, each with its 95 % interval.

    Of the classes the positive one; of independent labels all, by SHOWN_OF_LABELS.
    """
    scores, asked = _shown(evaluation, class_names)
    return [tuple(row.values()) for row in score_rows(scores, evaluation.tables.get("differences"), classes=asked)]


def average_summary(evaluation: SplitEvaluation, class_names: Sequence[str]) -> list[dict[str, str]]:
    """For the screen: metric, winner and, per ensemble or soup, its value and the paired difference; empty without."""
    scores, asked = _shown(evaluation, class_names)
    return average_rows(scores, evaluation.tables.get("averages"), classes=asked)


def average_tables(
    rows: Sequence[Mapping[str, str]],
) -> Iterator[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    """What `average_summary` gave as a table per average, so that it fits a screen: its name, columns, rows."""
    for name, difference in zip(list(rows[0])[2::2], list(rows[0])[3::2], strict=True) if rows else ():
        columns = (*list(rows[0])[:2], name, difference)
        yield name, columns, [tuple(row[column] for column in columns) for row in rows]


def _shown(evaluation: SplitEvaluation, class_names: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """The scores to show, and the classes whose own are among them."""
    scores, decisions = evaluation.tables["scores"], evaluation.winner.decisions
    if decisions.labels:
        scores = scores[(scores["class"] == "") | scores["metric"].isin(SHOWN_OF_LABELS)]
    return scores, [class_names[index] for index in decisions.asked]


def _gap(evaluated: Sequence[SplitEvaluation], splits: Sequence[Split], job: SplitJob) -> pd.DataFrame:
    """Both test parts see the same drawn groups of their union, so that patients in both are drawn for both."""
    if len(evaluated) < 2:
        return pd.DataFrame()
    rows = [job.manifest.rows(split.parts["test"]) for split in splits]
    union = np.unique(np.concatenate(rows))
    weights_RN = draw_weights(job.numbers[union], replicates=job.replicates, seed=job.seed)
    draws = {}
    for item, own in zip(evaluated, rows, strict=True):
        columns = np.searchsorted(union, own)
        winner = item.winner
        draws[item.split] = drawn_scores(winner.logits, winner.targets, weights_RN[:, columns], decisions=winner.decisions)
    return gap_table({item.split: item.winner for item in evaluated}, draws, job.manifest.class_names)


def _write_gap(gap: pd.DataFrame, scored: Sequence[SplitEvaluation], path: Path) -> pd.DataFrame:
    if len(gap):
        gap["opened"] = max(item.opened for item in scored)
        write_whole(path, to_csv(gap))
    return gap


def _counter(total: int, progress: Progress | None) -> Callable[[int], None]:
    """Adds up images over all splits and models."""
    done = 0

    def advance(images: int) -> None:
        nonlocal done
        done += images
        if progress is not None:
            progress(done, total)

    return advance
