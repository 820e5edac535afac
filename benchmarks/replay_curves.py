"""The recorded curves: full-length trainings of configs spread over the three dimensions, made once by our own trainer.

The table has one row per config and epoch; its first lines say what it was made with. An interrupted recording goes on
where it stopped, and more configs can be added to a table that is done.
"""

import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import qmc

from tune_btxrd.config import TrainConfig
from tune_btxrd.search.space.spec import SearchSpec

HERE = Path(__file__).parent
TABLE = HERE / "replay_curves.csv"
SPACE = HERE.parent / "search_spaces" / "btxrd.yaml"
COLUMNS = ("config", "lr", "dropout", "weight_decay", "epoch", "train_loss", "val_loss", "val_recall_malignant")
FIXED: dict[str, Any] = {  # a small network on small images: 2,880 epochs must fit in minutes on one core
    "backbone": "test_efficientnet",
    "image_size": 48,
    "batch_size": 16,
    "pretrained": False,
    "epochs": 30,
    "patience": 30,  # none: the replay applies its own
}


def grid(count: int) -> list[dict[str, float]]:
    """The first `count` of 128 Sobol points over the shipped space, the hand-made config before them."""
    spec = SearchSpec.load(SPACE)
    points = qmc.Sobol(d=len(spec.space), rng=0).random_base2(7)[: count - 1]
    configs = [dict(spec.start[0])]
    for point in points:
        values = {}
        for share, dimension in zip(point, spec.space, strict=True):
            low, high = dimension.bounds
            values[dimension.name] = float(low * (high / low) ** share if dimension.log else low + (high - low) * share)
        configs.append({name: float(f"{value:.4g}") for name, value in values.items()})
    return configs


def record(count: int, *, work: Path) -> None:
    """Trains the configs that the table lacks, one thread, and appends each as it ends."""
    from tune_btxrd.training.slot import Slot

    data = _phantom(work)
    done = set(load()["config"]) if TABLE.exists() else set()
    if not TABLE.exists():
        TABLE.write_text(f"{_header(count)}\n{','.join(COLUMNS)}\n", encoding="utf-8")
    slot = Slot(device="cpu", threads=1)
    for number, values in enumerate(grid(count)):
        if number not in done:
            lines = [",".join(map(str, row)) for row in _curve(slot, data, number, values)]
            with TABLE.open("a", encoding="utf-8") as file:  # one config, one write
                file.write("\n".join(lines) + "\n")
            print(f"config {number}: {values} -> {lines[-1]}", flush=True)


def load() -> pd.DataFrame:
    """The recorded table; a diverged training ends with a row without losses."""
    return pd.read_csv(TABLE, comment="#")


def _curve(slot: Any, data: Any, number: int, values: Mapping[str, float]) -> list[tuple[Any, ...]]:
    from tune_btxrd.training.loop import train
    from tune_btxrd.training.state import Diverged

    state = slot.start(TrainConfig.from_dict({**FIXED, **values}), data, keep_best=False)
    rows: list[tuple[Any, ...]] = []
    head = (number, values["lr"], values["dropout"], values["weight_decay"])
    try:
        for epoch in train(state):
            recall = epoch.val_recall[data.positive_class]
            rows.append((*head, epoch.epoch, round(epoch.train_loss, 5), round(epoch.val_loss, 5), round(recall, 4)))
    except Diverged as error:
        rows.append((*head, error.epoch, "", "", ""))
    return rows


def _phantom(work: Path) -> Any:
    """TrainingData of the default phantom's stratified split; the folder is reused."""
    from benchmarks.phantom_source import SPLIT, phantom_source
    from tune_btxrd.data.phantom import PhantomSpec

    places = {"cache": work / "cache", "splits": work / "splits"}
    source, _, _ = phantom_source(PhantomSpec(), work / "phantom", **places, image_size=FIXED["image_size"])
    return source.training_data(SPLIT)


def _header(count: int) -> str:
    import timm
    import torch

    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=False)
    settings = ", ".join(f"{name}={value}" for name, value in FIXED.items())
    versions = f"torch {torch.__version__}, timm {timm.__version__}, Python {platform.python_version()}"
    return (
        f"# python -m benchmarks.replay record --configs {count}\n"
        f"# default phantom (360 images), split stratified, one thread: {settings}\n"
        f"# commit {git.stdout.strip()}, {versions}, {platform.machine()}, {os.cpu_count()} cores"
    )
