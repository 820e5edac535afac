"""Hostile input to the readers: a clear one-line error or it simply works, and nothing outside the folder is touched."""

import os
from pathlib import Path

import pytest

from tests.support.datasets import LABELS, ROWS, small_table, write_dataset, write_folder
from tune_btxrd.data.readers.names import is_formula
from tune_btxrd.data.readers.paths import inside
from tune_btxrd.data.readers.registry import read_dataset
from tune_btxrd.errors import DataError

HOSTILE_IDS = [
    ("../../x", "plain name without a folder"),
    ("/etc/passwd", "plain name without a folder"),
    ("..", "plain name without a folder"),
    ("a\\b.jpeg", "plain name without a folder"),
    ("i" * 200 + ".jpeg", "at most 128 characters, but got 205"),
    ("a\u202egpj.exe", "printable text"),
    ("a\x00b", "printable text"),
    ("a\nb", "printable text"),
    ("=HYPERLINK(1)", "the formula '=HYPERLINK"),
    ("@SUM(A1)", "the formula '@SUM"),
    ("-2+3+cmd|x", "the formula '-2"),
    (None, "value of image_id, but it is blank in row 2"),
    ("NaN", "value of image_id, but it is blank in row 2"),
    ("IMG000002.jpg", "unique, but 'IMG000002.jpg' stands in 2 rows"),
]


def refused(root: Path, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        read_dataset(root)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600


@pytest.mark.parametrize(("image_id", "message"), HOSTILE_IDS)
def test_hostile_ids(tmp_path: Path, image_id: str | None, message: str) -> None:
    table = small_table()
    table["image_id"] = [image_id, *list(LABELS)[1:]]
    refused(write_dataset(tmp_path / "btxrd", table), message)
    own = small_table()[["image_id"]].assign(image_id=table["image_id"], path="x/1.png", label=["a", "b", "b"])
    refused(write_folder(tmp_path / "own", own.to_csv(index=False)), message)


@pytest.mark.parametrize("image_id", ["骨肉瘤-1.jpeg", "рентген.jpeg", "e\u0301te\u0301.jpeg", "naïve (2) – копия.jpeg"])
def test_non_latin_names_work(tmp_path: Path, image_id: str) -> None:
    table = small_table()
    table["image_id"] = [image_id, *list(LABELS)[1:]]
    root = write_dataset(tmp_path, table)
    (root / "images" / "IMG000001.jpeg").rename(root / "images" / image_id.replace("e\u0301", "\u00e9"))
    manifest = read_dataset(root)
    assert manifest.image_ids[0] == image_id and all(manifest.files)


def test_links_out_of_the_folder(tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpeg"
    secret.write_bytes(b"secret")
    root = write_dataset(tmp_path / "linked_image")
    (root / "images" / "IMG000001.jpeg").unlink()
    (root / "images" / "IMG000001.jpeg").symlink_to(secret)
    refused(root, r"must lie inside .*secret\.jpeg: put the file into the folder")

    root = write_dataset(tmp_path / "linked_folder")
    (root / "images").rename(tmp_path / "elsewhere")
    (root / "images").symlink_to(tmp_path / "elsewhere")
    refused(root, r"folder images/ must lie inside")

    root = write_dataset(tmp_path / "linked_table")
    (root / "dataset.csv").rename(tmp_path / "table.csv")
    (root / "dataset.csv").symlink_to(tmp_path / "table.csv")
    refused(root, "table must lie inside")

    root = write_dataset(tmp_path / "linked_annotations")
    (root / "Annotations").mkdir()
    (root / "Annotations" / "IMG000001.json").symlink_to(secret)
    refused(root, "must lie inside")


def test_links_within_the_folder_and_to_it_work(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "data")
    (root / "images" / "IMG000001.jpeg").rename(root / "first.jpeg")
    (root / "images" / "IMG000001.jpeg").symlink_to("../first.jpeg")
    (tmp_path / "link").symlink_to(root)
    assert read_dataset(tmp_path / "link").files[0] == (root / "first.jpeg").resolve()


@pytest.mark.parametrize("path", ["../../x.png", "/etc/passwd", "x/../../secret.png", "out/1.png"])
def test_own_paths_out_of_the_folder(tmp_path: Path, path: str) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    root = write_folder(tmp_path / "own", ROWS.replace("x/2.png", path))
    (root / "out").symlink_to(tmp_path)
    (tmp_path / "1.png").write_bytes(b"secret")
    refused(root, "path in row 3 of .* must lie inside")


@pytest.mark.parametrize("path", ["x/\x00.png", "x/" + "y" * 300 + ".png"])
def test_impossible_paths(tmp_path: Path, path: str) -> None:
    refused(write_folder(tmp_path, ROWS.replace("x/2.png", path)), "path in row 3 of .* must be a usable path")


def test_circular_link_and_pipe_are_no_images(tmp_path: Path) -> None:
    root = write_dataset(tmp_path)
    for image_id in list(LABELS)[:2]:
        (root / "images" / image_id).unlink()
    (root / "images" / "IMG000001.jpeg").mkdir()
    os.mkfifo(root / "images" / "IMG000002.jpg")  # reading it would wait for ever
    refused(root, r"2 of 3 are missing in .* \(IMG000001\.jpeg, IMG000002\.jpg\)")
    (root / "images" / "IMG000001.jpeg").rmdir()
    (root / "images" / "IMG000001.jpeg").symlink_to("IMG000001.jpeg")
    refused(root, "must be a usable path|are missing")


@pytest.mark.parametrize("column", ["label", "center", "group"])
def test_formulas_in_own_cells(tmp_path: Path, column: str) -> None:
    cells = {"label": "l", "center": "c", "group": "g"}
    row = {**cells, column: "=cmd"}
    refused(
        write_folder(tmp_path, f"image_id,path,label,center,group\na,x/1.png,{','.join(row.values())}\n"),
        "Row 2.*formula '=cmd'",
    )


def test_what_a_formula_is() -> None:
    assert all(map(is_formula, ["=1", "@a", "+cmd", "-1+1", "-a", "+ contrast"]))
    assert not any(map(is_formula, ["", "-", "--", "-1", "+1.5", "-1e-5", "1-2", "a=b"]))


def test_inside_opens_nothing_outside(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    assert inside(tmp_path / "root", "a/../b", "It") == (tmp_path / "root" / "b").resolve()
    with pytest.raises(DataError, match="It must lie inside"):
        inside(tmp_path / "root", "../rootless", "It")  # a prefix of the name is not the folder
