"""Attributes of a library, otherwise for a block: the way where Ray has no setting for what it does."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def replaced(owner: Any, **values: Any) -> Iterator[None]:
    """Sets attributes of a module or class, and what they were again at the end."""
    known = {name: getattr(owner, name) for name in values}
    for name, value in values.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name, value in known.items():
            setattr(owner, name, value)
