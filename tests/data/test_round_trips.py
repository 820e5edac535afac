"""What we write reads back equal: split files by both of their readers, manifest.csv, audit.json, lists of ids."""

import json
import string
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.support.hostile import CLASS_NAMES, EVERYTHING
from tune_btxrd.data.audit.audit import audit
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers.file_rules import is_no_data
from tune_btxrd.data.readers.names import check_class_names, check_id
from tune_btxrd.data.readers.registry import read_dataset
from tune_btxrd.data.readers.spreadsheet import read_ids
from tune_btxrd.data.splits.split_files import load_split, read_split, save_splits
from tune_btxrd.data.splits.splits import PARTS, Split
from tune_btxrd.errors import DataError

SETTINGS = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much]
)
ODD = (
    *(*EVERYTHING, "+ve", "-ve", "benign ", " x", "nan", "NaN", "None", "NA", "null", "1.0", "007", "1e5", "True", "#N/A"),
    *("", "'", '"', '""', ",", "a,", "=1", "\u00a0x", "e\u0301"),
)


def is_allowed(names: list[str], ids: list[str]) -> bool:
    """Whether our readers let these names in."""
    try:
        check_class_names(names, "here")
        for image_id in ids:
            check_id(image_id, "id")
    except DataError:
        return False
    return True


def is_id(text: str) -> bool:
    return is_allowed(["a", "b"], [text])


def is_class(text: str) -> bool:
    return is_allowed([text, "other"], [])


VISIBLE = st.text(st.characters(categories=("L", "N", "P", "S", "Zs")), min_size=1, max_size=20)
NAMES = st.one_of(st.sampled_from(ODD), VISIBLE, st.text(string.punctuation + " a1", min_size=1, max_size=9))
IDS, CLASSES = NAMES.filter(is_id), NAMES.filter(is_class)


def manifest_of(ids: list[str], names: list[str]) -> Manifest:
    n = len(ids)
    return Manifest(
        dataset="d",
        root=Path("d"),
        image_ids=tuple(ids),
        files=(None,) * n,
        targets=np.arange(n, dtype=np.int64) % len(names),
        class_names=tuple(sorted(names)),
        positive_class=0,
        centers=None,
        groups=None,
        table=pd.DataFrame(index=range(n)),
        annotations=(None,) * n,
    )


@SETTINGS
@given(ids=st.lists(IDS, min_size=6, max_size=9, unique=True), names=st.lists(CLASSES, min_size=2, max_size=2, unique=True))
def test_splits(tmp_path: Path, ids: list[str], names: list[str]) -> None:
    assume(is_allowed(names, ids))
    manifest = manifest_of(ids, names)
    members = {"train": tuple(ids[:2]), "val": tuple(ids[2:4]), "test": tuple(ids[4:])}
    split = Split(name="s", parts=members)
    save_splits([split], tmp_path, manifest=manifest, numbers=np.arange(len(ids)))
    assert load_split(tmp_path / "s.csv", manifest) == split
    table = read_split(tmp_path, "s", manifest.class_names)  # as a worker reads it
    assert {part: tuple(np.array(table.ids)[table.parts == part]) for part in PARTS} == members
    assert dict(zip(table.ids, table.targets.tolist(), strict=True)) == dict(
        zip(ids, manifest.targets.tolist(), strict=True)
    )


@SETTINGS
@given(names=st.lists(CLASSES.filter(is_id), min_size=2, max_size=4, unique=True))
def test_what_class_folders_may_be_called_a_table_may_hold_too(tmp_path: Path, names: list[str]) -> None:
    assume(is_allowed(names, []) and not any(map(is_no_data, names)))
    root = Path(tempfile.mkdtemp(dir=tmp_path))
    for name in names:
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name / "0.png").write_bytes(name.encode())
    assume(all(is_id(f"{name}__0.png") for name in names))
    folders = read_dataset(root, layout="class")
    rows = pd.DataFrame({"image_id": folders.image_ids, "path": [f"{n}/0.png" for n in folders.class_names]})
    rows["label"] = folders.class_names
    rows.to_csv(root / "manifest.csv", index=False)
    table = read_dataset(root)
    assert (table.class_names, table.files, table.image_ids) == (folders.class_names, folders.files, folders.image_ids)


@pytest.mark.parametrize("name", CLASS_NAMES, ids=ascii)
def test_audits(name: str) -> None:
    manifest = manifest_of([f"{name}{row}"[:128] for row in range(8)], [name, "other"])
    found = audit(manifest, pairs=[(manifest.image_ids[0], manifest.image_ids[1])]).to_dict()

    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} is no JSON")

    text = json.dumps(found, indent=1, ensure_ascii=False)
    again = json.loads(text, parse_constant=refuse)
    assert again == json.loads(json.dumps(found)) and json.dumps(again) == json.dumps(found)
    assert again["class_counts"][name] == 4 and again["duplicates"][0]["first"] == manifest.image_ids[0]


@SETTINGS
@given(ids=st.lists(IDS, min_size=1, unique=True))
def test_lists_of_ids(tmp_path: Path, ids: list[str]) -> None:
    allowed = tuple(image_id for image_id in ids if not image_id.startswith("#"))
    listing = "".join(f"# why\n{image_id}\n" for image_id in allowed)
    (tmp_path / "ids.txt").write_text(listing, encoding="utf-8")
    assert read_ids(tmp_path / "ids.txt") == tuple(image_id for image_id in allowed if image_id != "image_id")
