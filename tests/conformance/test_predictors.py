"""Conformance of predictors: in every form in which a model travels it gives the same answers.

A new form is run through it by a line in FORMS: where it lies in an export.
"""

from pathlib import Path

import numpy as np
import pytest

from tests.support.finished_labels import finished_labels  # noqa: F401  # a fixture
from tests.support.finished_search import SIZE, Finished, finished  # noqa: F401  # a fixture
from tune_btxrd.inference.export import export_search
from tune_btxrd.inference.open_model import Predictor, open_model
from tune_btxrd.scoring.decisions import decide

FORMS = {"checkpoint": "", "timm folder": "timm", "onnx": "model.onnx"}
CLOSE = 1e-4  # of a logit, float32


@pytest.fixture(scope="module", params=["finished", "finished_labels"])
def search(request: pytest.FixtureRequest) -> Finished:
    """A search on exclusive classes, and one on independent labels."""
    found: Finished = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def exported(search: Finished) -> Path:
    made = export_search(search.checkpoints, results=search.results, source=search.source)
    return next(item.folder for item in made if item.split == "stratified")


@pytest.fixture(scope="module")
def original(search: Finished) -> Predictor:
    return open_model(search.checkpoint())


@pytest.fixture(params=sorted(FORMS))
def predictor(request: pytest.FixtureRequest, exported: Path, search: Finished) -> Predictor:
    place = FORMS[request.param]
    return open_model(exported / place if place else search.checkpoint())


def pictures(count: int, *, colour: bool = False) -> np.ndarray:
    shape = (count, SIZE, SIZE, 3) if colour else (count, SIZE, SIZE)
    return np.random.default_rng(count).integers(0, 255, shape, dtype=np.uint8)


@pytest.mark.parametrize("colour", [False, True])
def test_logits_are_the_checkpoint_s(predictor: Predictor, original: Predictor, colour: bool) -> None:
    images = pictures(5, colour=colour)
    assert np.abs(predictor.logits(images) - original.logits(images)).max() < CLOSE


def test_neighbours_in_a_batch_do_not_matter(predictor: Predictor) -> None:
    images = pictures(40)  # more than one batch
    alone = np.concatenate([predictor.logits(images[index : index + 1]) for index in (0, 31, 32, 39)])
    assert np.abs(predictor.logits(images)[[0, 31, 32, 39]] - alone).max() < CLOSE
    assert np.abs(predictor.logits(images, np.array([39, 0])) - alone[[3, 0]]).max() < CLOSE


def test_grey_is_three_equal_channels(predictor: Predictor) -> None:
    grey = pictures(3)
    assert np.abs(predictor.logits(grey) - predictor.logits(np.repeat(grey[..., None], 3, axis=3))).max() < CLOSE


def test_it_knows_its_classes_and_takes_no_image_at_all(predictor: Predictor, original: Predictor) -> None:
    assert predictor.logits(pictures(0)).shape == (0, len(predictor.info.class_names))
    assert predictor.logits(pictures(2)).dtype == np.float32
    for field in ("backbone", "task", "image_size", "mean", "std", "class_names", "checkpoint_sha256"):
        assert getattr(predictor.info, field) == getattr(original.info, field), field


def test_it_decides_as_the_checkpoint_does(predictor: Predictor, original: Predictor, exported: Path) -> None:
    """Calibration and thresholds travel with every form; the checkpoint finds them beside it."""
    images = pictures(40)
    info, beside = predictor.info, open_model(exported / "best_stratified.pt").info
    assert info.decisions is not None and info.decisions == beside.decisions
    logits = predictor.logits(images)
    decided = decide(logits, task=info.task, decisions=info.decisions)
    wanted = decide(original.logits(images), task=info.task, decisions=beside.decisions)
    assert decided.shape[0] == 40 and np.mean(decided != wanted) < 0.02  # a threshold may lie within rounding of a logit
