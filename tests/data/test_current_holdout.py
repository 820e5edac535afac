"""The hold-out as it is labelled now: new and changed answers count there, and what was trained on stays as it was."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.label_stores import LABELS, act, write_images
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers.current_holdout import current_holdout
from tune_btxrd.data.readers.registry import read_dataset
from tune_btxrd.data.splits.splits import holdout_ids
from tune_btxrd.errors import DataError
from tune_btxrd.labels.add import add_folder
from tune_btxrd.labels.store import LabelStore


@pytest.fixture
def store(tmp_path: Path):
    """40 images, of which the even ones were labelled before the search began (event 20)."""
    write_images(tmp_path / "x", 40, per_group=1)
    with LabelStore.create(tmp_path / "s.db", LABELS, salt="s", holdout_share=0.3) as opened:
        add_folder(opened, tmp_path / "x")
        for number in range(2, 41, 2):
            act(opened, number, {"Mass": 1, "Nodule": 0})
        yield opened


def held(store: LabelStore, *, even: bool) -> list[int]:
    rows = store.database.rows("SELECT image FROM images WHERE holdout = 1 ORDER BY image")
    return [number for (number,) in rows if (number % 2 == 0) == even]


def ids(store: LabelStore, numbers: list[int]) -> set[str]:
    return {store.image(number).image_id for number in numbers}


def rows_of(manifest: Manifest, *, hidden: frozenset[str]) -> dict[str, list[float]]:
    """Id -> target of everything that may be trained on."""
    return {i: manifest.targets[row].tolist() for row, i in enumerate(manifest.image_ids) if i not in hidden}


def test_nothing_new_is_the_frozen_hold_out(store: LabelStore) -> None:
    frozen = read_dataset(store.path)
    found = current_holdout(frozen)
    assert found.manifest.image_ids == frozen.image_ids and np.array_equal(found.manifest.targets, frozen.targets)
    assert found.manifest.table.equals(frozen.table) and set(found.ids) == holdout_ids(frozen)
    assert (found.fresh, found.changed, found.gone, found.corrected) == ((), 0, 0, 0)


def test_later_answers_count_in_the_hold_out_and_nowhere_else(store: LabelStore) -> None:
    frozen, was = read_dataset(store.path), held(store, even=True)
    opened_at = store.last_event
    for number in range(1, 41, 2):
        act(store, number, {"Mass": 0})  # on both sides
    changed, gone, *_ = was
    act(store, changed, {"Nodule": 1})
    act(store, gone, kind="bad")
    trained = next(n for n in range(2, 41, 2) if n not in was)
    act(store, trained, {"Mass": 0})
    found = current_holdout(frozen, opened_at=opened_at)
    assert set(found.ids) == ids(store, [n for n in (*was, *held(store, even=False)) if n != gone])
    assert set(found.fresh) == ids(store, held(store, even=False))
    assert (found.changed, found.gone, found.corrected, found.event) == (1, 1, 1, store.last_event)
    hidden = holdout_ids(found.manifest)
    assert rows_of(found.manifest, hidden=hidden) == rows_of(frozen, hidden=holdout_ids(frozen))
    row = found.manifest.rows([store.image(changed).image_id])[0]
    assert found.manifest.targets[row].tolist() == [1, 1]
    first, second = found.notes()
    assert first.startswith("The model learned from the labels as of event 20; the hold-out is taken as of event 43: ")
    assert f"{len(found.fresh)} labelled since, 1 answered otherwise since, 1 without an answer now" in first
    assert "another answer than when it was opened first" in second


def test_a_hold_out_that_was_labelled_after_the_search_can_be_opened(tmp_path: Path) -> None:
    write_images(tmp_path / "x", 40, per_group=1)
    with LabelStore.create(tmp_path / "s.db", LABELS, salt="s", holdout_share=0.3) as store:
        add_folder(store, tmp_path / "x")
        for number in set(range(1, 41)) - set(held(store, even=True) + held(store, even=False)):
            act(store, number, {"Mass": number % 2})
        frozen = read_dataset(store.path)
        with pytest.raises(DataError, match="no image of it has a label: label it"):
            current_holdout(frozen)
        act(store, held(store, even=True)[0], {"Nodule": 1})
        assert len(current_holdout(frozen).ids) == 1


def test_a_label_that_came_later_is_none_of_the_models(store: LabelStore) -> None:
    frozen = read_dataset(store.path)
    store.add_labels(["Edema"])
    only_new = held(store, even=False)[0]
    act(store, only_new, {"Edema": 1})
    act(store, held(store, even=True)[0], {"Edema": 1})
    found = current_holdout(frozen)
    assert found.manifest.class_names == LABELS and set(found.ids) == holdout_ids(frozen)
    assert (found.fresh, found.changed, found.gone) == ((), 0, 0)


def test_a_class_that_the_model_does_not_know_is_left_out_and_said(tmp_path: Path) -> None:
    write_images(tmp_path / "x", 40, per_group=1)
    with LabelStore.create(tmp_path / "s.db", LABELS, task="multiclass", salt="s", holdout_share=0.3) as store:
        add_folder(store, tmp_path / "x")
        for number in range(1, 41):
            act(store, number, {LABELS[number % 2]: 1})
        frozen = read_dataset(store.path)
        store.add_labels(["Edema"])
        act(store, held(store, even=True)[0], {"Edema": 1})
        found = current_holdout(frozen)
        assert (found.foreign, found.gone, found.changed) == (1, 1, 0)
        assert len(found.ids) == len(holdout_ids(frozen)) - 1 and found.manifest.class_names == frozen.class_names


def test_a_file_of_the_hold_out_that_is_gone_is_named(store: LabelStore) -> None:
    frozen, late = read_dataset(store.path), held(store, even=False)[0]
    act(store, late, {"Mass": 1})
    store.file(store.image(late)).unlink()
    with pytest.raises(DataError, match=r"1 of \d+ are missing .*labels add"):
        current_holdout(frozen)
