"""The parts of `gpu.py`: what only a GPU can tell, each a function from a Scale to the rows of its table.

A part that checks something fails (AssertionError, or the error itself); one that measures gives numbers and ratios.
"""

import math
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.outcome import side_by_side
from benchmarks.throughput import Bare, Setting, made_up, work
from tune_btxrd.config import TrainConfig
from tune_btxrd.training.capture import StaticStep
from tune_btxrd.training.loop import train_epoch
from tune_btxrd.training.pixels import Pixels, TrainingData
from tune_btxrd.training.slot import Slot

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Scale:
    """How large the parts are."""

    device: str
    side: int
    batches: tuple[int, ...]
    packed: tuple[int, ...]
    rounds: int
    images: int  # of an epoch; BTXRD has 3,746
    backbone: str
    volumes: tuple[int, int, int]  # count, side, depth of the ResNet
    trials: int
    too_many: int  # images of a batch that no memory holds


FULL = Scale("cuda", 224, (32, 128), (1, 2, 4, 8), 3, 3746, "efficientnet_b0", (32, 96, 50), 16, 200_000)
TINY = Scale("cpu", 32, (8,), (1, 2), 1, 48, "test_efficientnet", (6, 32, 10), 2, 0)


def config_of(scale: Scale, **changes: Any) -> TrainConfig:
    """A training of this scale, without the noise of dropout and augmentation."""
    plain = {"flip": 0.0, "rotation": 0.0, "scale_min": 1.0, "shift": 0.0, "brightness": 0.0, "contrast": 0.0}
    base = {"backbone": scale.backbone, "pretrained": False, "image_size": scale.side, "batch_size": scale.batches[0]}
    return TrainConfig.from_dict({**base, "epochs": 10_000, "patience": 10_000, "dropout": 0.0, **plain, **changes})


def first_losses(scale: Scale, data: TrainingData, **changes: Any) -> list[float]:
    """Train losses of two epochs."""
    state = Slot(device=scale.device).start(config_of(scale, **changes), data, keep_best=False)
    return [train_epoch(state).train_loss for _ in range(2)]


def precision(scale: Scale) -> Rows:
    """Losses in bf16 and fp16 against fp32, from the same weights on the same images in the same order."""
    data, rows = made_up(scale.side, scale.batches[0]), []
    exact = first_losses(scale, data, precision="fp32", tf32=False)
    kinds = ("fp32", "bf16", "fp16") if scale.device == "cuda" else ("fp32", "bf16")
    for kind in kinds:
        losses = first_losses(scale, data, precision=kind)
        off = abs(losses[0] / exact[0] - 1)
        rows.append({"precision": kind, "loss": round(losses[0], 4), "off fp32 without tf32 by": f"{off:.1e}"})
        assert off < 0.05, f"{kind}: the first epoch's loss is {losses[0]} where fp32 has {exact[0]}"
    return rows


def captured(scale: Scale) -> Rows:
    """A captured step against the same step launched one by one, in fp32, over two epochs; on a CPU nothing is captured."""
    data, config = made_up(scale.side, scale.batches[0]), config_of(scale, precision="fp32", tf32=False, capture=True)
    plain = first_losses(scale, data, precision="fp32", tf32=False)
    slot = Slot(device=scale.device)
    state = slot.start(config, data, keep_best=False)
    if state.static_step is None:  # a CPU: the step itself is what is rehearsed
        shell = slot.shell(config, data.num_classes)
        state.static_step = StaticStep(shell, config, data, device=slot.device, precision="fp32")
    losses = [train_epoch(state).train_loss for _ in range(2)]
    off = max(abs(a / b - 1) for a, b in zip(losses, plain, strict=True))
    assert off < 1e-3, f"captured {losses}, launched one by one {plain}"
    return [{"losses": [round(loss, 5) for loss in losses], "off the plain step by": f"{off:.1e}"}]


def resident(scale: Scale) -> Rows:
    """A batch from pixels on the device against one copied from the host: equal, and how much faster."""
    images = made_up(scale.side, scale.batches[-1]).images
    device = torch.device(scale.device)
    pixels, rows = Pixels(images, device), torch.arange(scale.batches[-1], device=device)
    assert (pixels.resident is not None) == (device.type != "cpu")
    host = torch.from_numpy(images[: len(rows)].copy())
    assert torch.equal(pixels.take(rows).cpu(), host)

    def seconds(take: Callable[[], Any]) -> float:
        take()
        wait(device)
        began = time.perf_counter()
        for _ in range(50):
            take()
        wait(device)
        return (time.perf_counter() - began) / 50

    ours, copied = seconds(lambda: pixels.take(rows)), seconds(lambda: host.to(device, copy=True))
    return [{"batch": len(rows), "resident ms": round(1e3 * ours, 3), "copied ms": round(1e3 * copied, 3)}]


def memory(scale: Scale) -> Rows:
    """A batch that no memory holds: the slot raises torch's own error and trains the next trial as if nothing had been."""
    if scale.device != "cuda":
        raise SkippedError("a CPU's memory has no such error")
    data, slot = made_up(scale.side, scale.batches[0]), Slot(device=scale.device)
    before = train_epoch(slot.start(config_of(scale), data, keep_best=False)).train_loss
    try:
        slot.shell(config_of(scale), 3).model(torch.empty(scale.too_many, 3, scale.side, scale.side, device="cuda"))
        raise AssertionError(f"{scale.too_many} images at once fitted")
    except torch.OutOfMemoryError as error:
        said = str(error).splitlines()[0][:80]
    after = train_epoch(slot.start(config_of(scale), data, keep_best=False)).train_loss
    assert math.isclose(before, after, rel_tol=0.02), f"{after} after it, {before} before"
    return [{"error": said, "loss before": round(before, 4), "loss after": round(after, 4)}]


def throughput(scale: Scale) -> Rows:
    """Training images per second, alone and packed: ours and the bare model, launched one by one and captured."""
    rows = []
    for batch in scale.batches:
        for processes in scale.packed:
            for graph in (False, True) if scale.device == "cuda" else (False,):
                setting = Setting(scale.device, scale.side, batch, 1, scale.rounds, graph)
                each = side_by_side(work, setting, processes=processes)
                rates = {name: sum(process[name] for process in each) for name in ("ours", "bare", "stock")}
                place = {"batch": batch, "processes": processes, "step": "captured" if graph else "eager"}
                shown = {f"{name} images/s": round(rate, 1) for name, rate in rates.items()}
                rows.append({**place, **shown, "ours to bare": round(rates["ours"] / rates["bare"], 2)})
                print(rows[-1], flush=True)
    return rows


def compiled(scale: Scale) -> Rows:
    """The bare model compiled by torch: what captures and kernels compete with; seconds until its first step is done."""
    rows = []
    for batch in scale.batches:
        bare = Bare(scale.device, scale.side, batch, captured=False, stock=True, backbone=scale.backbone)
        plain = statistics.median(bare.images_per_second() for _ in range(scale.rounds + 1))
        bare.model = torch.compile(bare.model, backend="inductor" if scale.device == "cuda" else "eager")
        began = time.perf_counter()
        bare.images_per_second()
        first = time.perf_counter() - began
        rate = statistics.median(bare.images_per_second() for _ in range(scale.rounds))
        rows.append(
            {
                "batch": batch,
                "stock images/s": round(plain, 1),
                "compiled images/s": round(rate, 1),
                "ratio": round(rate / plain, 2),
                "first steps s": round(first, 1),
            }
        )
    return rows


def epoch(scale: Scale) -> Rows:
    """Seconds of an epoch as large as BTXRD's, training and validation, as a slot runs it, beside the bare steps alone."""
    count, rng = scale.images, np.random.default_rng(0)
    data = TrainingData(
        images=rng.integers(0, 256, (count, scale.side, scale.side), dtype=np.uint8),
        targets=np.arange(count) % 3,
        train_rows=np.arange(count)[: count * 4 // 5],
        val_rows=np.arange(count)[count * 4 // 5 :],
        num_classes=3,
        positive_class=2,
    )
    rows = []
    for batch in scale.batches:
        changes = {"pretrained": False, "image_size": scale.side, "backbone": scale.backbone, "batch_size": batch}
        state = Slot(device=scale.device).start(TrainConfig.from_dict(changes), data, keep_best=False)
        measured = [train_epoch(state) for _ in range(scale.rounds + 1)][1:]
        bare = Bare(scale.device, scale.side, batch, captured=False, backbone=scale.backbone)
        rate = statistics.median(bare.images_per_second() for _ in range(scale.rounds + 1))
        train, val = (statistics.median(getattr(row, f"{part}_seconds") for row in measured) for part in ("train", "val"))
        alone = len(data.train_rows) / rate
        rows.append({"images": count, "batch": batch, "train s": round(train, 2), "val s": round(val, 2)})
        rows[-1] |= {"bare steps s": round(alone, 2), "backbone": scale.backbone}
    return rows


def volume(scale: Scale) -> Rows:
    """Seconds of an epoch of volumes by a 3D ResNet."""
    count, side, depth = scale.volumes
    cubes = np.random.default_rng(0).integers(0, 256, (count, side, side, side, 1), dtype=np.uint8)
    rows = np.arange(count)
    data = TrainingData(
        images=cubes, targets=rows % 2, train_rows=rows[:-2], val_rows=rows[-2:], num_classes=2, positive_class=1
    )
    changes = {"backbone": f"resnet3d_{depth}", "pretrained": False, "image_size": side, "batch_size": 4, "dropout": 0.0}
    state = Slot(device=scale.device).start(TrainConfig.from_dict(changes), data, keep_best=False)
    measured = [train_epoch(state).train_seconds for _ in range(scale.rounds + 1)]
    return [
        {
            "volumes": count - 2,
            "side": side,
            "backbone": changes["backbone"],
            "first epoch s": round(measured[0], 2),
            "epoch s": round(statistics.median(measured[1:]), 2),
        }
    ]


def automatic(scale: Scale) -> Rows:
    """What `--gpus-per-trial auto` measures and chooses for a search of two trials."""
    import json
    import os
    import subprocess
    import sys

    with tempfile.TemporaryDirectory() as folder:
        flags = ["--phantom", "--trials", "2", "--epochs", "1", "--confirm", "0", "--image-size", str(scale.side)]
        flags += ["--no-pretrained", "--backbone", scale.backbone, "--name", "auto", "--splits", "stratified"]
        flags += ["--gpus-per-trial", "auto"] if scale.device == "cuda" else []
        command = [sys.executable, "-m", "tune_btxrd", "search", *flags]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (done.stderr or done.stdout).strip().splitlines()[-1]
        layout = json.loads((Path(folder) / "ray_results" / "auto" / "search.json").read_text())["layout"]
    return [{**row, "chosen": row.get("slots") == layout["slots"]} for row in layout["tried"] or [layout]]


def search(scale: Scale) -> Rows:
    """A search against the tutorial way, both with their start, on the same phantom, space, epochs and rungs."""
    from benchmarks.our_search import our_search
    from benchmarks.phantom_source import phantom_source
    from benchmarks.search_overhead import RUNGS, SPACE
    from benchmarks.tutorial_way import Task
    from benchmarks.tutorial_way import search as tutorial
    from tune_btxrd.data.phantom import PhantomSpec
    from tune_btxrd.search.listener import Listener
    from tune_btxrd.search.space.spec import SearchSpec

    slots, gpus = (4, 0.25) if scale.device == "cuda" else (2, 0.0)
    with tempfile.TemporaryDirectory() as name:
        folder, spec = Path(name), PhantomSpec(count=max(40, scale.images // 4), size=256, seed=0)
        source, manifest, split = phantom_source(
            spec, folder / "phantom", cache=folder / "cache", splits=folder / "splits", image_size=scale.side
        )
        fixed = {"image_size": scale.side, "pretrained": False, "backbone": scale.backbone}
        space = SearchSpec.from_text(SPACE).override({"trials": scale.trials, **RUNGS}, fixed)
        began = time.perf_counter()
        record = our_search(folder, space, source, Listener(), slots=slots, threads=1, device=scale.device, gpus=gpus)
        ours, epochs = time.perf_counter() - began, sum(len(trial.epochs) for trial in record.trials.values())
        files = {image_id: str(file) for image_id, file in zip(manifest.image_ids, manifest.files, strict=True)}
        targets = dict(zip(manifest.image_ids, manifest.targets.tolist(), strict=True))
        part = {
            key: ([files[i] for i in split.parts[key]], [targets[i] for i in split.parts[key]]) for key in ("train", "val")
        }
        task = Task(
            part["train"],
            part["val"],
            scale.side,
            trials=scale.trials,
            slots=slots,
            backbone=scale.backbone,
            gpus=gpus,
            **RUNGS,
        )
        began = time.perf_counter()
        told = tutorial(task, folder / "tutorial")
        theirs = time.perf_counter() - began
    found = {"trials": scale.trials, "slots": slots, "ours s per epoch": round(ours / epochs, 2)}
    ratio = (theirs / len(told)) / (ours / epochs)
    return [{**found, "tutorial s per epoch": round(theirs / len(told), 2), "tutorial to ours": round(ratio, 2)}]


class SkippedError(Exception):
    """A part that this machine cannot tell, and why."""


def wait(device: torch.device) -> None:
    """Until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


PARTS: dict[str, tuple[Callable[[Scale], Rows], float]] = {  # name -> (what runs, minutes that it may take)
    "precision": (precision, 2),
    "captured": (captured, 2),
    "resident": (resident, 1),
    "memory": (memory, 2),
    "epoch": (epoch, 3),
    "throughput": (throughput, 7),
    "compiled": (compiled, 4),
    "volume": (volume, 3),
    "automatic": (automatic, 3),
    "search": (search, 6),
}
