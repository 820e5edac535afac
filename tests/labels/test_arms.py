"""The queue against random: what is known beforehand is found, and the arms are judged by control images alone."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from tests.support.label_pages import LABELS, make_store
from tune_btxrd.errors import ResultError
from tune_btxrd.labels import arms
from tune_btxrd.labels.arms import compare, compare_arms
from tune_btxrd.labels.records import Act
from tune_btxrd.report.arms_figure import draw_arms

RANKED, CONTROL, WIDTH = 120, 120, 12


def drawn(noise_of_ranked: float, noise_of_control: float, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, two labels that follow from them, patients of two images; noise: share of random answers in an arm."""
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(RANKED + CONTROL, WIDTH))
    truth = (features[:, :2] > 0).astype(np.int64)
    for rows, noise in ((slice(0, RANKED), noise_of_ranked), (slice(RANKED, None), noise_of_control)):
        wrong = generator.random(truth[rows].shape) < noise
        truth[rows] = np.where(wrong, generator.integers(0, 2, truth[rows].shape), truth[rows])
    return features, truth, np.asarray([f"patient {row // 2}" for row in range(len(features))])


def test_a_queue_that_helps_is_found() -> None:
    found = compare(*drawn(0.0, 0.5), ranked=RANKED)  # answers half at random teach less
    assert found.points[-1].difference_interval.low > 0
    assert found.verdict.startswith("The queue beats random: macro-AUC +")


def test_useless_labels_of_the_ranked_arm_lose() -> None:
    found = compare(*drawn(1.0, 0.0), ranked=RANKED)
    assert found.points[-1].difference_interval.high < 0
    assert found.verdict.startswith("The queue is worse than random: macro-AUC -")
    assert [point.images for point in found.points] == sorted({point.images for point in found.points})


def test_arms_that_are_alike_beat_nobody() -> None:
    found = compare(*drawn(0.0, 0.0, seed=4), ranked=RANKED)
    assert found.verdict.startswith("The queue does not beat random so far")


def test_the_estimate_is_a_plain_ridge_on_halves_of_the_control_groups() -> None:
    features, values, groups = drawn(0.2, 0.2, seed=2)
    values[::5, 1] = -1
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    scores: list[float] = []
    last = compare(features, values, groups, ranked=RANKED).points[-1]
    for judge in arms._halves(groups[RANKED:], seed=0):
        rows = np.setdiff1d(np.arange(RANKED, RANKED + CONTROL), RANKED + judge)[: last.images]
        each = []
        for label in range(2):
            known, asked = rows[values[rows, label] >= 0], (judge + RANKED)[values[judge + RANKED, label] >= 0]
            y = values[known, label] - values[known, label].mean()
            head = Ridge(alpha=arms.STRENGTH * WIDTH, fit_intercept=False).fit(scaled[known], y)
            each.append(roc_auc_score(values[asked, label], head.predict(scaled[asked])))
        scores.append(float(np.mean(each)))
    assert last.random == pytest.approx(np.mean(scores))


def test_patients_who_judge_teach_neither_arm() -> None:
    features, values, _ = drawn(0.0, 0.0)
    groups = np.asarray([f"patient {row % 20}" for row in range(RANKED + CONTROL)])  # every patient is in both arms
    found = compare(features, values, groups, ranked=RANKED)
    assert found.points[-1].images <= 60  # half of the control arm; of the ranked one, half its patients


def test_a_store_is_compared_once_both_arms_have_enough(tmp_path: Path) -> None:
    with make_store(tmp_path, 120) as store:
        images = store.pool().images
        assert "needed, but there are 0 that the queue asked for and 0 of the control arm" in compare_arms(store).verdict
        generator = np.random.default_rng(0)
        features = generator.normal(size=(120, 8)).astype(np.float32)
        for place, image in enumerate(images):
            answers = {label: int(features[place, number] > 0) for number, label in enumerate(LABELS)}
            arm = "random" if place % 2 else "ranked"
            store.record(Act(kind="label", image=image, annotator="a", client=f"{image:032x}", arm=arm, answers=answers))
        assert "--backbone" in compare_arms(store).verdict
        with pytest.raises(ResultError, match="nothing to draw yet"):
            draw_arms(compare_arms(store), tmp_path / "arms.png")
        model = store.begin_model("backbone", "1" * 64, event=None)
        store.write_scores(model, images, np.full((120, len(LABELS)), np.nan), features=features)
        store.end_model(model)
        found = compare_arms(store)
        assert found.points[-1].random > 0.7
        draw_arms(found, tmp_path / "arms.png")
        assert (tmp_path / "arms.png").stat().st_size > 5000
