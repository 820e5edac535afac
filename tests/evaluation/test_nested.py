"""Nested folds after their searches: scored on outer parts alone, with what inner validation parts decided."""
# ruff: noqa: F811  # pytest hands fixtures over by name

import json

import numpy as np
import pandas as pd
import pytest

from tests.support.finished_labels import LABEL_CONFIG, finished_labels  # noqa: F401  # a fixture
from tests.support.finished_search import CONFIG, Finished, finished, train_one  # noqa: F401  # a fixture
from tune_btxrd.config import TrainConfig
from tune_btxrd.data.splits.folds import make_folds, make_outer
from tune_btxrd.data.splits.groups import group_numbers
from tune_btxrd.data.splits.split_files import save_splits
from tune_btxrd.evaluation.fold_results import FoldResult
from tune_btxrd.evaluation.nested import TOGETHER, UNSEEN, score_nested, write_optimism
from tune_btxrd.inference.open_model import open_checkpoint
from tune_btxrd.inference.predict import predict_files
from tune_btxrd.results.checkpoints import plan_jobs, write_log
from tune_btxrd.search.columns import named_row
from tune_btxrd.training.checkpoint import load
from tune_btxrd.training.slot import Slot

K = 2


@pytest.fixture(scope="module")
def nested(finished: Finished) -> FoldResult:
    """Two outer folds of the toy dataset, each with one training of two epochs, scored."""
    return trained(finished, CONFIG)


def trained(finished: Finished, config: TrainConfig) -> FoldResult:
    manifest, root = finished.manifest, finished.checkpoints.parent / "nested_folds"
    numbers = group_numbers(manifest, (), "duplicates")
    ids = [manifest.image_ids[row] for row in np.flatnonzero(manifest.is_labelled)]
    folds = make_folds(manifest, ids, numbers=numbers, count=K, seed=42)
    outer = make_outer(manifest, folds, numbers=numbers, seed=42)
    save_splits(outer, finished.results / "splits", manifest=manifest, numbers=numbers)
    jobs, slot = plan_jobs(root, {s.name: s.name for s in outer}, config, None, seeds=1), Slot(device="cpu", threads=1)
    for job in jobs:
        train_one(slot, finished.source, job.stem, config, job.best)
        history = [manifest.task.record.from_dict(row) for row in load(job.best)["history"]]
        write_log(job.folder / "training_log.csv", [named_row(row, manifest.class_names) for row in history])
    return score_nested(
        jobs,
        splits=[finished.results / "splits" / f"{job.stem}.csv" for job in jobs],
        folder=root / "nested",
        manifest=manifest,
        source=finished.source,
        numbers=numbers,
        device="cpu",
    )


def test_each_winner_is_scored_on_its_outer_part(nested: FoldResult, finished: Finished) -> None:
    every = pd.read_csv(nested.folder / "out_of_fold" / "predictions.csv").set_index("image_id")
    assert every.index.tolist() == list(finished.manifest.image_ids)
    columns = [f"logit_{name}" for name in finished.manifest.class_names]
    for number in (1, 2):
        stem = f"outer_{number}_of_2"
        split = pd.read_csv(finished.results / "splits" / f"{stem}.csv")
        own = pd.read_csv(nested.folder / stem / "predictions.csv").set_index("image_id")
        assert set(own.index) == set(split.loc[split["part"] == "test", "image_id"])
        pd.testing.assert_frame_equal(every.loc[own.index, columns], own[columns])
        assert set(every.loc[own.index, "fold"]) == {f"{number}/2"}
        model = open_checkpoint(nested.folder.parent / f"best_{stem}.pt", device="cpu")
        row = finished.manifest.rows([own.index[0]])[0]
        found = predict_files(model, [finished.manifest.files[row]])
        np.testing.assert_allclose(own[columns].iloc[0], found.logits[0], atol=1e-4)


def test_calibration_is_of_the_inner_validation_part(nested: FoldResult, finished: Finished) -> None:
    for number, fold in enumerate(nested.folds, start=1):
        content = json.loads((nested.folder / f"outer_{number}_of_2" / "metrics.json").read_text())
        assert fold.decisions.images == content["images"]["val"] < content["images"]["outer"] == len(fold.logits)
        assert sum(content["images"].values()) == len(finished.manifest)
    assert nested.pooled.decisions.images == sum(fold.decisions.images for fold in nested.folds)
    assert nested.notes == (UNSEEN, TOGETHER) and nested.table["note"].str.contains(UNSEEN).all()
    learned = nested.table["train_images"][:2].astype(int) + nested.table["val_images"][:2].astype(int)
    assert set(learned) == {len(finished.manifest)}


def test_both_scores_stand_beside_each_other(nested: FoldResult) -> None:
    other = nested.folder.parent / "folds.csv"
    better = nested.table.drop(columns="macro_f1").copy()
    better["macro_auc"] += 0.125
    better.to_csv(other, index=False)
    found = write_optimism(nested.folder / "folds.csv", other).set_index("score")
    assert found.at["macro_auc", "difference"] == pytest.approx(0.125) and found.at["accuracy", "difference"] == 0
    assert "macro_f1" not in found.index and not {"train_images", "val_images", "note"} & set(found.index)
    assert (nested.folder / "optimism.csv").is_file()


def test_nested_folds_of_independent_labels(finished_labels: Finished) -> None:
    found, manifest = trained(finished_labels, LABEL_CONFIG.replace(epochs=1)), finished_labels.manifest
    table = pd.read_csv(found.folder / "out_of_fold" / "predictions.csv")
    assert len(table) == manifest.is_labelled.sum() and "prob_left_side" in table and "macro_auc" in found.table
    for number, fold in enumerate(found.folds, start=1):
        content = json.loads((found.folder / f"outer_{number}_of_2" / "metrics.json").read_text())
        assert fold.decisions.images == content["images"]["val"] and len(fold.decisions.labels) == 3
    assert len(found.lines(manifest)) == 2
