"""Caches of several sizes: decoded together, each with the bytes that it has alone; what is there is not made again."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.images import build, count_decodes, hashes_of, manifest_of, write_pictures
from tests.support.volumes import write_table
from tune_btxrd.data.cache import decode as decoder
from tune_btxrd.data.cache.cache import ImageCache, build_caches
from tune_btxrd.data.cache.hashes import file_hashes
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers.registry import read_dataset
from tune_btxrd.errors import DataError

SIZES = (48, 32, 160, 224)


def pictures(folder: Path, *, colour: bool) -> Manifest:
    """Of every kind of file whose pixels are made in another way: JPEGs of several scales, turned, 16 bits, see-through."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (12, 9), dtype=np.uint8)).resize((600, 450), Image.Resampling.BICUBIC)
    smooth.save(folder / "a.jpeg")
    turned = Image.Exif()
    turned[0x0112] = 6
    smooth.save(folder / "b.jpeg", exif=turned)
    smooth.resize((70, 100)).save(folder / "c.png")
    Image.fromarray(np.asarray(smooth).astype(np.uint16) * 200).save(folder / "d.png")
    smooth.convert("P").save(folder / "e.png", transparency=3)
    if colour:
        Image.fromarray(rng.integers(0, 256, (40, 300, 3), dtype=np.uint8)).save(folder / "f.jpeg", quality=95)
    return manifest_of(sorted(folder.iterdir()))


def built(manifest: Manifest, folder: Path, *sizes: int) -> dict[int, ImageCache]:
    return build_caches(manifest, image_sizes=sizes, cache_dir=folder, hashes=hashes_of(manifest))


def files_of(cache: ImageCache) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in cache.path.iterdir()}


@pytest.mark.parametrize("colour", [False, True])
def test_sizes_made_together_have_the_bytes_that_each_has_alone(tmp_path: Path, colour: bool) -> None:
    manifest = pictures(tmp_path / "images", colour=colour)
    together = built(manifest, tmp_path / "together", *SIZES)
    assert tuple(together) == SIZES
    for size, cache in together.items():
        alone = build(manifest, tmp_path / "alone", image_size=size)
        assert cache.image_size == size and cache.path.name == alone.path.name
        assert files_of(cache) == files_of(alone)


def test_a_file_is_read_once_for_all_sizes_and_only_for_those_that_lack_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = manifest_of(write_pictures(tmp_path / "images", grey=4))
    read, opened = decoder._read, list[str]()
    monkeypatch.setattr(decoder, "_read", lambda path: (opened.append(path.name), read(path))[1])
    first = built(manifest, tmp_path / "cache", 16, 24)
    assert sorted(opened) == sorted(manifest.image_ids)
    before = {size: (cache.path / "images.npy").stat().st_mtime_ns for size, cache in first.items()}
    decodes = count_decodes(monkeypatch)
    again = built(manifest, tmp_path / "cache", 24, 32, 16)
    assert sorted(decodes) == sorted(manifest.image_ids) and again[32].image_size == 32
    assert {size: (again[size].path / "images.npy").stat().st_mtime_ns for size in before} == before
    decodes.clear()
    built(manifest, tmp_path / "cache", 32, 16)
    assert not decodes


def test_sizes_that_were_interrupted_at_different_images_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_pictures(tmp_path / "images", grey=6)
    manifest, good = manifest_of(files), files[3].read_bytes()
    files[3].write_bytes(b"no image")
    with pytest.raises(DataError, match=r"1 of 6 are not: 003\.png is not an image"):
        built(manifest, tmp_path / "cache", 16)
    with pytest.raises(DataError, match="1 of 6"):
        built(manifest, tmp_path / "cache", 16, 24)
    files[3].write_bytes(good)
    decodes = count_decodes(monkeypatch)
    both = built(manifest, tmp_path / "cache", 16, 24)
    assert decodes == ["003.png"]
    assert files_of(both[24]) == files_of(build(manifest, tmp_path / "alone", image_size=24))


def test_sizes_that_do_not_fit_the_disk_together_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = manifest_of(write_pictures(tmp_path / "images", grey=4))
    needed = 4 * (20**2 + 30**2)

    def disk(free: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 0, free))

    disk(needed - 1)  # either fits alone
    with pytest.raises(DataError, match=r"must fit on the disk, but .* is full .*at 20 and 30 px.*choose another folder"):
        built(manifest, tmp_path / "cache", 20, 30)
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]  # nothing was begun
    disk(needed)
    assert built(manifest, tmp_path / "cache", 20, 30)[30].images.shape == (4, 30, 30)


def test_volumes_of_two_sizes_have_the_bytes_that_each_has_alone(tmp_path: Path) -> None:
    pytest.importorskip("nibabel")
    manifest = read_dataset(write_table(tmp_path / "own", count=4))
    hashes = file_hashes(manifest, cache_dir=tmp_path / "cache")
    many = build_caches(manifest, image_sizes=(8, 12), cache_dir=tmp_path / "together", hashes=hashes, workers=1)
    for size, cache in many.items():
        alone = build_caches(manifest, image_sizes=(size,), cache_dir=tmp_path / "alone", hashes=hashes, workers=1)[size]
        assert cache.images.shape[1:4] == (size,) * 3 and files_of(cache) == files_of(alone)
