"""The page's sittings over HTTP: what is asked, answered, undone and shown in each mode."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.label_pages import Visitor, add, draw, make_store, new_id, saying, score, told, visit
from tune_btxrd.labels import asking
from tune_btxrd.labels.page import sitting as sitting_module
from tune_btxrd.labels.page.choices import choices
from tune_btxrd.labels.page.shown import pace_words
from tune_btxrd.labels.page.sitting import Sitting
from tune_btxrd.labels.records import IMPORTED, Act
from tune_btxrd.labels.status import status
from tune_btxrd.labels.store import LabelStore


def test_four_images_come_and_no_other_annotator_is_given_them(tmp_path: Path) -> None:
    with make_store(tmp_path) as store:
        given: dict[str, list[int]] = {}

        async def anna(page: Visitor) -> None:
            given["anna"] = await page.next()
            visited = await page.next(1, given["anna"])
            assert not set(visited) & set(given["anna"]) and len(visited) == 1
            given["anna"] += visited
            visit_of_bert = store.next_images("bert", count=20)
            given["bert"] = [asked.image.number for asked in visit_of_bert]

        visit(store, anna)
        assert len(given["anna"]) == 5 and len(given["bert"]) == 7
        assert not set(given["anna"]) & set(given["bert"])


def test_the_page_gives_back_what_it_has_not_shown_when_it_ends(tmp_path: Path) -> None:
    with make_store(tmp_path) as store:

        async def leave(page: Visitor) -> None:
            await page.next()

        visit(store, leave)
        assert len(store.next_images("bert", count=20)) == 12


def test_an_answer_is_what_was_typed_and_counts_once(tmp_path: Path) -> None:
    with make_store(tmp_path) as store:

        async def steps(page: Visitor) -> None:
            first, second, third, fourth = await page.next()
            answer = saying(first, (1, 0))
            assert [(await page.send(answer)).status for _ in range(3)] == [200, 200, 200]
            await page.say(second, (0, None))
            await page.say(third, None, kind="bad")
            after = await page.say(fourth, None, kind="skip")
            assert after["progress"]["done"] == 3 and after["progress"]["total"] == 12
            assert told(store) == [
                ("label", first, {"effusion": 1, "cardiomegaly": 0}, "anna"),
                ("label", second, {"effusion": 0, "cardiomegaly": None}, "anna"),
                ("bad", third, {"effusion": None, "cardiomegaly": None}, "anna"),
                ("skip", fourth, {}, "anna"),
            ]
            assert not {first, second, third, fourth} & set(await page.next(4, [first, second, third, fourth]))

        visit(store, steps)
        assert [event.seconds for event in store.history()] == [2.5] * 4


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "undo"},
        {"kind": None},
        {"image": True},
        {"image": "1"},
        {"image": -1},
        {"image": 2**63},
        {"image": 10_000},
        {"values": [1, 0, 1]},
        {"values": [1, 2]},
        {"values": [1, True]},
        {"values": [1, 0.5]},
        {"values": {"effusion": 1}},
        {"values": None},
        {"seconds": -1},
        {"seconds": "2"},
        {"client_id": "x"},
        {"client_id": None},
        {"arm": "<script>"},
        {"op": "delete"},
    ],
    ids=str,
)
def test_what_the_page_would_not_send_is_refused_and_leaves_nothing(tmp_path: Path, wrong: dict[str, object]) -> None:
    with make_store(tmp_path, 2) as store:

        async def steps(page: Visitor) -> None:
            answer = await page.send({**saying(1), **wrong})
            assert answer.status == 400 and (await answer.json())["error"]

        visit(store, steps)
        assert store.last_event == 0


def test_bytes_that_are_no_answer_are_refused(tmp_path: Path) -> None:
    with make_store(tmp_path, 2) as store:

        async def steps(page: Visitor) -> None:
            for body, kind, status in (
                ("{", "application/json", 400),
                ("[]", "application/json", 400),
                ("[" * 30_000, "application/json", 400),
                ('{"op": "undo"}', "text/plain", 400),
                ("x" * 100_000, "application/json", 413),
            ):
                answer = await page.client.post("/api/events", data=body, headers={"Content-Type": kind})
                assert answer.status == status, await answer.text()
            for query in ("count=x", "have=1,x"):
                assert (await page.client.get(f"/api/next?{query}")).status == 400

        visit(store, steps)
        assert store.last_event == 0


def test_undo_goes_back_to_the_beginning_also_after_a_restart(tmp_path: Path) -> None:
    order: list[int] = []
    with make_store(tmp_path) as store:

        async def label(page: Visitor) -> None:
            for _ in range(5):
                order.extend(await page.next(1))
                await page.say(order[-1], (0, 1))

        visit(store, label)
    with LabelStore(tmp_path / "chest.db") as store:

        async def undo(page: Visitor) -> None:
            for number in reversed(order):
                shown = (await page.undo())["item"]
                assert shown["image"] == number and shown["mine"] is None
                assert shown["undone"] == {"kind": "label", "values": [0, 1], "annotator": "anna"}
            assert (await page.undo())["item"] is None
            others = store.next_images("bert", count=20)
            assert not set(order) & {asked.image.number for asked in others}  # they are kept for anna

        visit(store, undo)
        assert store.progress("anna").done == 0
        assert [kind for kind, *_ in told(store)] == ["label"] * 5 + ["undo"] * 5


def test_an_undo_takes_back_no_table_that_was_imported(tmp_path: Path) -> None:
    with make_store(tmp_path, 3) as store:
        store.record(Act(kind="label", image=1, annotator="anna", client="t", arm=IMPORTED, answers={"effusion": 1}))

        async def steps(page: Visitor) -> None:
            await page.say(2)
            assert (await page.undo())["item"]["image"] == 2
            assert (await page.undo())["item"] is None

        visit(store, steps)
        assert store.answers_of(1, "anna") == {"effusion": 1}


def test_an_undo_that_is_sent_again_takes_back_nothing_more(tmp_path: Path) -> None:
    with make_store(tmp_path) as store:

        async def steps(page: Visitor) -> None:
            for number in await page.next(2):
                await page.say(number)
            operation = {"op": "undo", "client_id": new_id()}
            shown = [(await (await page.send(operation)).json())["item"]["image"] for _ in range(3)]
            assert len(set(shown)) == 1

        visit(store, steps)
        assert store.progress("anna").done == 1


def test_what_one_held_before_stands_there_when_an_image_comes_again(tmp_path: Path) -> None:
    with make_store(tmp_path, 1, labels=("effusion",)) as store:

        async def steps(page: Visitor) -> None:
            (number,) = await page.next(1)
            await page.say(number, (1,))
            store.add_labels(["cardiomegaly"])
            (item,) = (await page.get("/api/next?count=1"))["items"]
            assert item["image"] == number and item["mine"] == [1, ""]

        visit(store, steps)


def test_holdout_is_a_sitting_of_its_own_without_predictions(tmp_path: Path) -> None:
    with make_store(tmp_path, 40, holdout_share=0.3) as store:
        held = {number for number in range(1, 41) if store.image(number).holdout}
        assert 4 <= len(held) <= 24
        score(store, {number: (0.9, 0.1) for number in range(1, 41) if number not in held})

        async def label(page: Visitor) -> None:
            seen: list[int] = []
            while fresh := await page.next(4, seen):
                seen += fresh
            assert set(seen) == set(range(1, 41)) - held
            assert (await page.client.get(f"/api/opinion/{min(held)}")).status == 400

        async def hold_out(page: Visitor) -> None:
            seen: list[int] = []
            while fresh := await page.get(f"/api/next?count=4&have={','.join(map(str, seen))}"):
                if not fresh["items"]:
                    break
                assert {item["opinion"] for item in fresh["items"]} == {None}
                seen += [item["image"] for item in fresh["items"]]
            assert set(seen) == held and seen != sorted(seen)
            text = await (await page.client.get("/")).text()
            assert (
                '"has_opinion": false' in text
                and 'data-do="opinion" title="what the model says of this image" hidden' in text
            )
            for number in (min(held), min(set(range(1, 41)) - held)):  # of no image, not even on request
                assert (await page.client.get(f"/api/opinion/{number}")).status == 400

        visit(store, label)
        visit(store, hold_out, mode="holdout")


def test_the_opinion_comes_when_it_is_asked_for_and_in_a_review_at_once(tmp_path: Path) -> None:
    with make_store(tmp_path, 6) as store:
        score(store, {1: (0.6, 0.5), 2: (0.99, 0.02), 3: (0.2, 0.1), 4: (0.5, 0.97)})

        async def label(page: Visitor) -> None:
            items = (await page.get("/api/next?count=4"))["items"]
            assert {item["opinion"] for item in items} == {None}
            assert (await page.get("/api/opinion/2"))["opinion"] == [0.99, 0.02]
            assert (await page.get("/api/opinion/6"))["opinion"] is None

        async def review(page: Visitor) -> None:
            items = (await page.get("/api/next?count=4"))["items"]
            assert [item["image"] for item in items][:2] == [2, 3]  # the most confident first
            assert items[0]["opinion"] == [0.99, 0.02] and items[0]["arm"] == "review"
            assert len(items) == 4

        visit(store, label)
        visit(store, review, mode="review")


def test_a_second_reader_disagrees_and_a_third_sitting_settles_it(tmp_path: Path) -> None:
    with make_store(tmp_path, 8, double_share=0.9) as store:
        twice: list[int] = []

        async def anna(page: Visitor) -> None:
            while fresh := await page.next():
                for number in fresh:
                    await page.say(number, (1, 0))

        async def bert(page: Visitor) -> None:
            while fresh := await page.next(1):
                twice.extend(fresh)
                await page.say(fresh[0], (1, 1) if len(twice) == 1 else (1, 0))

        async def settle(page: Visitor) -> None:
            (item,) = (await page.get("/api/next?count=4"))["items"]
            assert item["image"] == twice[0] and item["mine"] is None
            readers = {reader["annotator"]: reader["values"] for reader in item["readers"]}
            assert readers == {"anna": [1, 0], "bert": [1, 1]}
            after = await page.say(item["image"], (1, 1), arm=item["arm"])
            assert (after["progress"]["done"], after["progress"]["total"]) == (1, 1)
            assert not await page.next(4)

        visit(store, anna)
        visit(store, bert, annotator="bert")
        assert 4 <= len(twice) <= 8
        visit(store, settle, annotator="chief", mode="dispute")
        assert store.known([twice[0]]).tolist() == [[1, 1]]


def test_other_images_of_the_group_tell_nothing_that_was_said(tmp_path: Path) -> None:
    with make_store(tmp_path, 6) as store:

        async def steps(page: Visitor) -> None:
            item = (await page.get("/api/next?count=1"))["items"][0]
            assert item["others"] == 1 and item["group"].startswith("patient ")
            (other,) = (await page.get(f"/api/others/{item['image']}"))["items"]
            assert store.image(other["image"]).group == item["group"] and other["image"] != item["image"]
            assert other["mine"] is other["undone"] is other["opinion"] is None
            assert (await page.client.get("/api/others/999")).status == 400

        visit(store, steps)


def test_classes_need_one_yes(tmp_path: Path) -> None:
    with make_store(tmp_path, 3, labels=("normal", "benign", "malignant"), task="multiclass") as store:

        async def steps(page: Visitor) -> None:
            (number,) = await page.next(1)
            assert (await page.send(saying(number, (1, 1, 0)))).status == 400
            await page.say(number, (0, 1, 0))
            assert "radio" in await (await page.client.get("/")).text()

        visit(store, steps)
        assert told(store)[0][2] == {"normal": 0, "benign": 1, "malignant": 0}


def test_one_key_decides_first_second_neither_both() -> None:
    two = choices(("effusion", "cardiomegaly"))
    assert [(one.key, one.values) for one in two] == [("1", (1, 0)), ("2", (0, 1)), ("3", (0, 0)), ("4", (1, 1))]
    assert [one.words for one in two] == ["effusion", "cardiomegaly", "Neither", "effusion and cardiomegaly"]
    three = choices(("a", "b", "c"))
    assert len({one.values for one in three}) == 8 and three[3].values == (0, 0, 0) and three[7].values == (1, 1, 1)
    assert [one.values for one in choices(("a",))] == [(1,), (0,)]
    assert choices(("a", "b", "c", "d")) == ()


@pytest.mark.parametrize(
    ("today", "seconds", "left", "words"),
    [
        (0, None, 100, "0 today"),
        (3, 0.84, 10, "3 today · 0.8 s an image · 9 s left"),
        (12, 8.0, 300, "12 today · 8 s an image · 40 min left"),
        (900, 12.0, 3600, "900 today · 12 s an image · 12 h left"),
        (4, 5.0, 0, "4 today · 5 s an image"),
    ],
)
def test_pace_in_words(today: int, seconds: float | None, left: int, words: str) -> None:
    assert pace_words(today=today, seconds=seconds, left=left) == words


def test_a_full_disk_is_told_and_the_answer_counts_when_there_is_room(tmp_path: Path) -> None:
    with make_store(tmp_path, 400) as store:
        pages = store.database.number("PRAGMA page_count")

        async def steps(page: Visitor) -> None:
            store.database.rows(f"PRAGMA max_page_count = {pages}")
            statuses: list[int] = []
            answers = [saying(number) for number in range(1, 401)]
            for answer in answers:
                statuses.append((await page.send(answer)).status)
                if statuses[-1] != 200:
                    break
            assert statuses[-1] == 503
            told_full = await (await page.send(answer)).json()
            assert "disk is full" in told_full["error"] and "\n" not in told_full["error"]
            store.database.rows(f"PRAGMA max_page_count = {pages * 100}")
            assert (await page.send(answer)).status == 200
            assert store.last_event == len(statuses)

        visit(store, steps)


def test_a_missing_image_is_told_listed_and_found_again(tmp_path: Path) -> None:
    with make_store(tmp_path, 3) as store:
        lost = store.image(2)
        content = store.file(lost).read_bytes()
        store.file(lost).unlink()

        async def steps(page: Visitor) -> None:
            answer = await page.client.get("/image/2")
            assert answer.status == 404 and "002.png" not in (text := await answer.text()) and "001.png" in text
            assert [image.number for image in store.missing_images()] == [2]
            await page.say(2, None, kind="skip")
            store.file(lost).write_bytes(content)
            assert (await page.client.get("/image/2")).status == 200
            assert store.missing_images() == ()

        visit(store, steps)


def test_an_image_that_is_damaged_or_another_one_now_is_told(tmp_path: Path) -> None:
    with make_store(tmp_path, 2) as store:
        broken = tmp_path / "broken.png"
        broken.write_bytes((tmp_path / "images" / "000.png").read_bytes()[:900])
        add(store, [broken])
        draw(store.file(store.image(1)), 77)

        async def steps(page: Visitor) -> None:
            for number, reason in ((1, "has changed"), (3, "is damaged")):
                answer = await page.client.get(f"/image/{number}")
                assert answer.status == 422 and reason in await answer.text()
            assert (await page.client.get("/image/2")).status == 200

        visit(store, steps)


def test_images_that_come_next_are_decoded_before_they_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tune_btxrd.labels.page import pictures

    made: list[str] = []
    real = pictures.picture
    monkeypatch.setattr(pictures, "picture", lambda path, **named: made.append(path.name) or real(path, **named))
    with make_store(tmp_path) as store:

        async def steps(page: Visitor) -> None:
            numbers = await page.next()
            names = {store.file(store.image(number)).name for number in numbers}
            for number in numbers:
                assert (await page.client.get(f"/image/{number}")).status == 200
            assert sorted(made) == sorted(names)  # each once, although each was asked for twice

        visit(store, steps)


def test_answers_are_kept_in_the_order_in_which_they_were_sent(tmp_path: Path) -> None:
    import asyncio

    with make_store(tmp_path, 40) as store:
        numbers = np.random.default_rng(0).permutation(np.arange(1, 41)).tolist()

        async def steps(page: Visitor) -> None:
            await asyncio.gather(*(page.say(number) for number in numbers))

        visit(store, steps)
        assert sorted(image for _, image, _, _ in told(store)) == list(range(1, 41))


@pytest.mark.parametrize("arm", sorted(asking.SOURCES))
def test_the_next_image_is_found_without_sorting_all_of_them(tmp_path: Path, arm: str) -> None:
    """A store may hold 100,000 images: every source is read along its own index."""
    with make_store(tmp_path, 1) as store:
        plans: list[str] = []
        real = store.database.one
        store.database.one = lambda sql, values=(): plans.append(sql) or real(sql, values)  # type: ignore[method-assign]
        asking._first(store.database, "anna", arm, fresh=True)
        steps = [str(row[3]) for row in store.database.rows(f"EXPLAIN QUERY PLAN {plans[0]}", {"me": "anna"})]  # type: ignore[arg-type]
        assert any(asking.INDEXES[arm] in step for step in steps)
        assert not any("TEMP B-TREE" in step for step in steps), steps


def test_own_answers_count_at_once_and_those_of_others_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with make_store(tmp_path, 12) as store:
        sitting = Sitting(store, "anna", "label")
        assert (sitting.standing().done, sitting.standing().total) == (0, 12)
        for number, done in ((1, 1), (2, 2), (2, 2), (3, 3)):
            assert sitting.answer(saying(number)).done == done
        assert sitting.answer(saying(4, None, kind="skip")).done == 3
        assert sitting.undo({"client_id": new_id()})[1].done == 3 and sitting.undo({"client_id": new_id()})[1].done == 2
        store.record(
            Act(
                kind="label", image=9, annotator="bert", client="b", arm="random", answers={"effusion": 1, "cardiomegaly": 0}
            )
        )
        assert sitting.answer(saying(5)).done == 3  # bert's is not counted yet
        monkeypatch.setattr(sitting_module, "COUNTED", 0.0)
        assert sitting.standing().done == 4 == store.progress("anna").done


def test_whether_the_model_was_seen_before_the_answer_is_kept(tmp_path: Path) -> None:
    with make_store(tmp_path, 8) as store:
        score(store, {number: (0.9, 0.1) for number in range(1, 9)})

        async def label(page: Visitor) -> None:
            await page.say(1)
            await page.get("/api/opinion/2")
            await page.say(2)
            await page.undo()
            await page.say(3, saw_model=True)  # the page says so itself, e.g. to a server that was started again

        async def later(page: Visitor) -> None:
            await page.say(2)
            await page.say(4, saw_model="yes")  # no word of the page's

        async def review(page: Visitor) -> None:
            items = (await page.get("/api/next?count=1"))["items"]
            await page.say(items[0]["image"], arm="review")

        visit(store, label)
        visit(store, later)
        visit(store, review, mode="review")
        seen = [(event.kind, event.image, event.saw_model) for event in reversed(store.history())]
        assert seen[:6] == [
            ("label", 1, False),
            ("label", 2, True),
            ("undo", 2, None),
            ("label", 3, True),
            ("label", 2, True),
            ("label", 4, False),
        ]
        assert seen[6][2] is True
        rows = store.database.rows("SELECT DISTINCT saw_model FROM label_events WHERE event = 2")
        assert rows == [(1,)]
        assert (status(store).saw_model, status(store).saw_model_known) == (4, 6)
