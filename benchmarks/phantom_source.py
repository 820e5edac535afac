"""The phantom as a search finds it: drawn, decoded once, split. What several benchmarks train on."""

from pathlib import Path

import numpy as np

from tune_btxrd.data.cache.cache import build_cache
from tune_btxrd.data.cache.hashes import file_hashes
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.phantom import PhantomSpec, make_phantom
from tune_btxrd.data.readers.registry import read_dataset
from tune_btxrd.data.splits.groups import duplicate_pairs, group_numbers
from tune_btxrd.data.splits.split_files import save_splits
from tune_btxrd.data.splits.splits import Split, make_split
from tune_btxrd.training.source import Source

SPLIT = "stratified"


def phantom_source(
    spec: PhantomSpec, root: Path, *, cache: Path, splits: Path, image_size: int
) -> tuple[Source, Manifest, Split]:
    """The phantom in `root`, its pixels in `cache`, its stratified split in `splits`; what is there stays."""
    for folder in (cache, splits):
        folder.mkdir(parents=True, exist_ok=True)
    make_phantom(root, spec)
    manifest = read_dataset(root, dataset="phantom")
    hashes = file_hashes(manifest, cache_dir=cache)
    pairs = duplicate_pairs(hashes, manifest.image_ids)
    split = make_split(SPLIT, manifest, pairs=pairs, groups="duplicates")
    numbers = np.asarray(group_numbers(manifest, pairs, "duplicates"))
    save_splits([split], splits, manifest=manifest, numbers=numbers)
    images = build_cache(manifest, image_size=image_size, cache_dir=cache, hashes=hashes)
    names, positive = manifest.class_names, manifest.positive_class
    return Source(cache=str(images.path), splits=str(splits), class_names=names, positive_class=positive), manifest, split
