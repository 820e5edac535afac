"""What a raylet runs in place of Ray's own launcher: asks the fork server for the worker and ends.

Without a server, or for a worker of another kind (a container, another Python), Ray's own launcher goes on instead.
"""

import json
import os
import pickle
import runpy
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import TypedDict

ADDRESS = "TUNE_BTXRD_FORK_SERVER"  # name of its socket
CONTEXT, LANGUAGE = "--serialized-runtime-env-context=", "--language="
STOCK = "ray._private.workers.setup_worker"
OOM_SCORE = Path("/proc/self/oom_score_adj")  # the raylet sets it, so that memory is taken from workers first
PEER = struct.Struct("3i")  # pid, uid and gid of who is at the other end, as Linux gives them


class Place(TypedDict):
    """Where a process is: what a copy takes over from the process that asked for it."""

    environment: dict[str, str]
    folder: str
    blocked: list[int]  # signals
    oom_score: str


def main() -> None:
    """Hands the worker over, or begins it as Ray does."""
    if not _is_handed_over(sys.argv[1:]):
        runpy.run_module(STOCK, run_name="__main__")


def _is_handed_over(words: list[str]) -> bool:
    """Whether the fork server has begun this worker."""
    name = os.environ.get(ADDRESS)
    context = json.loads(next((word.removeprefix(CONTEXT) for word in words if word.startswith(CONTEXT)), "") or "{}")
    is_plain = not context.get("command_prefix") and not context.get("override_worker_entrypoint")
    is_this_python = context.get("py_executable") in (None, "", sys.executable)
    if name is None or not is_plain or not is_this_python or f"{LANGUAGE}PYTHON" not in words:
        return False
    own = [word for word in words if not word.startswith((CONTEXT, LANGUAGE))]
    try:
        return bool(ask(name, "worker", own, **context.get("env_vars", {})))
    except OSError:
        return False


def ask(name: str, kind: str, task: object, **environment: str) -> bytes:
    """What a copy answers that takes this process's place, b"" where it died.

    Args:
        environment: variables that it has beside those of this process.

    Raises:
        OSError: no server of this user is there.
    """
    place: Place = {
        "environment": {**os.environ, **environment},
        "folder": str(Path.cwd()),
        "blocked": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
        "oom_score": OOM_SCORE.read_text(),
    }
    request = pickle.dumps((kind, place, task))
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(f"\0{name}")
        if not is_ours(server):
            raise ConnectionRefusedError(f"{name} is another user's")
        sent = socket.send_fds(server, [request], (0, 1, 2))
        server.sendall(request[sent:])
        server.shutdown(socket.SHUT_WR)
        answer = b""
        while more := server.recv(1 << 16):
            answer += more
        return answer


def is_ours(connection: socket.socket) -> bool:
    """Whether a process of this user is at the other end."""
    peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size)
    return bool(PEER.unpack(peer)[1] == os.getuid())


if __name__ == "__main__":
    main()
