"""Measured layout: how many trials at once, with how many threads, and what an epoch costs."""

import math
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from tune_btxrd.config import TrainConfig
from tune_btxrd.distributed.connect import Cluster
from tune_btxrd.distributed.failures import SurroundingsError, classified, reason_in
from tune_btxrd.distributed.layouts import Option, Sample, choose, layouts, try_all
from tune_btxrd.distributed.shipment import Shipment, local_source
from tune_btxrd.errors import ConfigError, DataError, ResultError
from tune_btxrd.results.search_json import Layout
from tune_btxrd.training.source import Source

SECONDS = 3.0  # that a trial is timed for at most, beyond its first batch
BATCHES = 6  # timed at most


def measure_layout(
    source: Source,
    split: str,
    config: TrainConfig,
    cluster: Cluster,
    *,
    device: str,
    slots: int | None,
    cpus: float | None,
    gpus: float | None,
    shipment: Shipment | None = None,
    sizes: Collection[int] = (),
) -> Layout:
    """The layout with the most epochs per second among those that fit; `slots` leaves only one to measure.

    Args:
        sizes: where `image_size` is searched: all of them. Layouts are tried at the largest, which must fit; the one that
            is chosen is timed at each.

    Raises:
        ConfigError, DataError, ResultError: what a trial would have met: weights, device, memory, images.
    """
    options = layouts(cluster, device=device, slots=slots, cpus=cpus, gpus=gpus)
    largest = max((config.image_size, *sizes))
    with _probes(options, cluster, source, shipment, split, config.to_dict(), device) as sample:
        several = largest if len(sizes) > 1 else None
        measured, tried = try_all(options, lambda option: sample(option, largest), largest=several)
        option, found = choose(measured)
        seconds = {size: sample(option, size).seconds for size in sorted({*sizes, config.image_size}) if size != largest}
    seconds[largest] = found.seconds
    return Layout(
        slots=option.slots,
        cpus=option.cpus,
        gpus=option.gpus,
        threads=option.threads,
        epoch_seconds=seconds[config.image_size],
        tried=tried,
        ran_on=found.device,
        precision=found.precision,
        size_seconds={str(size): seconds[size] for size in sorted(seconds)} if len(seconds) > 1 else {},
    )


@contextmanager
def _probes(options: list[Option], cluster: Cluster, *arguments: Any) -> Iterator[Callable[[Option, int], Sample]]:
    """Processes that train side by side, as many as the largest option needs; on GPUs as many as share one.

    Yields:
        What measures an option at an image size.
    """
    import ray

    most = max(_side_by_side(option) for option in options)
    cpus, gpus = min(option.cpus for option in options), min(option.gpus for option in options)
    if not gpus:
        most = min(most, max(1, cluster.room(cpus, 0.0)))
    probe = ray.remote(_Probe).options(num_cpus=0 if gpus else cpus, num_gpus=gpus)
    actors = [probe.remote(*arguments) for _ in range(most)]

    def sample(option: Option, image_size: int) -> Sample:
        wanted = _side_by_side(option)
        busy = actors[: min(wanted, most)]
        found = [Sample(**values) for values in ray.get([actor.sample.remote(option.threads, image_size) for actor in busy])]
        worst = max(found, key=lambda item: item.seconds)
        waves = math.ceil(wanted / len(busy))  # more slots than CPUs take turns
        return replace(worst, seconds=worst.seconds * waves, memory=max(item.memory for item in found) / len(busy))

    try:
        yield sample
    except ray.exceptions.RayError as error:
        if not isinstance(error, ray.exceptions.RayTaskError):
            raise SurroundingsError(f"A slot must start and train, but: {reason_in(str(error))}.") from error
        if isinstance(error.cause, ConfigError | DataError | ResultError):
            raise error.cause from None
        raise
    finally:
        for actor in actors:
            ray.kill(actor)


def _side_by_side(option: Option) -> int:
    """Trials that compete: all of them on CPUs, those that share a GPU there."""
    return max(1, round(1 / option.gpus)) if option.gpus else option.slots


class _Probe:
    """A process that trains a few batches exactly as a slot does."""

    def __init__(self, source: Source, shipment: Shipment | None, split: str, config: dict[str, Any], device: str) -> None:
        self.asked, self.device = TrainConfig.from_dict(config), device
        self.source, self.shipment, self.split = source, shipment, split

    def sample(self, threads: int, image_size: int) -> dict[str, Any]:
        """Seconds of one epoch over the whole split at this size, from a few batches, as the values of a Sample."""
        import torch

        from tune_btxrd.distributed.trainable import warm_slot
        from tune_btxrd.training.device import resolve_precision

        self.config = self.asked.replace(image_size=image_size)
        with classified():
            self.data = local_source(self.source.at(image_size), self.shipment).training_data(self.split)
        slot = warm_slot(self.device, None)
        torch.set_num_threads(threads)
        found = {"device": slot.device.type, "precision": resolve_precision(self.config.precision, slot.device)}
        try:
            first = self._epoch(slot, 1)
            batches = max(1, min(BATCHES, int(SECONDS / first.train_seconds)))
            row = self._epoch(slot, batches)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            return {**found, "seconds": math.inf}
        trained, seen = self._few(batches)
        seconds = row.train_seconds * len(self.data.train_rows) / len(trained)
        seconds += row.val_seconds * len(self.data.val_rows) / len(seen)
        if slot.device.type == "cuda":
            free, total = torch.cuda.mem_get_info()  # of all processes on it
            found["memory"] = 1 - free / total
        return {**found, "seconds": seconds}

    def _epoch(self, slot: Any, batches: int) -> Any:
        """One epoch over so many batches."""
        import dataclasses

        from tune_btxrd.training.loop import train_epoch

        train_rows, val_rows = self._few(batches)
        few = dataclasses.replace(self.data, train_rows=train_rows, val_rows=val_rows)
        config = self.config.replace(epochs=2, patience=2, min_epochs=2, stages="one")
        return train_epoch(slot.start(config, few, keep_best=False))

    def _few(self, batches: int) -> tuple[Any, Any]:
        """Training rows, every class or answer among them, and validation rows."""
        import numpy as np

        rows, size = self.data.train_rows, self.config.batch_size
        answers = self.data.task.answers(self.data.targets[rows], self.data.num_classes)
        first = list(dict.fromkeys(rows[given][0] for given in answers.T > 0 if given.any()))
        rest = rows[~np.isin(rows, first)]
        count = max(batches * size, len(first))
        return np.concatenate([first, rest])[:count], self.data.val_rows[: batches * size]
