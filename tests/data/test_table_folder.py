"""Own data: manifest.csv with any classes, centers and groups."""

import os
from pathlib import Path

import pytest

from tests.support.datasets import ROWS, write_folder
from tune_btxrd.data.readers.registry import read_dataset
from tune_btxrd.errors import DataError


def add_column(name: str, *values: str) -> str:
    lines = ROWS.splitlines()
    return "\n".join(f"{line},{value}" for line, value in zip(lines, (name, *values), strict=True)) + "\n"


def test_classes_are_alphabetical_and_the_rarest_is_positive(tmp_path: Path) -> None:
    manifest = read_dataset(write_folder(tmp_path / "zoo"))
    assert manifest.dataset == "zoo" and manifest.image_ids == ("a", "b", "c", "d", "e")
    assert manifest.class_names == ("Ant", "cat", "wolf") and manifest.targets.tolist() == [2, 1, 2, 0, 0]
    assert manifest.class_names[manifest.positive_class] == "cat"
    positive = "Positive class: cat, the rarest (--positive-class names another)."
    assert manifest.notes == ("Files: 5 .png: taken.", positive)
    assert manifest.files[2] == (tmp_path / "zoo" / "y" / "3.png").resolve()
    assert manifest.centers is None and manifest.groups is None
    named = read_dataset(tmp_path / "zoo", positive_class="wolf")
    assert named.positive_class == 2 and named.notes == ("Files: 5 .png: taken.",)


def test_centers_groups_and_further_columns(tmp_path: Path) -> None:
    assert read_dataset(write_folder(tmp_path / "a", add_column("Center", *"XXYYY"))).centers == ("X", "X", "Y", "Y", "Y")
    groups = read_dataset(write_folder(tmp_path / "b", add_column("group", "p1", "p1", "", "p2", "p2"))).groups
    assert groups == ("p1", "p1", "", "p2", "p2")
    assert read_dataset(write_folder(tmp_path / "c", add_column("age", "1", "", "3", "4", "5"))).table["age"].sum() == 13
    assert read_dataset(write_folder(tmp_path / "d", add_column("sex", *"MFMFM"))).table["sex"].tolist() == list("MFMFM")
    with pytest.raises(DataError, match="center, but it is blank in row 4"):
        read_dataset(write_folder(tmp_path / "e", add_column("center", "1", "1", "", "2", "2")))


def test_a_class_may_be_called_none(tmp_path: Path) -> None:
    manifest = read_dataset(write_folder(tmp_path, ROWS.replace("cat", "None").replace("Ant", "NA")))
    assert manifest.class_names == ("NA", "None", "wolf")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ROWS.replace("label", "class"), r"must have the column\(s\) label, but has image_id, path, class"),
        (ROWS.replace("cat", ""), "value of label, but it is blank in row 3"),
        (ROWS.replace("cat", "NaN"), "value of label, but it is blank in row 3"),
        (ROWS.replace("x/2.png", ""), "value of path, but it is blank in row 3"),
        (ROWS.replace("cat", "wolf").replace("Ant", "wolf"), "at least two classes, but holds only 'wolf'"),
        (ROWS.replace("cat", "Wolf"), "more than case and spelling of accents, but .* 'Wolf' and 'wolf'"),
        (ROWS.replace("\nb,", "\na,"), "unique, but 'a' stands in 2 rows"),
        (ROWS.replace("x/2.png", "x/9.png"), r"1 of 5 are missing in .* \(b; 'x/9\.png', nearest is 'x/2\.png'\)"),
        (ROWS.replace("x/2.png", "x"), r"1 of 5 are missing in .* \(b\)"),
        (ROWS.replace("cat", "=1+1"), "Row 3 of .* the formula '=1"),
        (ROWS.replace("cat", "+cmd|x!A"), "Row 3 of .* the formula '\\+cmd"),
        (ROWS.replace(",", "!"), r"must have the column\(s\) image_id, path, label"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        read_dataset(write_folder(tmp_path, text))
    assert "\n" not in str(error.value)


def test_missing_file_may_be_excluded_and_tables_read_alone(tmp_path: Path) -> None:
    root = write_folder(tmp_path)
    (root / "x" / "2.png").unlink()
    assert read_dataset(root, exclude={"b"}).image_ids == ("a", "c", "d", "e")
    assert read_dataset(root, table_only=True).files == (None,) * 5


def test_two_layouts_in_one_folder(tmp_path: Path) -> None:
    root = write_folder(tmp_path)
    (root / "dataset.csv").write_text("image_id\n")
    with pytest.raises(DataError, match=r"manifest\.csv and dataset\.csv: remove all but one"):
        read_dataset(root)


def test_paths_as_other_systems_write_them(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "a", ROWS.replace("x/1.png", "X\\1.PNG").replace("x/2.png", "x/caf\u00e9.png"))
    (root / "x" / "2.png").rename(root / "x" / "cafe\u0301.png")
    (root / "manifest.csv").rename(root / "Manifest.CSV")
    manifest = read_dataset(root)
    assert [file.name for file in manifest.files if file][:2] == ["1.png", "cafe\u0301.png"]
    assert "3 path(s) led to a file that is spelled otherwise (manifest.csv, X\\1.PNG and 1 more)." in manifest.notes


@pytest.mark.parametrize("encoding", ["latin-1", "cp437"])
def test_file_names_in_an_encoding_of_old_archives(tmp_path: Path, encoding: str) -> None:
    root = write_folder(tmp_path, ROWS.replace("x/2.png", "x/M\u00fcller.png"))
    (root / "x" / "2.png").rename(os.fsdecode(os.fsencode(root / "x") + b"/" + "M\u00fcller.png".encode(encoding)))
    assert all(read_dataset(root).files)


def test_two_files_that_a_path_could_mean(tmp_path: Path) -> None:
    root = write_folder(tmp_path, ROWS.replace("x/2.png", "x/A.png"))
    for name in ("a.png", "a.PNG"):
        (root / "x" / name).write_bytes(b"png")
    with pytest.raises(
        DataError, match=r"path in row 3 of .* must name one file, but 'x/A\.png' fits 'a\.PNG' and 'a\.png'"
    ):
        read_dataset(root)
    (root / "x" / "A.png").write_bytes(b"png")
    assert read_dataset(root).files[1] == root / "x" / "A.png"  # the file that is called so is meant


def test_text_that_begins_with_a_sign_is_text(tmp_path: Path) -> None:
    text = (
        ROWS.replace("cat", "+ve")
        .replace("Ant", "-ve")
        .replace("label\n", "label,remark\n")
        .replace("wolf\n", "wolf,- none\n")
    )
    manifest = read_dataset(write_folder(tmp_path, text))
    assert manifest.class_names == ("+ve", "-ve", "wolf") and manifest.table["remark"][0] == "- none"


def test_a_title_above_the_header(tmp_path: Path) -> None:
    manifest = read_dataset(write_folder(tmp_path, "Made by us\n\n" + ROWS))
    assert manifest.image_ids == ("a", "b", "c", "d", "e")
    assert "The table was read, its header in row 3." in manifest.notes
    with pytest.raises(DataError, match="label, but it is blank in row 5"):
        read_dataset(write_folder(tmp_path / "b", "Made by us\n\n" + ROWS.replace("cat", "")))
