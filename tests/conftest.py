"""What holds for all tests: settings that Ray reads once, the order of files in two processes, a small heap."""

import gc
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tune_btxrd.console import NORMAL, set_verbosity
from tune_btxrd.distributed.forks import SUPPORTED, ForkServer
from tune_btxrd.distributed.launch_worker import ADDRESS

os.environ.setdefault("RAY_AUTH_MODE", "token")  # as a local Ray has it by default, with a token of the tests' own
os.environ.setdefault("RAY_AUTH_TOKEN", "c0ffee" * 10)
os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # two test processes with two threads each wait for one another: 28 s for 0.6 s
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 leaves its workers little beside the other test process

settings.register_profile("repeatable", derandomize=True)
settings.register_profile("explore")  # fresh cases: `pytest --hypothesis-profile explore`
settings.load_profile("repeatable")  # one commit's tests give one answer

HERE = Path(__file__).parent
FIRST = (  # the longest; the first needs Ray's default ports, the second takes others
    "distributed/test_dashboard.py",
    "faults/",
    "pipeline/test_main_job.py",
    "golden/",
    "distributed/",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of `tests/fuzz`; without them every harness runs its few cases, the same each time."""
    parser.addoption("--fuzz-seconds", type=float, help="each fuzz harness goes on with fresh cases for so many seconds")
    parser.addoption("--fuzz-seed", type=int, help="each fuzz harness runs this case alone, as its failure named it")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, since `pytest -n 2 --dist loadfile` gives whole files to its processes.

    Slow tests watch processes of Ray that a busy machine may hold up: each gets a second try, and the
    summary says which took it.
    """
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.flaky(reruns=1))

    def rank(item: pytest.Item) -> int:
        place = item.path.relative_to(HERE).as_posix()
        return next((number for number, start in enumerate(FIRST) if place.startswith(start)), len(FIRST))

    items.sort(key=rank)


@pytest.fixture(scope="session")
def fork_server() -> Iterator[None]:
    """One fork server for all searches of this test process, where each would import torch anew."""
    if not SUPPORTED:
        yield
        return
    server = ForkServer()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ADDRESS, server.name)
        yield
    server.close()


@pytest.fixture(autouse=True)
def warm_where_slow(request: pytest.FixtureRequest) -> None:
    """Slow tests train; the others need no copies."""
    if request.node.get_closest_marker("slow"):
        request.getfixturevalue("fork_server")


@pytest.fixture(autouse=True)
def usual_verbosity() -> None:
    """No test hears of a `--quiet` that an earlier one in the same process gave."""
    set_verbosity(NORMAL)


@pytest.fixture(autouse=True, scope="module")
def small_heap() -> Iterator[None]:
    """What earlier files left is not searched for garbage again and again, as each training does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # Ray's loggers of a search that was ended leave files open
        gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
