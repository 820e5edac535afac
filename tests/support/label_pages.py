"""Label stores with a few drawn images, and their page as a browser's requests reach it."""

import asyncio
import itertools
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer
from PIL import Image

from tune_btxrd.files import file_sha256
from tune_btxrd.labels.page.app import make_app
from tune_btxrd.labels.page.sitting import Sitting
from tune_btxrd.labels.records import Mode, NewImage
from tune_btxrd.labels.store import LabelStore

TOKEN = "0123456789abcdef0123456789abcdef"
LABELS = ("effusion", "cardiomegaly")
_IDS = itertools.count(1)


def draw(path: Path, number: int, size: tuple[int, int] = (40, 56)) -> Path:
    """A small picture that no other number has."""
    rng = np.random.default_rng(number)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, size[::-1], dtype=np.uint8)).save(path)
    return path


def add(store: LabelStore, files: Sequence[Path], *, per_group: int = 2) -> list[int]:
    """Adds files; so many that follow one another are one patient's."""
    return store.insert_images(
        [
            NewImage(
                path=os.path.relpath(file, store.folder),
                sha256=file_sha256(file),
                size=file.stat().st_size,
                mtime=file.stat().st_mtime_ns,
                group=f"patient {number // per_group}",
            )
            for number, file in enumerate(files)
        ]
    )


def make_store(
    folder: Path,
    count: int = 12,
    *,
    labels: Sequence[str] = LABELS,
    holdout_share: float = 0.0,
    double_share: float = 0.0,
    name: str = "chest.db",
    **settings: Any,
) -> LabelStore:
    """A store of `count` drawn images, two per patient."""
    store = LabelStore.create(
        folder / name, labels, holdout_share=holdout_share, double_share=double_share, salt="salt", **settings
    )
    add(store, [draw(folder / "images" / f"{number:03d}.png", number) for number in range(count)])
    return store


def score(store: LabelStore, probabilities: Mapping[int, Sequence[float]]) -> None:
    """A model's probabilities for some images."""
    model = store.begin_model("stub", "0" * 64, event=None)
    store.write_scores(model, list(probabilities), np.asarray(list(probabilities.values()), dtype=np.float64))
    store.end_model(model)


def new_id() -> str:
    """A browser's id of an operation."""
    return f"{next(_IDS):032x}"


def saying(
    image: int, values: Sequence[int | None] | None = (1, 0), *, kind: str = "label", **more: object
) -> dict[str, object]:
    """An answer as the page sends it."""
    answer = {
        "op": "answer",
        "kind": kind,
        "image": image,
        "values": None if values is None else list(values),
        "arm": "random",
        "seconds": 2.5,
        "client_id": new_id(),
    }
    return {**answer, **more}


class Visitor:
    """A browser at the page of one sitting."""

    def __init__(self, client: "TestClient[Any, Any]") -> None:
        self.client = client

    async def get(self, path: str) -> Any:
        """The JSON of an address."""
        answer = await self.client.get(path)
        assert answer.status == 200, (answer.status, await answer.text())
        return await answer.json()

    async def next(self, count: int = 4, have: Sequence[int] = ()) -> list[int]:
        """Numbers of the images that come next."""
        found = await self.get(f"/api/next?count={count}&have={','.join(map(str, have))}")
        return [item["image"] for item in found["items"]]

    async def send(self, operation: Mapping[str, object]) -> ClientResponse:
        """An operation, whatever is answered."""
        return await self.client.post("/api/events", json=operation)

    async def say(self, image: int, values: Sequence[int | None] | None = (1, 0), **more: Any) -> dict[str, Any]:
        """An answer that must be taken."""
        answer = await self.send(saying(image, values, **more))
        assert answer.status == 200, await answer.text()
        return await answer.json()

    async def undo(self) -> dict[str, Any]:
        """The image that is shown again, or None, as the page hears it."""
        answer = await self.send({"op": "undo", "client_id": new_id()})
        assert answer.status == 200, await answer.text()
        return await answer.json()


def visit(
    store: LabelStore,
    steps: Callable[[Visitor], Awaitable[None]],
    *,
    annotator: str = "anna",
    mode: Mode = "label",
    with_token: bool = True,
) -> None:
    """Runs a browser's steps at the page of a sitting."""

    async def run() -> None:
        app = make_app(Sitting(store, annotator, mode), TOKEN)
        headers = {"X-Token": TOKEN} if with_token else {}
        async with TestClient(TestServer(app), headers=headers) as client:
            await steps(Visitor(client))

    asyncio.run(run())


def told(store: LabelStore, annotator: str | None = None) -> list[tuple[str, int, dict[str, int | None], str]]:
    """(kind, image, answers, annotator) of every event, oldest first."""
    events = reversed(store.history(annotator, limit=10_000))
    return [(event.kind, event.image, dict(event.answers), event.annotator) for event in events]
