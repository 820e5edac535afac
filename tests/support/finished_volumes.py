"""A finished training on volumes, small and real: NIfTI files of two channels with lesions, turned and shifted in space."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd

from tests.support.toy_volumes import volume_config
from tune_btxrd.data.cache.cache import build_cache
from tune_btxrd.data.cache.hashes import file_hashes
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.splits.groups import group_numbers
from tune_btxrd.data.splits.split_files import save_splits
from tune_btxrd.data.splits.splits import make_split
from tune_btxrd.training.checkpoint import checkpoint_dict, save
from tune_btxrd.training.loop import train
from tune_btxrd.training.slot import Slot
from tune_btxrd.training.source import Source

COUNT, SIDE = 24, 32
CHANNELS = ("flair", "t1ce")
AFFINE = np.array([[-1.5, 0, 0, 40], [0, 0, 2.0, -30], [0, 1.2, 0, 7], [0, 0, 0, 1.0]])  # stored axes L, S, A
SHAPE = (28, 30, 22)


@dataclass(frozen=True)
class FinishedVolumes:
    data: Path
    manifest: Manifest
    source: Source
    results: Path
    checkpoints: Path

    @property
    def checkpoint(self) -> Path:
        return self.checkpoints / "best_stratified.pt"

    def case(self, index: int) -> Path:
        return self.data / self.manifest.image_ids[index]


@cache
def build(root: Path) -> FinishedVolumes:
    manifest = write_cases(root / "heads")
    hashes = file_hashes(manifest, cache_dir=root / "cache")
    volumes = build_cache(manifest, image_size=SIDE, cache_dir=root / "cache", hashes=hashes)
    results, checkpoints = root / "ray_results" / "heads", root / "checkpoints" / "heads"
    source = Source(
        cache=str(volumes.path),
        splits=str(results / "splits"),
        class_names=manifest.class_names,
        positive_class=manifest.positive_class,
    )
    split = make_split("stratified", manifest, pairs=(), groups="duplicates")
    numbers = group_numbers(manifest, (), "duplicates")
    save_splits([split], results / "splits", manifest=manifest, numbers=numbers)
    settings = {
        "name": "heads",
        "dataset": {"name": "phantom", "path": str(root / "heads"), "sha256": manifest.sha256},
        "source": source.to_dict(),
        "searched": "stratified",
        "environment": {"command": ["tune-btxrd", "run"], "git_commit": "abc123"},
    }
    (results / "search.json").write_text(json.dumps(settings))
    state = Slot(device="cpu", threads=1).start(
        volume_config(epochs=3, batch_size=4, lr=3e-3), source.training_data("stratified"), keep_best=True
    )
    list(train(state))
    path = checkpoints / "best_stratified.pt"
    path.parent.mkdir(parents=True)
    save(checkpoint_dict(state, class_names=manifest.class_names, which="best"), path)
    return FinishedVolumes(root / "heads", manifest, source, results, checkpoints)


def write_cases(data: Path) -> Manifest:
    """A folder per case: the second class has a bright lesion to the right, outlined in CASE_seg."""
    rng = np.random.default_rng(5)
    targets = (np.arange(COUNT) % 2).astype(np.int64)
    ids = tuple(f"CASE{index:02d}" for index in range(COUNT))
    volumes, masks = [], []
    for image_id, target in zip(ids, targets, strict=True):
        folder = data / image_id
        folder.mkdir(parents=True)
        lesion = np.zeros(SHAPE, dtype=bool)
        lesion[6:12, 16:24, 6:12] = True  # to the right and up
        files = []
        for channel in CHANNELS:
            head = np.zeros(SHAPE, dtype=np.float32)
            head[3:-3, 2:-2, 4:-4] = rng.normal(100, 10, (22, 26, 14))
            head[lesion] += 150 * target
            files.append(folder / f"{image_id}_{channel}.nii.gz")
            nibabel.save(nibabel.Nifti1Image(head, AFFINE), files[-1])
        mask = folder / f"{image_id}_seg.nii.gz"
        if target:
            nibabel.save(nibabel.Nifti1Image(lesion.astype(np.uint8), AFFINE), mask)
        volumes.append(tuple(files))
        masks.append(mask if target else None)
    return Manifest(
        dataset="heads",
        root=data,
        image_ids=ids,
        files=tuple(files[0] for files in volumes),
        targets=targets,
        class_names=("HGG", "LGG"),
        positive_class=1,
        centers=None,
        groups=None,
        table=pd.DataFrame({"image_id": ids}),
        annotations=(None,) * COUNT,
        channels=CHANNELS,
        volumes=tuple(volumes),
        masks=tuple(masks),
    )
