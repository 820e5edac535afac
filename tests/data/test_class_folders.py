"""Folders of classes: with and without parts, in colour, any number of classes, their own split."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tune_btxrd.data.cache.cache import build_cache
from tune_btxrd.data.cache.hashes import file_hashes
from tune_btxrd.data.readers.registry import read_dataset
from tune_btxrd.data.request import DataRequest
from tune_btxrd.data.splits.splits import common_split, make_split
from tune_btxrd.errors import DataError
from tune_btxrd.pipeline.prepare import prepare


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def plants(root: Path, *, classes: int = 12, each: int = 6, parts: tuple[str, ...] = ("",)) -> Path:
    for number, part in enumerate(parts):
        for index in range(classes):
            for image in range(each - (index == 3)):
                draw(root / part / f"disease {index:02d}" / f"leaf{image}.png", 1000 * number + 50 * index + image)
    return root


def test_twelve_classes_in_colour(tmp_path: Path) -> None:
    manifest = read_dataset(plants(tmp_path / "plants"))
    assert manifest.class_names == tuple(f"disease {index:02d}" for index in range(12))
    assert manifest.class_counts == (6, 6, 6, 5, *[6] * 8) and manifest.class_names[manifest.positive_class] == "disease 03"
    assert manifest.image_ids[0] == "disease 00__leaf0.png" and manifest.dataset == "plants"
    cache_dir = tmp_path / "cache"
    cache_dir.mkdir()
    hashes = file_hashes(manifest, cache_dir=cache_dir)
    cache = build_cache(manifest, image_size=32, cache_dir=cache_dir, hashes=hashes)
    assert cache.images.shape == (71, 32, 32, 3)


def test_their_own_split(tmp_path: Path) -> None:
    manifest = read_dataset(plants(tmp_path, classes=3, parts=("train", "Valid", "test")))
    split = make_split("folders", manifest, pairs=[], groups="duplicates")
    assert {part: len(ids) for part, ids in split.parts.items()} == {"train": 18, "val": 18, "test": 18}
    assert all(image_id.startswith("Valid__") for image_id in split.parts["val"])
    common = common_split(manifest, [split], pairs=[], groups="duplicates")
    assert common.parts["train"] == split.parts["train"] and common.parts["test"] == ()


def test_without_val_a_share_of_train_validates(tmp_path: Path) -> None:
    manifest = read_dataset(plants(tmp_path, classes=2, each=20, parts=("train", "test")))
    split = make_split("folders", manifest, pairs=[], groups="duplicates")
    assert {part: len(ids) for part, ids in split.parts.items()} == {"train": 34, "val": 6, "test": 40}
    assert all(image_id.startswith("train__") for image_id in split.parts["val"])


def test_prepared_with_their_own_split_unless_another_is_asked_for(tmp_path: Path) -> None:
    root = plants(tmp_path / "p", classes=3, each=12, parts=("train", "val", "test"))
    request = DataRequest(data=root, cache=tmp_path / "cache")
    assert list(prepare(request, image_size=32).splits) == ["folders"]
    assert list(prepare(request, image_size=32, splits=("stratified",)).splits) == ["stratified"]


def test_an_image_in_train_and_test_is_an_error(tmp_path: Path) -> None:
    root = plants(tmp_path / "p", classes=2, parts=("train", "val", "test"))
    copied = (root / "train" / "disease 00" / "leaf0.png").read_bytes()
    (root / "test" / "disease 00" / "copy.png").write_bytes(copied)
    with pytest.raises(DataError, match="Images of one group must lie in one part"):
        prepare(DataRequest(data=root, cache=tmp_path / "cache"), image_size=32)


def test_mistakes(tmp_path: Path) -> None:
    root = plants(tmp_path / "p", classes=2, parts=("train", "test"))
    draw(root / "test" / "new" / "a.png", 1)
    with pytest.raises(DataError, match="must occur in train, but 'new'"):
        read_dataset(root)
    flat = read_dataset(plants(tmp_path / "q", classes=2))
    with pytest.raises(DataError, match="needs a train folder and a val or test folder"):
        make_split("folders", flat, pairs=[], groups="duplicates")
