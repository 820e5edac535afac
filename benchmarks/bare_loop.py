"""The arithmetic alone: EfficientNet-B0 on tensors in memory, written as plainly and as fast as we know how.

No slot, no reports, no checkpoints, no metrics but the loss: what is left is what any search must pay. Memory settings,
layout, kernels and optimizer are those that measured best (docs/LOG.md): the strongest opponent we know.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.outcome import side_by_side

LR, WEIGHT_DECAY, DROPOUT, BATCH = 1e-3, 1e-4, 0.2, 32


@dataclass(frozen=True)
class Task:
    """What one process trains: images uint8 (N, S, S), targets int64 (N,), rows of the parts; how long, with what."""

    images: Path  # .npy
    targets: np.ndarray
    train_rows: np.ndarray
    val_rows: np.ndarray
    epochs: int
    threads: int
    batch: int = BATCH


def epoch_seconds(task: Task, *, processes: int) -> float:
    """Wall seconds per epoch of each process while all of them train side by side, after one epoch to warm up."""
    seconds = side_by_side(work, task, processes=processes)
    return sum(seconds) / len(seconds) / task.epochs


def work(task: Task, barrier: Any, results: Any) -> None:
    """One process: sets up, warms up, waits for the others, trains."""
    import torch

    from tune_btxrd.training.memory import set_up_memory

    torch.set_num_threads(task.threads)
    set_up_memory()
    loop = BareLoop(task)
    loop.epoch()
    barrier.wait()
    began = time.perf_counter()
    for _ in range(task.epochs):
        loop.epoch()
    results.put(time.perf_counter() - began)


class BareLoop:
    """Model, optimizer and images of one process."""

    def __init__(self, task: Task, *, device: str = "cpu") -> None:
        import timm
        import torch

        from tune_btxrd.config import TrainConfig
        from tune_btxrd.training.models.kernels import use_fast_kernels

        images = np.load(task.images, mmap_mode="r")
        self.task, self.device, self.config = task, torch.device(device), TrainConfig()
        self.images = torch.from_numpy(np.array(images)).to(self.device)
        self.targets = torch.from_numpy(task.targets).to(self.device)
        model = timm.create_model("efficientnet_b0", num_classes=3, drop_rate=DROPOUT)
        use_fast_kernels(model, self.device)
        self.model = model.to(device=self.device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=LR, weight_decay=WEIGHT_DECAY, fused=True)
        self.generator = torch.Generator(self.device).manual_seed(0)
        self.mean = torch.tensor([0.485, 0.456, 0.406], device=self.device)
        self.std = torch.tensor([0.229, 0.224, 0.225], device=self.device)

    def epoch(self) -> float:
        """One pass over train with gradients and over val without; the mean training loss."""
        import torch

        self.model.train()
        rows = torch.from_numpy(np.random.permutation(self.task.train_rows)).to(self.device)
        total = torch.zeros((), device=self.device)
        batches = [batch for batch in rows.split(self.task.batch) if len(batch) > 1]
        for batch in batches:
            total += self.step(batch)
        self.model.eval()
        with torch.inference_mode():
            for batch in torch.from_numpy(self.task.val_rows).to(self.device).split(128):
                total += 0 * self.loss(self.prepared(batch, train=False), batch)
        return float(total) / len(batches)

    def step(self, batch: Any) -> Any:
        """One optimizer step; the batch's loss."""
        import torch

        self.optimizer.zero_grad()
        loss = self.loss(self.prepared(batch, train=True), batch)
        torch.autograd.backward(loss)
        self.optimizer.step()
        return loss.detach()

    def prepared(self, batch: Any, *, train: bool) -> Any:
        """The images of these rows as the model wants them."""
        from tune_btxrd.training.augment.images import augment, normalise, to_float

        images = to_float(self.images[batch])
        return normalise(augment(images, self.generator, self.config) if train else images, self.mean, self.std)

    def loss(self, images: Any, batch: Any) -> Any:
        """Cross-entropy."""
        import torch

        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.device.type == "cuda"):
            logits = self.model(images)
        return torch.nn.functional.cross_entropy(logits.float(), self.targets[batch])
