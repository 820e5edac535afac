"""Small volumes as files: heads of a few hundred voxels with a bright spot, as tables and BraTS folders have them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.support.dicoms import blank_dicom

CHANNELS = ("flair", "t1ce")


def head(number: int, *, shape: tuple[int, int, int] = (12, 14, 10), channel: int = 0) -> np.ndarray:
    """(X, Y, Z) int16: an ellipsoid of noise that differs per number and channel, zeros around it."""
    rng = np.random.default_rng([number, channel])
    place = np.stack(np.meshgrid(*[np.linspace(-1, 1, side) for side in shape], indexing="ij"))
    inside = (place**2).sum(axis=0) < 0.9
    return np.where(inside, rng.integers(200, 900, shape), 0).astype(np.int16)


def save(voxels: np.ndarray, path: Path, *, affine: np.ndarray | None = None) -> Path:
    """A NIfTI file; axes R, A, S with voxels of 1 mm where no affine is given."""
    import nibabel

    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4) if affine is None else affine), path)
    return path


def write_table(
    root: Path, *, count: int = 8, channels: Sequence[str] = CHANNELS, lacking: Sequence[tuple[int, str]] = ()
) -> Path:
    """`manifest.csv` of so many patients, half of each class; `lacking`: (row, channel) whose cell is blank."""
    rows = [",".join(["image_id", *(f"path:{channel}" for channel in channels), "label"])]
    for number in range(count):
        cells = []
        for place, channel in enumerate(channels):
            if (number, channel) in lacking:
                cells.append("")
                continue
            save(head(number, channel=place), root / f"P{number}_{channel}.nii.gz")
            cells.append(f"P{number}_{channel}.nii.gz")
        rows.append(",".join([f"P{number}", *cells, ("high", "low")[number % 2]]))
    (root / "manifest.csv").write_text("\n".join(rows) + "\n")
    return root


def write_brats(root: Path, *, grades: Sequence[str] = ("HGG", "LGG"), each: int = 3, separator: str = "_") -> Path:
    """`GRADE/CASE/CASE_flair.nii.gz`, `CASE_t1ce` and `CASE_seg`; no folder of a grade where it is ""."""
    number = 0
    for grade in grades:
        for _ in range(each):
            case = f"Case_{number:02d}"
            for place, channel in enumerate((*CHANNELS, "seg")):
                save(head(number, channel=place), root / grade / case / f"{case}{separator}{channel}.nii.gz")
            number += 1
    return root


def write_slices(
    folder: Path, voxels: np.ndarray, *, patient: str = "A", skip: Sequence[int] = (), series: Sequence[str] = ("1.2",)
) -> Path:
    """DICOM slices of (X, Y, Z) voxels with axes L, P, S of 2 x 1.5 x 3 mm, scaled by 0.5 less 10, in no order."""
    folder.mkdir(parents=True)
    for z in (z for z in range(voxels.shape[2]) if z not in skip):
        part = blank_dicom("1.2.840.10008.5.1.4.1.1.4")
        part.Modality, part.PatientID, part.SeriesInstanceUID = "MR", patient, series[z % len(series)]
        part.Rows, part.Columns = voxels.shape[1], voxels.shape[0]
        part.PixelSpacing, part.ImageOrientationPatient = [1.5, 2.0], [1, 0, 0, 0, 1, 0]
        part.ImagePositionPatient = [5.0, 6.0, 3.0 * z]
        part.SamplesPerPixel, part.PhotometricInterpretation = 1, "MONOCHROME2"
        part.BitsAllocated = part.BitsStored = 16
        part.HighBit, part.PixelRepresentation = 15, 1
        part.RescaleSlope, part.RescaleIntercept = "0.5", "-10"
        part.PixelData = voxels[:, :, z].T.astype("<i2").tobytes()
        part.save_as(folder / f"{(z * 7) % voxels.shape[2]:03d}_{z}.dcm", enforce_file_format=True)
    return folder
