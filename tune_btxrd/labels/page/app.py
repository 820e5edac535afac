"""App: the page's addresses: the page itself, images by number, what comes next, answers and undos."""

import asyncio
import dataclasses
import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

from aiohttp import web
from aiohttp.typedefs import Handler
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tune_btxrd.data.cache.decode import UnreadableError
from tune_btxrd.errors import TuneBtxrdError, first_line
from tune_btxrd.labels.page.answers import RefusedError
from tune_btxrd.labels.page.guard import guard
from tune_btxrd.labels.page.pictures import Pictures
from tune_btxrd.labels.page.sitting import Sitting, shown_name
from tune_btxrd.labels.records import StoredImage

P = ParamSpec("P")
R = TypeVar("R")
HERE = Path(__file__).parent
STATIC = {"page.css": "text/css"} | dict.fromkeys(("page.js", "outbox.js", "panel.js", "view.js"), "text/javascript")
MOST_BYTES = 64 * 1024  # of an answer
MOST_NUMBERS = 256  # in a list of images


class Page:
    """The handlers of one sitting. What touches the store runs in one thread, in the order in which it came."""

    def __init__(self, sitting: Sitting) -> None:
        self.sitting = sitting
        self.pictures = Pictures()
        self._store = ThreadPoolExecutor(1, thread_name_prefix="label-store")
        environment = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined)
        self._template = environment.get_template("page.html")

    async def html(self, request: web.Request) -> web.Response:
        """The page."""
        setup = await self._call(self.sitting.setup)
        text = self._template.render(setup=setup, words=dataclasses.asdict(setup))
        return web.Response(text=text, content_type="text/html")

    async def static(self, request: web.Request) -> web.Response:
        """Its style and scripts: four names, no path."""
        name = request.match_info["name"]
        if name not in STATIC:
            return _told(404, "There is no such file.")
        return web.Response(text=(HERE / name).read_text(encoding="utf-8"), content_type=STATIC[name])

    async def next_items(self, request: web.Request) -> web.Response:
        """Images to show next; those that are still missing at the browser are decoded meanwhile."""
        try:
            count, have = int(request.query.get("count", "1")), _numbers(request.query.get("have", ""))
        except ValueError:
            raise RefusedError("count is a number and have a list of numbers.") from None
        batch = await self._call(self.sitting.next_items, count, have)
        images = [await self._call(self.sitting.image, item.image) for item in batch.items]
        self.pictures.prepare([self._source(image) for image in images])
        return _json(dataclasses.asdict(batch))

    async def events(self, request: web.Request) -> web.Response:
        """An answer or an undo; what is acknowledged is on the disk."""
        operation = await _object(request)
        if operation.get("op") == "undo":
            item, progress = await self._call(self.sitting.undo, operation)
            return _json({"item": item and dataclasses.asdict(item), "progress": dataclasses.asdict(progress)})
        if operation.get("op") != "answer":
            raise RefusedError("An operation is answer or undo.")
        return _json({"progress": dataclasses.asdict(await self._call(self.sitting.answer, operation))})

    async def others(self, request: web.Request) -> web.Response:
        """The other images of a group."""
        items = await self._call(self.sitting.others, int(request.match_info["number"]))
        return _json({"items": [dataclasses.asdict(item) for item in items]})

    async def opinion(self, request: web.Request) -> web.Response:
        """What the model says of an image."""
        return _json({"opinion": await self._call(self.sitting.opinion, int(request.match_info["number"]))})

    async def release(self, request: web.Request) -> web.Response:
        """The browser has left."""
        await self._call(self.sitting.release)
        return _json({})

    async def image(self, request: web.Request) -> web.Response:
        """A picture as PNG, by the image's number alone."""
        image = await self._call(self.sitting.image, int(request.match_info["number"]))
        path = self.sitting.store.file(image)
        is_there = await asyncio.to_thread(path.is_file)
        if is_there == image.missing:
            await self._call(self.sitting.store.set_missing, image.number, missing=not is_there)
        if not is_there:
            return _told(404, f"{shown_name(image.path)} is not where it was: put it back, or add its folder again.")
        try:
            content = await self.pictures.get(*self._source(image))
        except UnreadableError as error:
            return _told(422, f"{shown_name(image.path)} {error.reason}.")
        return web.Response(body=content, content_type="image/png")

    async def close(self, app: web.Application) -> None:
        """Gives back what the annotator was given, and ends the threads."""
        try:
            await self._call(self.sitting.release)
        finally:
            self.pictures.close()
            self._store.shutdown()

    def _source(self, image: StoredImage) -> tuple[int, Path, str]:
        return image.number, self.sitting.store.file(image), image.sha256

    async def _call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Runs what touches the store."""
        return await asyncio.get_running_loop().run_in_executor(self._store, partial(function, *args, **kwargs))


@web.middleware
async def told(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Mistakes as one line of JSON: 503 where the store's file is the trouble, 400 for what is wrong itself."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _told(error.status, first_line(error.text or error.reason))
    except TuneBtxrdError as error:
        return _told(503 if isinstance(error.__cause__, sqlite3.Error) else 400, str(error))


def make_app(sitting: Sitting, token: str) -> web.Application:
    """The page of a sitting as an aiohttp application."""
    page = Page(sitting)
    app = web.Application(middlewares=[guard(token), told], client_max_size=MOST_BYTES)
    app.router.add_get("/", page.html)
    app.router.add_get("/static/{name}", page.static)
    app.router.add_get("/api/next", page.next_items)
    app.router.add_post("/api/events", page.events)
    app.router.add_post("/api/release", page.release)
    number = r"{number:[1-9]\d{0,17}}"
    app.router.add_get(f"/api/others/{number}", page.others)
    app.router.add_get(f"/api/opinion/{number}", page.opinion)
    app.router.add_get(f"/image/{number}", page.image)
    app.on_cleanup.append(page.close)
    return app


def _json(content: Mapping[str, object], status: int = 200) -> web.Response:
    return web.json_response(content, status=status, dumps=partial(json.dumps, allow_nan=False))


def _told(status: int, text: str) -> web.Response:
    return _json({"error": text}, status)


def _numbers(text: str) -> Sequence[int]:
    """`1,2,3`. Raises: ValueError."""
    return [int(part) for part in text.split(",") if part][:MOST_NUMBERS]


async def _object(request: web.Request) -> Mapping[str, object]:
    """The JSON object of a request. Raises: RefusedError."""
    if request.content_type != "application/json":  # a form of another page cannot send this
        raise RefusedError("An answer is sent as application/json.")
    try:
        content = json.loads(await request.text())
    except (ValueError, RecursionError):
        raise RefusedError("An answer is a JSON object.") from None
    if not isinstance(content, dict):
        raise RefusedError("An answer is a JSON object.")
    return content
