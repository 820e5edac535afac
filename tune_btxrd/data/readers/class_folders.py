"""Own data without a table: one folder per class, or train, val and test with one folder per class in each."""

from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers.btxrd import require_files
from tune_btxrd.data.readers.ids import check_id, inside
from tune_btxrd.errors import DataError

SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".tif", ".tiff", ".webp")
PART_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}  # what people call them
FEWEST_CLASSES = 2


def is_class_folders(root: Path) -> bool:
    """Whether at least two folders in `root`, or in its train folder, hold images."""
    return len(_class_names(_part_roots(root))) >= FEWEST_CLASSES


def read_class_folders(root: Path, *, dataset: str, table_only: bool = False, exclude: Collection[str] = ()) -> Manifest:
    """The dataset in `root`. An image's id is its path, with `__` between folders, e.g. `train__rust__leaf1.jpg`.

    Classes are in alphabetical order; the positive class is the rarest (at a tie the first). Where the folders name a part,
    it stands in the table's column `part`, of which `make_split("folders")` is made.

    Args:
        dataset: the manifest's short name.
        table_only: every file is None.
        exclude: ids whose image may be missing.

    Raises:
        DataError: a name that cannot be an id, a link that leads out of the folder, a class that train lacks.
    """
    parts = _part_roots(root)
    names = _class_names(parts)
    rows = [row for part, folder in parts for row in _images(root, folder, part)]
    if unknown := sorted({label for _, label, _ in rows} - set(names)):
        raise DataError(f"Every class must occur in train, but {unknown[0]!r} in {root} does not: add images, or remove it.")
    files = [inside(root, path.relative_to(root), "An image") for path, _, _ in rows]
    image_ids = ["__".join(path.relative_to(root).parts) for path, _, _ in rows]
    for image_id in image_ids:
        check_id(image_id, "The path of an image")
    targets = np.array([names.index(label) for _, label, _ in rows], dtype=np.int64)
    table = pd.DataFrame({"image_id": image_ids, "label": [label for _, label, _ in rows]})
    if parts[0][0]:
        table["part"] = [part for _, _, part in rows]
    manifest = Manifest(
        dataset=dataset,
        root=root.resolve(),
        image_ids=tuple(image_ids),
        files=tuple(None if table_only else file for file in files),
        targets=targets,
        class_names=tuple(names),
        positive_class=int(np.argmin(np.bincount(targets))),
        centers=None,
        groups=None,
        table=table,
        annotations=(None,) * len(rows),
    )
    if not table_only:
        require_files(manifest, exclude, where="its folder")
    return manifest


def _part_roots(root: Path) -> list[tuple[str, Path]]:
    """(part, folder of class folders), train first; one with an empty part where the classes lie in `root` itself."""
    found = [(PART_FOLDERS[path.name.lower()], path) for path in _folders(root) if path.name.lower() in PART_FOLDERS]
    if "train" not in dict(found):
        return [("", root)]
    if len(dict(found)) < len(found):
        raise DataError(f"A part must have one folder, but {root} has {len(found)} of train, val, test: merge two of them.")
    return sorted(found, key=lambda item: ("train", "val", "test").index(item[0]))


def _class_names(parts: list[tuple[str, Path]]) -> list[str]:
    return [folder.name for folder in _folders(parts[0][1]) if any(_files(folder))]


def _images(root: Path, folder: Path, part: str) -> Iterator[tuple[Path, str, str]]:
    for class_folder in _folders(folder):
        for path in _files(class_folder):
            yield path, class_folder.name, part


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _files(folder: Path) -> Iterator[Path]:
    """The images of one class folder, also in folders below it, in order of their paths."""
    yield from sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
