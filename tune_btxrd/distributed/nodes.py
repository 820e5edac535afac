"""Several nodes: do they all see the storage, who needs the pixels brought, and how many slots are there right now?"""

import hashlib
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tune_btxrd.data.cache.writer import INDEX
from tune_btxrd.distributed.connect import Cluster, node_sizes, room
from tune_btxrd.distributed.remote_storage import RemoteFolder
from tune_btxrd.distributed.shipment import Shipment, pack
from tune_btxrd.errors import ConfigError, ResultError
from tune_btxrd.results.search_json import Layout
from tune_btxrd.training.source import Source

SECONDS = 5.0  # between two looks at the nodes
PROBE = ".probe-"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one node found: problems with folders that must be shared, by flag; whether it sees the pixels as they are."""

    node: str
    problems: Mapping[str, str]
    sees_source: bool


def join_nodes(
    cluster: Cluster, source: Source, *, shared: Mapping[str, Path], remote: RemoteFolder | None
) -> Shipment | None:
    """Checks the storage by writing and reading from every node, before the first trial; packs pixels where needed.

    Args:
        shared: folders that every node must see, by the flag that names them; none are needed beside a `remote`.

    Raises:
        ConfigError: a node does not see a folder, or tune_btxrd is not installed there.
        ResultError: the storage beyond this machine cannot be reached from a node.
    """
    if cluster.nodes == 1 and remote is None:
        return None
    answers = _ask_nodes(source, {} if remote else shared, remote)
    for answer in answers:
        for flag, problem in answer.problems.items():
            raise ConfigError(
                f"On several nodes {flag} must be shared, but on node {answer.node} {problem}: "
                "give a folder that all nodes mount, or --storage s3://..."
            )
    return None if all(answer.sees_source for answer in answers) and remote is None else pack(source)


def check_reachable(remote: RemoteFolder) -> None:
    """Writes, reads and removes a file in the storage, from here. Raises: ResultError."""
    _check_remote(remote, "here", uuid.uuid4().hex)


def _ask_nodes(source: Source, shared: Mapping[str, Path], remote: RemoteFolder | None) -> list[Answer]:
    """Every node's answer, each confirmed from here."""
    import ray

    token = uuid.uuid4().hex
    try:
        for folder in shared.values():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{PROBE}{token}").write_text(token)
        answers = _answers_of_those_alive(source, shared=shared, remote=remote, token=token)
    except OSError as error:
        raise ConfigError(f"A results folder must be writable, but {error.filename}: {error.strerror}.") from error
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ResultError | ConfigError):
            raise error.cause from None
        if isinstance(error.cause, ImportError):
            raise ConfigError(
                f"Every node must have tune_btxrd and its packages, but: {error.cause}. `submit --packages` brings them."
            ) from error
        raise
    finally:
        seen = {(flag, path.name) for flag, folder in shared.items() for path in folder.glob(f"{PROBE}{token}*")}
        for folder in shared.values():
            for path in folder.glob(f"{PROBE}{token}*"):
                path.unlink(missing_ok=True)
    return [_confirmed(answer, shared, seen, token) for answer in answers]


def _answers_of_those_alive(
    source: Source, *, shared: Mapping[str, Path], remote: RemoteFolder | None, token: str
) -> list[Answer]:
    """One answer of each node that is there; Ray lists a lost one as alive for some seconds, until its question fails."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    def ask(node: str, name: str) -> Any:
        return (
            ray.remote(answer_here)
            .options(
                num_cpus=0,
                name=f"storage seen from {name}",
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
            )
            .remote(f"{name} ({node[:8]})", source, _digest(source), shared=shared, remote=remote, token=token)
        )

    asked = [ask(node["NodeID"], node["NodeName"]) for node in ray.nodes() if node["Alive"]]
    answers: list[Answer] = []
    for question in asked:
        with suppress(ray.exceptions.TaskUnschedulableError, ray.exceptions.NodeDiedError):
            answers.append(ray.get(question))
    return answers


def answer_here(
    node: str, source: Source, digest: str, *, shared: Mapping[str, Path], remote: RemoteFolder | None, token: str
) -> Answer:
    """On a node: reads what the driver wrote, writes an answer beside it, and compares the cache's index."""
    problems = {flag: problem for flag, folder in shared.items() if (problem := _problem(folder, node, token))}
    if remote is not None:
        _check_remote(remote, node, token)
    return Answer(node=node, problems=problems, sees_source=_digest(source) == digest)


def _problem(folder: Path, node: str, token: str) -> str:
    try:
        if (folder / f"{PROBE}{token}").read_text() != token:
            return f"{folder} holds other files"
        (folder / f"{PROBE}{token}-{_name(node)}").write_text(node)
    except OSError as error:
        return f"{folder}: {error.strerror}"
    return ""


def _check_remote(remote: RemoteFolder, node: str, token: str) -> None:
    from tempfile import TemporaryDirectory

    name = f"{PROBE}{token}-{_name(node)}"
    with TemporaryDirectory() as aside:
        (Path(aside) / "out").write_text(node)
        remote.put(Path(aside) / "out", name)
        is_back = remote.get(name, Path(aside) / "back") and (Path(aside) / "back").read_text() == node
        remote.remove(name)
    if not is_back:
        raise ResultError(f"The storage must keep what is written, but {remote.uri} did not on node {node}.")


def _confirmed(answer: Answer, shared: Mapping[str, Path], seen: set[tuple[str, str]], token: str) -> Answer:
    """A node that wrote somewhere, but not where the driver reads, has a folder of its own."""
    unseen = {
        flag: f"{folder} is another folder than here"
        for flag, folder in shared.items()
        if flag not in answer.problems and (flag, f"{PROBE}{token}-{_name(answer.node)}") not in seen
    }
    return Answer(node=answer.node, problems={**answer.problems, **unseen}, sees_source=answer.sees_source)


def _name(node: str) -> str:
    return hashlib.sha256(node.encode()).hexdigest()[:16]


def _digest(source: Source) -> str:
    """What cache and splits are, as far as a node can tell without reading the pixels; "" where they are not there."""
    caches, splits = [Path(cache) / INDEX for cache in source.caches], sorted(Path(source.splits).glob("*.csv"))
    files = [*caches, *splits]
    if not all(path.is_file() for path in files) or not splits:
        return ""
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


class NodeWatch:
    """How many slots the nodes of this moment have: nodes may join and leave while a search runs."""

    def __init__(self, cluster: Cluster, layout: Layout) -> None:
        self.layout, self.begun_with = layout, cluster.room(layout.cpus, layout.gpus)
        self.slots, self.looked = layout.slots, time.monotonic()

    def __call__(self) -> int:
        """Slots now; the nodes are looked at every few seconds."""
        if time.monotonic() - self.looked >= SECONDS:
            import ray

            now: Any = room(node_sizes(ray), self.layout.cpus, self.layout.gpus)
            self.slots, self.looked = max(1, self.layout.slots + now - self.begun_with), time.monotonic()
        return self.slots
