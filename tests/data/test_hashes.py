"""sha256 per file, remembered per path, size and mtime."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from tests.support.datasets import write_folder
from tune_btxrd.data.cache.hashes import file_hashes
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers.registry import read_dataset
from tune_btxrd.errors import DataError, ResultError


def hash_counted(manifest: Manifest, cache_dir: Path) -> tuple[dict[str, str], int]:
    """The hashes, and how many files were read for them."""
    calls: list[tuple[int, int]] = []
    hashes = file_hashes(manifest, cache_dir=cache_dir, progress=lambda done, total: calls.append((done, total)))
    assert not calls or calls[-1] == (len(hashes), len(hashes))
    return hashes, len(calls)


def test_only_changed_files_are_read_again(tmp_path: Path) -> None:
    root, cache_dir = write_folder(tmp_path / "own"), tmp_path / "cache"
    (root / "x" / "1.png").write_bytes(b"first")
    manifest = read_dataset(root)
    hashes, read = hash_counted(manifest, cache_dir)
    assert read == 5 and list(hashes) == list(manifest.image_ids)
    assert hashes["a"] == hashlib.sha256(b"first").hexdigest() and hashes["b"] == hashlib.sha256(b"png").hexdigest()
    assert hash_counted(manifest, cache_dir) == (hashes, 0)

    (root / "x" / "1.png").write_bytes(b"other size")
    os.utime(root / "x" / "2.png", ns=(1, 1))  # same bytes, another time: read again, same hash
    again, read = hash_counted(manifest, cache_dir)
    assert read == 2 and again == hashes | {"a": hashlib.sha256(b"other size").hexdigest()}


def test_damaged_memory_is_no_memory(tmp_path: Path) -> None:
    manifest, cache_dir = read_dataset(write_folder(tmp_path / "own")), tmp_path / "cache"
    hashes, _ = hash_counted(manifest, cache_dir)
    [store] = cache_dir.iterdir()
    for damaged in ("{", "[1]", '{"a": 1}'):
        store.write_text(damaged)
        assert hash_counted(manifest, cache_dir) == (hashes, 5)


def test_unreadable_files_are_listed_at_once_and_the_others_remembered(tmp_path: Path) -> None:
    root, cache_dir = write_folder(tmp_path / "own"), tmp_path / "cache"
    manifest = read_dataset(root)
    (root / "x" / "1.png").unlink()
    (root / "y" / "3.png").unlink()
    (root / "y" / "3.png").mkdir()
    with pytest.raises(DataError, match=r"2 of 5 are not \(a: No such file or directory, c: Is a directory\)"):
        file_hashes(manifest, cache_dir=cache_dir)
    assert hash_counted(manifest.without(["a", "c"]), cache_dir)[1] == 0


def test_interrupted_call_keeps_what_it_has_read(tmp_path: Path) -> None:
    manifest, cache_dir = read_dataset(write_folder(tmp_path / "own")), tmp_path / "cache"

    def interrupt(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        file_hashes(manifest, cache_dir=cache_dir, progress=interrupt)
    assert hash_counted(manifest, cache_dir)[1] == 2


def test_table_alone_has_no_hashes_and_a_file_is_no_cache_folder(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "own")
    assert file_hashes(read_dataset(root, table_only=True), cache_dir=tmp_path / "cache") == {}
    assert not (tmp_path / "cache").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultError, match="must be writable"):
        file_hashes(read_dataset(root), cache_dir=tmp_path / "file")


def test_second_call_on_as_many_files_as_btxrd_is_quick(tmp_path: Path) -> None:
    rows = [f"{number},{number}.png,{'ab'[number % 2]}" for number in range(3746)]
    for number in range(3746):
        (tmp_path / f"{number}.png").write_bytes(b"x")
    (tmp_path / "manifest.csv").write_text("image_id,path,label\n" + "\n".join(rows) + "\n")
    manifest = read_dataset(tmp_path)
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        file_hashes(manifest, cache_dir=tmp_path / "cache")
        seconds.append(time.perf_counter() - start)
    assert min(seconds[1:]) < seconds[0] / 2, seconds  # a ratio: remembered against read
