"""Study database: copies a study to `optuna.db` for Optuna's own tools, in a thread of its own, about a second behind.

The study that proposes lives in memory. Written at every change through Optuna's storage, SQLite cost the driver 26
transactions and 90 ms of processor time a trial; one trial at a time it was still 10 ms, where all of Ray Tune took 9. So
Optuna makes the tables and the rows are written here, one transaction per look (docs/LOG.md). Where a later Optuna makes
other tables, it writes the rows itself, once, when the search ends.
"""

import copy
import json
import math
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import distribution_to_json
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.pool import QueuePool

from tune_btxrd.console import tell
from tune_btxrd.errors import ResultError, first_line

SECONDS = 1.0  # between two looks at the study
PATIENCE = 60.0  # seconds that a reader may hold the file
TABLES = "v3.2.0.a"  # Optuna's name for the tables as the statements below fill them
NEW = "INSERT INTO trials (number, study_id, state, datetime_start, datetime_complete) VALUES (?, ?, ?, ?, ?)"
CHANGED = "UPDATE trials SET state = ?, datetime_complete = ? WHERE trial_id = ?"
PARAM = "INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) VALUES (?, ?, ?, ?)"
VALUE = "INSERT INTO trial_values (trial_id, objective, value, value_type) VALUES (?, ?, ?, ?)"
STEP = (
    "INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type) VALUES (?, ?, ?, ?)"
)
USER = "INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (?, ?, ?)"
SYSTEM = "INSERT INTO trial_system_attributes (trial_id, key, value_json) VALUES (?, ?, ?)"
Row = tuple[Any, ...]


def open_storage(path: Path) -> RDBStorage:
    """Optuna's storage in an SQLite file, made where missing.

    The path is handed to SQLite as it is: within a URL a `?` in the name of a folder would begin a query.
    """

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(path, check_same_thread=False)  # the pool hands a connection to one thread at a time

    return RDBStorage("sqlite://", engine_kwargs={"creator": connect, "poolclass": QueuePool})


class StudyDatabase:
    """Copies a study to a file, running trials included, until it is closed.

    Args:
        study: in memory; who changes its trials holds `lock`.
        path: the SQLite file, made where missing, on a local disk.

    Raises:
        ResultError: from `check` and `close`, where the file cannot be written.
    """

    def __init__(self, study: optuna.Study, path: Path, lock: threading.Lock) -> None:
        self._study, self.path, self._lock = study, path, lock
        self._study_id, self._optuna = _make_study(path, study)
        self._seen: list[FrozenTrial] = []  # by number, as Optuna held them at the last look: a change is another object
        self._copied: dict[int, tuple[int, FrozenTrial]] = {}  # number -> (row, as it was copied last); has not ended
        self._error: Exception | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"copy to {path.name}", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raises what kept the thread from writing."""
        if self._error is not None:
            reason = first_line(self._error)
            raise ResultError(f"{self.path} must be writable, but: {reason} Free space, then --resume.") from self._error

    def close(self) -> None:
        """Copies what is left and ends the thread."""
        self._stop.set()
        self._thread.join()
        self.check()

    def _run(self) -> None:
        try:
            while not self._stop.wait(SECONDS):
                if self._optuna is None:
                    self._copy()
            self._copy()
        except Exception as error:  # whatever it is, the main thread raises it
            self._error = error

    def _copy(self) -> None:
        """Brings the file to the present state of the study."""
        changed = self._changed()
        if not changed:
            return
        if self._optuna is not None:
            for trial in changed:
                self._optuna.create_new_trial(self._study_id, template_trial=trial)
            return
        with closing(sqlite3.connect(self.path, timeout=PATIENCE)) as database, database:  # one transaction
            for trial in changed:
                self._write(database, trial)

    def _changed(self) -> list[FrozenTrial]:
        """Copies of the trials that are not as they were at the last look: Optuna changes a running one's parts in place."""
        with self._lock:
            trials = self._study.get_trials(deepcopy=False)
            while trials and trials[-1].state == TrialState.WAITING:  # not begun
                trials.pop()
            seen, self._seen = self._seen, trials
            changed = [trial for trial, before in zip(trials, seen, strict=False) if trial is not before]
            return [_copy_of(trial) for trial in (*changed, *trials[len(seen) :])]

    def _write(self, database: sqlite3.Connection, trial: FrozenTrial) -> None:
        if trial.number in self._copied:
            key, before = self._copied[trial.number]
            if trial.state != before.state:
                database.execute(CHANGED, (trial.state.name, _utc(trial.datetime_complete), key))
        else:
            began, ended = _utc(trial.datetime_start), _utc(trial.datetime_complete)
            added = database.execute(NEW, (trial.number, self._study_id, trial.state.name, began, ended))
            key, before = int(added.lastrowid or 0), None
            database.executemany(PARAM, ((key, *row) for row in _params(trial)))
        database.executemany(STEP, ((key, *row) for row in _steps(trial, before)))
        for statement, name in ((USER, "user_attrs"), (SYSTEM, "system_attrs")):
            known = getattr(before, name) if before else {}
            new = ((key, each, json.dumps(value)) for each, value in getattr(trial, name).items() if each not in known)
            database.executemany(statement, new)
        if trial.state.is_finished():
            database.executemany(VALUE, ((key, *row) for row in _values(trial.values or ())))
            self._copied.pop(trial.number, None)
        else:
            self._copied[trial.number] = (key, trial)


def _make_study(path: Path, study: optuna.Study) -> tuple[int, RDBStorage | None]:
    """Makes Optuna's tables and the study: its id, and Optuna's storage where the tables are not as they are known here."""
    storage = open_storage(path)
    study_id = int(storage.create_new_study(study.directions, study.study_name))
    if storage.get_current_version() == TABLES:
        storage.engine.dispose()
        return study_id, None
    tell(f"{path.name} is written when the search ends: Optuna {optuna.__version__} makes tables that are not known here.")
    return study_id, storage


def _copy_of(trial: FrozenTrial) -> FrozenTrial:
    trial = copy.copy(trial)
    trial.params, trial.distributions = dict(trial.params), dict(trial.distributions)
    trial.intermediate_values = dict(trial.intermediate_values)
    trial.user_attrs, trial.system_attrs = dict(trial.user_attrs), _constraints(trial)
    return trial


def _params(trial: FrozenTrial) -> Iterable[Row]:
    for name, value in trial.params.items():
        kind = trial.distributions[name]
        yield name, kind.to_internal_repr(value), distribution_to_json(kind)


def _steps(trial: FrozenTrial, before: FrozenTrial | None) -> Iterable[Row]:
    known = before.intermediate_values if before else {}
    return ((step, *_stored(value)) for step, value in trial.intermediate_values.items() if step not in known)


def _values(values: Sequence[float]) -> Iterable[Row]:
    return ((objective, *_stored(value)) for objective, value in enumerate(values))


def _stored(value: float) -> Row:
    """A number as Optuna stores it: SQLite knows none that is not finite."""
    if math.isfinite(value):
        return value, "FINITE"
    return None, "NAN" if math.isnan(value) else "INF_POS" if value > 0 else "INF_NEG"


def _utc(time: datetime | None) -> str | None:
    return time.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds") if time else None


def _constraints(trial: FrozenTrial) -> dict[str, Any]:
    """System attributes but for a sampler's own notes, which a study that was made anew does not have."""
    return {name: value for name, value in trial.system_attrs.items() if name.startswith("constraints")}
