"""File hashes: SHA-256 of each sample's files, remembered per path, size and mtime; they name the cache, find duplicates.

The hash of an image is that of its file; of a volume that of its channels' hashes in order.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers.file_rules import is_no_data
from tune_btxrd.data.readers.names import examples
from tune_btxrd.errors import DataError
from tune_btxrd.files import file_sha256, require_writable, write_whole

BLOCK = 64  # files that wait for a thread at most
Parts = Callable[[Path], list[Path]]  # the files that one path stands for
Known = dict[str, list[int | str]]  # path -> [size in bytes, mtime in ns, sha256]


def file_hashes(
    manifest: Manifest, *, cache_dir: Path, progress: Callable[[int, int], None] | None = None
) -> dict[str, str]:
    """Image id -> sha256 of its file, for every image that has a file; for every volume, of all its channels' files.

    Only files that are new or whose size or mtime changed are read. What is known lies in `cache_dir`, one file per
    dataset folder; an interrupted call keeps what it has read.

    Raises:
        DataError: files that cannot be read, all in one line; a `cache_dir` that cannot be written to.
    """
    store = cache_dir / f"hashes-{hashlib.sha256(os.fsencode(manifest.root)).hexdigest()[:16]}.json"
    known = _read_known(store)
    files = _files(manifest)
    parts_of = volume_parts if manifest.channels else _itself
    stats, unreadable = _stats(files, parts_of)
    stale = [i for i, (size, mtime) in stats.items() if known.get(str(files[i]), [])[:2] != [size, mtime]]
    if stale:
        require_writable(cache_dir, "choose another folder with --cache")
    try:
        for done, (image_id, result) in enumerate(_hash_all({i: files[i] for i in stale}, parts_of), start=1):
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
    found = {name: str(known[str(file)][2]) for name, file in files.items()}
    return _of_volumes(manifest, found) if manifest.channels else found


def sample_sha256(files: Sequence[Path | None]) -> str:
    """The hash of a volume, from its channels' files. Raises: OSError."""
    hashes: list[str | None] = []
    for file in files:
        digest = None if file is None else _hash(file, volume_parts)
        if isinstance(digest, OSError):
            raise digest
        hashes.append(digest)
    return _joined(hashes)


def _joined(hashes: Sequence[str | None]) -> str:
    return hashlib.sha256(json.dumps(list(hashes)).encode()).hexdigest()


def _files(manifest: Manifest) -> dict[str, Path]:
    """Every file with the name that a message gives it: the image's id, of volumes with its channel."""
    if not manifest.channels:
        return {i: file for i, file in zip(manifest.image_ids, manifest.files, strict=True) if file is not None}
    return {
        f"{image_id} {channel}": file
        for image_id, files in zip(manifest.image_ids, manifest.volumes, strict=True)
        for channel, file in zip(manifest.channels, files, strict=True)
        if file is not None
    }


def _of_volumes(manifest: Manifest, found: dict[str, str]) -> dict[str, str]:
    return {
        image_id: _joined([found.get(f"{image_id} {channel}") for channel in manifest.channels])
        for image_id, file in zip(manifest.image_ids, manifest.files, strict=True)
        if file is not None
    }


def _itself(file: Path) -> list[Path]:
    return [file]


def volume_parts(file: Path) -> list[Path]:
    """What a volume's path stands for: the file; of a folder of slices all in it; of an Analyze pair both halves."""
    if file.is_dir():
        return sorted(path for path in file.iterdir() if path.is_file() and not is_no_data(path.name))
    other = {".hdr": ".img", ".img": ".hdr"}.get(file.suffix.lower())
    pair = [path for path in (file, file.with_suffix(other)) if path.exists()] if other else []
    return sorted(pair) or [file]


def _read_known(store: Path) -> Known:
    try:
        known = json.loads(store.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # no memory, or a damaged one: the files themselves are read, and writing will tell what is wrong
    return known if isinstance(known, dict) else {}


def _stats(files: dict[str, Path], parts_of: Parts) -> tuple[dict[str, list[int]], list[str]]:
    stats, unreadable = {}, []
    for image_id, file in files.items():
        try:
            found = [part.stat() for part in parts_of(file)]
            stats[image_id] = [sum(stat.st_size for stat in found), max((stat.st_mtime_ns for stat in found), default=0)]
        except OSError as error:
            unreadable.append(f"{image_id}: {error.strerror}")
    return stats, unreadable


def _hash_all(files: dict[str, Path], parts_of: Parts) -> Iterator[tuple[str, str | OSError]]:
    """Each id with its file's sha256, or with why it cannot be read; several files at a time.

    Block by block, so that memory does not grow with the number of files that wait.
    """
    ids = list(files)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(ids), BLOCK):
            block = ids[start : start + BLOCK]
            yield from zip(block, pool.map(lambda name: _hash(files[name], parts_of), block), strict=True)


def _hash(file: Path, parts_of: Parts) -> str | OSError:
    try:
        parts = parts_of(file)
        if parts == [file]:
            return file_sha256(file)
        return _joined([text for part in parts for text in (part.name, file_sha256(part))])
    except OSError as error:
        return error
