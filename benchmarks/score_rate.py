"""Scoring a label store against the bare model: images per second, decoding and writing included and without.

python -m benchmarks.score_rate        (about two minutes)

EfficientNet-B0 at 224 px on 192 phantom images of 512 px. Bare: batches that are in memory already, the same thread count.
"""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from benchmarks.outcome import circumstances, write
from tune_btxrd.console import QUIET, set_verbosity
from tune_btxrd.data.cache.arrays import stack_samples
from tune_btxrd.data.cache.decode import decode_image
from tune_btxrd.data.phantom import PhantomSpec, make_phantom
from tune_btxrd.labels.add import add_folder
from tune_btxrd.labels.store import LabelStore
from tune_btxrd.pipeline.score_store import BATCH, _score
from tune_btxrd.pipeline.scorers import checkpoint_scorer
from tune_btxrd.training.models.shell import create

IMAGES, SIDE, ROUNDS = PhantomSpec(count=192, size=512, seed=0), 224, 3
LABELS = ["tumour", "malignant"]


def main() -> None:
    """Both rates, in turns."""
    found = circumstances()
    set_verbosity(QUIET)
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        root = Path(folder)
        make_phantom(root / "phantom", IMAGES)
        checkpoint = _checkpoint(root / "best.pt")
        ratios, rates = [], []
        for number in range(ROUNDS):
            with LabelStore.create(root / f"{number}.db", LABELS, holdout_share=0.0) as store:
                add_folder(store, root / "phantom" / "images")
                scorer = checkpoint_scorer(checkpoint, store.labels, task=store.task, name=None, event=None, device="cpu")
                files = [store.folder / path for path in store.pool().paths]
                pixels = stack_samples([decode_image(file, SIDE) for file in files])
                scorer.reader.predictor.forward(pixels[:BATCH])
                began = time.perf_counter()
                scorer.reader.predictor.logits(pixels)
                bare = len(files) / (time.perf_counter() - began)
                model, began = store.begin_model("bench", scorer.sha256, event=None), time.perf_counter()
                _score(store, model, scorer)
                ours = len(files) / (time.perf_counter() - began)
            rates.append((bare, ours))
            ratios.append(ours / bare)
    rows = [
        {"bare_per_second": round(bare, 1), "score_per_second": round(ours, 1), "ratio": round(ours / bare, 2)}
        for bare, ours in rates
    ]
    write("score_rate", rows, {**found, "median_ratio": float(np.median(ratios))})


def _checkpoint(path: Path) -> Path:
    values = {
        "model_state_dict": create("efficientnet_b0", len(LABELS)).state_dict(),
        "config": {"backbone": "efficientnet_b0", "image_size": SIDE},
        "class_names": LABELS,
        "normalization": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
        "task": "multilabel",
    }
    torch.save(values, path)
    return path


if __name__ == "__main__":
    main()
