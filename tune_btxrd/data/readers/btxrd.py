"""BTXRD as it unzips, and whatever has its layout: the phantom, a subset, an earlier revision, the table alone.

Source: Yao et al., Sci Data 12:88 (2025). `dataset.xlsx` (or `.csv`), `images/`, LabelMe files in `Annotations/`.
"""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers.file_rules import READABLE, images_below, is_no_data
from tune_btxrd.data.readers.folder_layout import is_class_folders
from tune_btxrd.data.readers.names import check_id, check_name, examples, same_spelling
from tune_btxrd.data.readers.paths import FileFinder, inside, spellings
from tune_btxrd.data.readers.spreadsheet import read_sheet, require_columns, require_values
from tune_btxrd.errors import DataError, shell_word

CLASS_NAMES = ("Normal", "Benign", "Malignant")
TABLE_NAMES = ("dataset.xlsx", "dataset.csv")
LABEL_COLUMNS = ("tumor", "benign", "malignant")
SITE_COLUMNS = (
    *("hand", "ulna", "radius", "humerus", "foot", "tibia", "fibula", "femur", "hip bone", "ankle-joint", "knee-joint"),
    *("hip-joint", "wrist-joint", "elbow-joint", "shoulder-joint"),
)
TYPE_COLUMNS = (
    *("osteochondroma", "multiple osteochondromas", "simple bone cyst", "giant cell tumor", "osteofibroma"),
    *("synovial osteochondroma", "other bt", "osteosarcoma", "other mt"),
)
REGION_COLUMNS = ("upper limb", "lower limb", "pelvis")
VIEW_COLUMNS = ("frontal", "lateral", "oblique")
FLAG_COLUMNS = (*SITE_COLUMNS, *TYPE_COLUMNS, *REGION_COLUMNS, *VIEW_COLUMNS)
RELEASED_COLUMNS = (
    *("image_id", "center", "age", "gender", *SITE_COLUMNS, *LABEL_COLUMNS, *TYPE_COLUMNS),
    *(*REGION_COLUMNS, *VIEW_COLUMNS),
)
EARLIER_NAMES = {  # of an earlier revision -> as released
    **{name.removesuffix("-joint"): name for name in SITE_COLUMNS if name.endswith("-joint")},
    **{name.replace("-", " "): name for name in SITE_COLUMNS if name.endswith("-joint")},
    **{"upper limbs": "upper limb", "lower limbs": "lower limb", "image id": "image_id", "original_name": "original name"},
}


def read_btxrd(root: Path, *, dataset: str, table_only: bool = False, exclude: Collection[str] = ()) -> Manifest:
    """The dataset in `root`. Excluded images are still in it, but their files may be missing.

    A blank cell is 0 in the site, type, region and view columns, and in a label column that writes no 0 at all.
    `centers` is None without a center column. Ids are matched to files by name, then by name without extension.

    Args:
        dataset: the manifest's short name.
        table_only: look for no images; every file is None.
        exclude: ids whose image may be missing.

    Raises:
        DataError: a missing unzip step, column, value or image; an id or a link that leads out of the folder.
    """
    path = table_path(root)
    table, notes = read_sheet(path, EARLIER_NAMES, needs=("image_id", "benign", "malignant"))
    require_columns(table, ("image_id", "benign", "malignant"), path)
    image_ids = require_values(table, "image_id", path, "name the image or remove the row")
    for number, image_id in zip(table.index, image_ids, strict=True):
        check_id(image_id, f"image_id in row {number} of {path}")
    centers = _centers(table, path)
    table = _typed(table, path)
    images = {} if table_only else _files(root, _image_folder(root), READABLE)
    manifest = Manifest(
        dataset=dataset,
        root=root.resolve(),
        image_ids=tuple(image_ids),
        files=tuple(_match(image_id, images) for image_id in image_ids),
        targets=_targets(table),
        class_names=CLASS_NAMES,
        positive_class=CLASS_NAMES.index("Malignant"),
        centers=centers,
        groups=None,
        table=table.reset_index(drop=True),
        annotations=_annotations(root, image_ids),
        notes=notes,
    )
    if not table_only:
        require_files(manifest, exclude, where="images/")
    return manifest


def table_path(root: Path) -> Path:
    """`dataset.xlsx` or `dataset.csv` in `root`. Raises DataError naming the missing step where there is not one."""
    finder = FileFinder(root)
    found = [path for name in TABLE_NAMES if (path := finder.find(name, "The table")) is not None]
    if len(found) == 2:
        raise DataError(f"{root} must hold one table, but holds dataset.xlsx and dataset.csv: remove one of them.")
    if not found:
        raise DataError(f"{root} must hold dataset.xlsx or dataset.csv, but does not: {_missing_step(root)}.")
    return found[0]


def require_files(manifest: Manifest, exclude: Collection[str], *, where: str, nearest: str = "") -> None:
    """Raises DataError, in one line, where images that are not excluded have no file."""
    known = zip(manifest.image_ids, manifest.files, strict=True)
    if missing := [image_id for image_id, file in known if file is None and image_id not in exclude]:
        which = "; ".join(filter(None, (examples(missing), nearest)))
        raise DataError(
            f"Every row needs its image in {where}, but {len(missing)} of {len(manifest)} are missing in {manifest.root} "
            f"({which}): copy them there, or leave them out with --exclude FILE."
        )


def annotation_folder(root: Path) -> Path | None:
    """`Annotations/`, or the `Annotations/` in it, or None."""
    folders = [root / "Annotations" / "Annotations", root / "Annotations"]
    return next((folder for folder in folders if folder.is_dir()), None)


def _missing_step(root: Path) -> str:
    if nested := [path.parent for name in TABLE_NAMES for path in sorted(root.glob(f"*/{name}"))]:
        return f"it is one folder further in, use --data {shell_word(str(nested[0]))}"
    if len(wrapped := [path for path in sorted(root.iterdir()) if path.is_dir() and is_class_folders(path)]) == 1:
        return f"the classes are one folder further in, use --data {shell_word(str(wrapped[0]))}"
    if zips := sorted(path.name for path in root.glob("*.zip")):
        return f"unzip {zips[0]} there first"
    if loose := [path for path in images_below(root) if path.parent == root]:
        return (
            f"its {len(loose):,} images have no class; sort them into class folders, add a manifest.csv, or `predict` them"
        )
    return "give the folder into which BTXRD.zip was unzipped, or one with a manifest.csv"


def _image_folder(root: Path) -> Path:
    folder = root / "images"
    if folder.is_dir():
        nested = folder / "images"
        return nested if nested.is_dir() else folder
    if (root / "images.zip").is_file():
        raise DataError(f"{root} must hold the folder images/, but holds images.zip: unzip it there first.")
    raise DataError(
        f"{root} must hold the folder images/, but does not: copy it there (the table alone cannot be trained on)."
    )


def _files(root: Path, folder: Path, suffixes: Collection[str]) -> dict[str, Path]:
    """Name and stem, as `_key` spells them, -> file in `folder`; a stem that two files share is left out."""
    home = inside(root, folder.relative_to(root), f"The folder {folder.name}/")
    found: dict[str, Path] = {}
    by_stem: dict[str, list[Path]] = {}
    for path in _listed(home):
        if path.suffix.lower() in suffixes and not is_no_data(path.name):
            file = inside(root, path.relative_to(root.resolve()), "An image") if path.is_symlink() else path
            if file.is_file():
                for name in spellings(path.name):
                    found[_key(name)] = file
                    by_stem.setdefault(_key(name.rpartition(".")[0]), []).append(file)
    return {stem: files[0] for stem, files in by_stem.items() if len(files) == 1} | found


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder} must be readable, but is not ({error.strerror}): change its permissions.") from error


def _key(name: str) -> str:
    return same_spelling(name).casefold()


def _match(image_id: str, files: dict[str, Path]) -> Path | None:
    """The file of an id: by name; a table may also say .jpg where the file says .jpeg, or no extension at all."""
    stem, dot, suffix = _key(image_id).rpartition(".")
    return files.get(_key(image_id)) or (files.get(stem) if f"{dot}{suffix}" in READABLE else None)


def _annotations(root: Path, image_ids: list[str]) -> tuple[Path | None, ...]:
    folder = annotation_folder(root)
    found = {} if folder is None else _files(root, folder, (".json",))
    stems = (_key(image_id).rpartition(".")[0] or _key(image_id) for image_id in image_ids)
    return tuple(found.get(f"{stem}.json") for stem in stems)


def _centers(table: pd.DataFrame, path: Path) -> tuple[str, ...] | None:
    if "center" not in table or table["center"].isna().all():
        return None
    centers = [_whole(value) for value in require_values(table, "center", path, "fill it in, or remove the whole column")]
    for center in set(centers):
        check_name(center, f"center in {path}")
    return tuple(centers)


def _typed(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The table with 0/1 columns as int64, age as float64 (blank is NaN), and text as it was."""
    typed = table.copy()
    for name in (name for name in (*LABEL_COLUMNS, *FLAG_COLUMNS) if name in table):
        typed[name] = _flag(table[name], path)
    if "center" in table:
        numbers = pd.to_numeric(table["center"], errors="coerce")
        typed["center"] = table["center"] if numbers.isna().any() else numbers.astype(np.int64)
    if "age" in table:
        typed["age"] = pd.to_numeric(table["age"], errors="coerce").astype(np.float64)
        _refuse(typed["age"].isna() & table["age"].notna(), table["age"], path, "a number or blank")
    return typed


def _flag(column: "pd.Series[str]", path: Path) -> "pd.Series[int]":
    column = column.map(_whole, na_action="ignore")
    _refuse(column.notna() & ~column.isin(["0", "1"]), column, path, "0, 1 or blank")
    if column.name in LABEL_COLUMNS and column.isin(["0"]).any():
        _refuse(column.isna(), column, path, "0 or 1")
    return column.fillna("0").astype(np.int64)


def _whole(value: str) -> str:
    """The text "1.0" as "1": a table that once had blanks writes its whole numbers so."""
    return value.removesuffix(".0")


def _refuse(wrong: "pd.Series[bool]", column: "pd.Series[str]", path: Path, rule: str) -> None:
    if wrong.any():
        row = column.index[wrong][0]
        value = "nothing" if pd.isna(column[row]) else repr(column[row])
        raise DataError(f"{column.name} must be {rule}, but row {row} of {path} holds {value}: mend or remove the row.")


def _targets(table: pd.DataFrame) -> np.ndarray:
    """malignant -> 2, else benign -> 1, else 0: (N,) int64."""
    return np.where(table["malignant"] == 1, 2, np.where(table["benign"] == 1, 1, 0)).astype(np.int64)
