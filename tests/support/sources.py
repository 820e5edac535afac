"""A small real dataset for trainings in tests: made-up pictures in a cache, splits on disk, a Source on both."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from tune_btxrd.training.source import SizedCache, Source

CLASSES = ("Normal", "Benign", "Malignant")
SIZE = 32
FIXED = {"backbone": "test_efficientnet", "pretrained": False, "image_size": SIZE, "batch_size": 8}


def make_source(folder: Path, *, splits: tuple[str, ...] = ("common",), seed: int = 0) -> Source:
    """48 pictures (a brighter square per class in noise); 27 train, 9 val and the same 12 test images per split."""
    generator = np.random.default_rng(seed)
    targets = np.arange(48) % 3
    images = generator.integers(0, 90, (48, SIZE, SIZE), dtype=np.uint8)
    for image, target in zip(images, targets, strict=True):
        image[8:20, 8:20] += np.uint8(60 * target)
    ids = [f"IMG{number:06d}.jpeg" for number in range(48)]
    cache, tables = folder / "cache", folder / "splits"
    for path in (cache, tables):
        path.mkdir(parents=True)
    np.save(cache / "images.npy", images)
    (cache / "index.json").write_text(json.dumps({"image_ids": ids, "hashes": [""] * 48, "colour_ids": []}))
    for number, split in enumerate(splits):
        searched = np.roll(np.repeat(["train", "val"], [27, 9]), 9 * number)
        parts = np.concatenate([searched, np.repeat(["test"], 12)])
        table = pd.DataFrame({"image_id": ids, "part": parts, "group": range(48)})
        table.to_csv(tables / f"{split}.csv", index=False)
    labels = pd.DataFrame({"image_id": ids, "label": [CLASSES[target] for target in targets]})
    labels.to_csv(tables / "targets.csv", index=False)
    return Source(cache=str(cache), splits=str(tables), class_names=CLASSES, positive_class=2)


def with_wide(source: Source) -> Source:
    """The same with a second cache, of 48 px: the pictures with a margin."""
    wide = Path(source.cache).with_name("wide")
    wide.mkdir()
    shutil.copy(Path(source.cache) / "index.json", wide)
    np.save(wide / "images.npy", np.pad(np.load(Path(source.cache) / "images.npy"), ((0, 0), (8, 8), (8, 8))))
    sizes = (SizedCache(image_size=SIZE, cache=source.cache), SizedCache(image_size=48, cache=str(wide)))
    return dataclasses.replace(source, sizes=sizes)


def scramble(source: Source, part: str) -> None:
    """Other pixels and other labels, on disk, for every image that is in this part of the first split."""
    path = Path(source.splits) / "targets.csv"
    first = min(other for other in path.parent.glob("*.csv") if other != path)
    spoilt = (pd.read_csv(first)["part"] == part).to_numpy()
    other = dict(zip(CLASSES, (*CLASSES[1:], CLASSES[0]), strict=True))
    table = pd.read_csv(path)
    table.loc[spoilt, "label"] = table.loc[spoilt, "label"].map(other)
    table.to_csv(path, index=False)
    images = np.load(Path(source.cache) / "images.npy")
    images[spoilt] = 255 - images[spoilt]
    np.save(Path(source.cache) / "images.npy", images)
