"""The test part of one split: what can fail is tried first, then it is opened, logged, scored and written, then drawn.

Only `evaluate` comes here.
"""
# (shape suffixes: weights_RN)

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from tune_btxrd.data.cache.cache import ImageCache
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers.current_holdout import CurrentHoldout
from tune_btxrd.data.splits.groups import GroupKind
from tune_btxrd.data.splits.splits import HOLDOUT, Split
from tune_btxrd.errors import ResultError, TuneBtxrdError, first_line
from tune_btxrd.evaluation.fold_ensemble import open_for_test
from tune_btxrd.evaluation.notes import (
    chosen_note,
    interval_notes,
    label_notes,
    opening_note,
    plain_scores,
    prediction_table,
    reference_note,
)
from tune_btxrd.evaluation.openings import log_opening, read_openings, reserve
from tune_btxrd.files import file_sha256, write_whole
from tune_btxrd.inference.model_info import ModelInfo
from tune_btxrd.inference.open_average import open_any
from tune_btxrd.inference.open_model import Predictor
from tune_btxrd.labels.store import LabelStore
from tune_btxrd.results.checkpoints import HAND_MADE, WINNER, FinishedSplit
from tune_btxrd.results.member_list import FOLD_ENSEMBLE
from tune_btxrd.scoring.cells import AVERAGES
from tune_btxrd.scoring.collapse import collapse_warnings
from tune_btxrd.scoring.csv_tables import to_csv
from tune_btxrd.scoring.decisions import Decisions, fit_decisions
from tune_btxrd.scoring.fitted_tables import calibration_table, operating_table
from tune_btxrd.scoring.intervals import draw_weights
from tune_btxrd.scoring.label_metrics import label_table
from tune_btxrd.scoring.metrics import Metric
from tune_btxrd.scoring.score_tables import Judged, average_table, difference_table, judge, part_scores, score_table
from tune_btxrd.scoring.subgroups import subgroup_table, subgroups
from tune_btxrd.search.record import read_settings
from tune_btxrd.training.source import Source

BYTES, BYTES_PER_IMAGE = 2**22, 2**10  # of tables and pictures; of an image in the tables


@dataclass(frozen=True, kw_only=True)
class SplitEvaluation:
    """One split's test part, opened and scored.

    Attributes:
        split: its name; folder: where tables and pictures lie.
        opened: how often this test part has been opened for this search, this time included.
        images: of the test part; counts: those with each class or label.
        models: the winner; where it is another config, the hand-made one; ensemble and soup, where they were made.
        tables: file stem ("scores", "differences", ...) -> table.
        notes: what a reader must know beside the numbers, one line each.
        warnings: what says that the model does not work there; before all else.
        failures: what could not be written or drawn after the opening.
    """

    split: str
    folder: Path
    opened: int
    images: int
    counts: tuple[int, ...]
    models: tuple[Judged, ...]
    tables: dict[str, pd.DataFrame]
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()

    @property
    def winner(self) -> Judged:
        """The winner on this test part."""
        return self.models[0]


@dataclass(frozen=True, kw_only=True)
class Holdout:
    """A label store's hold-out as it is labelled now; notes for the reader of scores.

    Attributes:
        caches: size -> where its images are decoded, where they were labelled after the search began; else empty.
    """

    labelled: CurrentHoldout
    caches: Mapping[int, ImageCache] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SplitJob:
    """What is the same for every split of a search."""

    results: Path
    manifest: Manifest
    source: Source
    numbers: np.ndarray  # (dataset,) group per image
    groups: GroupKind
    replicates: int
    seed: int
    device: str
    advance: Callable[[int], None]
    holdout: "Holdout | None" = None  # of a label store, where its own split is evaluated

    def pixels(self, split: Split, part: str, image_size: int) -> ImageCache:
        """Where the images of a part are decoded: those of a hold-out may have been labelled after the search began.

        Raises:
            DataError: not at this size.
        """
        apart = self.holdout.caches if self.holdout and (split.name, part) == (HOLDOUT, "test") else {}
        return apart.get(image_size) or self.source.images(image_size)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A model that is about to be scored: everything that its validation part decides is decided."""

    predictor: Predictor
    decisions: Decisions
    validation: dict[Metric, float]


@dataclass(frozen=True, kw_only=True)
class SealedSplit:
    """A split whose test part can be opened: all that can fail without looking at it has been done.

    Attributes:
        rows, targets: of the test images in the dataset; weights: of the bootstrap's draws.
        models: name -> the candidate; seeds: further seeds of the winner.
        notes: what is known beside the scores; how often the part was opened comes before them.
    """

    item: FinishedSplit
    split: Split
    folder: Path
    rows: np.ndarray
    targets: np.ndarray
    weights: np.ndarray  # (R, N)
    models: dict[str, Candidate]
    seeds: dict[str, Candidate]
    notes: tuple[str, ...]


def require_test_parts(splits: Iterable[Split]) -> None:
    """Raises ResultError for a split that has no test part."""
    for split in splits:
        if not split.parts["test"]:
            raise ResultError(
                f"An evaluation needs a test part, but {split.name!r} has none: leave it out with --splits, or begin a "
                "search on a dataset or a split (`run --splits stratified`) that has one."
            )


def prepare_split(item: FinishedSplit, split: Split, job: SplitJob) -> SealedSplit:
    """Opens every model, fits its decisions on the validation part, and tries folder, log and disk. No test pixel is read.

    Raises:
        ResultError: a model that is damaged or of another dataset, a folder that cannot be written.
        DataError: the cache lacks an image of the split.
    """
    test = split.parts["test"]
    folder, rows = item.folder / "evaluation", job.manifest.rows(test)
    read_openings(folder)
    if split.name == HOLDOUT:
        LabelStore(job.manifest.root).close()  # the opening is logged there: it must be writable
    reserve(folder, BYTES + BYTES_PER_IMAGE * len(test))
    models = {name: _candidate(path, split, job) for name, path in item.models.items()}
    folds, folds_note = open_for_test(item.folder.parent, split, job.manifest, results=job.results, device=job.device)
    if folds is not None and folds.info.decisions is not None:  # fitted out of fold: this validation part was trained on
        models[FOLD_ENSEMBLE] = Candidate(predictor=folds, decisions=folds.info.decisions, validation={})
    for candidate in models.values():
        job.pixels(split, "test", candidate.predictor.info.image_size).rows(test)
    winner = models[WINNER]
    groups = len(np.unique(job.numbers[rows]))
    return SealedSplit(
        item=item,
        split=split,
        folder=folder,
        rows=rows,
        targets=job.manifest.targets[rows],
        weights=draw_weights(job.numbers[rows], replicates=job.replicates, seed=job.seed),
        models=models,
        seeds={path.parent.name: _candidate(path, split, job) for path in item.seeds},
        notes=(
            *_notes(split, groups, winner.predictor.info, job),
            *folds_note,
            *winner.decisions.notes(job.manifest.class_names),
        ),
    )


def open_split(sealed: SealedSplit, job: SplitJob) -> SplitEvaluation:
    """Logs the opening, scores every model and writes the tables. Pictures are drawn later, by `illustrate`."""
    opened = _log(sealed, job)
    models = [_judged(name, candidate, sealed, sealed.weights, job) for name, candidate in sealed.models.items()]
    tables = _tables(models, sealed.rows, job) | _seeds(sealed, models[0], job)
    for table in tables.values():
        table["opened"] = opened
    names, decisions = job.manifest.class_names, models[0].decisions
    asked = [names[index] for index in decisions.asked]
    evaluation = SplitEvaluation(
        split=sealed.split.name,
        folder=sealed.folder,
        opened=opened,
        counts=tuple(job.manifest.task.counts(sealed.targets, len(names)).tolist()),
        models=tuple(models),
        tables=tables,
        images=len(sealed.rows),
        notes=(opening_note(sealed.split, opened), *label_notes(models[0], names), *sealed.notes),
        warnings=tuple(collapse_warnings(tables["scores"], asked)),
    )
    return _written(evaluation, job)


def _log(sealed: SealedSplit, job: SplitJob) -> int:
    """How often these images have been opened, this time included; a hold-out's openings are counted in its store too."""
    checkpoints = {
        name: candidate.predictor.info.checkpoint_sha256 for name, candidate in (sealed.models | sealed.seeds).items()
    }
    split, images, elsewhere, event = sealed.split.name, len(sealed.rows), 0, None
    if split == HOLDOUT:
        event = job.holdout.labelled.event if job.holdout else job.manifest.event
        with LabelStore(job.manifest.root) as store:
            elsewhere = store.log_opening(
                search=job.results.name, split=split, checkpoints=checkpoints, images=images, event=event
            )
    return log_opening(
        sealed.folder,
        split=split,
        split_sha256=file_sha256(job.results / "splits" / f"{sealed.item.stem}.csv"),
        checkpoints=checkpoints,
        images=images,
        elsewhere=elsewhere,
        event=event,
    )


def illustrate(evaluation: SplitEvaluation, sealed: SealedSplit, job: SplitJob) -> SplitEvaluation:
    """Draws the pictures of a scored split; what cannot be drawn is a failure that is told, and costs no score."""
    from tune_btxrd.evaluation.score_figures import draw_figures

    names, failures, notes = job.manifest.class_names, list(evaluation.failures), list(evaluation.notes)
    times = "once" if evaluation.opened == 1 else f"{evaluation.opened} times"
    title = f"{job.manifest.dataset}, test part of {evaluation.split} (n = {evaluation.images}, opened {times})"
    try:
        positive = job.manifest.positive_class
        drawn = [model for model in evaluation.models if model.name not in AVERAGES]  # more lines than a picture bears
        draw_figures(drawn, evaluation.folder, title=title, class_names=names, positive_class=positive)
    except (TuneBtxrdError, OSError) as error:
        failures.append(f"The pictures of {evaluation.split} could not be written: {first_line(error)}")
    try:
        notes += _explain(sealed.models[WINNER].predictor, sealed.split, evaluation.winner, evaluation.folder, job)
    except (TuneBtxrdError, OSError) as error:
        failures.append(f"The heat maps of {evaluation.split} could not be made: {first_line(error)}")
    return _summarised(replace(evaluation, notes=tuple(notes), failures=tuple(failures)), job)


def _candidate(path: Path, split: Split, job: SplitJob) -> Candidate:
    """A checkpoint with what the validation part decides. Raises: ResultError where it is of another dataset."""
    predictor, manifest = open_any(path, device=job.device), job.manifest
    info, sides = predictor.info, job.source.sides
    if info.class_names != manifest.class_names or info.image_size not in sides:
        found = f"{', '.join(info.class_names)} at {info.image_size} px"
        wanted = f"{', '.join(manifest.class_names)} at {', '.join(map(str, sides))} px"
        raise ResultError(f"A checkpoint must be of this dataset ({wanted}), but {path} is of {found}: retrain.")
    logits = _logits(predictor, split, "val", job)
    targets = manifest.targets[manifest.rows(split.parts["val"])]
    decisions = fit_decisions(logits, targets, positive_class=manifest.positive_class, task=manifest.task)
    validation = part_scores(logits, targets, decisions=decisions)
    fitted = replace(predictor, info=replace(info, decisions=decisions))
    return Candidate(predictor=fitted, decisions=decisions, validation=validation)


def _judged(name: str, candidate: Candidate, sealed: SealedSplit, weights: np.ndarray, job: SplitJob) -> Judged:
    logits, sha256 = _logits(candidate.predictor, sealed.split, "test", job), candidate.predictor.info.checkpoint_sha256
    judged = judge(name, logits, sealed.targets, weights, decisions=candidate.decisions, sha256=sha256)
    return replace(judged, validation=candidate.validation)


def _logits(predictor: Predictor, split: Split, part: str, job: SplitJob) -> np.ndarray:
    """(N, C) logits of a part."""
    before = 0

    def report(done: int, _: int) -> None:
        nonlocal before
        job.advance(done - before)
        before = done

    cache = job.pixels(split, part, predictor.info.image_size)
    return predictor.logits(cache.images, cache.rows(split.parts[part]), progress=report)


def _tables(models: Sequence[Judged], rows: np.ndarray, job: SplitJob) -> dict[str, pd.DataFrame]:
    names = job.manifest.class_names
    tables = {
        "scores": score_table(models, names),
        "operating_points": operating_table(models, names),
        "calibration": calibration_table(models, names),
        "subgroups": subgroup_table(models, subgroups(job.manifest, rows), names),
    }
    if models[0].decisions.labels:
        tables["labels"] = label_table(models[0].answers, names)
    known = {model.name: model for model in models}
    if HAND_MADE in known:
        tables["differences"] = difference_table(models[0], known[HAND_MADE], names)
    if averages := [model for model in models if model.name in AVERAGES]:
        tables["averages"] = average_table(averages, models[0], names)
    for model in models:
        stem = "predictions" if model is models[0] else f"predictions_{re.sub(r'[^a-z]', '_', model.name)}"
        tables[stem] = prediction_table(model, rows, job.manifest)
    return tables


def _seeds(sealed: SealedSplit, winner: Judged, job: SplitJob) -> dict[str, pd.DataFrame]:
    """The winner's scores for each seed, where it was retrained with more than one."""
    if not sealed.seeds:
        return {}
    names, one = job.manifest.class_names, np.ones((1, len(sealed.rows)))
    judged = {name: _judged("seed", candidate, sealed, one, job) for name, candidate in sealed.seeds.items()}
    rows = [{"seed": "first", **plain_scores(winner.point, names)}]
    rows += [{"seed": name, **plain_scores(item.point, names)} for name, item in judged.items()]
    table = pd.DataFrame(rows)
    spread = [{"seed": name, **getattr(table.drop(columns="seed"), name)().to_dict()} for name in ("mean", "std")]
    return {"seeds": pd.concat([table, pd.DataFrame(spread)], ignore_index=True)}


def _explain(predictor: Predictor, split: Split, winner: Judged, folder: Path, job: SplitJob) -> list[str]:
    """Contact sheet and pointing game of the test part; a line for the notes where lesions are annotated."""
    from tune_btxrd.evaluation.explain import explain_part, part_of

    cache = job.pixels(split, "test", predictor.info.image_size)
    part = part_of("test", split.parts["test"], winner.logits, cache=cache, manifest=job.manifest)
    title = f"{job.manifest.dataset}, test part of {split.name}"
    found = explain_part(predictor, part, folder / "explain", split=split.name, title=title)
    return [*([f"Where the winner looks: {found.pointing}"] if found.pointing else []), *found.notes]


def _notes(split: Split, groups: int, info: ModelInfo, job: SplitJob) -> list[str]:
    searched = read_settings(job.results).get("searched")
    return [
        *(job.holdout.notes if job.holdout and split.name == HOLDOUT else ()),
        *chosen_note(split, job.results / "splits" / f"{searched}.csv" if searched else None),
        *interval_notes(job.groups, groups, job.replicates),
        *reference_note(split, job.manifest, backbone=info.backbone, image_size=info.image_size),
    ]


def _written(evaluation: SplitEvaluation, job: SplitJob) -> SplitEvaluation:
    """Writes every table and the summary; a table that cannot be written now is told, and the others are tried."""
    failures = []
    for stem, table in evaluation.tables.items():
        try:
            write_whole(evaluation.folder / f"{stem}.csv", to_csv(table))
        except ResultError as error:
            failures.append(f"A table of {evaluation.split} is not on the disk: {error}")
    return _summarised(replace(evaluation, failures=tuple(failures)), job)


def _events(split: str, job: SplitJob) -> dict[str, int | None] | None:
    """Of a label store: the last event that the training part rests on, and that of the hold-out; else None."""
    if job.manifest.event is None:
        return None
    tested = job.holdout.labelled.event if job.holdout and split == HOLDOUT else job.manifest.event
    return {"trained": job.manifest.event, "tested": tested}


def _summarised(evaluation: SplitEvaluation, job: SplitJob) -> SplitEvaluation:
    summary = {
        "split": evaluation.split,
        "opened": evaluation.opened,
        "images": dict(zip(job.manifest.class_names, evaluation.counts, strict=True)),
        "events": _events(evaluation.split, job),
        "warnings": evaluation.warnings,
        "notes": evaluation.notes,
        "checkpoints": {model.name: model.checkpoint_sha256 for model in evaluation.models},
        "scores": json.loads(evaluation.tables["scores"].to_json(orient="records")),
    }
    try:
        write_whole(evaluation.folder / "summary.json", json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
    except ResultError as error:
        return replace(evaluation, failures=(*evaluation.failures, f"summary.json is not on the disk: {error}"))
    return evaluation
