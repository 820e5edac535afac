"""Multilabel: metrics against scikit-learn with unknowns and by hand, targets as text and back, resume, what is said."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, log_loss, recall_score, roc_auc_score

from tests.support.labels import toy_labels
from tests.support.toy_training import numbers, run, toy_config
from tune_btxrd.errors import DataError
from tune_btxrd.search.columns import column_of, named_row, score_columns
from tune_btxrd.tasks.multilabel import MULTILABEL, NO, UNKNOWN, YES, Validated, average_precisions, exact_match
from tune_btxrd.tasks.registry import task_named
from tune_btxrd.training.checkpoint import checkpoint_dict, load, restore, save
from tune_btxrd.training.loop import train
from tune_btxrd.training.slot import Slot

NAMES = ("supine", 'in "ICU"', "🦴 bone")


def same(values: tuple[float, ...]) -> object:
    """Equal where defined, and undefined where undefined."""
    return pytest.approx(values, nan_ok=True)


def drawn(seed: int, *, images: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Logits with ties, and targets of three labels, a third unknown."""
    rng = np.random.default_rng(seed)
    return rng.integers(-4, 5, (images, 3)) / 2 + 0.25, rng.integers(-1, 2, (images, 3))


@pytest.mark.parametrize("seed", range(5))
def test_as_scikit_learn_on_the_known_cells(seed: int) -> None:
    logits, targets = drawn(seed)
    found = MULTILABEL.scores(logits, targets)
    chances, called = 1 / (1 + np.exp(-logits)), (logits > 0).astype(int)
    expected: dict[str, list[float]] = {"auc": [], "ap": [], "recall": [], "specificity": [], "f1": []}
    for label in range(3):
        known = targets[:, label] != UNKNOWN
        truth, score, call = targets[known, label], chances[known, label], called[known, label]
        expected["auc"].append(roc_auc_score(truth, score))
        expected["ap"].append(average_precision_score(truth, score))
        expected["recall"].append(recall_score(truth, call))
        expected["specificity"].append(recall_score(truth, call, pos_label=0))
        expected["f1"].append(f1_score(truth, call))
    for name, values in expected.items():
        assert found[f"val_{name}"] == pytest.approx(values), name
        assert found[f"val_macro_{name}"] == pytest.approx(np.mean(values)), name
    known = targets != UNKNOWN
    assert found["val_loss"] == pytest.approx(log_loss(targets[known], chances[known]))
    whole = known.all(axis=1)
    assert found["val_exact_match"] == pytest.approx((called == targets)[whole].all(axis=1).mean())


def test_a_label_that_has_one_answer_is_left_out_of_means() -> None:
    logits = np.array([[1.0, 1.0, 1.0], [2.0, 1.0, -1.0], [-3.0, 1.0, 2.0], [-2.0, 1.0, -3.0]])
    targets = np.array([[1, 1, 0], [0, 1, 0], [1, 1, 0], [0, UNKNOWN, UNKNOWN]])
    found = MULTILABEL.scores(logits, targets)
    assert found["val_auc"] == same((0.25, np.nan, np.nan)) and found["val_macro_auc"] == 0.25
    assert found["val_recall"] == same((0.5, 1, np.nan)) and found["val_macro_recall"] == 0.5
    assert found["val_specificity"] == same((0.5, np.nan, 1 / 3)) and found["val_f1"] == same((0.5, np.nan, np.nan))
    assert found["val_ap"] == same((0.5, 1, np.nan))
    assert found["val_macro_f1"] == pytest.approx(0.5) and found["val_macro_specificity"] == 0.5
    assert MULTILABEL.part_notes(targets, NAMES) == [
        'no image has a known no for in "ICU": left out of means over labels',
        "no image has a known yes for 🦴 bone: left out of means over labels",
    ]
    nothing = MULTILABEL.scores(logits[:, 1:], targets[:, 1:])
    assert all(np.isnan(nothing[f"val_macro_{name}"]) for name in ("auc", "ap", "f1", "recall", "specificity"))
    assert np.isfinite(nothing["val_loss"])


def test_average_precision_by_hand() -> None:
    logits, targets = np.array([[3.0], [2.0], [2.0], [1.0]]), np.array([[1], [0], [1], [1]])
    assert average_precisions(Validated(logits, targets)) == pytest.approx([(1 + 2 / 3 + 3 / 4) / 3])
    assert np.isnan(average_precisions(Validated(logits, np.zeros((4, 1)))))


def test_exact_match_asks_images_that_are_known_whole() -> None:
    targets = np.array([[1, 0], [0, 0], [UNKNOWN, 1]])
    assert exact_match(Validated(np.array([[1.0, -1.0], [1.0, -1.0], [-1.0, -1.0]]), targets)) == 0.5
    assert np.isnan(exact_match(Validated(np.ones((1, 2)), np.array([[1, UNKNOWN]]))))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_loss_is_not_finite_where_a_known_logit_is_not(bad: float) -> None:
    targets = np.array([[0 if bad > 0 else 1, UNKNOWN], [1, 0]])
    assert not np.isfinite(MULTILABEL.scores(np.array([[bad, 0.0], [0.0, 0.0]]), targets)["val_loss"])


def test_targets_as_text_and_back() -> None:
    targets = np.array([[YES, NO, UNKNOWN], [UNKNOWN, YES, YES], [NO, NO, NO]])
    cells = MULTILABEL.write(targets, NAMES)
    assert cells['label:in "ICU"'] == ["0", "1", "0"] and cells["label:supine"] == ["1", "", "0"]
    assert MULTILABEL.read(cells, NAMES).tolist() == targets.tolist()
    assert MULTILABEL.texts(targets, NAMES) == ["supine, 🦴 bone?", 'supine?, in "ICU", 🦴 bone', "none"]
    with pytest.raises(DataError, match="must be 1, 0 or empty, but got '2'"):
        MULTILABEL.read({**cells, "label:supine": ["1", "2", ""]}, NAMES)
    with pytest.raises(DataError, match="there is no 'label:other'"):
        MULTILABEL.read(cells, ("other",))
    assert MULTILABEL.read({"label:a": []}, ("a",)).shape == (0, 1)


def test_decisions_of_logits_are_those_of_probabilities() -> None:
    logits, _ = drawn(0)
    assert (MULTILABEL.decide_logits(logits) == MULTILABEL.decide(MULTILABEL.probabilities(logits))).all()
    assert MULTILABEL.decide(np.array([[0.5, 0.49]])).tolist() == [[YES, NO]]


def test_the_slope_of_the_log_loss_is_that_of_its_value() -> None:
    logits, targets = drawn(1, images=4)
    value, slope = MULTILABEL.log_loss(logits, targets)
    for cell in np.ndindex(logits.shape):
        moved = logits.copy()
        moved[cell] += 1e-6
        assert (MULTILABEL.log_loss(moved, targets)[0] - value) / 1e-6 == pytest.approx(slope[cell], abs=1e-5)


def test_the_same_image_may_be_known_better_elsewhere() -> None:
    first, second = np.array([[1, 0], [1, UNKNOWN], [1, 0]]), np.array([[1, UNKNOWN], [1, 0], [0, 0]])
    assert MULTILABEL.same(first, second).tolist() == [True, True, False]


def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    config, data, slot = toy_config(epochs=3, loss="weighted_bce", lr=3e-3), toy_labels(), Slot(device="cpu")
    state = slot.start(config, data, keep_best=True)
    expected = run(state)
    again = slot.start(config, data, keep_best=True)
    next(train(again))
    save(checkpoint_dict(again, class_names=NAMES[:2]), tmp_path / "last.pt")
    saved = load(tmp_path / "last.pt")
    assert saved["task"] == "multilabel" and saved["class_weights"].shape == (2,)
    resumed = restore(Slot(device="cpu"), saved, data)
    list(train(resumed))
    assert numbers(resumed.history) == expected


def test_columns_of_hostile_labels_are_their_own() -> None:
    names = ("HER2+", "HER2-", "=1+1", '"; DROP TABLE', "🦴", "🩻")
    record = MULTILABEL.record(**{name: 0 for name in MULTILABEL.record.columns()} | _per_label(len(names)))
    row = named_row(record, names)
    recalls = [name for name in row if name.startswith("val_recall_")]
    assert recalls == [*(f"val_recall_her2__{number}" for number in (1, 2)), *recalls[2:]] and len(set(recalls)) == 6
    assert list(row)[:4] == ["epoch", "train_loss", "val_loss", "val_exact_match"]
    titles = score_columns(names, task="multilabel")
    assert titles["val_auc_her2__1"] == "AUC HER2+" and all(column_of(name) for name in titles)
    assert task_named("multilabel") is MULTILABEL


def _per_label(count: int) -> dict[str, object]:
    return {name: (0.5,) * count for name, item in MULTILABEL.record.columns().items() if item.per_class}
