"""The store: events only grow, what follows from them is right after every act, and undo reaches back to the first."""

import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.label_stores import LABELS, act, make_store, named_images
from tune_btxrd.data.readers.label_store import read_state
from tune_btxrd.errors import ConfigError, DataError
from tune_btxrd.labels import database
from tune_btxrd.labels.records import Act
from tune_btxrd.labels.store import LabelStore


@pytest.mark.parametrize("statement", ["UPDATE events SET annotator = 'x'", "DELETE FROM events", "DELETE FROM openings"])
def test_what_was_done_stays(tmp_path: Path, statement: str) -> None:
    with make_store(tmp_path) as store:
        act(store, 1, {"Mass": 1})
        store.log_opening(search="a", split="b", checkpoints={}, images=3)
    with sqlite3.connect(tmp_path / "store.db") as other, pytest.raises(sqlite3.IntegrityError, match="only ever appended"):
        other.execute(statement)
    other.close()


def test_an_act_that_is_sent_twice_counts_once(tmp_path: Path) -> None:
    with make_store(tmp_path) as store:
        first = act(store, 1, {"Mass": 1}, client="click")
        assert act(store, 1, {"Mass": 1}, client="click") == first
        assert store.last_event == 1
        with pytest.raises(DataError, match="used for another"):
            act(store, 2, {"Mass": 1}, client="click")
        assert store.undo("ann", client="u").number == store.undo("ann", client="u").number == 1  # type: ignore[union-attr]
        assert store.undo("ann", client="v") is None


def test_undo_reaches_back_to_the_first_act_also_after_a_restart(tmp_path: Path) -> None:
    with make_store(tmp_path) as store:
        act(store, 1, {"Mass": 0, "Nodule": 1})
        act(store, 1, {"Mass": 1})
        act(store, 2, kind="bad")
        act(store, 3, kind="skip")
        act(store, 2, {"Mass": 1}, annotator="bob")
    with LabelStore(tmp_path / "store.db") as store:
        assert store.undo("ann", client="1").kind == "skip"  # type: ignore[union-attr]
        assert store.image(2).bad and store.image(2).disputed
        assert store.undo("ann", client="2").image == 2  # type: ignore[union-attr]
        assert not store.image(2).bad and store.answers_of(2, "bob") == {"Mass": 1}
        assert store.answers_of(1, "ann") == {"Mass": 1, "Nodule": 1}
        store.undo("ann", client="3")
        assert store.answers_of(1, "ann") == {"Mass": 0, "Nodule": 1}
        store.undo("ann", client="4")
        assert store.answers_of(1, "ann") == {} and store.decision_of(1, "ann") is None
        assert store.undo("ann", client="5") is None
        kinds = [(event.kind, event.undone) for event in reversed(store.history("ann"))]
        assert kinds == [(kind, True) for kind in ("label", "label", "bad", "skip")] + [("undo", False)] * 4


def test_a_label_is_known_where_annotators_agree_or_one_settles(tmp_path: Path) -> None:
    with make_store(tmp_path) as store:
        act(store, 1, {"Mass": 1, "Nodule": 0})
        act(store, 1, {"Mass": 1, "Nodule": 1}, annotator="bob")
        act(store, 1, kind="unsure", annotator="cy")
        assert store.known([1]).tolist() == [[1, -1]] and store.image(1).disputed
        act(store, 1, {"Nodule": 0}, annotator="dee", settles=True)
        assert store.known([1]).tolist() == [[1, 0]] and not store.image(1).disputed
        act(store, 1, {"Nodule": 1}, annotator="eve")
        assert store.known([1]).tolist() == [[1, 0]]
        store.undo("dee", client="u")
        assert store.known([1]).tolist() == [[1, -1]] and store.image(1).disputed


def test_a_store_of_classes_holds_one_class_per_image(tmp_path: Path) -> None:
    with make_store(tmp_path, task="multiclass") as store:
        act(store, 1, {"Mass": 1})
        act(store, 1, {"Nodule": 1})
        assert store.known([1]).tolist() == [[0, 1]]
        with pytest.raises(DataError, match="one class"):
            act(store, 1, {"Mass": 1, "Nodule": 1})


def test_a_label_that_is_added_asks_for_every_image_again(tmp_path: Path) -> None:
    with make_store(tmp_path, images=3) as store:
        for image in (1, 2, 3):
            act(store, image, {"Mass": 1, "Nodule": 0})
        assert store.progress("ann").left == 0 and not store.pool().images
        store.add_labels(["Edema"])
        assert store.progress("ann").left == 3 and store.pool().images == [1, 2, 3]
        act(store, 2, {"Edema": 0})
        assert store.pool().images == [1, 3] and store.known([2]).tolist() == [[1, 0, 0]]


@pytest.mark.parametrize(
    ("act_", "message"),
    [
        ({"answers": {"mass": 1}}, "A label must be one of Mass, Nodule"),
        ({"answers": {"Mass": 2}}, "must be 1, 0 or None"),
        ({"answers": {"Mass": 0.5}}, "must be 1, 0 or None"),
        ({"answers": {}}, "must name a label"),
        ({"answers": {"Mass": 1}, "image": 99}, "none of number 99"),
        ({"answers": {"Mass": 1}, "annotator": " "}, "An annotator must be"),
        ({"answers": {"Mass": 1}, "annotator": "a\nb"}, "printable"),
        ({"kind": "undo"}, "use `undo`"),
    ],
)
def test_an_act_that_means_nothing_is_refused_and_leaves_nothing(
    tmp_path: Path, act_: dict[str, object], message: str
) -> None:
    with make_store(tmp_path) as store:
        said = {"kind": "label", "image": 1, "annotator": "ann", "client": "c", "arm": "random", **act_}
        with pytest.raises(DataError, match=message):
            store.record_all(
                [
                    Act(kind="label", image=2, annotator="ann", client="d", arm="random", answers={"Mass": 1}),
                    Act(**said),  # type: ignore[arg-type]
                ]
            )
        assert store.last_event == 0


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["label", "label", "label", "unsure", "bad", "skip", "undo"]),
        st.integers(1, 3),
        st.sampled_from(["a", "b", "c"]),
        st.dictionaries(st.sampled_from(LABELS), st.sampled_from([0, 1, None]), min_size=1),
        st.booleans(),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None)
@given(acts=ACTS)
def test_triggers_hold_what_a_replay_of_the_events_says(
    acts: list[tuple[str, int, str, dict[str, int | None], bool]],
) -> None:
    """The reader replays events one by one in Python; the triggers keep tables. They are written apart and must agree."""
    with tempfile.TemporaryDirectory() as folder, make_store(Path(folder), images=3) as store:
        for number, (kind, image, annotator, answers, settles) in enumerate(acts):
            if kind == "undo":
                store.undo(annotator, client=f"c{number}")
            else:
                act(store, image, answers, annotator=annotator, kind=kind, settles=settles, client=f"c{number}")  # type: ignore[arg-type]
        state = read_state(store.path)
        values = {image.image_id: image.values for image in state.images}
        known = store.known([1, 2, 3])
        for number, row in enumerate(known.tolist(), start=1):
            image = store.image(number)
            said = values.get(image.image_id, {})
            expected = [-1, -1] if image.bad else row
            assert [said.get(label.number, -1) for label in store.labels] == expected
        images = [store.image(number) for number in (1, 2, 3)]
        assert (state.bad, state.disputed) == (sum(i.bad for i in images), sum(i.disputed for i in images))
        heard = {(i, n) for i, n in store.database.rows("SELECT image, label FROM held")}
        is_open = {i for (i,) in store.database.rows("SELECT image FROM images WHERE open = 1")}
        assert is_open == {
            n for n in (1, 2, 3) if not images[n - 1].bad and any((n, label) not in heard for label in (1, 2))
        }


def test_whatever_comes_later_changes_neither_hold_out_nor_order(tmp_path: Path) -> None:
    images = named_images(200)
    facts = []
    for name, order in (("a", images), ("b", [*images[100:], *images[:100]])):
        with LabelStore.create(tmp_path / f"{name}.db", LABELS, salt="s", holdout_share=0.3) as store:
            for start in range(0, 200, 50):
                store.insert_images(order[start : start + 50])
            facts.append(
                dict(
                    (row[0], row[1:])
                    for row in store.database.rows("SELECT sha256, holdout, twice, shuffle, group_name FROM images")
                )
            )
    assert facts[0] == facts[1]
    sides: dict[str, set[int]] = {}
    for holdout, _, _, group in facts[0].values():
        sides.setdefault(group, set()).add(holdout)
    assert all(len(side) == 1 for side in sides.values())
    assert 20 <= sum(next(iter(side)) for side in sides.values()) <= 40  # of 100 groups, share 0.3


@pytest.mark.parametrize(
    ("labels", "keys", "message"),
    [
        ((), {}, "must hold a label"),
        (("a", "A"), {}, "^Labels must differ in more than case"),
        (("a\nb", "c"), {}, "^A label of .* printable"),
        (("a", "b"), {"a": "n"}, "the page uses the others"),
        (("a", "b"), {"a": "q", "b": "q"}, "its own key"),
        (("a", "b"), {"z": "q"}, "'z' is none"),
        (tuple(f"l{i}" for i in range(40)), {}, "at most"),
    ],
)
def test_labels_and_keys_that_cannot_be_used(
    tmp_path: Path, labels: tuple[str, ...], keys: dict[str, str], message: str
) -> None:
    with pytest.raises((DataError, ConfigError), match=message):
        LabelStore.create(tmp_path / "s.db", labels, keys=keys)
    assert not (tmp_path / "s.db").exists()


def test_a_store_that_cannot_be_finished_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, found after the file and its logs are there."""
    open_to_write = database._open_to_write

    def nearly_full(path: Path) -> sqlite3.Connection:
        connection = open_to_write(path)
        connection.execute(f"PRAGMA max_page_count = {connection.execute('PRAGMA page_count').fetchone()[0]}")
        return connection

    monkeypatch.setattr(database, "_open_to_write", nearly_full)
    with pytest.raises(DataError, match="disk is full"):
        LabelStore.create(tmp_path / "s.db", tuple(f"{'🫁' * 90} {number}" for number in range(30)))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"folder that can be written, but .*file is a file"):
        LabelStore.create(tmp_path / "file" / "s.db", LABELS)


def test_names_with_quotes_and_emoji_are_names(tmp_path: Path) -> None:
    names = ('"Mass"', "it's; DROP TABLE events --", "🫁 lung", "<script>alert(1)</script>")
    with make_store(tmp_path, labels=names) as store:
        act(store, 1, dict.fromkeys(names, 1))
        assert store.answers_of(1, "ann") == dict.fromkeys(names, 1)
        store.set_keys({names[0]: "2", names[1]: "1"})
        assert [label.key for label in store.labels] == ["2", "1", "3", "4"]
