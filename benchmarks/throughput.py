"""Images per second of training: ours against the bare model at the same precision, alone and packed.

python -m benchmarks.throughput                          (about a quarter of an hour on 2 CPU cores)
python -m benchmarks.throughput --sizes 224 --batches 32 128 --processes 1 2 4         (on a GPU)

EfficientNet-B0 from random weights. `ours` is `train_epoch` as a slot runs it; `bare` is a training step on one batch that
lies ready on the device: no shuffling, no augmentation, no targets to be fetched, nothing counted. `stock` is that with
timm's model as it is, without `training/kernels.py`. All take turns. With several processes on a CPU each has its share of
the cores; on a GPU they share it. fp32 on a CPU; on CUDA bf16 autocast, where all are measured twice: launch by launch, and
with forward and backward captured as one graph.
"""

import argparse
import itertools
import os
import statistics
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.outcome import circumstances, side_by_side, write

STEPS = 8  # of one timed pass


@dataclass(frozen=True)
class Setting:
    """What one process measures."""

    device: str
    size: int
    batch: int
    threads: int
    rounds: int
    captured: bool


def made_up(size: int, batch: int) -> Any:
    """Random training data of STEPS batches."""
    from tune_btxrd.training.pixels import TrainingData

    count = STEPS * batch
    images = np.random.default_rng(0).integers(0, 256, (count + 3, size, size), dtype=np.uint8)
    return TrainingData(
        images=images,
        targets=np.arange(count + 3) % 3,
        train_rows=np.arange(count),
        val_rows=np.arange(count, count + 3),
        num_classes=3,
        positive_class=2,
    )


class Ours:
    """Epochs as a slot trains them."""

    def __init__(self, device: str, size: int, batch: int, threads: int, *, captured: bool) -> None:
        from tune_btxrd.config import TrainConfig
        from tune_btxrd.training.slot import Slot

        config = TrainConfig(pretrained=False, image_size=size, batch_size=batch, epochs=10_000, capture=captured)
        slot = Slot(device=device, threads=threads)
        self.state = slot.start(config.replace(patience=10_000), made_up(size, batch), keep_best=False)

    def images_per_second(self) -> float:
        """Of one epoch's training pass."""
        from tune_btxrd.training.loop import train_epoch

        return train_epoch(self.state).images_per_second


class Bare:
    """The same model and optimizer on one batch, again and again; `stock` is without our kernels."""

    def __init__(
        self, device: str, size: int, batch: int, *, captured: bool, stock: bool = False, backbone: str = "efficientnet_b0"
    ) -> None:
        import timm
        import torch

        from tune_btxrd.training.models.kernels import use_fast_kernels

        self.device = torch.device(device)
        model = timm.create_model(backbone, num_classes=3, drop_rate=0.2)
        if not stock:
            use_fast_kernels(model, self.device)
        self.model = model.to(device=self.device, memory_format=torch.channels_last).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, weight_decay=1e-4, fused=True)
        self.images = torch.rand(batch, 3, size, size, device=self.device).to(memory_format=torch.channels_last)
        self.targets = torch.arange(batch, device=self.device) % 3
        self.graph = self._capture() if captured else None

    def images_per_second(self) -> float:
        """Of STEPS steps."""

        self._wait()
        began = time.perf_counter()
        for _ in range(STEPS):
            if self.graph is None:
                self._gradients()
            else:
                self.graph.replay()
            self.optimizer.step()
        self._wait()
        return STEPS * len(self.images) / (time.perf_counter() - began)

    def _gradients(self) -> None:
        import torch

        self.optimizer.zero_grad()
        enabled = self.device.type == "cuda"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled, cache_enabled=False):
            logits = self.model(self.images)
        torch.autograd.backward(torch.nn.functional.cross_entropy(logits.float(), self.targets))

    def _capture(self) -> Any:
        import torch

        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self._gradients()
            self.optimizer.zero_grad()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._gradients()
        return graph

    def _wait(self) -> None:
        if self.device.type == "cuda":
            import torch

            torch.cuda.synchronize()


def work(setting: Setting, barrier: Any, results: Any) -> None:
    """One process: both ways in turn, the first pass of each to warm up; all processes are at the same pass."""
    ways = {
        "ours": Ours(setting.device, setting.size, setting.batch, setting.threads, captured=setting.captured),
        "bare": Bare(setting.device, setting.size, setting.batch, captured=setting.captured),
        "stock": Bare(setting.device, setting.size, setting.batch, captured=setting.captured, stock=True),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(setting.rounds + 1):
        for name, way in ways.items():
            barrier.wait()
            found[name].append(way.images_per_second())
    results.put({name: statistics.median(rates[1:]) for name, rates in found.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 224])
    parser.add_argument("--batches", type=int, nargs="+", default=[32])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    import torch

    cuda = torch.cuda.is_available()
    found, rows = circumstances() | {"gpu": torch.cuda.get_device_name() if cuda else None}, []
    plan = itertools.product(options.sizes, options.batches, options.processes, (False, True) if cuda else (False,))
    for size, batch, processes, captured in plan:
        threads = 1 if cuda else max(1, (os.cpu_count() or 1) // processes)
        device = "cuda" if cuda else "cpu"
        setting = Setting(device, size, batch, threads, options.rounds, captured)
        each = side_by_side(work, setting, processes=processes)
        rates = {name: sum(process[name] for process in each) for name in each[0]}
        place = {"device": device, "size": size, "batch": batch, "processes": processes, "threads each": threads}
        place |= {"step": "captured" if captured else "eager"}
        ratios = {f"ours to {other}": round(rates["ours"] / rates[other], 2) for other in ("bare", "stock")}
        rows.append({**place, **{name: round(rate, 1) for name, rate in rates.items()}, **ratios})
        print(rows[-1], flush=True)
    write("throughput", rows, found)


if __name__ == "__main__":
    main()
