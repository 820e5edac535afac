"""Early ends of a verb (Ctrl-C, SIGTERM, a fault of the surroundings): state saved, the command to go on printed."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from tune_btxrd.console import say
from tune_btxrd.distributed.failures import SurroundingsError

GRACE = 8.0  # seconds from SIGTERM to the end of the process, come what may; what was reported is on the disk already
TERMINATED = 128 + signal.SIGTERM

_SAVES: list[Callable[[], None]] = []  # what should be saved at once, called from the signal's handler
_ADVICE: list[Callable[[], str]] = []  # how to go on with the verbs that run, innermost last


class Terminated(KeyboardInterrupt):  # an event, as its base class
    """The process was asked to end by SIGTERM."""

    exit_code = TERMINATED


@contextmanager
def stoppable(how_to_go_on: Callable[[], str]) -> Iterator[None]:
    """Ends a verb in order: SIGTERM acts as Ctrl-C does, and both end with what to type to go on.

    Raises:
        KeyboardInterrupt: after Ctrl-C; Terminated: after SIGTERM.
        SurroundingsError: with what to type in its line.
    """
    stop = _Stop(how_to_go_on)
    before = signal.signal(signal.SIGTERM, stop.on_sigterm) if _in_main_thread() else None
    _ADVICE.append(how_to_go_on)
    try:
        yield
    except KeyboardInterrupt:
        stop.tell()
        if stop.timer is not None:
            raise Terminated from None
        raise
    except SurroundingsError as error:
        raise SurroundingsError(f"{error} {advice()}") from error
    else:
        if stop.timer is not None:  # a library's callback has eaten the exception
            stop.tell()
            raise Terminated
    finally:
        _ADVICE.remove(how_to_go_on)
        if stop.timer is not None:
            stop.timer.cancel()
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def advice() -> str:
    """What to type to go on with the verb that runs, as the end of a line; empty where none said so."""
    text = _ADVICE[-1]().removeprefix("Interrupted; ") if _ADVICE else ""
    return f"{text[:1].upper()}{text[1:]}"


@contextmanager
def hurried(save: Callable[[], None]) -> Iterator[None]:
    """While this lasts, SIGTERM calls `save` first; it must return at once."""
    _SAVES.append(save)
    try:
        yield
    finally:
        _SAVES.remove(save)


@contextmanager
def own_handler_kept() -> Iterator[None]:
    """Sets our SIGTERM handler again after a block that replaces it, as `ray.init` and `ray.shutdown` do.

    Raises:
        KeyboardInterrupt: a Ctrl-C within the block, also one that was lost there.
    """
    before = signal.getsignal(signal.SIGTERM)
    try:
        with _ctrl_c_kept():
            yield
    finally:
        _set_again(before)


@contextmanager
def _ctrl_c_kept() -> Iterator[None]:
    """Raises a KeyboardInterrupt again where the block ended in order all the same: what is raised while a callback of a
    fork runs (`logging` has one, and Ray forks its processes) is printed and forgotten.
    """
    if not _in_main_thread() or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    seen = []

    def on_sigint(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, on_sigint)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if seen:
        raise KeyboardInterrupt


def _set_again(before: Any) -> None:
    if isinstance(getattr(before, "__self__", None), _Stop) and _in_main_thread():
        signal.signal(signal.SIGTERM, before)


class _Stop:
    def __init__(self, how_to_go_on: Callable[[], str]) -> None:
        self.how_to_go_on = how_to_go_on
        self.timer: threading.Timer | None = None

    def on_sigterm(self, number: int, frame: FrameType | None) -> None:
        """Handles SIGTERM: does what Ctrl-C does, within GRACE."""
        if self.timer is None:
            self.timer = threading.Timer(GRACE, self._force)
            self.timer.daemon = True
            self.timer.start()
            for save in _SAVES:
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
