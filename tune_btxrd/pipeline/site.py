"""Site: where a verb's trainings run and what is kept of them, whatever happens; and what goes on with it."""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tune_btxrd.data.request import DataRequest
from tune_btxrd.distributed.connect import Cluster, connected
from tune_btxrd.distributed.forks import warm
from tune_btxrd.distributed.interrupts import stoppable
from tune_btxrd.distributed.nodes import check_reachable, join_nodes
from tune_btxrd.distributed.remote_storage import RemoteFolder
from tune_btxrd.distributed.shipment import Shipment
from tune_btxrd.distributed.sync import copy_results, push
from tune_btxrd.errors import ConfigError, flag_words
from tune_btxrd.pipeline.compute import Compute
from tune_btxrd.pipeline.place import Place
from tune_btxrd.pipeline.start import has_begun
from tune_btxrd.results.search_json import SearchSettings

CHECKPOINTS = "checkpoints"  # of the final job, in the storage's copy of a results folder


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where a verb's trainings run: the cluster, what its nodes must be brought, and the storage beyond this machine."""

    cluster: Cluster
    shipment: Shipment | None
    remote: RemoteFolder | None


@dataclass(frozen=True, kw_only=True)
class Trackers:
    """Where else a search is logged: TensorBoard event files in the results, an MLflow tracking URI, a project of W&B."""

    tensorboard: bool = False
    mlflow: str | None = None
    wandb: str | None = None

    def check(self) -> None:
        """Raises ConfigError for a tracker whose package is not there, or that would refuse at the start."""
        for flag, asked, package, wanted in (
            ("--mlflow", self.mlflow, "mlflow", "mlflow-skinny"),
            ("--wandb", self.wandb, "wandb", "wandb"),
        ):
            if asked is not None and importlib.util.find_spec(package) is None:
                raise ConfigError(f"{flag} needs {package}, but it is not installed: pip install {wanted}")
        if self.wandb is not None:
            from tune_btxrd.distributed.listeners.wandb import check_account

            check_account(self.wandb)


@contextmanager
def joined(place: Place, settings: SearchSettings, compute: Compute) -> Iterator[Site]:
    """Ray, started or joined, with every node checked."""
    remote = place.copy
    with connected(address=compute.address, name=place.name) as cluster:
        if compute.address is None and remote is not None:
            check_reachable(remote)
        shared = {"--storage": place.folder, "--checkpoints": settings.checkpoints}
        shipment = join_nodes(cluster, settings.source, shared=shared, remote=remote) if compute.address else None
        yield Site(cluster=cluster, shipment=shipment, remote=remote)


@contextmanager
def saved(place: Place, again: str) -> Iterator[None]:
    """At the end, come what may: results and checkpoints go to the storage beyond this machine, where there is one; after
    an interruption a person is told what to type. Processes that train begin as copies of one.
    """
    with stoppable(_how_to_go_on(place, again)), kept(place), warm():
        yield


@contextmanager
def kept(place: Place) -> Iterator[None]:
    """The same without the words, for a search inside another."""
    try:
        yield
    finally:
        if place.copy is not None and has_begun(place):
            copy_results(place.folder, place.copy)
            root = SearchSettings.load(place.folder).moved(place.checkpoints).checkpoints
            push(root, place.copy / CHECKPOINTS)


def _how_to_go_on(place: Place, again: str) -> Callable[[], str]:
    def told() -> str:
        if not has_begun(place):
            return "Interrupted before the first trial; decoded images are kept. Start it again."
        return f"Interrupted; everything reported is saved. Go on with: {again}"

    return told


def words_again(data: DataRequest | None, compute: Compute, trackers: Trackers | None = None) -> list[str]:
    """Flags that `search.json` does not keep, or not for sure, as words of the command that goes on."""
    words = []
    if data is not None and data.cache is not None:
        words += ["--cache", str(data.cache)]
    if compute.address is not None:
        words += ["--address", compute.address]
    if trackers is not None:
        words += ["--tensorboard"] if trackers.tensorboard else []
        words += [] if trackers.mlflow is None else ["--mlflow", trackers.mlflow]
        words += [] if trackers.wandb is None else flag_words("--wandb", trackers.wandb)
    return words
