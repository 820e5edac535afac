"""The recorded curves: full-length trainings of configs spread over the three dimensions, made once by our own trainer.

Two tables, the phantom's and the stand-in radiographs'. A row is one training: config, repeat, values, validation loss per
epoch. A repeat is a seed of the training, the same for all configs. Every config is recorded once, then the repeats of one
config after the other, so that a table cut short has every config and some whole repeats; an interrupted recording goes on.
"""

import contextlib
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats import qmc

from tune_btxrd.config import TrainConfig
from tune_btxrd.search.space.spec import SearchSpec

if TYPE_CHECKING:
    from tune_btxrd.training.pixels import TrainingData
    from tune_btxrd.training.slot import Slot

HERE = Path(__file__).parent
SPACE = HERE.parent / "search_spaces" / "btxrd.yaml"
NAMES = ("lr", "dropout", "weight_decay")
REPEATS, FEWEST_REPEATED = 3, 6
CENTER, IMAGES, VAL_SHARE = "1", 140, 0.3  # radiographs: so many images of one center, and their share that validates


@dataclass(frozen=True)
class Recording:
    """One table: what is trained, on what, and how often.

    Attributes:
        fixed: config fields that are not searched; small networks on small images, so that an hour has thousands of epochs.
    """

    name: str
    configs: int
    what: str
    fixed: Mapping[str, Any]

    @property
    def table(self) -> Path:
        """The file of the table."""
        return HERE / f"replay_{self.name}.csv"

    @property
    def needs_data(self) -> bool:
        """Whether images and weights must be given."""
        return self.name == "radiographs"

    @property
    def epochs(self) -> int:
        """Length of a training."""
        return int(self.fixed["epochs"])


RECORDINGS = {
    item.name: item
    for item in (
        Recording(
            name="phantom",
            configs=96,
            what="default phantom (400 images), split stratified",
            fixed={
                "backbone": "test_efficientnet",
                "image_size": 48,
                "batch_size": 32,
                "pretrained": False,
                "epochs": 30,
                "patience": 30,  # none: the replay applies its own
            },
        ),
        Recording(
            name="radiographs",
            configs=48,
            what="stand-in radiographs (140 images of center 1), 70 % to train, 30 % to validate",
            fixed={
                "backbone": "tf_efficientnet_lite0",
                "image_size": 64,
                "batch_size": 32,
                "epochs": 12,
                "patience": 12,
            },
        ),
    )
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


def record(
    recording: Recording, *, configs: int, repeated: int, repeats: int, work: Path, data: Path | None, weights: Path | None
) -> None:
    """Trains what the table lacks, one thread, and appends each training as it ends."""
    from tune_btxrd.training.slot import Slot

    images = _phantom(work, recording) if data is None else radiographs(work, recording, data)
    if not recording.table.exists():
        columns = ["config", "repeat", *NAMES, *(f"val_loss_{epoch}" for epoch in range(1, recording.epochs + 1))]
        recording.table.write_text(f"{_header(recording, len(images.train_rows))}\n{','.join(columns)}\n", encoding="utf-8")
    done = set(zip(*load(recording)[["config", "repeat"]].to_numpy().T, strict=True))
    slot = Slot(device="cpu", threads=1)
    start = {"weights": str(weights)} if weights else {}
    values_of = grid(configs)
    for number, repeat in order(configs, repeated=repeated, repeats=repeats):
        if (number, repeat) in done:
            continue
        values = values_of[number]
        config = TrainConfig.from_dict({**recording.fixed, **start, **values, "seed": repeat})
        losses = trained_losses(slot, images, config)
        line = ",".join(map(str, (number, repeat, *(values[name] for name in NAMES), *losses)))
        with recording.table.open("a", encoding="utf-8") as file:  # one training, one write
            file.write(line + "\n")
        print(f"{recording.name}: config {number}, repeat {repeat} {values} -> {losses[-1]}", flush=True)


def order(configs: int, *, repeated: int, repeats: int) -> list[tuple[int, int]]:
    """(config, repeat) of all trainings: every config once, then the repeats of the first ones."""
    return [(number, 0) for number in range(configs)] + [
        (number, repeat) for number in range(min(configs, repeated)) for repeat in range(1, repeats)
    ]


def load(recording: Recording) -> pd.DataFrame:
    """The recorded table; a diverged training has no losses from that epoch on."""
    return pd.read_csv(recording.table, comment="#")


def curves(recording: Recording) -> tuple[np.ndarray, np.ndarray]:
    """Values of every config (N, D) and its log losses (N, repeats, epochs); NaN where diverged or not recorded."""
    table = load(recording)
    values = table.groupby("config")[list(NAMES)].first()
    losses = np.full((len(values), int(table["repeat"].max()) + 1, recording.epochs), np.nan)
    columns = [f"val_loss_{epoch}" for epoch in range(1, recording.epochs + 1)]
    losses[table["config"].to_numpy(), table["repeat"].to_numpy()] = np.log(table[columns].to_numpy())
    return values.to_numpy(), losses


def recorded(recording: Recording) -> str:
    """How much of the table is there, in words."""
    return f"{len(load(recording))} of {recording.configs * REPEATS} trainings are recorded"


def has_luck(recording: Recording) -> bool:
    """Whether enough configs have all repeats, so that luck can be drawn from them."""
    return bool((load(recording).groupby("config").size() >= REPEATS).sum() >= FEWEST_REPEATED)


def trained_losses(slot: "Slot", data: "TrainingData", config: TrainConfig) -> list[float | str]:
    """Rounded validation loss per epoch; empty from the epoch on at which the training diverged."""
    from tune_btxrd.training.loop import train
    from tune_btxrd.training.state import Diverged

    losses: list[float | str] = []
    with contextlib.suppress(Diverged):  # its table row ends there
        losses.extend(round(row.val_loss, 4) for row in train(slot.start(config, data, keep_best=False)))
    return losses + [""] * (config.epochs - len(losses))


def _phantom(work: Path, recording: Recording) -> "TrainingData":
    """TrainingData of the phantom's stratified split; the folder is reused."""
    from benchmarks.phantom_source import SPLIT, phantom_source
    from tune_btxrd.data.phantom import PhantomSpec

    places = {"cache": work / "cache", "splits": work / "splits"}
    source, _, _ = phantom_source(PhantomSpec(), work / "phantom", **places, image_size=recording.fixed["image_size"])
    return source.training_data(SPLIT)


def radiographs(work: Path, recording: Recording, root: Path) -> "TrainingData":
    """TrainingData of one center's images, partitioned once."""
    from benchmarks.split_data import split_data
    from tune_btxrd.data.cache.cache import build_cache
    from tune_btxrd.data.cache.hashes import file_hashes
    from tune_btxrd.data.readers.registry import read_dataset
    from tune_btxrd.data.splits.splits import repartition

    manifest = read_dataset(root)
    assert manifest.centers is not None
    own = [name for name, place in zip(manifest.image_ids, manifest.centers, strict=True) if place == CENTER]
    own = sorted(np.random.default_rng(0).choice(sorted(own), IMAGES, replace=False).tolist())
    manifest = manifest.without(set(manifest.image_ids) - set(own))
    folder = work / "cache"
    folder.mkdir(parents=True, exist_ok=True)
    hashes = file_hashes(manifest, cache_dir=folder)
    cache = build_cache(manifest, image_size=recording.fixed["image_size"], cache_dir=folder, hashes=hashes)
    split = repartition(manifest, own, numbers=np.arange(len(manifest)), val_share=VAL_SHARE, seed=0)
    return split_data(cache, manifest, split)


def _header(recording: Recording, train: int) -> str:
    import timm
    import torch

    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=False)
    settings = ", ".join(f"{name}={value}" for name, value in recording.fixed.items())
    versions = f"torch {torch.__version__}, timm {timm.__version__}, Python {platform.python_version()}"
    return (
        f"# python -m benchmarks.replay record {recording.name}\n"
        f"# {recording.what}, {train} train; one thread; seed = repeat: {settings}\n"
        f"# commit {git.stdout.strip()}, {versions}, {platform.machine()}, {os.cpu_count()} cores"
    )
