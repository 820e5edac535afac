"""BTXRD's facts, on a table of the right size that is changed in one place at a time, and on the true one."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.support.datasets import SHARED, needs_shared, small_table, write_dataset
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers.btxrd import RELEASED_COLUMNS, read_btxrd
from tune_btxrd.data.readers.btxrd_facts import CENTER_CLASS_COUNTS, CLASS_COUNTS, IMAGE_IDS, check_facts
from tune_btxrd.data.readers.registry import read_dataset
from tune_btxrd.errors import DataError


def right_table() -> pd.DataFrame:
    """3,746 rows for which all facts hold, without a look at the true table."""
    classes = [(center, target) for center, counts in CENTER_CLASS_COUNTS.items() for target in np.repeat([0, 1, 2], counts)]
    table = pd.DataFrame(0, index=range(len(classes)), columns=list(RELEASED_COLUMNS))
    target = np.array([target for _, target in classes])
    table["image_id"], table["center"] = list(IMAGE_IDS), [center for center, _ in classes]
    table["tumor"], table["benign"], table["malignant"] = target > 0, target == 1, target == 2
    return table.astype({"tumor": int, "benign": int, "malignant": int})


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    root = tmp_path_factory.mktemp("btxrd")
    right_table().to_csv(root / "dataset.csv", index=False)
    return read_btxrd(root, dataset="btxrd", table_only=True)


def names_of(manifest: Manifest) -> list[str]:
    return [finding.name for finding in check_facts(manifest)]


def test_known_numbers_agree_with_each_other() -> None:
    assert tuple(np.sum(list(CENTER_CLASS_COUNTS.values()), axis=0)) == CLASS_COUNTS and sum(CLASS_COUNTS) == 3746
    assert IMAGE_IDS[3718:3720] == ("IMG003719.jpeg", "IMG003720.jpg") and sum(i.endswith(".jpg") for i in IMAGE_IDS) == 27


def test_right_table_has_no_findings(right: Manifest) -> None:
    assert check_facts(right) == []


def test_each_changed_fact_is_found(right: Manifest) -> None:
    changed = right.targets.copy()
    changed[0] = 2
    [normal, malignant, center] = check_facts(dataclasses.replace(right, targets=changed))
    assert str(normal).startswith("Normal images: found 1,878, expected 1,879 (")
    assert (malignant.found, malignant.expected) == ("343", "342")
    assert (center.name, center.found, center.expected) == (
        "Normal/Benign/Malignant of center 1", "1592/1110/236", "1593/1110/235",
    )  # fmt: skip
    assert names_of(dataclasses.replace(right, centers=None)) == ["centers"]
    assert names_of(dataclasses.replace(right, table=right.table.drop(columns="pelvis"))) == ["columns"]
    assert names_of(dataclasses.replace(right, table=right.table.assign(caption=""))) == ["columns beyond the 37"]
    assert names_of(dataclasses.replace(right, table=right.table.assign(**{"original name": ""}))) == []
    ids = (*right.image_ids[:-1], "IMG003746.jpeg")
    assert names_of(dataclasses.replace(right, image_ids=ids)) == [".jpg ids", "ids that BTXRD does not have"]
    files = (Path("IMG000001.png"), *right.files[1:])
    assert names_of(dataclasses.replace(right, files=files)) == ["files named otherwise than their id"]


def test_labels_must_agree_with_each_other_in_a_subset_too(tmp_path: Path) -> None:
    both = small_table().assign(benign=[1, 1, 0])
    with pytest.raises(DataError, match=r"rows both benign and malignant: found 1, expected 0 \(e\.g\. IMG000001"):
        read_dataset(write_dataset(tmp_path / "both", both))
    neither = small_table().assign(tumor=1)
    with pytest.raises(DataError, match=r"tumor is not .*: found 1, expected 0 \(e\.g\. IMG000003"):
        read_dataset(write_dataset(tmp_path / "neither", neither))
    accepted = read_dataset(tmp_path / "both", accept_revision=True)
    assert accepted.targets.tolist() == [2, 1, 0] and "rows both benign and malignant" in accepted.notes[1]
    assert len(accepted.notes) == 3


def test_another_revision_needs_the_users_word(tmp_path: Path) -> None:
    table = right_table()
    table.loc[0, ["tumor", "benign"]] = 1
    table.to_csv(tmp_path / "dataset.csv", index=False)
    with pytest.raises(DataError, match=r"3 do not in .*Normal images: found 1,878.*--accept-revision") as error:
        read_dataset(tmp_path, table_only=True)
    assert "\n" not in str(error.value)
    accepted = read_dataset(tmp_path, table_only=True, accept_revision=True)
    assert accepted.dataset == "btxrd" and accepted.notes[0] == "Accepted although 3 facts of BTXRD do not hold:"
    assert read_dataset(tmp_path, table_only=True, dataset="phantom").notes == ()


@needs_shared
def test_facts_are_asked_before_images_are_left_out() -> None:
    manifest = read_dataset(SHARED / "btxrd_tables", table_only=True, exclude=["IMG000001.jpeg"])
    assert len(manifest) == 3745 and manifest.notes[0] == "All known facts of BTXRD hold."
