"""Serve: the page on loopback, from the printed address to Ctrl-C."""

import asyncio
import errno
import secrets
import socket
from collections.abc import Callable

from aiohttp import web

from tune_btxrd.console import say, warn
from tune_btxrd.errors import ConfigError
from tune_btxrd.labels.page.app import make_app
from tune_btxrd.labels.page.guard import make_token
from tune_btxrd.labels.page.sitting import Sitting

HOST = "127.0.0.1"
PORT = 8620  # the first that is tried: the same after a restart, so that an open page finds its server again
TRIED = 20
SHUTDOWN_SECONDS = 2.0


def serve(sitting: Sitting, *, port: int | None = None, ready: Callable[[str], None] = say) -> None:
    """Serves a sitting until it is interrupted.

    Args:
        port: None: the first free one from PORT on; 0: any free one.
        ready: hears the address when the page can be opened.

    Raises:
        ConfigError: the port is taken or not allowed.
        KeyboardInterrupt: after Ctrl-C, when all leases are given back.
    """
    with listen(port) as place:
        asyncio.run(_serve(sitting, place, ready))


def listen(port: int | None) -> socket.socket:
    """A socket that listens on loopback alone. Raises: ConfigError."""
    wanted = [port] if port is not None else list(range(PORT, PORT + TRIED))
    if port is not None and not 0 <= port <= 65_535:
        raise ConfigError(f"`0 <= port <= 65535` must hold, but got {port}.")
    for number in wanted:
        try:
            return socket.create_server((HOST, number))
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            reason = "taken" if error.errno == errno.EADDRINUSE else "not allowed to you"
    which = f"{wanted[0]} to {wanted[-1]} are" if port is None else f"{port} is"
    raise ConfigError(f"The page needs a free port, but {which} {reason}: give another one with --port, or end who has it.")


async def _serve(sitting: Sitting, place: socket.socket, ready: Callable[[str], None]) -> None:
    token = token_of(sitting)
    runner = web.AppRunner(make_app(sitting, token), access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        await web.SockSite(runner, place).start()
        ready(f"http://{HOST}:{place.getsockname()[1]}/?token={token}")
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def token_of(sitting: Sitting) -> str:
    """The token of a sitting, the same after a restart; a new one each time, said, where no secret can be kept."""
    try:
        return make_token(str(sitting.store.path), sitting.annotator, sitting.mode)
    except OSError as error:
        warn(f"No secret can be kept ({error.strerror}: {error.filename}): after a restart the page needs its new address.")
        return secrets.token_hex(16)
