"""Conformance of predictors: in every form in which a model travels it gives the same answers.

A new form is run through it by a line in FORMS: where it lies in an export.
"""

from pathlib import Path

import numpy as np
import pytest

from tests.support.finished_search import SIZE, Finished, finished  # noqa: F401  # a fixture
from tune_btxrd.inference.export import export_search
from tune_btxrd.inference.open_model import Predictor, open_model

FORMS = {"checkpoint": "", "timm folder": "timm", "onnx": "model.onnx"}
CLOSE = 1e-4  # of a logit, float32


@pytest.fixture(scope="module")
def exported(finished: Finished) -> Path:  # noqa: F811  # pytest's way
    made = export_search(finished.checkpoints, results=finished.results, source=finished.source)
    return next(item.folder for item in made if item.split == "stratified")


@pytest.fixture(scope="module")
def original(finished: Finished) -> Predictor:  # noqa: F811  # pytest's way
    return open_model(finished.checkpoint())


@pytest.fixture(params=sorted(FORMS))
def predictor(request: pytest.FixtureRequest, exported: Path, finished: Finished) -> Predictor:  # noqa: F811  # pytest's way
    place = FORMS[request.param]
    return open_model(exported / place if place else finished.checkpoint())


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
    for field in ("backbone", "image_size", "mean", "std", "class_names", "checkpoint_sha256"):
        assert getattr(predictor.info, field) == getattr(original.info, field), field
