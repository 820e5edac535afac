"""Driver: runs a Ray Tuner around the conductor. Starts a search or goes on with one; the journal is the state."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tune_btxrd.distributed.connect import Cluster
from tune_btxrd.distributed.failures import classified, surroundings
from tune_btxrd.distributed.interrupts import hurried
from tune_btxrd.distributed.listeners.cleanup import CHECKPOINTS, CheckpointKeeper
from tune_btxrd.distributed.listeners.dashboard import DashboardRows
from tune_btxrd.distributed.listeners.prometheus import Gauges
from tune_btxrd.distributed.listeners.tolerant import Tolerant
from tune_btxrd.distributed.memory_kills import MemoryKills
from tune_btxrd.distributed.names import ascii_name
from tune_btxrd.distributed.nodes import NodeWatch
from tune_btxrd.distributed.pausing import Pauses
from tune_btxrd.distributed.remote_storage import RemoteFolder
from tune_btxrd.distributed.replaced import replaced
from tune_btxrd.distributed.shipment import Shipment
from tune_btxrd.distributed.sync import StorageCopy
from tune_btxrd.distributed.trainable import make_trainable
from tune_btxrd.distributed.tune_adapters import Proposals, Recorder, Rungs, make_scheduler
from tune_btxrd.results.search_json import Layout
from tune_btxrd.search.columns import score_columns, watched_column
from tune_btxrd.search.conductor import Conductor
from tune_btxrd.search.journal import Journal
from tune_btxrd.search.listener import Listener
from tune_btxrd.search.record import SearchRecord, apply_event, read_search
from tune_btxrd.search.rungs import pausing_epochs
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.search.study import fresh_database
from tune_btxrd.search.tables import TableKeeper, write_tables
from tune_btxrd.training.source import Source

Trainable = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class SearchRun:
    """All that a search needs beside its spec: where it lives, what it reads, what it runs on."""

    folder: Path  # ray_results/<name>
    source: Source
    split: str
    device: str
    layout: Layout
    remote: RemoteFolder | None = None  # the storage's copy of `folder`, beyond this machine
    shipment: Shipment | None = None  # pixels and splits for nodes that do not see the driver's folders
    retries: int = 2  # of a trial whose process or node died, or which raised
    follows_nodes: bool = False  # more slots as nodes join, fewer as they leave
    deadline: float | None = None  # seconds since 1970 after which no search trial begins or goes on
    epoch_budget: int | None = None  # epochs after which no search trial begins or goes on
    tensorboard: bool = False  # also write TensorBoard event files
    mlflow: str | None = None  # also log to this MLflow tracking URI
    wandb: str | None = None  # also log to this project of Weights & Biases


def run_search(
    spec: SearchSpec,
    run: SearchRun,
    cluster: Cluster,
    *,
    listeners: tuple[Listener, ...] = (),
    trainable: Trainable | None = None,
) -> SearchRecord:
    """Runs or resumes the search of `run.folder` to its end, confirmation included, or until it is interrupted.

    What was done before counts: finished trials stay, unfinished ones go on from their checkpoints.

    Args:
        trainable: what runs each trial and reports its epochs; None trains for real.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGUSR1; everything reported is saved.
        ResultError: the first trials all failed alike, or the folder cannot be written.
    """
    spec.check_metrics(score_columns(run.source.class_names, task=run.source.task))
    record = read_search(run.folder)
    journal = Journal(run.folder)
    with surroundings(run.folder), ExitStack() as ends:  # each end is tried, whatever became of the others
        ends.callback(journal.close)
        keeper = CheckpointKeeper(run.folder / CHECKPOINTS, record)
        ends.callback(keeper.sweep, "*.pt")
        copies = ends.enter_context(_storage_copy(run))
        ends.callback(write_tables, record)
        _begin_session(record, journal, run, cluster)
        conductor = Conductor(
            spec,
            journal=journal,
            record=record,
            slots=run.layout.slots,
            split=run.split,
            deadline=run.deadline,
            epoch_budget=run.epoch_budget,
            database=fresh_database(run.folder),
        )
        ends.enter_context(closing(conductor))
        files = ends.enter_context(_event_files(run, record))
        runs = ends.enter_context(_mlflow_runs(run, record, conductor))
        wandb = ends.enter_context(_wandb_runs(run, record, conductor))
        rows = Tolerant("Ray's dashboard", lambda: DashboardRows(run.folder.name))
        ends.callback(rows.close)
        gauges = Tolerant("Ray's metrics", lambda: _gauges(spec, run, record))
        all_listeners = (TableKeeper(record), keeper, *copies, *listeners, rows, gauges, *files, *wandb)
        slots = NodeWatch(cluster, run.layout) if run.follows_nodes else lambda: run.layout.slots
        memory = MemoryKills(conductor, slots, retries=run.retries)
        check = None if trainable else partial(_check_source, run, spec)
        while True:
            rungs = make_scheduler(spec, conductor)
            recorder = Recorder(conductor, rungs, all_listeners, memory=memory, check=check)
            try:
                _fit(trainable or _real(run, spec), run, conductor, rungs, [recorder, *runs])
                break
            except Exception as error:
                memory.take(error)
        keeper.sweep("*")
        if not conductor.finished:
            raise KeyboardInterrupt
    return record


def _begin_session(record: SearchRecord, journal: Journal, run: SearchRun, cluster: Cluster) -> None:
    place = {"nodes": cluster.nodes, "cpus": cluster.cpus, "gpus": cluster.gpus, "dashboard": cluster.dashboard_url}
    ends = {"deadline": run.deadline, "epoch_budget": run.epoch_budget}
    apply_event(record, journal.write("session", slots=run.layout.slots, threads=run.layout.threads, **place, **ends))


def _real(run: SearchRun, spec: SearchSpec) -> Trainable:
    return make_trainable(
        f"{ascii_name(run.folder.name)} slot",
        run.source,
        device=run.device,
        threads=run.layout.threads,
        checkpoints=run.folder / CHECKPOINTS,
        remote=run.remote / CHECKPOINTS if run.remote else None,
        shipment=run.shipment,
        pauses=pausing_epochs(spec),
    )


def _check_source(run: SearchRun, spec: SearchSpec) -> None:
    """Raises SurroundingsError where cache or splits, as this machine sees them, are not whole."""
    with classified():
        for split in spec.trial_splits(run.split):
            run.source.check(split)


def _fit(trainable: Trainable, run: SearchRun, conductor: Conductor, rungs: Rungs | Pauses, callbacks: list[Any]) -> None:
    from ray import tune
    from ray.air._internal import usage

    logging.getLogger("ray.tune.analysis.experiment_analysis").setLevel(logging.ERROR)  # misses the files of Ray's loggers
    resources: dict[str, float] = {"CPU": run.layout.cpus} | ({"GPU": run.layout.gpus} if run.layout.gpus else {})
    tuner = tune.Tuner(
        _named_slots(trainable, ascii_name(run.folder.name), resources),
        tune_config=tune.TuneConfig(
            search_alg=Proposals(conductor, rungs if isinstance(rungs, Pauses) else None),
            scheduler=rungs,
            num_samples=-1,  # the conductor says when it is finished
            reuse_actors=True,
            trial_name_creator=lambda trial: f"trial_{trial.config['trial']}",
            trial_dirname_creator=lambda trial: f"trial_{trial.config['trial']}",
        ),
        run_config=tune.RunConfig(
            name=run.folder.name,
            storage_path=str(run.folder.parent),
            failure_config=tune.FailureConfig(max_failures=run.retries),
            callbacks=callbacks,  # without Ray's loggers: journal and tables hold all that their files did
            verbose=0,
        ),
    )
    # for its usage report Ray would import MLflow and W&B, where they are installed, to tell whose callbacks ours are: 1.4 s
    with replaced(usage, tag_callbacks=lambda callbacks: False):
        tuner.fit()


def _gauges(spec: SearchSpec, run: SearchRun, record: SearchRecord) -> Gauges:
    watched = watched_column(run.source)
    return Gauges(record, monitor=spec.monitored, recall=watched, slots=run.layout.slots)


@contextmanager
def _storage_copy(run: SearchRun) -> Iterator[tuple[Listener, ...]]:
    """The listener that copies results to the storage beyond this machine, where there is one."""
    if run.remote is None:
        yield ()
        return
    copy = StorageCopy(run.folder, run.remote)
    try:
        with hurried(copy.hurry):
            yield (copy,)
    finally:
        copy.close()


@contextmanager
def _event_files(run: SearchRun, record: SearchRecord) -> Iterator[tuple[Listener, ...]]:
    """The listener that writes TensorBoard's files, if they are wanted."""
    if not run.tensorboard:
        yield ()
        return
    from tune_btxrd.distributed.listeners.tensorboard import EventFiles

    files = Tolerant("TensorBoard", lambda: EventFiles(record))
    try:
        yield (files,)
    finally:
        files.close()


@contextmanager
def _mlflow_runs(run: SearchRun, record: SearchRecord, conductor: Conductor) -> Iterator[tuple[Any, ...]]:
    """Ray's callback that logs to MLflow, if it is wanted."""
    if not run.mlflow:
        yield ()
        return
    from tune_btxrd.distributed.listeners.mlflow import MlflowRuns

    runs = MlflowRuns(run.mlflow, record, conductor.spec)
    try:
        yield (runs,)
    finally:
        runs.close(finished=conductor.finished)


@contextmanager
def _wandb_runs(run: SearchRun, record: SearchRecord, conductor: Conductor) -> Iterator[tuple[Listener, ...]]:
    """The listener that logs to Weights & Biases, if it is wanted."""
    if not run.wandb:
        yield ()
        return
    from tune_btxrd.distributed.listeners.wandb import WandbRuns

    runs = WandbRuns(run.wandb, record, conductor.spec)
    try:
        yield (runs,)
    finally:
        runs.close(finished=conductor.finished)


def _named_slots(trainable: Trainable, search: str, resources: dict[str, float]) -> type:
    """Wraps the trainable as Tune does; its actors show search and slot in the dashboard, as the journal names them."""
    from ray.tune import PlacementGroupFactory
    from ray.tune.trainable import wrap_function

    class NamedSlot(wrap_function(trainable)):  # type: ignore[misc]  # a class made by Ray
        def __repr__(self) -> str:
            return f"{search} slot {os.uname().nodename}:{os.getpid()}"

        @classmethod
        def default_resource_request(cls, config: dict[str, Any]) -> Any:
            return PlacementGroupFactory([resources])

    NamedSlot.__name__ = NamedSlot.__qualname__ = f"{search} slot"
    return NamedSlot
