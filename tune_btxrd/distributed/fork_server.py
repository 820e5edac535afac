"""Fork server: a process that imports what trainings need once, and copies itself for every process that trains.

A process that begins as a copy has torch and timm at once, where importing them takes seconds of a core in each. The server
trains nothing, opens no device and has no threads but those of libraries that expect a fork (OpenBLAS, jemalloc).

Two kinds of request come over an abstract Unix socket, which only this user's processes may talk to: a function to be called
in a copy, and a Ray worker (`launch_worker.py`), which a copy becomes. The server ends with the process that started it.
"""

import gc
import importlib
import os
import pickle
import runpy
import select
import signal
import socket
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

from tune_btxrd.distributed.launch_worker import OOM_SCORE, Place, is_ours

IMPORTED = (  # by every process that trains; Ray is not: it reads its settings from the environment of each worker
    "pandas",
    "pyarrow",
    "tune_btxrd.training.slot",
    "tune_btxrd.training.loop",
    "tune_btxrd.training.checkpoint",
    "tune_btxrd.training.models.fit",
    "tune_btxrd.tasks.registry",
)


def serve(listener: socket.socket, alive: int) -> list[str]:
    """Imports, then begins a copy for each request until the pipe `alive` is closed at its other end.

    Returns:
        In a copy that became a Ray worker: its command line. In the server: nothing.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # copies that ended leave no zombies
    warnings.filterwarnings("ignore", ".*multi-threaded.*fork", DeprecationWarning)  # Python 3.12 on; see above
    for module in IMPORTED:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # what is here is shared by all copies: none should touch it to look for garbage
    both: list[Any] = [listener, alive]
    while alive not in select.select(both, [], [])[0]:
        connection, _ = listener.accept()
        with connection:
            if is_ours(connection) and not os.fork():
                listener.close()
                return _answer(connection)
    return []


def _answer(connection: socket.socket) -> list[str]:
    """In a copy: does what is asked for; one that was called for a function ends here."""
    os.setsid()  # Ray ends a worker with its whole process group
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    content, files, _, _ = socket.recv_fds(connection, 1 << 16, 3)
    while more := connection.recv(1 << 16):
        content += more
    kind, place, task = pickle.loads(content)
    _take_place(files, place)
    if kind == "worker":
        connection.sendall(b"begun")
        return list(task)
    os.nice(5)  # what starts at the same time goes first
    connection.sendall(_result(*task))
    sys.stdout.flush()
    os._exit(0)


def _result(path: list[str], function: bytes, arguments: Any) -> bytes:
    """Whether a function of a module on this path returned, and what; or what it raised."""
    try:
        sys.path[:] = path
        return pickle.dumps((True, pickle.loads(function)(*arguments)))
    except Exception as error:
        error.add_note(traceback.format_exc())  # which pickling leaves behind
        return pickle.dumps((False, error))


def _take_place(files: list[int], place: Place) -> None:
    """Goes where the process is that asked: its files, environment, folder and signals."""
    import numpy as np

    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(place["environment"])
    os.chdir(place["folder"])
    signal.pthread_sigmask(signal.SIG_SETMASK, place["blocked"])
    OOM_SCORE.write_text(place["oom_score"])
    np.random.seed()  # else all copies would draw the same


def main() -> None:
    """The process: a listening socket and a pipe are its arguments."""
    if command := serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])):
        sys.argv = command
        sys.path.insert(0, str(Path(command[0]).parent))
        runpy.run_path(command[0], run_name="__main__")
