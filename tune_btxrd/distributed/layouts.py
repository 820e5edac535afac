"""Layouts: how many trials at once, with how many threads or which share of a GPU; which are worth trying, which is best."""

import math
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tune_btxrd.distributed.connect import Cluster
from tune_btxrd.errors import ConfigError

CLOSE = 0.85  # of the fastest layout's rate counts as equally fast on a CPU
CLOSE_ON_GPU = 0.95  # and on a GPU, where fewer trials leave more memory
MOST_THREADS = 8  # of one trial
PACKS = (1, 2, 4, 8)  # trials on one GPU that are tried
FULL = 0.9  # of a GPU's memory may be planned with


@dataclass(frozen=True, kw_only=True)
class Option:
    """A layout that can be tried: trials at once in the whole cluster, and what each gets.

    Attributes:
        threads: torch's in each trial; cpus, gpus: of each trial, as Ray counts them.
    """

    slots: int
    threads: int
    cpus: float = 1.0
    gpus: float = 0.0

    def __str__(self) -> str:
        each = f"1/{round(1 / self.gpus)} GPU" if 0 < self.gpus < 1 else f"{self.gpus:g} GPU" if self.gpus else ""
        return f"{self.slots} x {each or f'{self.threads} thread(s)'}"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What one trial met while as many as the option says trained side by side.

    Attributes:
        seconds: per epoch; inf where the device ran out of memory.
        memory: share of the GPU's memory that one trial takes; 0 on a CPU.
        device, precision: what it ran on and in, e.g. "cpu" and "fp32".
    """

    seconds: float
    memory: float = 0.0
    device: str = "cpu"
    precision: str = "fp32"


def layouts(
    cluster: Cluster, *, device: str, slots: int | None, cpus: float | None, gpus: float | None, system: str | None = None
) -> list[Option]:
    """The options to be measured, each fitting the nodes, whatever their kinds; what the user gave leaves fewer of them.

    Args:
        gpus: of each trial; None: measured where there is a GPU.
        system: of this machine, as `platform.system` calls it; on Apple silicon one trial has the device for itself.

    Raises:
        ConfigError: no node has what one trial asks for.
    """
    on_gpus = device in ("auto", "cuda") and gpus != 0 and bool(cluster.gpus or gpus)
    _check_room(cluster, cpus=cpus, gpus=(gpus or 1.0) if on_gpus else 0.0)
    if on_gpus:
        return _on_gpus(cluster, slots=slots, cpus=cpus, gpus=gpus)
    on_mps = device == "mps" or (device == "auto" and (system or platform.system()) == "Darwin")
    if cpus and not slots:
        slots = 1 if on_mps else cluster.room(cpus, 0.0)
    if on_mps or slots:
        return [_option(cluster, slots or 1, cpus, 0.0)]
    most = int(min(max(size for size, _ in cluster.sizes), MOST_THREADS))
    threads = [2**power for power in range(most.bit_length()) if 2**power <= most]
    return [Option(slots=cluster.room(count, 0.0), threads=count, cpus=float(count)) for count in threads]


def _on_gpus(cluster: Cluster, *, slots: int | None, cpus: float | None, gpus: float | None) -> list[Option]:
    if gpus is not None:
        return [_option(cluster, slots or cluster.room(cpus or 0.0, gpus), cpus, gpus)]
    if slots:
        return [_option(cluster, slots, cpus, 1 / math.ceil(slots / cluster.gpus))]
    packs = [pack for pack in PACKS if pack == 1 or pack * cluster.gpus <= cluster.cpus]
    return [_option(cluster, cluster.room(cpus or 0.0, 1 / pack), cpus, 1 / pack) for pack in packs]


def _option(cluster: Cluster, slots: int, cpus: float | None, gpus: float) -> Option:
    own = cpus or _cpus_of(cluster, slots, gpus)
    return Option(slots=slots, threads=max(1, int(own)), cpus=own, gpus=gpus)


def _cpus_of(cluster: Cluster, slots: int, gpus: float) -> float:
    """The most CPUs that each of so many trials can have; a share of one where there are more trials than CPUs."""
    whole = [float(count) for count in range(1, cluster.cpus + 1) if cluster.room(count, gpus) >= slots]
    return max(whole, default=max(0.1, min(1.0, cluster.cpus / slots)))


def _check_room(cluster: Cluster, *, cpus: float | None, gpus: float) -> None:
    if not cluster.room(cpus or (0.0 if gpus else 1.0), gpus):
        asked = " and ".join(f"{size:g} {kind}" for size, kind in ((cpus, "CPUs"), (gpus, "GPUs")) if size)
        raise ConfigError(
            f"A node must hold one trial, but none has {asked or 'a CPU'}: lower --cpus-per-trial or --gpus-per-trial."
        )


def try_all(
    options: Sequence[Option], sample: Callable[[Option], Sample], *, largest: int | None = None
) -> tuple[list[tuple[Option, Sample]], tuple[str, ...]]:
    """The options that fit, with what was measured, and a line for each that was tried; the first that does not fit ends it.

    Args:
        largest: image size that was tried, where several are searched.

    Raises:
        ConfigError: not even the first one fits.
    """
    measured: list[tuple[Option, Sample]] = []
    lines: list[str] = []
    for option in options:
        found = sample(option)
        if found.seconds == math.inf or (measured and found.memory > FULL * option.gpus):
            lines.append(f"{option}: out of memory")
            break
        measured.append((option, found))
        memory = f", {100 * found.memory:.0f} % of a GPU's memory each" if found.memory else ""
        lines.append(f"{option}: {60 * option.slots / found.seconds:.1f} epochs/min{memory}")
    if not measured:
        size = "or --image-size" if largest is None else f"or leave image_size: {largest} out of the search space"
        raise ConfigError(f"A GPU must hold one trial, but it ran out of memory: use a smaller --batch-size {size}.")
    return measured, tuple(lines)


def choose(measured: Sequence[tuple[Option, Sample]]) -> tuple[Option, Sample]:
    """Among those about as fast as the fastest: on CPUs the one with the most slots, on GPUs the one with the fewest.

    Threads of one trial wait for each other, so that whatever else runs on a core slows them all; slots do not. On a GPU
    fewer trials learn earlier from each other and leave memory free.
    """
    fastest = max(option.slots / sample.seconds for option, sample in measured)
    on_gpu = bool(measured[0][0].gpus)
    close = CLOSE_ON_GPU if on_gpu else CLOSE
    good = [item for item in measured if item[0].slots / item[1].seconds >= close * fastest]
    return min(good, key=lambda item: item[0].slots if on_gpu else -item[0].slots)
