"""Images, groups and true labels of the benchmark of the queue: a folder with `label:` columns, and the phantom."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tune_btxrd.data.cache.arrays import stack_samples
from tune_btxrd.data.cache.decode import decode_image
from tune_btxrd.data.phantom import PhantomSpec, make_phantom
from tune_btxrd.inference.features import FeatureReader, pretrained_backbone

BACKBONE, BATCH = "tf_efficientnet_lite0", 16
PHANTOM = PhantomSpec(count=1200, size=224, seed=0)
PHANTOM_SIZE, REAL_SIZE = 160, 224  # px


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Features (N, D), true labels (N, L) with NaN for unknown, groups (N,)."""

    name: str
    features: np.ndarray
    truth: np.ndarray
    groups: np.ndarray


def multilabel(folder: Path, weights: Path, cache: Path) -> Labelled:
    """The images of `manifest.csv`: 1, 0 or nothing in each `label:` column; patients as groups."""
    table = pd.read_csv(folder / "manifest.csv")
    columns = [name for name in table if name.startswith("label:")]
    files = [folder / path for path in table["path"]]
    return Labelled(
        name="real chest radiographs",
        features=features_of(files, weights, image_size=REAL_SIZE, kept=cache / "multilabel.npy"),
        truth=table[columns].to_numpy(np.float64),
        groups=table["group"].to_numpy(str),
    )


def phantom(weights: Path, cache: Path) -> Labelled:
    """Drawn radiographs, each its own group: tumour, malignant, upper limb, a joint in view, frontal."""
    root = cache / PHANTOM.name
    make_phantom(root, PHANTOM)
    table = pd.read_excel(root / "dataset.xlsx")
    joint = table[[name for name in table if name.endswith("-joint")]].any(axis=1)
    truth = table[["tumor", "malignant", "upper limb", "frontal"]].assign(joint=joint)
    files = [root / "images" / name for name in table["image_id"]]
    return Labelled(
        name="phantom",
        features=features_of(files, weights, image_size=PHANTOM_SIZE, kept=cache / "phantom.npy"),
        truth=truth.to_numpy(np.float64),
        groups=table["image_id"].to_numpy(str),
    )


def features_of(files: list[Path], weights: Path, *, image_size: int, kept: Path) -> np.ndarray:
    """(N, D) of the frozen backbone; read from `kept` where it is there."""
    if kept.is_file():
        return np.asarray(np.load(kept))
    reader = FeatureReader(pretrained_backbone(BACKBONE, weights, image_size=image_size))
    batches = [files[start : start + BATCH] for start in range(0, len(files), BATCH)]
    found = [reader(stack_samples([decode_image(file, image_size) for file in batch]))[0] for batch in batches]
    kept.parent.mkdir(parents=True, exist_ok=True)
    np.save(kept, np.concatenate(found))
    return np.concatenate(found)
