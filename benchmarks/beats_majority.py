"""Does the retrained model beat the majority class on validation? Macro-F1 with a bootstrap interval, per split and seed.

    python -m benchmarks.beats_majority NAME [--storage ray_results]

after `tune-btxrd retrain NAME --seeds 3`. Grouped bootstrap (2,000 draws, seeded); the test parts stay shut.
"""

import argparse
from pathlib import Path

import numpy as np

from tune_btxrd.data.cache.arrays import stack_samples
from tune_btxrd.data.cache.cache import ImageCache
from tune_btxrd.data.splits.split_files import read_split
from tune_btxrd.inference.open_model import open_checkpoint
from tune_btxrd.results.search_json import SearchSettings
from tune_btxrd.scoring.intervals import draw_weights, percentile_interval
from tune_btxrd.scoring.metrics import Metric, ones, scores

MARGIN = 0.10  # what the lower bound must exceed the majority class's macro-F1 by


def main() -> None:
    """Prints one line per split and seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--storage", type=Path, default=Path("ray_results"))
    flags = parser.parse_args()
    folder = flags.storage / flags.name
    settings = SearchSettings.load(folder)
    cache = ImageCache.open(Path(settings.source.cache))
    for name, stem in settings.splits.items():
        data = settings.source.training_data(stem)
        targets = data.targets[data.val_rows]
        table = read_split(folder / "splits", stem, settings.source.class_names, parts=("val",))
        weights = draw_weights(table.groups, seed=42)
        majority = _macro_f1(
            np.eye(data.num_classes)[[np.bincount(targets).argmax()] * len(targets)], targets, ones(len(targets))
        )[0]
        root = settings.checkpoints
        for file in (root / f"best_{stem}.pt", *sorted((root / stem).glob("seed_*/best.pt"))):
            images = stack_samples([cache.images[row] for row in data.val_rows])
            logits = open_checkpoint(file).forward(images)
            probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
            probabilities /= probabilities.sum(axis=1, keepdims=True)
            point = _macro_f1(probabilities, targets, ones(len(targets)))[0]
            interval = percentile_interval(_macro_f1(probabilities, targets, weights))
            verdict = "beats" if interval.low > majority + MARGIN else "does not beat"
            print(
                f"{name:>11} {file.relative_to(root)!s:<32} macro-F1 {point:.3f} [{interval.low:.3f}, {interval.high:.3f}], "
                f"majority {majority:.3f}: {verdict} it by {MARGIN}"
            )


def _macro_f1(probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return scores(probabilities, targets, weights)[Metric("macro_f1")]


if __name__ == "__main__":
    main()
