"""The report of a search on independent labels: each label's scores, curves and operating points."""
# ruff: noqa: F811  # pytest hands fixtures over by name

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from tests.support.finished_labels import LABELS, finished_labels  # noqa: F401  # a fixture
from tests.support.finished_search import Finished
from tests.support.reports import make_checkpoints, make_search
from tune_btxrd.evaluation.evaluate import open_test_parts, seal_search
from tune_btxrd.evaluation.openings import read_openings
from tune_btxrd.monitor import MONITORS
from tune_btxrd.report.gather import gather
from tune_btxrd.report.page import write_report
from tune_btxrd.report.words import final_line


@pytest.fixture(scope="module")
def page(finished_labels: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    sealed = seal_search(
        finished_labels.checkpoints,
        results=finished_labels.results,
        manifest=finished_labels.manifest,
        source=finished_labels.source,
        replicates=50,
        device="cpu",
    )
    open_test_parts(sealed)
    root = tmp_path_factory.mktemp("label_report")
    folder = make_search(root / "ray_results" / "stub", classes=LABELS, task="multilabel", trials=12)
    checkpoints = make_checkpoints(root / "checkpoints" / "stub", LABELS)
    evaluated = finished_labels.checkpoints / "stratified" / "evaluation"
    shutil.copytree(evaluated, checkpoints / "stratified" / "evaluation")
    return write_report(folder, checkpoints=checkpoints)


def test_scores_and_points_of_every_label_are_on_the_page(page):
    text = page.read_text(encoding="utf-8")
    assert "labels bright, left side, rare" in text and "winner by label" in text
    assert "Operating points for each label" in text and "stratified, test part: macro auc " in text
    by_label = pd.read_csv(page.parent / "tables" / "test_labels.csv")
    assert by_label["label"].tolist() == list(LABELS) and {"auc", "sensitivity", "npv"} <= set(by_label)
    overall = pd.read_csv(page.parent / "tables" / "test_scores.csv")
    assert "exact match" in set(overall["metric"]) and not any(name in set(overall["metric"]) for name in LABELS)
    points = pd.read_csv(page.parent / "tables" / "operating_points.csv")
    assert set(points["label"]) == set(LABELS)
    checkpoints = page.parents[2] / "checkpoints" / "stub"
    opened = len(read_openings(checkpoints / "stratified" / "evaluation"))  # other tests open the same search too
    assert opened >= 1
    for table in (by_label, overall, points):
        assert (table["opened"] == opened).all()
    for picture in ("Confusion", "ROC curves", "Precision and recall", "Reliability"):
        assert f"stratified: {picture}" in text


def test_the_final_job_is_told_by_what_the_search_is_judged_by(page):
    found = gather(page.parent)
    logs = [training.log.assign(**{MONITORS["macro_auc"].column: 0.75}) for training in found.trainings]
    trainings = [replace(training, log=log) for training, log in zip(found.trainings, logs, strict=True)]
    judged = replace(found, spec=replace(found.spec, monitor="macro_auc"), trainings=trainings)
    assert "stratified, validation: val macro-AUC 0.7500, " in final_line(judged, "stratified")
