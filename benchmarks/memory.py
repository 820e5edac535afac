"""Do slots share the pixels, and does a slot stay as large as it is?

python -m benchmarks.memory                    (about two minutes; Linux)

A cache of BTXRD's size (3,746 made-up grey images of 224 x 224) is trained on by one, two and four slots, each a
process of its own that has read every page of it. Their proportional set sizes of that file (a page shared by four counts a
quarter for each) must sum up to the file, however many they are. Then one slot trains 50 trials of EfficientNet-B0 at 64 px.
"""

import argparse
import multiprocessing
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.outcome import circumstances, write
from tune_btxrd.config import TrainConfig

IMAGES, SIZE, SLOTS = 3746, 224, (1, 2, 4)
FEW, MANY = 5, 50


def made_up(path: Path) -> Path:
    """A file of images as the cache has it."""
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, SIZE, SIZE), dtype=np.uint8)
    np.save(path, images)
    return path


def data_of(path: Path, *, train: int, val: int) -> Any:
    """Training data on the file, memory-mapped as trials have it."""
    from tune_btxrd.training.pixels import TrainingData

    images = np.load(path, mmap_mode="r")
    rows = np.random.default_rng(1).permutation(len(images))
    targets = np.arange(len(images)) % 3
    return TrainingData(
        images=images,
        targets=targets,
        train_rows=rows[:train],
        val_rows=rows[train : train + val],
        num_classes=3,
        positive_class=2,
    )


def sharing(path: Path, mapped: Any, measured: Any) -> None:
    """One slot: trains an epoch on few images, takes every other one, and stays until it was measured."""
    import torch

    from tune_btxrd.training.loop import train_epoch
    from tune_btxrd.training.slot import Slot

    data = data_of(path, train=32, val=32)
    config = TrainConfig(backbone="test_efficientnet", pretrained=False, image_size=SIZE, epochs=1)
    state = Slot(device="cpu", threads=1).start(config, data, keep_best=False)
    train_epoch(state)
    for rows in torch.arange(len(data.images)).split(64):
        state.pixels.take(rows)
    mapped.wait()
    measured.wait()


def pss_mb(pid: int, path: Path) -> float:
    """Proportional set size of one file in one process."""
    size, is_ours = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if line[:1] in "0123456789abcdef" and "-" in line.split()[0]:
            is_ours = line.endswith(str(path))
        elif is_ours and line.startswith("Pss:"):
            size += int(line.split()[1])
    return size / 1024


def shared(path: Path, slots: int) -> float:
    """Sum over the slots of the file's proportional set sizes, in MB."""
    spawn = multiprocessing.get_context("spawn")
    mapped, measured = spawn.Barrier(slots + 1), spawn.Event()
    workers = [spawn.Process(target=sharing, args=(path, mapped, measured)) for _ in range(slots)]
    for worker in workers:
        worker.start()
    mapped.wait()
    total = sum(pss_mb(worker.pid or 0, path) for worker in workers)
    measured.set()
    for worker in workers:
        worker.join()
    return total


def after_trials(path: Path, results: Any) -> None:
    """Anonymous memory of a slot in MB after few and after many trials of different seeds and dropouts."""
    from tune_btxrd.training.loop import train_epoch
    from tune_btxrd.training.slot import Slot

    data, slot = data_of(path, train=32, val=8), Slot(device="cpu", threads=1)
    for number in range(1, MANY + 1):
        config = TrainConfig(pretrained=False, image_size=64, epochs=1, dropout=0.01 * (number % 7), seed=number % 3)
        train_epoch(slot.start(config, data, keep_best=False))
        if number in (FEW, MANY):
            status = Path(f"/proc/{os.getpid()}/status").read_text().splitlines()
            line = next(line for line in status if line.startswith("RssAnon"))
            results.put(int(line.split()[1]) / 1024)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    found, rows = circumstances(), []
    with tempfile.TemporaryDirectory() as folder:
        path = made_up(Path(folder).resolve() / "images.npy")
        sums = [shared(path, slots) for slots in SLOTS]
        for slots, total in zip(SLOTS, sums, strict=True):
            growth = 100 * (total / sums[0] - 1) / max(1, slots - SLOTS[0])
            rows.append(
                {"what": f"cache in {slots} slot(s), MB", "value": round(total, 1), "growth": f"{growth:+.1f} % a slot"}
            )
        small = Path(folder) / "small.npy"
        np.save(small, np.load(path, mmap_mode="r")[:100, :64, :64])
        spawn = multiprocessing.get_context("spawn")
        results = spawn.Queue()
        worker = spawn.Process(target=after_trials, args=(small, results))
        worker.start()
        early, late = results.get(), results.get()
        worker.join()
    rows.append({"what": f"slot after {FEW} trials, MB", "value": round(early, 1), "growth": ""})
    rows.append(
        {"what": f"slot after {MANY} trials, MB", "value": round(late, 1), "growth": f"{100 * (late / early - 1):+.1f} %"}
    )
    write("memory", rows, found)


if __name__ == "__main__":
    main()
