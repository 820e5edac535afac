"""Do 8 bits per voxel cost anything? The same trainings on cubes of uint8, as the cache keeps them, and of float16.

python -m benchmarks.volume_bits [--seeds 3] [--epochs 6] [--data DIR]        (minutes on two cores)

Both are made from the same float32 levels. For each seed one network starts from the same weights, sees the same batches in
the same order, and is scored on the held-out third of the patients; the AUC of both stands side by side.
Writes benchmarks/results/volume_bits.json.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score

from benchmarks.outcome import circumstances, write
from tune_btxrd.data.cache.arrays import MIDDLE
from tune_btxrd.data.cache.volumes import CLIP, LEVELS, volume_levels
from tune_btxrd.data.phantom import make_phantom, phantom_spec
from tune_btxrd.data.readers.registry import read_dataset
from tune_btxrd.training.models.shell import create

BATCH, LR = 4, 1e-3


def read_levels(root: Path, side: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, S, S, S, K) float32 levels of all patients, and whether each is of the class to watch."""
    manifest = read_dataset(root)
    levels = [volume_levels(files, side, channels=manifest.channels)[0] for files in manifest.volumes]
    return np.stack(levels), (manifest.targets == manifest.positive_class).astype(np.int64)


def scores_of(levels: np.ndarray) -> torch.Tensor:
    """(N, K, S, S, S) z-scores, background 0, from levels of any type."""
    found = np.where(levels == 0, 0, (levels.astype(np.float32) - MIDDLE) / LEVELS * 2 * CLIP)
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(found, -1, 1), dtype=np.float32))


def trained_auc(volumes: torch.Tensor, targets: np.ndarray, *, seed: int, epochs: int) -> float:
    """AUC on the last third of a shuffled order that the seed decides."""
    torch.manual_seed(seed)
    model = create("resnet3d_10", 2, channels=volumes.shape[1], stem_stride=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR)
    draws = np.random.default_rng(seed)
    order, wanted = draws.permutation(len(targets)), torch.from_numpy(targets)
    train, held = order[: 2 * len(order) // 3], order[2 * len(order) // 3 :]
    model.train()
    for _ in range(epochs):
        for rows in np.array_split(draws.permutation(train), len(train) // BATCH):
            batch = volumes[rows]
            batch = batch.flip(2) if draws.random() < 0.5 else batch
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(model(batch), wanted[rows]).backward()
            optimizer.step()
    model.eval()
    with torch.inference_mode():
        said = torch.cat([model(volumes[held[start : start + 8]]) for start in range(0, len(held), 8)])
    return float(roc_auc_score(targets[held], said.softmax(1)[:, 1]))


def main() -> None:
    """Prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--data", type=Path, help="a dataset of volumes; default: the phantom")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = asked.data or Path(name) / "heads"
        if asked.data is None:
            make_phantom(root, phantom_spec(kind="volumes"))
        levels, targets = read_levels(root, asked.side)
    bits, half = np.rint(levels).astype(np.uint8), levels.astype(np.float16)
    inside = half > 0
    rows = []
    for seed in range(asked.seeds):
        ways = {"uint8": bits, "float16": half}
        rows.append(
            {"seed": seed}
            | {way: trained_auc(scores_of(kept), targets, seed=seed, epochs=asked.epochs) for way, kept in ways.items()}
        )
        print(rows[-1], flush=True)
    correlation = float(np.corrcoef(bits[inside], half[inside].astype(np.float32))[0, 1])
    differences = [row["uint8"] - row["float16"] for row in rows]
    outcome = {"correlation": correlation, "mean_difference": float(np.mean(differences)), "patients": len(targets)}
    settings = {name: value for name, value in vars(asked).items() if name != "data"}
    write("volume_bits", rows, {**circumstances(), **settings, **outcome})


if __name__ == "__main__":
    main()
