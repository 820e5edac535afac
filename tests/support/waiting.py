"""Waiting for what another process tells a little later."""

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")
LIMIT = 90.0  # seconds after which something that never comes is a failure


def until(found: Callable[[], Found]) -> Found:
    """What `found` gives as soon as it is something."""
    end = time.monotonic() + LIMIT
    while not (value := found()):
        assert time.monotonic() < end, f"not seen within {LIMIT:.0f} s"
        time.sleep(0.2)
    return value
