"""A finished search on disk, small and real: 96 pictures, two splits, one epoch of a tiny network per split.

The lesion of this toy dataset is a bright square whose place is annotated; Malignant is brightest.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tune_btxrd.config import TrainConfig
from tune_btxrd.data.cache.cache import build_cache
from tune_btxrd.data.cache.hashes import file_hashes
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers.btxrd import RELEASED_COLUMNS
from tune_btxrd.data.readers.registry import read_dataset
from tune_btxrd.data.splits.groups import group_numbers
from tune_btxrd.data.splits.split_files import save_splits
from tune_btxrd.data.splits.splits import make_split
from tune_btxrd.training.checkpoint import checkpoint_dict, save
from tune_btxrd.training.loop import train
from tune_btxrd.training.slot import Slot
from tune_btxrd.training.source import Source

COUNT, SIZE = 96, 32
SPLITS = ("stratified", "center")
CONFIG = TrainConfig(backbone="test_efficientnet", pretrained=False, image_size=SIZE, epochs=2, batch_size=16)


@dataclass(frozen=True)
class Finished:
    data: Path
    manifest: Manifest
    source: Source
    results: Path
    checkpoints: Path

    def checkpoint(self, split: str = "stratified") -> Path:
        return self.checkpoints / f"best_{split}.pt"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return build(tmp_path_factory.getbasetemp() / "finished_search")


@cache
def build(root: Path) -> Finished:
    data = write_pictures(root / "toy")
    manifest = read_dataset(data)
    hashes = file_hashes(manifest, cache_dir=root / "cache")
    images = build_cache(manifest, image_size=SIZE, cache_dir=root / "cache", hashes=hashes)
    results, checkpoints = root / "ray_results" / "toy", root / "checkpoints" / "toy"
    source = Source(
        cache=str(images.path),
        splits=str(results / "splits"),
        class_names=manifest.class_names,
        positive_class=manifest.positive_class,
    )
    numbers = group_numbers(manifest, (), "duplicates")
    splits = [make_split(name, manifest, pairs=(), groups="duplicates") for name in SPLITS]
    save_splits(splits, results / "splits", manifest=manifest, numbers=numbers)
    settings = {
        "name": "toy",
        "dataset": {"name": "toy", "path": str(data), "sha256": manifest.sha256},
        "source": source.to_dict(),
        "searched": "common",
        "environment": {"command": ["tune-btxrd", "run"], "git_commit": "abc123"},
    }
    (results / "search.json").write_text(json.dumps(settings))
    slot = Slot(device="cpu", threads=1)
    for name in SPLITS:
        train_one(slot, source, name, CONFIG, checkpoints / f"best_{name}.pt")
        train_one(slot, source, name, CONFIG.replace(lr=3e-3), checkpoints / name / "hand_made" / "best.pt")
    return Finished(data, manifest, source, results, checkpoints)


def train_one(slot: Slot, source: Source, split: str, config: TrainConfig, path: Path) -> None:
    state = slot.start(config, source.training_data(split), keep_best=True)
    for _ in train(state):
        pass
    save(checkpoint_dict(state, class_names=source.class_names, which="best"), path)


def write_pictures(root: Path) -> Path:
    """BTXRD layout: JPEG, grey and RGB, one turned by EXIF; classes 48/32/16 spread over two centers."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({name: np.zeros(COUNT, dtype=int) for name in RELEASED_COLUMNS})
    table["image_id"] = [f"IMG{n:06d}.jpeg" for n in range(COUNT)]
    target = np.array([0, 1, 2, 0, 1, 0] * (COUNT // 6))
    table["tumor"], table["benign"], table["malignant"] = target > 0, target == 1, target == 2
    table["center"] = np.where(np.arange(COUNT) < COUNT * 2 // 3, 1, 2)
    table["age"], table["gender"] = rng.integers(5, 80, COUNT), rng.choice(["M", "F"], COUNT)
    table["femur"], table["lower limb"] = 1, 1
    table["frontal"] = np.arange(COUNT) % 2
    table["lateral"] = 1 - table["frontal"]
    table["osteosarcoma"], table["osteochondroma"] = target == 2, target == 1
    table = table.replace({True: 1, False: 0})
    (root / "images").mkdir(parents=True)
    (root / "Annotations").mkdir()
    for row, (image_id, kind) in enumerate(zip(table["image_id"], target, strict=True)):
        write_picture(root, image_id, int(kind), row, rng)
    table.to_csv(root / "dataset.csv", index=False)
    return root


def write_picture(root: Path, image_id: str, kind: int, row: int, rng: np.random.Generator) -> None:
    pixels = rng.integers(20, 60, (60, 48)).astype(np.uint8)
    x, y = (int(value) for value in rng.integers(4, 30, 2))
    if kind:
        pixels[y : y + 14, x : x + 14] = 110 + 60 * kind
        corners = [[x, y], [x + 14, y], [x + 14, y + 14], [x, y + 14]]
        shapes = [{"label": "lesion", "shape_type": "polygon", "points": corners}]
        note = {"shapes": shapes, "imageWidth": 48, "imageHeight": 60, "imagePath": image_id}
        (root / "Annotations" / f"{Path(image_id).stem}.json").write_text(json.dumps(note))
    image = Image.fromarray(pixels)
    if row % 3 == 1:
        image = image.convert("RGB")
    exif = Image.Exif()
    if row % 7 == 3:
        exif[0x0112] = 6
        image = image.transpose(Image.Transpose.ROTATE_90)  # stored lying; EXIF turns it back
    image.save(root / "images" / image_id, quality=95, exif=exif)


def single_thread() -> None:
    torch.set_num_threads(1)
