"""The fixture of every fuzz harness; see `tests/support/fuzz.py`."""

from collections.abc import Iterator

import pytest

from tests.support.fuzz import Fuzz


@pytest.fixture
def fuzz(request: pytest.FixtureRequest) -> Iterator[Fuzz]:
    """Cases as the command line wants them; pytest shows the last one where the test fails."""
    cases = Fuzz(first=request.config.getoption("--fuzz-seed"), seconds=request.config.getoption("--fuzz-seconds"))
    yield cases
    print(f"the last case: --fuzz-seed {cases.last}")
