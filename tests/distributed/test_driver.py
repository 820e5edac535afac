"""The search through a real Ray, with a stub for the training: what Optuna heard, faults, a killed driver."""

import logging
import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from tests.support.event_logs import mlflow_runs, read_scalars, wandb_runs
from tests.support.paths import ROOT
from tests.support.ray_stub import STUB, make_stub, run_stub
from tests.support.searches import SPACE, make_folder
from tests.support.sources import FIXED, make_source
from tune_btxrd.distributed.connect import DRIVER_ENV, connected
from tune_btxrd.distributed.driver import SearchRun, run_search
from tune_btxrd.distributed.listeners.cleanup import CHECKPOINTS
from tune_btxrd.distributed.start_ray import WORKER_ENV
from tune_btxrd.errors import ResultError
from tune_btxrd.results.search_json import Layout
from tune_btxrd.search.listener import Listener
from tune_btxrd.search.record import SearchRecord, TrialRecord, read_search
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.search.study_database import open_storage

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # Ray's own warnings are not ours to mend


@pytest.fixture(scope="module")
def ray_address() -> Iterator[str]:
    """One Ray for all tests of this file."""
    before = {name: os.environ.get(name) for name in DRIVER_ENV}
    os.environ.update(DRIVER_ENV)
    import ray

    ray.init(
        address="local",
        num_cpus=3,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": WORKER_ENV},
    )
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


def spec_of(**settings: Any) -> SearchSpec:
    return SearchSpec.from_text(STUB).override(settings, {})


def facts(record: SearchRecord) -> list[tuple[Any, ...]]:
    """What must not depend on a kill."""
    return [
        (t.label, t.number, t.state, t.reason, t.config, [(row["epoch"], row["objective"]) for row in t.epochs])
        for t in record.search_trials
    ]


def study_of(folder: Path) -> optuna.Study:
    return optuna.load_study(study_name=folder.name, storage=open_storage(folder / "optuna.db"))


def test_optuna_hears_the_truth_about_24_trials(ray_address: str, tmp_path: Path) -> None:
    record = run_stub(tmp_path / "ours", spec_of(trials=24))
    trials = study_of(tmp_path / "ours").trials
    states = Counter(trial.state for trial in trials)
    assert states[TrialState.PRUNED] + states[TrialState.COMPLETE] == 24
    assert states[TrialState.PRUNED] >= 6 and states[TrialState.COMPLETE] >= 3
    for trial, ours in zip(trials, record.search_trials, strict=True):
        assert trial.intermediate_values == {row["epoch"]: row["objective"] for row in ours.epochs}
        last = max(trial.intermediate_values)
        if trial.state == TrialState.PRUNED:  # the stopping epoch included
            assert trial.user_attrs["reason"] == f"stopped by ASHA at epoch {last}" and last in (2, 4)
        else:
            assert last == 8 and trial.value == trial.intermediate_values[8]


def test_stock_ray_calls_every_stopped_trial_complete(ray_address: str, tmp_path: Path) -> None:
    """The same stub under Ray's own OptunaSearch and ASHA: the reason why the bridge exists."""
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    values = {"lr": tune.loguniform(1e-5, 1e-2), "dropout": tune.uniform(0.0, 0.5), "epochs": 8}
    space = {"trial": "stock", "hyperparameters": values}
    search = OptunaSearch(metric="objective", mode="min", sampler=optuna.samplers.TPESampler(seed=1, n_startup_trials=4))
    asha = ASHAScheduler(time_attr="epoch", metric="objective", mode="min", max_t=8, grace_period=2, reduction_factor=2)
    tune.Tuner(
        tune.with_resources(make_stub(tmp_path), {"CPU": 1}),
        param_space=space,
        tune_config=tune.TuneConfig(
            search_alg=search, scheduler=asha, num_samples=24, max_concurrent_trials=2, reuse_actors=True
        ),
        run_config=tune.RunConfig(name="stock", storage_path=str(tmp_path), verbose=0),
    ).fit()
    trials = search._ot_study.trials
    assert Counter(trial.state for trial in trials) == {TrialState.COMPLETE: 24}
    stopped = [trial for trial in trials if max(trial.intermediate_values, default=0) < 7]
    assert len(stopped) >= 6  # early losses, told as if they were final


def test_faults_end_their_trial_with_a_reason_and_the_search_goes_on(ray_address: str, tmp_path: Path) -> None:
    faults = {"1": "raise", "2": "nan", "3": "die"}
    folder = tmp_path / "faults"
    record = run_stub(folder, spec_of(trials=5, scheduler="none"), faults=faults)
    states = [(trial.state, len(trial.epochs)) for trial in record.search_trials]
    assert states == [("complete", 8), ("failed", 1), ("diverged", 1), ("complete", 8), ("complete", 8)]
    failed, diverged = record.trials["1"], record.trials["2"]
    assert failed.reason == "RuntimeError: no such thing" and diverged.reason.startswith("loss nan in epoch 2 at lr=")
    attempts = {label: len((folder / f"{label}.txt").read_text().splitlines()) for label in ("0", "1", "2", "3")}
    assert attempts == {"0": 1, "1": 3, "2": 1, "3": 2}  # twice retried; a divergence is not; a killed process is
    optuna_states = [trial.state.name for trial in study_of(folder).trials]
    assert optuna_states == ["COMPLETE", "FAIL", "PRUNED", "COMPLETE", "COMPLETE"]
    table = (folder / "trials.csv").read_text()
    assert "RuntimeError: no such thing" in table and "loss nan in epoch 2" in table


def test_every_tracker_hears_the_same_as_the_journal(
    ray_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow", reason="MLflow is an extra: pip install mlflow-skinny")
    wandb = pytest.importorskip("wandb", reason="W&B is an extra: pip install wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder, uri = tmp_path / "logged", f"sqlite:///{tmp_path / 'mlflow.db'}"
    logs = {"tensorboard": True, "mlflow": uri, "wandb": "lesions"}
    record = run_stub(folder, spec_of(trials=6), logs=logs, faults={"1": "nan", "2": "die"})
    wandb.teardown()
    states = {"complete": "FINISHED", "pruned": "KILLED", "diverged": "FAILED"}
    parent, children, client = mlflow_runs(uri)
    assert (parent.data.params["trials"], parent.info.status) == ("6", "FINISHED")
    assert (
        set(children)
        == {t.label for t in record.search_trials}
        == {path.name for path in (folder / "tensorboard").iterdir()}
    )
    for trial in record.search_trials:
        run = children[trial.label]
        assert run.info.status == states[trial.state]
        assert run.data.params["lr"] == str(trial.config["lr"])
        told = [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, "objective")]
        assert told == [(row["epoch"], row["objective"]) for row in trial.epochs]  # a killed process told some twice
        told = [(row["step"], row["objective"]) for row in wandb_runs(folder)[trial.label].history]
        assert told == [(row["epoch"], row["objective"]) for row in trial.epochs if math.isfinite(row["objective"])]
        scalars = read_scalars(folder / "tensorboard" / trial.label)
        assert [(step, value) for step, value in scalars["val_loss"]] == [
            (row["epoch"], pytest.approx(row["val_loss"], rel=1e-6)) for row in trial.epochs
        ]


def test_first_trials_that_fail_alike_stop_the_search(ray_address: str, tmp_path: Path) -> None:
    faults = {str(number): "raise" for number in range(9)}
    with pytest.raises(ResultError, match=r"The first 3 trials failed alike, .*: RuntimeError: no such thing"):
        run_stub(tmp_path / "hopeless", spec_of(trials=9), slots=1, retries=0, faults=faults)


def test_a_killed_driver_resumes_to_the_same_search(ray_address: str, tmp_path: Path) -> None:
    spec = spec_of(trials=6)
    whole = run_stub(tmp_path / "whole", spec, slots=1)
    folder = tmp_path / "killed"
    kill_driver(folder, ray_address, "epoch 3 2")  # at a rung, before or after the decision is written
    seen = sum(len(trial.epochs) for trial in read_search(folder).search_trials)
    again = run_stub(folder, spec, slots=1)
    assert 0 < seen < sum(len(trial.epochs) for trial in again.search_trials)
    assert facts(again) == facts(whole)
    assert len(again.sessions) == 2
    old, new = study_of(tmp_path / "whole").trials, study_of(folder).trials
    assert [(t.state, t.params, t.intermediate_values) for t in new] == [
        (t.state, t.params, t.intermediate_values) for t in old
    ]


class Asked(Listener):
    """Remembers how many trials the study held when the first epoch was heard."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.trials = folder, 0

    def epoch(self, trial: TrialRecord) -> None:
        """Counts once."""
        self.trials = self.trials or len(study_of(self.folder).trials)


@pytest.mark.timeout(120)
def test_all_slots_are_asked_for_at_once(ray_address: str, tmp_path: Path) -> None:
    """Not one after another, as Tune has it for a searcher: short trials would all run in the first slot."""
    asked = Asked(tmp_path / "slots")
    run_stub(asked.folder, spec_of(trials=4), slots=3, seconds=0.1, listeners=(asked,))
    assert asked.trials == 3


def test_a_stopped_trial_that_is_slow_to_unwind_does_not_hang_its_slot(ray_address: str, tmp_path: Path) -> None:
    """With Ray's default of 2 s (TUNE_FUNCTION_THREAD_TIMEOUT_S) the next trial of the slot errors or the search hangs."""
    starts = "  - {lr: 1.0e-2, dropout: 0.0}\n  - {lr: 1.0e-4, dropout: 0.4}\n"
    spec = SearchSpec.from_text(STUB + starts).override({"trials": 3}, {})
    record = run_stub(tmp_path / "slow", spec, slots=1, slow_end=3.0)
    assert [(trial.state, len(trial.epochs)) for trial in record.search_trials] == [
        ("complete", 8),
        ("pruned", 2),
        ("complete", 8),
    ]
    attempts = [len((tmp_path / "slow" / f"{label}.txt").read_text().splitlines()) for label in range(3)]
    assert attempts == [1, 1, 1]


class Disk(Listener):
    """Counts the trial checkpoints on the disk at every event."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.most = folder, 0

    def started(self, trial: TrialRecord) -> None:
        """Counts."""
        self.most = max(self.most, len(list(self.folder.glob("*"))))

    epoch = ended = started


def test_a_search_leaves_one_checkpoint_per_slot_and_none_at_its_end(
    ray_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real trainings: a pruned trial still writes while its slot goes on. Of Ray's loggers there is no file, nor a word."""
    said, folder = list[logging.LogRecord](), tmp_path / "disk"
    monkeypatch.setattr(logging.getLogger("ray.tune.analysis.experiment_analysis"), "handle", said.append)
    make_folder(folder)
    text = SPACE.replace("trials: 6", "trials: 10").replace("confirm: 2", "confirm: 1")
    spec = SearchSpec.from_text(text).override({}, FIXED)
    source = make_source(tmp_path, splits=("common", "confirm_1", "confirm_2"))
    layout = Layout(slots=2, cpus=1, gpus=0, threads=1, epoch_seconds=1.0)
    run = SearchRun(folder=folder, source=source, split="common", device="cpu", layout=layout)
    disk = Disk(folder / CHECKPOINTS)
    with connected(address=ray_address, name=folder.name) as cluster:
        record = run_search(spec, run, cluster, listeners=(disk,))
    states = Counter(trial.state for trial in record.search_trials)
    assert states["pruned"] >= 2 and not states["failed"]
    assert 2 <= disk.most <= 2 + 1 + 2  # slots + K + 2
    assert list(disk.folder.glob("*")) == []
    assert not [*folder.rglob("result.json"), *folder.rglob("progress.csv"), *folder.rglob("params.*")]
    assert said == []


def kill_driver(folder: Path, address: str, stop_at: str) -> None:
    """Starts a driver of the search in a process of its own and kills it (SIGKILL) as soon as it tells this epoch."""
    command = [sys.executable, "-m", "tests.support.ray_stub", str(folder), address, "6"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT) as driver:
        assert driver.stdout is not None
        said = []
        for line in driver.stdout:
            said.append(line)
            if line.strip() == stop_at:
                driver.kill()
                return
    raise AssertionError(f"the driver ended before {stop_at!r}:\n{''.join(said)}")
