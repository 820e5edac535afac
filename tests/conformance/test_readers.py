"""Conformance of dataset readers: whatever the layout, the Manifest keeps these promises.

A new reader is run through them by a line in LAYOUTS: a function that writes a small dataset of at least two classes.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.support.datasets import write_dataset, write_folder
from tests.support.label_stores import act, write_images
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers.registry import read_dataset
from tune_btxrd.errors import DataError
from tune_btxrd.labels.add import add_folder
from tune_btxrd.labels.store import LabelStore


def class_folders(root: Path) -> Path:
    for name in ("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png", "dog/deep/3.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"png")
    return root


def class_folders_in_parts(root: Path) -> Path:
    for part in ("train", "val", "test"):
        class_folders(root / part)
    return root


def label_columns(root: Path) -> Path:
    return write_folder(
        root,
        "image_id,path,label:a,label:b\n1,x/1.png,1,0\n2,x/2.png,,1\n3,y/3.png,0,\n4,y/4.png,1,1\n5,y/5.png,0,0\n",
    )


def label_store(root: Path) -> Path:
    files = write_images(root, 6)
    with LabelStore.create(root / "study.db", ("a", "b"), salt="salt", holdout_share=0.0) as store:
        add_folder(store, root)
        for number in range(1, len(files) + 1):
            act(store, number, {"a": number % 2, "b": None if number == 1 else 1})
    return root / "study.db"


LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "btxrd": write_dataset,
    "btxrd xlsx": lambda root: write_dataset(root, suffix="xlsx"),
    "manifest": write_folder,
    "label columns": label_columns,
    "label store": label_store,
    "class folders": class_folders,
    "class folders in parts": class_folders_in_parts,
}
REVISED = {"accept_revision": True}  # three rows are not the BTXRD that is known


@pytest.fixture(params=sorted(LAYOUTS))
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return LAYOUTS[request.param](tmp_path / "data")


def read(root: Path, **more: object) -> Manifest:
    return read_dataset(root, **(REVISED | more))


def test_every_image_has_an_id_a_file_inside_and_a_class(root: Path) -> None:
    found, home = read(root), root if root.is_dir() else root.parent
    assert len(found) == len(set(found.image_ids)) == len(found.files) == len(found.table) >= 3
    assert all(file is not None and file.is_file() and file.is_relative_to(home.resolve()) for file in found.files)
    assert all(image_id.isprintable() and "/" not in image_id and "\\" not in image_id for image_id in found.image_ids)
    assert len(found.class_names) == len(set(found.class_names)) >= 2
    assert 0 <= found.positive_class < len(found.class_names) and all(found.class_counts)
    if found.task.exclusive:  # else an image has several labels, or none
        assert sum(found.class_counts) == len(found)


def test_targets_cannot_be_written_to(root: Path) -> None:
    with pytest.raises(ValueError, match="read-only"):
        read(root).targets[0] = 1


def test_read_twice_it_is_the_same(root: Path) -> None:
    first, second = read(root), read(root)
    assert first.sha256 == second.sha256 and first.image_ids == second.image_ids
    assert np.array_equal(first.targets, second.targets)


def test_what_was_decided_is_one_line_each(root: Path) -> None:
    assert all("\n" not in note and note.strip() for note in read(root).notes)


def test_an_excluded_image_is_gone_and_an_unknown_one_is_a_mistake(root: Path) -> None:
    whole = read(root)
    kept = read(root, exclude=[whole.image_ids[0]])
    assert whole.image_ids[0] not in kept.image_ids and len(kept) == len(whole) - 1
    assert kept.sha256 != whole.sha256
    with pytest.raises(DataError, match="nobody"):
        read(root, exclude=["nobody"])


def test_another_class_can_be_watched_and_an_unknown_one_is_a_mistake(root: Path) -> None:
    names = read(root).class_names
    for name in names:
        assert names[read(root, positive_class=name).positive_class] == name
    with pytest.raises(DataError):
        read(root, positive_class="no such class")


def test_rows_are_found_by_id(root: Path) -> None:
    found = read(root)
    assert np.array_equal(found.rows(found.image_ids), np.arange(len(found)))
    with pytest.raises(DataError, match="nobody"):
        found.rows(["nobody"])
