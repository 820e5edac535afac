"""Small datasets on disk, for the tests of readers, splits and hashes."""

from pathlib import Path

import pandas as pd
import pytest

from tests.support.paths import SHARED
from tune_btxrd.data.readers.btxrd import RELEASED_COLUMNS

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is absent")
LABELS = {"IMG000001.jpeg": (1, 0, 1), "IMG000002.jpg": (1, 1, 0), "IMG000003.jpeg": (0, 0, 0)}  # tumor, benign, malignant


def small_table() -> pd.DataFrame:
    """Three rows of BTXRD, one per class: Malignant, Benign, Normal."""
    table = pd.DataFrame({name: [0, 0, 0] for name in RELEASED_COLUMNS})
    table["image_id"] = list(LABELS)
    table["center"], table["age"], table["gender"] = [1, 2, 3], [12, 40, 7], ["M", "F", "M"]
    table[["tumor", "benign", "malignant"]] = list(LABELS.values())
    return table


def write_dataset(root: Path, table: pd.DataFrame | None = None, *, suffix: str = "csv") -> Path:
    """A folder in BTXRD layout; its images are three bytes each, for readers never decode."""
    table = small_table() if table is None else table
    (root / "images").mkdir(parents=True)
    for image_id in LABELS:
        (root / "images" / image_id).write_bytes(b"jpg")
    if suffix == "csv":
        table.to_csv(root / "dataset.csv", index=False)
    else:
        table.to_excel(root / "dataset.xlsx", index=False)
    return root


ROWS = "image_id,path,label\na,x/1.png,wolf\nb,x/2.png,cat\nc,y/3.png,wolf\nd,y/4.png,Ant\ne,y/5.png,Ant\n"


def write_folder(root: Path, text: str = ROWS) -> Path:
    for file in ("x/1.png", "x/2.png", "y/3.png", "y/4.png", "y/5.png"):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(b"png")
    (root / "manifest.csv").write_text(text, encoding="utf-8")
    return root
