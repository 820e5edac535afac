"""ImageCache: what it holds, its name, interruption, two writers, full and read-only disks, memory maps in workers."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from image_samples import hashes_of, manifest_of, pixels_of, write_pictures

from tune_btxrd.data import cache as cache_module
from tune_btxrd.data import partial
from tune_btxrd.data.cache import ImageCache, build_cache, cache_name
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.errors import DataError

BUILD = """
import hashlib, os, sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from image_samples import hashes_of, manifest_of
from tune_btxrd.data import cache as module

decoded = []
real = module.decode_image
module.decode_image = lambda *a, **k: (time.sleep({pause}), decoded.append(a), real(*a, **k))[-1]
manifest = manifest_of(sorted(Path({images!r}).iterdir()))
module.build_cache(manifest, image_size=16, cache_dir=Path({cache!r}), hashes=hashes_of(manifest), workers=1)
print(len(decoded))
"""


def build(manifest: Manifest, cache_dir: Path, **options: object) -> ImageCache:
    settings = {"image_size": 16, "cache_dir": cache_dir, "hashes": hashes_of(manifest)} | options
    return build_cache(manifest, **settings)


def start_build(images: Path, cache_dir: Path, *, pause: float) -> subprocess.Popen[str]:
    """The build in a process of its own, `pause` seconds per image; it prints how many images it decoded."""
    code = BUILD.format(tests=str(Path(__file__).parent), images=str(images), cache=str(cache_dir), pause=pause)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def count_decodes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files decoded from now on."""
    names: list[str] = []
    real = cache_module.decode_image

    def counted(path: Path, image_size: int, *, sha256: str | None = None) -> np.ndarray:
        names.append(path.name)
        return real(path, image_size, sha256=sha256)

    monkeypatch.setattr(cache_module, "decode_image", counted)
    return names


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


def test_the_name_follows_whatever_decides_the_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [("a", "00"), ("b", "11")]
    name = cache_name(224, files)
    assert name == cache_name(224, list(files))
    others = [cache_name(256, files), cache_name(224, files[::-1]), cache_name(224, [("a", "00"), ("b", "12")])]
    others.append(cache_name(224, [("a", "00"), ("c", "11")]))
    monkeypatch.setattr(cache_module, "DECODER_VERSION", cache_module.DECODER_VERSION + 1)
    others.append(cache_name(224, files))
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
    process = start_build(tmp_path / "images", tmp_path / "cache", pause=0.01)
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


@pytest.mark.parametrize("damage", ["no states", "no images", "other images", "cut images", "cut states"])
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
    (partial.partial_folder(path) / partial.STATES).write_bytes(bytes([1, 0, 2]))
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
    code = BUILD.format(
        tests=str(Path(__file__).parent), images=str(tmp_path / "images"), cache=str(tmp_path / "c"), pause=0
    )
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
    code = code.replace("module.build_cache(", limit + "module.build_cache(")
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
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


def test_opening_the_cache_of_all_of_btxrd_is_cheap(tmp_path: Path) -> None:
    """Median of 20; the promise is 10 ms, the margin is for a busy machine."""
    ids = [f"IMG{number:06d}.jpeg" for number in range(1, 3747)]
    with partial.PartialCache(tmp_path / "full", dict.fromkeys(ids, "0" * 64), 8) as writer:
        for row in writer.missing():
            writer.put(row, np.zeros((8, 8), dtype=np.uint8))
        writer.finish()
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        ImageCache.open(tmp_path / "full")
        seconds.append(time.perf_counter() - start)
    assert sorted(seconds)[10] < 0.05
    print(f"median {sorted(seconds)[10] * 1e3:.1f} ms")


def test_the_data_layer_needs_no_torch() -> None:
    code = "import sys, tune_btxrd.data.cache; sys.exit('torch' in sys.modules or 'ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
