"""Splits: id for id as published, whole groups, every class in every part; small hand-made datasets for the rest."""

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.support.datasets import SHARED, needs_shared
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers.registry import read_dataset
from tune_btxrd.data.splits.groups import Pair, group_numbers, read_pairs
from tune_btxrd.data.splits.partition import class_share_gap, deviation, partition_groups, repaired, stratified_parts
from tune_btxrd.data.splits.split_files import (
    load_split,
    read_split,
    require_whole_groups,
    save_splits,
    split_name,
    split_stem,
)
from tune_btxrd.data.splits.splits import PARTS, Split, common_split, make_split, repartition, unavailable_splits
from tune_btxrd.errors import DataError

TABLES = SHARED / "btxrd_tables"


def dataset(targets: list[int], *, centers: str | None = None, groups: list[str] | None = None) -> Manifest:
    """A dataset without files: image i00, i01, ..., classes a, b, c."""
    count = len(targets)
    return Manifest(
        dataset="hand",
        root=Path("/nowhere"),
        image_ids=tuple(f"i{row:02d}" for row in range(count)),
        files=(None,) * count,
        targets=np.array(targets, dtype=np.int64),
        class_names=("a", "b", "c")[: max(targets) + 1],
        positive_class=1,
        centers=None if centers is None else tuple(centers),
        groups=None if groups is None else tuple(groups),
        table=pd.DataFrame(index=range(count)),
        annotations=(None,) * count,
    )


def parts_of(split: Split, manifest: Manifest) -> list[str]:
    """The first letter of each image's part, "-" for none."""
    part_of = {image_id: part[0] for part, ids in split.parts.items() for image_id in ids}
    part_of |= {image_id: "T" for image_id in split.parts["test"]}
    return [part_of.get(image_id, "-") for image_id in manifest.image_ids]


@pytest.fixture(scope="module")
def true_table() -> tuple[Manifest, list[Pair]]:
    if not TABLES.is_dir():
        pytest.skip("../shared/data is absent")
    return read_dataset(TABLES, table_only=True), read_pairs(TABLES / "btxrd_byte_identical_pairs.csv")


PUBLISHED = {
    "stratified": {"train": (1315, 1066, 240), "val": (282, 228, 51), "test": (282, 231, 51)},
    "center": {"train": (1355, 944, 200), "val": (238, 166, 35), "test": (286, 415, 107)},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_equal_the_published_splits_id_for_id(true_table: tuple[Manifest, list[Pair]], name: str) -> None:
    manifest, pairs = true_table
    split = make_split(name, manifest, pairs=pairs, groups="duplicates")
    for part in PARTS:
        published = read_published(TABLES / "assureiqx_splits" / f"{name}_{part}.csv")
        assert set(split.parts[part]) == set(published) and len(split.parts[part]) == len(published)
        assert list(split.parts[part]) == sorted(split.parts[part])  # table order
    assert split.counts(manifest) == PUBLISHED[name]
    assert split.note == ""


def read_published(path: Path) -> list[str]:
    return [str(image_id) for image_id in pd.read_csv(path)["image_id"]]


def test_common_on_the_true_table(true_table: tuple[Manifest, list[Pair]]) -> None:
    manifest, pairs = true_table
    splits = [make_split(name, manifest, pairs=pairs, groups="duplicates") for name in PUBLISHED]
    common = common_split(manifest, splits, pairs=pairs, groups="duplicates")
    assert common.counts(manifest) == {"train": (1124, 785, 168), "val": (233, 160, 31), "test": (0, 0, 0)}
    tested = {image_id for split in splits for image_id in split.parts["test"]}
    assert not tested & {*common.parts["train"], *common.parts["val"]}
    assert set(common.parts["val"]) < set(splits[0].parts["val"])
    only_center = common_split(manifest, splits[1:], pairs=pairs, groups="duplicates")
    assert only_center.parts == common.parts  # the test part of `stratified` is in none of its own other parts
    fold = make_split("fold 1/5", manifest, pairs=pairs, groups="duplicates")
    follows = common_split(manifest, [splits[0], fold], pairs=pairs, groups="duplicates")
    expected = set(splits[0].parts["train"]) - set(fold.parts["test"])
    assert set(follows.parts["train"]) == expected


@pytest.mark.parametrize("name", ["stratified", "center", "fold 3/5"])
def test_patients_stay_whole_and_class_shares_alike(true_table: tuple[Manifest, list[Pair]], name: str) -> None:
    manifest, pairs = true_table
    split = make_split(name, manifest, pairs=pairs, groups="patients")
    require_whole_groups(split, manifest, group_numbers(manifest, pairs, "patients"))
    dealt = PARTS[:2] if name == "center" else PARTS
    counts = np.array([split.counts(manifest)[part] for part in dealt])
    shares = counts / counts.sum(axis=1, keepdims=True)
    reached = np.abs(shares - counts.sum(axis=0) / counts.sum()).max()
    print(f"{name} by patients: class shares within {100 * reached:.2f} points")
    assert reached < 0.01
    assert split.note == f"Class shares of the parts differ from the whole by at most {100 * reached:.2f} points."
    published = make_split("stratified", manifest, pairs=pairs, groups="duplicates")
    with pytest.raises(DataError, match="of the same group in"):
        require_whole_groups(published, manifest, group_numbers(manifest, pairs, "patients"))


@needs_shared
def test_standin_has_both_splits() -> None:
    manifest = read_dataset(SHARED / "xray_standin")
    assert unavailable_splits(manifest) == {}
    assert make_split("center", manifest, pairs=[], groups="duplicates").counts(manifest)["test"] == (40, 32, 20)


def test_a_dropped_twin_follows_the_first() -> None:
    """20 images, 10 of each class; the second of a pair goes where the first went and changes nothing else."""
    without = dataset([0, 1] * 10)
    base = make_split("stratified", without, pairs=[], groups="duplicates")
    assert base.counts(without) == {"train": (7, 7), "val": (1, 2), "test": (2, 1)}
    twins = dataset([0, 1] * 10 + [1])
    split = make_split("stratified", twins, pairs=[("i00", "i20")], groups="duplicates")
    assert parts_of(split, twins)[:20] == parts_of(base, without)
    assert parts_of(split, twins)[20] == parts_of(split, twins)[0]
    assert make_split("stratified", twins, pairs=[("i00", "i20")], groups="none") != split


def test_seed_decides() -> None:
    manifest = dataset([0, 1] * 30)
    first, again, other = (make_split("stratified", manifest, pairs=[], groups="none", seed=seed) for seed in (1, 1, 2))
    assert first == again and first != other


@pytest.mark.parametrize("groups", ["duplicates", "none"])
@pytest.mark.parametrize("name", ["stratified", "fold 1/3"])
def test_given_groups_hold_in_every_mode(groups: str, name: str) -> None:
    manifest = dataset([0, 0, 1, 1] * 15, groups=[f"p{row // 4}" for row in range(60)])
    split = make_split(name, manifest, pairs=[("i00", "i59")], groups=groups)
    letters = parts_of(split, manifest)
    assert all(len(set(letters[row : row + 4])) == 1 for row in range(0, 60, 4))
    assert (letters[0] == letters[59]) or groups == "none"
    assert "at most 0.00 points" in split.note


def test_center_split_trains_on_the_largest_center() -> None:
    manifest = dataset([0, 1] * 20 + [0, 1] * 5, centers="B" * 40 + "A" * 10)
    split = make_split("center", manifest, pairs=[], groups="none")
    assert split.parts["test"] == manifest.image_ids[40:]
    assert split.counts(manifest) == {"train": (17, 17), "val": (3, 3), "test": (5, 5)}


def test_groups_across_centers_leave_train_and_val() -> None:
    manifest = dataset([0, 1] * 20 + [0, 1] * 5, centers="1" * 40 + "2" * 10)
    split = make_split("center", manifest, pairs=[("i00", "i40"), ("i01", "i02")], groups="duplicates")
    letters = parts_of(split, manifest)
    assert letters[0] == "-" and letters[40] == "T" and letters[1] == letters[2] != "-"
    assert split.note == "1 image(s) of center 1 are in no part: their group reaches into other centers."


@pytest.mark.parametrize(
    ("centers", "reason"),
    [
        (None, "names no centers"),
        ("1" * 20, "all images come from center 1"),
        ("1" * 19 + "2", "a does not occur outside center 1"),
        ("11" + "12" * 8 + "22", "b occurs less than twice in center 1"),
    ],
)
def test_datasets_without_a_center_split(centers: str | None, reason: str) -> None:
    manifest = dataset([0, 1] * 10, centers=centers)
    assert reason in unavailable_splits(manifest)["center"]
    with pytest.raises(DataError, match=f"{reason}: use --splits stratified"):
        make_split("center", manifest, pairs=[], groups="none")


def test_folds_cover_the_dataset_once() -> None:
    manifest = dataset([0, 0, 0, 1] * 25, groups=[f"p{row // 2}" for row in range(100)])
    folds = [make_split(f"fold {fold}/5", manifest, pairs=[], groups="none") for fold in range(1, 6)]
    assert Counter(image_id for split in folds for image_id in split.parts["test"]) == Counter(manifest.image_ids)
    assert [split.parts["val"] for split in folds] == [split.parts["test"] for split in folds[1:] + folds[:1]]
    assert [split.counts(manifest)["test"] for split in folds] == [(15, 5)] * 5
    with pytest.raises(DataError, match="train of split 'common' has no a image"):
        common_split(manifest, folds, pairs=[], groups="none")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("stratifed", "did you mean 'stratified'"),
        ("fold 0/5", "got fold 0/5"),
        ("fold 6/5", "got fold 6/5"),
        ("fold 1/2", "3 <= k <= 50"),
        ("fold 1/5x", "did you mean 'fold 1/5'"),
        ("../x", "or the path of a split file"),
    ],
)
def test_unknown_splits(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_split(name, dataset([0, 1] * 10), pairs=[], groups="none")


def test_a_class_with_fewer_groups_than_parts_is_told_with_what_mends_it() -> None:
    lonely = dataset([0] * 19 + [1], groups=list("p" * 2 + "qrstuvwxyzABCDEFGH"))
    message = r"no b image \(1 in the dataset\): add images, each of a group of its own: 2 of b\.$"
    with pytest.raises(DataError, match=message):
        make_split("fold 1/3", lonely, pairs=[], groups="none")
    with pytest.raises(DataError, match=r"no b image \(2 in the dataset\): add images, .*: 1 of b\.$"):
        make_split("stratified", dataset([0] * 6 + [1] * 2), pairs=[], groups="none")
    no_c = dataset([0, 1] * 10 + [2]).without(["i20"])
    with pytest.raises(DataError, match=r"train of split 'stratified' has no c image \(0 in the dataset\): add images"):
        make_split("stratified", no_c, pairs=[], groups="none")


def test_the_cure_that_is_named_works() -> None:
    two_groups = dataset([0] * 12 + [1] * 12, groups=["p"] * 2 + [""] * 10 + ["q"] * 10 + [""] * 2)
    folds = r"no b image \(12 in the dataset, in 3 groups; the largest group has 10 of all 24 images\): use 3 folds\.$"
    with pytest.raises(DataError, match=folds):
        [make_split(f"fold {i}/4", two_groups, pairs=[], groups="none") for i in range(1, 5)]
    for i in range(1, 4):
        make_split(f"fold {i}/3", two_groups, pairs=[], groups="none")
    twins = [("i06", "i07"), ("i06", "i08")]
    with pytest.raises(DataError, match=r"has no b image \(3 in the dataset, in 1 group\): use --groups none\.$"):
        make_split("stratified", dataset([0] * 6 + [1] * 3), pairs=twins, groups="duplicates")
    make_split("stratified", dataset([0] * 6 + [1] * 3), pairs=twins, groups="none")


@pytest.mark.parametrize("name", ["stratified", *(f"fold {i}/5" for i in range(1, 6))])
def test_forty_classes_of_six_images_are_divided(name: str) -> None:
    manifest = dataclasses.replace(
        dataset([0, 1] * 120), targets=np.repeat(np.arange(40), 6), class_names=tuple(map(str, range(40)))
    )
    split = make_split(name, manifest, pairs=[], groups="duplicates")
    counts = np.array(list(split.counts(manifest).values()))
    assert counts.min() >= 1 and counts.sum() == 240
    sizes = counts.sum(axis=1)
    wanted = (168, 36, 36) if name == "stratified" else (144, 48, 48)
    assert np.abs(sizes - wanted).max() <= 8 and counts[0].min() >= 3, sizes
    assert ("dealt one group at a time" in split.note) == (name == "stratified")


def test_common_is_divided_anew_where_the_tests_leave_no_image_of_a_class() -> None:
    manifest = dataset([0] * 40 + [1] * 6)
    folds = [make_split(f"fold {i}/5", manifest, pairs=[], groups="none") for i in range(1, 6)]
    base = make_split("stratified", manifest, pairs=[], groups="none")
    emptied = [
        fold
        for fold in folds
        if not {*base.parts["val"]} & {"i40", "i41", "i42", "i43", "i44", "i45"} - {*fold.parts["test"]}
    ]
    assert emptied, "a fold whose test part holds the only val image of b"
    for fold in emptied:
        common = common_split(manifest, [fold], pairs=[], groups="none")
        assert min(map(min, list(common.counts(manifest).values())[:2])) >= 1 and "divided anew" in common.note
        assert not {*common.parts["train"], *common.parts["val"]} & {*fold.parts["test"]}


def test_repair_moves_whole_groups_only_where_it_helps() -> None:
    counts = np.array([[1.0, 1.0], [1.0, 0.0], [1.0, 1.0], [2.0, 0.0]])
    fixed = repaired(counts, np.array([0, 1, 0, 1]), np.array([0.5, 0.5]))
    assert (np.stack([counts[fixed == part].sum(axis=0) for part in (0, 1)]) > 0).all()
    hopeless = np.array([[4.0, 1.0], [1.0, 0.0]])
    assert repaired(hopeless, np.array([0, 1]), np.array([0.5, 0.5])).tolist() == [0, 1]


def test_repartition_is_fresh_grouped_and_stratified() -> None:
    manifest = dataset([0, 0, 0, 1] * 25)
    numbers = np.arange(100) // 2
    ids = manifest.image_ids[:80]
    splits = [repartition(manifest, ids, numbers=numbers, val_share=0.25, seed=seed) for seed in (1, 1, 2, 3)]
    assert splits[0] == splits[1] and len({split.parts["val"] for split in splits}) == 3
    for split in splits:
        assert split.counts(manifest) == {"train": (45, 15), "val": (15, 5), "test": (0, 0)}
        assert {*split.parts["train"], *split.parts["val"]} == set(ids)
        require_whole_groups(split, manifest, numbers)
    assert splits[3].name == "repartition 3"
    with pytest.raises(DataError, match="1 are not in"):
        repartition(manifest, [*ids, "j"], numbers=numbers, val_share=0.25, seed=1)


def test_partition_finds_the_even_one_and_large_groups_land_anywhere() -> None:
    targets, numbers = np.array([0, 0, 1, 1] * 5), np.repeat(np.arange(10), 2)
    parts = partition_groups(np.eye(2)[targets], numbers, shares=(0.6, 0.2, 0.2), seed=0)
    assert sorted(Counter(parts.tolist()).values()) == [4, 4, 12] and class_share_gap(np.eye(2)[targets], parts) == 0
    numbers = np.concatenate([np.zeros(10, dtype=np.int64), np.arange(1, 91)])  # one group of ten, ninety alone
    homes = [int(partition_groups(np.ones((100, 1)), numbers, shares=(0.5, 0.5), seed=seed)[0]) for seed in range(12)]
    assert 2 <= sum(homes) <= 10


def test_deviation_by_hand() -> None:
    counts = np.array([[6.0, 2.0], [2.0, 0.0]])  # 8 of the first class, 2 of the second, 10 together
    assert deviation(counts, np.array([0, 1]), np.array([0.5, 0.5])) == (1, 0.5)  # 2/2 of the second class, not 1/2
    assert deviation(counts, np.array([0, 0]), np.array([1.0, 0.0])) == (2, 0.0)


def test_stratified_parts_are_scikit_learns() -> None:
    from sklearn.model_selection import train_test_split

    names = np.array(["b", "a", "a"] * 20)
    train, rest = train_test_split(np.arange(60), test_size=0.30, random_state=7, stratify=names)
    val, test = train_test_split(rest, test_size=0.5, random_state=7, stratify=names[rest])
    parts = stratified_parts(names, (0.70, 0.15, 0.15), 7)
    assert [set(np.flatnonzero(parts == part)) for part in range(3)] == [set(train), set(val), set(test)]


def test_split_is_written_and_read_back(tmp_path: Path) -> None:
    manifest = dataset([0, 1] * 10)
    pairs = [("i00", "i19")]
    numbers = group_numbers(manifest, pairs, "duplicates")
    split = make_split("fold 2/5", manifest, pairs=pairs, groups="duplicates")
    folder = tmp_path / "splits"
    save_splits([split], folder, manifest=manifest, numbers=numbers)
    assert sorted(file.name for file in folder.iterdir()) == ["fold_2_of_5.csv", "targets.csv"]
    path = folder / "fold_2_of_5.csv"
    assert path.read_text().splitlines()[:2] == ["image_id,part,group", f"i00,{part_name(split, 'i00')},0"]
    assert (folder / "targets.csv").read_text().splitlines()[:3] == ["image_id,label", "i00,a", "i01,b"]
    loaded = load_split(path, manifest, numbers=numbers)
    assert loaded.name == "fold 2/5" and loaded.parts == split.parts
    table = read_split(folder, "fold_2_of_5", manifest.class_names)
    assert table.targets.tolist() == manifest.targets.tolist() and table.groups[19] == "0"
    assert read_split(folder, "fold_2_of_5", manifest.class_names, parts=("val",)).ids == split.parts["val"]
    assert split_name(split_stem("stratified")) == "stratified" and split_stem("a/../b c") == "a_.._b_c"


def test_a_split_of_version_0_1_0_brings_its_labels_itself(tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text("image_id,part,label,group\ni01,train,b,0\ni00,val,a,1\n")
    table = read_split(tmp_path, "old", ("a", "b"))
    assert table.ids == ("i01", "i00") and table.targets.tolist() == [1, 0]
    (tmp_path / "targets.csv").write_text("image_id,label\ni00,a\n")
    with pytest.raises(DataError, match=r"targets.csv lacks i01: make the splits again"):
        read_split(tmp_path, "old", ("a", "b"))


@pytest.mark.parametrize(("first", "second"), [("a b", "a_b"), ("Mine", "mine"), ("fold 2/5", "fold_2_of_5")])
def test_two_splits_never_share_a_file(tmp_path: Path, first: str, second: str) -> None:
    parts = {"train": ("i00",), "val": (), "test": ()}
    splits = [Split(name=name, parts=parts) for name in (first, second)]
    with pytest.raises(DataError, match="would share"):
        save_splits(splits, tmp_path, manifest=dataset([0, 1]), numbers=np.arange(2))
    with pytest.raises(DataError, match="may not be called targets"):
        save_splits([Split(name="targets", parts=parts)], tmp_path, manifest=dataset([0, 1]), numbers=np.arange(2))
    assert not list(tmp_path.iterdir())


def part_name(split: Split, image_id: str) -> str:
    return next(part for part, ids in split.parts.items() if image_id in ids)


OWN = "image_id,part,label,group\ni00,train,a,p\ni01,train,b,p\ni02,val,a,\ni03,val,b,\n"


def test_own_split_file_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(OWN)
    split = load_split(path, dataset([0, 1] * 3))
    assert split.name == "mine" and split.parts == {"train": ("i00", "i01"), "val": ("i02", "i03"), "test": ()}
    path.write_text("\n".join(",".join(line.split(",")[:2]) for line in OWN.splitlines()))
    assert load_split(path, dataset([0, 1] * 3)).parts == split.parts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (OWN.replace("i03", "i99"), r"1 are not in /nowhere \(i99\)"),
        (OWN.replace("val", "valid"), "train, val or test, but .* has 'valid'"),
        (OWN.replace("part", "fold"), r"must have the column\(s\) part"),
        (OWN.replace("i03,val", "i01,val"), r"overlap, but in 'mine' 1 image\(s\) stand twice \(i01\)"),
        (OWN.replace("i02,val,a", "i02,val,b"), "calls i02 'b' where the dataset says 'a'"),
        (OWN.replace("i02,val,a,", "i02,val,a,p"), "i00 is in train and i02 of the same group in val"),
        (OWN.replace("i03,val,b,\n", ""), "val of split 'mine' has no b image"),
        (OWN + "i04,test,a,\n", "test of split 'mine' has no b image"),
        (OWN.replace("i03,val", "i03,"), "value of part, but it is blank in row 5"),
    ],
)
def test_own_split_file_is_checked(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.csv").write_text(text)
    with pytest.raises(DataError, match=message) as error:
        load_split(tmp_path / "mine.csv", dataset([0, 1] * 3))
    assert "\n" not in str(error.value)


def test_own_split_file_must_not_tear_found_groups(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(OWN)
    with pytest.raises(DataError, match="i01 is in train and i03 of the same group in val: move one, or allow it"):
        load_split(tmp_path / "mine.csv", dataset([0, 1] * 3), numbers=np.array([0, 1, 2, 1, 3, 4]))


def test_center_needs_a_group_that_stays_at_home() -> None:
    """All groups reach into a second center: one line, no division by zero."""
    groups = [f"g{row // 2}" for row in range(24)]
    everywhere = dataset([row // 2 % 2 for row in range(24)], centers="01" * 12, groups=groups)
    with pytest.raises(DataError, match="every group of center 0 reaches into others"):
        make_split("center", everywhere, pairs=[], groups="duplicates")
