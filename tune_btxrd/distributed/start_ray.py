"""Start of Ray: on loopback alone where it runs here, errors in one line, a watch over its processes."""

import functools
import importlib
import logging
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from tune_btxrd.console import is_verbose, tell, warn
from tune_btxrd.distributed.failures import SurroundingsError
from tune_btxrd.distributed.forks import LAUNCHER, server_name
from tune_btxrd.distributed.interrupts import advice
from tune_btxrd.distributed.launch_worker import ADDRESS
from tune_btxrd.distributed.names import ascii_name
from tune_btxrd.distributed.replaced import replaced
from tune_btxrd.errors import ConfigError
from tune_btxrd.training.memory import ENVIRONMENT

WORKER_ENV = {
    # a stopped function must be gone before its slot's next trial; the default 2 s end in an error or a hang
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "600",
    **ENVIRONMENT,
}
LONGEST_SOCKET = 103  # bytes of a socket's path: 107 on Linux, 103 on macOS
SESSION = "ray/session_2026-01-31_23-59-59_123456_4194304/sockets/plasma_store"  # below the temporary folder
SHORT = "/tmp"  # where sockets go if TMPDIR is too long for them
NEEDED = ("raylet", "gcs_server")  # Ray's processes that a search cannot do without
DASHBOARD = "dashboard"  # and the one that it can
FIRST_PORT, PORTS = 8265, 50  # of the dashboard: as Ray chooses it
WATCH_SECONDS = 1.0
GRACE = 30.0  # seconds that a driver gets to end in order once Ray has died under it
CURES = (  # (found in the error's text, what helps)
    ("AF_UNIX", "The temporary folder's path is too long for Ray's sockets: set RAY_TMPDIR=/tmp."),
    ("No space left", "Free space in Ray's temporary folder (RAY_TMPDIR, else TMPDIR, else /tmp)."),
    ("Read-only file system|Permission denied|Not a directory", "Set RAY_TMPDIR to a short folder that can be written."),
    ("Too many open files", "Raise the limit of open files (`ulimit -n 65536`)."),
    ("thread|Resource temporarily unavailable", "Raise the limit of processes (`ulimit -u`)."),
    ("object store|shm|plasma", "Ray's object store needs room in /dev/shm (containers: --shm-size=2g)."),
    ("[Tt]oken|[Aa]uth", "Check RAY_AUTH_MODE, RAY_AUTH_TOKEN and ~/.ray/auth_token."),
    ("dashboard", "Look into dashboard.log below /tmp/ray/session_latest/logs."),
    ("timed out|[Tt]imeout|failed to start|raylet|GCS|gcs", "The machine may be short of memory or processors: look into "
     "/tmp/ray/session_latest/logs, and start again."),
)  # fmt: skip


def start(*, address: str | None, name: str) -> None:
    """Starts Ray here (address None) or joins a cluster.

    Raises:
        ConfigError: in one line, with what helps.
    """
    import ray

    try:
        with ExitStack() as only_here:
            if address is None:
                only_here.enter_context(_short_temporary_folder())
                only_here.enter_context(_loopback_alone())
                only_here.enter_context(_forked_workers())
                only_here.enter_context(_dashboard_not_awaited())
            ray.init(
                address=address if address is not None else "local",
                include_dashboard=True if address is None else None,
                runtime_env={"env_vars": WORKER_ENV},
                job_config=ray.job_config.JobConfig(metadata={"job_name": ascii_name(name), "tune_btxrd_search": name}),
                logging_level=logging.INFO if is_verbose() else logging.ERROR,
                log_to_driver=is_verbose(),
            )
        if address is None:
            _guard_token()
    except Exception as error:  # Ray raises anything here, from OSError to a bare Exception
        ray.shutdown()
        reason = re.sub(r"\s+", " ", str(error) or type(error).__name__).strip()[:160].rstrip(".")
        if address is not None:
            raise ConfigError(
                f"A Ray cluster must be running at --address {address}, but: {reason}. Leave --address out to run here."
            ) from error
        cure = next((cure for words, cure in CURES if re.search(words, str(error))), "`-v` shows Ray's log.")
        raise ConfigError(f"Ray must start on this machine, but: {reason}. {cure}") from error


@contextmanager
def _loopback_alone() -> Iterator[None]:
    """Gives a Ray that is started here the address 127.0.0.1 and its agent a free port; `ray.init` takes neither.

    The agent's fixed port may be another Ray's on this machine; rows of the dashboard would then show that one's logs.
    """
    from ray._private import parameter, ray_constants

    params = functools.partial(parameter.RayParams, dashboard_agent_listen_port=None)
    with replaced(ray_constants, ENABLE_RAY_CLUSTER=False), replaced(parameter, RayParams=params):
        yield


@contextmanager
def _dashboard_not_awaited() -> Iterator[None]:
    """Lets `ray.init` go on while the dashboard starts: on a port that is free its address is known before it answers."""
    from ray._private import services
    from ray.experimental import internal_kv

    if (port := _free_port()) is None:
        yield
        return
    known, address = services.start_api_server, f"127.0.0.1:{port}".encode()

    def start(*arguments: Any, **named: Any) -> Any:
        with replaced(internal_kv, _internal_kv_get=lambda *key, **place: address):  # what Ray would poll for
            return known(*arguments, **{**named, "port": port})

    with replaced(services, start_api_server=start):
        yield


_RESERVED: list[socket.socket] = []  # names the dashboard's port to other searches that begin before it is bound


def _free_port() -> int | None:
    """The first port from 8265 on that nobody listens on, and that no other search is about to; None: Ray must look."""
    _release_port()
    for port in range(FIRST_PORT, FIRST_PORT + PORTS):
        with suppress(OSError), socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(("127.0.0.1", port))
            if sys.platform == "linux":
                _RESERVED.append(socket.socket(socket.AF_UNIX))
                _RESERVED[-1].bind(f"\0tune-btxrd-dashboard-{port}")
            return port
    return None


def _release_port() -> None:
    """Lets others have the dashboard's port, as far as this process held it for one."""
    while _RESERVED:
        _RESERVED.pop().close()


@contextmanager
def _forked_workers() -> Iterator[None]:
    """Lets the raylet that is started here begin its workers as copies of the fork server, where there is one."""
    from ray._private import parameter

    if (name := server_name()) is None:
        yield
        return
    is_own, params = ADDRESS not in os.environ, functools.partial(parameter.RayParams, setup_worker_path=str(LAUNCHER))
    os.environ[ADDRESS] = name
    try:
        with replaced(parameter, RayParams=params):
            yield
    finally:
        if is_own:
            del os.environ[ADDRESS]


def _guard_token() -> None:
    """Makes the token file, which Ray writes for everyone to read, its owner's alone."""
    path = Path.home() / ".ray" / "auth_token"
    if path.is_file() and path.stat().st_uid == os.getuid():
        path.chmod(0o600)


@contextmanager
def _short_temporary_folder() -> Iterator[None]:
    """Starts Ray's processes with another TMPDIR where ours (as Slurm and macOS set it) is too long for their sockets."""
    base = os.environ.get("TMPDIR", "")
    if "RAY_TMPDIR" in os.environ or len(os.fsencode(f"{base}/{SESSION}")) <= LONGEST_SOCKET:
        yield
        return
    tell(f"Ray's sockets go to {SHORT}/ray: TMPDIR ({base}) is too long for them.")
    os.environ["TMPDIR"] = SHORT
    try:
        yield
    finally:
        os.environ["TMPDIR"] = base


@contextmanager
def watched() -> Iterator[None]:
    """Watches the Ray that was started here: without its raylet the driver would wait for ever.

    Raises:
        SurroundingsError: one of its processes ended.
    """
    watch = _Watch()
    try:
        yield
    except (KeyboardInterrupt, Exception) as error:
        if watch.ended is None:
            raise
        raise SurroundingsError(watch.line) from error
    finally:
        watch.close()
        _release_port()


def _children(node: Any) -> list[Any]:
    """The processes that the raylet of a Ray node started here has started itself, by psutil, which Ray brings along."""
    psutil, found = importlib.import_module("psutil"), list[Any]()
    for raylet in node.all_processes.get("raylet", ()):
        with suppress(psutil.Error):  # it has died already
            found += psutil.Process(raylet.process.pid).children()
    return found


class _Watch:
    """A thread that interrupts the main thread when one of Ray's processes has ended."""

    def __init__(self) -> None:
        import ray

        self._node: Any = ray._private.worker._global_node
        self._agents = _children(self._node)
        self.ended: str | None = None
        self._closing = threading.Event()
        self._timer: threading.Timer | None = None
        threading.Thread(target=self._run, daemon=True, name="ray-watch").start()

    @property
    def line(self) -> str:
        return f"Ray must keep running, but its {self.ended} ended (most often the system was out of memory)."

    def close(self) -> None:
        self._closing.set()
        if self._timer is not None:
            self._timer.cancel()
        if self.ended:
            self._end_agents()

    def _end_agents(self) -> None:
        """Ends what the raylet started: without it, its agents would go on for some 20 seconds."""
        for agent in self._agents:
            with suppress(Exception):  # gone already
                agent.kill()  # which makes sure that the number is still this process's

    def _run(self) -> None:
        is_seen = True
        while not self._closing.wait(WATCH_SECONDS):
            dead = [kind for kind, _ in self._node.dead_processes()]
            if is_seen and DASHBOARD in dead:
                warn(
                    "Ray's dashboard ended, and the trials go on without it: dashboard.log in /tmp/ray/session_latest/logs."
                )
                is_seen = False
            self.ended = next((kind for kind in dead if kind in NEEDED), None)
            if self.ended:
                self._timer = threading.Timer(GRACE, self._force)
                self._timer.daemon = True
                self._timer.start()
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                return

    def _force(self) -> None:
        self._end_agents()
        sys.stderr.write(f"tune-btxrd: {self.line} {advice() or 'Everything reported is saved: --resume goes on.'}\n")
        sys.stderr.flush()
        os._exit(SurroundingsError.exit_code)
