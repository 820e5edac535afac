"""Scores by center: worst, gap and each center by hand; centers with too few images say nothing."""

import numpy as np
import pytest

from tune_btxrd.tasks.centers import FEWEST_IMAGES, FEWEST_OF_A_CLASS, center_scores, counted, over_centers
from tune_btxrd.tasks.multiclass import MULTICLASS, MulticlassMetrics, cross_entropy, macro_auc
from tune_btxrd.tasks.multilabel import MULTILABEL, MultilabelMetrics

FEW = FEWEST_OF_A_CLASS


def part(*counts: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, targets and centers of a part: per center its images of class 0 and of class 1."""
    rng = np.random.default_rng(0)
    targets = np.concatenate([np.repeat([0, 1], count) for count in counts])
    centers = np.repeat(np.arange(len(counts)), [sum(count) for count in counts])
    return rng.normal(size=(len(targets), 2)), targets, centers


@pytest.mark.parametrize(("monitor", "value"), [("macro_auc", macro_auc), ("val_loss", cross_entropy)])
def test_each_center_is_scored_alone(monitor: str, value: "object") -> None:
    logits, targets, centers = part((FEW, 9), (12, FEW), (8, 8))
    found = center_scores(MULTICLASS, monitor, logits, targets, centers_N=centers, count=4)
    own = [value(logits[centers == center], targets[centers == center]) for center in range(3)]  # type: ignore[operator]
    assert found["val_center"] == (*own, None)  # the fourth center of the dataset has no image here
    worst, best = (max(own), min(own)) if monitor == "val_loss" else (min(own), max(own))
    assert found["val_worst_center"] == worst and found["center_gap"] == pytest.approx(abs(best - worst))
    whole = MULTICLASS.scores(logits, targets)[f"val_{monitor.removeprefix('val_')}"]
    assert min(own) < whole < max(own)


def test_a_center_that_lacks_images_of_a_class_says_nothing_of_auc_but_has_a_loss() -> None:
    logits, targets, centers = part((FEW, FEW), (40, FEW - 1), (FEWEST_IMAGES - 1, 0), (FEWEST_IMAGES, 0))
    by_class = {"count": 4, "classes": 2}
    assert counted(MULTICLASS, "macro_auc", targets, centers, **by_class).tolist() == [True, False, False, False]
    assert counted(MULTICLASS, "macro_f1", targets, centers, **by_class).tolist() == [True, False, False, False]
    assert counted(MULTICLASS, "val_loss", targets, centers, **by_class).tolist() == [True, True, False, True]
    one = center_scores(MULTICLASS, "macro_auc", logits, targets, centers_N=centers, count=4)
    assert one["val_worst_center"] == one["val_center"][0] and one["center_gap"] is None  # type: ignore[index]


def test_images_of_no_known_center_and_data_without_centers() -> None:
    logits, targets, centers = part((FEW, FEW), (9, 9))
    centers[:FEW] = -1
    found = center_scores(MULTICLASS, "macro_auc", logits, targets, centers_N=centers, count=2)
    assert found["val_center"][0] is None and found["val_worst_center"] == found["val_center"][1]  # type: ignore[index]
    none = center_scores(MULTICLASS, "val_loss", logits, targets, centers_N=np.full(len(targets), -1), count=0)
    assert none == {"val_center": (), "val_worst_center": None, "center_gap": None}


def test_a_class_that_the_whole_part_lacks_is_asked_of_no_center() -> None:
    _, targets, centers = part((FEW, FEW), (FEW, FEW))
    assert counted(MULTICLASS, "macro_auc", targets, centers, count=2, classes=3).all()


def test_labels_need_so_many_yes_and_so_many_no_of_what_the_part_can_judge() -> None:
    yes_no = np.repeat([1, 0], FEW)
    targets = np.concatenate([np.stack([yes_no, np.ones(2 * FEW, dtype=int)], axis=1)] * 2)  # the second label is never a no
    centers = np.repeat([0, 1], 2 * FEW)
    by_label = {"count": 2, "classes": 2}
    assert counted(MULTILABEL, "macro_auc", targets, centers, **by_label).all()
    targets[0, 0] = -1  # unknown
    assert counted(MULTILABEL, "macro_auc", targets, centers, **by_label).tolist() == [False, True]


def test_over_centers_reads_the_direction_of_the_monitor() -> None:
    values = (0.7, None, 0.9, 0.6)
    assert over_centers(MultilabelMetrics, values, "macro_auc") == {
        "val_worst_center": 0.6,
        "center_gap": pytest.approx(0.3),
    }
    assert over_centers(MulticlassMetrics, values, "val_loss")["val_worst_center"] == 0.9
