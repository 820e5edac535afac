"""Forks: copies of a process that has torch already, for whatever trains (Linux; elsewhere each process imports it anew)."""

import multiprocessing
import os
import pickle
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from tune_btxrd.distributed.launch_worker import ADDRESS, ask
from tune_btxrd.training.memory import ENVIRONMENT

Result = TypeVar("Result")
ROOT = str(Path(__file__).parents[2])  # of the package: nothing in the folder of the moment is imported in its stead
PROGRAM = f"import sys\nif {ROOT!r} not in sys.path: sys.path.insert(0, {ROOT!r})\n"
PROGRAM += "from tune_btxrd.distributed.fork_server import main\nmain()"
SUPPORTED = sys.platform == "linux"  # elsewhere libraries that a training needs do not survive a fork
LAUNCHER = Path(__file__).with_name("launch_worker.py")


class ForkServer:
    """A running fork server: imports at once, answers as soon as it has."""

    def __init__(self) -> None:
        self.name = f"tune-btxrd-{uuid.uuid4().hex}"
        theirs, self._ours = os.pipe()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"\0{self.name}")
            listener.listen(128)
            files = [listener.fileno(), theirs]
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", PROGRAM, *map(str, files)],
                pass_fds=files,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # copies have their callers' files
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, **ENVIRONMENT},
            )
        os.close(theirs)

    def close(self) -> None:
        """Ends it; copies that run go on."""
        self._process.kill()
        self._process.wait()
        os.close(self._ours)


_INSIDE: list[None] = []  # one per `warm` that is entered
_RUNNING: list[ForkServer] = []  # one at most, of the outermost of them
_BACKGROUND: list[Future[object]] = []


@contextmanager
def warm() -> Iterator[None]:
    """Within it, copies are at hand; their imports begin at once. Where there is a server already, it serves."""
    own = [ForkServer()] if SUPPORTED and not server_name() else []
    _RUNNING.extend(own)
    _INSIDE.append(None)
    try:
        yield
        settle()
    finally:
        _INSIDE.pop()
        if not _INSIDE:
            _BACKGROUND.clear()  # of a verb that failed
        for server in own:
            _RUNNING.remove(server)
            server.close()


def in_background(function: Callable[..., object], *arguments: object) -> None:
    """As `in_fork`, but within `warm` the caller goes on; what it raises comes with `settle`, or with the end of `warm`."""
    if not _INSIDE:
        in_fork(function, *arguments)
        return
    thread = ThreadPoolExecutor(1)
    _BACKGROUND.append(thread.submit(in_fork, function, *arguments))
    thread.shutdown(wait=False)  # it ends with its one task


def settle() -> None:
    """Waits for what goes on in the background. Raises: what it raised."""
    while _BACKGROUND:
        _BACKGROUND.pop(0).result()


def server_name() -> str | None:
    """Name of the socket of the server at hand: of this process, or of one that it comes from; None without one."""
    return _RUNNING[0].name if _RUNNING else os.environ.get(ADDRESS)


def in_fork(function: Callable[..., Result], *arguments: object) -> Result:
    """What a function of some module returns when it is called in a process of its own, which keeps torch out of this one.

    Raises: what the function raises.
    """
    answer = b""
    if name := server_name():
        with suppress(OSError):  # the server has died
            answer = ask(name, "call", (sys.path, pickle.dumps(function), arguments))
    if answer:
        worked, result = pickle.loads(answer)
        if worked:
            return result  # type: ignore[no-any-return]  # pickle knows no types
        raise result
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()
