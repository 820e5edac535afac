"""Volume files: the voxels that nibabel gives, turned to R A S; every file that is none, in one line."""

import csv
from pathlib import Path

import numpy as np
import pytest

from tests.support.paths import ROOT
from tests.support.volumes import head, save, write_slices
from tune_btxrd.data.cache.decode import UnreadableError
from tune_btxrd.data.cache.volume_files import read_volume, read_volume_header
from tune_btxrd.data.cache.volumes import decode_volume

nibabel = pytest.importorskip("nibabel")
ODD = ROOT.parent / "shared" / "data" / "volumes_odd"
REFUSED = {  # of those that nibabel reads: what is no single volume of numbers
    "real_4d_2timepoints.nii.gz": "holds 2 volumes",
    "real_4d_20timepoints_slope.nii": "holds 20 volumes",
    "real_nifti2_4d.nii.gz": "holds 2 volumes",
    "real_freesurfer.mgz": "holds 2 volumes",
    "derived_2d.nii.gz": "is flat",
    "derived_single_slice.nii.gz": "is flat",
    "derived_complex64.nii.gz": "complex",
    "derived_rgb24.nii.gz": "colours",
}
BLANK = {"derived_constant.nii.gz": r"is constant \(7\)", "derived_all_zero.nii.gz": "is zero everywhere"}
needs_odd = pytest.mark.skipif(not ODD.is_dir(), reason="needs ../shared/data/volumes_odd")


def odd_files() -> list[dict[str, str]]:
    if not ODD.is_dir():
        return []
    with (ODD / "manifest.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@needs_odd
@pytest.mark.parametrize("row", odd_files(), ids=lambda row: row["file"])
def test_header_cases_are_read_as_nibabel_reads_them_or_refused_in_one_line(row: dict[str, str]) -> None:
    path = ODD / row["file"]
    if row["nibabel"] or row["file"] in REFUSED:
        with pytest.raises(UnreadableError, match=REFUSED.get(row["file"])) as raised:
            read_volume(path)
        assert "\n" not in str(raised.value) and path.name in str(raised.value) and str(path) not in str(raised.value)
        return
    expected = nibabel.as_closest_canonical(nibabel.load(path))
    found = read_volume(path)
    np.testing.assert_array_equal(found.voxels, np.squeeze(expected.get_fdata()).reshape(found.voxels.shape))
    np.testing.assert_allclose(found.affine, expected.affine, atol=1e-6)
    assert read_volume_header(path).axes == row["axes"]
    if row["file"] in BLANK:
        with pytest.raises(UnreadableError, match=BLANK[row["file"]]):
            decode_volume([path], 16, channels=["c"])
    else:
        cube = decode_volume([path], 16, channels=["c"]).pixels
        assert cube.shape == (16, 16, 16, 1) and cube.dtype == np.uint8 and cube.any()


@needs_odd
def test_one_brain_in_five_storage_orders_is_one_picture() -> None:
    cubes = [
        decode_volume([ODD / f"same_brain_{a}.nii.gz"], 32, channels=["c"]).pixels
        for a in ("RAS", "LPS", "PSR", "LAI", "SAR")
    ]
    for cube in cubes[1:]:
        np.testing.assert_array_equal(cube, cubes[0])


@needs_odd
def test_headers_that_say_nothing_or_two_things_are_noted() -> None:
    assert "no orientation" in decode_volume([ODD / "derived_analyze75.img"], 16, channels=["t1"]).note
    assert "disagree" in decode_volume([ODD / "derived_qform_sform_disagree.nii.gz"], 16, channels=["t1"]).note


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.nii.gz", b"", "is empty"),
        ("a.nii.gz", b"version https://git-lfs", "not gzip data"),
        ("a.nii", b"\x1f\x8b\x08\x00rest", "under a name without .gz"),
        ("a.nii", b"nonsense" * 100, "no volume that nibabel knows"),
    ],
)
def test_what_is_no_volume_is_told(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableError, match=reason):
        read_volume(tmp_path / name)
    assert read_volume_header(tmp_path / name).unreadable


def test_cut_files_are_told(tmp_path: Path) -> None:
    for name in ("a.nii", "a.nii.gz"):
        path = save(head(0), tmp_path / name)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(UnreadableError, match="is damaged"):
            read_volume(path)


def test_affine_without_a_direction_is_told(tmp_path: Path) -> None:
    affine = np.eye(4)
    affine[0, 0] = 0
    image = nibabel.Nifti1Image(head(0), None)
    image.header.set_sform(affine, code=1)
    nibabel.save(nibabel.Nifti1Image(head(0), None, image.header), tmp_path / "a.nii")
    with pytest.raises(UnreadableError, match="singular"):
        read_volume(tmp_path / "a.nii")


def test_dicom_slices_are_one_volume_with_its_scaling_order_and_place(tmp_path: Path) -> None:
    voxels = head(3, shape=(6, 8, 5))
    volume = read_volume(write_slices(tmp_path / "scan", voxels))
    np.testing.assert_array_equal(volume.voxels, voxels[::-1, ::-1] * 0.5 - 10)
    np.testing.assert_allclose(np.diag(volume.affine)[:3], [2.0, 1.5, 3.0])
    np.testing.assert_allclose(volume.affine[:3, 3], [-(5 + 2 * 5), -(6 + 1.5 * 7), 0])
    header = read_volume_header(tmp_path / "scan")
    assert header.shape == (6, 8, 5) and header.spacing == (2.0, 1.5, 3.0) and header.axes == "LPS"


def test_dicom_folders_that_are_no_single_volume_are_told(tmp_path: Path) -> None:
    voxels = head(3, shape=(6, 8, 6))
    with pytest.raises(UnreadableError, match="a slice is missing"):
        read_volume(write_slices(tmp_path / "gap", voxels, skip=(2,)))
    with pytest.raises(UnreadableError, match="2 series"):
        read_volume(write_slices(tmp_path / "two", voxels, series=("1.2", "1.3")))
    with pytest.raises(UnreadableError, match="is flat"):
        read_volume(write_slices(tmp_path / "flat", voxels, skip=(1, 2, 3, 4, 5)))
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "readme.txt").write_text("no slices")
    with pytest.raises(UnreadableError, match="holds no DICOM slices"):
        read_volume(tmp_path / "none")
