"""Studies: what Optuna is told about trials, every epoch and how each really ended. No Ray here.

Stock `OptunaSearch` calls a trial that ASHA stopped COMPLETE with its early value. Here it is PRUNED at its epoch; a trial
that diverged is PRUNED at its last finite epoch, so that the sampler learns that region; an exception is FAIL. One that is
paused is RUNNING until it ends, but proposals count it as PRUNED at its rung: as RUNNING it would repel them, good as it is.
"""

import hashlib
import math
import threading
import warnings
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from tune_btxrd.config import TrainConfig
from tune_btxrd.errors import ResultError, first_line
from tune_btxrd.search.events import is_score
from tune_btxrd.search.prior import believed, believed_trials, is_believed
from tune_btxrd.search.record import TrialRecord
from tune_btxrd.search.space.dimension import Dimension
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.search.study_database import StudyDatabase

OPTUNA_STATES = {
    "running": TrialState.RUNNING,
    "paused": TrialState.RUNNING,  # Optuna opens no trial again that has ended
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "diverged": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


class _Trials(InMemoryStorage):
    """Trials in memory; a proposal may be shown others in the place of some.

    A study made anew for each proposal, with paused trials as PRUNED, cost 40 ms at 275 trials, and ever more.
    """

    _instead: Mapping[int, FrozenTrial] = {}

    @contextmanager
    def shown(self, instead: Mapping[int, FrozenTrial]) -> Iterator[None]:
        """While it is open, `get_all_trials` returns these in the place of those with their numbers."""
        self._instead = instead
        try:
            yield
        finally:
            self._instead = {}

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """The trials in order of their numbers, of some states where they are given."""
        if not self._instead or states == (TrialState.WAITING,):
            return super().get_all_trials(study_id, deepcopy, states)
        trials = [self._instead.get(trial.number, trial) for trial in super().get_all_trials(study_id, deepcopy)]
        return [trial for trial in trials if states is None or trial.state in states]


class TrialStudy:
    """One Optuna study of the trials of one role, in memory; its copy `optuna.db` is for Optuna's own tools.

    Args:
        spec: what is searched and how.
        path: the SQLite file of the copy (see `StudyDatabase`); None makes none.
        name: the study's name.
        past: trials of an earlier session, in order of their numbers; the study is made anew from them, so that a damaged
            or late database does no harm. A trial that was running is RUNNING again.
        start: values of the first trials.

    Raises:
        ResultError: one of `past` is missing or lies outside of the space.
    """

    def __init__(
        self,
        spec: SearchSpec,
        path: Path | None,
        name: str,
        *,
        past: tuple[TrialRecord, ...] = (),
        start: tuple[Mapping[str, Any], ...] = (),
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.spec, self.monitor = spec, spec.monitored
        self._trials = _Trials()
        self.study = optuna.create_study(storage=self._trials, study_name=name, direction=self.monitor.direction)
        self._running: dict[int, Trial] = {}
        self._paused: dict[int, FrozenTrial] = {}  # number -> what a proposal sees of it
        for record in past:
            self._add(record)
            self.note_rung(record)
        for frozen in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self._running[frozen.number] = Trial(self.study, frozen._trial_id)  # the only handle on a trial of before
        for values in start[len(past) :]:
            self.study.enqueue_trial(dict(values))
        self._lock = threading.Lock()
        self._database = StudyDatabase(self.study, path, self._lock) if path else None

    def _add(self, record: TrialRecord) -> None:
        number = len(self.study.get_trials(deepcopy=False))
        if record.number != number:
            raise ResultError(
                f"Trials of a search must be numbered from 0 without a gap, but the journal holds none of number {number} "
                f"in {self.study.study_name!r}: restore journal.jsonl from a copy."
            )
        try:
            self.study.add_trial(_frozen(record, self.spec))
        except ValueError as error:
            raise ResultError(
                f"Trials of a search must lie in its space, but trial {record.label} does not ({first_line(error)}): "
                "restore space.yaml and journal.jsonl from a copy, or start a new search."
            ) from error

    def ask(self) -> tuple[int, Mapping[str, Any], TrainConfig]:
        """The next trial's number, searched values and complete config. It depends on (seed, number) and the past alone.

        Raises:
            ResultError: the copy cannot be written.
        """
        if self._database is not None:
            self._database.check()
        waiting = len(self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))
        number = len(self.study.get_trials(deepcopy=False)) - waiting
        if number >= len(self.spec.start) and is_believed(self.spec, number):
            self.study.enqueue_trial(dict(believed(self.spec, proposal_seed(self.spec, number))))
            waiting += 1
        self.study.sampler = make_sampler(self.spec, number)
        with self._lock, self._trials.shown({} if waiting else self._paused):
            trial = self.study.ask()
            config = self.spec.suggest(trial)
        self._running[trial.number] = trial
        return trial.number, dict(trial.params), config

    def note_rung(self, record: TrialRecord) -> None:
        """Whether an unfinished trial waits at a rung now."""
        if record.state == "paused":
            pruned = _frozen(replace(record, state="pruned", ended=record.epochs[-1]["time"]), self.spec)
            pruned._trial_id = self.study.get_trials(deepcopy=False)[record.number]._trial_id
            self._paused[record.number] = pruned
        else:
            self._paused.pop(record.number, None)

    def repeat(self, params: Mapping[str, Any], attributes: Mapping[str, Any]) -> int:
        """Enters a trial with given values (a confirmation) and returns its number."""
        self.study.sampler = RandomSampler(seed=0)  # every value is given; nothing is drawn
        with self._lock:
            self.study.enqueue_trial(dict(params), user_attrs=dict(attributes))
            trial = self.study.ask()
            self.spec.suggest(trial)
        self._running[trial.number] = trial
        return trial.number

    def report(self, number: int, epoch: int, objective: float) -> None:
        """An intermediate value: the best monitored value after `epoch` epochs, which Optuna sees with its own sign."""
        with self._lock:
            self._running[number].report(self.monitor.score(objective), step=epoch)

    def tell(self, record: TrialRecord) -> None:
        """How the trial ended."""
        trial = self._running.pop(record.number)
        self._paused.pop(record.number, None)
        value = record.score if record.state == "complete" else None
        with self._lock:
            trial.set_user_attr("reason", record.reason)
            for name, attribute in _attributes(record).items():
                trial.set_user_attr(name, attribute)
            for name, violation in violations(self.spec, record).items():
                trial.set_constraint(name, violation)
            self.study.tell(trial, value, state=OPTUNA_STATES[record.state])

    def close(self) -> None:
        """Completes the copy. Raises: ResultError where it cannot be written."""
        if self._database is not None:
            self._database.close()


def fresh_database(folder: Path) -> Path:
    """`optuna.db` of a search folder, without what an earlier session left: our journal is never behind it."""
    path = folder / "optuna.db"
    for old in (path, path.with_name("optuna.db-journal")):  # SQLite's own, left by a kill within a transaction
        old.unlink(missing_ok=True)
    return path


def make_sampler(spec: SearchSpec, number: int) -> BaseSampler:
    """The sampler of one trial. A new one each time, seeded by (seed, number), so that a resumed search draws the same."""
    seed = proposal_seed(spec, number)
    if spec.sampler == "random" or _is_random(number, spec.random_share):
        return RandomSampler(seed=seed)
    if spec.sampler == "gp":
        return GPSampler(seed=seed, n_startup_trials=spec.startup_trials + believed_trials(spec))
    startup = spec.startup_trials + believed_trials(spec)
    if any(item.when for item in spec.space):
        with warnings.catch_warnings():  # `group` is marked experimental; conditional dimensions need it
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return TPESampler(seed=seed, n_startup_trials=startup, multivariate=True, group=True, constant_liar=True)
    return _WholeSpace(spec, seed=seed, n_startup_trials=startup, multivariate=True, constant_liar=True)


class _WholeSpace(TPESampler):
    """TPE of a space that every trial has all of; told so, it need not gather it from all trials before each proposal."""

    def __init__(self, spec: SearchSpec, **settings: Any) -> None:
        super().__init__(**settings)
        whole = {item.name: distribution(item) for item in sorted(spec.space, key=lambda item: item.name)}
        self._whole = {name: kind for name, kind in whole.items() if not kind.single()}

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All of it, once a trial has ended, in the order in which `group=True` draws."""
        trials = study.get_trials(deepcopy=False)
        is_any = any(each.state in (TrialState.COMPLETE, TrialState.PRUNED) for each in trials)
        return self._whole if is_any else {}


def _is_random(number: int, share: float) -> bool:
    """Whether a trial is one of those that stay random, which are spread evenly."""
    return math.floor((number + 1) * share) > math.floor(number * share)


def proposal_seed(spec: SearchSpec, number: int) -> int:
    """The seed of one trial's proposal."""
    digest = hashlib.blake2b(f"{spec.seed}/{number}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def blind_trials(spec: SearchSpec, count: int) -> Iterator[Trial]:
    """Random trials of a study in memory, for who wants to see a space rather than search it."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=RandomSampler(seed=spec.seed))
    for _ in range(count):
        yield study.ask()


def distribution(dimension: Dimension) -> BaseDistribution:
    """Optuna's distribution of a dimension; the same as `Dimension.suggest` leaves in the study."""
    if dimension.choices is not None:
        return CategoricalDistribution(list(dimension.choices))
    assert dimension.low is not None
    assert dimension.high is not None
    if dimension.is_integer:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log, step=int(dimension.step or 1))
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)


def violations(spec: SearchSpec, record: TrialRecord) -> dict[str, float]:
    """Per constraint, how far the trial's best epoch is from feasible (0 or less is feasible); empty without an epoch."""
    best = record.best
    return {str(item): item.violation(best[item.metric]) for item in spec.constraint} if best else {}


def _frozen(record: TrialRecord, spec: SearchSpec) -> FrozenTrial:
    """A trial of the record as Optuna holds it after `TrialStudy.tell`."""
    constraints = {f"constraints:{name}": value for name, value in violations(spec, record).items()}
    ended, state = record.has_ended, OPTUNA_STATES[record.state]
    return FrozenTrial(
        number=record.number,
        trial_id=-1,
        state=state,
        value=record.score if state in (TrialState.COMPLETE, TrialState.PRUNED) else None,  # of a pruned one its last
        datetime_start=datetime.fromtimestamp(record.started),
        datetime_complete=datetime.fromtimestamp(record.ended) if record.ended else None,
        params=dict(record.params),
        distributions={item.name: distribution(item) for item in spec.space if item.name in record.params},
        user_attrs={"reason": record.reason, **_attributes(record)} if ended else _origin(record),
        system_attrs=constraints if ended else {},
        intermediate_values={row["epoch"]: record.monitor.score(row["objective"]) for row in record.epochs},
    )


def _attributes(record: TrialRecord) -> dict[str, object]:
    """What a person wants to see beside a trial in Optuna's tools."""
    extra: dict[str, object] = {"state": record.state}
    if record.state == "diverged":
        extra["diverged"] = record.reason
    extra |= _origin(record)
    if record.best:
        extra |= {name: value for name, value in record.best.items() if is_score(name, value)}
    return extra


def _origin(record: TrialRecord) -> dict[str, int | None]:
    """Which trial a confirmation trial repeats, and for which time."""
    return {} if record.of is None else {"of": record.of, "repeat": record.repeat}
