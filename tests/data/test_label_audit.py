"""Shortcuts of images with several labels: each label is a question of its own, asked of the images that have an answer."""

from pathlib import Path

import numpy as np
import pytest

from tests.data.test_label_columns import table
from tune_btxrd.data.audit.audit import _names
from tune_btxrd.data.audit.features import Feature
from tune_btxrd.data.audit.shortcuts import measure_shortcuts
from tune_btxrd.data.readers.registry import read_dataset

COUNT = 90


def test_a_feature_is_measured_per_label_on_known_answers_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    has, other = rng.random((2, COUNT)) < 0.5
    known = np.arange(COUNT) % 3 > 0
    size = np.where(known, 10.0 * has, 10.0) + rng.random(COUNT)  # as an unknown counted as no, it would say the contrary
    rows = [f"{int(a) if k else ''},{int(b)}" for a, b, k in zip(has, other, known, strict=True)]
    manifest = read_dataset(table(tmp_path, "label:a,label:<b>", rows))
    feature = Feature(name="image size", numbers=size[:, None])
    found = next(measure_shortcuts([feature], _names(manifest, np.arange(COUNT)), numbers=np.arange(COUNT), centers=None))
    (strength,) = found.strengths
    assert strength.auc_by_name.keys() == {"a", "<b>"} and strength.best == "a"
    assert strength.auc == strength.auc_by_name["a"] == pytest.approx(1.0)
    assert strength.auc_by_name["<b>"] < 0.75
    assert strength.images == known.sum()
