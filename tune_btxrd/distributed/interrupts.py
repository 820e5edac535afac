"""Ctrl-C and SIGTERM (a spot node's warning, `submit --stop`): the state is saved, and a person is told how to go on."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from tune_btxrd.console import say

GRACE = 8.0  # seconds from SIGTERM to the end of the process, come what may; what was reported is on the disk already
TERMINATED = 128 + signal.SIGTERM

_HURRIES: list[Callable[[], None]] = []  # what should be saved at once, called from the signal's handler


class Terminated(KeyboardInterrupt):  # an event, as its base class
    """The process was asked to end by SIGTERM."""

    exit_code = TERMINATED


@contextmanager
def stoppable(how_to_go_on: Callable[[], str]) -> Iterator[None]:
    """Ends a verb in order: SIGTERM acts as Ctrl-C does, and both end with what to type to go on.

    Raises:
        KeyboardInterrupt: after Ctrl-C; Terminated: after SIGTERM.
    """
    stop = _Stop(how_to_go_on)
    before = signal.signal(signal.SIGTERM, stop.heard) if _in_main_thread() else None
    try:
        yield
    except KeyboardInterrupt:
        stop.tell()
        if stop.timer is not None:
            raise Terminated from None
        raise
    finally:
        if stop.timer is not None:
            stop.timer.cancel()
        if before is not None:
            signal.signal(signal.SIGTERM, before)


@contextmanager
def hurried(save: Callable[[], None]) -> Iterator[None]:
    """While this lasts, SIGTERM calls `save` first; it must return at once."""
    _HURRIES.append(save)
    try:
        yield
    finally:
        _HURRIES.remove(save)


@contextmanager
def own_handler_kept() -> Iterator[None]:
    """Around what puts a handler of its own in place of ours, as `ray.init` does."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if isinstance(getattr(before, "__self__", None), _Stop) and _in_main_thread():
        signal.signal(signal.SIGTERM, before)


class _Stop:
    def __init__(self, how_to_go_on: Callable[[], str]) -> None:
        self.how_to_go_on = how_to_go_on
        self.timer: threading.Timer | None = None

    def heard(self, number: int, frame: FrameType | None) -> None:
        """SIGTERM: everything that Ctrl-C does, within GRACE."""
        if self.timer is None:
            self.timer = threading.Timer(GRACE, self._force)
            self.timer.daemon = True
            self.timer.start()
            for save in _HURRIES:
                save()
        signal.raise_signal(signal.SIGINT)

    def tell(self) -> None:
        say(self.how_to_go_on())

    def _force(self) -> None:
        self.tell()
        sys.stdout.flush()
        os._exit(TERMINATED)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
