"""ImageCache: what it holds, its name, what is decoded again and what is not, memory maps in workers, damage."""

import json
import os
import pickle
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.images import build, count_decodes, manifest_of, pixels_of, write_pictures
from tune_btxrd.data.cache import checks
from tune_btxrd.data.cache import writer as partial
from tune_btxrd.data.cache.cache import ImageCache, cache_name
from tune_btxrd.data.cache.checks import ROWS_PER_SUM, check_pixels, pixel_sums
from tune_btxrd.errors import DataError


def test_grey_images_are_stored_once_in_manifest_order(tmp_path: Path) -> None:
    files = write_pictures(tmp_path / "images", grey=5)[::-1]
    cache = build(manifest_of(files), tmp_path / "cache")
    assert cache.images.shape == (5, 16, 16) and cache.images.dtype == np.uint8
    assert cache.image_ids == ("004.png", "003.png", "002.png", "001.png", "000.png")
    assert cache.colour_ids == () and cache.image_size == 16
    for row, file in enumerate(files):
        np.testing.assert_array_equal(cache.images[row], pixels_of(file))
    np.testing.assert_array_equal(cache.rows(["000.png", "004.png"]), np.array([4, 0], dtype=np.int64))


def test_one_colour_image_makes_three_channels_and_grey_ones_three_equal(tmp_path: Path) -> None:
    files = write_pictures(tmp_path / "images", grey=3, colour=1)
    cache = build(manifest_of([files[0], files[3], files[1], files[2]]), tmp_path / "cache")
    assert cache.images.shape == (4, 16, 16, 3) and cache.colour_ids == ("003.png",)
    np.testing.assert_array_equal(cache.images[1], pixels_of(files[3]))
    for row, file in ((0, files[0]), (2, files[1]), (3, files[2])):
        np.testing.assert_array_equal(cache.images[row], np.repeat(pixels_of(file)[..., None], 3, axis=-1))


def test_images_are_a_read_only_map_of_the_file(tmp_path: Path) -> None:
    cache = build(manifest_of(write_pictures(tmp_path / "images", grey=2)), tmp_path / "cache")
    assert isinstance(cache.images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        cache.images[0, 0, 0] = 1


def test_the_finished_folder_holds_images_and_index_and_nothing_else_remains(tmp_path: Path) -> None:
    cache = build(manifest_of(write_pictures(tmp_path / "images", grey=2, colour=1)), tmp_path / "cache")
    assert sorted(file.name for file in cache.path.iterdir()) == ["images.npy", "index.json"]
    assert {entry.name for entry in (tmp_path / "cache").iterdir()} <= {cache.path.name, f"{cache.path.name}.lock"}


def test_second_build_decodes_nothing_and_reports_completion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = manifest_of(write_pictures(tmp_path / "images", grey=4))
    seen: list[tuple[int, int]] = []
    first = build(manifest, tmp_path / "cache", progress=lambda done, total: seen.append((done, total)))
    assert seen[:4] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    names = count_decodes(monkeypatch)
    seen.clear()
    again = build(manifest, tmp_path / "cache", progress=lambda done, total: seen.append((done, total)))
    assert names == [] and seen == [(4, 4)] and again.path == first.path


def test_bytes_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    manifest = manifest_of(write_pictures(tmp_path / "images", grey=20, colour=2))
    one, many = (build(manifest, tmp_path / f"cache{n}", workers=n) for n in (1, 5))
    assert one.path.name == many.path.name
    assert (one.path / "images.npy").read_bytes() == (many.path / "images.npy").read_bytes()


def test_the_name_follows_whatever_decides_the_bytes() -> None:
    files = [("a", "00"), ("b", "11")]
    name = cache_name(224, files)
    assert name == cache_name(224, list(files))
    others = [cache_name(256, files), cache_name(224, files[::-1]), cache_name(224, [("a", "00"), ("b", "12")])]
    others.append(cache_name(224, [("a", "00"), ("c", "11")]))
    others.append(cache_name(224, files, version=2))
    assert len({name, *others}) == 6


def test_changed_file_gives_another_cache_and_only_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_pictures(tmp_path / "images", grey=4, colour=1)
    manifest = manifest_of(files)
    first = build(manifest, tmp_path / "cache")
    files[2].write_bytes(files[1].read_bytes())
    names = count_decodes(monkeypatch)
    second = build(manifest, tmp_path / "cache")
    assert second.path != first.path and names == []  # its bytes are those of another image that is decoded already
    np.testing.assert_array_equal(second.images[2], second.images[1])
    files[0].write_bytes(write_pictures(tmp_path / "others", grey=9)[8].read_bytes())
    third = build(manifest, tmp_path / "cache")
    assert names == ["000.png"]
    np.testing.assert_array_equal(third.images[1:], second.images[1:])


def test_left_out_images_are_not_decoded_again_nor_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_pictures(tmp_path / "images", grey=3, colour=1)
    manifest = manifest_of(files)
    build(manifest, tmp_path / "cache")
    names = count_decodes(monkeypatch)
    cache = build(manifest, tmp_path / "cache", exclude=["003.png", "000.png"])
    assert names == [] and cache.image_ids == ("001.png", "002.png")
    assert cache.images.shape == (2, 16, 16)  # the only colour image is left out: grey again
    np.testing.assert_array_equal(cache.images[1], pixels_of(files[2]))
    with pytest.raises(DataError, match=r"'000\.png' is not"):
        cache.rows(["000.png"])


def test_unreadable_file_costs_no_second_decoding_of_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = manifest_of([*write_pictures(tmp_path / "images", grey=3), None])
    names = count_decodes(monkeypatch)
    with pytest.raises(DataError, match="1 of 4 are not: missing3 has no file"):
        build(manifest, tmp_path / "cache")
    assert names == ["000.png", "001.png", "002.png"]
    assert build(manifest, tmp_path / "cache", exclude=["missing3"]).images.shape == (3, 16, 16)
    assert len(names) == 3


def test_exclude_must_name_images_and_leave_some(tmp_path: Path) -> None:
    manifest = manifest_of(write_pictures(tmp_path / "images", grey=1))
    with pytest.raises(DataError, match=r"'0\.png' is none"):
        build(manifest, tmp_path / "cache", exclude=["0.png"])
    with pytest.raises(DataError, match="all 1 are left out"):
        build(manifest, tmp_path / "cache", exclude=["000.png"])


def test_a_pickled_cache_is_its_path(tmp_path: Path) -> None:
    cache = build(manifest_of(write_pictures(tmp_path / "images", grey=30)), tmp_path / "cache")
    data = pickle.dumps(cache)
    assert len(data) < 1000
    again = pickle.loads(data)
    assert isinstance(again.images, np.memmap) and again.image_ids == cache.image_ids
    np.testing.assert_array_equal(again.images, cache.images)


@pytest.mark.parametrize("damage", ["no index", "cut images", "fewer ids", "foreign index"])
def test_a_damaged_cache_is_one_line_with_its_path(tmp_path: Path, damage: str) -> None:
    cache = build(manifest_of(write_pictures(tmp_path / "images", grey=2)), tmp_path / "cache")
    index = cache.path / "index.json"
    if damage == "no index":
        index.unlink()
    elif damage == "cut images":
        os.truncate(cache.path / "images.npy", 300)
    elif damage == "fewer ids":
        index.write_text('{"image_ids": ["000.png"], "colour_ids": []}')
    else:
        index.write_text("[]")
    with pytest.raises(DataError, match=r"delete it and prepare again") as caught:
        ImageCache.open(cache.path)
    assert str(cache.path) in str(caught.value) and "\n" not in str(caught.value)


def test_opening_the_cache_of_all_of_btxrd_costs_little_more_than_its_index(tmp_path: Path) -> None:
    ids = [f"IMG{number:06d}.jpeg" for number in range(1, 3747)]
    with partial.PartialCache(tmp_path / "full", dict.fromkeys(ids, "0" * 64), 8) as writer:
        for row in writer.missing():
            writer.put(row, np.zeros((8, 8), dtype=np.uint8))
        writer.finish()

    def seconds(call: Callable[[], object]) -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    index = tmp_path / "full" / "index.json"
    opened, parsed = zip(
        *(
            (seconds(lambda: ImageCache.open(tmp_path / "full")), seconds(lambda: json.loads(index.read_text())))
            for _ in range(40)
        ),
        strict=True,
    )
    ratio = min(opened) / min(parsed)  # a ratio: both on the same machine, in turn
    print(f"opened in {min(opened) * 1e3:.1f} ms, {ratio:.1f} x its index alone")
    assert ratio < 4


def test_the_data_layer_needs_no_torch() -> None:
    code = "import sys, tune_btxrd.data.cache.cache; sys.exit('torch' in sys.modules or 'ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def rewritten(path: Path, index: dict[str, object]) -> None:
    path.write_text(json.dumps(index))


@pytest.mark.parametrize("damage", ["inverted", "one bit", "ids reversed", "colour ids", "sums", "no sums", "other images"])
def test_bytes_are_believed_only_after_a_check(tmp_path: Path, damage: str) -> None:
    cache = build(manifest_of(write_pictures(tmp_path / "images", grey=3)), tmp_path / "cache")
    images, index = cache.path / "images.npy", cache.path / "index.json"
    pixels, written = np.load(images), json.loads(index.read_text())
    if damage == "inverted":
        np.save(images, 255 - pixels)
    elif damage == "one bit":
        pixels[2, 15, 15] ^= 4
        np.save(images, pixels)
    elif damage == "other images":
        np.save(images, pixels[::-1])
    elif damage == "no sums":
        rewritten(index, {name: value for name, value in written.items() if name != "check"})
    else:
        name = {"ids reversed": "image_ids", "colour ids": "colour_ids", "sums": "crc32"}[damage]
        rewritten(index, written | {name: written["image_ids"][:1] if name == "colour_ids" else [*written[name], 0][::-1]})
    with pytest.raises(DataError, match=r"not what was written.*delete it and prepare again|checksums for"):
        ImageCache.open(cache.path)


def test_pixels_are_compared_once_per_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = build(manifest_of(write_pictures(tmp_path / "images", grey=3)), tmp_path / "cache")
    read = []
    monkeypatch.setattr(checks, "pixel_sums", lambda images: read.append(1) or checks_sums(images))
    checks_sums = pixel_sums
    for _ in range(3):
        ImageCache.open(cache.path)
    assert not read, "building has compared them"
    os.utime(cache.path / "images.npy")
    for _ in range(3):
        ImageCache.open(cache.path)
    assert len(read) == 1


def test_every_block_has_its_own_sum(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (2 * ROWS_PER_SUM + 5, 4, 4), dtype=np.uint8)
    np.save(tmp_path / "a.npy", images)
    sums = pixel_sums(images)
    assert sums == [
        zlib.crc32(images[start : start + ROWS_PER_SUM].tobytes()) for start in (0, ROWS_PER_SUM, 2 * ROWS_PER_SUM)
    ]
    sums[1] ^= 1
    with pytest.raises(ValueError, match=f"images {ROWS_PER_SUM} to {2 * ROWS_PER_SUM - 1} are not what was written"):
        check_pixels(tmp_path / "a.npy", images, sums)


def test_a_cache_of_an_earlier_version_opens_and_is_decoded_again_when_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = manifest_of(write_pictures(tmp_path / "images", grey=3))
    cache = build(manifest, tmp_path / "cache")
    index = cache.path / "index.json"
    written = json.loads(index.read_text())
    rewritten(index, {name: written[name] for name in ("image_ids", "colour_ids", "sha256")})
    assert ImageCache.open(cache.path).image_ids == cache.image_ids
    names = count_decodes(monkeypatch)
    again = build(manifest, tmp_path / "cache")
    assert len(names) == 3 and again.path == cache.path and json.loads(index.read_text()) == written


def test_a_damaged_cache_lends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_pictures(tmp_path / "images", grey=3)
    cache = build(manifest_of(files), tmp_path / "cache")
    np.save(cache.path / "images.npy", 255 - np.load(cache.path / "images.npy"))
    names = count_decodes(monkeypatch)
    fewer = build(manifest_of(files[:2]), tmp_path / "cache")
    assert names == ["000.png", "001.png"]
    np.testing.assert_array_equal(fewer.images[0], pixels_of(files[0]))


def test_notes_of_pixels_survive_interruption_and_borrowing(tmp_path: Path) -> None:
    film = np.linspace(1000, 5000, 100 * 100).astype(np.uint16).reshape(100, 100)
    film[:10, :10] = 65_535
    (tmp_path / "images").mkdir()
    files = [tmp_path / "images" / name for name in ("a.png", "b.png", "c.png")]
    for file, pixels in zip(files, (film, film[::-1], np.minimum(film, 5000)), strict=True):
        Image.fromarray(pixels).save(file)
    first = build(manifest_of(files), tmp_path / "cache")
    assert set(first.notes) == {"a.png", "b.png"} and "without 1 % of its pixels" in first.notes["a.png"]
    assert set(build(manifest_of(files[1:]), tmp_path / "cache").notes) == {"b.png"}
    assert first.path.name.startswith("images-16px-v2-")
