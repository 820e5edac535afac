# ruff: noqa: F811  # pytest hands fixtures over by name
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from tests.support.datasets import SHARED, needs_shared
from tests.support.finished_search import Finished, finished  # noqa: F401  # a fixture
from tune_btxrd.data.cache.cache import ImageCache
from tune_btxrd.data.splits.split_files import load_split
from tune_btxrd.errors import ResultError
from tune_btxrd.evaluation.evaluate import Evaluation, open_test_parts, seal_search, summary_rows
from tune_btxrd.evaluation.openings import log_opening, read_openings
from tune_btxrd.evaluation.reference import reference_for
from tune_btxrd.files import file_sha256
from tune_btxrd.inference.open_model import open_checkpoint


@pytest.fixture(scope="module")
def evaluation(finished: Finished) -> Evaluation:
    return run(finished)


def run(finished: Finished, **changes: object) -> Evaluation:
    given: dict[str, object] = {"source": finished.source}
    given |= {"results": finished.results, "manifest": finished.manifest, "replicates": 200, "device": "cpu"}
    return open_test_parts(seal_search(finished.checkpoints, **(given | changes)))


def test_predictions_are_the_checkpoints_own_on_exactly_the_test_part(evaluation, finished):
    split = load_split(finished.results / "splits" / "center.csv", finished.manifest)
    table = pd.read_csv(finished.checkpoints / "center" / "evaluation" / "predictions.csv")
    assert tuple(table["image_id"]) == split.parts["test"] and len(table) == 32
    cache = ImageCache.open(Path(finished.source.cache))
    logits = open_checkpoint(finished.checkpoint("center")).logits(cache.images, cache.rows(split.parts["test"]))
    found = table[["logit_Normal", "logit_Benign", "logit_Malignant"]].to_numpy()
    np.testing.assert_allclose(found, logits, atol=1e-5)
    malignant = (table["label"] == "Malignant").to_numpy()
    scores = pd.read_csv(finished.checkpoints / "center" / "evaluation" / "scores.csv")
    row = scores[(scores["model"] == "winner") & (scores["metric"] == "auc") & (scores["class"] == "Malignant")]
    assert row["value"].item() == pytest.approx(roc_auc_score(malignant, table["probability_Malignant"]))


def test_every_opening_is_logged_and_every_table_says_so(finished):
    folder = finished.checkpoints / "stratified" / "evaluation"
    before = len(read_openings(folder))
    result = run(finished, splits=["stratified"])
    entry = json.loads((folder / "test_log.json").read_text())[-1]
    assert entry["count"] == before + 1 == result.splits[0].opened and entry["images"] == 15
    assert entry["checkpoints"]["winner"] == file_sha256(finished.checkpoint())
    assert set(entry["checkpoints"]) == {"winner", "hand-made"}
    assert entry["split_sha256"] == file_sha256(finished.results / "splits" / "stratified.csv")
    tables = list(folder.glob("*.csv"))
    assert len(tables) == 7
    assert all((pd.read_csv(path)["opened"] == before + 1).all() for path in tables)
    times = "once" if before == 0 else f"{before + 1} times"
    assert result.splits[0].notes[0] == f"The test part of 'stratified' has been opened {times} for this search."


def test_an_opening_counts_even_if_scoring_fails(finished, tmp_path, monkeypatch):
    folder = finished.checkpoints / "center" / "evaluation"
    before = len(read_openings(folder))
    monkeypatch.setattr("tune_btxrd.evaluation.evaluate_split.judge", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(finished, splits=["center"])
    assert len(read_openings(folder)) == before + 1


def test_decisions_are_fitted_on_validation_not_on_test(evaluation, finished):
    decisions = evaluation.splits[0].winner.decisions
    assert decisions.images == len(
        load_split(finished.results / "splits" / "stratified.csv", finished.manifest).parts["val"]
    )


def test_pictures_and_summary_are_there(evaluation, finished):
    for split in evaluation.splits:
        names = {path.name for path in split.folder.iterdir()}
        assert {"confusion.png", "roc.png", "pr.png", "reliability.png", "summary.json"} <= names
        rows = summary_rows(split, evaluation.class_names)
        assert rows[0][0] == "accuracy" and rows[-1][0] == "average precision Malignant" and len(rows[0]) == 4
        json.loads((split.folder / "summary.json").read_text(), parse_constant=pytest.fail)


def test_gap_between_the_splits(evaluation):
    gap = evaluation.gap.set_index(["metric", "class"])
    first, second = (split.winner.point for split in evaluation.splits)
    row = gap.loc[("accuracy", "")]
    accuracy = next(metric for metric in first if metric.name == "accuracy")
    assert row["gap"] == pytest.approx(first[accuracy] - second[accuracy])
    assert row["bootstrap_low"] <= row["gap"] <= row["bootstrap_high"]


def test_images_that_the_config_was_chosen_on_are_named(finished):
    settings = json.loads((finished.results / "search.json").read_text())
    path = finished.results / "search.json"
    text = path.read_text()
    try:
        path.write_text(json.dumps(settings | {"searched": "stratified"}))
        result = run(finished, splits=["center"])
    finally:
        path.write_text(text)
    seen = load_split(finished.results / "splits" / "stratified.csv", finished.manifest).parts
    test = load_split(finished.results / "splits" / "center.csv", finished.manifest).parts["test"]
    overlap = len({*seen["train"], *seen["val"]} & set(test))
    assert overlap > 0 and f"config chosen on {overlap} images of this test part" in result.splits[0].notes


def test_unknown_split_and_damaged_log_are_one_line(finished, tmp_path):
    with pytest.raises(ResultError, match=r"must have been retrained \(stratified, center\), but got 'fold 1/5'"):
        run(finished, splits=["fold 1/5"])
    (tmp_path / "test_log.json").write_text("[{")
    with pytest.raises(ResultError, match="counts how often a test part was opened"):
        log_opening(tmp_path, split="s", split_sha256="", checkpoints={}, images=1)


@needs_shared
@pytest.mark.parametrize(("name", "macro_auc"), [("stratified", 0.846), ("center", 0.627)])
def test_the_published_test_parts_are_recognised(name, macro_auc):
    table = pd.read_csv(SHARED / "btxrd_tables" / "assureiqx_splits" / f"{name}_test.csv")
    assert reference_for(table["image_id"]).macro_auc == macro_auc
    assert reference_for(table["image_id"][1:]) is None
