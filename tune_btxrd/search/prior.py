"""Draws of configs near values believed good (`prior:` of a dimension): every second of the first `startup_trials`.

No later trial is one, and the sampler learns so many trials later: what a wrong belief takes from the even draws is given
back, or a second good region would be missed.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tune_btxrd.search.space.spec import SearchSpec

SPREAD = 0.15  # standard deviation around the prior, as a share of the range (of its logarithm where it is log)
BELIEF = 0.7  # probability of the choice believed good


def is_believed(spec: SearchSpec, number: int) -> bool:
    """Whether the trial of this number is drawn near the priors, if it is no start config."""
    return number < spec.startup_trials and number % 2 == 1 and any(item.prior is not None for item in spec.space)


def believed_trials(spec: SearchSpec) -> int:
    """How many trials are drawn near the priors: the sampler learns so much later, with as many even draws as without."""
    return sum(is_believed(spec, number) for number in range(len(spec.start), spec.startup_trials))


class PriorDraw:
    """One config near the priors; what has none is uniform. It stands where `SearchSpec.suggest` wants a trial.

    Attributes:
        params: the values that were drawn.
    """

    def __init__(self, spec: SearchSpec, seed: int) -> None:
        self._priors = {item.name: item.prior for item in spec.space}
        self._random = np.random.default_rng(seed)
        self.params: dict[str, Any] = {}
        spec.suggest(self)

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False) -> float:
        """A number of the range."""
        value = self._number(name, low, high, log=log)
        if step is not None:
            value = min(low + round((value - low) / step) * step, high)
        self.params[name] = value
        return value

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """A whole number of the range."""
        value = low + round((self._number(name, low, high, log=log) - low) / step) * step
        self.params[name] = min(int(value), high)
        return int(self.params[name])

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of the choices."""
        prior = self._priors[name]
        is_prior = prior is not None and self._random.random() < BELIEF
        self.params[name] = prior if is_prior else choices[int(self._random.integers(len(choices)))]
        return self.params[name]

    def _number(self, name: str, low: float, high: float, *, log: bool) -> float:
        start, end = (math.log(low), math.log(high)) if log else (low, high)
        prior = self._priors[name]
        if prior is None or start == end:
            place = self._random.uniform(start, end)
        else:
            middle = math.log(prior) if log else prior
            place = self._near(middle, start, end)
        return min(max(math.exp(place) if log else place, low), high)

    def _near(self, middle: float, start: float, end: float) -> float:
        """A normal number, drawn again until it lies in the range: in at most a few tries, since the middle does."""
        while True:
            place = float(self._random.normal(middle, SPREAD * (end - start)))
            if start <= place <= end:
                return place


def believed(spec: SearchSpec, seed: int) -> Mapping[str, Any]:
    """The values of one config near the priors; the same for the same seed."""
    return PriorDraw(spec, seed).params
