"""Folds after their training: files per fold, the table, out of fold, the ensemble, and what other verbs say of folds."""
# ruff: noqa: F811  # pytest hands fixtures over by name

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.support.finished_labels import LABEL_CONFIG, finished_labels  # noqa: F401  # a fixture
from tests.support.finished_search import CONFIG, Finished, finished, train_one  # noqa: F401  # a fixture
from tune_btxrd.config import TrainConfig
from tune_btxrd.data.splits.folds import make_folds
from tune_btxrd.data.splits.groups import group_numbers
from tune_btxrd.data.splits.split_files import save_splits, split_stem
from tune_btxrd.data.splits.splits import Split
from tune_btxrd.errors import ResultError
from tune_btxrd.evaluation.evaluate import seal_search
from tune_btxrd.evaluation.fold_ensemble import open_for_test, write_fold_ensemble
from tune_btxrd.evaluation.fold_results import FoldResult
from tune_btxrd.evaluation.folds import BEST_HERE, CHOSEN_HERE, score_folds
from tune_btxrd.inference.ensemble import predict_with_folds
from tune_btxrd.inference.export import export_search
from tune_btxrd.inference.open_model import open_checkpoint
from tune_btxrd.inference.predict import image_files, predict_files
from tune_btxrd.pipeline.predict_images import predict_images
from tune_btxrd.results.checkpoints import RetrainJob, finished_splits, fold_checkpoints, plan_jobs, write_log
from tune_btxrd.results.member_list import MemberList
from tune_btxrd.search.columns import named_row
from tune_btxrd.tasks.multiclass import MULTICLASS
from tune_btxrd.tasks.registry import TASKS
from tune_btxrd.tasks.task import Task
from tune_btxrd.training.checkpoint import load
from tune_btxrd.training.slot import Slot

K = 3


@pytest.fixture(scope="module")
def folds(finished: Finished) -> tuple[list[RetrainJob], FoldResult]:
    """Three folds of the toy dataset, trained for two epochs each, and scored."""
    return trained_folds(finished, CONFIG)


def trained_folds(finished: Finished, config: TrainConfig) -> tuple[list[RetrainJob], FoldResult]:
    manifest, root = finished.manifest, finished.checkpoints.parent / "folds"
    numbers = group_numbers(manifest, (), "duplicates")
    ids = [manifest.image_ids[row] for row in np.flatnonzero(manifest.is_labelled)]
    made = make_folds(manifest, ids, numbers=numbers, count=K, seed=42)
    save_splits(made, finished.results / "splits", manifest=manifest, numbers=numbers)
    stems = {fold.name: split_stem(fold.name) for fold in made}
    jobs, slot = plan_jobs(root, stems, config, None, seeds=1, is_fold=True), Slot(device="cpu", threads=1)
    for job in jobs:
        train_one(slot, finished.source, job.stem, config, job.best)
        history = [manifest.task.record.from_dict(row) for row in load(job.best)["history"]]
        write_log(job.folder / "training_log.csv", [named_row(row, manifest.class_names) for row in history])
    found = score_folds(
        jobs,
        results=finished.results,
        manifest=manifest,
        source=finished.source,
        numbers=numbers,
        is_chosen=True,
        device="cpu",
    )
    return jobs, found


def test_folds_of_independent_labels(finished_labels: Finished) -> None:
    jobs, found = trained_folds(finished_labels, LABEL_CONFIG.replace(epochs=1))
    manifest = finished_labels.manifest
    files = image_files([finished_labels.data / "images"])[:10]
    ensemble = predict_images(found.folder, files, device="cpu")
    each = np.stack([predict_files(open_checkpoint(job.best), files).calibrated for job in jobs])
    np.testing.assert_allclose(ensemble.probabilities, each.mean(axis=0), atol=1e-6)
    assert (ensemble.predicted == (each.mean(axis=0) >= 0.5)).all() and "spread_left_side" in ensemble.table
    table = pd.read_csv(found.folder / "out_of_fold" / "predictions.csv")
    assert len(table) == manifest.is_labelled.sum() and (found.folder / "folds.png").is_file()
    assert "macro_auc" in pd.read_csv(found.folder / "folds.csv")
    card = export_search(found.folder, results=finished_labels.results, source=finished_labels.source)[0].folder
    assert "| macro_auc |" in (card / "MODEL_CARD.md").read_text()


def test_each_fold_has_its_files(folds: tuple[list[RetrainJob], FoldResult]) -> None:
    jobs, _ = folds
    pictures = ("confusion.png", "roc.png", "pr.png")
    for job in jobs:
        assert job.folder.name == job.stem and job.best.parent == job.folder
        for name in ("metrics.json", "predictions.csv", "predictions.npy", "scores.csv", "training_log.csv", *pictures):
            assert (job.folder / name).stat().st_size > 0
        content = json.loads((job.folder / "metrics.json").read_text())
        assert content["notes"] == [CHOSEN_HERE, BEST_HERE]
        assert [row["epoch"] for row in content["history"]] == list(range(1, len(content["history"]) + 1))
        table, array = pd.read_csv(job.folder / "predictions.csv"), np.load(job.folder / "predictions.npy")
        assert len(table) == len(array) == content["images"]["val"]
        np.testing.assert_allclose(array, table[[name for name in table if name.startswith("probability_")]])


def test_out_of_fold_every_image_is_answered_by_the_fold_that_did_not_train_on_it(
    folds: tuple[list[RetrainJob], FoldResult], finished: Finished
) -> None:
    jobs, found = folds
    table = pd.read_csv(found.folder / "out_of_fold" / "predictions.csv").set_index("image_id")
    assert table.index.tolist() == list(finished.manifest.image_ids)
    for job in jobs:
        split = pd.read_csv(finished.results / "splits" / f"{job.stem}.csv")
        own = pd.read_csv(job.folder / "predictions.csv").set_index("image_id")
        assert set(own.index) == set(split.loc[split["part"] == "val", "image_id"])
        columns = [f"logit_{name}" for name in finished.manifest.class_names]
        pd.testing.assert_frame_equal(table.loc[own.index, columns], own[columns])


def test_the_table_of_folds(folds: tuple[list[RetrainJob], FoldResult]) -> None:
    jobs, found = folds
    table = pd.read_csv(found.folder / "folds.csv")
    assert table["fold"].tolist() == ["1/3", "2/3", "3/3", "mean", "sd", "low", "high"]
    own = [json.loads((job.folder / "metrics.json").read_text())["scores"]["macro_auc"] for job in jobs]
    assert table["macro_auc"].tolist()[:5] == pytest.approx([*own, np.mean(own), np.std(own, ddof=1)])
    assert table["note"].str.startswith(CHOSEN_HERE).all()
    assert (found.folder / "folds.png").stat().st_size > 0


def test_an_ensemble_is_the_mean_of_calibrated_probabilities_with_its_spread(
    folds: tuple[list[RetrainJob], FoldResult], finished: Finished
) -> None:
    jobs, found = folds
    files = image_files([finished.data / "images"])[:40]
    ensemble = predict_images(found.folder, files, device="cpu")
    each = np.stack([predict_files(open_checkpoint(job.best), files).calibrated for job in jobs])
    np.testing.assert_allclose(ensemble.probabilities, each.mean(axis=0), atol=1e-6)
    table, name = ensemble.table, finished.manifest.class_names[1]
    np.testing.assert_allclose(table[f"spread_{name}"], each[:, :, 1].std(axis=0, ddof=1))
    assert (table[f"lowest_{name}"] <= table[f"probability_{name}"] + 1e-6).all() and (table["folds"] == K).all()
    assert table["predicted"].tolist() == [finished.manifest.class_names[i] for i in each.mean(axis=0).argmax(axis=1)]
    spread = each.std(axis=0, ddof=1)
    assert f"on average, at most {spread.max():.3f} ({files[int(spread.max(axis=1).argmax())].name}, " in ensemble.notes[-1]
    assert set(table["rule"]) == {"largest mean of the folds' calibrated probabilities"}
    assert json.loads(ensemble.to_json())["rule"] == ensemble.rule


@pytest.mark.parametrize(
    ("task", "sure"), [(MULTICLASS, [[0.2, 0.3, 0.5], [0, 0, 1]]), (TASKS["multilabel"], [[0.2, 0.9, 0.5], [0, 0, 1]])]
)
def test_logits_of_probabilities_give_them_again(task: Task, sure: list[list[float]]) -> None:
    found = task.logits(np.array(sure, dtype=float))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(task.probabilities(found), sure, atol=1e-7)


def test_what_is_no_whole_set_of_folds_is_refused(
    folds: tuple[list[RetrainJob], FoldResult], finished: Finished, tmp_path: Path
) -> None:
    jobs, found = folds
    part = tmp_path / "part"
    shutil.copytree(found.folder, part)
    with pytest.raises(ResultError, match="Overlays show where one model looks"):
        predict_images(part, [finished.data / "images"], overlays=tmp_path / "overlays")
    (part / jobs[0].stem / "tune_btxrd.json").unlink()
    with pytest.raises(ResultError, match=r"must be calibrated, but fold 1 .* `retrain part --folds 3`"):
        predict_with_folds(part, image_files([finished.data / "images"]))
    shutil.rmtree(part / jobs[1].stem)
    with pytest.raises(ResultError, match=r"lacks fold_2_of_3/best\.pt"):
        fold_checkpoints(part)
    (part / "fold_1_of_5").mkdir()
    (part / "fold_1_of_5" / "best.pt").touch()
    with pytest.raises(ResultError, match=r"one number of folds, but .* holds \[3, 5\]"):
        fold_checkpoints(part)
    assert fold_checkpoints(tmp_path) == []


def test_evaluate_has_nothing_to_open_and_says_where_the_scores_are(
    folds: tuple[list[RetrainJob], FoldResult], finished: Finished
) -> None:
    _, found = folds
    with pytest.raises(ResultError, match=r"holds folds alone: folds\.csv and out_of_fold/"):
        seal_search(found.folder, results=finished.results, source=finished.source, manifest=finished.manifest)


def test_export_and_model_card_know_folds(folds: tuple[list[RetrainJob], FoldResult], finished: Finished) -> None:
    jobs, found = folds
    assert [(item.name, item.is_fold) for item in finished_splits(found.folder)] == [(job.split, True) for job in jobs]
    made = export_search(found.folder, results=finished.results, source=finished.source)
    assert [item.split for item in made] == [job.split for job in jobs]
    card = (made[0].folder / "MODEL_CARD.md").read_text()
    mean = found.table.set_index("fold").at["mean", "macro_auc"]
    assert "fold 1/3: one of 3 models that belong together" in card and CHOSEN_HERE in card
    assert f"| {mean:.3f} |" in card and "The test part has not been opened" not in card


def test_the_folds_as_one_model_are_scored_where_none_of_them_has_learned(
    folds: tuple[list[RetrainJob], FoldResult], finished: Finished
) -> None:
    jobs, found = folds
    folder = write_fold_ensemble(jobs, found.folds)
    listed = MemberList.load(folder)
    assert listed.title == f"fold ensemble of {K}"
    assert [member.name for member in listed.members] == ["fold 1/3", "fold 2/3", "fold 3/3"]
    files = image_files([finished.data / "images"])[:5]
    together, by_folder = predict_images(folder, files, device="cpu"), predict_images(found.folder, files, device="cpu")
    np.testing.assert_allclose(together.probabilities, by_folder.probabilities, atol=1e-6)
    nowhere = {"train": (), "val": (), "test": ()}
    seen = {**nowhere, "test": finished.manifest.image_ids[:7]}
    places = {"results": finished.results, "device": "cpu"}
    model, notes = open_for_test(found.folder, Split(name="a", parts=nowhere), finished.manifest, **places)
    assert model is not None and model.info.decisions is not None and not notes
    model, notes = open_for_test(found.folder, Split(name="b", parts=seen), finished.manifest, **places)
    assert model is None and "saw 7 images of this test part" in notes[0]
