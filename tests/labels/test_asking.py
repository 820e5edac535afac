"""What an annotator is asked for: leased to one, hold-out apart, a random arm beside the ranking, skipped ones last."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.support.label_stores import act, make_store
from tune_btxrd.errors import DataError
from tune_btxrd.labels import asking
from tune_btxrd.labels.store import LabelStore


def numbers(store: LabelStore, annotator: str, **asked: object) -> list[int]:
    return [item.image.number for item in store.next_images(annotator, **asked)]  # type: ignore[arg-type]


def test_no_annotator_is_given_the_others_image(tmp_path: Path) -> None:
    with make_store(tmp_path) as store, LabelStore(store.path) as other:
        mine, theirs = numbers(store, "ann", count=4), numbers(other, "bob", count=4)
        assert not set(mine) & set(theirs)
        assert numbers(store, "ann", count=4) == mine  # asked twice, the same
        act(store, mine[0], {"Mass": 1, "Nodule": 0})
        assert numbers(store, "ann", count=4)[:3] == mine[1:]
        rest = numbers(other, "bob", count=99)
        assert len(rest) + 4 + 1 == 20 and not set(rest) & {*mine, *numbers(store, "ann", count=4)}


def test_a_lease_ends_by_time_or_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with make_store(tmp_path, images=4) as store:
        assert len(numbers(store, "ann", count=4)) == 4 and not numbers(store, "bob")
        store.release("ann")
        assert len(numbers(store, "bob", count=2)) == 2
        now = asking.time.time()
        monkeypatch.setattr(asking.time, "time", lambda: now + asking.LEASE_SECONDS + 1)
        assert len(numbers(store, "ann", count=4)) == 4


def test_the_hold_out_is_asked_for_in_its_own_sitting_alone(tmp_path: Path) -> None:
    with make_store(tmp_path, images=60, holdout=0.4) as store:
        held = {row[0] for row in store.database.rows("SELECT image FROM images WHERE holdout = 1")}
        assert 0 < len(held) < 60
        model = store.begin_model("m", "0" * 64, event=0)
        pool = store.pool().images
        store.write_scores(model, pool, np.full((len(pool), 2), 0.9))
        store.end_model(model)
        store.write_ranking(pool, acquisition="badge", model=model)
        for mode in ("label", "review"):
            assert set(numbers(store, "ann", mode=mode, count=99)) == set(range(1, 61)) - held
        sitting = store.next_images("ann", mode="holdout", count=99)
        assert {item.image.number for item in sitting} == held and {item.arm for item in sitting} == {"holdout"}
        for image in held:
            assert store.predictions_of(image) == {}
            with pytest.raises(DataError, match="never scored"):
                store.write_scores(model, [image], np.full((1, 2), 0.5))
            with pytest.raises(DataError, match="never ranked"):
                store.write_ranking([image], acquisition="x", model=None)
        assert store.progress("ann").images == 60 - len(held)
        assert store.progress("ann", mode="holdout").images == len(held)


def test_the_ranking_is_followed_beside_a_random_arm(tmp_path: Path) -> None:
    with make_store(tmp_path, images=400, double_share=0.0) as store:
        order = list(range(400, 0, -1))
        store.write_ranking(order, acquisition="badge", model=None)
        asked = store.next_images("ann", count=300, random_share=0.2)
        ranked = [item.image.number for item in asked if item.arm == "ranked"]
        assert ranked == sorted(ranked, reverse=True)
        share = Counter(item.arm for item in asked)["random"] / 300
        assert 0.1 < share < 0.3  # five standard deviations about 0.2
        store.release("ann")
        assert {item.arm for item in store.next_images("ann", count=50, random_share=0.0)} == {"ranked"}


def test_skipped_images_come_last_in_the_order_in_which_they_were_skipped(tmp_path: Path) -> None:
    with make_store(tmp_path, images=4, double_share=0.0) as store:
        first = numbers(store, "ann", count=4)
        for image in first[:2]:
            act(store, image, kind="skip")
        assert numbers(store, "ann", count=4) == [*first[2:], *first[:2]]
        for image in first[2:]:
            act(store, image, {"Mass": 1, "Nodule": 1})
        act(store, first[0], kind="skip")
        assert numbers(store, "ann", count=4) == [first[1], first[0]]
        assert set(numbers(store, "bob", count=4)) == set()  # leased to ann
        assert store.progress("ann").left == 2


def test_some_images_are_read_twice_by_two_annotators(tmp_path: Path) -> None:
    with make_store(tmp_path, images=40, double_share=0.5) as store:
        twice = {row[0] for row in store.database.rows("SELECT image FROM images WHERE twice = 1")}
        for image in numbers(store, "ann", count=99):
            act(store, image, {"Mass": 1, "Nodule": 0})
        assert not numbers(store, "ann", count=99)
        again = store.next_images("bob", count=99)
        assert {item.image.number for item in again} == twice and {item.arm for item in again} == {"twice"}
        for item in again:
            act(store, item.image.number, {"Mass": 0, "Nodule": 0}, annotator="bob")
        assert not numbers(store, "cy", count=99)
        assert set(numbers(store, "cy", mode="dispute", count=99)) == twice


def test_review_shows_the_most_confident_first(tmp_path: Path) -> None:
    with make_store(tmp_path, images=5) as store:
        model = store.begin_model("m", "0" * 64, event=0)
        store.write_scores(model, [1, 2, 3], np.array([[0.9, 0.6], [0.01, 0.99], [0.2, 0.8]]), features=np.ones((3, 4)))
        assert store.scored(model) == {1, 2, 3} and not numbers(store, "ann", mode="review")  # not ended yet
        store.end_model(model)
        assert numbers(store, "ann", mode="review", count=9) == [2, 3, 1]
        assert store.predictions_of(1) == {"Mass": 0.9, "Nodule": 0.6}
        images, features = store.features(model)
        assert images == [1, 2, 3] and features.tolist() == np.ones((3, 4)).tolist()
        assert np.isnan(store.probabilities(model, [4, 1])[0]).all()


def test_a_missing_image_is_asked_for_no_more_until_it_is_back(tmp_path: Path) -> None:
    with make_store(tmp_path, images=3) as store:
        (first,) = numbers(store, "ann")
        store.set_missing(first, missing=True)
        act(store, first, kind="skip")
        assert first not in numbers(store, "ann", count=9)
        assert [image.number for image in store.missing_images()] == [first]
        store.set_missing(first, missing=False)
        assert first in numbers(store, "ann", count=9)
