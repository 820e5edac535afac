"""DICOM files made for tests: pictures with a marked patient, and damaged or foreign relatives of them."""

from pathlib import Path
from typing import Any

import numpy as np

MARKS = ("MARKFAMILY", "MARKGIVEN", "MARKID7", "19470203", "20190405", "MARKPHYSICIAN", "MARKHOSPITAL", "1.2.3.999.47.11")
GREY = {"PhotometricInterpretation": "MONOCHROME2"}


def blank_dicom(kind: str) -> Any:
    """A dataset of this SOP class with an identity of its own and nothing else, uncompressed."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = kind
    meta.MediaStorageSOPInstanceUID = generate_uid()
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    return made


def dicom_dataset(pixels: np.ndarray, *, patient: str = MARKS[2], study: str = MARKS[7], **elements: Any) -> Any:
    """An uncompressed grey or RGB picture of a marked patient; `elements` are set, and those that are None are missing."""
    made = blank_dicom("1.2.840.10008.5.1.4.1.1.1")
    made.PatientName, made.PatientID = f"{MARKS[0]}^{MARKS[1]}", patient
    made.PatientBirthDate, made.StudyDate, made.StudyInstanceUID = MARKS[3], MARKS[4], study
    made.ReferringPhysicianName, made.InstitutionName = MARKS[5], MARKS[6]
    made.Modality = "CR"
    made.Rows, made.Columns = pixels.shape[:2]
    is_colour = pixels.ndim == 3
    made.SamplesPerPixel, made.PhotometricInterpretation = (3, "RGB") if is_colour else (1, "MONOCHROME2")
    if is_colour:
        made.PlanarConfiguration = 0
    bits = 8 * pixels.dtype.itemsize
    made.BitsAllocated, made.BitsStored, made.HighBit = bits, bits, bits - 1
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    made.PixelData = pixels.tobytes()
    for name, value in elements.items():
        if value is None:
            del made[name]
        else:
            setattr(made, name, value)
    return made


def write_dicom(path: Path, pixels: np.ndarray, **elements: Any) -> Path:
    """`dicom_dataset` as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dicom_dataset(pixels, **elements).save_as(path, enforce_file_format=True)
    return path


def drawn(seed: int, shape: tuple[int, ...] = (40, 30), high: int = 256, dtype: str = "uint8") -> np.ndarray:
    """A picture with structure: noise on a ramp."""
    generator = np.random.default_rng(seed)
    ramp = np.linspace(0, 0.7, shape[1])[None, :]
    ramp = ramp[..., None] if len(shape) == 3 else ramp
    return np.asarray(((generator.random(shape) * 0.3 + ramp) * (high - 1)).astype(dtype))
