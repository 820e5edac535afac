"""The final job: trains a config and the hand-made one on every requested split, as Ray tasks; resumed per training."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from tune_btxrd.config import TrainConfig
from tune_btxrd.console import warn
from tune_btxrd.distributed.failures import LOST, MEMORY_LOW, SurroundingsError, classified, reason_in
from tune_btxrd.distributed.names import ascii_name
from tune_btxrd.distributed.remote_storage import RemoteFolder
from tune_btxrd.distributed.shipment import Shipment, local_source, scratch
from tune_btxrd.distributed.sync import pull
from tune_btxrd.errors import ConfigError, DataError, ResultError
from tune_btxrd.files import held_alone
from tune_btxrd.results.checkpoints import LOG, RetrainJob, is_done, write_log
from tune_btxrd.search.events import EpochRow
from tune_btxrd.training.source import Source

RETRIES = 2  # of a training whose process or node died

OnEpoch = Callable[[RetrainJob, EpochRow], None]
Begin = Callable[[RetrainJob], Iterator[Any]]  # a stream of references to rows


def run_jobs(
    jobs: Sequence[RetrainJob],
    source: Source,
    *,
    device: str,
    threads: int,
    cpus: float,
    gpus: float,
    on_epoch: OnEpoch,
    remote: RemoteFolder | None = None,
    shipment: Shipment | None = None,
) -> None:
    """Trains all jobs, side by side as far as the cluster's resources go; a job that ended before is left as it is.

    Args:
        remote: the storage's copy of the jobs' root; shipment: pixels and splits for nodes that do not see ours.

    Raises:
        ResultError: a folder holds another config's training or cannot be written, or processes were lost time and again.
        ConfigError, DataError: what a training meets: weights, device, images, memory.
    """
    import ray

    roots = sorted({job.root for job in jobs})
    with ExitStack() as locks:
        for root in roots:
            locks.enter_context(held_alone(root, "final job"))
        for job in jobs:
            _require_same_config(job)
        task = ray.remote(_train)
        # no retries of Ray's own: it begins again for ever what it stopped for lack of memory, all of it side by side
        options = {"num_cpus": cpus, "num_gpus": gpus, "num_returns": "streaming", "max_retries": 0}

        def begin(job: RetrainJob) -> Iterator[Any]:
            named = task.options(name=ascii_name(f"retrain {job.label}"), **options)
            stream: Iterator[Any] = named.remote(
                job, source, device=device, threads=threads, remote=remote, shipment=shipment
            )
            return stream

        _follow([job for job in jobs if not is_done(job)], begin, on_epoch)
        if remote is not None:
            for root in roots:
                pull(remote, root)


def _follow(jobs: Sequence[RetrainJob], begin: Begin, on_epoch: OnEpoch) -> None:
    """Trains the jobs side by side; those that Ray stopped for lack of memory again afterwards, one by one.

    A process that begins again tells its earlier epochs once more; each is passed on once.
    """
    told = Counter[str]()

    def tell(job: RetrainJob, row: EpochRow) -> None:
        if row["epoch"] > told[job.label]:
            told[job.label] = row["epoch"]
            on_epoch(job, row)

    for job in _side_by_side(jobs, begin, tell):
        if _side_by_side([job], begin, tell, kills=RETRIES):
            raise SurroundingsError(
                f"Retraining {job.label} must fit its node, but alone it ran {MEMORY_LOW}, then --resume."
            )


def _side_by_side(jobs: Sequence[RetrainJob], begin: Begin, on_epoch: OnEpoch, *, kills: int = 0) -> list[RetrainJob]:
    """Passes rows on as they come, until every training has ended; a lost process is begun again.

    Args:
        kills: for lack of memory, that a training survives.

    Returns:
        The jobs that Ray stopped more often than that.
    """
    import ray

    streams, failed = {begin(job): job for job in jobs}, Counter[str]()
    killed: list[RetrainJob] = []
    while streams:
        ready, _ = ray.wait(list(streams), num_returns=1, fetch_local=False)
        job = streams[ready[0]]
        try:
            row = ray.get(next(ready[0]))
        except StopIteration:
            del streams[ready[0]]
        except ray.exceptions.RayError as error:
            del streams[ready[0]]
            failed[job.label] += 1
            reason = reason_in(str(error))
            if reason == MEMORY_LOW:
                is_last = 0 < kills < failed[job.label]
                warn(
                    f"Out of memory: Ray stopped {job.label}.{'' if is_last else ' It goes on from its last epoch, alone.'}"
                )
            elif getattr(error, "cause", None) is not None or failed[job.label] > RETRIES:  # raised by its code; no luck
                raise _told(error, reason, job) from None
            if reason == MEMORY_LOW and failed[job.label] > kills:
                killed.append(job)
            else:
                streams[begin(job)] = job
        else:
            on_epoch(job, row)
    return killed


def _told(error: Exception, reason: str, job: RetrainJob) -> Exception:
    """A user's mistake as it was raised in the worker; lost processes and full memory in one line; a bug as it is."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, ConfigError | DataError | ResultError):
        return cause
    if reason in LOST:
        return SurroundingsError(f"Retraining {job.label} was tried {RETRIES + 1} times, but {reason}: --resume goes on.")
    if "memory" in reason:
        return SurroundingsError(f"Retraining {job.label} must fit its node, but it ran {reason}, then --resume.")
    return error if cause is not None else SurroundingsError(f"Retraining {job.label} lost what it needs: {reason}.")


def _require_same_config(job: RetrainJob) -> None:
    path = job.folder / "config.json"
    if path.is_file() and TrainConfig.from_dict(json.loads(path.read_text())) != job.config:
        raise ResultError(
            f"{job.folder} holds a training of another config: choose another --checkpoints, or move that folder away."
        )


def _train(
    job: RetrainJob,
    source: Source,
    *,
    device: str,
    threads: int,
    remote: RemoteFolder | None = None,
    shipment: Shipment | None = None,
) -> Iterator[dict[str, Any]]:
    """In a worker: trains one job from its start or its last epoch; yields each row, the first with a `note` if need be."""
    with classified():
        yield from _rows(job, source, device=device, threads=threads, remote=remote, shipment=shipment)


def _rows(
    job: RetrainJob,
    source: Source,
    *,
    device: str,
    threads: int,
    remote: RemoteFolder | None,
    shipment: Shipment | None,
) -> Iterator[dict[str, Any]]:
    from tune_btxrd.distributed.trainable import warm_slot
    from tune_btxrd.distributed.trial_checkpoint import TrialCheckpoint
    from tune_btxrd.search.columns import named_row
    from tune_btxrd.training.checkpoint import checkpoint_dict, restore, save
    from tune_btxrd.training.loop import train

    job = job if remote is None else replace(job, root=scratch(job.root.name))
    slot, here = warm_slot(device, threads), local_source(source.at(job.config.image_size), shipment)
    data = here.training_data(job.stem)
    _write_config(job)
    there = remote / job.folder.relative_to(job.root).as_posix() if remote else None
    store, names = TrialCheckpoint(job.folder / "last.pt", class_names=source.class_names, remote=there), source.class_names
    saved = store.load(job.config.to_dict())
    state = slot.start(job.config, data, keep_best=True) if saved is None else restore(slot, saved, data)
    rows = [named_row(metrics, names, centers=source.centers) for metrics in state.history]
    try:
        yield from (row | {"note": store.note} for row in rows)
        for metrics in train(state):
            rows.append(named_row(metrics, names, centers=source.centers))
            store.save(state)
            write_log(job.folder / LOG, rows)
            yield rows[-1] | {"note": store.note}
        write_log(job.folder / LOG, rows)
        save(checkpoint_dict(state, class_names=names, which="best"), job.best)
        save({**checkpoint_dict(state, class_names=names), "best": None}, job.final)
    finally:
        store.close()
    if remote is not None:
        for path in (job.folder / "config.json", job.best, job.final, job.folder / LOG):  # the log last: it says it is done
            remote.put(path, path.relative_to(job.root).as_posix())
    store.remove()


def _write_config(job: RetrainJob) -> None:
    from tune_btxrd.files import write_whole

    write_whole(job.folder / "config.json", json.dumps(job.config.to_dict(), indent=1))
