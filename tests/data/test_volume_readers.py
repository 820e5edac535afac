"""Datasets of volumes: tables with a column per channel, BraTS folders, DICOM folders; what is refused, and how."""

import importlib.util
from pathlib import Path

import pytest

from tests.support.images import write_pictures
from tests.support.paths import ROOT
from tests.support.volumes import CHANNELS, head, save, write_brats, write_slices, write_table
from tune_btxrd.data.cache import volume_files
from tune_btxrd.data.readers.channels import ChannelRequest
from tune_btxrd.data.readers.registry import holds_volumes, read_dataset
from tune_btxrd.errors import ConfigError, DataError, TuneBtxrdError

pytest.importorskip("nibabel")
REAL = ROOT.parent / "shared" / "data" / "volumes"


def test_a_table_has_a_column_per_channel(tmp_path: Path) -> None:
    root = write_table(tmp_path / "own", count=4)
    manifest = read_dataset(root)
    assert holds_volumes(root) and manifest.channels == CHANNELS and manifest.class_names == ("high", "low")
    assert (
        manifest.volumes[1] == (root / "P1_flair.nii.gz", root / "P1_t1ce.nii.gz")
        and manifest.files[1] == root / "P1_flair.nii.gz"
    )
    assert "Files: 8 .nii.gz: taken." in manifest.notes
    turned = read_dataset(root, channels=ChannelRequest(names=("t1ce",)))
    assert turned.channels == ("t1ce",) and turned.volumes[1] == (root / "P1_t1ce.nii.gz",)


def test_one_column_path_is_one_channel_and_labels_may_be_several(tmp_path: Path) -> None:
    for number in range(3):
        save(head(number), tmp_path / f"{number}.NII")
    (tmp_path / "manifest.csv").write_text(
        "image_id,path,label:a,label:b,group\nx,0.NII,1,0,g\ny,1.nii,0,,g\nz,2.NII,,1,h\n"
    )
    manifest = read_dataset(tmp_path)
    assert manifest.channels == ("volume",) and manifest.task.name == "multilabel" and manifest.class_names == ("a", "b")
    assert manifest.groups == ("g", "g", "h") and manifest.volumes[1] == (tmp_path / "1.NII",)


def test_a_column_mask_names_outlines(tmp_path: Path) -> None:
    root = write_table(tmp_path / "own", count=4)
    save(head(9), root / "lesion.nii.gz")
    rows = (root / "manifest.csv").read_text().splitlines()
    (root / "manifest.csv").write_text(
        "\n".join([rows[0] + ",mask", rows[1] + ",lesion.nii.gz", *(row + "," for row in rows[2:])])
    )
    assert read_dataset(root).masks == (root / "lesion.nii.gz", None, None, None)


def test_dicom_folders_are_volumes_and_their_patients_are_groups(tmp_path: Path) -> None:
    for number, patient in enumerate("AAB"):
        write_slices(tmp_path / f"s{number}", head(number, shape=(4, 4, 3)), patient=patient)
    (tmp_path / "manifest.csv").write_text("image_id,path,label\nx,s0,u\ny,s1,v\nz,S2,u\n")
    manifest = read_dataset(tmp_path)
    assert manifest.groups == ("patient-0001", "patient-0001", "patient-0002") and manifest.volumes[2] == (tmp_path / "s2",)
    assert "Files: 9 .dcm: taken." in manifest.notes


def test_brats_folders_need_no_table(tmp_path: Path) -> None:
    root = write_brats(tmp_path / "set")
    (root / "name_mapping.csv").write_text(
        "Grade,BraTS_2018_subject_ID,TCGA_TCIA_subject_ID,BraTS_2019_subject_ID\n"
        "HGG,old,TCGA-1,Case_00\nHGG,older,TCGA-1,Case_01\nLGG,NA,NA,Case_03\n"
    )
    manifest = read_dataset(root)
    assert manifest.image_ids == tuple(f"Case_{number:02d}" for number in range(6))
    assert manifest.labels == ("HGG",) * 3 + ("LGG",) * 3 and manifest.channels == ("flair", "t1ce")
    assert manifest.groups == ("TCGA-1", "TCGA-1", "", "", "", "")
    assert manifest.masks[4] == root / "LGG" / "Case_04" / "Case_04_seg.nii.gz"
    (root / "name_mapping.csv").write_text("Grade,BraTS_2019_subject_ID\nLGG,Case_00\n")
    with pytest.raises(DataError, match=r"Case_00 .* lies in HGG/ and name_mapping.csv says LGG"):
        read_dataset(root)


def test_cases_in_one_folder_have_their_grade_from_the_mapping(tmp_path: Path) -> None:
    root = write_brats(tmp_path / "set", grades=("",), each=4, separator="-")
    with pytest.raises(DataError, match=r"Case_00 .* has none: put the cases into a folder per class"):
        read_dataset(root)
    rows = "".join(f"{('HGG', 'LGG')[number % 2]},Case_{number:02d}\n" for number in range(4))
    (root / "name_mapping.csv").write_text(f"Grade,BraTS_2020_subject_ID\n{rows}")
    assert read_dataset(root).labels == ("HGG", "LGG", "HGG", "LGG")


def test_a_patient_that_lacks_a_channel_is_named(tmp_path: Path) -> None:
    root = write_table(tmp_path / "own", lacking=[(2, "t1ce"), (5, "t1ce")])
    with pytest.raises(
        DataError, match=r"2 of 8 .* lack one \(P2 t1ce, P5 t1ce\): .*--channels flair, .*--missing-channel zero"
    ):
        read_dataset(root)
    assert len(read_dataset(root, exclude=["P2", "P5"])) == 6
    zeros = read_dataset(root, channels=ChannelRequest(missing="zero"))
    assert zeros.volumes[2][1] is None and any("2 of 8 patients lack a channel" in note for note in zeros.notes)
    with pytest.raises(DataError, match=r"2 of 8 .* have none of t1ce \(P2, P5\)"):
        read_dataset(root, channels=ChannelRequest(names=("t1ce",), missing="zero"))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("P0,nothing.nii.gz,P0_t1ce.nii.gz,high", r"there is no 'nothing.nii.gz'"),
        ("P0,P0_flair.nrrd,P0_t1ce.nii.gz,high", "must name a volume"),
        ("P0,../P0_flair.nii.gz,P0_t1ce.nii.gz,high", "must lie inside"),
    ],
)
def test_paths_that_are_no_volumes_are_told_with_their_row(tmp_path: Path, line: str, reason: str) -> None:
    root = write_table(tmp_path / "own", count=3)
    (root / "P0_flair.nrrd").write_bytes(b"NRRD")
    rows = (root / "manifest.csv").read_text().splitlines()
    (root / "manifest.csv").write_text("\n".join([rows[0], line, *rows[2:]]))
    with pytest.raises(DataError, match=reason) as raised:
        read_dataset(root)
    assert "row 2" in str(raised.value)


def test_channels_that_are_none_are_refused_with_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'t2' is none: there are flair, t1ce"):
        read_dataset(write_table(tmp_path / "own", count=3), channels=ChannelRequest(names=("flair", "t2")))
    write_pictures(tmp_path / "pictures" / "a", grey=2)
    write_pictures(tmp_path / "pictures" / "b", grey=2)
    assert not holds_volumes(tmp_path / "pictures")
    for request, flag in (
        (ChannelRequest(names=("flair",)), "--channels"),
        (ChannelRequest(missing="zero"), "--missing-channel"),
    ):
        with pytest.raises(ConfigError, match=f"{flag} is for volumes"):
            read_dataset(tmp_path / "pictures", channels=request)


def test_without_the_extra_volumes_are_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_table(tmp_path / "own", count=3)
    real = importlib.util.find_spec
    monkeypatch.setattr(volume_files.importlib.util, "find_spec", lambda name: None if name == "monai" else real(name))
    with pytest.raises(TuneBtxrdError, match=r"monai cannot be imported: pip install 'tune-btxrd\[volumes\]'") as raised:
        read_dataset(root)
    assert "\n" not in str(raised.value)


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data/volumes")
def test_real_patients_of_whom_some_lack_a_channel() -> None:
    manifest = read_dataset(REAL, channels=ChannelRequest(names=("flair",)))
    assert len(manifest) == 77 and manifest.class_counts == (38, 39) and all(files[0] for files in manifest.volumes)
    with pytest.raises(DataError, match=r"7 of 77 .* lack one \(LGG002 t1ce"):
        read_dataset(REAL)
