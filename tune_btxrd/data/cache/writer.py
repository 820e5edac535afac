"""PartialCache: an image cache while it is being written. Nothing in it is lost on interruption, nothing of it is used.

Rows are written as plain file writes, not through a memory map: a full disk is then an OSError instead of a bus error.
"""

import errno
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

from tune_btxrd.data.cache.checks import check_pixels, index_bytes, pixel_sums, read_index
from tune_btxrd.errors import DataError
from tune_btxrd.files import aside

IMAGES, INDEX, STATES = "images.npy", "index.json", "states.bin"
SUMS = "crc32"  # the index's key for the checksums of the pixels
PARTIAL = ".partial"
TODO, GREY, COLOUR = 0, 1, 2  # state of a row
CRC = np.dtype("<u4")
BLOCK = 512  # bytes that `st_blocks` counts in
FLUSH_EVERY = 64  # rows; a power cut costs at most these
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class PartialCache:
    """Rows of the cache `path`, in `<path>.partial`, until `finish` renames it. Only the holder of the lock may open one.

    Of images the file is grey until the first picture with colour arrives, then it is written over as three channels; the
    finished bytes are the same in whatever order and in however many runs the rows came.

    Args:
        facts: what the index says beside its rows, e.g. the names of a volume's channels.
        volume: the shape (S, S, S, K) of every row, of volumes; None: images.
    """

    def __init__(
        self,
        path: Path,
        sha256_of: Mapping[str, str | None],
        image_size: int,
        *,
        facts: Mapping[str, object] | None = None,
        volume: tuple[int, ...] | None = None,
    ) -> None:
        self._path, self._folder, self._size = path, partial_folder(path), image_size
        self._facts, self._volume = dict(facts or {}), volume
        self._sha256_of = sha256_of
        self._states = np.zeros(len(sha256_of), dtype=np.uint8)
        self._sums = np.zeros(len(sha256_of), dtype=CRC)  # of each row's pixels; what a kill leaves is not believed unread
        self._unflushed = 0
        self._notes: dict[str, str] = {}
        self._folder.mkdir(exist_ok=True)
        self._channels = self._continue() or self._start(channels=1)
        self._offset = _data_offset(self._folder / IMAGES)
        self._file: BinaryIO = (self._folder / IMAGES).open("r+b")
        self._write_index()

    def __enter__(self) -> "PartialCache":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self._file.closed:
            self.flush()
            self._file.close()

    def missing(self) -> list[int]:
        """Rows that are not written yet."""
        return [int(row) for row in np.flatnonzero(self._states == TODO)]

    def borrow(self) -> None:
        """Takes over what other caches of the same decoder and size hold: after --exclude, only new files are decoded."""
        wanted: dict[str, list[int]] = {}
        for row, sha256 in enumerate(self._sha256_of.values()):
            if sha256 is not None and self._states[row] == TODO:
                wanted.setdefault(sha256, []).append(row)
        for other in sorted(self._path.parent.glob(f"{self._path.name.rpartition('-')[0]}-*")):
            if other == self._folder:
                continue
            for sha256, pixels, note in _held(other):
                for row in wanted.pop(sha256, ()):
                    self.put(row, pixels, note=note)

    def put(self, row: int, pixels: np.ndarray, *, note: str = "") -> None:
        """Writes (S, S), (S, S, 3) or (S, S, S, K) pixels into `row`."""
        if note:
            self._notes[list(self._sha256_of)[row]] = note
        if pixels.ndim == 3 and self._channels == 1:
            self._widen()
        self._write(row, pixels)
        self._states[row] = COLOUR if pixels.ndim == 3 else GREY
        self._unflushed += 1
        if self._unflushed >= FLUSH_EVERY:
            self.flush()

    def flush(self) -> None:
        """Rows first, then the states that say that they are there: what a state promises is on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        if self._notes:
            self._write_index()
        _write(self._folder / STATES, self._states.tobytes() + self._sums.tobytes())
        self._unflushed = 0

    def finish(self) -> None:
        """All rows are written: the folder gets its index and its final name, in one step."""
        assert not self.missing()
        self.flush()
        self._file.close()
        self._write_index(sums=pixel_sums(np.load(self._folder / IMAGES, mmap_mode="r")))
        (self._folder / STATES).unlink()
        if self._path.is_dir():  # one without checksums
            shutil.rmtree(self._path)
        self._folder.rename(self._path)

    def _write_index(self, *, sums: list[int] | None = None) -> None:
        image_ids = list(self._sha256_of)
        colour_ids = [image_ids[row] for row in np.flatnonzero(self._states == COLOUR)]
        notes = {image_id: self._notes[image_id] for image_id in image_ids if image_id in self._notes}
        index = {"image_ids": image_ids, "colour_ids": colour_ids, "sha256": list(self._sha256_of.values()), "notes": notes}
        index |= self._facts
        _write(self._folder / INDEX, index_bytes(index if sums is None else index | {SUMS: sums}))

    def _continue(self) -> int | None:
        """Channels of the rows that an interrupted run left, their states read; None where there are none to use."""
        try:
            images = np.load(self._folder / IMAGES, mmap_mode="r")
            states, sums = _written_rows(self._folder, images)
        except (OSError, ValueError):
            return None  # killed before the first flush, or damaged
        channels = {self._shape(3): 3, self._shape(1): 1}.get(images.shape)
        if channels is None:
            return None
        try:
            self._notes = dict(read_index(self._folder / INDEX).get("notes", {}))
        except (OSError, ValueError):
            return None
        self._states[:], self._sums[:] = states, sums
        return channels

    def _start(self, *, channels: int) -> int:
        for name in (STATES, IMAGES):  # in this order: states never describe other images
            (self._folder / name).unlink(missing_ok=True)
        self._check_space(channels)
        np.lib.format.open_memmap(self._folder / IMAGES, mode="w+", dtype=np.uint8, shape=self._shape(channels))
        return channels

    def _widen(self) -> None:
        """Grey file -> colour file; the rows written so far become three equal channels."""
        self.flush()
        self._check_space(3)
        wide = self._folder / "wide.npy"
        np.lib.format.open_memmap(wide, mode="w+", dtype=np.uint8, shape=self._shape(3))
        grey = np.load(self._folder / IMAGES, mmap_mode="r")
        self._file.close()
        self._file, self._offset, self._channels = wide.open("r+b"), _data_offset(wide), 3
        for row in np.flatnonzero(self._states != TODO):
            self._write(int(row), grey[row])
        self._file.flush()
        os.fsync(self._file.fileno())
        wide.replace(self._folder / IMAGES)

    def _write(self, row: int, pixels: np.ndarray) -> None:
        if pixels.ndim == 2 and self._channels == 3:
            pixels = np.repeat(pixels[..., None], 3, axis=-1)
        assert pixels.dtype == np.uint8 and pixels.shape == self._shape(self._channels)[1:]
        self._file.seek(self._offset + row * pixels.nbytes)
        data = pixels.tobytes()
        self._sums[row] = zlib.crc32(data)
        self._file.write(data)

    def _shape(self, channels: int) -> tuple[int, ...]:
        if self._volume is not None:
            return (len(self._states), *self._volume)
        shape = (len(self._states), self._size, self._size)
        return shape if channels == 1 else (*shape, channels)

    def _check_space(self, channels: int) -> None:
        needed = int(np.prod(self._shape(channels), dtype=np.int64))
        free = shutil.disk_usage(self._folder).free
        if free < needed:
            raise OSError(errno.ENOSPC, f"{needed / 1e9:.3f} GB needed, {free / 1e9:.3f} GB free")


def require_space(paths: Mapping[int, Path], pixels: Mapping[int, int]) -> None:
    """Raises OSError where caches of several sizes that are to be written do not fit on their disk together.

    Args:
        paths: size -> cache; what its partial folder holds already is there. All lie in one folder.
        pixels: size -> bytes.
    """
    files = [partial_folder(path) / IMAGES for path in paths.values()]
    there = sum(file.stat().st_blocks * BLOCK for file in files if file.is_file())
    missing, free = sum(pixels.values()) - there, shutil.disk_usage(next(iter(paths.values())).parent).free
    if free < missing:
        sizes = " and ".join(map(str, paths))
        raise OSError(errno.ENOSPC, f"{missing / 1e9:.3f} GB needed at {sizes} px, {free / 1e9:.3f} GB free")


def partial_folder(path: Path) -> Path:
    """Where the cache `path` is while it is being written."""
    return path.with_name(f"{path.name}{PARTIAL}")


def _held(folder: Path) -> Iterator[tuple[str, np.ndarray, str]]:
    """SHA-256, pixels and note of every image that the complete or partial cache in `folder` holds.

    None where it is neither, or its pixels are not (or not known to be) what was written.
    """
    try:
        index = read_index(folder / INDEX)
        images = np.load(folder / IMAGES, mmap_mode="r")
        if folder.suffix == PARTIAL:
            states, _ = _written_rows(folder, images)
        else:
            colour_ids = set(index["colour_ids"])
            states = np.array([COLOUR if image_id in colour_ids else GREY for image_id in index["image_ids"]])
            check_pixels(folder / IMAGES, images, index[SUMS])
    except (OSError, ValueError, KeyError, TypeError):
        return
    notes = index.get("notes", {})
    if len(index["sha256"]) != len(states):  # damaged
        return
    for image_id, sha256, state, pixels in zip(index["image_ids"], index["sha256"], states, images, strict=True):
        if state != TODO:
            yield sha256, pixels[..., 0] if state == GREY and pixels.ndim == 3 else pixels, notes.get(image_id, "")


def _written_rows(folder: Path, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """State and CRC-32 of every row of a partial cache; a row whose pixels are not what was noted is TODO.

    Raises:
        OSError, ValueError: nothing is noted, or of another number of rows.
    """
    states, sums = _noted(folder)
    if len(states) != len(images):
        raise ValueError(f"{len(states)} rows are noted, {len(images)} are there")
    checked = states.copy()
    for row in np.flatnonzero(states != TODO):
        if zlib.crc32(np.ascontiguousarray(images[row]).data) != sums[row]:
            checked[row] = TODO
    return checked, sums


def _noted(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """What a partial cache notes of its rows: states, CRC-32s."""
    content = (folder / STATES).read_bytes()
    rows = len(content) // (1 + CRC.itemsize)
    if len(content) != rows * (1 + CRC.itemsize):
        raise ValueError(f"{STATES} is cut off")
    return np.frombuffer(content[:rows], dtype=np.uint8), np.frombuffer(content[rows:], dtype=CRC)


def count_done(path: Path) -> int:
    """Rows of the cache `path` that are safely written, as its writer last noted; 0 where none is noted."""
    try:
        return int(np.count_nonzero(_noted(partial_folder(path))[0] != TODO))
    except (OSError, ValueError):
        return 0


@contextmanager
def user_mistakes(cache_dir: Path) -> Iterator[None]:
    """Turns what the system says about a full or forbidden `cache_dir` into one line.

    Raises:
        DataError: in place of that OSError; others pass.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise DataError(
                f"The cache must fit on the disk, but {cache_dir} is full ({error.strerror}): free space or choose another "
                "folder with --cache DIR; what is decoded so far is kept."
            ) from error
        if isinstance(error, PermissionError | FileExistsError | NotADirectoryError) or error.errno == errno.EROFS:
            raise DataError(
                f"The cache folder must be writable, but {cache_dir} is not ({error.strerror}): choose one with --cache DIR."
            ) from error
        raise


def _data_offset(path: Path) -> int:
    """Bytes before the pixels of a .npy file."""
    return int(np.load(path, mmap_mode="r").offset)


def _write(path: Path, data: bytes) -> None:
    with aside(path) as part:
        part.write_bytes(data)
