"""Center folds: each large enough center validates once, its groups train nowhere, small ones always train."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.splits.center_folds import left_in, make_center_folds
from tune_btxrd.data.splits.splits import repartition
from tune_btxrd.errors import DataError

COUNTS = {"A": (30, 9), "B": (12, 7), "C": (20, 4), "D": (6, 5)}  # images of class 0 and 1


def manifest(counts: dict[str, tuple[int, int]] = COUNTS) -> Manifest:
    targets = np.concatenate([np.repeat([0, 1], count) for count in counts.values()])
    n = len(targets)
    return Manifest(
        dataset="small",
        root=Path("small"),
        image_ids=tuple(f"{row:03d}.png" for row in range(n)),
        files=(None,) * n,
        targets=targets,
        class_names=("no", "yes"),
        positive_class=1,
        centers=tuple(name for name, count in counts.items() for _ in range(sum(count))),
        groups=None,
        table=pd.DataFrame(index=range(n)),
        annotations=(None,) * n,
    )


def test_each_center_is_left_out_once_and_small_ones_always_train() -> None:
    data = manifest()
    folds = make_center_folds(data, data.image_ids, numbers=np.arange(len(data)), flag="--split center_folds")
    assert list(folds) == ["A", "B", "D"] and [fold.name for fold in folds.values()] == ["fold 1/3", "fold 2/3", "fold 3/3"]
    centers = np.array(data.centers)
    for name, fold in folds.items():
        assert set(centers[data.rows(fold.parts["val"])]) == {name} and not fold.parts["test"]
        assert set(centers[data.rows(fold.parts["train"])]) == set(COUNTS) - {name}
        assert len(fold.parts["train"]) + len(fold.parts["val"]) == len(data)
    told = left_in(data, data.image_ids, folds)
    assert "center C: 4" in told and "A" not in told.partition(":")[2]


def test_images_that_share_a_group_with_the_center_are_in_no_part_of_its_fold() -> None:
    data = manifest()
    numbers = np.arange(len(data))
    first, second = list(data.centers or ()).index("A"), list(data.centers or ()).index("B")
    numbers[second] = numbers[first]
    folds = make_center_folds(data, data.image_ids, numbers=numbers, flag="--split center_folds")
    for name, other in (("A", second), ("B", first)):
        assert data.image_ids[other] not in {*folds[name].parts["train"], *folds[name].parts["val"]}
        assert "1 image(s) that share a group" in folds[name].note
    assert {data.image_ids[first], data.image_ids[second]} <= set(folds["D"].parts["train"])


def test_only_the_images_that_may_be_seen_come_into_a_fold() -> None:
    data = manifest({"A": (40, 20), "B": (40, 20)})
    folds = make_center_folds(data, data.image_ids[::2], numbers=np.arange(len(data)), flag="--split center_folds")
    used = {image_id for fold in folds.values() for ids in fold.parts.values() for image_id in ids}
    assert used == set(data.image_ids[::2])


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"centers": None}, "--split center_folds leaves each center out once, but the dataset names no centers"),
        ({"centers": ("A",) * 93}, "needs two centers with at least 5 images of each class .* center A: 25. Test parts"),
    ],
)
def test_refused_in_one_line(change: dict[str, object], found: str) -> None:
    data = manifest()
    bare = dataclasses.replace(data, **change)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=found) as caught:
        make_center_folds(bare, bare.image_ids, numbers=np.arange(len(data)), flag="--split center_folds")
    assert "\n" not in str(caught.value)


def test_a_fresh_partition_may_keep_the_centers_even() -> None:
    data = manifest({"A": (200, 40), "B": (20, 20)})
    numbers = np.arange(len(data))
    centers = np.array(data.centers)
    for seed in range(4):
        split = repartition(data, data.image_ids, numbers=numbers, val_share=0.25, seed=seed, even_centers=True)
        rows = data.rows(split.parts["val"])
        assert 4 <= ((centers[rows] == "B") & (data.targets[rows] == 1)).sum() <= 6
