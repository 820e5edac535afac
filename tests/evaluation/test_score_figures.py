"""The pictures of an evaluation are drawn whatever the classes, models and datasets are called."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from tests.support.hostile import CLASS_NAMES, LONG
from tune_btxrd.evaluation.score_figures import draw_figures
from tune_btxrd.scoring.calibration import Calibration
from tune_btxrd.scoring.decisions import Decisions
from tune_btxrd.scoring.intervals import draw_weights
from tune_btxrd.scoring.operating_points import OperatingPoint
from tune_btxrd.scoring.score_tables import judge


@pytest.mark.parametrize("names", [("$a$$b", "[x] $"), (LONG, "_l"), tuple(CLASS_NAMES[:2])], ids=ascii)
def test_hostile_names_in_every_picture(tmp_path: Path, names: tuple[str, str]) -> None:
    points = tuple(
        OperatingPoint(name=name, threshold=0.3, val_sensitivity=0.9, val_specificity=0.8)
        for name in ("one", "two", "three")
    )
    calibration = Calibration(temperature=1.0, bias=(0.0, 0.0))
    decisions = Decisions(positive_class=1, images=9, calibration=calibration, operating_points=points)
    targets, positive = np.array([0, 0, 0, 1, 1, 1]), np.array([0.1, 0.2, 0.6, 0.2, 0.7, 0.9])
    logits, weights = np.log(np.stack([1 - positive, positive], axis=1)), draw_weights(np.arange(6), replicates=50, seed=0)
    models = [judge(name, logits, targets, weights, decisions=decisions, sha256="ab") for name in names]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_figures(models, tmp_path, title=f"{names[0]}: {names[1]}", class_names=names, positive_class=1)
    assert {path.name for path in tmp_path.iterdir()} == {"confusion.png", "roc.png", "pr.png", "reliability.png"}
