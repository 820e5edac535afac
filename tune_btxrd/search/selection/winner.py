"""Winner: ranks the trials of a search and chooses the winner by confirmation. Pure functions on a `SearchRecord`.

1. `recommend: model` ranks every trial with an epoch by a model of all (`recommendation.py`); one that was cut is trained to
   its end by its repeats. `recommend: best` ranks those that ran to their full budget or own patience, by their best epoch.
2. Confirmation: the top K and the hand-made config are repeated, every repeat with a fresh seed and a fresh train/val
   partition, the same for all. With a model, clear losers are repeated no further (`confirmation.py`), and the
   model's value counts as one more repeat when the winner is chosen; else the best mean wins. Only repeats are claimed.
3. A repeat that was begun but is not asked for (its config is not confirmed in the end, or repeated no further) is left out:
   whatever it reported, the choice is the one that would have been made without it.
"""

import dataclasses
import hashlib
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tune_btxrd.errors import ResultError
from tune_btxrd.monitor import GAP
from tune_btxrd.search.record import HAND_MADE_NUMBER, SearchRecord, TrialRecord
from tune_btxrd.search.selection.confirmation import POOLED, losers
from tune_btxrd.search.selection.constraints import is_feasible
from tune_btxrd.search.selection.interval import Interval, corrected_interval
from tune_btxrd.search.selection.recommendation import recommend
from tune_btxrd.search.space.spec import SearchSpec


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Candidates, best first, and those that confirmation repeats (top K and the hand-made config).

    Attributes:
        modelled: number of a trial -> its objective by the model; empty where no model ranked them.
    """

    candidates: tuple[TrialRecord, ...]
    confirmed: tuple[TrialRecord, ...]
    modelled: Mapping[int, float]


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One confirmed config.

    Attributes:
        scores: confirmed objective per repeat, in order of repeats; minimised, as all that is compared.
        mean, std: of the scores.
        gain: hand-made minus this, paired per repeat; None for the hand-made config itself.
        optimism: confirmed mean minus search score; positive: the search score flattered.
        feasible: every constraint holds for the mean over repeats.
        decisive: what the winner is chosen by: the mean, pooled with the model's value where there is one.
        dropped: it was clearly worse than another, so that it was repeated no further.
    """

    trial: TrialRecord
    scores: tuple[float, ...]
    mean: float
    std: float
    gain: Interval | None
    optimism: float | None
    feasible: bool
    decisive: float
    dropped: bool

    @property
    def shown_scores(self) -> tuple[float, ...]:
        """The scores with the monitor's own sign."""
        return tuple(map(self.trial.monitor.score, self.scores))

    @property
    def shown_mean(self) -> float:
        """The mean with the monitor's own sign."""
        return self.trial.monitor.score(self.mean)

    @property
    def beats_hand_made(self) -> bool:
        """Whether the interval of the gain excludes 0 from above."""
        return self.gain is not None and self.gain.low > 0


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The winner and how it was found; `standings` is empty where confirmation was skipped.

    Attributes:
        unneeded: repeats that were begun and left out.
    """

    winner: TrialRecord
    standings: tuple[Standing, ...]
    none_feasible: bool
    unneeded: tuple[TrialRecord, ...] = ()

    @property
    def standing(self) -> Standing | None:
        """The winner's own standing, or None without confirmation."""
        return next((item for item in self.standings if item.trial is self.winner), None)


def ranking(record: SearchRecord, spec: SearchSpec) -> Ranking:
    """Candidates by the rule of the space, and what confirmation repeats.

    Raises:
        ResultError: no trial can be a candidate.
    """
    modelled: dict[int, float] = {}
    if spec.recommend == "model":
        assessed = recommend(record.search_trials, spec).assessed
        ordered, demand = [item.trial for item in assessed], "finished an epoch"
        modelled = {item.trial.number: item.modelled for item in assessed if item.modelled is not None}
    else:
        complete = [trial for trial in record.search_trials if trial.state == "complete" and trial.objective is not None]
        ordered = sorted(complete, key=lambda trial: (not is_feasible(spec, [trial]), *trial.rank))
        demand = "ran to its budget or patience"
    if not ordered:
        raise ResultError(f"A winner needs a trial that {demand}, but there is none: --resume with more time.")
    top = ordered[: spec.confirm]
    hand_made = [trial for trial in record.search_trials if trial.is_hand_made and trial not in top]
    return Ranking(candidates=tuple(ordered), confirmed=tuple([*top, *hand_made]), modelled=modelled)


def wanted_repeats(
    record: SearchRecord, spec: SearchSpec, *, ranked: Ranking | None = None
) -> list[tuple[TrialRecord, int]]:
    """Every repeat that the confirmation asks for as far as is known now, in order: (trial, number of the repeat).

    Args:
        ranked: the ranking of this record, where it is at hand.

    Raises:
        ResultError: no trial can be a candidate.
    """
    confirmed = (ranked or ranking(record, spec)).confirmed
    dropped = _dropped(record, confirmed, spec)
    return [
        (trial, repeat)
        for repeat in range(1, spec.repeats + 1)
        for trial in confirmed
        if repeat <= dropped.get(trial.number, spec.repeats)
    ]


def select(record: SearchRecord, spec: SearchSpec, *, val_share: float) -> Selection:
    """The winner by the rule at the top of this file.

    Args:
        val_share: validation images / training images, for the corrected resampled t-interval.

    Raises:
        ResultError: no candidate, or a confirmation that has not ended.
    """
    ranked = ranking(record, spec)
    if not spec.confirm:
        winner = ranked.candidates[0]
        return Selection(winner=winner, standings=(), none_feasible=not is_feasible(spec, [winner]))
    dropped = _dropped(record, ranked.confirmed, spec)
    repeats = {
        trial.number: _repeats(record, trial, last=dropped.get(trial.number, spec.repeats)) for trial in ranked.confirmed
    }
    baseline = repeats.get(HAND_MADE_NUMBER)
    standings = [_standing(trial, repeats[trial.number], baseline, spec, val_share) for trial in ranked.confirmed]
    standings = _pooled(standings, ranked.modelled)
    standings = [dataclasses.replace(item, dropped=item.trial.number in dropped) for item in standings]
    if not any(item.scores for item in standings):
        raise ResultError(
            "Confirmation needs two repeats of one config, but none ended well: see trials.csv, then --resume."
        )
    standings.sort(key=lambda i: (not i.scores, i.dropped, not i.feasible, i.decisive, i.trial.number))
    wanted = {(trial.number, repeat) for trial, repeat in wanted_repeats(record, spec, ranked=ranked)}
    return Selection(
        winner=standings[0].trial,
        standings=tuple(standings),
        none_feasible=not standings[0].feasible,
        unneeded=tuple(item for item in record.confirmations if (item.of, item.repeat) not in wanted),
    )


def confirm_seed(seed: int, repeat: int) -> int:
    """The training seed of a confirmation repeat: the same for all candidates, and never the search's own."""
    digest = hashlib.blake2b(f"{seed}/confirm/{repeat}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little") >> 1


def pareto_front(record: SearchRecord, column: str) -> list[TrialRecord]:
    """Trials that no other beats in both the monitored value and the named one, each at its best epoch; best first.

    Of a recall more is better, and an undefined one counts as 0, so that the monitored value alone decides. Of a gap between
    centers less is better; a trial without one is no candidate.
    """
    told = [(trial, trial.best) for trial in record.search_trials if trial.best]
    if column == GAP:
        gaps = ((trial, float(best.get(GAP, math.nan))) for trial, best in told)
        scored = [(trial, _score(trial), -gap) for trial, gap in gaps if not math.isnan(gap)]
    else:
        scored = [(trial, _score(trial), _defined(best[column])) for trial, best in told]
    front = [a for a in scored if not any(b[1] <= a[1] and b[2] >= a[2] and b[1:] != a[1:] for b in scored)]
    return [trial for trial, _, _ in sorted(front, key=lambda item: (item[1], item[0].number))]


def _standing(
    trial: TrialRecord,
    repeats: dict[int, TrialRecord],
    baseline: dict[int, TrialRecord] | None,
    spec: SearchSpec,
    val_share: float,
) -> Standing:
    if len(repeats) < 2:
        return Standing(
            trial=trial,
            scores=(),
            mean=math.inf,
            std=0.0,
            gain=None,
            optimism=None,
            feasible=False,
            decisive=math.inf,
            dropped=False,
        )
    scores = {repeat: _score(item) for repeat, item in repeats.items()}
    mean = statistics.fmean(scores.values())
    gain = None
    if baseline is not None and not trial.is_hand_made:
        paired = [_score(baseline[repeat]) - score for repeat, score in scores.items() if repeat in baseline]
        gain = corrected_interval(paired, val_share=val_share) if len(paired) >= 2 else None
    return Standing(
        trial=trial,
        scores=tuple(scores.values()),
        mean=mean,
        std=statistics.stdev(scores.values()),
        gain=gain,
        optimism=mean - _score(trial) if trial.state == "complete" else None,
        feasible=is_feasible(spec, list(repeats.values())),
        decisive=mean,
        dropped=False,
    )


def _pooled(standings: Sequence[Standing], modelled: Mapping[int, float]) -> list[Standing]:
    """With the model's value as POOLED more repeats, moved to the level of the repeats, whose partitions are others."""
    both = [item for item in standings if item.scores and item.trial.number in modelled]
    if len(both) < 2:
        return list(standings)
    level = statistics.fmean(item.mean - modelled[item.trial.number] for item in both)
    moved = {item.trial.number: modelled[item.trial.number] + level for item in both}
    return [
        dataclasses.replace(
            item,
            decisive=(len(item.scores) * item.mean + POOLED * moved[item.trial.number]) / (len(item.scores) + POOLED),
        )
        if item.trial.number in moved
        else item
        for item in standings
    ]


def _dropped(record: SearchRecord, confirmed: Sequence[TrialRecord], spec: SearchSpec) -> dict[int, int]:
    """Number of a trial -> the repeat after which it is repeated no further; never the hand-made config."""
    dropped: dict[int, int] = {}
    if spec.recommend != "model":
        return dropped
    ended = {(item.of, item.repeat): item for item in record.confirmations if item.has_ended and not was_stopped(item)}
    for done in range(2, spec.repeats):
        going = [trial.number for trial in confirmed if not trial.is_hand_made and trial.number not in dropped]
        rounds = [[ended.get((number, repeat)) for number in going] for repeat in range(1, done + 1)]
        told = [[item for item in items if item is not None] for items in rounds]
        if any(len(items) < len(going) for items in told):
            return dropped
        whole = [items for items in told if all(item.state == "complete" for item in items)]
        scores = {number: [_score(items[at]) for items in whole] for at, number in enumerate(going)}
        dropped |= dict.fromkeys(losers(scores, looks=spec.repeats - 2), done)
    return dropped


def was_stopped(repeat: TrialRecord) -> bool:
    """Whether a repeat was stopped since it was not needed: nothing else stops one. Where it is needed, it is not done."""
    return repeat.state == "pruned"


def _repeats(record: SearchRecord, trial: TrialRecord, *, last: int) -> dict[int, TrialRecord]:
    """Repeat number -> the confirmation trial of this config, complete ones up to the last that was asked for."""
    mine = [item for item in record.confirmations if item.of == trial.number and int(item.repeat or 0) <= last]
    if running := [item.label for item in mine if item.state == "running"]:
        raise ResultError(f"Confirmation must have ended, but trial {running[0]} has not: search --resume goes on.")
    ended = {int(item.repeat or 0): item for item in mine if item.state == "complete"}
    return {repeat: ended[repeat] for repeat in sorted(ended)}


def _defined(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def _score(trial: TrialRecord) -> float:
    assert trial.objective is not None
    return trial.objective
