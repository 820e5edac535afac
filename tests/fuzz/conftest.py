"""The fixture of every fuzz harness; see `tests/support/fuzz.py`."""

import pytest

from tests.support.fuzz import Fuzz


@pytest.fixture
def fuzz(request: pytest.FixtureRequest) -> Fuzz:
    """Cases as the command line wants them."""
    return Fuzz(first=request.config.getoption("--fuzz-seed"), seconds=request.config.getoption("--fuzz-seconds"))
