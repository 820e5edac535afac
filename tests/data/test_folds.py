"""Folds: every image validates once, groups stay whole, every fold has every class."""

import numpy as np
import pytest

from tests.data.test_splits import dataset
from tune_btxrd.data.splits.folds import closed_rows, fold_names, make_folds, make_outer
from tune_btxrd.errors import ConfigError, DataError


def test_every_image_validates_once_and_groups_and_classes_are_whole() -> None:
    manifest = dataset([0, 1, 2, 0, 1, 0] * 10, groups=[f"g{row // 2}" for row in range(60)])
    numbers = np.arange(60) // 2
    ids = manifest.image_ids[:54]  # the others are of no concern to these folds
    folds = make_folds(manifest, ids, numbers=numbers, count=4, seed=3)
    assert [fold.name for fold in folds] == ["fold 1/4", "fold 2/4", "fold 3/4", "fold 4/4"]
    assert sorted(image for fold in folds for image in fold.parts["val"]) == sorted(ids)
    for fold in folds:
        train, val = set(fold.parts["train"]), set(fold.parts["val"])
        assert train | val == set(ids) and not train & val and fold.parts["test"] == ()
        assert not {numbers[row] for row in manifest.rows(train)} & {numbers[row] for row in manifest.rows(val)}
        assert all(fold.counts(manifest)["val"])
    assert make_folds(manifest, ids, numbers=numbers, count=4, seed=3) == folds
    assert make_folds(manifest, ids, numbers=numbers, count=4, seed=4) != folds


def test_an_inner_search_sees_all_but_its_outer_part_and_groups_are_whole() -> None:
    manifest = dataset([0, 1, 2, 0, 1, 0] * 10, groups=[f"g{row // 2}" for row in range(60)])
    numbers = np.arange(60) // 2
    ids = manifest.image_ids[:54]
    folds = make_folds(manifest, ids, numbers=numbers, count=3, seed=3)
    outer = make_outer(manifest, folds, numbers=numbers, seed=3)
    assert [split.name for split in outer] == ["outer_1_of_3", "outer_2_of_3", "outer_3_of_3"]
    for split, fold in zip(outer, folds, strict=True):
        assert split.parts["test"] == fold.parts["val"]
        assert {*split.parts["train"], *split.parts["val"]} == set(fold.parts["train"])
        assert 10 <= len(split.parts["val"]) <= 14  # a third of 36
        groups = [{numbers[row] for row in manifest.rows(ids)} for ids in split.parts.values()]
        assert not groups[0] & groups[1] and not groups[2] & (groups[0] | groups[1])
        assert all(all(counts) for counts in split.counts(manifest).values())


def test_a_class_that_an_inner_search_would_lack_is_named() -> None:
    manifest = dataset([0] * 8 + [1, 1])
    folds = make_folds(manifest, manifest.image_ids, numbers=np.arange(10), count=2, seed=0)
    with pytest.raises(DataError, match=r"outer_1_of_2.*leave out --nested"):
        make_outer(manifest, folds, numbers=np.arange(10), seed=0)


def test_a_test_part_of_the_dataset_itself_is_in_no_fold_and_neither_are_its_groups() -> None:
    manifest = dataset([0, 1, 0, 1, 0, 1])
    numbers = np.array([0, 0, 1, 1, 2, 3])
    assert not closed_rows(manifest, numbers).any()
    manifest.table["part"] = ["train", "test", "train", "train", "test", "train"]
    assert closed_rows(manifest, numbers).tolist() == [True, True, False, False, True, False]


@pytest.mark.parametrize("count", [1, 0, -3, 51])
def test_so_many_folds_are_refused(count: int) -> None:
    with pytest.raises(ConfigError, match=f"`2 <= folds <= 50` must hold, but got --folds {count}"):
        fold_names(count)


def test_a_class_that_a_fold_would_lack_is_named() -> None:
    manifest = dataset([0] * 9 + [1, 1])
    with pytest.raises(DataError, match="use fewer folds than 3"):
        make_folds(manifest, manifest.image_ids, numbers=np.arange(11), count=3, seed=0)
