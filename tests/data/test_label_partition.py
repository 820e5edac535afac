"""Partitions of labelled groups against every partition there is, on cases small enough to try them all."""

import itertools

import numpy as np
import pytest

from tests.support.paths import SHARED
from tune_btxrd.data.readers.registry import read_dataset
from tune_btxrd.data.splits.groups import group_numbers
from tune_btxrd.data.splits.label_partition import SIZE_SLACK, partition_labels, share_spread

LABELS = SHARED / "multilabel"


def case(seed: int, *, groups: int, labels: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Answers (yes, no, unknown) and group numbers of one to three images per group."""
    rng = np.random.default_rng(seed)
    numbers = np.repeat(np.arange(groups), rng.integers(1, 4, groups))
    targets = rng.choice([1, 0, -1], size=(len(numbers), labels), p=[0.4, 0.4, 0.2])
    return np.concatenate([targets == answer for answer in (1, 0, -1)], axis=1).astype(float), numbers


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("shares", [(0.7, 0.3), (0.5, 0.25, 0.25)])
def test_no_partition_is_more_even(seed: int, shares: tuple[float, ...]) -> None:
    answers, numbers = case(seed, groups=8)
    found = partition_labels(answers, numbers, shares=shares, seed=0)
    sizes = np.bincount(found, minlength=len(shares)) / len(found)
    missed = max(np.abs(sizes - shares).max(), SIZE_SLACK)
    best = min(
        share_spread(answers, parts)
        for dealt in itertools.product(range(len(shares)), repeat=8)
        if len(set(dealt)) == len(shares)
        for parts in [np.array(dealt)[numbers]]
        if np.abs(np.bincount(parts, minlength=len(shares)) / len(parts) - shares).max() <= missed
        and _lacks(answers, parts) <= _lacks(answers, found)
    )
    assert share_spread(answers, found) <= best + 0.03


@pytest.mark.skipif(not LABELS.is_dir(), reason="needs the shared test material")
@pytest.mark.parametrize("shares", [(0.70, 0.15, 0.15), (0.2,) * 5])
def test_real_labels_differ_by_three_points_at_most(shares: tuple[float, ...]) -> None:
    manifest = read_dataset(LABELS)
    parts = partition_labels(manifest.answers, group_numbers(manifest, [], "patients"), shares=shares, seed=42)
    assert share_spread(manifest.answers, parts) <= 0.03


def test_the_same_call_is_answered_from_memory_and_may_be_changed() -> None:
    answers, numbers = case(5, groups=12)
    first = partition_labels(answers, numbers, shares=(0.5, 0.5), seed=1)
    kept = first.copy()
    first[:] = -1
    assert (partition_labels(answers, numbers, shares=(0.5, 0.5), seed=1) == kept).all()


def _lacks(answers: np.ndarray, parts: np.ndarray) -> int:
    return sum(int((answers[parts == part].sum(axis=0) == 0).sum()) for part in np.unique(parts))


def test_groups_stay_whole_and_the_seed_decides() -> None:
    answers, numbers = case(3, groups=60, labels=4)
    shuffled = np.random.default_rng(0).permutation(len(numbers))
    parts = partition_labels(answers[shuffled], numbers[shuffled], shares=(0.7, 0.15, 0.15), seed=5)
    assert all(len(set(parts[numbers[shuffled] == number])) == 1 for number in range(60))
    again = partition_labels(answers[shuffled], numbers[shuffled], shares=(0.7, 0.15, 0.15), seed=5)
    assert (parts == again).all()
    assert (parts != partition_labels(answers[shuffled], numbers[shuffled], shares=(0.7, 0.15, 0.15), seed=6)).any()


def test_a_rare_yes_reaches_every_part() -> None:
    answers = np.zeros((60, 3))
    answers[:, 1] = 1
    answers[[3, 30, 50]] = [1, 0, 0]
    parts = partition_labels(answers, np.arange(60), shares=(0.7, 0.15, 0.15), seed=0)
    assert {parts[row] for row in (3, 30, 50)} == {0, 1, 2}


def test_many_groups_are_dealt_in_moderate_time_and_evenly() -> None:
    answers, numbers = case(1, groups=5000, labels=6)
    parts = partition_labels(answers, numbers, shares=(0.7, 0.15, 0.15), seed=0)
    assert share_spread(answers, parts) < 0.01
