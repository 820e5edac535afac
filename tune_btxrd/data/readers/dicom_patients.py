"""DICOM patients: which files are of one patient, by their headers, as groups that are numbered and hold nothing of an id.

A number and not a hash: ids are short, so whoever has their hashes can try all ids; and a key would have to lie beside a
dataset that may be read-only, be lost with it, and give another machine other groups for the same files.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tune_btxrd.data.cache.dicom_files import begins_as_picture, may_be_dicom, read_header, require_dicom
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers.file_rules import is_no_data

READERS = 8  # threads that mostly wait for the disk
TAGS = ("PatientID", "PatientName", "PatientBirthDate", "StudyInstanceUID")
SHORTEST_NAME = 4  # characters of a name or an id that is looked for in the names of files
IN_NAMES = (
    "of these files hold their patient's id, name or date of birth in their own name or a folder's, and names of files "
    "become ids of images, which results, tables and pictures show: rename them, or write a manifest.csv"
)
ONE_ID = "All DICOM headers name the same patient, so the id was taken for a placeholder"


@dataclass(frozen=True, kw_only=True)
class Patient:
    """What a file says of its patient; it is compared and never kept."""

    patient: str = ""
    study: str = ""
    words: tuple[str, ...] = ()  # that would give the patient away


def holds_dicom(manifest: Manifest) -> bool:
    """Whether any image of a dataset is a DICOM file."""
    return not manifest.channels and any(file is not None and _is_dicom(file) for file in manifest.files)


def with_patients(manifest: Manifest, *, are_groups: bool = True) -> Manifest:
    """The dataset with the patients and studies of its DICOM files as groups; those that it names itself hold instead.

    Args:
        are_groups: False: names of files are looked at alone.

    Raises:
        DataError: there are DICOM files, and pydicom is not installed.
    """
    files = [None if file is None else _header_file(file) for file in manifest.files]
    if not any(files):
        return manifest
    found = _read(files)
    notes = list(_notes(manifest, found))
    if manifest.groups is None and are_groups:
        groups, said = _groups(found)
        notes.append(said)
        manifest = dataclasses.replace(manifest, groups=groups)
    return dataclasses.replace(manifest, notes=(*manifest.notes, *notes))


def patient_of(file: Path) -> Patient:
    """What a DICOM file says of its patient. Raises: OSError; DataError where pydicom is not installed."""
    require_dicom(file)
    header = read_header(file, TAGS)
    values = {name: str(header.get(name, "") or "").strip() for name in TAGS}
    name = [part for part in values["PatientName"].replace("=", "^").split("^") if part.strip()]
    words = [values["PatientID"], values["PatientBirthDate"], *name]
    return Patient(
        patient=values["PatientID"],
        study=values["StudyInstanceUID"],
        words=tuple(word.strip().casefold() for word in words if len(word.strip()) >= SHORTEST_NAME),
    )


def number_groups(keys: Sequence[Sequence[str]], noun: str = "patient") -> tuple[str, ...]:
    """A numbered group per image, "" where it has no key; images that share a key are in one group, also by others."""
    first_of: dict[str, int] = {}
    parent = list(range(len(keys)))

    def root(row: int) -> int:
        while parent[row] != row:
            row = parent[row]
        return row

    for row, own in enumerate(keys):
        for key in own:
            low, high = sorted((root(first_of.setdefault(key, row)), root(row)))
            parent[high] = low
    numbers: dict[int, int] = {}
    for row, own in enumerate(keys):
        if own:
            numbers.setdefault(root(row), len(numbers) + 1)
    width = max(4, len(str(len(numbers))))
    return tuple(f"{noun}-{numbers[root(row)]:0{width}}" if own else "" for row, own in enumerate(keys))


def _groups(found: Sequence[Patient]) -> tuple[tuple[str, ...] | None, str]:
    """The group of each image, or None, and what to say of them. A placeholder for all is no patient and no study."""
    total = sum(bool(item.patient or item.study) for item in found)
    said, patients, studies = "", {item.patient for item in found}, {item.study for item in found}
    if len(patients - {""}) == 1 and total > 1:
        said, patients = f"{ONE_ID}. ", set()
    if len(studies - {""}) == 1 and total > 1:
        studies = set()
    keys = [
        [
            *([f"patient {item.patient}"] if item.patient and patients else []),
            *([f"study {item.study}"] if item.study and studies else []),
        ]
        for item in found
    ]
    groups = number_groups(keys, "patient" if patients else "study")
    count = len(set(groups) - {""})
    if not total:
        return None, "Groups: none, DICOM headers name no patient and no study."
    if count == sum(map(bool, groups)):  # so that the splits are those of the same images in another format
        return None, f"{said}Groups: none, no two DICOM headers name the same {'patient' if patients else 'study'}."
    return groups, f"{said}Groups: {count:,} {'patients' if patients else 'studies'} by DICOM headers, as numbers."


def _notes(manifest: Manifest, found: Sequence[Patient]) -> Iterator[str]:
    told = sum(
        any(word in f"{image_id}/{file.relative_to(manifest.root)}".casefold() for word in item.words)
        for image_id, file, item in zip(manifest.image_ids, manifest.files, found, strict=True)
        if file is not None and file.is_relative_to(manifest.root)
    )
    if told:
        yield f"{told:,} {IN_NAMES}."


def _read(files: Sequence[Path | None]) -> list[Patient]:
    def read(file: Path | None) -> Patient:
        try:
            return Patient() if file is None else patient_of(file)
        except OSError:
            return Patient()  # hashing says why it cannot be read

    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(read, files))


def _header_file(file: Path) -> Path | None:
    """The file whose header names the patient: the image itself, or the first slice of a folder of them."""
    if file.is_dir():
        slices = sorted(path for path in file.iterdir() if not is_no_data(path.name))
        return next((path for path in slices if begins_as_picture(path)), None)
    return file if _is_dicom(file) else None


def _is_dicom(file: Path) -> bool:
    return may_be_dicom(file) and begins_as_picture(file)
