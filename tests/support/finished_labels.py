"""A finished search on independent labels, small and real: 120 pictures, three labels, one split, a tiny network.

A bright square is `bright`, a square in the left half is `left`; `rare` is a dark stripe on few pictures. A third of the
answers to `left` are unknown, and three pictures have no known answer at all.
"""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.support.finished_search import CONFIG, Finished, train_one
from tune_btxrd.data.cache.cache import build_cache
from tune_btxrd.data.cache.hashes import file_hashes
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.splits.groups import group_numbers
from tune_btxrd.data.splits.split_files import save_splits
from tune_btxrd.data.splits.splits import make_split
from tune_btxrd.tasks.multilabel import MULTILABEL, UNKNOWN
from tune_btxrd.training.slot import Slot
from tune_btxrd.training.source import Source

COUNT, SIZE = 120, 32
LABELS = ("bright", "left side", "rare")
KEYS = ("bright", "left_side", "rare")
LABEL_CONFIG = CONFIG.replace(image_size=SIZE, epochs=6, loss="bce", batch_size=16)


@pytest.fixture(scope="module")
def finished_labels(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return build(tmp_path_factory.getbasetemp() / "finished_labels")


@cache
def build(root: Path) -> Finished:
    manifest = read_labels(root / "toy_labels")
    hashes = file_hashes(manifest, cache_dir=root / "cache")
    images = build_cache(manifest, image_size=SIZE, cache_dir=root / "cache", hashes=hashes)
    results, checkpoints = root / "ray_results" / "labels", root / "checkpoints" / "labels"
    source = Source(
        cache=str(images.path), splits=str(results / "splits"), class_names=LABELS, positive_class=0, task="multilabel"
    )
    numbers = group_numbers(manifest, (), "duplicates")
    split = make_split("stratified", manifest, pairs=(), groups="duplicates")
    save_splits([split], results / "splits", manifest=manifest, numbers=numbers)
    settings = {
        "name": "labels",
        "dataset": {"name": "labels", "path": str(manifest.root), "sha256": manifest.sha256},
        "source": source.to_dict(),
        "searched": "stratified",
        "environment": {"command": ["tune-btxrd", "run"], "git_commit": "abc123"},
    }
    (results / "search.json").write_text(json.dumps(settings))
    slot = Slot(device="cpu", threads=1)
    train_one(slot, source, "stratified", LABEL_CONFIG, checkpoints / "best_stratified.pt")
    other = checkpoints / "stratified" / "hand_made" / "best.pt"
    train_one(slot, source, "stratified", LABEL_CONFIG.replace(lr=3e-3), other)
    return Finished(manifest.root, manifest, source, results, checkpoints)


def read_labels(root: Path) -> Manifest:
    """Draws the pictures, writes `manifest.csv`, and gives what a reader would."""
    rng = np.random.default_rng(0)
    targets = np.stack([rng.random(COUNT) < share for share in (0.5, 0.5, 0.12)], axis=1).astype(np.int64)
    (root / "images").mkdir(parents=True)
    ids = [f"P{row:03d}" for row in range(COUNT)]
    for image_id, (bright, left, rare) in zip(ids, targets, strict=True):
        pixels = rng.integers(20, 60, (SIZE, SIZE)).astype(np.uint8)
        at = 3 if left else 19
        pixels[8:22, at : at + 10] = 220 if bright else 120
        if rare:
            pixels[26:30] = 0
        Image.fromarray(pixels).save(root / "images" / f"{image_id}.png")
    targets[rng.random(COUNT) < 0.33, 1] = UNKNOWN
    targets[:3] = UNKNOWN
    table = pd.DataFrame({"image_id": ids, "path": [f"images/{image_id}.png" for image_id in ids]})
    cells = MULTILABEL.write(targets, LABELS)
    pd.concat([table, pd.DataFrame(cells)], axis=1).to_csv(root / "manifest.csv", index=False)
    return Manifest(
        dataset="labels",
        root=root,
        image_ids=tuple(ids),
        files=tuple(root / path for path in table["path"]),
        targets=targets,
        class_names=LABELS,
        positive_class=0,
        centers=tuple("1" if row % 2 else "2" for row in range(COUNT)),
        groups=tuple(str(row // 2) for row in range(COUNT)),
        table=pd.DataFrame({"center": [1 if row % 2 else 2 for row in range(COUNT)]}),
        annotations=(None,) * COUNT,
        task=MULTILABEL,
    )
