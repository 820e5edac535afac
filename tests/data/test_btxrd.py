"""BTXRD as it unzips, its earlier revision, every unzip step that can be missing; the true table and genuine images."""

from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pytest

from tests.support.datasets import LABELS, SHARED, needs_shared, small_table, write_dataset
from tune_btxrd.data.readers.btxrd import RELEASED_COLUMNS
from tune_btxrd.data.readers.registry import read_dataset
from tune_btxrd.data.readers.spreadsheet import read_ids
from tune_btxrd.errors import DataError


@pytest.mark.parametrize("suffix", ["csv", "xlsx"])
def test_reads_both_kinds_of_table(tmp_path: Path, suffix: str) -> None:
    manifest = read_dataset(write_dataset(tmp_path / "my data", suffix=suffix))
    assert manifest.dataset == "my_data"
    assert manifest.image_ids == tuple(LABELS)
    assert manifest.targets.tolist() == [2, 1, 0] and manifest.targets.dtype == np.int64
    assert manifest.class_names == ("Normal", "Benign", "Malignant") and manifest.positive_class == 2
    assert manifest.centers == ("1", "2", "3")
    assert [file.name for file in manifest.files if file] == list(LABELS)
    assert manifest.table["age"].tolist() == [12, 40, 7] and manifest.table["benign"].tolist() == [0, 1, 0]
    assert list(manifest.table.columns) == list(RELEASED_COLUMNS)


def test_earlier_revision_reads_like_the_released_one(tmp_path: Path) -> None:
    released = read_dataset(write_dataset(tmp_path / "released"))
    table = small_table().rename(columns={"ankle-joint": "ankle", "lower limb": " lower  limbs", "image_id": "Image_ID "})
    table["Original Name"] = ["b1-M-12-1.jpeg", None, None]
    flags = [name for name in table.columns if table[name].isin([0, 1]).all()]
    table[flags] = table[flags].astype(object).where(table[flags] == 1, None)  # blanks for zeros
    earlier = read_dataset(write_dataset(tmp_path / "earlier", table, suffix="xlsx"))
    pd.testing.assert_frame_equal(earlier.table.drop(columns="original name"), released.table)
    assert earlier.targets.tolist() == [2, 1, 0]


def test_ids_find_files_of_the_other_extension(tmp_path: Path) -> None:
    root = write_dataset(tmp_path)
    (root / "images" / "IMG000001.jpeg").rename(root / "images" / "IMG000001.jpg")
    assert [file.name for file in read_dataset(root).files if file] == ["IMG000001.jpg", "IMG000002.jpg", "IMG000003.jpeg"]


@pytest.mark.parametrize("folder", ["Annotations", "Annotations/Annotations"])
def test_annotations_are_found_once_or_twice_nested(tmp_path: Path, folder: str) -> None:
    root = write_dataset(tmp_path)
    (root / folder).mkdir(parents=True)
    (root / folder / "IMG000002.json").write_text("{}")
    assert [path and path.name for path in read_dataset(root).annotations] == [None, "IMG000002.json", None]


def test_no_centers(tmp_path: Path) -> None:
    assert read_dataset(write_dataset(tmp_path / "a", small_table().drop(columns="center"))).centers is None
    assert read_dataset(write_dataset(tmp_path / "b", small_table().assign(center=None))).centers is None
    with pytest.raises(DataError, match=r"center, but it is blank in row 3: fill it in"):
        read_dataset(write_dataset(tmp_path / "c", small_table().assign(center=[1, None, 3])))


def test_missing_steps_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is none at"):
        read_dataset(tmp_path / "nowhere")
    (tmp_path / "BTXRD.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match="unzip it and give the folder"):
        read_dataset(tmp_path / "BTXRD.zip")
    with pytest.raises(DataError, match=r"unzip BTXRD\.zip there first"):
        read_dataset(tmp_path)
    nested = write_dataset(tmp_path / "BTXRD")
    with pytest.raises(DataError, match=rf"one folder further in, use --data {nested}"):
        read_dataset(tmp_path)
    (nested / "images").rename(nested / "pictures")
    with pytest.raises(DataError, match="images/, but does not: copy it there"):
        read_dataset(nested)
    (nested / "images.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"holds images\.zip: unzip it there first"):
        read_dataset(nested)
    assert read_dataset(nested, table_only=True).files == (None, None, None)
    (nested / "dataset.xlsx").write_bytes(b"PK")
    with pytest.raises(DataError, match="remove all but one"):
        read_dataset(nested, table_only=True)


def test_missing_images_are_listed_in_one_line_or_excluded(tmp_path: Path) -> None:
    root = write_dataset(tmp_path)
    for image_id in LABELS:
        (root / "images" / image_id).unlink()
    with pytest.raises(DataError) as error:
        read_dataset(root)
    assert "3 of 3 are missing" in str(error.value) and "IMG000001.jpeg, IMG000002.jpg, IMG000003.jpeg" in str(error.value)
    assert "\n" not in str(error.value)
    for image_id in ("IMG000001.jpeg", "IMG000002.jpg"):
        (root / "images" / image_id).write_bytes(b"jpg")
    manifest = read_dataset(root, exclude=["IMG000003.jpeg"])
    assert manifest.image_ids == ("IMG000001.jpeg", "IMG000002.jpg") and manifest.centers == ("1", "2")
    assert len(manifest.table) == 2 and manifest.class_names == ("Benign", "Malignant")
    assert manifest.class_names[manifest.positive_class] == "Malignant" and manifest.targets.tolist() == [1, 0]
    assert manifest.notes[-2:] == ("1 image(s) left out as asked.", "No image is left of Normal: no class any more.")


def test_unknown_excluded_id_is_an_error(tmp_path: Path) -> None:
    listed = tmp_path / "exclude.txt"
    listed.write_text("image_id\nIMG000001.jpeg\n\n# no such image\nIMG999999.jpeg\n")
    assert read_ids(listed) == ("IMG000001.jpeg", "IMG999999.jpeg")
    with pytest.raises(DataError, match=r"1 are not in .*IMG999999"):
        read_dataset(write_dataset(tmp_path / "data"), exclude=read_ids(listed))


def test_missing_column_and_wrong_values(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the column\\(s\\) malignant"):
        read_dataset(write_dataset(tmp_path / "a", small_table().drop(columns="malignant")))
    with pytest.raises(DataError, match=r"malignant must be 0, 1 or blank, but row 2 of .* holds '2'"):
        read_dataset(write_dataset(tmp_path / "b", small_table().assign(malignant=[2, 0, 0])))
    with pytest.raises(DataError, match=r"malignant must be 0 or 1, but row 3 of .* holds nothing"):
        read_dataset(write_dataset(tmp_path / "c", small_table().assign(malignant=[1, None, 0])))
    with pytest.raises(DataError, match=r"age must be a number or blank, but row 4 of .* holds 'old'"):
        read_dataset(write_dataset(tmp_path / "d", small_table().assign(age=[1, None, "old"])))


def test_positive_class_by_name(tmp_path: Path) -> None:
    root = write_dataset(tmp_path)
    assert read_dataset(root, positive_class="Benign").positive_class == 1
    with pytest.raises(DataError, match="one of Normal, Benign, Malignant, but got 'malignant'"):
        read_dataset(root, positive_class="malignant")


def test_damaged_tables(tmp_path: Path) -> None:
    root = write_dataset(tmp_path)
    (root / "dataset.csv").write_bytes("image_id,年龄\n".encode("gbk"))
    with pytest.raises(DataError, match="save it as 'CSV UTF-8'"):
        read_dataset(root)
    (root / "dataset.csv").write_text("")
    with pytest.raises(DataError, match="but it is empty"):
        read_dataset(root)
    (root / "dataset.csv").write_text("image_id,benign,malignant\na.jpeg,0,1,extra\n")
    with pytest.raises(DataError, match=r"Row 2 of .* must have 3 cells, but has 4"):
        read_dataset(root)
    (root / "dataset.csv").rename(root / "dataset.xlsx")
    with pytest.raises(DataError, match="must be a readable Excel file"):
        read_dataset(root)


def test_two_names_of_one_column_collide(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'ankle-joint' stands twice"):
        read_dataset(write_dataset(tmp_path, small_table().assign(ankle=0)))


def test_excel_formula_is_refused(tmp_path: Path) -> None:
    root = write_dataset(tmp_path, suffix="xlsx")
    book = openpyxl.load_workbook(root / "dataset.xlsx")
    book.active["C3"] = "=1+1"
    book.save(root / "dataset.xlsx")
    with pytest.raises(DataError, match=r"Row 3 of .* the formula '=1\+1'"):
        read_dataset(root)


@needs_shared
def test_true_table() -> None:
    manifest = read_dataset(SHARED / "btxrd_tables", table_only=True)
    assert manifest.dataset == "btxrd" and len(manifest) == 3746
    assert manifest.class_counts == (1879, 1525, 342)
    assert manifest.notes[0] == "All known facts of BTXRD hold."
    assert manifest.notes[1] == "0 of 1,867 annotations found: unzip Annotations.zip there."
    assert set(manifest.files) == {None}


@needs_shared
def test_genuine_and_standin_images() -> None:
    sample = read_dataset(SHARED / "btxrd_sample30")
    assert sample.class_counts == (10, 10, 10) and all(sample.files)
    assert sum(path is not None for path in sample.annotations) == 20
    standin = read_dataset(SHARED / "xray_standin")
    assert standin.class_counts == (190, 137, 48)
    assert [standin.centers.count(center) for center in "123"] == [283, 84, 8]
    assert standin.notes[0] == "375 rows where BTXRD has 3,746: read as a subset, its counts are not checked."
    assert standin.notes[1].startswith("Files: 375 .jpeg: taken") and len(standin.notes) == 2
