"""The test part of one split: opened, logged, scored, written. Only `evaluate` comes here."""
# (shape suffixes: weights_RN)

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tune_btxrd.data.cache.cache import ImageCache
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.splits.groups import GroupKind
from tune_btxrd.data.splits.splits import Split
from tune_btxrd.errors import ResultError
from tune_btxrd.evaluation.notes import (
    chosen_note,
    interval_notes,
    opening_note,
    plain_scores,
    prediction_table,
    reference_note,
)
from tune_btxrd.evaluation.openings import log_opening
from tune_btxrd.files import file_sha256, write_whole
from tune_btxrd.inference.model_info import ModelInfo
from tune_btxrd.inference.open_model import Predictor, open_checkpoint
from tune_btxrd.results.checkpoints import WINNER, FinishedSplit
from tune_btxrd.scoring.decisions import Decisions, fit_decisions
from tune_btxrd.scoring.intervals import draw_weights
from tune_btxrd.scoring.score_tables import (
    Judged,
    calibration_table,
    difference_table,
    judge,
    operating_table,
    score_table,
)
from tune_btxrd.scoring.subgroups import subgroup_table, subgroups
from tune_btxrd.search.record import read_settings
from tune_btxrd.training.source import Source


@dataclass(frozen=True, kw_only=True)
class SplitEvaluation:
    """One split's test part, opened and scored.

    Attributes:
        split: its name; folder: where tables and pictures lie.
        opened: how often this test part has been opened for this search, this time included.
        counts: test images per class.
        models: the winner and, where it is another config, the hand-made one.
        tables: file stem ("scores", "differences", ...) -> table.
        notes: what a reader must know beside the numbers, one line each.
    """

    split: str
    folder: Path
    opened: int
    counts: tuple[int, ...]
    models: tuple[Judged, ...]
    tables: dict[str, pd.DataFrame]
    notes: tuple[str, ...]

    @property
    def winner(self) -> Judged:
        """The winner on this test part."""
        return self.models[0]


@dataclass(frozen=True, kw_only=True)
class SplitJob:
    """What is the same for every split of a search."""

    results: Path
    manifest: Manifest
    source: Source
    cache: ImageCache
    numbers: np.ndarray  # (dataset,) group per image
    groups: GroupKind
    replicates: int
    seed: int
    device: str
    advance: Callable[[int], None]


def evaluate_split(item: FinishedSplit, split: Split, job: SplitJob) -> SplitEvaluation:
    """Logs the opening, scores every model, writes tables and pictures. Raises: ResultError without a test part."""
    test = split.parts["test"]
    if not test:
        raise ResultError(f"An evaluation needs a test part, but {split.name!r} has none: leave it out with --splits.")
    folder = item.folder / "evaluation"
    predictors = {name: open_checkpoint(path, device=job.device) for name, path in item.models.items()}
    opened = log_opening(
        folder,
        split=split.name,
        split_sha256=file_sha256(job.results / "splits" / f"{item.stem}.csv"),
        checkpoints={name: predictor.info.checkpoint_sha256 for name, predictor in predictors.items()}
        | {path.parent.name: file_sha256(path) for path in item.seeds},
        images=len(test),
    )
    rows = job.manifest.rows(test)
    targets, weights = job.manifest.targets[rows], draw_weights(job.numbers[rows], replicates=job.replicates, seed=job.seed)
    models = []
    for name, predictor in predictors.items():
        logits, decisions = _logits(predictor, split, job)
        sha256 = predictor.info.checkpoint_sha256
        models.append(judge(name, logits, targets, weights, decisions=decisions, sha256=sha256))
    tables = _tables(models, rows, job) | _seeds(item, split, models[0], job)
    for table in tables.values():
        table["opened"] = opened
    explained = _explain(predictors[WINNER], split, models[0], folder, job)
    evaluation = SplitEvaluation(
        split=split.name,
        folder=folder,
        opened=opened,
        counts=tuple(job.manifest.task.counts(targets, len(job.manifest.class_names)).tolist()),
        models=tuple(models),
        tables=tables,
        notes=(*_notes(split, opened, len(np.unique(job.numbers[rows])), predictors[WINNER].info, job), *explained),
    )
    _write(evaluation, split, job)
    return evaluation


def _logits(predictor: Predictor, split: Split, job: SplitJob) -> tuple[np.ndarray, Decisions]:
    """(N, C) logits of the test part, and the decisions fitted on the validation part."""
    before = 0

    def report(done: int, _: int) -> None:
        nonlocal before
        job.advance(done - before)
        before = done

    val = split.parts["val"]
    val_logits = predictor.logits(job.cache.images, job.cache.rows(val), progress=report)
    before = 0
    logits = predictor.logits(job.cache.images, job.cache.rows(split.parts["test"]), progress=report)
    positive = job.manifest.positive_class
    targets, task = job.manifest.targets[job.manifest.rows(val)], job.manifest.task
    return logits, fit_decisions(val_logits, targets, positive_class=positive, task=task)


def _tables(models: Sequence[Judged], rows: np.ndarray, job: SplitJob) -> dict[str, pd.DataFrame]:
    names, positive = job.manifest.class_names, job.manifest.positive_class
    tables = {
        "scores": score_table(models, names),
        "operating_points": operating_table(models, positive),
        "calibration": calibration_table(models),
        "subgroups": subgroup_table(models, subgroups(job.manifest, rows), positive),
    }
    if len(models) == 2:
        tables["differences"] = difference_table(models[0], models[1], names)
    for model in models:
        stem = "predictions" if model is models[0] else "predictions_hand_made"
        tables[stem] = prediction_table(model, rows, job.manifest)
    return tables


def _seeds(item: FinishedSplit, split: Split, winner: Judged, job: SplitJob) -> dict[str, pd.DataFrame]:
    """The winner's scores for each seed, where it was retrained with more than one."""
    if not item.seeds:
        return {}
    rows = [{"seed": "first", **plain_scores(winner.point, job.manifest.class_names)}]
    one = np.ones((1, len(split.parts["test"])))
    for path in item.seeds:
        judged_logits, decisions = _logits(open_checkpoint(path, device=job.device), split, job)
        judged = judge("seed", judged_logits, winner.targets, one, decisions=decisions, sha256="")
        rows.append({"seed": path.parent.name, **plain_scores(judged.point, job.manifest.class_names)})
    table = pd.DataFrame(rows)
    spread = [{"seed": name, **getattr(table.drop(columns="seed"), name)().to_dict()} for name in ("mean", "std")]
    return {"seeds": pd.concat([table, pd.DataFrame(spread)], ignore_index=True)}


def _explain(predictor: Predictor, split: Split, winner: Judged, folder: Path, job: SplitJob) -> list[str]:
    """Contact sheet and pointing game of the test part; a line for the notes where lesions are annotated."""
    from tune_btxrd.evaluation.explain import explain_part, part_of

    part = part_of("test", split.parts["test"], winner.logits, cache=job.cache, manifest=job.manifest)
    title = f"{job.manifest.dataset}, test part of {split.name}"
    found = explain_part(predictor, part, folder / "explain", split=split.name, title=title)
    return [*([f"Where the winner looks: {found.pointing}"] if found.pointing else []), *found.notes]


def _notes(split: Split, opened: int, groups: int, info: ModelInfo, job: SplitJob) -> list[str]:
    searched = read_settings(job.results).get("searched")
    return [
        opening_note(split, opened),
        *chosen_note(split, job.results / "splits" / f"{searched}.csv" if searched else None),
        *interval_notes(job.groups, groups, job.replicates),
        *reference_note(split, job.manifest, backbone=info.backbone, image_size=info.image_size),
    ]


def _write(evaluation: SplitEvaluation, split: Split, job: SplitJob) -> None:
    from tune_btxrd.evaluation.score_figures import draw_figures

    folder, names = evaluation.folder, job.manifest.class_names
    for stem, table in evaluation.tables.items():
        write_whole(folder / f"{stem}.csv", table.to_csv(index=False))
    times = "once" if evaluation.opened == 1 else f"{evaluation.opened} times"
    title = f"{job.manifest.dataset}, test part of {split.name} (n = {sum(evaluation.counts)}, opened {times})"
    draw_figures(evaluation.models, folder, title=title, class_names=names, positive_class=job.manifest.positive_class)
    summary = {
        "split": split.name,
        "opened": evaluation.opened,
        "images": dict(zip(names, evaluation.counts, strict=True)),
        "notes": evaluation.notes,
        "checkpoints": {model.name: model.checkpoint_sha256 for model in evaluation.models},
        "scores": json.loads(evaluation.tables["scores"].to_json(orient="records")),
    }
    write_whole(folder / "summary.json", json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
