"""Patients to predict: which files hold the channels of each, from a table, a folder per patient, or names on the line.

scan.nii.gz                    one patient of a model with one channel; also a folder of DICOM slices
flair.nii.gz,t1ce.nii.gz       one patient, files in the order of the model's channels
case/                          one patient: a file per channel whose name ends with the channel (CASE_flair.nii.gz)
cases/                         a folder of such folders, or of single files for a model with one channel
manifest.csv                   columns `image_id` and `path`, or `path:NAME` per channel; labels are not needed
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from tune_btxrd.data.cache.volume_files import ENDINGS, is_volume_name, require_extra
from tune_btxrd.data.readers.spreadsheet import read_sheet
from tune_btxrd.errors import DataError

Files = tuple[Path | None, ...]  # one per channel; None: not there
MANIFEST = "manifest.csv"


def find_patients(paths: Sequence[Path], channels: Sequence[str]) -> dict[Path, Files]:
    """The name under which each patient is reported -> its files, in order; a channel that is not there is None.

    Raises:
        DataError: a path does not exist, is of another kind, or holds no patient.
    """
    require_extra()
    found: dict[Path, Files] = {}
    for path in paths:
        found |= _patients(path, channels)
    return found


def _patients(path: Path, channels: Sequence[str]) -> dict[Path, Files]:
    names = str(path).split(",")
    if len(names) > 1 and not path.exists():
        return {Path(names[0]): _listed(names, channels)}
    if path.suffix.lower() == ".csv" and path.is_file():
        return _of_table(path, channels)
    if path.is_dir():
        return _of_folder(path, channels)
    if not path.is_file():
        raise DataError(f"Every volume must exist, but {path} does not: check the path.")
    if len(channels) > 1:
        raise DataError(
            f"This model needs {', '.join(channels)} of each patient, but got the single file {path}: give them with commas "
            "between them, the patient's folder, or a manifest.csv."
        )
    return {path: (path,)}


def _listed(names: Sequence[str], channels: Sequence[str]) -> Files:
    if len(names) != len(channels):
        raise DataError(
            f"Files with commas between them must be one patient's {', '.join(channels)}, but got {len(names)}: "
            f"{','.join(names)[:200]}."
        )
    if absent := [name for name in names if not Path(name).exists()]:
        raise DataError(f"Every volume must exist, but {absent[0]} does not: check the path.")
    return tuple(Path(name) for name in names)


def _of_table(path: Path, channels: Sequence[str]) -> dict[Path, Files]:
    table, _ = read_sheet(path, needs=("image_id",))
    single = len(channels) == 1 and "path" in table
    columns = ["path"] if single else [f"path:{name}" for name in channels]
    if absent := [column for column in ["image_id", *columns] if column not in table]:
        raise DataError(f"{path} must have the columns image_id, {', '.join(columns)}, but has no {absent[0]}: add it.")
    cells = zip(table["image_id"], *(table[column] for column in columns), strict=True)
    return {
        path.parent / str(image_id): tuple(None if pd.isna(cell) else path.parent / str(cell) for cell in files)
        for image_id, *files in cells
    }


def _of_folder(folder: Path, channels: Sequence[str]) -> dict[Path, Files]:
    if (folder / MANIFEST).is_file():
        return _of_table(folder / MANIFEST, channels)
    volumes = sorted(file for file in folder.iterdir() if file.is_file() and is_volume_name(file.name))
    named = tuple(_named(volumes, channel) for channel in channels)
    if all(named) or (len(channels) > 1 and any(named)):
        return {folder: named}
    if len(channels) == 1 and volumes:
        return {file: (file,) for file in volumes}
    inner = sorted(each for each in folder.iterdir() if each.is_dir())
    found: dict[Path, Files] = {}
    for each in inner:
        found |= _of_folder(each, channels)
    if not found and len(channels) == 1 and not inner and any(folder.iterdir()):
        return {folder: (folder,)}  # DICOM slices; the decoder says where they are none
    if not found:
        raise DataError(f"There must be a patient to predict, but {folder} holds no {', '.join(channels)}: name another.")
    return found


def _named(files: Sequence[Path], channel: str) -> Path | None:
    """The file whose name without its ending is the channel, or ends with `_` or `-` and the channel."""
    for file in files:
        name = file.name.lower()
        stem = next((name.removesuffix(ending) for ending in sorted(ENDINGS, key=len)[::-1] if name.endswith(ending)), name)
        if stem == channel.lower() or stem.endswith((f"_{channel.lower()}", f"-{channel.lower()}")):
            return file
    return None
