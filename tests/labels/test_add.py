"""Adding a folder: by content, once; files are found again where they were moved; groups stay whole."""

import csv
import os
import shutil
from pathlib import Path

import pytest

from tests.support.label_stores import LABELS, write_images
from tests.support.paths import ROOT
from tune_btxrd.cli.main import main
from tune_btxrd.errors import ConfigError, DataError
from tune_btxrd.labels.add import Added, add_folder, require_some_read
from tune_btxrd.labels.grouping import by_pattern, by_table
from tune_btxrd.labels.status import small_holdout
from tune_btxrd.labels.store import LabelStore

DICOM = ROOT.parent / "shared" / "data" / "dicom"


@pytest.fixture
def store(tmp_path: Path):
    with LabelStore.create(tmp_path / "store.db", LABELS, salt="s", holdout_share=0.5) as opened:
        yield opened


def paths(store: LabelStore) -> dict[str, str]:
    return dict(store.database.rows("SELECT path, group_name FROM images WHERE missing = 0"))


def changes(added: Added) -> tuple[int, int, int, int]:
    return added.new, added.moved, added.copies, added.missing


def test_adding_twice_adds_once_and_reads_nothing_again(
    store: LabelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "x", 9)
    assert changes(add_folder(store, tmp_path / "x")) == (9, 0, 0, 0)
    read: list[Path] = []
    monkeypatch.setattr("tune_btxrd.labels.add.file_sha256", lambda file: read.append(file) or "")
    assert changes(add_folder(store, tmp_path / "x")) == (0, 0, 0, 0) and not read
    assert store.progress("a").images + store.progress("a", mode="holdout").images == 9


def test_files_that_moved_are_found_again_and_keep_what_is_known(store: LabelStore, tmp_path: Path) -> None:
    files = write_images(tmp_path / "x", 6)
    add_folder(store, tmp_path / "x")
    facts = store.database.rows("SELECT image, sha256, image_id, group_name, holdout FROM images")
    (tmp_path / "x").rename(tmp_path / "elsewhere")
    assert changes(add_folder(store, tmp_path / "elsewhere")) == (0, 6, 0, 0)
    assert store.database.rows("SELECT image, sha256, image_id, group_name, holdout FROM images") == facts
    assert all(store.file(store.image(row[0])).is_file() for row in facts)
    one, other = (tmp_path / "elsewhere" / files[i].relative_to(tmp_path / "x") for i in (0, 5))
    aside = tmp_path / "aside"
    one.rename(aside), other.rename(one), aside.rename(other)  # two files swap their names
    before = {sha256: path for sha256, path in store.database.rows("SELECT sha256, path FROM images")}
    assert changes(add_folder(store, tmp_path / "elsewhere")) == (0, 2, 0, 0)
    after = {sha256: path for sha256, path in store.database.rows("SELECT sha256, path FROM images")}
    assert sorted(before.values()) == sorted(after.values()) and sum(before[s] != after[s] for s in before) == 2


def test_gone_copied_replaced_and_broken_files(store: LabelStore, tmp_path: Path) -> None:
    files = write_images(tmp_path / "x", 5)
    add_folder(store, tmp_path / "x")
    files[0].unlink()
    shutil.copy(files[1], files[1].with_name("copy.png"))
    shutil.copy(write_images(tmp_path / "other", 1, seed=7)[0], files[2])
    files[3].with_name("text.png").write_text("no image")
    files[3].with_name(".hidden.png").write_text("no image")
    added = add_folder(store, tmp_path / "x")
    assert changes(added) == (1, 0, 1, 2)  # what lay in files[2] before is gone too
    assert [reason.split(": ")[0] for reason in added.broken] == ["p01/text.png"]
    assert {image.path for image in store.missing_images()} == {"x/p00/0.png", "x/p01/2.png"}
    write_images(tmp_path / "x", 5)
    assert changes(add_folder(store, tmp_path / "x"))[3] == 1 and len(store.missing_images()) == 1


def test_a_file_that_was_only_touched_is_the_same_image(store: LabelStore, tmp_path: Path) -> None:
    file = write_images(tmp_path / "x", 1)[0]
    add_folder(store, tmp_path / "x")
    os.utime(file, (1, 1))
    assert changes(add_folder(store, tmp_path / "x")) == (0, 0, 0, 0)
    assert store.database.number("SELECT mtime FROM images") == 10**9


def test_groups_by_pattern_stay_on_one_side_of_the_hold_out(store: LabelStore, tmp_path: Path) -> None:
    write_images(tmp_path / "x", 60, per_group=3)
    added = add_folder(store, tmp_path / "x", grouping=by_pattern(r"^(p\d+)/", tmp_path / "x"))
    assert added.new == 60 and 0 < added.holdout < 60
    sides = store.database.rows("SELECT group_name, min(holdout), max(holdout), count(*) FROM images GROUP BY group_name")
    assert len(sides) == 20 and all(low == high and count == 3 for _, low, high, count in sides)
    later = write_images(tmp_path / "y" / "p03", 1, seed=5)[0]
    later.rename(tmp_path / "y" / "p03" / "new.png")
    add_folder(store, tmp_path / "y", grouping=by_pattern(r"^(p\d+)/", tmp_path / "y"))
    assert (
        dict(store.database.rows("SELECT path, holdout FROM images"))["y/p03/new.png"]
        == {group: side for group, side, *_ in sides}["p03"]
    )


def test_a_path_that_does_not_fit_the_pattern_is_refused(store: LabelStore, tmp_path: Path) -> None:
    write_images(tmp_path / "x", 4)
    with pytest.raises(DataError, match=r"does not fit 'q\(\\\\d\)'"):
        add_folder(store, tmp_path / "x", grouping=by_pattern(r"q(\d)", tmp_path / "x"))
    with pytest.raises(ConfigError, match="regular expression"):
        by_pattern("(", tmp_path)
    assert not paths(store)


@pytest.mark.parametrize("naming", ["path", "image_id"])
def test_groups_by_a_column_of_a_table(store: LabelStore, tmp_path: Path, naming: str) -> None:
    files = write_images(tmp_path / "x", 5)
    named = [str(f.relative_to(tmp_path)).replace("/", "\\") if naming == "path" else f.stem for f in files]
    with (tmp_path / "table.csv").open("w", newline="") as file:
        rows = [[naming, "Patient"], *zip(named[:4], ("A", "A", "B", ""), strict=True)]
        csv.writer(file).writerows(rows)
    added = add_folder(store, tmp_path / "x", grouping=by_table(tmp_path / "table.csv", "Patient", tmp_path / "x"))
    assert (added.new, added.unnamed) == (4, 1)
    groups = list(paths(store).values())
    assert groups[:3] == ["A", "A", "B"] and groups[3].startswith("sha256:")
    again = add_folder(store, tmp_path / "x", grouping=by_pattern(r"^(p\d+)/", tmp_path / "x"))
    assert (again.new, again.regrouped) == (1, 4) and list(paths(store).values())[:3] == ["A", "A", "B"]


def test_a_table_that_names_an_image_with_two_groups_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,group\na.png,1\na.png,2\n")
    with pytest.raises(DataError, match=r"names 'a\.png' with two"):
        by_table(tmp_path / "t.csv", "group", tmp_path)


@pytest.mark.skipif(not DICOM.is_dir(), reason="needs the shared DICOM files")
def test_a_dicom_patient_is_a_group_and_its_name_is_not_in_the_store(store: LabelStore, tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    (tmp_path / "x").mkdir()
    for number, patient in enumerate(("Jane Roe 1970", "Jane Roe 1970", "John Doe")):
        header = pydicom.dcmread(DICOM / "cr_chest_mono1_10bit.dcm")
        header.PatientID, header.InstanceNumber = patient, number
        header.save_as(tmp_path / "x" / f"{number}.dcm")
    assert add_folder(store, tmp_path / "x").new == 3
    first, second, third = paths(store).values()
    assert first == second != third
    store.close()
    assert b"Jane Roe" not in (tmp_path / "store.db").read_bytes()


@pytest.mark.parametrize(("make", "message"), [("none", "must exist"), ("empty", "must hold images")])
def test_a_folder_without_images_is_refused(store: LabelStore, tmp_path: Path, make: str, message: str) -> None:
    if make == "empty":
        (tmp_path / "x").mkdir()
    with pytest.raises(DataError, match=message):
        add_folder(store, tmp_path / "x")


def test_a_name_that_is_no_text_is_told_and_the_others_are_added(store: LabelStore, tmp_path: Path) -> None:
    file = write_images(tmp_path / "x", 2)[0]
    os.rename(os.fsencode(file), os.fsencode(file.parent) + b"/\xff.png")  # noqa: PTH104
    added = add_folder(store, tmp_path / "x")
    assert added.new == 1 and "not printable or not UTF-8" in added.broken[0]


def test_long_and_equal_ids(store: LabelStore, tmp_path: Path) -> None:
    deep = tmp_path / "x" / ("d" * 100) / ("e" * 100)
    file = write_images(deep, 1)[0]
    shutil.copy(file, tmp_path / "x" / "a__b.png")
    (tmp_path / "x" / "a").mkdir()
    shutil.copy(write_images(tmp_path / "y", 1, seed=3)[0], tmp_path / "x" / "a" / "b.png")
    file.write_bytes(write_images(tmp_path / "z", 1, seed=4)[0].read_bytes())
    add_folder(store, tmp_path / "x")
    ids = [row[0] for row in store.database.rows("SELECT image_id FROM images")]
    assert len(set(ids)) == 3 and all(len(image_id) <= 128 and image_id.endswith(".png") for image_id in ids)


def test_the_same_bytes_under_two_patients_are_told_and_so_is_a_hold_out_between_them(
    store: LabelStore, tmp_path: Path
) -> None:
    write_images(tmp_path / "x", 20, per_group=1)
    first = tmp_path / "x" / "p00" / "0.png"
    sides = {name: store.is_held_out(name) for name in (f"p{number:02}" for number in range(20))}
    same, other = (
        next(n for n in sides if n != "p00" and (sides[n] == sides["p00"]) is is_same) for is_same in (True, False)
    )
    for name in ("p00", same, other):
        shutil.copy(first, tmp_path / "x" / name / "copy.png")
    added = add_folder(store, tmp_path / "x", grouping=by_pattern(r"^(p\d+)/", tmp_path / "x"))
    assert (added.new, added.copies, added.torn) == (20, 3, 1)
    assert set(added.twins) == {f"x/{name}/copy.png of {name} is x/p00/0.png of p00" for name in (same, other)}
    again = add_folder(store, tmp_path / "x", grouping=by_pattern(r"^(p\d+)/", tmp_path / "x"))
    assert (set(again.twins), again.torn) == (set(added.twins), 1)


def test_broken_files_are_left_out_and_told_each_time_but_are_no_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_images(tmp_path / "x", 3)[0]
    file.with_name("cut.png").write_bytes(file.read_bytes()[:20])
    path = str(tmp_path / "s.db")
    assert main(["labels", "init", path, "--labels", "a"]) == 0
    for _ in range(2):
        assert main(["labels", "add", path, str(tmp_path / "x")]) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert "1 of 4 files have the name of an image but cannot be read as one" in shown and "p00/cut.png" in shown
    for name in (tmp_path / "x").rglob("?.png"):
        name.write_text("no image")
    with LabelStore(tmp_path / "s.db") as opened, pytest.raises(DataError, match="all 4 below"):
        require_some_read(add_folder(opened, tmp_path / "x"), tmp_path / "x")


def test_a_table_of_groups_beside_the_folder_above_and_one_that_names_nothing(store: LabelStore, tmp_path: Path) -> None:
    write_images(tmp_path / "data" / "images", 4)
    table = tmp_path / "elsewhere.csv"
    table.write_text("image_id,path,group\n" + "".join(f"I{n},images/p{n // 2:02}/{n}.png,G{n // 2}\n" for n in range(4)))
    folder = tmp_path / "data" / "images"
    assert add_folder(store, folder, grouping=by_table(table, "group", folder)).new == 4
    table.write_text("path,group\nother.png,1\n")
    with pytest.raises(DataError, match="names none of 4 below"):
        add_folder(store, folder, grouping=by_table(table, "group", folder))


@pytest.mark.parametrize(("groups", "is_told"), [(9, True), (10, False)])
def test_a_hold_out_of_few_groups_is_told(groups: int, *, is_told: bool) -> None:
    assert bool(small_holdout(groups)) == is_told
