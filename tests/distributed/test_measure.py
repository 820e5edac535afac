"""Which layouts are tried, what ends the trying, and which one is chosen from what was measured."""

import math

import pytest

from tune_btxrd.distributed.connect import Cluster
from tune_btxrd.distributed.layouts import Option, Sample, choose, layouts, try_all
from tune_btxrd.errors import ConfigError


def cluster_of(cpus: int, gpus: int = 0, nodes: int = 1) -> Cluster:
    """Nodes of one kind."""
    return Cluster(sizes=((cpus / nodes, gpus / nodes),) * nodes, is_local=True, dashboard_url=None)


def tried(
    cluster: Cluster,
    *,
    device: str = "auto",
    slots: int | None = None,
    cpus: float | None = None,
    gpus: float | None = None,
    system: str = "Linux",
) -> list[tuple[int, int, float]]:
    """(slots, threads, GPUs of each) of every option."""
    options = layouts(cluster, device=device, slots=slots, cpus=cpus, gpus=gpus, system=system)
    return [(option.slots, option.threads, option.gpus) for option in options]


def on_cpu(slots: int, threads: int, rate: float) -> tuple[Option, Sample]:
    return Option(slots=slots, threads=threads), Sample(seconds=slots / rate)


def on_gpu(pack: int, rate: float) -> tuple[Option, Sample]:
    return Option(slots=pack, threads=1, gpus=1 / pack), Sample(seconds=pack / rate, memory=0.1)


def test_slots_times_threads_on_cpus() -> None:
    assert tried(cluster_of(2)) == [(2, 1, 0), (1, 2, 0)]
    assert tried(cluster_of(16)) == [(16, 1, 0), (8, 2, 0), (4, 4, 0), (2, 8, 0)]
    assert tried(cluster_of(8, nodes=4)) == [(8, 1, 0), (4, 2, 0)]  # no trial spans two nodes
    assert tried(cluster_of(16), slots=3) == [(3, 5, 0)]
    assert tried(cluster_of(16), cpus=4) == [(4, 4, 0)]


def test_one_trial_has_an_apple_device_for_itself() -> None:
    assert tried(cluster_of(8), system="Darwin") == tried(cluster_of(8), device="mps") == [(1, 8, 0)]
    assert len(tried(cluster_of(8), system="Darwin", device="cpu")) == 4


def test_packs_on_gpus_as_far_as_cpus_go() -> None:
    assert tried(cluster_of(16, gpus=1)) == [(1, 16, 1), (2, 8, 0.5), (4, 4, 0.25), (8, 2, 0.125)]
    assert tried(cluster_of(8, gpus=2)) == [(2, 4, 1), (4, 2, 0.5), (8, 1, 0.25)]
    assert tried(cluster_of(1, gpus=1)) == [(1, 1, 1)]
    assert tried(cluster_of(16, gpus=1), gpus=0.25) == [(4, 4, 0.25)]
    assert tried(cluster_of(16, gpus=2), gpus=2) == [(1, 16, 2)]
    assert tried(cluster_of(16, gpus=1), slots=3) == [(3, 5, 1 / 3)]
    assert tried(cluster_of(2, gpus=1), device="cpu") == [(2, 1, 0), (1, 2, 0)]


def test_an_out_of_memory_ends_the_packing() -> None:
    seen: list[Option] = []

    def sample(option: Option) -> Sample:
        seen.append(option)
        return Sample(seconds=1.0 if option.slots < 4 else math.inf, memory=0.2, device="cuda")

    options = layouts(cluster_of(16, gpus=1), device="cuda", slots=None, cpus=None, gpus=None)
    measured, lines = try_all(options, sample)
    assert [option.slots for option, _ in measured] == [1, 2] and [option.slots for option in seen] == [1, 2, 4]
    assert lines == (
        "1 x 1 GPU: 60.0 epochs/min, 20 % of a GPU's memory each",
        "2 x 1/2 GPU: 120.0 epochs/min, 20 % of a GPU's memory each",
        "4 x 1/4 GPU: out of memory",
    )
    assert choose(measured)[0].slots == 2


def test_a_gpu_that_would_be_nearly_full_is_not_packed_so_far() -> None:
    options = layouts(cluster_of(16, gpus=1), device="cuda", slots=None, cpus=None, gpus=None)
    measured, lines = try_all(options, lambda option: Sample(seconds=1.0, memory=0.24))
    assert [option.slots for option, _ in measured] == [1, 2] and lines[-1] == "4 x 1/4 GPU: out of memory"  # 96 %


def test_on_cpus_every_layout_is_measured() -> None:
    options = layouts(cluster_of(2), device="cpu", slots=None, cpus=None, gpus=None)
    measured, lines = try_all(options, lambda option: Sample(seconds=2.0))
    assert lines == ("2 x 1 thread(s): 60.0 epochs/min", "1 x 2 thread(s): 30.0 epochs/min") and len(measured) == 2


def test_a_gpu_that_cannot_hold_one_trial_is_named() -> None:
    with pytest.raises(ConfigError, match="must hold one trial, but it ran out of memory: use a smaller --batch-size"):
        try_all([Option(slots=1, threads=1, gpus=1.0)], lambda option: Sample(seconds=math.inf))
    with pytest.raises(ConfigError, match="or leave image_size: 512 out of the search space"):
        try_all([Option(slots=1, threads=1, gpus=1.0)], lambda option: Sample(seconds=math.inf), largest=512)


def test_more_slots_win_on_cpus_where_the_rates_are_close() -> None:
    one, two = on_cpu(1, 2, 0.36), on_cpu(2, 1, 0.32)
    assert choose([two, one]) == two  # 0.32 >= 0.85 * 0.36


def test_a_clearly_faster_layout_wins() -> None:
    one, two = on_cpu(1, 2, 0.50), on_cpu(2, 1, 0.32)
    assert choose([two, one]) == one


def test_fewer_trials_win_on_a_gpu_where_the_rates_are_close() -> None:
    alone, two, four = on_gpu(1, 1.0), on_gpu(2, 1.5), on_gpu(4, 1.55)
    assert choose([alone, two, four]) == two  # 1.5 >= 0.95 * 1.55
