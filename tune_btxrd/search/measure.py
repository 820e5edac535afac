"""How many trials at once, with how many threads, and what an epoch costs: measured here and now, never guessed."""

import math
import time
from dataclasses import dataclass
from typing import Any

from tune_btxrd.config import TrainConfig
from tune_btxrd.errors import ConfigError, DataError, ResultError
from tune_btxrd.search.cluster import Cluster
from tune_btxrd.search.parts import Source
from tune_btxrd.search.space import SearchSpec

CLOSE = 0.85  # of the fastest layout's rate counts as equally fast
BATCHES = 3  # trained per probe, after one to warm up


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Trials at once and what each gets.

    Attributes:
        slots: trials at once; cpus, gpus: of each, as Ray counts them; threads: torch's CPU threads in each.
        epoch_seconds: of one trial when all slots are busy (training and validation of the search's split).
        tried: one line per layout that was measured.
    """

    slots: int
    cpus: float
    gpus: float
    threads: int
    epoch_seconds: float
    tried: tuple[str, ...] = ()


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
) -> Layout:
    """The layout with the most epochs per second among those that fit; `slots` leaves only one to measure.

    Raises:
        ConfigError, DataError, ResultError: what a trial would have met: weights, device, memory, images.
    """
    import ray

    per_trial = gpus if gpus is not None else float(min(1, cluster.gpus))
    options = _options(cluster, slots=slots, cpus=cpus, gpus=per_trial)
    probe = ray.remote(_Probe)
    most = min(max(count for count, _ in options), cluster.cpus)
    local = cluster.cpus / most
    actors = [
        probe.options(num_cpus=local, num_gpus=per_trial).remote(source.to_dict(), split, config.to_dict(), device)
        for _ in range(most)
    ]
    measured: list[tuple[float, int, int, float]] = []
    try:
        for count, threads in options:
            busy = min(count, most)
            seconds = max(ray.get([actor.epoch_seconds.remote(threads) for actor in actors[:busy]])) * math.ceil(
                count / busy
            )
            measured.append((count / seconds, count, threads, seconds))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ConfigError | DataError | ResultError):
            raise error.cause from None
        raise
    finally:
        for actor in actors:
            ray.kill(actor)
    _, count, threads, seconds = choose(measured)
    tried = tuple(f"{c} x {t} thread(s): {r * 60:.1f} epochs/min" for r, c, t, _ in measured)
    own = cpus if cpus is not None else min(float(threads), cluster.cpus / count)
    return Layout(slots=count, cpus=own, gpus=per_trial, threads=threads, epoch_seconds=seconds, tried=tried)


def choose(measured: list[tuple[float, int, int, float]]) -> tuple[float, int, int, float]:
    """The layout with the most slots among those within CLOSE of the fastest, as (epochs/s, slots, threads, s per epoch).

    Threads of one trial wait for each other, so that whatever else runs on a core slows them all; slots do not.
    """
    fastest = max(rate for rate, *_ in measured)
    return max((item for item in measured if item[0] >= CLOSE * fastest), key=lambda item: item[1])


def _options(cluster: Cluster, *, slots: int | None, cpus: float | None, gpus: float) -> list[tuple[int, int]]:
    """(slots, threads) to be measured."""
    if gpus:
        count = slots or max(1, int(cluster.gpus / gpus))
        return [(count, max(1, int(cpus or cluster.cpus // count)))]
    if slots:
        return [(slots, max(1, int(cpus or cluster.cpus // slots)))]
    if cpus:
        return [(max(1, int(cluster.cpus // cpus)), max(1, int(cpus)))]
    threads = [1]
    while threads[-1] * 2 <= min(cluster.cpus // max(1, cluster.nodes), 8):
        threads.append(threads[-1] * 2)
    return [(max(1, cluster.cpus // count), count) for count in threads]


class _Probe:
    """A process that trains a few batches exactly as a slot does."""

    def __init__(self, source: dict[str, Any], split: str, config: dict[str, Any], device: str) -> None:
        self.data = Source.from_dict(source).training_data(split)
        self.config, self.device = TrainConfig.from_dict(config), device

    def epoch_seconds(self, threads: int) -> float:
        """Seconds of one epoch over the whole split, from a few batches."""
        import dataclasses

        import torch

        from tune_btxrd.search.trainable import warm_slot
        from tune_btxrd.training.loop import train_epoch

        slot = warm_slot(self.device, None)
        torch.set_num_threads(threads)
        few = dataclasses.replace(
            self.data,
            train_rows=_one_of_each(self.data, BATCHES * self.config.batch_size),
            val_rows=self.data.val_rows[: 2 * self.config.batch_size],
        )
        state = slot.start(self.config.replace(epochs=2, patience=2, min_epochs=2, stages="one"), few, keep_best=False)
        train_epoch(state)
        row = train_epoch(state)
        train = row.train_seconds * len(self.data.train_rows) / len(few.train_rows)
        return train + row.val_seconds * len(self.data.val_rows) / len(few.val_rows)


def _one_of_each(data: Any, count: int) -> Any:
    """Training rows, `count` at most, with every class among them."""
    import numpy as np

    rows = data.train_rows
    first = [rows[data.targets[rows] == index][0] for index in range(data.num_classes)]
    rest = rows[~np.isin(rows, first)]
    return np.concatenate([first, rest])[: max(count, data.num_classes)]


def expected_epochs(spec: SearchSpec) -> float:
    """Epochs of the search without confirmation: each rung lets one in `reduction_factor` go on."""
    if spec.scheduler == "none":
        return float(spec.trials * spec.epochs)
    reached, share, total = 0, 1.0, 0.0
    rung = float(spec.grace_period)
    while rung < spec.epochs:
        total += share * (rung - reached)
        reached, share, rung = int(rung), share / spec.reduction_factor, rung * spec.reduction_factor
    return spec.trials * (total + share * (spec.epochs - reached))


def confirm_epochs(spec: SearchSpec) -> int:
    """Epochs of the confirmation, at most."""
    return (spec.confirm + 1) * spec.repeats * spec.epochs if spec.confirm else 0


def minutes(seconds: float) -> str:
    """A duration as a person says it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def deadline(time_budget: float | None, *, reserve: float) -> float | None:
    """When search trials must end so that confirmation and retrain fit in; None without a budget."""
    return None if time_budget is None else time.time() + max(0.0, time_budget - reserve)
