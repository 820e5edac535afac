"""Winner: ranks the trials of a search and chooses the winner by confirmation. Pure functions on a `SearchRecord`.

1. Candidates ran to their full budget or their own patience; a trial that ASHA cut is no candidate.
2. Each counts with its best epoch.
3. Confirmation: the top K and the hand-made config are repeated, every repeat with a fresh seed and a fresh train/val
   partition, the same for all. The winner has the best confirmed mean; its search score is never what is claimed.
"""

import hashlib
import math
import statistics
from dataclasses import dataclass

from scipy import special

from tune_btxrd.errors import ResultError
from tune_btxrd.search.record import HAND_MADE_NUMBER, SearchRecord, TrialRecord
from tune_btxrd.search.selection.constraints import is_feasible
from tune_btxrd.search.space.spec import SearchSpec


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Candidates, best first, and those that confirmation repeats (top K and the hand-made config)."""

    candidates: tuple[TrialRecord, ...]
    confirmed: tuple[TrialRecord, ...]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean of paired differences with its 95 % interval; positive: better than the hand-made config."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One confirmed config.

    Attributes:
        scores: confirmed objective per repeat, in order of repeats; minimised, as all that is compared.
        mean, std: of the scores.
        gain: hand-made minus this, paired per repeat; None for the hand-made config itself.
        optimism: confirmed mean minus search score; positive: the search score flattered.
        feasible: every constraint holds for the mean over repeats.
    """

    trial: TrialRecord
    scores: tuple[float, ...]
    mean: float
    std: float
    gain: Interval | None
    optimism: float | None
    feasible: bool

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
    """The winner and how it was found; `standings` is empty where confirmation was skipped."""

    winner: TrialRecord
    standings: tuple[Standing, ...]
    none_feasible: bool

    @property
    def standing(self) -> Standing | None:
        """The winner's own standing, or None without confirmation."""
        return next((item for item in self.standings if item.trial is self.winner), None)


def ranking(record: SearchRecord, spec: SearchSpec) -> Ranking:
    """Candidates by search score, and what confirmation repeats.

    Raises:
        ResultError: no trial ran to its budget or patience.
    """
    complete = [trial for trial in record.search_trials if trial.state == "complete" and trial.objective is not None]
    if not complete:
        raise ResultError(
            "A winner needs a trial that ran to its budget or patience, but there is none: --resume with more time."
        )
    ordered = sorted(complete, key=lambda trial: (not is_feasible(spec, [trial]), *trial.rank))
    top = ordered[: spec.confirm]
    hand_made = [trial for trial in record.search_trials if trial.is_hand_made and trial not in top]
    return Ranking(candidates=tuple(ordered), confirmed=tuple([*top, *hand_made]))


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
    repeats = {trial.number: _repeats(record, trial, spec) for trial in ranked.confirmed}
    baseline = repeats.get(HAND_MADE_NUMBER)
    standings = [_standing(trial, repeats[trial.number], baseline, spec, val_share) for trial in ranked.confirmed]
    if not any(item.scores for item in standings):
        raise ResultError(
            "Confirmation needs two repeats of one config, but none ended well: see trials.csv, then --resume."
        )
    standings.sort(key=lambda item: (not item.scores, not item.feasible, item.mean, item.trial.number))
    return Selection(winner=standings[0].trial, standings=tuple(standings), none_feasible=not standings[0].feasible)


def corrected_interval(differences: list[float], *, val_share: float, level: float = 0.95) -> Interval:
    """The corrected resampled t-interval of paired differences from overlapping partitions.

    Variance of the mean = (1/R + n_val/n_train) * s^2, with R - 1 degrees of freedom: repeats share most of their images, so
    they tell less than R independent ones (Nadeau & Bengio, Machine Learning 52, 2003, eq. 9).
    """
    count = len(differences)
    assert count >= 2
    mean = statistics.fmean(differences)
    error = math.sqrt((1 / count + val_share) * statistics.variance(differences))
    half = float(special.stdtrit(count - 1, (1 + level) / 2)) * error
    return Interval(mean=mean, low=mean - half, high=mean + half)


def confirm_seed(seed: int, repeat: int) -> int:
    """The training seed of a confirmation repeat: the same for all candidates, and never the search's own."""
    digest = hashlib.blake2b(f"{seed}/confirm/{repeat}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little") >> 1


def pareto_front(record: SearchRecord, recall: str) -> list[TrialRecord]:
    """Trials that no other beats in both the monitored value and the named recall, each at its best epoch; best first.

    An undefined recall counts as 0, so that the monitored value alone decides.
    """
    scored = [(trial, _score(trial), _defined(trial.best[recall])) for trial in record.search_trials if trial.best]
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
        return Standing(trial=trial, scores=(), mean=math.inf, std=0.0, gain=None, optimism=None, feasible=False)
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
    )


def _repeats(record: SearchRecord, trial: TrialRecord, spec: SearchSpec) -> dict[int, TrialRecord]:
    """Repeat number -> the confirmation trial of this config, complete ones only."""
    mine = [item for item in record.confirmations if item.of == trial.number]
    if running := [item.label for item in mine if item.state == "running"]:
        raise ResultError(f"Confirmation must have ended, but trial {running[0]} has not: search --resume goes on.")
    ended = {int(item.repeat or 0): item for item in mine if item.state == "complete"}
    return {repeat: ended[repeat] for repeat in sorted(ended) if repeat <= spec.repeats}


def _defined(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def _score(trial: TrialRecord) -> float:
    assert trial.objective is not None
    return trial.objective
