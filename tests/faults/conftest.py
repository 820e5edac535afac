"""One simulated cluster for the tests of this folder: a head without CPUs, and nodes that tests may kill; a Ray for jobs."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.kill import Arena
from tests.support.s3_server import s3_bucket


@pytest.fixture(scope="package")
def storage() -> Iterator[str]:
    """A folder on a local S3 server, started before the nodes, which inherit its address and keys."""
    with s3_bucket() as uri:
        yield uri


@pytest.fixture(scope="package")
def arena(storage: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    """Two nodes of two CPUs with a cache folder of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("node_cache")))
        made = Arena()
    yield made
    made.close()


@pytest.fixture(scope="package")
def head() -> Iterator[Arena]:
    """A Ray of one node with a dashboard: simulated nodes unpack a job's code into one folder, over each other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")  # jobs call `python`
        made = Arena(nodes=0, head_cpus=2, dashboard=True)
    yield made
    made.close()
