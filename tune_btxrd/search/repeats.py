"""Repeats: which repeat of the confirmation comes next, also while the last search trials run. Neither Ray nor a clock.

A slot without a search trial takes an early repeat: first of the hand-made config, which is always confirmed; then of
configs that are confirmed whatever the other trials do; then of those that would be confirmed if the search ended now, by
the very ranking that chooses them in the end, the best one first. One that turns out unneeded is stopped once that is known,
and left out of the choice (`selection/winner.py`). By `benchmarks/idle_end.py` that beats round after round, and fewer.
"""

from contextlib import suppress

from tune_btxrd.errors import ResultError
from tune_btxrd.search.record import SearchRecord, TrialRecord
from tune_btxrd.search.selection.recommendation import FEWEST
from tune_btxrd.search.selection.winner import Ranking, ranking, wanted_repeats
from tune_btxrd.search.space.spec import SearchSpec

Repeat = tuple[TrialRecord, int]  # of which trial, and its number


class Repeats:
    """The repeats that a search asks for, from the record that the conductor keeps.

    The ranking is made once, and anew after `forget`: a model of 200 trials takes 0.1 s.
    """

    def __init__(self, record: SearchRecord, spec: SearchSpec) -> None:
        self.record, self.spec = record, spec
        self._ranked: Ranking | None = None

    def forget(self) -> None:
        """A search trial has begun, paused, gone on or ended."""
        self._ranked = None

    def wanted(self) -> list[Repeat]:
        """Those that the confirmation asks for once the search has ended. Raises: ResultError where no trial can win."""
        return wanted_repeats(self.record, self.spec, ranked=self._ranking())

    def verdicts(self) -> list[tuple[TrialRecord, str]]:
        """Every repeat that was begun, with the reason why it is not needed, or "", once the search has ended."""
        wanted = {(trial.number, repeat) for trial, repeat in self.wanted()}
        confirmed, begun = {number for number, _ in wanted}, self.record.confirmations
        return [(item, "" if (item.of, item.repeat) in wanted else _why(item, confirmed)) for item in begun]

    def early(self, *, may_be_wasted: bool) -> list[Repeat]:
        """Those for a slot that would be idle, the surest config first, all its repeats: what is likely of one is of all.

        Args:
            may_be_wasted: whether the budget allows epochs that no choice uses.
        """
        configs = [trial for trial in self.record.search_trials if trial.is_hand_made]
        with suppress(ResultError):  # no candidate yet, which only matters once the search has ended
            ranked = self._ranking()
            configs += sure(ranked, self.record, self.spec)
            configs += ranked.confirmed if may_be_wasted else ()
        return [(trial, repeat) for trial in configs for repeat in range(1, self.spec.repeats + 1)]

    def _ranking(self) -> Ranking:
        self._ranked = self._ranked or ranking(self.record, self.spec)
        return self._ranked


def sure(ranked: Ranking, record: SearchRecord, spec: SearchSpec) -> list[TrialRecord]:
    """The configs that are confirmed whatever the trials that have not ended do; none is to begin.

    By best score that is one that stays among the top K even if all others overtake it. A model orders all trials anew with
    each result, so that a config is sure only where all candidates there can be are confirmed.
    """
    others = sum(not trial.has_ended for trial in record.search_trials)
    ended = [trial for trial in ranked.candidates if trial.has_ended]
    if spec.recommend == "model" and len(ended) + others >= FEWEST:
        return ended if len(ended) + others <= spec.confirm else []
    return ended[: max(0, spec.confirm - others)]


def _why(repeat: TrialRecord, confirmed: set[int]) -> str:
    end = "repeated no further" if repeat.of in confirmed else "not among those confirmed"
    return f"not needed after all: trial {repeat.of} is {end}"
