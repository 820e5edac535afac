"""Conductor: decides which trial comes next and keeps journal, record and studies in step. No Ray here.

    unfinished trials of an earlier session -> paused ones that may go on -> new ones -> the confirmation -> finished

Slots that no search trial can use take repeats of the confirmation early (`repeats.py`). A search trial always comes first,
but takes no slot away: one that may go on while an early repeat holds the slot waits for the next slot that becomes free.
Because it knows no Ray, the same object runs in the search, in the replay benchmark and in tests of milliseconds.
"""

import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tune_btxrd.config import TrainConfig
from tune_btxrd.data.splits.partition_names import confirm_split
from tune_btxrd.errors import ResultError
from tune_btxrd.search.budget import spent_epochs
from tune_btxrd.search.events import ENDINGS
from tune_btxrd.search.journal import Journal
from tune_btxrd.search.promotion import Promotion
from tune_btxrd.search.record import HAND_MADE_NUMBER, SearchRecord, TrialRecord, apply_event
from tune_btxrd.search.repeats import Repeats
from tune_btxrd.search.rungs import pausing_epochs
from tune_btxrd.search.selection.winner import confirm_seed, was_stopped
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.search.study import TrialStudy

GIVEN_BACK = 2  # times that a trial which lost its slot before it began is handed out again
TURNS = ("start", "pause", "promote", "end")  # events after which another trial may be the next one
SAME_FAILURES = 3  # so many first trials that fail alike stop the search


@dataclass(frozen=True, kw_only=True)
class PlannedTrial:
    """A trial to run: its label, its complete config, and which train/val partition it sees; several: one per fold."""

    label: str
    role: str
    config: TrainConfig
    splits: tuple[str, ...]


class Conductor:
    """Hands out trials and hears of their epochs and ends.

    Args:
        spec: what is searched; `record`: the search so far (its folder may hold earlier sessions).
        slots: trials at once. More are never handed out, so that no suggestion is older than it must be.
        split: name of the search's split, where a trial has no folds of its own; confirmation repeats see the partitions
            `confirm_1`, `confirm_2`, ...
        deadline: seconds since 1970 after which no search trial begins, or None.
        epoch_budget: epochs of search trials, of all sessions, after which none begins, or None.
        database: SQLite file for a copy of the studies, a new one: they are made anew from the journal; None makes none.
    """

    def __init__(
        self,
        spec: SearchSpec,
        *,
        journal: Journal,
        record: SearchRecord,
        slots: int,
        split: str,
        deadline: float | None = None,
        epoch_budget: int | None = None,
        database: Path | None = None,
    ) -> None:
        self.spec, self.journal, self.record, self.slots = spec, journal, record, slots
        self.deadline, self.epoch_budget = deadline, epoch_budget
        self._spent = spent_epochs(record, spec)
        self.splits = spec.trial_splits(split)
        name = record.folder.name
        self.search = TrialStudy(spec, database, name, past=tuple(record.search_trials), start=spec.start)
        repeats = tuple(replace(t, state="running", ended=None) if was_stopped(t) else t for t in record.confirmations)
        self.confirmation = TrialStudy(spec, database, f"{name}-confirm", past=repeats)
        self.repeats = Repeats(record, spec)
        self.promotion = Promotion.of_trials(
            record.search_trials, pausing_epochs(spec), reduction_factor=spec.reduction_factor, trials=spec.trials
        )
        self.given_up: list[str] = []  # labels of trials that ended without a slot, for who wants to know, who empties it
        self._unfinished = [t for t in record.trials.values() if not t.has_ended and not self._is_paused(t)]
        self._live: set[str] = set()
        self._given_back: Counter[str] = Counter()
        self._has_result = False  # whether a search trial is known to have ended otherwise than by a failure
        self._turns = 0  # how often a trial began, paused, went on, ended or lost its slot
        self._judged = -1  # as of which of these the repeats were judged
        self.finished = False  # whether `next` has said so
        for trial in list(self._unfinished):  # killed between the last epoch of a trial and the note of its end
            if trial.epochs and (stop := trial.epochs[-1]["stop"]):
                self.end(trial.label, state="complete", reason=ENDINGS[stop])
        for trial in record.search_trials:
            self._note_rung(trial)

    def next(self) -> PlannedTrial | Literal["wait", "finished"]:
        """The next trial to run, or that there is none yet, or that all is done.

        Raises:
            ResultError: the first trials all failed for the same reason.
        """
        self._stop_if_hopeless()
        self._give_up()
        self._judge_repeats()
        if len(self._live) >= self.slots:
            return "wait"
        if planned := self._next_search_trial() or self._next_confirmation():
            return planned
        self.finished = not self._live
        return "finished" if self.finished else "wait"

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        """Pickled as None: Ray pickles its Tuner, but the journal alone is the state of a search."""
        return type(None), ()

    def close(self) -> None:
        """Completes the copies of the studies. Raises: ResultError where the database cannot be written."""
        for trial in self.record.confirmations:
            if was_stopped(trial):
                self.confirmation.tell(trial)
        self.search.close()
        self.confirmation.close()

    @property
    def used_up(self) -> Literal["", "time", "epoch"]:
        """Which budget of the search trials is used up, "" while there is some of each."""
        if self.deadline is not None and time.time() >= self.deadline:
            return "time"
        return "epoch" if self.epoch_budget is not None and self._spent >= self.epoch_budget else ""

    def pauses(self, label: str, row: Mapping[str, Any]) -> bool:
        """Whether a trial pauses after this epoch (`scheduler: promote`); to be asked before `epoch` is told.

        A paused trial has left its slot; `next` hands it out again when it goes on.
        """
        if self.record.trials[label].role != "search" or row["stop"] == "diverged":
            return False
        return self.promotion.report(label, row["epoch"], row["objective"], ends=bool(row["stop"]) or bool(self.used_up))

    def stop_reason(self, label: str, epoch: int) -> str:
        """Why a trial that could go on after this epoch ends, whatever the scheduler is: a repeat that is not needed, a
        search trial once a budget is used up; "" where it goes on.
        """
        trial = self.record.trials[label]
        if trial.role == "search" and self.used_up:
            return f"stopped by the {self.used_up} budget at epoch {epoch}"
        return trial.unneeded

    def epoch(self, label: str, row: Mapping[str, Any]) -> bool:
        """Takes one epoch's row; False where it was known already (a trial that was resumed tells its last epochs again)."""
        trial = self.record.trials[label]
        if trial.epochs and row["epoch"] <= trial.epochs[-1]["epoch"]:
            return False
        self._write("epoch", trial=label, **row)
        self._spent += self.spec.folds_per_trial * (trial.role == "search")
        self._study_of(trial).report(trial.number, row["epoch"], row["objective"])
        self._note_rung(trial)
        return True

    def end(self, label: str, *, state: str, reason: str) -> None:
        """Takes a trial's end: "complete", "pruned", "diverged" or "failed", and why."""
        self._live.discard(label)
        self._unfinished = [trial for trial in self._unfinished if trial.label != label]
        self._write("end", trial=label, state=state, reason=reason)
        trial = self.record.trials[label]
        if not (trial.role == "confirm" and was_stopped(trial)):  # Optuna opens none again: it is told as the session closes
            self._study_of(trial).tell(trial)
        if trial.role == "search":
            self.promotion.end(label)

    def give_back(self, label: str) -> bool:
        """Takes a trial that lost its slot, to be handed out again; False where that happened GIVEN_BACK times already.

        One that lost it as it paused is paused all the same.
        """
        if self._is_paused(self.record.trials[label]):
            return True
        self._given_back[label] += 1
        if self._given_back[label] > GIVEN_BACK:
            return False
        self._live.discard(label)
        self._unfinished.append(self.record.trials[label])
        self._turns += 1
        return True

    @property
    def live(self) -> list[TrialRecord]:
        """The trials that are handed out and have not ended."""
        return [self.record.trials[label] for label in sorted(self._live)]

    def take_back(self) -> None:
        """Takes all running trials back, to be handed out again: they lost their processes at once."""
        self._unfinished += self.live
        self._live.clear()
        self._turns += 1

    def note(self, label: str, text: str) -> None:
        """Takes what happened to a trial that goes on."""
        self._write("note", trial=label, text=text)

    def _next_search_trial(self) -> PlannedTrial | None:
        if (unfinished := self._take_unfinished("search")) is not None:
            return self._again(unfinished)
        if (label := self.promotion.candidate()) is not None:
            self.promotion.promote(label)
            self._note_rung(self.record.trials[label])
            return self._again(self.record.trials[label])
        if not self._to_come:
            return None
        number, params, config = self.search.ask()
        planned = PlannedTrial(label=str(number), role="search", config=config, splits=self.splits)
        return self._begin(planned, number, params)

    def _next_confirmation(self) -> PlannedTrial | None:
        """The next repeat, unfinished ones first; an early one while search trials still run."""
        if (unfinished := self._take_unfinished("confirm")) is not None:
            return self._again(unfinished)
        if not self.spec.confirm:
            return None
        todo = self.repeats.wanted() if self.has_searched else self.repeats.early(may_be_wasted=self._may_waste)
        begun = {(trial.of, trial.repeat) for trial in self.record.confirmations}
        return next((self._confirm(trial, repeat) for trial, repeat in todo if (trial.number, repeat) not in begun), None)

    def _judge_repeats(self) -> None:
        """Notes which repeats are needed once the last search trial has ended; those that are not and have no slot end."""
        if self._judged == self._turns or not (self.spec.confirm and self.record.confirmations and self.has_searched):
            return
        self._judged = self._turns
        for trial, why in self.repeats.verdicts():
            if why and why != trial.unneeded:
                self._write("unneeded", trial=trial.label, reason=why)
            elif not why and trial.unneeded:
                self._unfinished += [trial] if was_stopped(trial) else []
                self._write("needed", trial=trial.label)
        for trial in [item for item in self._unfinished if item.unneeded]:
            self.end(trial.label, state="pruned", reason=trial.unneeded)
            self.given_up.append(trial.label)

    @property
    def _to_come(self) -> int:
        return 0 if self.used_up else max(0, self.spec.trials - len(self.record.search_trials))

    @property
    def has_searched(self) -> bool:
        """Whether no search trial runs, waits or is to come."""
        return self._to_come == 0 and all(trial.has_ended for trial in self.record.search_trials)

    @property
    def _may_waste(self) -> bool:
        """Whether the epoch budget holds even if the search takes all it can, and every doubtful repeat is unneeded."""
        if self.epoch_budget is None:
            return True
        left = sum(self.spec.epochs - len(trial.epochs) for trial in self.record.search_trials if not trial.has_ended)
        search = self.spec.folds_per_trial * left
        doubtful = sum(trial.of != HAND_MADE_NUMBER for trial in self.record.confirmations)
        return self._spent + search + (doubtful + 1) * self.spec.epochs <= self.epoch_budget

    def _confirm(self, trial: TrialRecord, repeat: int) -> PlannedTrial:
        number = self.confirmation.repeat(trial.params, {"of": trial.number, "repeat": repeat})
        config = trial.train_config.replace(seed=confirm_seed(self.spec.seed, repeat))
        splits = (confirm_split(repeat),)
        planned = PlannedTrial(label=f"{trial.number}r{repeat}", role="confirm", config=config, splits=splits)
        return self._begin(planned, number, trial.params, of=trial.number, repeat=repeat)

    def _is_paused(self, trial: TrialRecord) -> bool:
        return trial.role == "search" and self.promotion.is_paused(trial.label)

    def _note_rung(self, trial: TrialRecord) -> None:
        """Writes down that a trial pauses, or that it was let go past a rung, where the journal does not say so yet."""
        if trial.role != "search" or trial.has_ended:
            return
        if self._is_paused(trial):
            if trial.state != "paused":
                self._write("pause", trial=trial.label)
            self._live.discard(trial.label)
        elif self.promotion.passed(trial.label) > len(trial.promotions):
            self._write("promote", trial=trial.label)
        self.search.note_rung(trial)

    def _give_up(self) -> None:
        """Ends paused trials that will never go on: what others reach cannot change it, or the time is used up."""
        paused = [trial for trial in self.record.search_trials if self._is_paused(trial)] if self.used_up else []
        never = [self.record.trials[label] for label in self.promotion.hopeless()]
        for trials, why in ((paused, f"when the {self.used_up} budget was used up"), (never, "")):
            for trial in trials:
                if not trial.has_ended:
                    reason = f"not promoted at epoch {trial.epochs[-1]['epoch']} {why}".rstrip()
                    self.end(trial.label, state="pruned", reason=reason)
                    self.given_up.append(trial.label)

    def _begin(self, planned: PlannedTrial, number: int, params: Mapping[str, Any], **extra: Any) -> PlannedTrial:
        config = planned.config.to_dict()
        self._write(
            "start", trial=planned.label, number=number, role=planned.role, config=config, params=dict(params), **extra
        )
        self._live.add(planned.label)
        if planned.role == "search":
            self.promotion.begin(planned.label)
        return planned

    def _again(self, trial: TrialRecord) -> PlannedTrial:
        self._live.add(trial.label)
        splits = self.splits if trial.role == "search" else (confirm_split(int(trial.repeat or 0)),)
        return PlannedTrial(label=trial.label, role=trial.role, config=trial.train_config, splits=splits)

    def _study_of(self, trial: TrialRecord) -> TrialStudy:
        return self.search if trial.role == "search" else self.confirmation

    def _take_unfinished(self, role: str) -> TrialRecord | None:
        for at, trial in enumerate(self._unfinished):
            if trial.role == role and not trial.unneeded:  # by an earlier session: to be judged once the search has ended
                return self._unfinished.pop(at)
        return None

    def _write(self, event: str, **content: Any) -> None:
        apply_event(self.record, self.journal.write(event, **content))
        if event in TURNS:
            self._turns += 1
            if self.record.trials[content["trial"]].role == "search":
                self.repeats.forget()

    def _stop_if_hopeless(self) -> None:
        if self._has_result:
            return
        ended = [trial for trial in self.record.search_trials if trial.has_ended]
        self._has_result = any(trial.state != "failed" for trial in ended)
        if len(ended) < min(SAME_FAILURES, self.spec.trials) or self._has_result:
            return
        alike = {re.sub(r"\d+", "#", trial.reason) for trial in ended}  # bytes, process and trial numbers may differ
        if len(alike) == 1:
            raise ResultError(f"The first {len(ended)} trials failed alike, so the search stopped: {ended[-1].reason}")
