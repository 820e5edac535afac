"""Forecast: epochs and seconds that a search will still take, with rungs, patience and confirmation in mind. Pure functions.

A trial ends after an epoch with a chance (hazard) that starts from a prior and follows what the trials so far did: at a rung
the share that the scheduler cuts, beyond the patience a constant share that stops by itself.
"""

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from tune_btxrd.search.cost import Costs, epoch_costs
from tune_btxrd.search.record import TrialRecord
from tune_btxrd.search.rungs import rung_epochs
from tune_btxrd.search.space.spec import SearchSpec

PATIENCE_SHARE = 0.04  # prior chance per epoch beyond the patience that a training stops by itself
PATIENCE_EPOCHS = 20.0  # epochs at risk that this prior counts as much as
RUNG_TRIALS = 4.0  # trials at a rung that its prior counts as much as
OVERHEAD, OVERHEAD_EPOCHS = 1.1, 10.0  # prior slot time per second of training and validation; counts as so many epochs
FIRST = 1.25  # so many times longer the first epoch of a slot takes
RECENT = 100  # epochs whose seconds count: a machine may become slower or faster


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Epochs that are still to come; one of a trial over several folds counts once per fold, one at another image size than
    that of the hand-made config as many times as it costs.

    Attributes:
        search, confirmation: of either; tail: epochs that one slot works on alone at the end, on average.
    """

    search: float
    confirmation: float
    tail: float


def forecast(
    trials: Collection[TrialRecord], spec: SearchSpec, *, repeats: int | None = None, costs: Costs | None = None
) -> Forecast:
    """What is still to come after these trials.

    Args:
        repeats: confirmation trials that there will be in all; None while the search still chooses them.
        costs: of an epoch at each image size; None: by pixels.
    """
    costs = costs or epoch_costs(spec)
    searched = [trial for trial in trials if trial.role == "search"]
    confirmed = [trial for trial in trials if trial.role == "confirm"]
    stops = patience_share(trials, spec)
    whole = remaining(spec, stops, {})
    cuts = rung_shares(searched, spec)
    cut = remaining(spec, stops, cuts)
    to_come = max(0, spec.trials - len(searched))
    search = to_come * cut[0] * costs.proposed(searched)
    search += sum(cut[_done(trial, spec)] * costs.of(trial) for trial in searched if not trial.has_ended)
    search *= spec.folds_per_trial
    running = sum(whole[_done(trial, spec)] * costs.of(trial) for trial in confirmed if not trial.has_ended)
    wanted = expected_repeats(spec, cuts) if repeats is None else repeats
    each = _repeat_cost(searched, spec, costs)
    confirmation = max(0.0, wanted - len(confirmed)) * whole[0] * each + running
    tail = whole[0] * each if wanted else cut[0] * spec.folds_per_trial * costs.proposed(searched)
    return Forecast(search=search, confirmation=confirmation, tail=tail / 2)


def _repeat_cost(searched: Sequence[TrialRecord], spec: SearchSpec, costs: Costs) -> float:
    """Expected cost of an epoch of the confirmation: of the hand-made config and the best trials so far."""
    best = sorted((trial for trial in searched if trial.objective is not None), key=lambda trial: trial.rank)
    known = [costs.of(trial) for trial in best[: spec.confirm]]
    unknown = max(0, spec.confirm - len(known))
    return (1.0 + sum(known) + unknown * costs.mean) / (1 + len(known) + unknown)


def remaining(spec: SearchSpec, stops: float, cuts: Mapping[int, float]) -> list[float]:
    """(E + 1,) epochs that a training is expected to go on after 0, 1, ... epochs.

    Args:
        stops: chance that it stops by its patience, per epoch beyond it; cuts: rung -> chance that it is cut there.
    """
    patience, ahead = spec.hand_made.patience, [0.0] * (spec.epochs + 1)
    for done in reversed(range(spec.epochs)):
        goes_on = (1 - cuts.get(done + 1, 0.0)) * (1 - (stops if done + 1 > patience else 0.0))
        ahead[done] = 1 + goes_on * ahead[done + 1]
    return ahead


def expected_repeats(spec: SearchSpec, cuts: Mapping[int, float]) -> float:
    """Confirmation trials before it is known whether the hand-made config is among the best, and how many candidates are."""
    if not spec.confirm:
        return 0.0
    candidates = spec.trials * (1.0 if spec.recommend == "model" else math.prod(1 - share for share in cuts.values()))
    top = min(float(spec.confirm), max(1.0, candidates))
    return (top + 1 - top / spec.trials) * spec.repeats


def patience_share(trials: Collection[TrialRecord], spec: SearchSpec) -> float:
    """Chance per epoch beyond the patience that a training stops by itself."""
    patience = spec.hand_made.patience
    at_risk = sum(max(0, min(len(trial.epochs), spec.epochs - 1) - patience) for trial in trials)
    stopped = sum(trial.state == "complete" and patience < len(trial.epochs) < spec.epochs for trial in trials)
    return (stopped + PATIENCE_SHARE * PATIENCE_EPOCHS) / (at_risk + PATIENCE_EPOCHS)


def rung_shares(searched: Sequence[TrialRecord], spec: SearchSpec) -> dict[int, float]:
    """Rung -> share of the trials there that are cut: a prior, and what those did that were compared there.

    More go on than one in `reduction_factor`: a trial is compared with those before it alone, and the first always goes on.
    """
    shares: dict[int, float] = {}
    for rung in rung_epochs(spec):
        arrivals = max(1.0, spec.trials * (1 / spec.reduction_factor) ** len(shares))
        prior = (1 - 1 / spec.reduction_factor) * (1 - _harmonic(round(arrivals)) / arrivals)
        cut = sum(trial.state == "pruned" and len(trial.epochs) == rung for trial in searched)
        passed = sum(len(trial.epochs) > rung for trial in searched)
        shares[rung] = (cut + RUNG_TRIALS * prior) / (cut + passed + RUNG_TRIALS)
    return shares


def seconds_left(
    ahead: Forecast,
    trials: Collection[TrialRecord],
    spec: SearchSpec,
    *,
    slots: int,
    since: float,
    measured: float | None,
    costs: Costs | None = None,
    longest: float = math.inf,
) -> float | None:
    """Seconds until all has ended; None before the first epoch.

    Args:
        since: seconds since 1970 at which the present session began; epochs before it say nothing of its speed.
        measured: seconds of an epoch as measured before the search (`Layout.epoch_seconds`); it counts as one epoch more.
        costs: as in `forecast`; longest: seconds that the search trials may still take.
    """
    costs = costs or epoch_costs(spec)
    pairs = [
        (row, _folds(trial, spec) * costs.of(trial)) for trial in trials for row in trial.epochs if row["time"] >= since
    ]
    if not pairs:
        return None
    rows, work = zip(*sorted(pairs, key=lambda pair: float(pair[0]["time"])), strict=True)
    lasted = [float(row["train_seconds"]) + float(row["val_seconds"]) for row in rows]
    each = [seconds / units for seconds, units in zip(lasted, work, strict=True)]
    warm = each[slots:] if len(each) > 2 * slots else [seconds / FIRST for seconds in each]
    epoch = statistics.fmean([*warm[-RECENT:], *([measured] if measured else [])])
    begun = rows[0]["time"] - lasted[0]
    taken = slots * (rows[-1]["time"] - begun) - slots * epoch / 2  # what runs now is half done, on average
    known, prior = sum(lasted), OVERHEAD_EPOCHS * slots * epoch
    overhead = (max(taken, known) + OVERHEAD * prior) / (known + prior) if known else 1.0
    if not ahead.search + ahead.confirmation:
        return 0.0
    rate = epoch * overhead
    return min(ahead.search / slots * rate, longest) + (ahead.confirmation / slots + ahead.tail * (1 - 1 / slots)) * rate


def _folds(trial: TrialRecord, spec: SearchSpec) -> int:
    return spec.folds_per_trial if trial.role == "search" else 1


def _done(trial: TrialRecord, spec: SearchSpec) -> int:
    return min(len(trial.epochs), spec.epochs)


def _harmonic(count: int) -> float:
    return sum(1 / number for number in range(1, count + 1))
