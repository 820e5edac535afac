"""Groups: duplicates, given groups and probable patients; precision and recall on the true table."""

import functools
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.support.paths import SHARED
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers.registry import read_dataset
from tune_btxrd.data.splits.groups import duplicate_pairs, group_numbers, patient_links, read_pairs
from tune_btxrd.errors import DataError

TABLES = SHARED / "btxrd_tables"
needs_tables = pytest.mark.skipif(not TABLES.exists(), reason="the released table is not at hand (../shared/data)")


def manifest_of(table: pd.DataFrame, *, targets: list[int], groups: tuple[str, ...] | None = None) -> Manifest:
    n = len(table)
    centers = tuple(str(value) for value in table["center"]) if "center" in table else None
    ids = tuple(str(value) for value in table["image_id"]) if "image_id" in table else tuple(f"i{row}" for row in range(n))
    return Manifest(
        dataset="small",
        root=Path("small"),
        image_ids=ids,
        files=(None,) * n,
        targets=np.array(targets, dtype=np.int64),
        class_names=("Normal", "Benign", "Malignant"),
        positive_class=2,
        centers=centers,
        groups=groups,
        table=table,
        annotations=(None,) * n,
    )


@functools.cache
def btxrd_table() -> Manifest:
    return read_dataset(TABLES, table_only=True)


def people(rows: list[tuple[str, object, str]], **columns: list[int]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["center", "age", "gender"]).assign(**columns)


def test_duplicate_pairs_name_the_first_image_with_these_bytes_first():
    hashes = {"c": "x", "a": "x", "b": "y", "d": "x"}
    assert duplicate_pairs(hashes, ["a", "b", "c", "d", "missing"]) == [("a", "c"), ("a", "d")]


def test_read_pairs_takes_the_two_columns(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("label,second,first\nNormal, b ,a\n", encoding="utf-8-sig")
    assert read_pairs(path) == [("a", "b")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1,2\n", "must have the column"),
        (b"first,second\na,b\nc,\n", "blank in row 3"),
        (b"first,second\na,b\na,a\n", "row 3 .* 'a' twice"),
        (b"first,second\n", "must hold a row below its header"),
        (b"\xff\xfe\x00first", "must be UTF-8"),
    ],
)
def test_malformed_pairs_are_an_error(tmp_path, content, message):
    (tmp_path / "pairs.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_pairs(tmp_path / "pairs.csv")


def test_missing_pairs_file_is_an_error(tmp_path):
    with pytest.raises(DataError, match="must be a readable file"):
        read_pairs(tmp_path / "absent.csv")


def test_duplicates_join_and_chain():
    manifest = manifest_of(people([("1", 5, "F")] * 5), targets=[0] * 5)
    numbers = group_numbers(manifest, [("i0", "i3"), ("i3", "i4")])
    assert numbers.tolist() == [0, 1, 2, 0, 0]
    assert numbers.dtype == np.int64
    assert group_numbers(manifest, [("i0", "i3")], "none").tolist() == [0, 1, 2, 3, 4]


def test_unknown_image_in_a_pair_is_an_error():
    manifest = manifest_of(people([("1", 5, "F")]), targets=[0])
    with pytest.raises(DataError, match="zz"):
        group_numbers(manifest, [("i0", "zz")])


def test_given_groups_always_hold_and_a_blank_group_joins_nothing():
    table = people([("1", age, "F") for age in range(6)])
    manifest = manifest_of(table, targets=[0] * 6, groups=("p", "", "q", "p", "", "q"))
    assert group_numbers(manifest, [], "none").tolist() == [0, 1, 2, 0, 3, 2]
    assert group_numbers(manifest, [("i0", "i2")], "patients").tolist() == [0, 1, 0, 0, 2, 0]


def test_patients_are_runs_of_center_age_gender_and_class():
    rows = [("1", 5, "F"), ("1", 5, "F"), ("1", 5, "M"), ("1", 6, "M"), ("2", 6, "M"), ("2", 6, "M"), ("2", 6, "M")]
    manifest = manifest_of(people(rows), targets=[0, 0, 0, 0, 0, 0, 1])
    assert patient_links(manifest).tolist() == [True, False, False, False, True, False]
    assert group_numbers(manifest, [("i1", "i3")], "patients").tolist() == [0, 0, 1, 0, 2, 2, 3]


def test_unknown_age_never_joins():
    manifest = manifest_of(people([("1", np.nan, "F")] * 2), targets=[0, 0])
    assert not patient_links(manifest).any()


def test_patients_share_a_site_unless_osteochondromas_are_multiple():
    flags = {
        "multiple osteochondromas": [0, 0, 0, 1, 1],
        "tibia": [1, 1, 0, 1, 0],
        "femur": [0, 1, 0, 0, 0],
        "hand": [0, 0, 1, 0, 1],
    }
    manifest = manifest_of(people([("1", 5, "F")] * 5, **flags), targets=[1] * 5)
    assert patient_links(manifest).tolist() == [True, False, False, True]


def test_patients_share_a_region_where_no_site_is_given():
    flags = {"upper limb": [1, 1, 0], "pelvis": [0, 0, 1]}
    manifest = manifest_of(people([("1", 5, "F")] * 3, **flags), targets=[0] * 3)
    assert patient_links(manifest).tolist() == [True, False]


def test_patients_need_age_and_gender_or_given_groups():
    table = pd.DataFrame({"age": [1, 1]})
    with pytest.raises(DataError, match="age and gender or given groups"):
        group_numbers(manifest_of(table, targets=[0, 0]), [], "patients")
    given = manifest_of(table, targets=[0, 0], groups=("p", "p"))
    assert group_numbers(given, [], "patients").tolist() == [0, 0]


@needs_tables
def test_duplicate_groups_of_the_true_table():
    manifest = btxrd_table()
    numbers = group_numbers(manifest, read_pairs(TABLES / "btxrd_byte_identical_pairs.csv"))
    assert numbers.max() + 1 == 3746 - 21


def pairwise(numbers: np.ndarray, cases: pd.Series) -> tuple[float, float]:
    """Precision and recall over pairs of images: of the pairs put together, of the pairs of one case."""

    def pairs(keys: list[object]) -> int:
        return sum(size * (size - 1) // 2 for size in pd.Series(keys).value_counts())

    both = pairs(list(zip(numbers, cases, strict=True)))
    return both / pairs(list(numbers)), both / pairs(list(cases))


def case_codes(manifest: Manifest) -> pd.Series:
    """Image id -> case, where the original file name tells it.

    Center 1: code, gender and age (`b1-F-48`; the numbers start again with each folder, so `b1` alone is several people).
    Center 2: the title of the published case without the image's own number in brackets.
    """
    names = pd.read_csv(TABLES / "original_names.csv").set_index("image_id")["original_name"]
    center = manifest.table.set_index("image_id")["center"]
    codes = names.str.extract(r"^([A-Za-z]+\d+-[FM]-\d+)-")[0].str.lower()
    titles = names.map(lambda name: re.sub(r"(\s*\(\d+\))?\.(jpe?g|png)$", "", name))
    return codes.where(center.reindex(names.index) != 2, titles).dropna()


@needs_tables
@pytest.mark.parametrize(
    ("center", "tumor", "images", "precision", "recall"),
    [(1, 1, 1345, 0.93, 0.98), (2, 1, 290, 0.72, 0.98), (2, 0, 259, 0.53, 0.96)],
)
def test_precision_and_recall_of_probable_patients(center, tumor, images, precision, recall):
    manifest = btxrd_table()
    numbers = pd.Series(group_numbers(manifest, [], "patients"), index=list(manifest.image_ids))
    cases = case_codes(manifest)
    rows = manifest.table.set_index("image_id").loc[cases.index]
    chosen = cases[(rows["center"] == center) & (rows["tumor"] == tumor)]
    found = pairwise(numbers[chosen.index].to_numpy(), chosen)
    print(f"\nprobable patients, center {center}, tumor {tumor}, {len(chosen)} images: precision %.3f, recall %.3f" % found)
    assert len(chosen) == images
    assert found[0] >= precision and found[1] >= recall
