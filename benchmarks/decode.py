"""Decoding into the cache against a plain Pillow loop: images/s, closeness, anonymous memory, the second call.

python -m benchmarks.decode                    (some minutes, most of them to draw the phantom once)

The plain loop is `PIL.Image.open(...).convert("RGB").resize(...)`. Both ways read the same files in turn, all of them in
the page cache, and the ratio is the median over the rounds. Writes benchmarks/results/decode.json.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
from PIL import Image, features

from tune_btxrd.data.cache.cache import build_cache, usable_cores
from tune_btxrd.data.cache.decode import decode_image
from tune_btxrd.data.cache.hashes import file_hashes
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.phantom import PhantomSpec, make_phantom

SIZE = 224
PHANTOM_SIDE = 2250  # px: the images come out at about 1600 x 2100
RESULTS = Path(__file__).parent / "results" / "decode.json"


def manifest_of(files: list[Path]) -> Manifest:
    import pandas as pd

    n = len(files)
    return Manifest(
        dataset="benchmark",
        root=files[0].parent,
        image_ids=tuple(file.name for file in files),
        files=tuple(files),
        targets=np.zeros(n, dtype=np.int64),
        class_names=("no", "yes"),
        positive_class=1,
        centers=None,
        groups=None,
        table=pd.DataFrame(index=range(n)),
        annotations=(None,) * n,
    )


def plain_loop(files: list[Path]) -> None:
    for file in files:
        Image.open(file).convert("RGB").resize((SIZE, SIZE))


def speed(files: list[Path], *, rounds: int) -> dict[str, object]:
    """Images/s of both ways, in turn; hashing, which the cache does only once per file, is timed apart."""
    manifest = manifest_of(files)
    plain, cached, hashing = [], [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            plain.append(timed(lambda: plain_loop(files)))
            cache_dir = Path(folder)
            hashing.append(timed(lambda cache_dir=cache_dir: file_hashes(manifest, cache_dir=cache_dir)))
            hashes = file_hashes(manifest, cache_dir=cache_dir)
            build = partial(build_cache, manifest, image_size=SIZE, cache_dir=cache_dir, hashes=hashes)
            cached.append(timed(build))
    ratios = [slow.wall_s / fast.wall_s for slow, fast in zip(plain, cached, strict=True)]
    cpu_ratios = [slow.cpu_s / fast.cpu_s for slow, fast in zip(plain, cached, strict=True)]
    return {
        "plain_images_per_s": [round(len(files) / took.wall_s, 1) for took in plain],
        "cache_images_per_s": [round(len(files) / took.wall_s, 1) for took in cached],
        "hashing_images_per_s": [round(len(files) / took.wall_s, 1) for took in hashing],
        "ratio": [round(ratio, 2) for ratio in ratios],
        "ratio_median": round(statistics.median(ratios), 2),
        "plain_cpu_ms_per_image": round(statistics.median(took.cpu_s for took in plain) / len(files) * 1e3, 2),
        "cache_cpu_ms_per_image": round(statistics.median(took.cpu_s for took in cached) / len(files) * 1e3, 2),
        "cpu_ratio_median": round(statistics.median(cpu_ratios), 2),  # per core; does not depend on who else computes
    }


class Took(NamedTuple):
    wall_s: float
    cpu_s: float  # of all threads


def timed(function: Callable[[], object]) -> Took:
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return Took(time.perf_counter() - wall, time.process_time() - cpu)


def difference(file: Path) -> float:
    """Mean absolute difference in grey levels from full-scale decoding and one bicubic resize, inside the padding."""
    image = Image.open(file).convert("L")
    scale = SIZE / max(image.size)
    slow = np.asarray(image.resize((round(image.width * scale), round(image.height * scale)))).astype(int)
    top, left = (SIZE - slow.shape[0]) // 2, (SIZE - slow.shape[1]) // 2
    fast = decode_image(file, SIZE)[top : top + slow.shape[0], left : left + slow.shape[1]]
    return float(np.abs(fast - slow).mean())


def closeness(files: list[Path]) -> dict[str, float]:
    differences = [difference(file) for file in files]
    return {"mean_grey_levels": round(statistics.mean(differences), 3), "worst_image": round(max(differences), 3)}


def anonymous_mb() -> float:
    """RssAnon of this process (which has threads, no children)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no RssAnon in /proc/self/status: this part needs Linux")


def peak_memory(folder: Path, cache_dir: Path) -> float:
    """Largest RssAnon in MB while the cache of all files in `folder` is built; run in a fresh process."""
    peak = 0.0

    def watch(_done: int, _total: int) -> None:
        nonlocal peak
        peak = max(peak, anonymous_mb())

    manifest = manifest_of(sorted(folder.iterdir()))
    hashes = file_hashes(manifest, cache_dir=cache_dir)
    build_cache(manifest, image_size=SIZE, cache_dir=cache_dir, hashes=hashes, progress=watch)
    return peak


def second_call(folder: Path, cache_dir: Path) -> float:
    """Seconds until the cache that is there is open, looking at every file's size and time included."""
    manifest = manifest_of(sorted(folder.iterdir()))
    start = time.perf_counter()
    hashes = file_hashes(manifest, cache_dir=cache_dir)
    build_cache(manifest, image_size=SIZE, cache_dir=cache_dir, hashes=hashes)
    return time.perf_counter() - start


def in_fresh_process(function: Callable[..., float], *arguments: Path) -> float:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def linked(files: list[Path], folder: Path, *, count: int) -> Path:
    """`count` names for the files, in turn."""
    folder.mkdir()
    for number in range(count):
        os.link(files[number % len(files)], folder / f"IMG{number + 1:06d}.jpeg")
    return folder


def memory(files: list[Path], work: Path) -> dict[str, float]:
    few, many = linked(files, work / "few", count=len(files)), linked(files, work / "many", count=10 * len(files))
    at_few, at_many = (in_fresh_process(peak_memory, folder, work / f"cache-{folder.name}") for folder in (few, many))
    all_of_btxrd = linked(files, work / "all", count=3746)
    in_fresh_process(peak_memory, all_of_btxrd, work / "cache-many")
    return {
        f"rss_anon_mb_{len(files)}": round(at_few, 1),
        f"rss_anon_mb_{10 * len(files)}": round(at_many, 1),
        "growth": round(at_many / at_few - 1, 3),
        "second_call_s_3746": round(in_fresh_process(second_call, all_of_btxrd, work / "cache-many"), 3),
    }


def circumstances() -> dict[str, object]:
    cpu = next((line for line in _cpuinfo() if line.startswith("model name")), f": {platform.processor()}")
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, check=True)
    return {
        "command": " ".join(["python", "benchmarks/decode.py", *sys.argv[1:]]),
        "commit": git.stdout.decode().strip(),
        "cpu": cpu.partition(": ")[2],
        "cores": usable_cores(),
        "load_before": round(os.getloadavg()[0], 2),  # above the number of cores: wall times are not to be trusted
        "nice": os.nice(0),
        "python": platform.python_version(),
        "pillow": PIL.__version__,
        "libjpeg_turbo": features.version("libjpeg_turbo"),
        "numpy": np.__version__,
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300, help="phantom images")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--phantom", type=Path, default=Path(tempfile.gettempdir()) / "decode-benchmark", help="kept for later"
    )
    arguments = parser.parse_args()
    found: dict[str, object] = circumstances()
    make_phantom(arguments.phantom, PhantomSpec(count=arguments.count, size=PHANTOM_SIDE, seed=0))
    files = sorted((arguments.phantom / "images").iterdir())
    sides = np.array([Image.open(file).size for file in files])
    found |= {"images": len(files), "mean_size": [round(side) for side in sides.mean(axis=0)]}
    found["mean_file_kb"] = round(statistics.mean(file.stat().st_size for file in files) / 1e3)
    found |= speed(files, rounds=arguments.rounds) | closeness(files)
    work = Path(tempfile.mkdtemp(dir=arguments.phantom.parent))
    try:
        found |= memory(files, work)
    finally:
        shutil.rmtree(work)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
