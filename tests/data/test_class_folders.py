"""Folders of classes: with and without parts, in colour, any number of classes, their own split."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tune_btxrd.data.cache.cache import build_cache
from tune_btxrd.data.cache.hashes import file_hashes
from tune_btxrd.data.readers.names import apart
from tune_btxrd.data.readers.registry import read_dataset
from tune_btxrd.data.readers.spreadsheet import read_ids
from tune_btxrd.data.request import DataRequest
from tune_btxrd.data.splits.split_files import load_split
from tune_btxrd.data.splits.splits import common_split, make_split
from tune_btxrd.errors import DataError
from tune_btxrd.pipeline.prepare import duplicates_of, prepare


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


def test_cures_can_be_typed_at_the_verb_that_named_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three classes of three images: fold 1/3 leaves nothing to search on. `prepare` and `train` do not search."""
    root, cache = plants(tmp_path / "few", classes=3, each=3), tmp_path / "cache"
    few = DataRequest(data=root, cache=cache)
    prepared = prepare(few, splits=["fold 1/3"], image_size=16, searches=False)
    shown = capsys.readouterr().out
    assert "common" in prepared.skipped and prepared.searched is prepared.splits["fold 1/3"] and "(search)" not in shown
    with pytest.raises(DataError, match=r"search on another split: --split stratified\.$"):
        prepare(few, splits=["fold 1/3"], image_size=16)
    assert prepare(few, splits=["fold 1/3"], image_size=16, searched="stratified").searched.name == "stratified"
    with pytest.raises(DataError, match=r"needs every class in a second center, .*: use --split stratified\.$"):
        prepare(few, splits=["stratified"], image_size=16, searched="center")
    with pytest.raises(DataError, match=r"^--split none\.csv must name a file"):
        prepare(few, splits=["stratified"], image_size=16, searched="none.csv")


@pytest.mark.parametrize("name", ["phantom", "btxrd"])
def test_a_folder_called_as_a_known_dataset_is_not_taken_for_it(name: str, tmp_path: Path) -> None:
    """A model card would give it that dataset's licence and limits."""
    assert read_dataset(plants(tmp_path / name, classes=2)).dataset == f"{name}_folder"
    assert read_dataset(tmp_path / name, dataset="phantom").dataset == "phantom"  # said by us, of what we drew


@pytest.mark.parametrize("name", [b"B\xf6s/x0.png", b"a/x\xf6.png", b"train/B\xf6s/x0.png"])
def test_a_name_that_is_no_text_is_one_line(name: bytes, tmp_path: Path) -> None:
    root = plants(tmp_path / "p", classes=2, parts=("train", "test") if b"train" in name else ("",))
    draw(root / os.fsdecode(name), 1)
    with pytest.raises(DataError, match=r"Names must be text in UTF-8, but '.*\\udcf6.*' in .*: rename it") as caught:
        read_dataset(root)
    assert "\n" not in str(caught.value)


def test_a_folder_to_type_is_quoted(tmp_path: Path) -> None:
    plants(tmp_path / "unzipped here" / "left knee", classes=3)
    with pytest.raises(DataError, match=rf"use --data '{tmp_path}/unzipped here/left knee'"):
        read_dataset(tmp_path / "unzipped here")


def test_names_with_accents_are_found_however_they_are_composed(tmp_path: Path) -> None:
    """A Mac may write the class of a folder decomposed; a keyboard types it composed."""
    root, (written, typed) = tmp_path / "data", ("E\u0301mile", "\xc9mile")
    for index in range(8):
        draw(root / (f"{written}/cafe\u0301{index}.png" if index % 2 else f"other/{index}.png"), index)
    names = [f"{typed}__caf\xe9{index}.png" if index % 2 else f"other__{index}.png" for index in range(8)]
    (tmp_path / "ids.txt").write_text(f"{names[1]}\n")
    (tmp_path / "pairs.csv").write_text(f"first,second\n{names[3]},{names[5]}\n{names[1]},{names[7]}\n")
    rows = [f"{name},{'val' if number > 3 else 'train'}\n" for number, name in enumerate(names) if number != 1]
    (tmp_path / "own.csv").write_text("image_id,part\n" + "".join(rows))
    manifest = read_dataset(root, positive_class=typed, exclude=read_ids(tmp_path / "ids.txt"))
    assert manifest.class_names[manifest.positive_class] == written and len(manifest) == 7
    request = DataRequest(
        data=root, cache=tmp_path / "cache", exclude=tmp_path / "ids.txt", duplicates=tmp_path / "pairs.csv"
    )
    assert duplicates_of(request, manifest) == [(f"{written}__cafe\u03013.png", f"{written}__cafe\u03015.png")]
    assert len(load_split(tmp_path / "own.csv", manifest).parts["val"]) == 4


@pytest.mark.parametrize(("one", "other"), [("E\u0301mile", "\xc9mile"), ("bone", "b\u043ene")])
def test_names_that_look_alike_are_told_apart_in_messages(one: str, other: str) -> None:
    assert apart(one, other) == (f"{one!r} ({ascii(one)[1:-1]})", f"{other!r} ({ascii(other)[1:-1]})")
    assert apart("bone", "bond") == ("'bone'", "'bond'") and apart("caf\xe9", "caf\xe8") == ("'caf\xe9'", "'caf\xe8'")


def test_classes_that_look_alike_are_shown_with_their_difference(tmp_path: Path) -> None:
    for index, name in enumerate(("E\u0301mile", "\xc9mile", "other") * 2):
        draw(tmp_path / name / f"{index}.png", index)
    with pytest.raises(DataError, match=r"\(E\\u0301mile\).*\(\\xc9mile\)"):
        read_dataset(tmp_path)
