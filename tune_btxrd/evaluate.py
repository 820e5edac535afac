"""evaluate NAME: the only verb that scores a model on a test part. Winner and hand-made config, per split, with intervals.

checkpoints/<name>/<split>/evaluation/
    test_log.json                                every opening of the test part: when, checkpoints, split, count
    scores.csv differences.csv                   metrics with intervals; winner minus hand-made, paired
    operating_points.csv calibration.csv         fitted on validation, applied here
    subgroups.csv seeds.csv                      by center, view, region, sex, age, type; further seeds of the winner
    predictions.csv predictions_hand_made.csv    one row per test image
    confusion.png roc.png pr.png reliability.png explain/
    summary.json                                 the same for other programs
checkpoints/<name>/evaluation/gap.csv            first split minus the others
"""
# ruff: noqa: N806
# (shape suffixes: logits_NC, weights_RN)

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tune_btxrd.data.cache import ImageCache
from tune_btxrd.data.facts import check_facts, is_complete
from tune_btxrd.data.groups import GroupKind, Pair, group_numbers, names_persons
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.split_files import load_split
from tune_btxrd.data.splits import Split
from tune_btxrd.errors import ResultError
from tune_btxrd.finished import WINNER, FinishedSplit, chosen_splits, source_of
from tune_btxrd.model_card import MANIFEST_FILE, write_card
from tune_btxrd.portable import Predictor, file_sha256, open_checkpoint
from tune_btxrd.scoring.decisions import Decisions, fit_decisions
from tune_btxrd.scoring.intervals import REPLICATES, draw_weights, percentile_interval
from tune_btxrd.scoring.metrics import Metric, scores
from tune_btxrd.scoring.reference import reference_for
from tune_btxrd.scoring.subgroups import subgroup_table, subgroups
from tune_btxrd.scoring.tables import (
    Judged,
    calibration_table,
    difference_table,
    gap_table,
    judge,
    operating_table,
    score_table,
)
from tune_btxrd.search.parts import Source
from tune_btxrd.search.trials import read_settings, write_whole
from tune_btxrd.test_log import log_opening

Progress = Callable[[int, int], None]
"""Called with (images scored, images in all)."""


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
class _Job:
    """What is the same for every split."""

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


def evaluate_search(
    checkpoints: Path,
    *,
    results: Path,
    manifest: Manifest,
    pairs: Iterable[Pair] = (),
    source: Source | None = None,
    splits: Sequence[str] | None = None,
    replicates: int = REPLICATES,
    seed: int = 42,
    device: str = "auto",
    progress: Progress | None = None,
) -> Evaluation:
    """Opens the test part of every split, scores winner and hand-made config on it, and writes tables and pictures; the
    model card of an export learns the scores.

    Every opening is logged before a pixel is read; whoever calls has asked the user.

    Args:
        checkpoints: the folder `checkpoints/<name>`; results: the folder `ray_results/<name>`.
        manifest: the dataset, for groups and subgroups; pairs: its duplicate images.
        source: where pixels lie; default: as `search.json` says.
        splits: names of those to evaluate; default: all that were retrained.
        replicates: bootstrap draws; seed: decides them.

    Raises:
        ResultError: no checkpoints, a damaged one, an unknown split, a folder that cannot be written.
        DataError: the cache is gone, or the split does not fit the dataset.
    """
    source = source or source_of(results)
    chosen = chosen_splits(checkpoints, splits)
    parts = {item.stem: load_split(results / "splits" / f"{item.stem}.csv", manifest, name=item.name) for item in chosen}
    groups: GroupKind = "patients" if names_persons(manifest) or manifest.groups is not None else "duplicates"
    job = _Job(
        results=results,
        manifest=manifest,
        source=source,
        cache=ImageCache.open(Path(source.cache)),
        numbers=group_numbers(manifest, pairs, groups),
        groups=groups,
        replicates=replicates,
        seed=seed,
        device=device,
        advance=_counter(chosen, parts, progress),
    )
    evaluated = tuple(_evaluate_split(item, parts[item.stem], job) for item in chosen)
    for item in chosen:
        if (item.folder / "export" / MANIFEST_FILE).is_file():
            write_card(item.folder / "export", results=results, split_folder=item.folder)
    gap = _gap(evaluated, list(parts.values()), job)
    if len(gap):
        gap["opened"] = max(item.opened for item in evaluated)
        write_whole(checkpoints / "evaluation" / "gap.csv", gap.to_csv(index=False))
    return Evaluation(
        splits=evaluated,
        gap=gap,
        groups=groups,
        class_names=manifest.class_names,
        positive_class=manifest.positive_class,
    )


def _evaluate_split(item: FinishedSplit, split: Split, job: _Job) -> SplitEvaluation:
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
        counts=tuple(np.bincount(targets, minlength=len(job.manifest.class_names)).tolist()),
        models=tuple(models),
        tables=tables,
        notes=(*_notes(split, opened, len(np.unique(job.numbers[rows])), predictors[WINNER], job), *explained),
    )
    _write(evaluation, split, job)
    return evaluation


def _logits(predictor: Predictor, split: Split, job: _Job) -> tuple[np.ndarray, Decisions]:
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
    return logits, fit_decisions(val_logits, job.manifest.targets[job.manifest.rows(val)], positive_class=positive)


def _tables(models: Sequence[Judged], rows: np.ndarray, job: _Job) -> dict[str, pd.DataFrame]:
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


def prediction_table(model: Judged, rows: np.ndarray, manifest: Manifest) -> pd.DataFrame:
    """One row per test image: label, prediction, logits, probabilities, calibrated ones, calls at operating points."""
    names = manifest.class_names
    columns: dict[str, Any] = {
        "image_id": [manifest.image_ids[row] for row in rows],
        "label": [names[target] for target in model.targets],
        "predicted": [names[index] for index in model.predicted],
    }
    calibrated = model.decisions.calibration.probabilities(model.logits)
    for prefix, values in (("logit", model.logits), ("probability", model.probabilities), ("calibrated", calibrated)):
        columns |= {f"{prefix}_{name}": values[:, index] for index, name in enumerate(names)}
    columns |= {
        f"{names[manifest.positive_class]} at {name}": call for name, call in model.decisions.calls(model.logits).items()
    }
    return pd.DataFrame(columns)


def _seeds(item: FinishedSplit, split: Split, winner: Judged, job: _Job) -> dict[str, pd.DataFrame]:
    """The winner's scores for each seed, where it was retrained with more than one."""
    if not item.seeds:
        return {}
    rows = [{"seed": "first", **_plain_scores(winner.point, job.manifest.class_names)}]
    one = np.ones((1, len(split.parts["test"])))
    for path in item.seeds:
        judged_logits, decisions = _logits(open_checkpoint(path, device=job.device), split, job)
        judged = judge("seed", judged_logits, winner.targets, one, decisions=decisions, sha256="")
        rows.append({"seed": path.parent.name, **_plain_scores(judged.point, job.manifest.class_names)})
    table = pd.DataFrame(rows)
    spread = [{"seed": name, **getattr(table.drop(columns="seed"), name)().to_dict()} for name in ("mean", "std")]
    return {"seeds": pd.concat([table, pd.DataFrame(spread)], ignore_index=True)}


def _plain_scores(point: dict[Metric, float], names: Sequence[str]) -> dict[str, float]:
    return {m.name if m.class_index is None else f"{m.name} {names[m.class_index]}": value for m, value in point.items()}


def _explain(predictor: Predictor, split: Split, winner: Judged, folder: Path, job: _Job) -> list[str]:
    """Contact sheet and pointing game of the test part; a line for the notes where lesions are annotated."""
    from tune_btxrd.explain import explain_part, part_of

    part = part_of("test", split.parts["test"], winner.logits, cache=job.cache, manifest=job.manifest)
    title = f"{job.manifest.dataset}, test part of {split.name}"
    found = explain_part(predictor, part, folder / "explain", split=split.name, title=title)
    return [f"Where the winner looks: {found.pointing}"] if found.pointing else []


def _notes(split: Split, opened: int, groups: int, winner: Predictor, job: _Job) -> list[str]:
    times = "once" if opened == 1 else f"{opened} times"
    notes = [f"The test part of {split.name!r} has been opened {times} for this search."]
    searched = read_settings(job.results).get("searched")
    if searched and (path := job.results / "splits" / f"{searched}.csv").is_file():
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        seen = set(table.loc[table["part"].isin(["train", "val"]), "image_id"]) & set(split.parts["test"])
        if seen:
            notes.append(f"config chosen on {len(seen)} images of this test part")
    counted = f"{groups} groups ({job.groups})"
    notes.append(f"Bootstrap: {job.replicates} draws of {counted}; single proportions: Clopper-Pearson and Wilson.")
    if job.groups != "patients":
        notes.append("The dataset does not tell patients apart, so intervals are too narrow where one has several images.")
    reference = reference_for(split.parts["test"])
    if reference and is_complete(job.manifest) and not check_facts(job.manifest):
        notes.append(f"{reference}; ours: {winner.info.backbone} at {winner.info.image_size} px, searched")
    return notes


def _gap(evaluated: Sequence[SplitEvaluation], splits: Sequence[Split], job: _Job) -> pd.DataFrame:
    """Both test parts see the same drawn groups of their union, so that patients in both are drawn for both."""
    if len(evaluated) < 2:
        return pd.DataFrame()
    rows = [job.manifest.rows(split.parts["test"]) for split in splits]
    union = np.unique(np.concatenate(rows))
    weights_RN = draw_weights(job.numbers[union], replicates=job.replicates, seed=job.seed)
    draws = {}
    for item, own in zip(evaluated, rows, strict=True):
        columns = np.searchsorted(union, own)
        draws[item.split] = scores(item.winner.probabilities, item.winner.targets, weights_RN[:, columns])
    return gap_table({item.split: item.winner for item in evaluated}, draws, job.manifest.class_names)


def summary_rows(evaluation: SplitEvaluation, class_names: Sequence[str], positive_class: int) -> list[tuple[str, ...]]:
    """For the screen: metric, winner, hand-made, difference, each with its 95 % interval; of the classes, the positive."""
    wanted = [metric for metric in evaluation.winner.point if metric.class_index in (None, positive_class)]
    rows = []
    for metric in wanted:
        name = metric.name if metric.class_index is None else f"{metric.name} {class_names[positive_class]}"
        cells = [f"{model.point[metric]:.3f} ({model.interval(metric)})" for model in evaluation.models]
        if len(evaluation.models) == 2:
            one, other = evaluation.models
            drawn = percentile_interval(one.draws[metric] - other.draws[metric])
            cells.append(f"{one.point[metric] - other.point[metric]:+.3f} ({drawn.low:+.3f} to {drawn.high:+.3f})")
        rows.append((name.replace("_", " "), *cells))
    return rows


def _write(evaluation: SplitEvaluation, split: Split, job: _Job) -> None:
    from tune_btxrd.scoring.figures import draw_figures

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


def _counter(chosen: Sequence[FinishedSplit], parts: dict[str, Split], progress: Progress | None) -> Callable[[int], None]:
    """Adds up images over all splits and models."""
    done, total = 0, 0
    for item in chosen:
        images = len(parts[item.stem].parts["val"]) + len(parts[item.stem].parts["test"])
        total += images * (len(item.models) + len(item.seeds))

    def advance(images: int) -> None:
        nonlocal done
        done += images
        if progress is not None:
            progress(done, total)

    return advance
