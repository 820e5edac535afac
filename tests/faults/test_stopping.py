"""SIGTERM and Ctrl-C without Ray: what is said, exit codes, and an end that comes even if nobody lets go."""

import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from tests.support.paths import ROOT
from tune_btxrd.distributed.interrupts import own_handler_kept

SCRIPT = """
import sys, time, signal
from tune_btxrd.distributed import interrupts as stopping
stopping.GRACE = 0.5
try:
    with stopping.stoppable(lambda: "Go on with: this"), stopping.hurried(lambda: print("hurried", flush=True)):
        {body}
except KeyboardInterrupt as interrupt:
    sys.exit(getattr(interrupt, "exit_code", 130))
"""
NATIVE = (  # ray.shutdown() puts the default handler back, and Python does not know
    "import ctypes; kept = stopping.own_handler_kept(); kept.__enter__(); "
    "ctypes.CDLL(None).signal(15, None); kept.__exit__(None, None, None); "
)
WAIT = 'print("ready", flush=True); time.sleep(60)'
DEAF = 'signal.signal(signal.SIGINT, signal.SIG_IGN); print("ready", flush=True); time.sleep(60)'
EATEN = 'with __import__("contextlib").suppress(BaseException): ' + WAIT  # as a callback of a C library does
RAY_LIKE = (
    "kept = stopping.own_handler_kept(); kept.__enter__(); "
    "signal.signal(signal.SIGTERM, lambda *_: sys.exit(15)); kept.__exit__(None, None, None); " + WAIT
)


def stop(body: str, number: int) -> tuple[int, list[str]]:
    """Exit code and lines of a process that was sent a signal when ready."""
    command = [sys.executable, "-c", SCRIPT.format(body=body)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(number)
        shown, _ = process.communicate(timeout=30)
    return process.returncode, shown.splitlines()


@pytest.mark.parametrize(
    ("body", "number", "code", "shown"),
    [
        (WAIT, signal.SIGINT, 130, ["Go on with: this"]),
        (WAIT, signal.SIGTERM, 143, ["hurried", "Go on with: this"]),
        (RAY_LIKE, signal.SIGTERM, 143, ["hurried", "Go on with: this"]),  # ray.init puts a handler of its own there
        (NATIVE + WAIT, signal.SIGTERM, 143, ["hurried", "Go on with: this"]),
        (EATEN, signal.SIGTERM, 143, ["hurried", "Go on with: this"]),  # an exporter ate it, and `run` went on to its end
        (DEAF, signal.SIGTERM, 143, ["hurried", "Go on with: this"]),  # the end comes all the same
    ],
    ids=["ctrl-c", "sigterm", "after ray.init", "after ray.shutdown", "eaten", "deaf"],
)
def test_a_signal_ends_a_verb_in_order(body: str, number: int, code: int, shown: list[str]) -> None:
    assert stop(body, number) == (code, shown)


def test_a_fault_of_the_surroundings_ends_with_the_command_to_go_on() -> None:
    from tune_btxrd.distributed.failures import SurroundingsError
    from tune_btxrd.distributed.interrupts import advice, stoppable

    with pytest.raises(SurroundingsError) as told, stoppable(lambda: "Interrupted; all is saved. Go on with: this"):
        assert advice() == "All is saved. Go on with: this"  # what a driver says that can only be ended by force
        raise SurroundingsError("The disk must have room.")
    assert str(told.value) == "The disk must have room. All is saved. Go on with: this" and not advice()


def test_a_ctrl_c_that_a_library_loses_ends_the_block_all_the_same() -> None:
    reached, before = [], signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), own_handler_kept():
            with suppress(KeyboardInterrupt):  # as Python does for callbacks of a fork
                signal.raise_signal(signal.SIGINT)
            reached.append("its end")
        assert reached
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
