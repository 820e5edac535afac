"""Predictions of independent labels: one row per image with every label, and equal in every form of the model."""
# ruff: noqa: F811  # pytest hands fixtures over by name

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.support.finished_labels import COUNT, KEYS, LABELS, finished_labels  # noqa: F401  # a fixture
from tests.support.finished_search import Finished
from tune_btxrd.cli.show import show_predictions
from tune_btxrd.errors import ResultError
from tune_btxrd.inference.export import export_search
from tune_btxrd.inference.grad_cam import explain_files
from tune_btxrd.inference.model_info import ModelInfo
from tune_btxrd.inference.open_model import open_model
from tune_btxrd.inference.predict import Predictions, predict_images, rank_uncertain
from tune_btxrd.scoring.decisions import LABEL_RULE, UNFITTED_RULE
from tune_btxrd.tasks.multilabel import MULTILABEL

FORMS = ("best_stratified.pt", "timm", "model.onnx")


@pytest.fixture(scope="module")
def exported(finished_labels: Finished) -> Path:
    made = export_search(finished_labels.checkpoints, results=finished_labels.results, source=finished_labels.source)
    return made[0].folder


@pytest.fixture(scope="module")
def found(exported: Path, finished_labels: Finished) -> Predictions:
    return predict_images(exported / "timm", [finished_labels.data / "images"], device="cpu")


def test_every_form_answers_alike(exported, found, finished_labels):
    for form in FORMS:
        other = predict_images(exported / form, [finished_labels.data / "images"], device="cpu")
        np.testing.assert_allclose(other.logits, found.logits, atol=1e-4)
        assert other.info.task is MULTILABEL and (other.predicted == found.predicted).all(), form
        assert other.rule == LABEL_RULE and list(other.table) == list(found.table)


def test_a_row_per_image_with_every_label(found):
    table = pd.read_csv(StringIO(found.to_csv()))
    assert len(table) == COUNT and set(table["rule"]) == {LABEL_RULE}
    for index, key in enumerate(KEYS):
        np.testing.assert_allclose(table[f"prob_{key}"], found.probabilities[:, index])
        threshold = found.info.decisions.labels[index].threshold
        assert (table[f"decision_{key}"] == (table[f"calibrated_{key}"] >= threshold)).all()
    images = json.loads(found.to_json())["images"]
    assert images[0]["decision_bright"] in (0, 1) and len(images) == COUNT


def test_the_terminal_shows_yes_or_no_of_each_label(found, capsys):
    few = replace(found, files=found.files[:2], logits=found.logits[:2])
    show_predictions(few, form="table", output=None)
    told = capsys.readouterr().out
    assert "left side" in told and told.count("yes 0.") + told.count("no 0.") + told.count("yes 1.") == 2 * len(LABELS)


def test_a_model_without_decisions_says_so(found):
    bare = replace(found, info=replace(found.info, decisions=None))
    assert bare.rule == UNFITTED_RULE and (bare.predicted == (found.logits >= 0)).all()
    assert not any(name.startswith("calibrated") for name in bare.table)


def test_the_images_to_label_first_have_a_column_per_label(found):
    ranked = rank_uncertain(found)
    assert [name for name in ranked if name.startswith("label:")] == [f"label:{name}" for name in LABELS]
    chances = found.calibrated
    entropy = -(chances * np.log(chances) + (1 - chances) * np.log(1 - chances)).sum(axis=1)
    assert ranked["entropy"].iloc[0] == pytest.approx(entropy.max()) and ranked["entropy"].is_monotonic_decreasing
    assert ranked["margin"].min() >= 0 and len(ranked) == COUNT


def test_an_overlay_is_for_the_label_to_watch(exported, found, tmp_path):
    written = explain_files(open_model(exported / "timm"), found.files[:2], tmp_path)
    assert [path.name for path in written] == [f"{file.stem}_bright.png" for file in found.files[:2]]


@pytest.mark.parametrize("spoil", ["labels", "temperature", "task"])
def test_decisions_that_do_not_fit_are_refused(found, spoil):
    values = json.loads(json.dumps(found.info.to_dict()))
    if spoil == "labels":
        values["decisions"]["labels"].pop()
    elif spoil == "temperature":
        values["decisions"]["calibration"]["temperature"][1] = 0.0
    else:
        values["task"] = "multiclass"
    with pytest.raises(ResultError, match="must be finite numbers that fit the classes"):
        ModelInfo.from_dict(values)
