"""How fast is a label store of 100,000 images: adding, the next image, an answer, an undo, status, reading as of an event.

python -m benchmarks.label_store --images 100000 --files 10000        (about three minutes)
"""

import argparse
import hashlib
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tune_btxrd.data.readers.label_store import read_state
from tune_btxrd.labels.add import add_folder
from tune_btxrd.labels.records import Act, NewImage
from tune_btxrd.labels.status import status
from tune_btxrd.labels.store import LabelStore

LABELS = ("covid19", "ap_view", "supine", "intubated", "in_icu")
TURNS = 300  # images that are labelled one after the other, as the page does


def timed(what: str, work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    print(f"{what:<60} {seconds:9.3f} s")
    return seconds


def fill(store: LabelStore, count: int) -> None:
    """Images that are only named."""
    for start in range(0, count, 5000):
        store.insert_images(
            [
                NewImage(
                    path=f"p{i // 3}/{i}.png",
                    sha256=hashlib.sha256(str(i).encode()).hexdigest(),
                    size=1,
                    mtime=1,
                    group=f"p{i // 3}",
                )
                for i in range(start, min(start + 5000, count))
            ]
        )


def label(store: LabelStore, images: list[int], annotator: str) -> None:
    """Answers to all labels of many images."""
    random = np.random.default_rng(len(images))
    for start in range(0, len(images), 5000):
        block = images[start : start + 5000]
        values = random.integers(0, 2, (len(block), len(LABELS)))
        store.record_all(
            [
                Act(
                    kind="label",
                    image=image,
                    annotator=annotator,
                    client=uuid.uuid4().hex,
                    arm="random",
                    answers=dict(zip(LABELS, row, strict=True)),
                    seconds=2.0,
                )
                for image, row in zip(block, values.tolist(), strict=True)
            ]
        )


def score(store: LabelStore) -> None:
    """Predictions of all images that have none, and a ranking."""
    pool, random = store.pool().images, np.random.default_rng(0)
    model = store.begin_model("benchmark", "0" * 64, event=store.last_event)
    for start in range(0, len(pool), 2048):
        block = pool[start : start + 2048]
        store.write_scores(model, block, random.random((len(block), len(LABELS))), features=random.random((len(block), 64)))
    store.end_model(model)
    store.write_ranking(random.permutation(pool).tolist(), acquisition="random", model=model)


def turns(store: LabelStore) -> None:
    """As the page does: next four images, progress, an answer; now and then an undo."""
    spent: dict[str, list[float]] = {"next image": [], "progress": [], "answer": [], "undo": []}

    def clock(what: str, work: Callable[[], object]) -> object:
        start = time.perf_counter()
        result = work()
        spent[what].append(1000 * (time.perf_counter() - start))
        return result

    for turn in range(TURNS):
        asked = (
            store.next_images("zoe", count=4)
            if turn == 0
            else clock("next image", lambda: store.next_images("zoe", count=4))
        )
        clock("progress", lambda: store.progress("zoe"))
        first = asked[0]  # type: ignore[index]
        act = Act(
            kind="label",
            image=first.image.number,
            annotator="zoe",
            client=uuid.uuid4().hex,
            arm=first.arm,
            answers=dict.fromkeys(LABELS, 1),
            seconds=2.0,
        )
        clock("answer", lambda act=act: store.record(act))
        if turn % 10 == 9:
            clock("undo", lambda: store.undo("zoe", client=uuid.uuid4().hex))
    for what, times in spent.items():
        print(f"{what:<40} median {statistics.median(times):7.2f} ms, 95th percentile {np.percentile(times, 95):7.2f} ms")


def add_files(folder: Path, count: int) -> None:
    """Real files: hashing alone, adding, adding again."""
    random = np.random.default_rng(0)
    for i in range(count):
        file = folder / "files" / f"{i // 100}" / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (256, 256), dtype=np.uint8)).save(file, compress_level=0)
    files = sorted((folder / "files").rglob("*.png"))
    with LabelStore.create(folder / "files.db", LABELS) as store:
        hashing = timed(
            f"hashing {count:,} files of 64 kB, one by one", lambda: [hashlib.sha256(f.read_bytes()) for f in files]
        )
        adding = timed(f"adding {count:,} files", lambda: add_folder(store, folder / "files"))
        timed("adding them again", lambda: add_folder(store, folder / "files"))
        print(f"adding takes {adding / hashing:.2f} times as long as hashing")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--files", type=int, default=10_000)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with LabelStore.create(folder / "big.db", LABELS) as store:
            timed(f"inserting {flags.images:,} images", lambda: fill(store, flags.images))
            turns(store)
            free = [row[0] for row in store.database.rows("SELECT image FROM images WHERE holdout = 0 AND open = 1")]
            timed(f"recording {len(free) // 2:,} answers", lambda: label(store, free[: len(free) // 2], "ann"))
            timed("recording 2,000 second readings", lambda: label(store, free[:2000], "bob"))
            timed("scores and ranking of the rest", lambda: score(store))
            turns(store)
            timed("status", lambda: status(store))
            timed("known and unknown labels of the pool", lambda: store.known(store.pool().images))
            timed("reading all labels as of the last event", lambda: read_state(store.path))
            print(f"file: {(folder / 'big.db').stat().st_size / 2**20:.0f} MiB")
        add_files(folder, flags.files)


if __name__ == "__main__":
    main()
