"""Label stores for tests: made in milliseconds, with images that are only named or really written."""

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from tune_btxrd.labels.records import Act, Answers, Event, Kind, NewImage
from tune_btxrd.labels.store import LabelStore

LABELS = ("Mass", "Nodule")


def sha(text: str) -> str:
    """The content's hash of an image that is only named."""
    return hashlib.sha256(text.encode()).hexdigest()


def named_images(count: int, *, per_group: int = 2, start: int = 0) -> list[NewImage]:
    """Images that no file has; `per_group` of them are one patient."""
    return [
        NewImage(path=f"p{i // per_group}/{i}.png", sha256=sha(f"{i}"), size=1, mtime=1, group=f"p{i // per_group}")
        for i in range(start, start + count)
    ]


def make_store(folder: Path, *, images: int = 20, labels: tuple[str, ...] = LABELS, holdout: float = 0.0, **more: object):
    """An open store with named images."""
    store = LabelStore.create(folder / "store.db", labels, salt="salt", holdout_share=holdout, **more)  # type: ignore[arg-type]
    store.insert_images(named_images(images))
    return store


def act(
    store: LabelStore,
    image: int,
    answers: Answers | None = None,
    *,
    annotator: str = "ann",
    kind: Kind = "label",
    settles: bool = False,
    client: str | None = None,
    seconds: float | None = 2.0,
) -> Event:
    """Records one act."""
    client = client or f"{annotator} {store.last_event}"
    return store.record(
        Act(
            kind=kind,
            image=image,
            annotator=annotator,
            client=client,
            arm="random",
            answers=answers or {},
            settles=settles,
            seconds=seconds,
        )
    )


def write_images(folder: Path, count: int, *, per_group: int = 2, side: int = 12, seed: int = 0) -> list[Path]:
    """PNGs of noise in a folder per patient."""
    random, files = np.random.default_rng(seed), []
    for i in range(count):
        file = folder / f"p{i // per_group:02}" / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (side, side), dtype=np.uint8)).save(file)
        files.append(file)
    return files
