"""The seam: a task that the package does not know is split, trained, validated, saved, resumed and calibrated."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.support.sources import CLASSES, make_source
from tests.support.toy_training import numbers, toy_config, toy_data
from tests.support.two_labels import TWO_LABELS, UNKNOWN, YES, LabelMetrics
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.splits.splits import make_split
from tune_btxrd.errors import DataError, ResultError
from tune_btxrd.scoring.decisions import Decisions, fit_decisions
from tune_btxrd.search.columns import column_of, named_row
from tune_btxrd.tasks.multiclass import MULTICLASS
from tune_btxrd.tasks.registry import TASKS, task_named
from tune_btxrd.training.checkpoint import checkpoint_dict, load, restore, save
from tune_btxrd.training.loop import train
from tune_btxrd.training.pixels import TrainingData
from tune_btxrd.training.slot import Slot
from tune_btxrd.training.source import Source

LABELS = ("fracture", "implant")


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, TWO_LABELS.name, TWO_LABELS)


def labelled() -> TrainingData:
    """Toy images: bright ones have the first label, the brightest the second too, some unknown."""
    toy = toy_data()
    targets = np.stack([toy.targets > 0, toy.targets > 1], axis=1).astype(np.int64)
    targets[::7, 1] = UNKNOWN
    return TrainingData(
        images=toy.images,
        targets=targets,
        train_rows=toy.train_rows,
        val_rows=toy.val_rows,
        num_classes=2,
        positive_class=1,
        task=TWO_LABELS,
    )


def test_a_second_task_trains_and_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    config, data, slot = toy_config(epochs=4, lr=3e-3), labelled(), Slot(device="cpu")
    state = slot.start(config, data, keep_best=True)
    rows = list(train(state))
    assert all(isinstance(row, LabelMetrics) for row in rows) and rows[-1].train_loss < rows[0].train_loss
    columns = named_row(rows[0], LABELS)
    assert {"val_found_fracture", "val_found_implant"} <= columns.keys()
    known = column_of("val_found_implant")
    assert known is not None and known.better == "higher"

    again = slot.start(config, data, keep_best=True)
    training = train(again)
    next(training), next(training)
    save(checkpoint_dict(again, class_names=LABELS), tmp_path / "two.pt")
    saved = load(tmp_path / "two.pt")
    assert saved["task"] == "two_labels"
    resumed = restore(Slot(device="cpu"), saved, data)
    list(train(resumed))
    assert numbers(resumed.history) == numbers(rows)


def test_a_second_task_is_split_by_its_shares() -> None:
    targets = np.zeros((120, 2), dtype=np.int64)
    targets[:60, 0], targets[50:80, 1], targets[::10] = YES, YES, UNKNOWN
    manifest = Manifest(
        dataset="hand",
        root=Path("/nowhere"),
        image_ids=tuple(f"i{row:03d}" for row in range(120)),
        files=(None,) * 120,
        targets=targets,
        class_names=LABELS,
        positive_class=0,
        centers=None,
        groups=tuple(str(row // 2) for row in range(120)),
        table=pd.DataFrame(index=range(120)),
        annotations=(None,) * 120,
        task=TWO_LABELS,
    )
    assert manifest.class_counts == (54, 27)
    split = make_split("stratified", manifest, pairs=[], groups="none")
    shares = np.array([split.counts(manifest)[part] for part in ("train", "val", "test")]) / manifest.class_counts
    assert np.abs(shares - np.array([[0.7], [0.15], [0.15]])).max() < 0.06


def test_decisions_are_the_tasks() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(60, 2))
    targets = (logits + rng.normal(size=(60, 2)) > 0).astype(np.int64)
    decisions = fit_decisions(logits, targets, positive_class=1, task=TWO_LABELS)
    chances = decisions.calibration.probabilities(logits)
    assert not np.allclose(chances.sum(axis=1), 1) and chances.min() >= 0 and chances.max() <= 1
    again = Decisions.from_dict(json.loads(json.dumps(decisions.to_dict())))
    assert again == decisions and again.task is TWO_LABELS


def test_targets_as_text_and_back() -> None:
    for task, targets, names in (
        (MULTICLASS, np.array([2, 0, 1]), ("+ve", " a", "nan")),
        (TWO_LABELS, np.array([[1, -1], [0, 1], [-1, 0]]), LABELS),
    ):
        assert task.read(task.write(targets, names), names).tolist() == targets.tolist()
    with pytest.raises(DataError, match="A label must be one of a, b, but got 'c'"):
        MULTICLASS.read({"label": ["a", "c"]}, ("a", "b"))


def test_a_source_names_its_task(tmp_path: Path) -> None:
    source = make_source(tmp_path)
    values = source.to_dict()
    assert values["task"] == "multiclass" and source.training_data("common").task is MULTICLASS
    del values["task"]  # as version 0.1.0 wrote it
    assert Source.from_dict(values) == source and source.class_names == CLASSES
    with pytest.raises(ResultError, match="A task must be one of multiclass, multilabel, two_labels, but got 'regression'"):
        task_named("regression")
