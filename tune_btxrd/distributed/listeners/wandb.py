"""A search as runs of Weights & Biases: one for the search, one per trial, all in the group of the search's name.

Runs are told the numbers of the journal and nothing about this machine: neither files nor code, git, command or host.
Where they go is W&B's own matter: its environment variables, `wandb login`, and `WANDB_MODE=offline`, which leaves them in
the results folder for `wandb sync`.
"""

import json
import logging
import math
import os
import re
import shutil
import uuid
from pathlib import Path
from typing import Any

from tune_btxrd.distributed.listeners.outbox import Outbox
from tune_btxrd.errors import ConfigError, first_line
from tune_btxrd.files import write_whole
from tune_btxrd.search.events import EpochRow
from tune_btxrd.search.listener import Listener
from tune_btxrd.search.record import SearchRecord, TrialRecord
from tune_btxrd.search.selection.recommendation import best_by_rule
from tune_btxrd.search.space.spec import SearchSpec

FILE = "wandb.json"  # in the results folder: the project, what ids begin with, and which trials are told to their end
FOLDER = "wandb"  # W&B's own name for it; also what it is told for the names of host and user
SEARCH = "search"  # the id of the search's own run ends so; a trial's with its label
WAIT_SECONDS = 20.0  # for an answer when a search begins
END_SECONDS = 15.0  # for what is not uploaded yet at the end of a run; the rest lies in FOLDER
PROJECT = re.compile(r"[^/\\#?%:]{1,128}")  # names that W&B takes


class WandbRuns(Listener):
    """Listener that keeps the runs; `record` must hold what is reported before this is called.

    Raises:
        ConfigError: W&B does not answer, knows no key, or does not take the project.
    """

    def __init__(self, project: str, record: SearchRecord, spec: SearchSpec) -> None:
        _check_name(project)
        self.project, self.record, self.spec = project, record, spec
        self._path = record.folder / FILE
        self._runs: dict[str, Any] = {}  # trial -> its open run
        self._sent: dict[str, int] = {}  # trial -> last epoch told
        self._token, self._ended = self._noted()
        logging.getLogger("wandb").setLevel(logging.WARNING)
        try:
            self._search = self._open(SEARCH, name=record.folder.name, kind=SEARCH, config=self._asked())
        except Exception as error:  # whatever W&B and its network layers raise
            raise _refused(project, first_line(error, 200)) from error
        self._outbox = Outbox("W&B", "--resume with --wandb completes them")
        self._note()
        for trial in record.trials.values():
            self._outbox.put(self._send, trial)

    def started(self, trial: TrialRecord) -> None:
        """Opens the trial's run, or goes on with that of an earlier session."""
        self._outbox.put(self._send, trial)

    def epoch(self, trial: TrialRecord) -> None:
        """Tells every epoch that was not told yet."""
        self._outbox.put(self._send, trial)

    def ended(self, trial: TrialRecord) -> None:
        """Ends the trial's run with its state and the reason."""
        self._outbox.put(self._send, trial)

    def close(self, *, finished: bool) -> None:
        """Waits until all is told, then ends the search's run, and those of trials that a later session goes on with."""
        self._outbox.put(self._end, finished)
        self._outbox.close()

    def _send(self, trial: TrialRecord) -> None:
        """Brings the trial's run up to date."""
        if trial.label in self._ended:
            return
        has_ended = trial.has_ended  # asked before its epochs, which the driver adds to meanwhile
        run = self._runs.get(trial.label) or self._start(trial)
        for row in [row for row in trial.epochs if row["epoch"] > self._sent[trial.label]]:
            run.log(_metrics(row), step=row["epoch"])
            self._sent[trial.label] = row["epoch"]
        if has_ended:
            run.summary.update({"state": trial.state_words, "reason": trial.reason[:500]})
            run.finish(exit_code=int(trial.state in ("diverged", "failed")))
            del self._runs[trial.label]
            self._ended.add(trial.label)
            self._note()

    def _start(self, trial: TrialRecord) -> Any:
        config = {name: value for name, value in trial.config.items() if value is not None}
        run = self._open(trial.label, name=f"trial {trial.label}", kind=trial.role, config=config)
        self._runs[trial.label], self._sent[trial.label] = run, run.starting_step - 1  # steps are epochs
        return run

    def _end(self, finished: bool) -> None:
        for label in [label for label in self._runs if self.record.trials[label].has_ended]:  # paused, then given up
            self._send(self.record.trials[label])
        if best := best_by_rule(self.record.search_trials, self.spec):
            self._search.summary.update(
                {"best_objective": float(best.trial.objective or 0.0), "best_trial": best.trial.label}
            )
        for run in (*self._runs.values(), self._search):
            if not finished:
                run.mark_preempting()  # so that it is shown as one that goes on
            run.finish(exit_code=int(not finished))

    def _open(self, label: str, *, name: str, kind: str, config: dict[str, Any]) -> Any:
        """A new run, or the one of this id. What an earlier session left offline is told whole again, so it goes first."""
        import wandb

        run_id = f"{self._token}-{label}"
        for folder in (self.record.folder / FOLDER).glob(f"offline-run-*-{run_id}"):
            shutil.rmtree(folder)
        wandb.setup(settings=wandb.Settings(silent=True))  # so that it asks nothing at the terminal
        return wandb.init(
            project=self.project,
            id=run_id,
            resume="allow",
            group=self.record.folder.name,
            name=name,
            job_type=kind,
            config=config,
            settings=_settings(self.record.folder),
        )

    def _asked(self) -> dict[str, Any]:
        settings = self.record.settings
        asked: dict[str, Any] = {"trials": self.spec.trials, "epochs": self.spec.epochs, "seed": self.spec.seed}
        asked |= {"dataset": settings.get("dataset", {}).get("name"), "split": settings.get("searched")}
        return asked | {"space": {dimension.name: dimension.describe() for dimension in self.spec.space}}

    def _noted(self) -> tuple[str, set[str]]:
        """What ids begin with, and trials that need nothing more: of an earlier session in this project, or new."""
        noted = json.loads(self._path.read_text(encoding="utf-8")) if self._path.is_file() else {}
        if noted.get("project") != self.project:
            return uuid.uuid4().hex[:10], set()
        return str(noted["id"]), set(noted["ended"])

    def _note(self) -> None:
        noted = {"project": self.project, "id": self._token, "ended": sorted(self._ended)}
        write_whole(self._path, json.dumps(noted))


def check_account(project: str) -> None:
    """Raises ConfigError for what W&B would refuse at the start: a name that it does not take, or no key that it knows."""
    _check_name(project)
    if os.environ.get("WANDB_MODE") in ("offline", "dryrun"):
        return
    import wandb

    try:
        wandb.setup(settings=wandb.Settings(silent=True))
        is_known = wandb.login(prompt=False)
    except Exception as error:  # whatever W&B and its network layers raise
        raise _refused(project, first_line(error, 200)) from error
    if not is_known:
        raise _refused(project, "no key is configured")


def _check_name(project: str) -> None:
    if not PROJECT.fullmatch(project):
        raise ConfigError(
            rf"--wandb must name a project of at most 128 signs, none of them / \ # ? % :, but got {project!r}: "
            "rename it; whose it is, WANDB_ENTITY says."
        )
    if os.environ.get("WANDB_MODE") == "disabled":
        raise ConfigError("--wandb logs to W&B, but WANDB_MODE=disabled lets nothing be logged: leave one of them out.")


def _refused(project: str, why: str) -> ConfigError:
    return ConfigError(
        f"--wandb must be able to open a run in project {project}, but: {why.rstrip('.')}. `wandb login` logs in; "
        "WANDB_MODE=offline logs to the results folder."
    )


def _settings(folder: Path) -> Any:
    """A run beside others of this process, quiet, and without anything about the machine or its user."""
    import wandb

    return wandb.Settings(
        reinit="create_new",
        root_dir=str(folder),
        init_timeout=WAIT_SECONDS,
        finish_timeout=END_SECONDS,
        silent=True,
        host=FOLDER,
        username=FOLDER,
        email="",
        console="off",
        save_code=False,
        disable_code=True,
        disable_git=True,
        disable_job_creation=True,
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )


def _metrics(row: EpochRow) -> dict[str, float]:
    """The numbers of an epoch that are known."""
    values = {k: float(v) for k, v in row.items() if isinstance(v, int | float) and not isinstance(v, bool) and k != "time"}
    return {name: value for name, value in values.items() if not math.isnan(value)}
