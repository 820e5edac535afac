"""ImageCache: every image decoded once into a read-only uint8 memory map that all trials of a node share.

<cache_dir>/<name>/            a folder that exists is complete; its name is decided by what decides its bytes
    images.npy                 (N, S, S) uint8 where all images are grey, else (N, S, S, 3); of volumes (N, S, S, S, K)
    index.json                 image ids and SHA-256 in row order, ids that hold colour, notes, checksums (`checks`)
<cache_dir>/<name>.partial/    the same while being written (`writer`); the next run goes on from here
<cache_dir>/<name>.lock        held by the one process that writes
"""

import hashlib
import json
import multiprocessing
import os
import warnings
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import PIL
from filelock import FileLock, Timeout
from PIL import Image, features

from tune_btxrd.data.cache.checks import check_pixels, read_index
from tune_btxrd.data.cache.decode import Decoded, UnreadableError, decode_sizes, pixel_version
from tune_btxrd.data.cache.dicom_files import VERSION as DICOM_VERSION
from tune_btxrd.data.cache.dicom_files import dicom_versions
from tune_btxrd.data.cache.dicom_picture import Window
from tune_btxrd.data.cache.volumes import VolumeJob, volume_cache_name
from tune_btxrd.data.cache.writer import IMAGES, INDEX, SUMS, PartialCache, count_done, require_space, user_mistakes
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.errors import DataError

Progress = Callable[[int, int], None]
"""Called with (images done, images in all)."""

ALONE = 8  # up to so many volumes are decoded without processes, whose start would take longer
MOST_PROCESSES = 16  # each holds a patient's channels as float64
SHOWN = 10  # unreadable files named in the message; all of them are in the file it names


@dataclass(frozen=True)
class ImageCache:
    """The decoded images of a dataset, opened read-only. Pickled as its path: a worker maps the same pages.

    Attributes:
        path: the folder.
        image_ids: length N, in row order.
        images: (N, S, S) or (N, S, S, 3) uint8 memory map, read-only; of volumes (N, S, S, S, K).
        colour_ids: the images that hold colour; empty for a grey cache.
        notes: image id -> what to say of how its pixels were made, for the few of which there is something to say.
        channels: of volumes: names of the K channels in order; empty for images.
        spacing: of volumes: mm to which they were resampled; None: as they were.
        window: of DICOM images: center and width where the view is not the files' own.
    """

    path: Path
    image_ids: tuple[str, ...]
    images: np.ndarray
    colour_ids: tuple[str, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)
    channels: tuple[str, ...] = ()
    spacing: float | None = None
    window: Window | None = None

    @classmethod
    def open(cls, path: Path) -> "ImageCache":
        """The cache in `path`: maps the file, decodes nothing, compares the pixels with their checksums once per process.

        Raises:
            DataError: there is no complete cache in `path`, or it does not hold what was written.
        """
        try:
            index = read_index(path / INDEX)
            images = np.load(path / IMAGES, mmap_mode="r")
            image_ids, colour_ids = tuple(index["image_ids"]), tuple(index["colour_ids"])
            if SUMS in index:  # caches of version 0.1.0 have none until they are prepared again
                check_pixels(path / IMAGES, images, index[SUMS])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"A cache must be complete, but {path} is not ({error}): delete it and prepare again."
            ) from error
        if len(images) != len(image_ids):
            raise DataError(
                f"A cache must hold its ids, but {path} holds {len(images)} images: delete it and prepare again."
            )
        return cls(
            path,
            image_ids,
            images,
            colour_ids=colour_ids,
            notes=dict(index.get("notes", {})),
            channels=tuple(index.get("channels", ())),
            spacing=index.get("spacing"),
            window=_as_window(index.get("window")),
        )

    def __reduce__(self) -> tuple[Callable[[Path], "ImageCache"], tuple[Path]]:
        return ImageCache.open, (self.path,)

    @property
    def image_size(self) -> int:
        """Side of the square images or cubes, px."""
        return int(self.images.shape[1])

    def rows(self, image_ids: Sequence[str]) -> np.ndarray:
        """int64, the row of each id.

        Raises:
            DataError: an id is not in the cache.
        """
        if unknown := next((image_id for image_id in image_ids if image_id not in self._row_of), None):
            raise DataError(f"Every image of a split must be in the cache, but {unknown!r} is not: prepare again.")
        return np.array([self._row_of[image_id] for image_id in image_ids], dtype=np.int64)

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {image_id: row for row, image_id in enumerate(self.image_ids)}


def build_cache(
    manifest: Manifest,
    *,
    image_size: int,
    cache_dir: Path,
    hashes: Mapping[str, str],
    exclude: Collection[str] = (),
    spacing: float | None = None,
    window: Window | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
) -> ImageCache:
    """`build_caches` for one size."""
    return build_caches(
        manifest,
        image_sizes=(image_size,),
        cache_dir=cache_dir,
        hashes=hashes,
        exclude=exclude,
        spacing=spacing,
        window=window,
        progress=progress,
        workers=workers,
    )[image_size]


def build_caches(
    manifest: Manifest,
    *,
    image_sizes: Sequence[int],
    cache_dir: Path,
    hashes: Mapping[str, str],
    exclude: Collection[str] = (),
    spacing: float | None = None,
    window: Window | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
) -> dict[int, ImageCache]:
    """Per size the cache of all images of `manifest` without `exclude`; decodes what is not there yet, in parallel.

    A file that several sizes lack is read and decoded once for all of them; each size's bytes are those that it has alone.
    `hashes` is the SHA-256 of each file by image id. An interrupted build goes on where it was; of two processes
    building the same cache one decodes and the other waits. `workers` (default: one per core) are threads: Pillow
    decodes without holding the interpreter lock; of many volumes processes. `spacing`: mm to which volumes are resampled;
    `window`: center and width of the view of DICOM images, instead of their own.
    Source of the scaling rule: `decode.py`, of volumes `volumes.py`.

    Raises:
        DataError: files are unreadable (all are listed), the disk is full, or `cache_dir` cannot be written.
    """
    _check_exclude(manifest, exclude)
    jobs = [job for job in _jobs(manifest, hashes, spacing, window=window) if job.image_id not in exclude]
    if not jobs:
        raise DataError(f"A cache must hold images, but all {len(manifest)} are left out: shorten the list of --exclude.")
    sizes = sorted(set(image_sizes))
    paths = {size: cache_dir / _name(manifest, jobs, size, spacing, window=window) for size in sizes}
    facts: dict[str, object] = {} if window is None else {"window": window}
    facts |= {"channels": list(manifest.channels), "spacing": spacing} if manifest.channels else {}
    with user_mistakes(cache_dir), ExitStack() as locks:
        if missing := [size for size in sizes if not _is_finished(paths[size])]:
            cache_dir.mkdir(parents=True, exist_ok=True)
            for size in missing:  # from the smallest on, in every process: none waits for one that waits for it
                locks.enter_context(_only_writer(paths[size], len(jobs), progress))
            left = {size: paths[size] for size in missing if not _is_finished(paths[size])}
            if left:  # else another process finished them while this one waited
                _build(left, jobs, progress, workers or usable_cores(), facts=facts)
    if progress is not None:
        progress(len(jobs), len(jobs))
    return {size: ImageCache.open(paths[size]) for size in dict.fromkeys(image_sizes)}


def _is_finished(path: Path) -> bool:
    """Whether there is a cache in `path` that needs no decoding: not one of version 0.1.0, which has no checksums."""
    if not path.is_dir():
        return False
    try:
        return SUMS in read_index(path / INDEX)
    except (OSError, ValueError):
        return True  # damaged: opening it says so


def cache_name(
    image_size: int, files: Sequence[tuple[str, str | None]], *, version: int = 1, window: Window | None = None
) -> str:
    """The folder name decided by what decides the bytes: size, decoder versions, ids and SHA-256 in order.

    `version` is the highest `pixel_version` of the files; of DICOM files the window counts too.
    """
    decoder = f"v{version}-pillow{PIL.__version__}-jpeg{features.version('libjpeg_turbo') or features.version('jpg')}"
    if version >= DICOM_VERSION:
        view = "own" if window is None else "_".join(map(repr, window))
        decoder += f"-{dicom_versions()}-{view}"
    return f"images-{image_size}px-{decoder}-{hashlib.sha256(json.dumps(files).encode()).hexdigest()[:16]}"


def usable_cores() -> int:
    """Cores that this process may use (fewer than the machine has, where it is confined)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class _Job:
    image_id: str
    file: Path | None
    sha256: str | None
    window: Window | None = None

    def decode(self, image_sizes: Sequence[int]) -> "tuple[Decoded, ...] | str":
        """The picture at each size, or the reason why there is none."""
        if self.file is None or self.sha256 is None:
            return "has no file"
        try:
            return decode_sizes(self.file, image_sizes, sha256=self.sha256, window=self.window)
        except UnreadableError as error:
            return error.reason


def _jobs(
    manifest: Manifest, hashes: Mapping[str, str], spacing: float | None, *, window: Window | None
) -> "list[_Job] | list[VolumeJob]":
    if not manifest.channels:
        files = zip(manifest.image_ids, manifest.files, strict=True)
        return [_Job(image_id, file, hashes.get(image_id), window) for image_id, file in files]
    return [
        VolumeJob(image_id, files, hashes.get(image_id), manifest.channels, spacing)
        for image_id, files in zip(manifest.image_ids, manifest.volumes, strict=True)
    ]


def _name(
    manifest: Manifest,
    jobs: "Sequence[_Job | VolumeJob]",
    image_size: int,
    spacing: float | None,
    *,
    window: Window | None,
) -> str:
    hashed = [(job.image_id, job.sha256) for job in jobs]
    if not manifest.channels:
        version = max((pixel_version(job.file) for job in jobs if isinstance(job, _Job) and job.file is not None), default=1)
        return cache_name(image_size, hashed, version=version, window=window)
    dicom = any(file is not None and file.is_dir() for files in manifest.volumes for file in files)
    return volume_cache_name(image_size, hashed, channels=manifest.channels, spacing=spacing, dicom=dicom)


def _as_window(values: Sequence[float] | None) -> Window | None:
    return None if values is None else (float(values[0]), float(values[1]))


def _check_exclude(manifest: Manifest, exclude: Collection[str]) -> None:
    if unknown := sorted(set(exclude) - set(manifest.image_ids)):
        raise DataError(f"--exclude must name images of the dataset, but {unknown[0]!r} is none: correct or remove it.")


def _only_writer(path: Path, total: int, progress: Progress | None) -> AbstractContextManager[object]:
    """The lock of the cache `path`, acquired; while another process holds it, its progress is shown."""
    lock = FileLock(path.with_name(f"{path.name}.lock"))
    while True:
        try:
            return lock.acquire(timeout=0.5)
        except Timeout:
            if progress is not None:
                progress(count_done(path), total)


def _build(
    paths: Mapping[int, Path],
    jobs: "Sequence[_Job | VolumeJob]",
    progress: Progress | None,
    workers: int,
    *,
    facts: Mapping[str, object],
) -> None:
    """Writes the caches of some sizes, whose locks are held, side by side."""
    if len(paths) > 1:
        require_space(paths, {size: len(jobs) * int(np.prod(_shape(jobs[0], size))) for size in paths})
    unreadable: dict[str, str] = {}
    with ExitStack() as files:
        partials = {size: files.enter_context(_partial(path, jobs, size, facts)) for size, path in paths.items()}
        wanted: dict[int, list[int]] = {}  # row -> the sizes that lack it
        for size, partial in partials.items():
            partial.borrow()
            for row in partial.missing():
                wanted.setdefault(row, []).append(size)
        done = len(jobs) - len(wanted)
        for row, found in _decoded(jobs, dict(sorted(wanted.items())), workers):
            if isinstance(found, str):
                unreadable[jobs[row].image_id] = found
            else:
                for size, picture in zip(wanted[row], found, strict=True):
                    partials[size].put(row, picture.pixels, note=picture.note)
            done += 1
            if progress is not None:
                progress(done, len(jobs))
        if unreadable:
            raise _unreadable_error(next(iter(paths.values())), unreadable, len(jobs))
        for partial in partials.values():
            partial.finish()


def _partial(path: Path, jobs: "Sequence[_Job | VolumeJob]", image_size: int, facts: Mapping[str, object]) -> PartialCache:
    volume = _shape(jobs[0], image_size) if isinstance(jobs[0], VolumeJob) else None
    return PartialCache(path, {job.image_id: job.sha256 for job in jobs}, image_size, facts=facts, volume=volume)


def _shape(job: "_Job | VolumeJob", image_size: int) -> tuple[int, ...]:
    """Of a volume's cube, or a grey picture."""
    return (image_size,) * 3 + (len(job.channels),) if isinstance(job, VolumeJob) else (image_size,) * 2


def _decoded(
    jobs: "Sequence[_Job | VolumeJob]", rows: Mapping[int, Sequence[int]], workers: int
) -> Iterator[tuple[int, "tuple[Decoded, ...] | str"]]:
    """(row, picture per size or reason) in order. Few images are ahead of the reader, so memory does not grow with their
    number.

    Args:
        rows: row -> sizes.
    """
    pending: deque[tuple[int, Future[tuple[Decoded, ...] | str]]] = deque()
    with warnings.catch_warnings(), _pool(jobs, len(rows), workers) as pool, _ended_workers():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for row, sizes in rows.items():
            pending.append((row, pool.submit(jobs[row].decode, tuple(sizes))))
            if len(pending) >= 4 * workers:
                first, future = pending.popleft()
                yield first, future.result()
        for row, future in pending:
            yield row, future.result()


def _pool(jobs: "Sequence[_Job | VolumeJob]", rows: int, workers: int) -> Executor:
    """Threads; for many volumes processes, since turning and resampling hold the interpreter lock."""
    if isinstance(jobs[0], VolumeJob) and rows > ALONE and workers > 1:
        return ProcessPoolExecutor(min(workers, MOST_PROCESSES), mp_context=multiprocessing.get_context("spawn"))
    return ThreadPoolExecutor(workers)


@contextmanager
def _ended_workers() -> Iterator[None]:
    """Raises DataError in place of what a pool says whose process was killed."""
    try:
        yield
    except BrokenProcessPool as error:
        raise DataError(
            "Decoding needs its processes, but the system ended one, most likely for lack of memory: type the same again "
            "with fewer programs open; what is decoded so far is kept."
        ) from error


def _unreadable_error(path: Path, unreadable: Mapping[str, str], total: int) -> DataError:
    """All of them in a file that --exclude takes as it is, the first in the message."""
    listing = path.with_name(f"{path.name}.unreadable.txt")
    sentences = [f"{image_id} {reason}" for image_id, reason in unreadable.items()]
    lines = [f"# {sentence}\n{image_id}\n" for sentence, image_id in zip(sentences, unreadable, strict=True)]
    listing.write_text("".join(lines), encoding="utf-8")
    more = f"; and {len(unreadable) - SHOWN} more" if len(unreadable) > SHOWN else ""
    return DataError(
        f"Every image must be readable, but {len(unreadable)} of {total} are not: {'; '.join(sentences[:SHOWN])}{more}. "
        f"Replace them, or leave them out with --exclude FILE: {listing} names them all."
    )
