"""Dimension: one searched hyperparameter. Constraint: one demand on a reported value. No Ray, no Optuna, no YAML."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from tune_btxrd.config import FIELDS

MOST_SHOWN = 20  # choices that a description lists


class SuggestingTrial(Protocol):
    """The part of `optuna.trial.Trial` (and of `FixedTrial`) that a space needs."""

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False) -> float:
        """A number, as Optuna's."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """A whole number, as Optuna's."""

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """One of the choices, as Optuna's."""


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One searched hyperparameter: a range or choices, and the values of earlier names under which it is searched.

    Attributes:
        prior: a value believed good, near which some first trials are drawn (`search/prior.py`); None: none is.
    """

    name: str
    low: float | int | None = None
    high: float | int | None = None
    log: bool = False
    step: float | int | None = None
    choices: tuple[Any, ...] | None = None
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    prior: Any = None

    @property
    def is_integer(self) -> bool:
        """Whether the hyperparameter is a whole number (decided by TrainConfig, not by the YAML)."""
        return FIELDS[self.name].kind is int

    def is_active(self, values: Mapping[str, Any]) -> bool:
        """Whether every condition of `when` holds for the values chosen so far."""
        return all(name in values and values[name] in allowed for name, allowed in self.when.items())

    def suggest(self, trial: SuggestingTrial) -> Any:
        """One value from the trial."""
        if self.choices is not None:
            return trial.suggest_categorical(self.name, list(self.choices))
        low, high = self.bounds
        if self.is_integer:
            return trial.suggest_int(self.name, int(low), int(high), step=int(self.step or 1), log=self.log)
        return trial.suggest_float(self.name, low, high, step=self.step, log=self.log)

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest value of a range."""
        assert self.low is not None
        assert self.high is not None
        return self.low, self.high

    def contains(self, value: Any) -> bool:
        """Whether a value lies in the range, and on its steps, or among the choices."""
        if self.choices is not None:
            return value in self.choices
        low, high = self.bounds
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            return False
        step = self.step or (1 if self.is_integer else 0)
        return not step or is_whole((value - low) / step)

    def describe(self) -> str:
        """The dimension in words, e.g. `1e-05 .. 0.01 (log)`."""
        if self.choices is not None:
            more = f" | ... ({len(self.choices)} in all)" if len(self.choices) > MOST_SHOWN else ""
            text = " | ".join(map(str, self.choices[:MOST_SHOWN])) + more
        else:
            step = f" step {self.step:g}" if self.step else ""
            text = f"{self.low:g} .. {self.high:g}{step}{' (log)' if self.log else ''}"
        text += f", believed good at {self.prior}" if self.prior is not None else ""
        conditions = [f"{name} is {' or '.join(map(str, allowed))}" for name, allowed in self.when.items()]
        return text + (f", when {' and '.join(conditions)}" if conditions else "")


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """A demand on a reported value at the trial's best epoch, e.g. `val_recall_malignant >= 0.6`."""

    metric: str
    at_least: bool
    bound: float

    def violation(self, value: float) -> float:
        """How far the value is from feasible; 0 or less is feasible (Optuna's convention), and an undefined one never is."""
        if math.isnan(value):
            return math.inf
        return self.bound - value if self.at_least else value - self.bound

    def __str__(self) -> str:
        return f"{self.metric} {'>=' if self.at_least else '<='} {self.bound:g}"


def is_whole(number: float) -> bool:
    """Whether a quotient is a whole number up to rounding."""
    return abs(number - round(number)) < 1e-8
