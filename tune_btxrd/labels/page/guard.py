"""Guard: who may talk to the page: this computer alone, with the token of its address, from a page of our own."""

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from platformdirs import user_state_path

OWN_NAMES = {"127.0.0.1", "localhost", "::1"}  # by any port: an SSH tunnel has another one
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",  # no image of a patient in the browser's cache
    "Server": "tune_btxrd",
}
FORBIDDEN = "403: open the address that `tune-btxrd label` printed; it ends in a token."


def make_token(*words: str) -> str:
    """The token of a sitting: the same after a restart, so that an open page goes on, and unknown to other users.

    Raises:
        OSError: the user's state folder cannot be written to.
    """
    return hmac.new(_key(user_state_path("tune_btxrd") / "page_key"), "\0".join(words).encode(), hashlib.sha256).hexdigest()[
        :32
    ]


def _key(path: Path) -> bytes:
    """This user's secret key, made once, readable by nobody else."""
    if not path.is_file() or path.stat().st_size < 32:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(32))
        try:
            os.link(part, path)  # the first of two processes wins
        except FileExistsError:
            if path.stat().st_size < 32:
                part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    return path.read_bytes()


def guard(token: str) -> Middleware:
    """Middleware: refuses what does not come from this computer with the token, and sets the headers of all answers."""
    cookie = f"label_{hashlib.sha256(token.encode()).hexdigest()[:8]}"  # cookies know no port: one name per sitting

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        if (answer := _refusal(request, token, cookie)) is None:
            answer = await handler(request)
        answer.headers.update(HEADERS)
        return answer

    return guarded


def _refusal(request: web.Request, token: str, cookie: str) -> web.StreamResponse | None:
    """What is answered instead of what was asked for; None where all is right."""
    if _name(request.host) not in OWN_NAMES:  # another name for this address: DNS rebinding
        return web.Response(status=403, text="403: the page answers to 127.0.0.1 and localhost only.")
    origin = request.headers.get("Origin")
    if request.method not in ("GET", "HEAD") and origin is not None and urlsplit(origin).netloc != request.host:
        return web.Response(status=403, text="403: another page may not send answers.")
    if "token" in request.query:
        if request.path != "/" or not _same(request.query["token"], token):
            return web.Response(status=403, text=FORBIDDEN)
        answer = web.Response(status=303, headers={"Location": "./"})  # the token leaves the address and the history
        answer.set_cookie(cookie, token, httponly=True, samesite="Lax", path="/")  # Strict: lost where a link is clicked
        return answer
    if not _same(request.cookies.get(cookie, ""), token) and not _same(request.headers.get("X-Token", ""), token):
        return web.Response(status=403, text=FORBIDDEN)
    return None


def _same(given: str, token: str) -> bool:
    """Compared in constant time."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.encode())


def _name(host: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
