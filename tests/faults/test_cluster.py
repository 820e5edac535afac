"""Several nodes: the storage is checked from each, pixels reach each once, one is lost in mid-search; on S3 as well."""

from pathlib import Path

import pytest

from benchmarks import kill
from benchmarks.kill import Arena, Case, Kill
from tests.support.sources import make_source
from tests.support.waiting import until
from tune_btxrd.distributed import nodes
from tune_btxrd.distributed.connect import connected
from tune_btxrd.distributed.listeners.cleanup import CHECKPOINTS
from tune_btxrd.distributed.nodes import NodeWatch, join_nodes
from tune_btxrd.distributed.remote_storage import RemoteFolder
from tune_btxrd.distributed.shipment import local_source, pack
from tune_btxrd.distributed.sync import fetch
from tune_btxrd.errors import ConfigError
from tune_btxrd.results.search_json import Layout

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


def test_storage_is_written_and_read_from_every_node(
    arena: Arena, storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_source(tmp_path / "data")
    shared = {"--storage": tmp_path / "results", "--checkpoints": tmp_path / "checkpoints"}
    with connected(address=arena.address, name="check") as cluster:
        assert cluster.nodes == 3 and cluster.sizes.count((2.0, 0.0)) == 2 and cluster.room(1, 0) == 4
        assert join_nodes(cluster, source, shared=shared, remote=None) is None  # all nodes see the cache: nothing to bring
        assert not list(tmp_path.glob("*/.probe*"))
        assert join_nodes(cluster, source, shared={}, remote=RemoteFolder(storage) / tmp_path.name) is not None
        monkeypatch.chdir(tmp_path)  # a path that is another folder in every process, as a local disk is on every node
        with pytest.raises(ConfigError, match=r"On several nodes --storage must be shared, but on node .* --storage s3://"):
            join_nodes(cluster, source, shared={"--storage": Path("/proc/self/cwd/own")}, remote=None)


def test_a_node_lost_a_moment_ago_is_not_waited_for(arena: Arena, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    source = make_source(tmp_path / "data")
    with connected(address=arena.address, name="lost") as cluster:
        node = arena.cluster.add_node(num_cpus=1)
        listed = ray.nodes()
        arena.cluster.remove_node(node)
        monkeypatch.setattr(ray, "nodes", lambda: listed)  # as Ray itself lists it until heartbeats have failed
        assert sum(row["Alive"] for row in listed) == 4
        assert join_nodes(cluster, source, shared={"--storage": tmp_path / "results"}, remote=None) is None


def test_pixels_reach_a_node_once(arena: Arena, tmp_path: Path) -> None:
    import ray

    source = make_source(tmp_path / "data")

    def images_here(source: object, shipment: object) -> tuple[int, tuple[int, ...], str]:
        here = local_source(source, shipment)
        data = here.training_data("common")
        return (Path(here.cache) / "images.npy").stat().st_ino, data.images.shape, here.splits

    with connected(address=arena.address, name="shipment"):
        shipment = pack(source)
        Path(source.cache).rename(tmp_path / "gone")
        task = ray.remote(images_here)
        found = ray.get([task.remote(source, shipment) for _ in range(4)])
    assert len(set(found)) == 1 and found[0][1] == (48, 32, 32) and str(tmp_path) not in found[0][2]


def test_slots_follow_the_nodes(arena: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    with connected(address=arena.address, name="watch") as cluster:
        watch = NodeWatch(cluster, Layout(slots=4, cpus=1, gpus=0, threads=1, epoch_seconds=1.0))
        monkeypatch.setattr(nodes, "SECONDS", 3600.0)
        node = arena.cluster.add_node(num_cpus=3)
        assert watch() == 4  # not yet looked at again
        monkeypatch.setattr(nodes, "SECONDS", 0.0)
        until(lambda: watch() == 7)  # Ray tells of a node a little later
        arena.cluster.remove_node(node)
        until(lambda: watch() == 4)


def test_a_search_on_s3_survives_a_lost_node_and_goes_on_elsewhere(arena: Arena, storage: str, tmp_path: Path) -> None:
    folder, case = tmp_path / "cloud", Case(seed=0, slots=2, kills=(Kill(kind="node", line=6, delay=0.1),))
    wrong, struck = kill.play(case, folder, arena, real=True, remote=storage)
    assert not wrong and struck == 1
    there = RemoteFolder(storage) / "cloud"
    names = there.names()
    assert {"journal.jsonl", "optuna.db", "trials.csv", "epochs.csv", "search.json"} <= names.keys()
    assert not [name for name in names if name.startswith(CHECKPOINTS)]
    assert fetch(there, tmp_path / "elsewhere" / "cloud")
    assert kill.facts(tmp_path / "elsewhere" / "cloud") == kill.facts(folder)
    assert kill.play(Case(seed=0, slots=2, kills=()), tmp_path / "elsewhere" / "cloud", arena, real=True) == ([], 0)
