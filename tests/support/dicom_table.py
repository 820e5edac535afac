"""A folder of DICOM files against pydicom: what is read of each, and the largest difference to its own pixels.

    python -m tests.support.dicom_table ../shared/data/dicom

prints the table of `docs/dicom.md`.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

from tune_btxrd.data.audit.headers import read_header
from tune_btxrd.data.cache.decode import UnreadableError, decode
from tune_btxrd.data.cache.dicom_picture import dicom_picture

BY_ITSELF = ("NO_WINDOW", "LINEAR_EXACT")


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One file: what is seen of it, and the largest difference in grey levels of 0 to 255, where there is one to compare."""

    file: str
    seen: str
    difference: float | None


def pydicoms_grey(dataset: Any) -> np.ndarray:
    """(H, W) in [0, 255]: pydicom's own VOI output between the ends of its range, inverted where MONOCHROME1 says so."""
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    values = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset).astype(np.float64)
    if dataset.get("VOILUTSequence"):
        low, high = 0.0, 2.0 ** dataset.VOILUTSequence[0].LUTDescriptor[2] - 1
    elif dataset.get("WindowWidth"):
        ends = dataset.BitsStored - 1, dataset.get("RescaleSlope") or 1, dataset.get("RescaleIntercept") or 0
        low, high = (-(2.0 ** ends[0]), 2.0 ** ends[0] - 1) if dataset.PixelRepresentation else (0, 2 ** (ends[0] + 1) - 1)
        low, high = (float(end) * float(ends[1]) + float(ends[2]) for end in (low, high))
    else:
        low, high = (0.0, 255.0) if dataset.BitsStored == 8 else (values.min(), values.max())
    shown = ((values - low) / (high - low)).clip(0, 1) * 255
    return 255 - shown if dataset.PhotometricInterpretation == "MONOCHROME1" else shown


def against_pydicom(folder: Path) -> Iterator[Compared]:
    """Every file of the folder, in the order of names. Padding is not compared: pydicom shows it as if it were picture."""
    for path in sorted(path for path in folder.iterdir() if path.suffix != ".csv"):
        try:
            note = decode(path, 64).note
        except UnreadableError as error:
            yield Compared(file=path.name, seen=f"refused: it {error.reason}", difference=None)
            continue
        header = read_header(path)
        seen = f"{header.width} x {header.height}, {header.mode}, {header.format}" + (f"; {note}" if note else "")
        yield Compared(file=path.name, seen=seen, difference=_difference(path))


def _difference(path: Path) -> float | None:
    """None where pydicom has no grey picture to compare: another format inside, colours, a window that it refuses."""
    data = path.read_bytes()
    try:
        dataset = pydicom.dcmread(BytesIO(data), force=True)
        if "WindowWidth" in dataset and float(np.atleast_1d(dataset.WindowWidth)[0]) < 1:
            dataset.VOILUTFunction = "LINEAR_EXACT"  # what we take it for, and say so
        wanted = pydicoms_grey(dataset)
    except (AttributeError, ValueError):
        return None
    if wanted.ndim != 2:
        return None
    found = dicom_picture(data).image
    seen = np.asarray(found.getchannel("A")) > 0 if found.mode == "LA" else np.ones(wanted.shape, dtype=bool)
    return float(np.abs(np.asarray(found.getchannel(0), dtype=np.float64) - wanted)[seen].max())


if __name__ == "__main__":
    print("| file | what is seen | largest difference |\n| --- | --- | --- |")
    for item in against_pydicom(Path(sys.argv[1])):
        print(f"| `{item.file}` | {item.seen} | {'' if item.difference is None else f'{item.difference:.2f}'} |")
