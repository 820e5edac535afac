"""The reader of label stores: labels as of one event, the hold-out apart, one clear line for a file that is none."""

import os
import re
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.support.label_stores import LABELS, act, make_store, write_images
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers import store_file
from tune_btxrd.data.readers.registry import read_dataset
from tune_btxrd.data.splits.split_files import load_split
from tune_btxrd.data.splits.splits import common_split, has_own_split, make_split, own_split
from tune_btxrd.errors import ConfigError, DataError
from tune_btxrd.labels.add import add_folder
from tune_btxrd.labels.grouping import by_pattern
from tune_btxrd.labels.store import LabelStore


@pytest.fixture
def store(tmp_path: Path):
    """30 patients with two images each, of which the first 50 images are labelled; the hold-out is 30 %."""
    write_images(tmp_path / "x", 60)
    with LabelStore.create(tmp_path / "s.db", LABELS, task="multiclass", salt="s", holdout_share=0.3) as opened:
        add_folder(opened, tmp_path / "x", grouping=by_pattern(r"(p\d+)", tmp_path / "x"))
        for number in range(1, 51):
            act(opened, number, {LABELS[number // 2 % 2]: 1})
        yield opened


def held(store: LabelStore) -> set[str]:
    return {row[0] for row in store.database.rows("SELECT image_id FROM images WHERE holdout = 1")}


def parts_of(manifest: Manifest) -> dict[str, str]:
    return dict(zip(manifest.image_ids, manifest.table["part"], strict=True))


def test_labels_that_come_later_change_nothing(store: LabelStore, tmp_path: Path) -> None:
    before = read_dataset(store.path)
    assert before.event == 50 and len(before) == 50 and before.dataset == "s"
    act(store, 60, {"Mass": 1})
    act(store, 1, {"Nodule": 1}, annotator="bob")
    store.undo("ann", client="u")
    (tmp_path / "x").rename(tmp_path / "moved")
    add_folder(store, tmp_path / "moved")
    again = read_dataset(store.path, event=50)
    assert again.sha256 == before.sha256 and again.image_ids == before.image_ids
    assert all(file is not None and file.is_file() for file in again.files)
    now = read_dataset(store.path)
    assert now.event == 53 and now.sha256 != before.sha256
    with pytest.raises(DataError, match="must hold event 54"):
        read_dataset(store.path, event=54)


def test_the_hold_out_tests_and_is_in_no_other_part_of_any_split(store: LabelStore, tmp_path: Path) -> None:
    manifest, hidden = read_dataset(store.path), held(store)
    assert {i for i, part in parts_of(manifest).items() if part == "test"} == hidden & set(manifest.image_ids)
    assert has_own_split(manifest) and own_split(manifest) == "holdout"
    split = make_split("holdout", manifest, pairs=(), groups="duplicates")
    assert set(split.parts["test"]) == hidden & set(manifest.image_ids) and split.parts["val"]
    for name in ("stratified", "fold 1/3"):
        other = make_split(name, manifest, pairs=(), groups="duplicates")
        assert hidden.isdisjoint(i for ids in other.parts.values() for i in ids)
        common = common_split(manifest, [other], pairs=(), groups="duplicates")
        assert hidden.isdisjoint(i for ids in common.parts.values() for i in ids)
    seen = min(hidden & set(manifest.image_ids))
    rows = [f"{i},{'val' if n % 3 else 'train'}" for n, i in enumerate(split.parts["train"])]
    (tmp_path / "mine.csv").write_text("\n".join(["image_id,part", *rows, f"{seen},train"]) + "\n")
    with pytest.raises(DataError, match="only tested on"):
        load_split(tmp_path / "mine.csv", manifest)


def test_disputed_bad_and_undone_labels_are_said_and_not_used(store: LabelStore) -> None:
    ids = {number: store.image(number).image_id for number in (1, 2, 3, 4)}
    act(store, 1, {"Nodule": 1}, annotator="bob")  # ann said Mass
    act(store, 2, kind="bad")
    act(store, 3, {"Mass": 1}, annotator="bob")  # ann said Nodule
    act(store, 3, {"Mass": 1}, annotator="cy", settles=True)
    act(store, 4, kind="bad")
    store.undo("ann", client="u")
    manifest = read_dataset(store.path)
    assert ids[1] not in manifest.row_of and ids[2] not in manifest.row_of
    assert manifest.labels[manifest.row_of[ids[3]]] == "Mass"
    assert manifest.labels[manifest.row_of[ids[4]]] == "Mass"
    assert sum("differ on 1 image" in note or "1 image(s) are left out" in note for note in manifest.notes) == 2


def test_without_labels_or_with_the_hold_outs_alone_there_is_nothing_to_train_on(tmp_path: Path) -> None:
    with make_store(tmp_path, images=20, holdout=0.5) as store:
        with pytest.raises(DataError, match="must hold labels"):
            read_dataset(store.path)
        hidden = store.database.number("SELECT min(image) FROM images WHERE holdout = 1")
        act(store, hidden, {"Mass": 1, "Nodule": 0})
        with pytest.raises(DataError, match="only those of the hold-out"):
            read_dataset(store.path)
    with pytest.raises(ConfigError, match="--layout"):
        read_dataset(tmp_path / "store.db", layout="class")


def test_a_labelled_image_without_its_file_is_named(store: LabelStore, tmp_path: Path) -> None:
    store.file(store.image(1)).unlink()
    with pytest.raises(DataError, match=r"1 of 50 are missing .*x__p00__0.png"):
        read_dataset(store.path)


def test_another_image_under_the_name_of_a_labelled_one_is_refused(store: LabelStore, tmp_path: Path) -> None:
    first, second = (store.file(store.image(number)) for number in (1, 2))
    was = first.read_bytes()
    os.utime(second, ns=(1, 1))  # touched, or copied without its time: still the same image
    assert len(read_dataset(store.path)) == 50
    first.write_bytes(second.read_bytes())
    refused = r"1 of 50 files of .*s.db hold another \(x/p00/0.png\): put back"
    with pytest.raises(DataError, match=refused):
        read_dataset(store.path)
    add_folder(store, tmp_path / "x")  # knows that the image is gone; its labels are about what was there
    with pytest.raises(DataError, match=refused):
        read_dataset(store.path)
    assert len(read_dataset(store.path, exclude=("x__p00__0.png",))) == 49
    first.write_bytes(was)
    add_folder(store, tmp_path / "x")
    assert len(read_dataset(store.path)) == 50


def other_sqlite(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()


def newer(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA application_id = {store_file.APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 99")
        connection.execute("CREATE TABLE t (x)")
    connection.close()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_text("text"), "must be a SQLite file"),
        (lambda path: path.touch(), "must be a SQLite file"),
        (other_sqlite, "made by `labels init`"),
        (newer, "is of version 99: update"),
    ],
)
def test_a_file_that_is_no_store_is_refused_in_one_line(tmp_path: Path, make: object, message: str) -> None:
    path = tmp_path / "a.db"
    make(path)  # type: ignore[operator]
    before = path.read_bytes()
    for opened in (lambda: read_dataset(path), lambda: LabelStore(path), lambda: LabelStore(path, read_only=True)):
        with pytest.raises(DataError, match=message) as error:
            opened()
        assert "\n" not in str(error.value)
        assert path.read_bytes() == before and sorted(tmp_path.iterdir()) == [path]  # its journal mode too


def test_a_damaged_store_is_refused_in_one_line(store: LabelStore, tmp_path: Path) -> None:
    store.close()
    data = bytearray((tmp_path / "s.db").read_bytes())
    for start in range(4096, len(data), 4096):
        data[start : start + 200] = os.urandom(200)
    (tmp_path / "broken.db").write_bytes(data)
    with pytest.raises(DataError, match="is damaged"):
        read_dataset(tmp_path / "broken.db")


def test_a_store_that_another_process_holds_is_told(store: LabelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tune_btxrd.labels.database.BUSY_SECONDS", 0)
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with LabelStore(store.path) as late, pytest.raises(DataError, match="held by another process"):
        late.set_missing(1, missing=True)
    assert len(read_dataset(store.path)) == 50  # reading goes on
    other.close()


def test_reading_needs_no_right_to_write(store: LabelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write everywhere, so what the system says of the folder is replaced; SQLite's own answer is not."""
    store.close()
    shutil.copytree(tmp_path, tmp_path / "away")
    path = tmp_path / "away" / "s.db"
    monkeypatch.setattr(store_file.os, "access", lambda *_: False)
    before = sorted(path.parent.iterdir())
    assert len(read_dataset(path)) == 50 and sorted(path.parent.iterdir()) == before
    with LabelStore(path, read_only=True) as opened, pytest.raises(DataError, match="read-only"):
        opened.set_missing(1, missing=True)


def test_a_full_disk_loses_nothing_and_is_told(store: LabelStore) -> None:
    pages = store.database.number("PRAGMA page_count")
    store.database.rows(f"PRAGMA max_page_count = {pages}")
    last = store.last_event
    with pytest.raises(DataError, match="the disk is full"):
        for number in range(1, 10_000):
            act(store, number % 50 + 1, {"Mass": 1}, client="x" * 500 + str(number))
            last = store.last_event
    store.database.rows("PRAGMA max_page_count = 1000000")
    assert store.last_event == last and store.database.rows("PRAGMA integrity_check") == [("ok",)]


def test_the_note_on_shares_leaves_the_drawn_hold_out_out(tmp_path: Path) -> None:
    write_images(tmp_path / "x", 60, per_group=1)
    with LabelStore.create(tmp_path / "s.db", ("a",), salt="s", holdout_share=0.3) as store:
        add_folder(store, tmp_path / "x")
        held = {row[0] for row in store.database.rows("SELECT image FROM images WHERE holdout = 1")}
        for number in range(1, 61):
            act(store, number, {"a": 1 if number in held else number % 2})  # the hold-out is all yes
    manifest = read_dataset(tmp_path / "s.db")
    note = make_split("holdout", manifest, pairs=(), groups="duplicates").note
    assert float(re.findall(r"at most ([\d.]+) points", note)[0]) < 15
    assert "validates. Each label's shares" in note
