"""File hashes: SHA-256 of every image, remembered per path, size and mtime; they name the cache and find duplicates."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers.names import examples
from tune_btxrd.errors import DataError
from tune_btxrd.files import write_whole

BLOCK = 64  # files that wait for a thread at most
Known = dict[str, list[int | str]]  # path -> [size in bytes, mtime in ns, sha256]


def file_hashes(
    manifest: Manifest, *, cache_dir: Path, progress: Callable[[int, int], None] | None = None
) -> dict[str, str]:
    """Image id -> sha256 of its file, for every image that has a file.

    Only files that are new or whose size or mtime changed are read. What is known lies in `cache_dir`, one file per
    dataset folder; an interrupted call keeps what it has read.

    Raises:
        DataError: files that cannot be read, all in one line; a `cache_dir` that cannot be written to.
    """
    store = cache_dir / f"hashes-{hashlib.sha256(os.fsencode(manifest.root)).hexdigest()[:16]}.json"
    known = _read_known(store)
    files = {i: file for i, file in zip(manifest.image_ids, manifest.files, strict=True) if file is not None}
    stats, unreadable = _stats(files)
    stale = [i for i, (size, mtime) in stats.items() if known.get(str(files[i]), [])[:2] != [size, mtime]]
    try:
        for done, (image_id, result) in enumerate(_hash_all({i: files[i] for i in stale}), start=1):
            if isinstance(result, OSError):
                unreadable.append(f"{image_id}: {result.strerror}")
            else:
                known[str(files[image_id])] = [*stats[image_id], result]
            if progress is not None:
                progress(len(files) - len(stale) + done, len(files))
    finally:
        if stale:
            current = {str(file) for file in files.values()}
            write_whole(store, json.dumps({path: entry for path, entry in known.items() if path in current}))
    if unreadable:
        raise DataError(
            f"Every image file must be readable, but {len(unreadable)} of {len(files)} are not ({examples(unreadable)}): "
            "mend them, or leave them out with --exclude FILE."
        )
    return {image_id: str(known[str(file)][2]) for image_id, file in files.items()}


def _read_known(store: Path) -> Known:
    try:
        known = json.loads(store.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # no memory, or a damaged one: the files themselves are read, and writing will tell what is wrong
    return known if isinstance(known, dict) else {}


def _stats(files: dict[str, Path]) -> tuple[dict[str, list[int]], list[str]]:
    stats, unreadable = {}, []
    for image_id, file in files.items():
        try:
            stat = file.stat()
            stats[image_id] = [stat.st_size, stat.st_mtime_ns]
        except OSError as error:
            unreadable.append(f"{image_id}: {error.strerror}")
    return stats, unreadable


def _hash_all(files: dict[str, Path]) -> Iterator[tuple[str, str | OSError]]:
    """Each id with its file's sha256, or with why it cannot be read; several files at a time.

    Block by block, so that memory does not grow with the number of files that wait.
    """
    ids = list(files)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(ids), BLOCK):
            block = ids[start : start + BLOCK]
            yield from zip(block, pool.map(_hash, (files[image_id] for image_id in block)), strict=True)


def _hash(file: Path) -> str | OSError:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        return error
