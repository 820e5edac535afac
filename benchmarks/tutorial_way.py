"""A search as the tutorials of Ray Tune show it: one process per trial, PIL in a DataLoader, stock OptunaSearch and ASHA, a
checkpoint at every epoch. Nothing of ours is used.
"""

import logging
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Task:
    """Files and targets of both parts, and what a search over them does."""

    train: tuple[list[str], list[int]]
    val: tuple[list[str], list[int]]
    image_size: int
    trials: int
    epochs: int
    grace_period: int
    reduction_factor: float
    slots: int
    weights: tuple[float, ...] = (1.0, 1.0, 1.0)  # of the classes in the training loss
    seed: int = 0
    until: float = 0.0  # the search ends as soon as a val loss is as low as this ...
    deadline: float = float("inf")  # ... or at the first report after so many seconds since 1970
    first: dict[str, float] | None = None  # the first trial's config
    backbone: str = "efficientnet_b0"
    batch: int = 32
    gpus: float = 0.0  # of each trial


def make_trainable(task: Task) -> Any:
    """Trains one config; nested, so that Ray sends its code."""
    size, train_part, val_part = task.image_size, task.train, task.val
    epochs, seed, weights, backbone, batch = task.epochs, task.seed, task.weights, task.backbone, task.batch
    device = "cuda" if task.gpus else "cpu"

    def train(config: dict[str, Any]) -> None:
        import tempfile
        from pathlib import Path

        import timm
        import torch
        from PIL import Image
        from ray import tune
        from torch.utils.data import DataLoader, Dataset
        from torchvision import transforms

        # annotations in quotes: what a class body names does not travel with the pickled function
        class Radiographs(Dataset):  # type: ignore[type-arg]
            def __init__(self, files: list[str], targets: list[int], transform: "Any") -> None:
                self.files, self.targets, self.transform = files, targets, transform

            def __len__(self) -> int:
                return len(self.files)

            def __getitem__(self, index: int) -> "Any":
                return self.transform(Image.open(self.files[index]).convert("RGB")), self.targets[index]

        norm = [transforms.ToTensor(), transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
        affine = transforms.RandomAffine(15, translate=(0.05, 0.05), scale=(0.8, 1.0))
        change = [transforms.RandomHorizontalFlip(), affine, transforms.ColorJitter(0.2, 0.2)]
        resize = transforms.Resize((size, size))
        torch.manual_seed(seed)
        train_set = Radiographs(*train_part, transforms.Compose([resize, *change, *norm]))
        val_set = Radiographs(*val_part, transforms.Compose([resize, *norm]))
        batches = DataLoader(train_set, batch_size=batch, shuffle=True, drop_last=len(train_set) % batch == 1)
        val_batches = DataLoader(val_set, batch_size=batch)
        model = timm.create_model(backbone, num_classes=3, drop_rate=config["dropout"]).to(device)
        class_weights = torch.tensor(weights, device=device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"], weight_decay=config["weight_decay"])
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
        for epoch in range(1, epochs + 1):
            model.train()
            for images, targets in batches:
                optimizer.zero_grad()
                logits = model(images.to(device))
                loss = torch.nn.functional.cross_entropy(logits, targets.to(device), weight=class_weights)
                loss.backward()
                optimizer.step()
            schedule.step()
            model.eval()
            total, right = 0.0, 0
            with torch.no_grad():
                for images, targets in val_batches:
                    logits = model(images.to(device)).cpu()
                    total += torch.nn.functional.cross_entropy(logits, targets, reduction="sum").item()
                    right += int((logits.argmax(1) == targets).sum())
            with tempfile.TemporaryDirectory() as folder:
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}
                torch.save(state, Path(folder) / "checkpoint.pt")
                row = {"epoch": epoch, "val_loss": total / len(val_set), "val_acc": right / len(val_set)}
                tune.report(row, checkpoint=tune.Checkpoint.from_directory(folder))

    return train


def search(task: Task, folder: Path) -> list[tuple[float, int, float]]:
    """Runs the search; (seconds since 1970, epoch of its trial, val loss) of every report, in order."""
    import optuna
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ray.init(num_cpus=task.slots, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    told: list[tuple[float, int, float]] = []

    class Listener(tune.Callback):
        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
        ) -> None:
            told.append((time.time(), result["epoch"], result["val_loss"]))
            if result["val_loss"] <= task.until or time.time() > task.deadline:
                os.kill(os.getpid(), signal.SIGINT)  # Tune's own way to end early

    space = {"lr": tune.loguniform(1e-5, 1e-2), "dropout": tune.uniform(0, 0.5), "weight_decay": tune.loguniform(1e-6, 0.1)}
    tune.Tuner(
        tune.with_resources(make_trainable(task), {"CPU": 1, "GPU": task.gpus}),
        param_space=space,
        tune_config=tune.TuneConfig(
            metric="val_loss",
            mode="min",
            search_alg=OptunaSearch(seed=task.seed, points_to_evaluate=[task.first] if task.first else None),
            scheduler=ASHAScheduler(
                max_t=task.epochs, grace_period=task.grace_period, reduction_factor=task.reduction_factor
            ),
            num_samples=task.trials,
        ),
        run_config=tune.RunConfig(name="tutorial", storage_path=str(folder), verbose=0, callbacks=[Listener()]),
    ).fit()
    ray.shutdown()
    return told
