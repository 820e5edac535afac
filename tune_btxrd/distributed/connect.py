"""Connection to Ray: starts one on this machine or joins a cluster, and ends it with the verb."""

import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from tune_btxrd.distributed.interrupts import own_handler_kept
from tune_btxrd.distributed.start_ray import start, watched
from tune_btxrd.errors import ConfigError

DRIVER_ENV = {
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # a page of traceback each; ours is one line
    "RAY_AIR_NEW_OUTPUT": "0",  # the old reporter keeps silent when asked to
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the default TensorBoardX callback imports torch into the driver
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a trial without GPU keeps the environment as it is; silences a warning
    "TUNE_MAX_PENDING_TRIALS_PG": "1000",  # all slots start at once, not one after another; the conductor counts them
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # Ray's snapshots are not read: the journal is the state (every 10 s by default)
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
EDGE = 1e-9  # 1 / 0.1 is a little less than 10


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What the search runs on, and where to watch.

    Attributes:
        sizes: (CPUs, GPUs) of each node; nodes may be of different kinds.
    """

    sizes: tuple[tuple[float, float], ...]
    is_local: bool
    dashboard_url: str | None

    @property
    def cpus(self) -> int:
        """Of all nodes."""
        return max(1, int(sum(cpus for cpus, _ in self.sizes)))

    @property
    def gpus(self) -> int:
        """Of all nodes."""
        return int(sum(gpus for _, gpus in self.sizes))

    @property
    def nodes(self) -> int:
        """How many."""
        return len(self.sizes)

    def room(self, cpus: float, gpus: float) -> int:
        """How many trials of this size the nodes hold at once; a trial never spans two nodes."""
        return room(self.sizes, cpus, gpus)

    def describe(self) -> str:
        """One line, e.g. `2 CPUs on this machine`."""
        parts = [f"{self.cpus} CPU{'s' if self.cpus != 1 else ''}"] + (
            [f"{self.gpus} GPU{'s' if self.gpus != 1 else ''}"] if self.gpus else []
        )
        return f"{' and '.join(parts)} on {'this machine' if self.is_local else f'{self.nodes} node(s)'}"


@contextmanager
def connected(*, address: str | None, name: str) -> Iterator[Cluster]:
    """A Ray connection for the duration of a verb; a Ray that was started here ends with it.

    Args:
        address: None starts Ray on this machine; "auto" or "HOST:PORT" joins a running cluster.
        name: shown in the dashboard as the job's name.

    Raises:
        ConfigError: a `ray://` address, no cluster at the address, or Ray does not start on this machine.
        SurroundingsError: the Ray that was started here died.
    """
    check_address(address)
    os.environ.update({key: value for key, value in DRIVER_ENV.items() if key not in os.environ})
    import ray

    if ray.is_initialized():  # a caller's own session: joined, and left running
        yield _describe(ray, is_local=address is None)
        return
    with own_handler_kept():
        start(address=address, name=name)
    try:
        with watched() if address is None else nullcontext():
            yield _describe(ray, is_local=address is None)
    finally:
        with own_handler_kept():
            ray.shutdown()


def check_address(address: str | None) -> None:
    """Raises ConfigError for a `ray://` address: a Ray client's driver would die with its connection."""
    if address is not None and "://" in address:
        host = re.sub(r"^\w+://|:\d+.*$", "", address)
        raise ConfigError(
            f"A search runs inside the cluster (--address auto or HOST:PORT), but {address} is none: from outside use "
            f"`submit --address http://{host}:8265` with the same flags."
        )


def room(sizes: Sequence[tuple[float, float]], cpus: float, gpus: float) -> int:
    """How many trials of `cpus` and `gpus` fit nodes of these sizes."""

    def on(node_cpus: float, node_gpus: float) -> float:
        by_cpu = node_cpus / cpus if cpus else math.inf
        # Ray gives a trial whole GPUs or a share of one: 1.5 GPUs take two
        by_gpu = math.inf if not gpus else int(node_gpus) * int(1 / gpus + EDGE) if gpus < 1 else node_gpus / gpus
        return min(by_cpu, by_gpu)

    return sum(int(on(*size) + EDGE) for size in sizes)


def node_sizes(ray: Any) -> tuple[tuple[float, float], ...]:
    """(CPUs, GPUs) of every node that is alive."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return tuple((float(resources.get("CPU", 0)), float(resources.get("GPU", 0))) for resources in alive)


def _describe(ray: Any, *, is_local: bool) -> Cluster:
    url = ray._private.worker.get_dashboard_url()  # the only place that holds it after joining a cluster
    return Cluster(sizes=node_sizes(ray), is_local=is_local, dashboard_url=f"http://{url}" if url else None)


def login_hint() -> str:
    """How to log in to the dashboard, where its token authentication is on (Ray's default for a local cluster)."""
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "disabled":
        return "no login needed"
    return "log in with the token that `ray get-auth-token` prints"
