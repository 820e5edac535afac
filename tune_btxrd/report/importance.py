"""Which hyperparameter decides whether a trial is among the best: PED-ANOVA with bootstrap intervals.

PED-ANOVA compares where the best trials lie with where all trials lie (Watanabe et al., IJCAI 2023; Optuna's evaluator).
With few trials it finds patterns in noise. So each value carries two safeguards, and "undetermined" is a valid answer: an
interval over resampled trials, and what the same trials give when their scores are shuffled.
"""

import math
import warnings
from collections.abc import Container
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState, create_trial

from tune_btxrd.search.record import SearchRecord, TrialRecord
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.search.study import distribution

FEWEST = 12  # trials; below, no answer is attempted
TOP = 5  # trials that the evaluator needs among the best (its own advice)
DRAWS = 200  # of the bootstrap, and of the shuffling
MANY, DRAWS_OF_MANY = 1_000, 100  # trials; and draws of so many, each of which takes long
UNDETERMINED = "undetermined"


@dataclass(frozen=True, kw_only=True)
class Importance:
    """One hyperparameter.

    Attributes:
        value: share of the total, in [0, 1]; low, high: its 95 % bootstrap interval.
        by_chance: the share that the strongest of all hyperparameters reaches in 1 of 20 searches whose scores are shuffled.
        verdict: "matters" (more than by chance), "matters little" (beside one that matters), or UNDETERMINED.
    """

    name: str
    value: float
    low: float
    high: float
    by_chance: float
    verdict: str


@dataclass(frozen=True, kw_only=True)
class Importances:
    """All hyperparameters, the largest share first, or none and `why`."""

    items: tuple[Importance, ...]
    trials: int
    why: str = ""


def importances(record: SearchRecord, spec: SearchSpec, *, seed: int = 0, draws: int | None = None) -> Importances:
    """The importance of every searched hyperparameter for being among the best trials.

    A trial that ASHA cut counts with its loss when it was cut, which keeps it out of the best; one that diverged counts as
    the worst; one that failed or still runs says nothing about its config.
    """
    trials = [t for t in record.search_trials if t.state in ("complete", "pruned", "diverged") and (t.epochs or _lost(t))]
    if len(spec.space) < 2:
        return Importances(items=(), trials=len(trials), why="Only one hyperparameter was searched.")
    if len(trials) < FEWEST:
        why = f"Undetermined: {len(trials)} trials ended, and fewer than {FEWEST} tell nothing about importance."
        return Importances(items=(), trials=len(trials), why=why)
    with warnings.catch_warnings():  # the evaluator warns of thin regimes; the interval says the same in numbers
        warnings.simplefilter("ignore")
        draws = draws or (DRAWS if len(trials) <= MANY else DRAWS_OF_MANY)
        return Importances(items=_measure(trials, spec, seed=seed, draws=draws), trials=len(trials))


def _lost(trial: TrialRecord) -> bool:
    return trial.state == "diverged"


def _measure(trials: list[TrialRecord], spec: SearchSpec, *, seed: int, draws: int) -> tuple[Importance, ...]:
    names, study = [dimension.name for dimension in spec.space], _study(trials, spec)
    whole, rng = study.sample, np.random.default_rng(seed)
    count, scores = len(whole), np.array([trial.value for trial in whole], dtype=float)
    measured = study.divergences(names, whole)
    value = _shares(measured)
    draw = (study.divergences(names, [whole[i] for i in rng.integers(0, count, count)]) for _ in range(draws))
    low, high = np.percentile([_shares(sample) for sample in draw], [2.5, 97.5], axis=0)
    strongest = []
    for _ in range(draws):
        for trial, score in zip(whole, rng.permutation(scores), strict=True):
            trial.value = float(score)
        strongest.append(study.divergences(names, whole).max())
    by_chance = min(1.0, float(np.percentile(strongest, 95) / (measured.sum() or 1.0)))  # all of it, or more, by chance
    some_matters = bool((value > by_chance).any())
    found = [
        Importance(
            name=name,
            value=float(value[i]),
            low=float(low[i]),
            high=float(high[i]),
            by_chance=by_chance,
            verdict=_verdict(value[i], high[i], by_chance, beside=some_matters, equal=1 / len(names)),
        )
        for i, name in enumerate(names)
    ]
    return tuple(sorted(found, key=lambda item: -item.value))


def _shares(divergences: np.ndarray) -> np.ndarray:
    """(P,) parts of the sum; equal ones where nothing diverges."""
    total = divergences.sum()
    return np.asarray(divergences / total if total > 0 else np.full(len(divergences), 1 / len(divergences)))


def _verdict(value: float, high: float, by_chance: float, *, beside: bool, equal: float) -> str:
    if value > by_chance:
        return "matters"
    return "matters little" if beside and high < equal else UNDETERMINED


class _Study(optuna.study.Study):
    """A study whose trials can be exchanged for a sample of them, without entering each anew."""

    sample: list[FrozenTrial]

    def get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:  # Optuna's own signature
        return self.sample

    def divergences(self, names: list[str], trials: list[FrozenTrial]) -> np.ndarray:
        """(P,) PED-ANOVA's divergence of the best trials from all, 0 for a name that no trial of the sample has."""
        self.sample = trials
        seen = [name for name in names if any(name in trial.params for trial in trials)]
        quantile = min(0.5, max(0.1, TOP / len(trials)))
        found = PedAnovaImportanceEvaluator(target_quantile=quantile).evaluate(self, seen)
        return np.array([found.get(name, 0.0) for name in names])


def _study(trials: list[TrialRecord], spec: SearchSpec) -> _Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    plain = optuna.create_study(direction="minimize")
    dimensions = {dimension.name: distribution(dimension) for dimension in spec.space}
    finite = [t.objective for t in trials if t.objective is not None and math.isfinite(t.objective)]
    worst = max(finite, default=0.0) + 1.0
    for trial in trials:
        score = worst if _lost(trial) or trial.objective is None else trial.objective
        own = {name: kind for name, kind in dimensions.items() if name in trial.params}
        params = {name: trial.params[name] for name in own}
        plain.add_trial(create_trial(params=params, distributions=own, value=score))
    study = _Study(study_name=plain.study_name, storage=plain._storage)  # Optuna has no public way to wrap a storage
    study.sample = plain.get_trials()
    return study
