"""DICOM folder: the slices of one series as voxels and affine, ordered by their places in the patient."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tune_btxrd.data.cache.decode import UnreadableError
from tune_btxrd.data.cache.dicom_files import NotAPictureError, begins_as_picture, read_dicom, stored_pixels
from tune_btxrd.data.readers.file_rules import is_no_data

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # DICOM counts to the left and to the back, NIfTI to the right and the front
UNEVEN = 0.05  # share by which the gaps between slices may differ
NEEDED = ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "Rows", "Columns")


def read_slices(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """(X, Y, Z) float64 voxels with the modality's scaling, and their affine to mm, RAS.

    Raises:
        UnreadableError: no slices, several series or sizes, a missing slice, a damaged one.
    """
    from pydicom.pixels.processing import apply_modality_lut

    slices = _series(folder)
    planes = []
    for part in slices:
        try:
            plane = apply_modality_lut(stored_pixels(part), part)
        except NotAPictureError as error:
            place = Path(str(part.filename)).name
            raise UnreadableError(folder.name, f"has a slice {place} that {error}") from None
        except Exception as error:  # LUTs of damaged slices raise all kinds; their text may quote the header
            place = Path(str(part.filename)).name
            raise UnreadableError(folder.name, f"has a damaged slice {place} ({type(error).__name__})") from None
        planes.append(np.asarray(plane, dtype=np.float64).T)  # rows run along y
    return np.stack(planes, axis=-1), _affine(folder, slices)


def read_geometry(folder: Path) -> tuple[tuple[int, ...], np.ndarray, str]:
    """Shape, affine and kind of voxel of a series, from its headers. Raises: UnreadableError."""
    slices = _series(folder, pixels=False)
    first = slices[0]
    shape = (int(first.Columns), int(first.Rows), len(slices))
    return shape, _affine(folder, slices), f"{'int' if first.get('PixelRepresentation', 0) else 'uint'}{first.BitsAllocated}"


def _series(folder: Path, *, pixels: bool = True) -> list[Any]:
    """The slices in order along their normal."""
    found = list(_headers(folder, pixels=pixels))
    if not found:
        raise UnreadableError(folder.name, "holds no DICOM slices")
    if len(kinds := {str(part.get("SeriesInstanceUID", "")) for part in found}) > 1:
        raise UnreadableError(folder.name, f"holds {len(kinds)} series instead of one: give each its own folder")
    if any(int(part.get("NumberOfFrames", 1) or 1) > 1 for part in found):
        raise UnreadableError(folder.name, "holds a file of several frames: convert it to NIfTI first (dcm2niix)")
    for part in found:
        if lacking := [name for name in NEEDED if part.get(name) is None]:
            raise UnreadableError(folder.name, f"has a slice without {lacking[0]} ({Path(str(part.filename)).name})")
    if int(found[0].get("SamplesPerPixel", 1)) > 1:
        raise UnreadableError(folder.name, "holds colours, not one number per voxel")
    if len(sizes := {(int(part.Rows), int(part.Columns)) for part in found}) > 1:
        raise UnreadableError(folder.name, f"holds slices of {len(sizes)} sizes instead of one")
    if len(found) < 2:
        raise UnreadableError(folder.name, "is flat (one slice), no volume")
    normal = _normal(found[0])
    return sorted(found, key=lambda part: float(normal @ np.array(part.ImagePositionPatient, dtype=np.float64)))


def _headers(folder: Path, *, pixels: bool) -> Iterator[Any]:
    """Every slice in order of the files' names, with its pixels or without."""
    for path in sorted(folder.iterdir()):
        if is_no_data(path.name) or not begins_as_picture(path):
            continue  # a text or a picture beside the slices
        try:
            part = read_dicom(path, pixels=pixels)
        except NotAPictureError as error:
            raise UnreadableError(folder.name, f"has a slice {path.name} that {error}") from None
        if part.get("Rows") is not None:
            yield part


def _normal(part: Any) -> np.ndarray:
    along = np.array(part.ImageOrientationPatient, dtype=np.float64)
    return np.cross(along[:3], along[3:])


def _affine(folder: Path, slices: list[Any]) -> np.ndarray:
    first = slices[0]
    along = np.array(first.ImageOrientationPatient, dtype=np.float64)
    places = np.array([part.ImagePositionPatient for part in slices], dtype=np.float64)
    gaps = np.diff(places @ _normal(first))
    if gaps.min() <= 0:
        raise UnreadableError(folder.name, "holds two slices at one place: keep one volume of them")
    if gaps.max() > gaps.min() * (1 + UNEVEN):
        raise UnreadableError(folder.name, f"has gaps of {gaps.min():.3g} to {gaps.max():.3g} mm: a slice is missing")
    affine = np.eye(4)
    between_rows, between_columns = (float(side) for side in first.PixelSpacing)
    affine[:3, 0], affine[:3, 1] = along[:3] * between_columns, along[3:] * between_rows
    affine[:3, 2], affine[:3, 3] = (places[-1] - places[0]) / (len(slices) - 1), places[0]
    return LPS_TO_RAS @ affine
