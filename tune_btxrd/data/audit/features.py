"""Features: properties of files and table rows that the audit tests as shortcuts. N images throughout."""

from collections.abc import Mapping, Sequence
from pathlib import PurePath

import numpy as np
import pandas as pd

from tune_btxrd.data.audit.headers import ImageHeader
from tune_btxrd.data.audit.shortcuts import Feature
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers.btxrd import REGION_COLUMNS, SITE_COLUMNS, VIEW_COLUMNS
from tune_btxrd.data.splits.groups import PERSON_COLUMNS

FILE_FEATURES = ("image size", "image mode")
PIXEL_FEATURES = ("border",)


def table_features(manifest: Manifest) -> list[Feature]:
    """What is known without opening a file: extension, row order, center, and the columns that the table has."""
    names = [
        image_id if file is None else file.name for image_id, file in zip(manifest.image_ids, manifest.files, strict=True)
    ]
    features = [_category("file extension", [PurePath(name).suffix.lower() or "none" for name in names])]
    if not _sorted_by_folder(manifest):
        features.append(Feature(name="row order", numbers=np.arange(len(manifest), dtype=np.float64)[:, None]))
    if manifest.centers is not None:
        features.append(_category("center", manifest.centers))
    blocks = {"site columns": SITE_COLUMNS, "region columns": REGION_COLUMNS, "view columns": VIEW_COLUMNS}
    features += [_block(name, manifest.table, found) for name, c in blocks.items() if (found := _present(manifest.table, c))]
    if person := _present(manifest.table, PERSON_COLUMNS):
        features.append(Feature(name=" and ".join(person), numbers=_as_numbers(manifest.table[person])))
    return features


def file_features(headers: Sequence[ImageHeader]) -> list[Feature]:
    """What the image files say without a pixel being decoded: size, and color mode with file format."""
    sizes = np.array([(header.width, header.height) for header in headers], dtype=np.float64)
    numbers = np.column_stack([sizes, sizes[:, 0] / np.maximum(sizes[:, 1], 1)])
    values = np.array([f"{header.width}x{header.height} px" for header in headers])
    size, mode = FILE_FEATURES
    return [
        Feature(name=size, numbers=numbers, values=values),
        _category(mode, [f"{header.mode} {header.format}" for header in headers]),
    ]


def pixel_features(borders: np.ndarray) -> list[Feature]:
    """The border of the pictures, (N, 12) as `picture_measures.measure_pixels` gives it."""
    return [Feature(name=name, numbers=borders) for name in PIXEL_FEATURES]


def class_by_center(manifest: Manifest) -> Mapping[str, Mapping[str, int]]:
    """Center -> class name -> number of images; empty where the dataset names no centers."""
    if manifest.centers is None:
        return {}
    centers = np.array(manifest.centers)
    counts = {str(center): manifest.indicators[centers == center].sum(axis=0) for center in sorted(set(manifest.centers))}
    occur = [index for index, count in enumerate(manifest.class_counts) if count]
    return {center: {manifest.class_names[index]: int(found[index]) for index in occur} for center, found in counts.items()}


def _block(name: str, table: pd.DataFrame, columns: list[str]) -> Feature:
    """0/1 columns that belong together and how many of them are set; the readable value is whether any is."""
    numbers = _as_numbers(table[columns])
    count = (numbers == 1).sum(axis=1)
    values = np.where(count > 0, f"some of {len(columns)} set", f"all {len(columns)} zero")
    return Feature(name=name, numbers=np.column_stack([numbers, count]), values=values)


def _sorted_by_folder(manifest: Manifest) -> bool:
    """Whether rows are only sorted by folder, as those of class folders are: their order then says what the folders say."""
    folders = [file.parent for file in manifest.files if file is not None]
    return len(set(folders)) > 1 and folders == sorted(folders)


def _category(name: str, values: Sequence[str]) -> Feature:
    """Text as one 0/1 number per value."""
    return Feature(name=name, numbers=pd.get_dummies(pd.Series(values)).to_numpy(np.float64), values=np.array(values))


def _as_numbers(table: pd.DataFrame) -> np.ndarray:
    """(N, k) float64: numbers as they are, text as its rank among the values, an empty cell as -1."""
    columns = [c if pd.api.types.is_numeric_dtype(c) else _ranks(c) for c in (table[name] for name in table.columns)]
    return np.column_stack([column.fillna(-1).to_numpy(np.float64) for column in columns])


def _ranks(column: "pd.Series[str]") -> "pd.Series[int]":
    return pd.Series(pd.factorize(column, sort=True)[0], index=column.index)


def _present(table: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    return [column for column in columns if column in table.columns]
