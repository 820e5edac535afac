"""Seconds per epoch on volumes: ours, the bare model, and the field's way, on the same files in the same run.

python -m benchmarks.volumes [--count 16] [--stored 96] [--side 32]        (some minutes on two cores; Linux)

The field's way is MONAI's: PersistentDataset keeps what is deterministic (reading, orientation, foreground crop, resize,
z-score), dictionary transforms augment volume after volume, a DataLoader makes batches. Both train MONAI's resnet10 with
AdamW and the same augmentations. The bare model trains on batches that are ready. `feeding` is an epoch of batches without a
model: all that separates two ways where the model is the same. Memory: proportional set sizes of 1 and of 2 slots.
"""

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.outcome import circumstances, write
from tune_btxrd.config import TrainConfig
from tune_btxrd.data.cache.volumes import decode_volume
from tune_btxrd.training.augment.volumes import VOLUMES, augment, level_normalization
from tune_btxrd.training.loop import train_epoch
from tune_btxrd.training.models.shell import create
from tune_btxrd.training.pixels import TrainingData
from tune_btxrd.training.slot import Slot

BATCH, EPOCHS = 4, 4  # the first epoch stands apart
CPU = torch.device("cpu")


def draw(folder: Path, *, count: int, stored: int) -> list[Path]:
    """NIfTI files: a noisy ball of its own size in air."""
    import nibabel

    rng = np.random.default_rng(0)
    places = np.indices((stored,) * 3) - stored / 2
    files = []
    for index in range(count):
        ball = np.square(places).sum(axis=0) < (stored * rng.uniform(0.35, 0.45)) ** 2
        voxels = np.where(ball, rng.normal(100 + 40 * (index % 2), 15, ball.shape), 0).astype(np.float32)
        files.append(folder / f"head{index:03d}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(voxels, np.diag([-1.0, -1.0, 1.0, 1.0])), files[-1])
    return files


def config_of(side: int) -> TrainConfig:
    """resnet10 with every augmentation of the field's way."""
    return TrainConfig.from_dict(
        {
            "backbone": "resnet3d_10",
            "pretrained": False,
            "image_size": side,
            "batch_size": BATCH,
            "epochs": EPOCHS,
            "flip": 0.5,
            "flip_front": 0.5,
            "flip_up": 0.5,
            "rotation": 10.0,
            "scale_min": 0.9,
            "shift": 0.05,
            "brightness": 0.0,
            "contrast": 0.1,
            "intensity_shift": 0.1,
            "gamma": 0.2,
            "noise": 0.1,
            "dropout": 0.0,
        }
    )


def data_of(cubes: np.ndarray) -> TrainingData:
    """All volumes but two train; those two are validated."""
    rows = np.arange(len(cubes))
    return TrainingData(
        images=cubes, targets=rows % 2, train_rows=rows[:-2], val_rows=rows[-2:], num_classes=2, positive_class=1
    )


def ours(cubes: np.ndarray, side: int) -> list[float]:
    """Seconds of training of each epoch."""
    state = Slot(device="cpu").start(config_of(side), data_of(cubes), keep_best=False)
    return [train_epoch(state).train_seconds for _ in range(EPOCHS)]


def our_feeding(cubes: np.ndarray, side: int) -> float:
    """Seconds for the batches of one epoch."""
    config, generator = config_of(side), torch.Generator().manual_seed(0)
    mean, std = (torch.tensor(values) for values in level_normalization(1))
    began = time.perf_counter()
    for start in range(0, len(cubes) - 2, BATCH):
        batch = VOLUMES.to_float(torch.from_numpy(cubes[start : min(start + BATCH, len(cubes) - 2)]))
        VOLUMES.normalise(augment(batch, generator, config), mean, std)
    return time.perf_counter() - began


def trained(batches: Callable[[], Iterator[tuple[torch.Tensor, torch.Tensor]]]) -> list[float]:
    """Seconds of each epoch of a plain loop over these batches."""
    model = create("resnet3d_10", 2).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    seconds = []
    for _ in range(EPOCHS):
        began = time.perf_counter()
        for volumes, targets in batches():
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(model(volumes), targets).backward()
            optimizer.step()
        seconds.append(time.perf_counter() - began)
    return seconds


def bare(count: int, side: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches that are ready."""
    for start in range(0, count, BATCH):
        size = min(BATCH, count - start)
        yield torch.zeros(size, 1, side, side, side), torch.arange(size) % 2


def fields_loader(files: list[Path], side: int, cache: Path) -> Any:
    """MONAI's DataLoader over a PersistentDataset."""
    from monai import transforms as T  # as MONAI's users write it
    from monai.data import DataLoader, PersistentDataset

    steps = [
        T.LoadImaged("image"),
        T.EnsureChannelFirstd("image"),
        T.Orientationd("image", axcodes="RAS", labels=None),
        T.CropForegroundd("image", source_key="image"),
        T.Resized("image", spatial_size=(side,) * 3),
        T.NormalizeIntensityd("image", nonzero=True),
        *(T.RandFlipd("image", prob=0.5, spatial_axis=axis) for axis in range(3)),
        T.RandAffined(
            "image",
            prob=1.0,
            rotate_range=[np.pi / 18] * 3,
            scale_range=[0.1] * 3,
            translate_range=[0.05 * side] * 3,
            padding_mode="zeros",
        ),
        T.RandScaleIntensityd("image", factors=0.1, prob=1.0),
        T.RandShiftIntensityd("image", offsets=0.1, prob=1.0),
        T.RandAdjustContrastd("image", prob=1.0, gamma=(1 / 1.2, 1.2)),
        T.RandGaussianNoised("image", prob=1.0, std=0.1),
    ]
    rows = [{"image": str(path), "label": index % 2} for index, path in enumerate(files)]
    return DataLoader(PersistentDataset(rows, T.Compose(steps), cache_dir=cache), batch_size=BATCH, shuffle=True)


def fields(loader: Any) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """One epoch of its batches, plain tensors."""
    for batch in loader:
        yield batch["image"].as_tensor(), batch["label"]


def slot(path: Path, side: int, ready: Any, done: Any) -> None:
    """A slot that has trained an epoch and stays until it was measured."""
    torch.set_num_threads(1)
    ours_of = data_of(np.load(path, mmap_mode="r"))
    train_epoch(Slot(device="cpu", threads=1).start(config_of(side), ours_of, keep_best=False))
    ready.wait()
    done.wait()


def memory_mb(path: Path, side: int, slots: int) -> float:
    """Proportional set size of that many slots together, MB."""
    context = multiprocessing.get_context("spawn")
    ready, done = context.Barrier(slots + 1), context.Barrier(slots + 1)
    workers = [context.Process(target=slot, args=(path, side, ready, done)) for _ in range(slots)]
    for worker in workers:
        worker.start()
    ready.wait(600)
    lines = [Path(f"/proc/{worker.pid}/smaps_rollup").read_text() for worker in workers]
    done.wait(600)
    for worker in workers:
        worker.join()
    return sum(int(text.split("\nPss:")[1].split()[0]) for text in lines) / 1024


def main() -> None:
    """Prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=18)
    parser.add_argument("--stored", type=int, default=96)
    parser.add_argument("--side", type=int, default=32)
    asked = parser.parse_args()
    torch.set_num_threads(2)
    found = circumstances()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = draw(folder, count=asked.count, stored=asked.stored)
        began = time.perf_counter()
        cubes = np.stack([decode_volume([path], asked.side, channels=["t1"]).pixels for path in files])
        decoding = time.perf_counter() - began
        np.save(folder / "cubes.npy", cubes)
        loader = fields_loader(files[:-2], asked.side, folder / "persistent")
        trained(lambda: bare(asked.count - 2, asked.side))  # libraries prepare their kernels in the first steps
        rounds = {
            "ours": ours(cubes, asked.side),
            "bare model": trained(lambda: bare(asked.count - 2, asked.side)),
            "MONAI": trained(lambda: fields(loader)),
        }
        began = time.perf_counter()
        for _ in fields(loader):
            pass
        feeding = {"ours": our_feeding(cubes, asked.side), "MONAI": time.perf_counter() - began, "bare model": 0.0}
        rows = [
            {
                "way": way,
                "first_epoch_s": round(seconds[0], 2),
                "epoch_s": round(float(np.median(seconds[1:])), 2),
                "to_bare": round(float(np.median(seconds[1:]) / np.median(rounds["bare model"][1:])), 2),
                "feeding_s": round(feeding[way], 3),
            }
            for way, seconds in rounds.items()
        ]
        memory = {f"memory_{slots}_slots_mb": round(memory_mb(folder / "cubes.npy", asked.side, slots)) for slots in (1, 2)}
    ratio = round(feeding["MONAI"] / feeding["ours"], 1)
    write("volumes", rows, {**found, **vars(asked), "decoding_s": round(decoding, 2), "feeding_ratio": ratio, **memory})


if __name__ == "__main__":
    main()
