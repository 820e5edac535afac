"""The labelling page in headless Chromium, driven by keys: the store's events are what was typed (skipped where none is)."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.label_pages import add, draw, make_store, score, told
from tests.support.label_screen import CHROMIUM, MIDDLE, Screen, Server
from tune_btxrd.labels.store import LabelStore

playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need `pip install playwright`")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="the browser tests need Chromium: apt-get install chromium"),
]
ANSWERS = (  # keys, kind of event, values
    (("1", "Enter"), "label", (1, 0)),
    (("2", "Enter"), "label", (0, 1)),
    (("n", "Enter"), "label", (0, 0)),
    (("?",), "unsure", ()),
    (("1", "2", "Enter"), "label", (1, 1)),
    (("s",), "skip", ()),
    (("1", "1", "Enter"), "label", (None, 0)),
    (("x",), "bad", ()),
    (("2", "1", "1", "1", "Enter"), "label", (0, 1)),
    (("n", "2", "Enter"), "label", (0, 1)),
)
Open = Callable[..., Screen]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Starts servers; all are ended afterwards."""
    running: list[Server] = []

    def start(store: Path, annotator: str, *words: str) -> Server:
        running.append(Server(store, annotator, words))
        running[-1].start()
        return running[-1]

    yield start
    for server in running:
        server.stop(signal.SIGKILL)


@pytest.fixture
def open_page(browser: Any) -> Iterator[Open]:
    contexts: list[Any] = []

    def opened(server: Server, **settings: Any) -> Screen:
        contexts.append(browser.new_context(**{"viewport": {"width": 1280, "height": 720}, **settings}))
        contexts[-1].set_default_timeout(30_000)
        return Screen(contexts[-1].new_page(), server.annotator).open(server.address)

    yield opened
    for context in contexts:
        context.close()


def test_events_are_what_two_annotators_typed(tmp_path: Path, serve: Any, open_page: Open) -> None:
    """30 labelled, 5 undone, a restart, 2 more undone; a second annotator labels 10 and disagrees; settled; reviewed."""
    make_store(tmp_path, 34, double_share=0.9).close()
    path = tmp_path / "chest.db"
    server = serve(path, "anna")
    anna = open_page(server)
    for number in range(30):
        keys, kind, values = ANSWERS[number % len(ANSWERS)]
        anna.answer(*keys, kind=kind, values=values)
    anna.saved()
    stack = [image for _, image, _, _ in anna.typed]
    for _ in range(5):
        anna.undo(stack.pop())
    assert anna.text("#hint") == "Undone: bad image" or "Undone" in anna.text("#hint")
    server.stop()
    anna.until("document.getElementById('saved').dataset.state === 'gone'")
    server.start()
    for _ in range(2):
        anna.undo(stack.pop())
    anna.saved()
    server.stop()
    assert anna.complaints == []

    bert = open_page(serve(path, "bert"))
    known = set(stack)
    while len(bert.typed) < 10 or not known & {image for _, image, _, _ in bert.typed}:
        bert.answer("1", "2", "Enter", values=(1, 1))
    bert.saved()
    with LabelStore(path) as store:
        assert told(store) == anna.typed + bert.typed
        disputed = [n for n in range(1, 35) if store.image(n).disputed]
    assert disputed and bert.complaints == []

    chief = open_page(serve(path, "chief", "--disagreements"))
    for _ in disputed:
        assert "anna" in chief.text("#readers") and "bert: effusion, cardiomegaly" in chief.text("#readers")
        chief.answer("n", "Enter", values=(0, 0))
    assert chief.ready() is None and "No two annotators differ" in chief.text("#notice")
    chief.saved()

    with LabelStore(path) as store:
        assert not any(store.image(n).disputed for n in disputed)
        fresh = add(store, [draw(tmp_path / "images" / f"new{n}.png", 900 + n) for n in range(3)])
        score(store, dict(zip(fresh, ((0.7, 0.4), (0.98, 0.01), (0.1, 0.9)), strict=True)))
    review = open_page(serve(path, "anna", "--review"))
    assert review.ready() == fresh[1] and "model 98 %" in review.text("#labels")
    review.answer("Enter", values=(1, 0))  # agreed
    assert review.ready() == fresh[2]
    review.answer("1", "Enter", values=(1, 1))  # the model said no
    assert review.ready() == fresh[0]
    review.answer("x", kind="bad")
    assert review.ready() is None
    review.saved()
    with LabelStore(path) as store:
        assert told(store) == anna.typed + bert.typed + chief.typed + review.typed
        assert {event.arm for event in store.history(limit=3)} == {"review"}
    assert chief.complaints == review.complaints == []


def test_a_killed_server_costs_nothing_and_nothing_counts_twice(tmp_path: Path, serve: Any, open_page: Open) -> None:
    make_store(tmp_path, 20).close()
    path = tmp_path / "chest.db"
    server = serve(path, "anna")
    anna = open_page(server)
    anna.answer("1", "Enter", values=(1, 0))
    anna.saved()
    server.stop(signal.SIGKILL)
    for _ in range(3):  # on images that were ready
        anna.answer("2", "Enter", values=(0, 1))
    anna.until("document.getElementById('saved').textContent.includes('3 answers are kept')")
    server.start()
    anna.saved()
    assert anna.page.locator("#stage[aria-label=Image]").count() == 1

    answers = 0

    def lose(route: Any) -> None:  # the server has it on disk, and its answer is lost
        nonlocal answers
        answers += 1
        route.fetch()
        route.abort()

    anna.page.route("**/api/events", lose, times=2)
    anna.answer("n", "Enter", values=(0, 0))
    anna.saved()
    assert answers == 2

    server.stop(signal.SIGKILL)
    anna.answer("1", "2", "Enter", values=(1, 1))
    anna.until("document.getElementById('saved').textContent.includes('1 answer is kept')")
    context = anna.page.context
    anna.page.close()  # before anybody could acknowledge it
    server.start()
    later = Screen(context.new_page(), "anna").open(server.address)
    later.saved()
    server.stop()
    with LabelStore(path) as store:
        assert told(store) == anna.typed
    assert anna.complaints == later.complaints == []


def test_one_key_decides_and_neither_double_clicks_nor_held_keys_do_more(
    tmp_path: Path, serve: Any, open_page: Open
) -> None:
    make_store(tmp_path, 20).close()
    anna = open_page(serve(tmp_path / "chest.db", "anna", "--single-key"))
    for key, values in (("1", (1, 0)), ("2", (0, 1)), ("3", (0, 0)), ("4", (1, 1)), ("n", (0, 0))):
        anna.answer(key, values=values)
    image = anna.ready()
    anna.page.locator("[data-choice='3']").click()
    anna.until(f"document.body.dataset.image !== '{image}'")
    anna.typed.append(("label", image, {"effusion": 1, "cardiomegaly": 1}, "anna"))
    image = anna.ready()
    anna.page.mouse.down(click_count=2)  # the second half of a double click, when the next image is there already
    anna.page.mouse.up(click_count=2)
    anna.page.wait_for_timeout(300)
    assert anna.ready() == image
    anna.page.keyboard.down("1")
    anna.until(f"document.body.dataset.image !== '{image}'")
    anna.typed.append(("label", image, {"effusion": 1, "cardiomegaly": 0}, "anna"))
    image = anna.ready()
    anna.page.keyboard.down("1")  # held: it repeats
    anna.page.wait_for_timeout(300)
    assert anna.ready() == image
    anna.page.keyboard.up("1")
    anna.press("m")  # a key per label again
    anna.press("Enter")
    assert "Nothing is marked" in anna.text("#hint")
    image = anna.ready()
    anna.page.locator("[data-label='1']").click()
    anna.page.locator("[data-do=save]").dblclick()
    anna.typed.append(("label", image, {"effusion": 0, "cardiomegaly": 1}, "anna"))
    anna.until(f"document.body.dataset.image !== '{image}'")
    anna.ready()
    anna.saved()
    with LabelStore(tmp_path / "chest.db") as store:
        assert told(store) == anna.typed
    assert anna.complaints == []


def test_an_open_page_takes_up_a_label_that_is_added_and_loses_no_mark(tmp_path: Path, serve: Any, open_page: Open) -> None:
    with make_store(tmp_path, 6) as store:
        score(store, {number: (0.9, 0.1) for number in range(1, 7)})
        screen = open_page(serve(store.path, "anna"))
        screen.press("o")
        screen.until("!document.querySelector('#labels .opinion').hidden")
        held = {screen.answer("1", "Enter", values=(1, 0)): (1, 0)}
        screen.ready()
        screen.press("2")
        screen.saved()
        store.add_labels(["edema"])
        marked = screen.ready()
        with screen.page.expect_navigation():  # nothing of its page is looked at while it goes
            screen.press("Enter")
        assert marked is not None
        screen.typed.append(("label", marked, {"effusion": 0, "cardiomegaly": 1}, "anna"))
        held[marked], asked = (0, 1), screen.ready()  # an image that was answered may be asked for again
        assert screen.page.locator("#labels .label").count() == 3
        screen.labels = ("effusion", "cardiomegaly", "edema")
        screen.answer("3", "Enter", values=(*held.get(asked, (0, 0)), 1))
        screen.saved()
        assert told(store) == screen.typed
        assert [event.saw_model for event in reversed(store.history())][:2] == [True, False]
    assert not screen.complaints


def test_of_two_tabs_the_newer_one_goes_on(tmp_path: Path, serve: Any, open_page: Open) -> None:
    make_store(tmp_path, 10).close()
    server = serve(tmp_path / "chest.db", "anna")
    older = open_page(server)
    older.answer("1", "Enter", values=(1, 0))
    older.saved()
    newer = Screen(older.page.context.new_page(), "anna").open(server.address)
    older.until("document.body.dataset.state === 'left'")
    assert "another tab" in older.text("#notice")
    older.press("1", "Enter", "s", "x", "u")
    newer.answer("2", "Enter", values=(0, 1))
    newer.saved()
    with LabelStore(tmp_path / "chest.db") as store:
        assert told(store) == older.typed + newer.typed
    assert older.complaints == newer.complaints == []


def test_view_by_keys_and_mouse(tmp_path: Path, serve: Any, open_page: Open) -> None:
    from PIL import Image

    with make_store(tmp_path, 0) as store:
        for number, grey in enumerate((60, 61)):
            path = tmp_path / f"{number}.png"
            Image.fromarray(np.full((300, 200), grey, dtype=np.uint8)).save(path)
        add(store, [tmp_path / "0.png", tmp_path / "1.png"])
    anna = open_page(serve(tmp_path / "chest.db", "anna"))
    grey = anna.pixel()[0]
    assert grey in (60, 61) and anna.pixel()[3] == 255
    anna.press("i")
    assert anna.pixel()[:3] == (255 - grey,) * 3
    anna.press("r")
    assert anna.pixel()[0] == grey
    for _ in range(4):
        anna.press("Shift+ArrowUp")
    assert anna.pixel()[0] > grey + 30  # a lower level is brighter
    anna.press("r")
    for _ in range(4):
        anna.press("Shift+ArrowLeft")
    assert anna.pixel()[0] < grey  # a narrower window has more contrast: dark is darker
    anna.press("r")
    corner = MIDDLE % "pen.getImageData(5, c.height / 2, 1, 1).data[3]"
    assert anna.page.evaluate(corner) == 0  # beside the image
    box = anna.page.locator("canvas").bounding_box()
    anna.page.mouse.move(box["x"] + 500, box["y"] + 300)
    for _ in range(10):
        anna.page.mouse.wheel(0, -300)
    anna.until(f"{corner} === 255")
    anna.press("z")
    assert anna.page.evaluate(corner) == 0
    anna.page.mouse.down(button="right")
    anna.page.mouse.move(box["x"] + 500, box["y"] + 200)
    anna.page.mouse.up(button="right")
    assert anna.pixel()[0] > grey
    anna.press("c")
    anna.page.wait_for_selector(".beside canvas")
    assert anna.page.locator("canvas").count() == 2 and anna.text(".beside figcaption") in ("0.png", "1.png")
    anna.press("c")
    assert anna.page.locator("canvas").count() == 1
    assert anna.complaints == []


def test_a_missing_image_is_shown_as_missing_skipped_and_listed(tmp_path: Path, serve: Any, open_page: Open) -> None:
    with make_store(tmp_path, 3) as store:
        for number in (1, 2, 3):
            store.file(store.image(number)).unlink()
        add(store, [draw(tmp_path / "images" / "there.png", 77)], per_group=1)
    anna = open_page(serve(tmp_path / "chest.db", "anna"))
    seen = 0
    while anna.ready() is not None:
        if anna.page.evaluate("document.body.dataset.state") == "missing":
            seen += 1
            assert "This image is missing" in anna.text("#notice") and "is not where it was" in anna.text("#notice")
            anna.press("1", "Enter")  # nobody labels what is not seen
            anna.answer("s", kind="skip")
        else:
            anna.answer("1", "Enter", values=(1, 0))
    anna.saved()
    assert seen == 3 and anna.text("#missing-count") == "3 missing"
    anna.page.locator("#missing-count").focus()
    anna.press("Enter")
    assert anna.page.locator("#missing li").count() == 3 and "images/001.png" in anna.text("#missing")
    anna.press("Escape")
    with LabelStore(tmp_path / "chest.db") as store:
        assert told(store) == anna.typed and len(store.missing_images()) == 3


def test_names_do_nothing_but_stand_there(tmp_path: Path, serve: Any, open_page: Open) -> None:
    labels = ("<script>alert(1)</script>", '"><img src=x onerror=alert(2)>')
    with make_store(tmp_path, 2, labels=labels) as store, store.database.writing():
        store.database.run("UPDATE images SET group_name = '<img src=x onerror=alert(3)>'")
    anna = open_page(serve(tmp_path / "chest.db", "<b>anna</b>"))
    anna.labels = labels
    assert labels[0] in anna.text("#labels") and labels[1] in anna.text("#labels")
    assert "<img src=x onerror=alert(3)>" in anna.text("#caption") and anna.text(".by") == "<b>anna</b>"
    assert anna.page.locator("img").count() == 0 and anna.page.locator("#labels script").count() == 0
    anna.answer("1", "Enter", values=(1, 0))
    anna.saved()
    with LabelStore(tmp_path / "chest.db") as store:
        assert told(store) == anna.typed
    assert anna.complaints == []


@pytest.mark.parametrize(
    ("name", "width", "height", "scheme", "panel"),
    [
        ("light", 1280, 720, "light", "rgb(247, 246, 243)"),
        ("dark", 1280, 720, "dark", "rgb(20, 24, 28)"),
        ("tablet", 820, 1180, "light", "rgb(247, 246, 243)"),
        ("landscape", 1180, 820, "dark", "rgb(20, 24, 28)"),
    ],
)
def test_everything_is_within_reach(
    tmp_path: Path, serve: Any, open_page: Open, name: str, width: int, height: int, scheme: str, panel: str
) -> None:
    make_store(tmp_path, 6).close()
    settings = {"viewport": {"width": width, "height": height}, "color_scheme": scheme, "has_touch": "a" in name}
    anna = open_page(serve(tmp_path / "chest.db", "anna"), **settings)
    anna.page.screenshot(path=tmp_path / f"{name}.png")
    assert anna.page.evaluate("getComputedStyle(document.getElementById('panel')).backgroundColor") == panel
    assert anna.page.evaluate("getComputedStyle(document.getElementById('stage')).backgroundColor") == "rgb(10, 12, 14)"
    outside = anna.page.evaluate(
        "[...document.querySelectorAll('button')].filter((b) => b.offsetParent).filter((b) => { "
        "const {left, right, top, bottom} = b.getBoundingClientRect(); "
        "return left < 0 || top < 0 || right > innerWidth || bottom > innerHeight }).map((b) => b.innerText)"
    )
    assert outside == [] and anna.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    stage = anna.page.locator("#stage").bounding_box()
    assert stage["width"] * stage["height"] > 0.6 * width * height
    reached: list[str] = []
    for _ in range(25):  # by the keyboard alone
        anna.press("Tab")
        reached.append(anna.page.evaluate("document.activeElement.dataset.do || document.activeElement.dataset.label || ''"))
    assert {
        "0",
        "1",
        "save",
        "none",
        "unsure",
        "skip",
        "bad",
        "undo",
        "invert",
        "fit",
        "reset",
        "compare",
        "mode",
        "help",
    } <= set(reached)
    anna.press("h")
    assert anna.page.locator("#help").is_visible()
    anna.press("1", "Escape")
    assert not anna.page.locator("#help").is_visible()
    box = anna.page.locator("[data-label='0']")
    box.focus()
    anna.press("Space")
    assert box.get_attribute("aria-checked") == "true" and box.get_attribute("role") == "checkbox"
    if "a" in name:
        anna.page.locator("[data-do=save]").tap()
        anna.until("document.getElementById('progress').textContent.startsWith('1 of 6')")
    assert anna.complaints == []
