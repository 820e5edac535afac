"""Files that are no usable picture: each is refused with its reason, quickly, and all of them at once."""

import hashlib
import os
import struct
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.images import hashes_of, manifest_of
from tune_btxrd.data.cache import decode
from tune_btxrd.data.cache.cache import build_cache
from tune_btxrd.data.cache.decode import UnreadableError, decode_image
from tune_btxrd.data.readers.spreadsheet import read_ids
from tune_btxrd.errors import DataError


def jpeg(path: Path, *, width: int = 64, height: int = 64) -> Path:
    rng = np.random.default_rng(width)
    Image.fromarray(rng.integers(0, 256, (height, width), dtype=np.uint8)).save(path, "JPEG")
    return path


def png_bomb(path: Path, *, side: int) -> Path:
    """A few bytes that claim side x side pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    end = chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + end)
    return path


def reason(path: Path) -> str:
    with pytest.raises(UnreadableError) as caught:
        decode_image(path, 32)
    assert "\n" not in str(caught.value)
    return caught.value.reason


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.jpeg").touch()
    assert reason(tmp_path / "a.jpeg") == "is empty (0 bytes)"


def test_zip_renamed_to_jpeg(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.jpeg", "w") as archive:
        archive.writestr("x.txt", "hello")
    assert reason(tmp_path / "a.jpeg") == r"is not an image (begins with b'PK\x03\x04')"


def test_text_and_postscript_are_not_opened(tmp_path: Path) -> None:
    """Pillow would start Ghostscript for a PostScript file."""
    (tmp_path / "a.jpeg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    assert reason(tmp_path / "a.jpeg") == "is not an image (begins with b'%!PS')"


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_truncated_jpeg(tmp_path: Path, share: float) -> None:
    path = jpeg(tmp_path / "a.jpeg", width=640, height=640)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert reason(path).startswith("is damaged (OSError: ")


def test_truncated_header(tmp_path: Path) -> None:
    path = jpeg(tmp_path / "a.jpeg")
    path.write_bytes(path.read_bytes()[:20])
    assert "is not an image" in reason(path) or "is damaged" in reason(path)


@pytest.mark.parametrize("side", [9_000, 12_000, 100_000])
def test_decompression_bombs_are_refused_by_their_header(tmp_path: Path, side: int) -> None:
    """Below, between and above Pillow's own two limits."""
    assert reason(png_bomb(tmp_path / "a.png", side=side)).startswith("claims too many pixels (")


def test_the_largest_radiograph_is_far_from_the_limit() -> None:
    assert decode.MAX_PIXELS > 6 * 2768 * 4250


def test_bomb_of_the_limit_is_damaged_not_huge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "MAX_PIXELS", 100)
    assert reason(jpeg(tmp_path / "a.jpeg", width=11, height=10)) == "claims too many pixels (11 x 10, limit 100)"
    assert decode_image(jpeg(tmp_path / "b.jpeg", width=10, height=10), 10).shape == (10, 10)


def test_enormous_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.jpeg").open("wb") as file:
        file.truncate(2**40)  # a hole: takes no room
    assert reason(tmp_path / "a.jpeg") == "is too large (1048576 MiB, limit 512 MiB)"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpeg")
    assert reason(tmp_path / "a.jpeg") == "is not a regular file"


def test_folder_and_missing_file(tmp_path: Path) -> None:
    (tmp_path / "a.jpeg").mkdir()
    assert reason(tmp_path / "a.jpeg") == "is not a regular file"
    assert reason(tmp_path / "b.jpeg") == "cannot be read (No such file or directory)"


def test_several_pictures_in_one_file(tmp_path: Path) -> None:
    frames = [Image.new("L", (8, 8), value) for value in (0, 100, 200)]
    frames[0].save(tmp_path / "a.tiff", save_all=True, append_images=frames[1:])
    assert reason(tmp_path / "a.tiff") == "holds 3 pictures instead of one"


def test_pixels_that_are_no_numbers(tmp_path: Path) -> None:
    pixels = np.ones((8, 8), dtype=np.float32)
    pixels[3, 3] = np.nan
    Image.fromarray(pixels).save(tmp_path / "a.tiff")
    assert reason(tmp_path / "a.tiff") == "is damaged (ValueError: pixels that are not finite numbers)"


def test_any_damaged_byte_is_a_picture_or_a_reason(tmp_path: Path) -> None:
    """Never another exception, never a hang."""
    rng = np.random.default_rng(0)
    refused = 0
    for suffix in ("jpeg", "png", "tiff", "gif"):
        picture = Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8))
        picture.save(tmp_path / f"good.{suffix}")
        good = (tmp_path / f"good.{suffix}").read_bytes()
        for _ in range(60):
            bad = bytearray(good)
            bad[rng.integers(0, len(bad))] = rng.integers(0, 256)
            path = tmp_path / f"bad.{suffix}"
            path.write_bytes(bytes(bad))
            try:
                assert decode_image(path, 16).shape[:2] == (16, 16)
            except UnreadableError:
                refused += 1
    assert refused > 20


def test_all_unreadable_files_are_listed_at_once(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(20):
        jpeg(images / f"good{number:02d}.jpeg")
    for number in range(12):
        (images / f"bad{number:02d}.jpeg").write_bytes(b"" if number else b"PK\x03\x04")
    manifest = manifest_of(sorted(images.iterdir()))
    with pytest.raises(DataError) as caught:
        build_cache(manifest, image_size=32, cache_dir=tmp_path / "cache", hashes=hashes_of(manifest))
    text = str(caught.value)
    assert "\n" not in text
    assert "12 of 32 are not: bad00.jpeg is not an image" in text
    assert "bad09.jpeg is empty (0 bytes); and 2 more" in text and "bad10" not in text
    assert "--exclude FILE" in text
    unreadable = read_ids(Path(text.rpartition("FILE: ")[2].removesuffix(" names them all.")))
    assert unreadable == tuple(f"bad{number:02d}.jpeg" for number in range(12))
    left_out = build_cache(
        manifest,
        image_size=32,
        cache_dir=tmp_path / "cache",
        hashes=hashes_of(manifest),
        exclude=unreadable,
    )
    assert left_out.image_ids == tuple(f"good{number:02d}.jpeg" for number in range(20))


def test_a_bomb_among_threads_is_listed_without_a_warning(tmp_path: Path) -> None:
    good, bomb = jpeg(tmp_path / "a.jpeg"), png_bomb(tmp_path / "b.png", side=12_000)
    manifest = manifest_of([good, bomb])
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        with pytest.raises(DataError, match=r"1 of 2 are not: b\.png claims too many pixels"):
            build_cache(manifest, image_size=32, cache_dir=tmp_path / "cache", hashes=hashes_of(manifest))
    assert shown == []


def test_a_file_that_changes_after_hashing_is_not_cached(tmp_path: Path) -> None:
    manifest = manifest_of([jpeg(tmp_path / "a.jpeg")])
    hashes = hashes_of(manifest)
    jpeg(tmp_path / "a.jpeg", width=65)
    assert hashes["a.jpeg"] != hashlib.sha256((tmp_path / "a.jpeg").read_bytes()).hexdigest()
    with pytest.raises(DataError, match=r"a\.jpeg has changed since it was hashed"):
        build_cache(manifest, image_size=32, cache_dir=tmp_path / "cache", hashes=hashes)
