"""How long until the next image is there? The labelling page over HTTP on loopback, with a store of 100,000 images.

python -m benchmarks.label_page               (about 3 minutes)

A client does what the page does: it saves an answer, asks for one more image, and fetches the picture that is shown next.
`next` is all of that, from sending the answer until the picture is here; a browser has the picture already, so that a person
waits less. `save` is the answer alone, acknowledged on disk, `named` the further image, `picture` the PNG. The images have
the size of radiographs (2,000 x 2,500 px) or of thumbnails (512 px); three of them are decoded ahead, while the person looks
(`pause` seconds).
"""

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import numpy as np
from PIL import Image

from benchmarks.label_kills import Annotator, free_port
from benchmarks.outcome import circumstances, write
from tune_btxrd.files import file_sha256
from tune_btxrd.labels.records import NewImage
from tune_btxrd.labels.store import LabelStore

LABELS = ("effusion", "cardiomegaly")
SIZES = {"radiograph": (2000, 2500), "thumbnail": (512, 512)}
STEPS = ("save", "named", "picture", "next")


def main(count: int, *, answers: int, files: int, pause: float) -> None:
    """Measures both sizes of images and writes the table."""
    before, rows = circumstances(), []
    for kind, size in SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            store = make_store(Path(folder), count, files=files, size=size)
            times = measure(store, answers=answers, pause=pause)
        for step in STEPS:
            p50, p95, most = np.percentile([one[step] for one in times], [50, 95, 100]) * 1000
            rows.append(
                {
                    "images": f"{kind} {size[0]} x {size[1]}",
                    "stored": count,
                    "step": step,
                    "median ms": round(p50, 1),
                    "95th percentile ms": round(p95, 1),
                    "longest ms": round(most, 1),
                }
            )
    write("label_page", rows, before)


def make_store(folder: Path, count: int, *, files: int, size: tuple[int, int]) -> Path:
    """A store of `count` images, ranked; the first `files` of the queue lie on the disk, the others are rows alone."""
    drawn = [draw(folder / f"{number}.jpg", number, size) for number in range(files)]
    with LabelStore.create(folder / "large.db", LABELS, holdout_share=0.0, double_share=0.05, salt="large") as store:
        rows = [
            NewImage(path=f"rest/{n}.jpg", sha256=f"{n:064x}", size=1, mtime=0, group=f"patient {n // 3}")
            for n in range(count - files)
        ]
        there = [
            NewImage(path=path.name, sha256=file_sha256(path), size=path.stat().st_size, mtime=0, group=f"here {n // 3}")
            for n, path in enumerate(drawn)
        ]
        numbers = [number for block in blocks([*there, *rows]) for number in store.insert_images(block)]
        store.write_ranking(numbers, acquisition="benchmark", model=None)
        with store.database.writing():  # the control arm asks for those on disk too
            store.database.run("UPDATE images SET shuffle = image WHERE image <= ?", (files,))
        return store.path


def blocks(images: Sequence[NewImage]) -> list[Sequence[NewImage]]:
    """In transactions of moderate size."""
    return [images[start : start + 5000] for start in range(0, len(images), 5000)]


def draw(path: Path, number: int, size: tuple[int, int]) -> Path:
    """A JPEG with structure and grain, like a radiograph's."""
    rng = np.random.default_rng(number)
    rough = Image.fromarray(rng.integers(0, 256, (12, 10), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    grain = rng.normal(0, 4, (size[1], size[0]))
    Image.fromarray((np.asarray(rough) + grain).clip(0, 255).astype(np.uint8)).save(path, quality=92)
    return path


def measure(store: Path, *, answers: int, pause: float) -> list[dict[str, float]]:
    """Seconds of every step, per answer."""
    annotator = Annotator("anna", store, free_port(), random.Random(0))
    annotator.start()
    try:
        return asyncio.run(label(annotator, answers=answers, pause=pause))
    finally:
        annotator.kill()


async def label(annotator: Annotator, *, answers: int, pause: float) -> list[dict[str, float]]:
    """What the page does, one answer after another, and how long each step takes."""
    root, times = f"http://127.0.0.1:{annotator.port}", []
    async with aiohttp.ClientSession(headers={"X-Token": annotator.token}) as session:
        queue = await ask(session, root, 4, [])
        for turn in range(answers):
            await asyncio.sleep(pause)
            begun = time.perf_counter()
            answer = {"op": "answer", "kind": "label", "image": queue[0], "values": [turn % 2, 0], "arm": "ranked"}
            async with session.post(f"{root}/api/events", json={**answer, "client_id": f"{turn:032x}"}) as reply:
                assert reply.status == 200, await reply.text()
            saved = time.perf_counter()
            (fresh,) = await ask(session, root, 1, queue[1:])
            named = time.perf_counter()
            # the picture that comes on the screen now; the fresh one is decoded while the person looks
            async with session.get(f"{root}/image/{queue[1]}") as picture:
                assert picture.status == 200, await picture.text()
                assert len(await picture.read()) > 100
            ended = time.perf_counter()
            times.append({"save": saved - begun, "named": named - saved, "picture": ended - named, "next": ended - begun})
            queue = [*queue[1:], fresh]
    return times


async def ask(session: aiohttp.ClientSession, root: str, count: int, have: Sequence[int]) -> list[int]:
    """Numbers of further images."""
    async with session.get(f"{root}/api/next?count={count}&have={','.join(map(str, have))}") as reply:
        assert reply.status == 200, await reply.text()
        return [int(item["image"]) for item in (await reply.json())["items"]]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000, help="images of the store")
    parser.add_argument("--answers", type=int, default=200)
    parser.add_argument("--files", type=int, default=240, help="images that lie on the disk")
    parser.add_argument("--pause", type=float, default=0.5, help="seconds that a person looks at an image")
    asked = parser.parse_args()
    main(asked.count, answers=asked.answers, files=asked.files, pause=asked.pause)
