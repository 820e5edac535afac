"""The queue's head: each image once, strategies taking turns."""

import numpy as np
import pytest

from tests.labels.test_acquisition import pool
from tune_btxrd.cli.labels import STRATEGY_NAMES
from tune_btxrd.errors import ConfigError
from tune_btxrd.labels.acquisition import STRATEGIES, ScoredPool, badge, typiclust, uncertain
from tune_btxrd.labels.queue import rank


def test_one_strategy_is_asked_for_the_whole_head() -> None:
    assert rank(pool(), "uncertain", head=9).tolist() == uncertain(pool(), 9, seed=0).tolist()


def test_strategies_take_turns_and_none_takes_what_another_has() -> None:
    given = pool(images=60)
    found = rank(given, "uncertain+badge+typiclust", head=8, seed=4).tolist()
    first = uncertain(given, 3, seed=4)
    second = badge(given.without(first), 3, seed=5)
    third = typiclust(given.without(np.concatenate([first, second])), 2, seed=6)
    assert found == [first[0], second[0], third[0], first[1], second[1], third[1], first[2], second[2]]


@pytest.mark.parametrize("strategy", ["random", "typiclust", "badge+random", "badge+uncertain+typiclust+random"])
def test_a_head_larger_than_the_pool_holds_every_candidate_once(strategy: str) -> None:
    assert sorted(rank(pool(), strategy, head=999).tolist()) == pool().candidates.tolist()


def test_no_image_is_left() -> None:
    empty = ScoredPool(**{**vars(pool()), "candidates": np.zeros(0, dtype=np.int64)})
    assert rank(empty, "badge+typiclust", head=5).tolist() == []


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="head >= 1"):
        rank(pool(), "random", head=0)


def test_the_help_of_score_names_every_strategy() -> None:
    assert tuple(STRATEGIES) == STRATEGY_NAMES
