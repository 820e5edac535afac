"""Nodes of different kinds without Ray: how many trials fit, which layouts are measured, what is shared."""

from pathlib import Path

import pytest

from tests.support.sources import make_source
from tune_btxrd.distributed.connect import Cluster, check_address, room
from tune_btxrd.distributed.layouts import layouts
from tune_btxrd.distributed.nodes import _digest, answer_here
from tune_btxrd.errors import ConfigError
from tune_btxrd.search.budget import spent_seconds
from tune_btxrd.search.record import SearchRecord, TrialRecord


def cluster_of(*sizes: tuple[float, float]) -> Cluster:
    return Cluster(sizes=sizes, is_local=False, dashboard_url=None)


def tried(
    cluster: Cluster, *, slots: int | None = None, cpus: float | None = None, gpus: float | None = None
) -> list[tuple[int, int, float]]:
    """(slots, threads, CPUs of each) of every option."""
    options = layouts(cluster, device="auto", slots=slots, cpus=cpus, gpus=gpus, system="Linux")
    return [(option.slots, option.threads, option.cpus) for option in options]


@pytest.mark.parametrize(
    ("sizes", "cpus", "gpus", "count"),
    [
        (((3, 0), (5, 0)), 4, 0, 1),  # a trial never spans two nodes
        (((3, 0), (5, 0)), 1, 0, 8),
        (((8, 4), (56, 0)), 2, 1, 4),  # no GPU trial on a node without one
        (((8, 2), (8, 1)), 1, 0.5, 6),
        (((8, 1),), 0.1, 0.1, 10),
        (((0, 0), (4, 0)), 1, 0, 4),  # a head without CPUs
    ],
)
def test_trials_that_fit(sizes: tuple[tuple[float, float], ...], cpus: float, gpus: float, count: int) -> None:
    assert room(sizes, cpus, gpus) == count


def test_layouts_that_are_measured_fit_every_kind_of_node() -> None:
    mixed = cluster_of((3, 0), (5, 0))
    assert tried(mixed) == [(8, 1, 1.0), (3, 2, 2.0), (1, 4, 4.0)]
    assert tried(mixed, slots=2) == [(2, 3, 3.0)]
    assert tried(mixed, cpus=2.0) == [(3, 2, 2.0)]
    assert tried(cluster_of((8, 4), (56, 0)), gpus=1.0) == [(4, 2, 2.0)]
    assert tried(cluster_of((2, 0)), slots=4) == [(4, 1, 0.5)]


def test_what_no_node_can_hold_is_refused() -> None:
    with pytest.raises(ConfigError, match="none has 6 CPUs: lower --cpus-per-trial"):
        tried(cluster_of((3, 0), (5, 0)), cpus=6.0)
    with pytest.raises(ConfigError, match="none has 2 GPUs"):
        tried(cluster_of((8, 1), (8, 1)), gpus=2.0)


@pytest.mark.parametrize("address", ["ray://head:10001", "http://head:8265"])
def test_a_client_address_is_pointed_to_submit(address: str) -> None:
    with pytest.raises(ConfigError, match="from outside use `submit --address http://head:8265`"):
        check_address(address)


def test_a_node_answers_what_it_sees(tmp_path: Path) -> None:
    source = make_source(tmp_path / "data")
    (tmp_path / ".probe-t").write_text("t")
    seen = answer_here("a", source, _digest(source), shared={"--storage": tmp_path}, remote=None, token="t")
    assert seen.problems == {} and seen.sees_source and len(list(tmp_path.glob(".probe-t-*"))) == 1
    own = answer_here("a", source, _digest(source), shared={"--storage": tmp_path / "own"}, remote=None, token="t")
    assert "No such file" in own.problems["--storage"]
    (tmp_path / "data" / "splits" / "common.csv").write_text("other")
    assert not answer_here("a", source, _digest(make_source(tmp_path / "b")), shared={}, remote=None, token="t").sees_source


def test_a_time_budget_counts_once() -> None:
    trial = TrialRecord(label="0", number=0, role="search", config={}, params={}, started=101.0, ended=530.0)
    trial.epochs = [{"time": 110.0}, {"time": 130.0}, {"time": 520.0}]
    record = SearchRecord(folder=Path(), settings={}, trials={"0": trial}, sessions=[{"time": 100.0}, {"time": 500.0}])
    assert spent_seconds(record) == 30.0 + 30.0
    assert spent_seconds(SearchRecord(folder=Path(), settings={}, trials={}, sessions=[])) == 0.0
