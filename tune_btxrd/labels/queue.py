"""Queue: the unlabelled images in the order in which a label would help, by one strategy or several that take turns.

The control arm is not in it: the store itself asks for a share of images in an order of pure chance.
"""

from collections.abc import Sequence

import numpy as np

from tune_btxrd.errors import ConfigError
from tune_btxrd.labels.acquisition import STRATEGIES, ScoredPool, strategy_names


def rank(pool: ScoredPool, strategy: str, *, head: int, seed: int = 0) -> np.ndarray:
    """Rows of the first `head` candidates to ask for, best first, each once; all, where there are fewer.

    Args:
        strategy: a name of `STRATEGIES`, or several joined by "+": they take turns, and none takes what another has.

    Raises:
        ConfigError: an unknown strategy, one that needs a model where there is none, or no place in the head.
    """
    if head < 1:
        raise ConfigError(f"`head >= 1` images must be ranked, but got {head}.")
    names = strategy_names(strategy)
    return np.asarray(_taking_turns(_shares(pool, names, min(head, len(pool.candidates)), seed=seed)), dtype=np.int64)


def _shares(pool: ScoredPool, names: Sequence[str], count: int, *, seed: int) -> list[list[int]]:
    """Each strategy's rows, `count` of them together; a strategy does not see what those before it have taken."""
    shares: list[list[int]] = []
    for place, name in enumerate(names):
        taken = [row for share in shares for row in share]
        own = -(-(count - len(taken)) // (len(names) - place))
        shares.append(STRATEGIES[name](pool.without(np.asarray(taken, dtype=np.int64)), own, seed=seed + place).tolist())
    return shares


def _taking_turns(shares: Sequence[Sequence[int]]) -> list[int]:
    longest = max(map(len, shares))
    return [share[turn] for turn in range(longest) for share in shares if turn < len(share)]
