"""Labels that come later, and stores of the version before them: what was answered stays, and as of then it is unknown."""

import sqlite3
from pathlib import Path

import pytest

from tests.support.label_pages import Visitor, make_store, saying, visit
from tests.support.label_stores import LABELS, act, named_images, write_images
from tests.support.label_stores import make_store as make_named
from tune_btxrd.cli.main import main
from tune_btxrd.data.readers.label_store import read_state
from tune_btxrd.data.readers.registry import read_dataset
from tune_btxrd.data.readers.store_file import APPLICATION_ID
from tune_btxrd.errors import ConfigError, DataError
from tune_btxrd.labels.add import add_folder
from tune_btxrd.labels.database import statements
from tune_btxrd.labels.schema import FIRST
from tune_btxrd.labels.status import status
from tune_btxrd.labels.store import LabelStore


def first_version(path: Path) -> Path:
    """A store as version 1 left it: two labels, two images, both answered."""
    with sqlite3.connect(path) as file:
        for statement in statements(FIRST):
            file.execute(statement)
        file.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        file.execute("PRAGMA user_version = 1")
        meta = {"task": "multilabel", "holdout_share": "0.0", "double_share": "0.0", "holdout_salt": "s"}
        file.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
        file.executemany("INSERT INTO labels (name, key, position) VALUES (?, ?, ?)", [("Mass", "1", 0), ("Nodule", "2", 1)])
        columns = "sha256, image_id, path, group_name, holdout, twice, shuffle, added, size, mtime"
        rows = [(i.sha256, i.path, i.path, i.group, 0, 0, number, "", 1, 1) for number, i in enumerate(named_images(2))]
        file.executemany(f"INSERT INTO images ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        columns = "kind, image, answers, annotator, time, arm, client"
        insert = f"INSERT INTO events ({columns}) VALUES ('label', ?, ?, 'ann', '', 'x', ?)"
        file.executemany(insert, [(1, '{"1": 1, "2": 0}', "a"), (2, '{"1": 0, "2": null}', "b")])
    file.close()
    return path


def test_a_store_of_version_1_is_read_and_goes_on_as_one_of_now(tmp_path: Path) -> None:
    path = first_version(tmp_path / "old.db")
    before, content = read_state(path), path.read_bytes()
    with LabelStore(path, read_only=True) as old:
        assert [event.saw_model for event in old.history()] == [None, None] and status(old).labels[0].yes == 1
        with pytest.raises(DataError, match="read-only"):
            old.set_missing(1, missing=True)
    assert path.read_bytes() == content and before.event == 2
    with LabelStore(path) as store:
        assert read_state(path) == before and store.known([1, 2]).tolist() == [[1, 0], [0, -1]]
        store.add_labels(["Edema"])
        act(store, 1, {"Edema": 1})
        assert store.pool().images == [2] and store.known([1]).tolist() == [[1, 0, 1]]
        store.undo("ann", client="u")
        assert store.pool().images == [1, 2] and store.known([1]).tolist() == [[1, 0, -1]]
        assert store.database.rows("PRAGMA integrity_check") == [("ok",)]


def test_as_of_an_earlier_event_a_later_label_is_none(tmp_path: Path) -> None:
    write_images(tmp_path / "x", 6)
    with LabelStore.create(tmp_path / "s.db", LABELS, salt="s", holdout_share=0.0) as store:
        add_folder(store, tmp_path / "x")
        for image in range(1, 7):
            act(store, image, {"Mass": image % 2, "Nodule": 1})
        before = read_dataset(store.path)
        store.add_labels(["Edema"], keys={"Edema": "e"})
        now = read_dataset(store.path)
        assert now.sha256 == before.sha256 and any("Nobody has answered Edema" in note for note in now.notes)
        act(store, 3, {"Edema": 1})
        then, now = read_dataset(store.path, event=6), read_dataset(store.path)
        assert then.sha256 == before.sha256 and now.class_names == (*LABELS, "Edema")
        known = now.task.known(now.targets, 3)
        assert known[:, :2].all() and known[:, 2].sum() == 1, "what was answered before is unknown for it"
        with pytest.raises(ConfigError, match="'Mass' is there already"):
            store.add_labels(["Effusion"], keys={"Mass": "9"})
        assert [label.key for label in store.labels] == ["1", "2", "e"]


def test_a_class_that_is_added_leaves_images_that_have_one_alone(tmp_path: Path) -> None:
    with make_named(tmp_path, images=3, task="multiclass") as store:
        act(store, 1, {"Mass": 1})
        act(store, 2, kind="unsure")
        store.add_labels(["Edema"])
        assert store.pool().images == [3] and store.known([1]).tolist() == [[1, 0, -1]]
        act(store, 1, {"Edema": 1}, annotator="bob", settles=True)
        store.undo("bob", client="u")
        assert store.pool().images == [3] and store.known([1]).tolist() == [[1, 0, -1]]


def test_the_verb_says_what_it_did_and_refuses_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_named(tmp_path, images=3).close()
    path = str(tmp_path / "store.db")
    assert main(["labels", "extend", path, "--labels", "Edema", "--label", "implant, metal", "--key", "Edema=e"]) == 0
    shown = capsys.readouterr().out
    assert "Edema (key e), implant, metal (key 3) added" in shown and "asked for again (3 now)" in shown
    assert main(["labels", "extend", path, "--labels", "Mass"]) == 2
    assert main(["labels", "extend", path]) == 2


def test_a_page_from_before_a_label_was_added_answers_what_it_knew(tmp_path: Path) -> None:
    with make_store(tmp_path, 4) as store:

        async def steps(page: Visitor) -> None:
            assert (await page.get("/api/next?count=1"))["labels"] == 2
            store.add_labels(["edema"])
            await page.say(1, (1, 0))
            found = await page.get("/api/next?count=4")
            again = next(item for item in found["items"] if item["image"] == 1)
            assert found["labels"] == 3 and again["mine"] == [1, 0, ""], "not asked is not the same as unsure"
            await page.say(1, (1, 0, None))
            undone = await page.undo()
            assert undone["item"]["undone"]["values"] == [1, 0, None] and undone["item"]["mine"] == [1, 0, ""]
            assert (await page.send(saying(1, (1, 0, 1, 1)))).status == 400

        visit(store, steps)
        assert store.known([1]).tolist() == [[1, 0, -1]]
