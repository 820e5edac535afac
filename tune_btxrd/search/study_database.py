"""Study database: copies a study to `optuna.db` for Optuna's own tools, in a thread of its own, about a second behind.

The study that proposes lives in memory. Written at every change, SQLite cost the driver 26 transactions and 90 ms of
processor time a trial, where all of Ray Tune takes 20 (docs/LOG.md); a trial that is over before its turn takes one.
"""

import copy
import sqlite3
import threading
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.pool import QueuePool

from tune_btxrd.errors import ResultError, first_line

SECONDS = 1.0  # between two looks at the study


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
        ResultError: from `check` and `close`, where the file could not be written.
    """

    def __init__(self, study: optuna.Study, path: Path, lock: threading.Lock) -> None:
        self._study, self.path, self._lock = study, path, lock
        self._storage = open_storage(path)
        self._study_id = self._storage.create_new_study(study.directions, study.study_name)
        self._copied: list[tuple[int, FrozenTrial]] = []  # (id in the file, as it was copied last), by number
        self._done = 0  # so many first trials have ended and are copied
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
                self._copy()
            self._copy()
        except Exception as error:  # whatever it is, the main thread raises it
            self._error = error
        finally:
            self._storage.engine.dispose()

    def _copy(self) -> None:
        """Brings the file to the present state of the study."""
        for trial in self._present():
            if trial.state == TrialState.WAITING:  # not begun; so are all that follow
                return
            if trial.number == len(self._copied):
                self._copied.append((self._storage.create_new_trial(self._study_id, trial), trial))
            else:
                self._update(trial)
            if trial.state.is_finished() and trial.number == self._done:
                self._done += 1

    def _present(self) -> list[FrozenTrial]:
        """The trials that may have changed, in copies: Optuna changes those of a running trial in place."""
        with self._lock:
            trials = [copy.copy(trial) for trial in self._study.get_trials(deepcopy=False)[self._done :]]
            for trial in trials:
                trial.params, trial.distributions = dict(trial.params), dict(trial.distributions)
                trial.intermediate_values = dict(trial.intermediate_values)
                trial.user_attrs, trial.system_attrs = dict(trial.user_attrs), _constraints(trial)
        return trials

    def _update(self, trial: FrozenTrial) -> None:
        key, before = self._copied[trial.number]
        for step in sorted(trial.intermediate_values.keys() - before.intermediate_values.keys()):
            self._storage.set_trial_intermediate_value(key, step, trial.intermediate_values[step])
        for name in sorted(trial.user_attrs.keys() - before.user_attrs.keys()):
            self._storage.set_trial_user_attr(key, name, trial.user_attrs[name])
        for name in sorted(trial.system_attrs.keys() - before.system_attrs.keys()):
            self._storage.set_trial_system_attr(key, name, trial.system_attrs[name])
        if trial.state != before.state:
            self._storage.set_trial_state_values(key, trial.state, trial.values)
        self._copied[trial.number] = (key, trial)


def _constraints(trial: FrozenTrial) -> dict[str, Any]:
    """System attributes but for a sampler's own notes, which a study that was made anew does not have."""
    return {name: value for name, value in trial.system_attrs.items() if name.startswith("constraints")}
