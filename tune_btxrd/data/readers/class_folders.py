"""Own data without a table: one folder per class, or parts, centers, patients with or in them (`folder_layout`)."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers.btxrd import require_files
from tune_btxrd.data.readers.file_rules import images_below
from tune_btxrd.data.readers.folder_layout import Decision, decide_layout, parse_layout
from tune_btxrd.data.readers.names import check_class_names, check_id, check_name, examples
from tune_btxrd.data.readers.paths import inside
from tune_btxrd.errors import DataError
from tune_btxrd.files import encodable
from tune_btxrd.tasks.registry import DEFAULT

PARTS = ("train", "val", "test")


def read_class_folders(
    root: Path, *, dataset: str, table_only: bool = False, exclude: Collection[str] = (), layout: str | None = None
) -> Manifest:
    """The dataset in `root`. An image's id is its path, with `__` between folders, e.g. `train__rust__leaf1.jpg`.

    Classes are in alphabetical order; the positive class is the rarest (at a tie the first). Where the folders name a part,
    it stands in the table's column `part`, of which `make_split("folders")` is made.

    Args:
        dataset: the manifest's short name.
        table_only: every file is None.
        exclude: ids whose image may be missing.
        layout: what the folders mean (`--layout`); None: decided by their names.

    Raises:
        DataError: a name that cannot be an id, a link that leads out of the folder, a class that train lacks, folders whose
            meaning must be chosen.
    """
    images = images_below(root)
    places = [path.relative_to(root).parts[:-1] for path in images]
    decision = Decision(layout=parse_layout(layout), notes=(f"Layout {layout}, as asked.",)) if layout else None
    decision = decision or decide_layout(root, [place for place in places if place])
    table = _table(root, images, decision)
    names = sorted(set(table["label"]))
    if "part" in table and (unknown := sorted(set(names) - set(table["label"][table["part"] == "train"]))):
        raise DataError(f"Every class must occur in train, but {unknown[0]!r} in {root} does not: add images, or remove it.")
    check_class_names(names, str(root))
    files = [inside(root, path, "An image") for path in table.pop("path")]
    for image_id in table["image_id"]:
        check_id(image_id, "The path of an image")
    targets = np.array([names.index(label) for label in table["label"]], dtype=np.int64)
    manifest = Manifest(
        dataset=dataset,
        root=root.resolve(),
        image_ids=tuple(table["image_id"]),
        files=tuple(None if table_only else file for file in files),
        targets=targets,
        class_names=tuple(names),
        positive_class=DEFAULT.rarest(targets),
        centers=tuple(table["center"]) if "center" in table else None,
        groups=tuple(table["group"]) if "group" in table else None,
        table=table,
        annotations=(None,) * len(table),
        notes=decision.notes,
    )
    if not table_only:
        require_files(manifest, exclude, where="its folder")
    return manifest


def _table(root: Path, images: list[Path], decision: Decision) -> pd.DataFrame:
    """image_id, label, path and what else the layout says of an image; train first, then in order of the paths."""
    rows: list[tuple[Path, dict[str, str]]] = []
    for path in images:
        relative = path.relative_to(root)
        meant = None if relative.parts[0] in decision.unlabelled else decision.layout.meanings(relative.parts[:-1])
        if meant is not None:
            rows.append((relative, meant))
    if not rows:
        raise DataError(
            f"Images must lie as the layout {decision.layout} says, but none of {len(images):,} in {root} does "
            f"({examples([str(path.relative_to(root)) for path in images[:3]])}): choose another with --layout."
        )
    for path, _ in rows:
        if encodable(str(path)) != str(path):
            raise DataError(
                f"Names must be text in UTF-8, but {str(path)!r} in {root} is not: rename it (convmv does whole folders)."
            )
    rows.sort(key=lambda row: PARTS.index(row[1].get("part", "train")))
    table = pd.DataFrame([meant for _, meant in rows]).rename(columns={"class": "label"})
    for kind in ("center", "group"):
        for name in table.get(kind, pd.Series(dtype=object)).unique():
            check_name(name, f"A {kind} in {root}")
    table.insert(0, "image_id", ["__".join(path.parts).strip() for path, _ in rows])
    table["path"] = [str(path) for path, _ in rows]
    return table
