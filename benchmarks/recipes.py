"""Loss x unfreezing at equal budget: does a remedy for the imbalance help, and does it help to unfreeze in stages?

    python -m benchmarks.recipes --data ../shared/data/xray_standin --weights ../shared/data/weights

Every cell trains the same backbone from the same weights for the same epochs on the same partitions: per seed a fresh one of
the images of one center, 70 % to train, 30 % to score. Scores are those of the last epoch, so that nothing is chosen on the
scored images. Results go to a file of lines as they come; a run that was stopped goes on where it was.
"""

import argparse
import json
import math
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.split_data import split_data
from tune_btxrd.config import CLASS_LOSSES as LOSSES
from tune_btxrd.config import TrainConfig
from tune_btxrd.data.cache.cache import build_cache
from tune_btxrd.data.cache.hashes import file_hashes
from tune_btxrd.data.readers.registry import read_dataset
from tune_btxrd.data.splits.splits import repartition
from tune_btxrd.training.loop import train
from tune_btxrd.training.pixels import TrainingData
from tune_btxrd.training.slot import Slot

SIZE, EPOCHS, SEEDS = 64, 6, 5
STAGES = ("one", "two_phase")
COLUMNS = ("macro-AUC", "macro-F1", "positive recall")


def partitions(data: Path, center: str) -> list[TrainingData]:
    """One train/val partition of the center's images per seed."""
    manifest = read_dataset(data)
    assert manifest.centers is not None
    own = [name for name, place in zip(manifest.image_ids, manifest.centers, strict=True) if place == center]
    manifest = manifest.without(set(manifest.image_ids) - set(own))
    folder = Path(tempfile.gettempdir()) / "tune_btxrd_recipes"
    folder.mkdir(exist_ok=True)
    hashes = file_hashes(manifest, cache_dir=folder)
    cache = build_cache(manifest, image_size=SIZE, cache_dir=folder, hashes=hashes)
    numbers = np.arange(len(manifest))
    splits = (repartition(manifest, own, numbers=numbers, val_share=0.3, seed=seed) for seed in range(SEEDS))
    return [split_data(cache, manifest, split) for split in splits]


def measure(slot: Slot, data: TrainingData, *, loss: str, stages: str, seed: int, weights: Path) -> dict[str, object]:
    """The scores of one training's last epoch."""
    config = TrainConfig(
        loss=loss,
        stages=stages,
        seed=seed,
        epochs=EPOCHS,
        patience=EPOCHS,
        image_size=SIZE,
        backbone="tf_efficientnet_lite0",
        weights=str(weights),
    )
    *_, last = train(slot.start(config, data, keep_best=False))
    scores = (last.val_macro_auc, last.val_macro_f1, last.val_recall[data.positive_class])
    return {"loss": loss, "stages": stages, "seed": seed, **dict(zip(COLUMNS, scores, strict=True))}


def table(rows: list[dict[str, object]]) -> list[str]:
    """Markdown: mean and standard error over seeds of each cell, and the paired difference from weighted_ce, all at once."""
    lines = [f"| loss | unfreezing | seeds | {' | '.join(COLUMNS)} | macro-AUC less weighted_ce, one |", "| --- " * 7 + "|"]
    base = {row["seed"]: float(row["macro-AUC"]) for row in rows if (row["loss"], row["stages"]) == ("weighted_ce", "one")}
    for loss in LOSSES:
        for stages in STAGES:
            mine = [row for row in rows if (row["loss"], row["stages"]) == (loss, stages)]
            if len(mine) > 1:
                cells = [_spread([float(row[name]) for row in mine]) for name in COLUMNS]
                gains = [float(row["macro-AUC"]) - base[row["seed"]] for row in mine if row["seed"] in base]
                lines.append(f"| {loss} | {stages} | {len(mine)} | {' | '.join(cells)} | {_spread(gains, sign='+')} |")
    return lines


def _spread(values: list[float], *, sign: str = "") -> str:
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{statistics.fmean(values):{sign}.3f} +- {error:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="dataset in BTXRD layout")
    parser.add_argument("--weights", type=Path, required=True, help="folder with weights of tf_efficientnet_lite0")
    parser.add_argument("--center", default="1", help="whose images")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/recipes.jsonl"), help="lines of results")
    parser.add_argument("--seeds", type=int, nargs="*", default=range(SEEDS), help="which, to share the work")
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin no training after so many seconds")
    flags = parser.parse_args()
    began = time.monotonic()
    rows = [json.loads(line) for line in flags.results.read_text().splitlines()] if flags.results.is_file() else []
    done = {(row["loss"], row["stages"], row["seed"]) for row in rows}
    slot, parts = Slot(device="cpu", threads=1), partitions(flags.data, flags.center)
    flags.results.parent.mkdir(parents=True, exist_ok=True)
    todo = [(seed, loss, stages) for seed in flags.seeds for loss in LOSSES for stages in STAGES]
    for seed, loss, stages in todo:
        if (loss, stages, seed) in done or time.monotonic() - began > flags.seconds:
            continue
        rows.append(measure(slot, parts[seed], loss=loss, stages=stages, seed=seed, weights=flags.weights))
        print(f"{loss}, {stages}, seed {seed}: {rows[-1]}", flush=True)
        with flags.results.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
    print("\n".join(table(rows)))
    print(f"{len(rows)} of {SEEDS * len(LOSSES) * len(STAGES)} trainings done")


if __name__ == "__main__":
    main()
