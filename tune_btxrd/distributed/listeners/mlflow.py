"""A search as MLflow runs, through Ray's own callback: the search is the parent run, every trial a child.

Ray's callback connects and starts the runs. What it lacks is here: the parent; runs that a resumed search finds again; each
epoch once, under its own number; the true end of a trial, where Ray's calls one that ASHA stopped finished; and one request
per epoch, sent beside the driver's loop, where Ray's sends one per value within it.
"""

import json
import logging
import math
import os
from typing import Any

from ray.air.integrations.mlflow import MLflowLoggerCallback

from tune_btxrd.distributed.listeners.outbox import Outbox
from tune_btxrd.errors import ConfigError, first_line
from tune_btxrd.files import write_whole
from tune_btxrd.search.events import EpochRow
from tune_btxrd.search.record import SearchRecord, TrialRecord
from tune_btxrd.search.selection.recommendation import best_by_rule
from tune_btxrd.search.space.spec import SearchSpec

FILE = "mlflow.json"  # in the results folder: which run is this search's
EXPERIMENT = "tune_btxrd"
TRIAL, STATE, REASON = (f"tune_btxrd.{name}" for name in ("trial", "state", "reason"))
PARENT = "mlflow.parentRunId"  # MLflow's own tag, by which its pages nest runs
STATUS = {"complete": "FINISHED", "pruned": "KILLED", "diverged": "FAILED", "failed": "FAILED"}


class MlflowRuns(MLflowLoggerCallback):  # type: ignore[misc]  # Ray's types are not followed
    """The callback; `record` must hold what Ray reports before this is called.

    Raises:
        ConfigError: nothing answers at the address, or it is none.
    """

    def __init__(self, uri: str, record: SearchRecord, spec: SearchSpec) -> None:
        super().__init__(tracking_uri=uri, experiment_name=EXPERIMENT)
        self.record, self.spec = record, spec
        self._runs: dict[str, str] = {}  # trial -> run
        self._sent: dict[str, int] = {}  # trial -> last epoch sent
        self._ended: set[str] = set()  # trials whose runs are complete
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # the default 7 wait four minutes for no server
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        try:
            super().setup()
            self._client = self.mlflow_util._get_client()
            self.parent = self._find_parent() or self._start_parent()
            self._find_children()
        except Exception as error:  # whatever MLflow and its database or network layers raise
            raise ConfigError(
                f"--mlflow must name a tracking store that answers, but {uri}: {first_line(error, 200)}"
            ) from error
        self._outbox = Outbox("MLflow", "--resume with --mlflow completes them")
        for trial in record.trials.values():
            self._outbox.put(self._send, trial)

    def __getstate__(self) -> dict[str, Any]:
        """Empty: Ray pickles its Tuner, and connections have no place in a pickle."""
        return {}

    def setup(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: connected already, so that a wrong address costs no start."""

    def log_trial_start(self, trial: Any) -> None:
        """Starts the trial's run, or finds that of an earlier session."""
        self._outbox.put(self._send, self._record_of(trial))

    def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
        """Sends every epoch that was not sent yet."""
        self._outbox.put(self._send, self._record_of(trial))

    def log_trial_end(self, trial: Any, failed: bool = False) -> None:
        """Ends the trial's run with its true state and the reason."""
        self._outbox.put(self._send, self._record_of(trial))

    def close(self, *, finished: bool) -> None:
        """Waits until all is sent, then ends the parent run: FINISHED, or KILLED where the search was interrupted."""
        self._outbox.put(self._send_rest, None)
        self._outbox.put(self._end_parent, "FINISHED" if finished else "KILLED")
        self._outbox.close()

    def _send_rest(self, _: None) -> None:
        """Trials that ended without Ray: paused in an earlier session, then given up."""
        for label in [label for label in self._runs if label in self.record.trials]:
            if self.record.trials[label].has_ended:
                self._send(self.record.trials[label])

    def _record_of(self, trial: Any) -> TrialRecord:
        return self.record.trials[trial.config["trial"]]

    def _send(self, trial: TrialRecord) -> None:
        """Brings the trial's run up to date."""
        if trial.label in self._ended:
            return
        has_ended = trial.has_ended  # asked before its epochs, which the driver adds to meanwhile
        run = self._runs.get(trial.label) or self._start(trial)
        rows = [row for row in trial.epochs if row["epoch"] > self._sent.get(trial.label, 0)]
        if rows:
            self._client.log_batch(run, metrics=[metric for row in rows for metric in _metrics(row)])
            self._sent[trial.label] = rows[-1]["epoch"]
        if has_ended:
            self._client.set_tag(run, STATE, trial.state_words)
            self._client.set_tag(run, REASON, trial.reason[:500])
            self._client.set_terminated(run, STATUS[trial.state])
            self._ended.add(trial.label)

    def _start(self, trial: TrialRecord) -> str:
        tags = {PARENT: self.parent, TRIAL: trial.label, "tune_btxrd.role": trial.role}
        run = str(self.mlflow_util.start_run(run_name=f"trial {trial.label}", tags=tags).info.run_id)
        self._client.log_batch(run, params=_params(dict(trial.config)))
        self._runs[trial.label] = run
        return run

    def _find_parent(self) -> str | None:
        path = self.record.folder / FILE
        noted = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if noted.get("uri") != self.tracking_uri:
            return None
        self._client.update_run(noted["run"], status="RUNNING")
        return str(noted["run"])

    def _start_parent(self) -> str:
        name, settings = self.record.folder.name, self.record.settings
        commit = settings.get("environment", {}).get("git_commit")
        tags = {"tune_btxrd.search": name} | ({"mlflow.source.git.commit": commit} if commit else {})
        run = str(self.mlflow_util.start_run(run_name=name, tags=tags).info.run_id)
        asked: dict[str, Any] = {"trials": self.spec.trials, "epochs": self.spec.epochs, "seed": self.spec.seed}
        asked |= {"dataset": settings.get("dataset", {}).get("name"), "split": settings.get("searched")}
        asked |= {f"space.{dimension.name}": dimension.describe() for dimension in self.spec.space}
        self._client.log_batch(run, params=_params(asked))
        write_whole(self.record.folder / FILE, json.dumps({"uri": self.tracking_uri, "run": run}))
        return run

    def _find_children(self) -> None:
        token = None
        while True:
            where = f"tags.`{PARENT}` = '{self.parent}'"
            page = self._client.search_runs([self.mlflow_util.experiment_id], where, page_token=token)
            for run in page:
                label = run.data.tags[TRIAL]
                self._runs[label], self._sent[label] = run.info.run_id, int(run.data.metrics.get("epoch", 0))
                if run.info.status != "RUNNING":
                    self._ended.add(label)
            token = page.token
            if not token:
                return

    def _end_parent(self, status: str) -> None:
        if best := best_by_rule(self.record.search_trials, self.spec):
            self._client.log_metric(self.parent, "best_objective", float(best.trial.objective or 0.0))
            self._client.set_tag(self.parent, "tune_btxrd.best_trial", best.trial.label)
        self._client.set_terminated(self.parent, status)


def _metrics(row: EpochRow) -> list[Any]:
    """The numbers of an epoch, with its number as the step and its time."""
    from mlflow.entities import Metric

    values = {k: float(v) for k, v in row.items() if isinstance(v, int | float) and not isinstance(v, bool) and k != "time"}
    known = {name: value for name, value in values.items() if not math.isnan(value)}
    return [Metric(name, value, int(row["time"] * 1000), row["epoch"]) for name, value in known.items()]


def _params(values: dict[str, Any]) -> list[Any]:
    from mlflow.entities import Param

    return [Param(name, str(value)) for name, value in values.items() if value is not None]
