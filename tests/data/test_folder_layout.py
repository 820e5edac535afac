"""Folders: which are parts, classes, centers or patients; every file accounted for; nothing guessed without a word."""

import os
from pathlib import Path

import pytest
from PIL import Image, features

from tune_btxrd.cli.main import main
from tune_btxrd.data.cache.decode import FORMATS
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers.file_rules import DICOM_ENDINGS, READABLE, is_no_data
from tune_btxrd.data.readers.folder_layout import part_of
from tune_btxrd.data.readers.registry import read_dataset
from tune_btxrd.data.splits.splits import common_split, has_own_split, make_split
from tune_btxrd.errors import ConfigError, DataError


def touch(root: Path, *paths: str) -> Path:
    """Files that readers list and never decode."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())
    return root


def images(*folders: str, count: int = 3) -> list[str]:
    return [f"{folder}/{number}.png" for folder in folders for number in range(count)]


def counts(manifest: Manifest) -> dict[str, int]:
    return dict(zip(manifest.class_names, manifest.class_counts, strict=True))


def files_line(manifest: Manifest) -> str:
    return next(note for note in manifest.notes if note.startswith("Files: "))


def test_every_file_is_accounted_for(tmp_path: Path) -> None:
    touch(tmp_path, *images("rain", "sun"), "rain/a.jfif", "rain/B.JPE", "sun/.hidden.png", "sun/._0.png", "sun/notes.txt")
    touch(tmp_path, "__MACOSX/rain/._0.png", "__MACOSX/sun/._0.png", "sun/.ipynb_checkpoints/0.png", "rain/Thumbs.db")
    touch(tmp_path, ".DS_Store", "loose.png", "rain/desktop.ini", "readme")
    manifest = read_dataset(tmp_path)
    assert counts(manifest) == {"rain": 5, "sun": 3}
    assert files_line(manifest) == (
        "Files: 6 .png, 1 .jfif, 1 .jpe: taken; 2 hidden; 2 in __MACOSX; 1 ._ files; 1 .png that are not in the dataset; "
        "1 .txt; 1 Thumbs.db; 1 desktop.ini; 1 in .ipynb_checkpoints; 1 without ending."
    )
    total = sum(int(word) for word in files_line(manifest).replace(":", "").split() if word.isdigit())
    assert total == sum(path.is_file() for path in tmp_path.rglob("*"))


def test_tables_account_for_what_they_do_not_name(tmp_path: Path) -> None:
    touch(tmp_path, *images("x"), ".hidden")
    (tmp_path / "manifest.csv").write_text("image_id,path,label\na,x/0.png,cat\nb,x/1.png,dog\n")
    assert files_line(read_dataset(tmp_path)) == "Files: 2 .png: taken; 1 .png that are not in the dataset; 1 hidden."


def test_readable_endings_are_those_of_the_decoder() -> None:
    Image.init()
    others = {".icb", ".vda", ".vst"}
    assert {
        ending for ending, name in Image.registered_extensions().items() if name in {*FORMATS, "MPO"}
    } - others == READABLE - set(DICOM_ENDINGS)
    assert features.check("jpg_2000")


def test_a_class_of_leftovers_is_no_class(tmp_path: Path) -> None:
    touch(tmp_path, *images("a", "b"), "empty/.x.png", "empty/Thumbs.db", "@eaDir/a.png")
    assert counts(read_dataset(tmp_path)) == {"a": 3, "b": 3}
    assert all(is_no_data(name) for name in ("._a", "__MacOSX", "THUMBS.DB", ".git")) and not is_no_data("macosx")


def test_a_class_that_is_left_out_whole_is_no_class_any_more(tmp_path: Path) -> None:
    touch(tmp_path, *images("a", "b", count=4), *images("c", count=2))
    left = read_dataset(tmp_path, exclude=["c__0.png", "c__1.png", "a__0.png"])
    assert counts(left) == {"a": 3, "b": 4} and left.class_names[left.positive_class] == "a"
    assert "No image is left of c: no class any more." in left.notes
    with pytest.raises(DataError, match="At least two classes must be left, but --exclude leaves b of"):
        read_dataset(tmp_path, exclude=["c__0.png", "c__1.png", *(f"a__{n}.png" for n in range(4))])


@pytest.mark.parametrize(
    ("name", "part"),
    [
        *[
            (name, "train")
            for name in ("train", "Training", "train_data", "training_set", "TrainSet", "train2017", "images_train")
        ],
        *[(name, "val") for name in ("val", "valid", "VALIDATION", "dev", "val-images", "validation_set")],
        *[(name, "test") for name in ("test", "Testing", "test_data", "test_set", "tests")],
        *[(name, None) for name in ("contest", "rain", "invalid", "terrain", "trainer", "data", "set", "device", "latest")],
    ],
)
def test_names_of_parts(name: str, part: str | None) -> None:
    assert part_of(name) == part


def test_parts_by_other_names(tmp_path: Path) -> None:
    touch(
        tmp_path, *images("Training/x", "Training/y", "Training/z", count=10), *images("Testing/x", "Testing/y", "Testing/z")
    )
    manifest = read_dataset(tmp_path)
    assert counts(manifest) == {"x": 13, "y": 13, "z": 13} and has_own_split(manifest)
    assert "Layout part/class: Training = train, Testing = test (--layout says otherwise)." in manifest.notes
    split = make_split("folders", manifest, pairs=[], groups="none")
    assert all(image_id.startswith("Testing__") for image_id in split.parts["test"]) and len(split.parts["test"]) == 9


def test_train_and_val_without_test(tmp_path: Path) -> None:
    touch(tmp_path, *images("train/x", "train/y"), *images("val/x", "val/y", count=2))
    manifest = read_dataset(tmp_path)
    assert any(note.startswith("There is no test part: validation is the folders' own") for note in manifest.notes)
    split = make_split("folders", manifest, pairs=[], groups="none")
    assert {part: len(ids) for part, ids in split.parts.items()} == {"train": 6, "val": 4, "test": 0}
    assert all(image_id.startswith("val__") for image_id in split.parts["val"]) and "no test part" in split.note
    common = common_split(manifest, [split], pairs=[], groups="none")
    assert common.parts == split.parts


@pytest.mark.parametrize("test", ["test/{}.png", "test/unlabelled/{}.png"])
def test_a_test_folder_without_classes_is_offered_to_predict(tmp_path: Path, test: str) -> None:
    touch(tmp_path, *images("train/x", "train/y"), *images("valid/x", "valid/y"), *[test.format(n) for n in range(5)])
    manifest = read_dataset(tmp_path)
    assert counts(manifest) == {"x": 6, "y": 6} and set(manifest.table["part"]) == {"train", "val"}
    assert any(f"`predict CHECKPOINT {tmp_path / 'test'}`" in note and "5 images" in note for note in manifest.notes)
    assert "5 .png that are not in the dataset" in files_line(manifest)


def test_a_class_called_train_among_others_is_a_class(tmp_path: Path) -> None:
    touch(tmp_path, *images("bus", "car", "train"))
    assert counts(read_dataset(tmp_path)) == {"bus": 3, "car": 3, "train": 3}


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("train", "test"), "train must hold a folder per class.*--layout class"),
        (("Testing/x", "Testing/y", "val/x", "val/y"), "train must hold a folder per class"),
        (("train/x", "train/y", "val/x", "valid/x"), "A part must have one folder.*merge"),
        (("train/x", "train/y", "extra/x"), "beside extra: choose with --layout part/class or --layout class"),
        (("fold1/x", "fold1/y", "fold2/x", "fold2/y"), "one meaning, but fold1, fold2 .* hold x, y: choose .*center/class"),
        (("COVID/images", "COVID/masks", "Normal/images", "Normal/masks"), "hold images, masks: .*--layout class/images, "),
        (("a", "a/masks", "b"), r"hold masks and images beside them: choose with --layout class/\., "),
        (("a/p1", "a/p2", "b/p1", "b/p2"), r"class/group \(patients\)"),
        (("images", "masks"), "look like images and what was drawn on them"),
        (("only",), "must hold dataset.xlsx"),
        ((".",), r"its 3 images have no class; sort them into class folders, add a manifest.csv, or `predict` them"),
        (("wrapped/a", "wrapped/b"), "the classes are one folder further in, use --data .*wrapped"),
    ],
)
def test_what_could_mean_two_things_needs_a_choice(tmp_path: Path, folders: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        read_dataset(touch(tmp_path, *images(*folders)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("folders", "layout", "expected"),
    [
        (("train", "test"), "class", {"train": 3, "test": 3}),
        (("a/images", "a/masks", "b/images", "b/masks"), "class/images", {"a": 3, "b": 3}),
        (("a/images", "a/masks", "b/images", "b/masks"), "class", {"a": 6, "b": 6}),
        (("a", "a/masks", "b"), "class/.", {"a": 3, "b": 3}),
        (("x/train", "x/test", "y/train", "y/test"), None, {"x": 6, "y": 6}),
        (("train/x/images", "train/y/images", "test/x/images", "test/y/images"), None, {"x": 6, "y": 6}),
        (("a/patient1", "a/patient2", "b/patient3"), None, {"a": 6, "b": 3}),
        (("train/x", "train/y"), None, {"x": 3, "y": 3}),
    ],
)
def test_layouts(tmp_path: Path, folders: tuple[str, ...], layout: str | None, expected: dict[str, int]) -> None:
    assert counts(read_dataset(touch(tmp_path, *images(*folders)), layout=layout)) == expected


def test_centers_and_patients_by_their_folders(tmp_path: Path) -> None:
    touch(tmp_path, *images("Oslo/x/p1", "Oslo/y/p2", "Bergen/x/p3", "Bergen/y/p1"))
    manifest = read_dataset(tmp_path, layout="center/class/group")
    assert manifest.centers == (*["Bergen"] * 6, *["Oslo"] * 6)
    assert manifest.groups == (*["p3"] * 3, *["p1"] * 3, *["p1"] * 3, *["p2"] * 3)


@pytest.mark.parametrize("layout", ["", "part", "class/class", "class//x", "part/../class", "./class", "nothing"])
def test_layouts_that_are_none(tmp_path: Path, layout: str) -> None:
    with pytest.raises(ConfigError, match="--layout must name `class` once"):
        read_dataset(touch(tmp_path, *images("a", "b")), layout=layout or "/")


def test_a_layout_that_fits_nothing_or_meets_a_table(tmp_path: Path) -> None:
    touch(tmp_path, *images("a", "b"))
    with pytest.raises(DataError, match=r"none of 6 in .* does \(a/0\.png, a/1\.png, a/2\.png\)"):
        read_dataset(tmp_path, layout="class/images")
    (tmp_path / "manifest.csv").write_text("image_id,path,label\na,a/0.png,cat\nb,b/1.png,dog\n")
    with pytest.raises(ConfigError, match="--layout is for folders without a table"):
        read_dataset(tmp_path, layout="class")


def test_classes_that_look_alike(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="differ in more than case"):
        read_dataset(touch(tmp_path / "case", *images("Cat", "cat")))
    with pytest.raises(DataError, match="spelling of accents"):
        read_dataset(touch(tmp_path / "accents", *images("e\u0301te", "\u00e9te")))
    with pytest.raises(DataError, match="'nan', which tables read as blank"):
        read_dataset(touch(tmp_path / "nan", *images("nan", "b")))


def test_links_among_folders_end(tmp_path: Path) -> None:
    touch(tmp_path, *images("a", "b"))
    (tmp_path / "a" / "loop").symlink_to(tmp_path / "a", target_is_directory=True)
    (tmp_path / "b" / "up").symlink_to(tmp_path, target_is_directory=True)
    assert counts(read_dataset(tmp_path)) == {"a": 3, "b": 3}


def test_the_flag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    touch(tmp_path / "data", *images("train", "test", count=12))
    flags = ["prepare", "--data", str(tmp_path / "data"), "--cache", str(tmp_path), "--table-only"]
    assert main(flags) == 2
    assert main([*flags, "--layout", "class"]) == 0
    assert "24 images" in (said := capsys.readouterr().out) and "Layout class, as asked." in said
    assert main([*flags, "--layout", "part"]) == 2


def test_a_folder_that_cannot_be_listed_is_one_line_unless_it_is_no_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, *images("a", "b"), "lost+found/x", "b/locked/0.png")
    real = os.scandir

    def scandir(folder: Path) -> object:
        if Path(folder).name in ("lost+found", locked):
            raise PermissionError(13, "Permission denied")
        return real(folder)

    locked = "none"
    monkeypatch.setattr(os, "scandir", scandir)
    assert counts(read_dataset(tmp_path)) == {"a": 3, "b": 4}
    locked = "locked"
    with pytest.raises(DataError, match="locked must be readable, but is not"):
        read_dataset(tmp_path)


def test_links_within_the_folder_count_once(tmp_path: Path) -> None:
    touch(tmp_path, *images("pool"), *images("a"))
    (tmp_path / "b").symlink_to(tmp_path / "pool", target_is_directory=True)
    manifest = read_dataset(tmp_path, layout="class")
    assert counts(manifest) == {"a": 3, "b": 3, "pool": 3}
    assert "not in the dataset" not in files_line(manifest)


def test_a_dataset_folder_whose_name_is_no_text(tmp_path: Path) -> None:
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller"))
    for label in ("a", "b"):
        (root / label).mkdir(parents=True)
        for number in range(12):
            Image.new("L", (8, 8), number * 9 + (label == "b")).save(root / label / f"{number}.png")
    assert main(["prepare", "--data", str(root), "--cache", str(tmp_path / "cache"), "--image-size", "32"]) == 0
