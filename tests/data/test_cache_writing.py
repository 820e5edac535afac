"""Writing an ImageCache: interruption, kill, damage, two processes at once, full and read-only disks."""

import os
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from tests.support.images import build, count_decodes, hashes_of, manifest_of, pixels_of, write_pictures
from tests.support.paths import ROOT
from tune_btxrd.data.cache import writer as partial
from tune_btxrd.data.cache.cache import ImageCache, cache_name
from tune_btxrd.errors import DataError

BUILD = """
import hashlib, os, sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.support.images import build, count_decodes, hashes_of, manifest_of, pixels_of, write_pictures
from tune_btxrd.data.cache import cache as module

decoded = []
real = module.decode_sizes
module.decode_sizes = lambda *a, **k: (time.sleep({pause}), decoded.append(a), real(*a, **k))[-1]
manifest = manifest_of(sorted(Path({images!r}).iterdir()))
module.build_cache(manifest, image_size=16, cache_dir=Path({cache!r}), hashes=hashes_of(manifest), workers=1)
print(len(decoded))
"""


def start_build(images: Path, cache_dir: Path, *, pause: float) -> subprocess.Popen[str]:
    """The build in a process of its own, `pause` seconds per image; it prints how many images it decoded."""
    code = BUILD.format(root=str(ROOT), images=str(images), cache=str(cache_dir), pause=pause)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("colour", [0, 1])
def test_interrupted_build_goes_on_and_equals_the_uninterrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, colour: int
) -> None:
    manifest = manifest_of(write_pictures(tmp_path / "images", grey=9, colour=colour)[::-1])
    whole = build(manifest, tmp_path / "whole")

    def interrupt(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(manifest, tmp_path / "cache", progress=interrupt, workers=1)
    assert not (tmp_path / "cache" / whole.path.name).exists()
    names = count_decodes(monkeypatch)
    resumed = build(manifest, tmp_path / "cache")
    assert len(names) == len(manifest) - 4
    assert (resumed.path / "images.npy").read_bytes() == (whole.path / "images.npy").read_bytes()
    assert (resumed.path / "index.json").read_bytes() == (whole.path / "index.json").read_bytes()


def test_killed_build_leaves_nothing_half_usable_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_pictures(tmp_path / "images", grey=150)
    manifest = manifest_of(files)
    path = tmp_path / "cache" / cache_name(16, [(image_id, sha256) for image_id, sha256 in hashes_of(manifest).items()])
    process = start_build(tmp_path / "images", tmp_path / "cache", pause=0.04)
    deadline = time.monotonic() + 60
    while partial.count_done(path) < partial.FLUSH_EVERY and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not path.exists() and partial.count_done(path) in (64, 128)
    with pytest.raises(DataError, match="must be complete"):
        ImageCache.open(path)
    kept = partial.count_done(path)
    names = count_decodes(monkeypatch)
    cache = build(manifest, tmp_path / "cache")
    assert len(names) == 150 - kept
    np.testing.assert_array_equal(cache.images, np.stack([pixels_of(file) for file in files]))


@pytest.mark.parametrize(
    "damage", ["no states", "no images", "other images", "cut images", "cut states", "another pixel", "another state"]
)
def test_a_damaged_partial_cache_is_started_over(tmp_path: Path, damage: str) -> None:
    manifest = manifest_of(write_pictures(tmp_path / "images", grey=6))

    def interrupt(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(manifest, tmp_path / "cache", progress=interrupt)
    folder = next((tmp_path / "cache").glob("*.partial"))
    images, states = folder / "images.npy", folder / "states.bin"
    if damage == "no states":
        states.unlink()
    elif damage == "no images":
        images.unlink()
    elif damage == "other images":
        np.save(images, np.zeros((6, 8, 8), dtype=np.uint8))
    elif damage == "cut images":
        os.truncate(images, 500)
    elif damage == "another pixel":
        images.write_bytes(images.read_bytes()[:130] + bytes(value ^ 1 for value in images.read_bytes()[130:]))
    elif damage == "another state":
        states.write_bytes(b"\x01" * 6 + states.read_bytes()[6:])
    else:
        os.truncate(states, 2)
    cache = build(manifest, tmp_path / "cache")
    np.testing.assert_array_equal(cache.images, np.stack([pixels_of(file) for file in manifest.files if file]))


def test_two_processes_at_once_decode_each_image_once(tmp_path: Path) -> None:
    write_pictures(tmp_path / "images", grey=40)
    both = [start_build(tmp_path / "images", tmp_path / "cache", pause=0.02) for _ in range(2)]
    counts = sorted(int(process.communicate()[0]) for process in both)
    assert counts == [0, 40]
    assert [process.returncode for process in both] == [0, 0]


def test_a_waiting_process_shows_the_progress_of_the_writer(tmp_path: Path) -> None:
    manifest = manifest_of(write_pictures(tmp_path / "images", grey=3))
    path = tmp_path / "cache" / cache_name(16, list(hashes_of(manifest).items()))
    partial.partial_folder(path).mkdir(parents=True)
    (partial.partial_folder(path) / partial.STATES).write_bytes(bytes([1, 0, 2]) + bytes(3 * 4))  # and no checksum yet
    seen: list[tuple[int, int]] = []
    other = FileLock(path.with_name(f"{path.name}.lock"))
    other.acquire()

    def progress(done: int, total: int) -> None:
        seen.append((done, total))
        other.release()

    build(manifest, tmp_path / "cache", progress=progress)
    assert seen[0] == (2, 3)


def test_full_disk_is_found_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = manifest_of(write_pictures(tmp_path / "images", grey=4))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(partial.shutil, "disk_usage", lambda _: usage(2000, 1000, 1000))
    names = count_decodes(monkeypatch)
    with pytest.raises(DataError, match=r"is full \(0\.001 GB needed, 0\.000 GB free\)"):
        build(manifest, tmp_path / "cache", image_size=500)
    assert names == []
    assert build(manifest, tmp_path / "cache", image_size=15).images.shape == (4, 15, 15)  # 900 bytes fit


def test_disk_that_fills_up_meanwhile_is_one_line_and_keeps_what_is_done(tmp_path: Path) -> None:
    """A file size limit makes the system refuse writes, as a full disk or a quota does."""
    resource = pytest.importorskip("resource", reason="this system has no file size limits")
    del resource
    write_pictures(tmp_path / "images", grey=40)
    code = BUILD.format(root=str(ROOT), images=str(tmp_path / "images"), cache=str(tmp_path / "c"), pause=0)
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
    code = code.replace("module.build_cache(", limit + "module.build_cache(")
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}  # it writes files too
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=plain)
    assert "DataError: The cache must fit on the disk" in ended.stderr, ended.stderr
    assert "DataError" in ended.stderr.splitlines()[-1] and "--cache DIR" in ended.stderr.splitlines()[-1]
    assert build(manifest_of(sorted((tmp_path / "images").iterdir())), tmp_path / "c").images.shape == (40, 16, 16)


def test_cache_folder_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(DataError, match=r"must be writable.*--cache DIR"):
        build(manifest_of(write_pictures(tmp_path / "images", grey=1)), tmp_path / "cache")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write everywhere")
def test_read_only_dataset_and_read_only_finished_cache_are_fine(tmp_path: Path) -> None:
    manifest = manifest_of(write_pictures(tmp_path / "images", grey=2))
    (tmp_path / "images").chmod(0o500)
    build(manifest, tmp_path / "cache")
    (tmp_path / "cache").chmod(0o500)
    assert len(build(manifest, tmp_path / "cache").images) == 2
    with pytest.raises(DataError, match="must be writable"):
        build(manifest, tmp_path / "cache", image_size=8)
