"""Datasets of DICOM images: which files count, patients as groups without their ids, and a window in the cache's name."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.support.dicoms import MARKS, drawn, write_dicom
from tests.support.images import build, manifest_of
from tune_btxrd.data.cache.cache import ImageCache
from tune_btxrd.data.cache.decode import decode
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers.dicom_patients import IN_NAMES, ONE_ID, number_groups, patient_of
from tune_btxrd.data.readers.file_rules import is_image
from tune_btxrd.data.readers.registry import read_dataset

pytest.importorskip("pydicom")


def write_classes(root: Path, patients: str = "AABBCC", studies: str = "112345", **elements: object) -> Path:
    """Two class folders of files with UID-like names, without an ending, or with one."""
    names = ("1.2.840.5.17", "IM0001", "x.dcm", "y.DCM", "z.ima", "w.dicom")
    for number, (name, patient, study) in enumerate(zip(names, patients, studies, strict=True)):
        place = root / "uv"[number % 2] / name
        write_dicom(place, drawn(number), patient=f"{MARKS[2]}{patient}".replace("-", ""), study=f"1.9.{study}", **elements)
    return root


def write_table(root: Path, columns: str = "") -> Path:
    """The same six files with a table beside them."""
    write_classes(root)
    rows = [f"i{n},{path.relative_to(root)},{path.parent.name}" for n, path in enumerate(sorted(root.glob("?/*")))]
    (root / "manifest.csv").write_text("\n".join(["image_id,path,label", *rows]) + "\n")
    return root


def test_files_with_any_name_are_images_where_they_begin_as_dicom(tmp_path: Path) -> None:
    write_classes(tmp_path)
    (tmp_path / "u" / "notes").write_text("a DICM " * 50)
    (tmp_path / "u" / "short").write_bytes(b"x" * 20)
    write_directory(tmp_path / "u" / "DICOMDIR")
    manifest = read_dataset(tmp_path)
    assert len(manifest) == 6 and manifest.class_names == ("u", "v")
    assert {"u__1.2.840.5.17", "v__IM0001"} <= set(manifest.image_ids)
    assert manifest.notes[1].startswith("Files: ") and manifest.notes[1].endswith("3 without ending.")


def write_directory(path: Path) -> None:
    """A DICOMDIR: the first group names its class, and there are no pixels."""
    import pydicom

    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.MediaStorageDirectoryStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.FileSetID = "X"
    dataset.save_as(path, enforce_file_format=True)
    assert path.read_bytes()[128:132] == b"DICM" and not is_image(path)


def test_patients_are_numbered_groups_and_their_ids_are_nowhere(tmp_path: Path) -> None:
    for root in (write_classes(tmp_path / "folders"), write_table(tmp_path / "table")):
        manifest = read_dataset(root)
        by_patient = {}
        for group, file in zip(manifest.groups, manifest.files, strict=True):
            by_patient.setdefault(patient_of(file).patient, set()).add(group)
        assert [len(groups) for groups in by_patient.values()] == [1, 1, 1] and len(set(manifest.groups)) == 3
        assert set(manifest.groups) == {"patient-0001", "patient-0002", "patient-0003"}
        assert not any(mark in repr(manifest) for mark in MARKS)
    assert read_dataset(root, header_groups=False).groups is None


def test_groups_that_a_table_names_hold(tmp_path: Path) -> None:
    root = write_table(tmp_path)
    text = (root / "manifest.csv").read_text().splitlines()
    (root / "manifest.csv").write_text("\n".join([text[0] + ",group", *(row + ",g" for row in text[1:])]))
    assert set(read_dataset(root).groups) == {"g"}


def test_one_id_for_all_is_a_placeholder_and_studies_are_the_groups(tmp_path: Path) -> None:
    manifest = read_dataset(write_classes(tmp_path, patients="AAAAAA", studies="112233"))
    assert set(manifest.groups) == {"study-0001", "study-0002", "study-0003"}
    assert any(note.startswith(ONE_ID) for note in manifest.notes)


@pytest.mark.parametrize(
    ("patients", "studies", "said"),
    [
        ("ABCDEF", "123456", "no two DICOM headers name the same patient"),
        ("AAAAAA", "123456", "no two DICOM headers name the same study"),
        ("AAAAAA", "111111", ONE_ID),
    ],
)
def test_headers_that_tell_nothing_apart_make_no_groups(tmp_path: Path, patients: str, studies: str, said: str) -> None:
    """So the splits are those of the same pictures in files without a header."""
    manifest = read_dataset(write_classes(tmp_path, patients, studies))
    assert manifest.groups is None and any(said in note for note in manifest.notes)


@pytest.mark.parametrize(
    ("keys", "groups"),
    [
        ([["a"], ["b"], ["a"], []], ("1", "2", "1", "")),
        (
            [["a"], ["b"], ["a", "b"], ["c"]],
            ("1", "1", "1", "2"),
        ),  # the third is of the first's patient, of the second's study
        ([["c"], ["a", "x"], ["b", "y"], ["y", "z"], ["z", "x"]], ("1", "2", "2", "2", "2")),
        ([[], []], ("", "")),
    ],
)
def test_images_that_share_a_key_are_one_group(keys: list[list[str]], groups: tuple[str, ...]) -> None:
    assert tuple(group.removeprefix("patient-000") for group in number_groups(keys)) == groups


def test_files_that_are_called_by_their_patient_are_told_without_the_name(tmp_path: Path) -> None:
    write_classes(tmp_path)
    shutil.move(tmp_path / "u" / "x.dcm", tmp_path / "u" / f"x_{MARKS[0].lower()}.dcm")
    shutil.move(tmp_path / "v" / "y.DCM", tmp_path / "v" / f"{MARKS[3]}.dcm")
    notes = read_dataset(tmp_path).notes
    assert f"2 {IN_NAMES}." in notes


def caches(folder: Path, manifest: Manifest, *windows: tuple[float, float] | None) -> list[ImageCache]:
    return [build(manifest, folder, window=window) for window in windows]


def test_a_window_is_part_of_the_caches_identity(tmp_path: Path) -> None:
    files = [write_dicom(tmp_path / f"{n}.dcm", drawn(n, high=4096, dtype="uint16")) for n in range(3)]
    manifest = manifest_of(files)
    asked = ((500.0, 900.0), None, (-20.0, 900.0), (500.0, 900.0))
    found = caches(tmp_path / "cache", manifest, *asked)
    assert len({cache.path for cache in found}) == 3 and [cache.window for cache in found] == list(asked)
    for cache, window in zip(found, asked, strict=True):  # and none borrowed from another
        wanted = np.stack([decode(file, 16, window=window).pixels for file in files])
        assert np.array_equal(cache.images, wanted)
    assert not np.array_equal(found[0].images, found[1].images)
    more = caches(tmp_path / "cache", manifest_of(files[:2]), None)[0]
    assert np.array_equal(more.images, found[1].images[:2])
