"""Checksums of a cache: of its index and of its pixels, written with them and compared once per process."""

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

ROWS_PER_SUM = 256  # images behind one checksum
WORKERS = 4  # threads; zlib runs without the interpreter lock
CHECK = b', "check": '  # key of the index's own checksum, always its last

_checked: set[tuple[int, ...]] = set()  # device, inode, mtime and size of the files whose pixels this process has compared


def pixel_sums(images: np.ndarray) -> list[int]:
    """CRC-32 of the pixels, one per `ROWS_PER_SUM` images."""
    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(lambda block: zlib.crc32(np.ascontiguousarray(block).data), _blocks(images)))


def _blocks(images: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(images), ROWS_PER_SUM):
        yield images[start : start + ROWS_PER_SUM]


def check_pixels(path: Path, images: np.ndarray, sums: Sequence[int]) -> None:
    """Compares the pixels that `path` holds with their checksums, once per process and file.

    Raises:
        ValueError: naming the rows that differ.
    """
    status = path.stat()
    key = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
    if key in _checked:
        return
    found = pixel_sums(images)
    if len(found) != len(sums):
        raise ValueError(f"{len(sums)} checksums for {len(found)} blocks of images")
    if wrong := [block for block, pair in enumerate(zip(found, sums, strict=True)) if pair[0] != pair[1]]:
        first = wrong[0] * ROWS_PER_SUM
        raise ValueError(f"images {first} to {min(first + ROWS_PER_SUM, len(images)) - 1} are not what was written")
    _checked.add(key)


def index_bytes(index: Mapping[str, object]) -> bytes:
    """The index as JSON, its own checksum at its end."""
    text = json.dumps(index).encode()
    return text[:-1] + CHECK + str(zlib.crc32(text)).encode() + b"}"


def read_index(path: Path) -> dict[str, Any]:
    """The index in a file; one that was written before there were checksums holds none of them.

    Raises:
        OSError: it cannot be read. ValueError: it is no index, or not what was written.
    """
    data = path.read_bytes()
    head, found, check = data.rpartition(CHECK)
    if found and check != str(zlib.crc32(head + b"}")).encode() + b"}":
        raise ValueError(f"{path.name} is not what was written")
    index = json.loads(data)
    if not isinstance(index, dict) or (not found and "crc32" in index):
        raise ValueError(f"{path.name} is not what was written")
    return index
