"""Who may talk to the page, what it never hands out, and that names from a store are text."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from aiohttp import ClientSession, CookieJar
from PIL import Image

from tests.support.label_pages import LABELS, TOKEN, Visitor, draw, make_store, saying, visit
from tests.support.paths import ROOT
from tune_btxrd.cli.main import main
from tune_btxrd.data.cache.decode import decode_image
from tune_btxrd.errors import ConfigError
from tune_btxrd.labels.page.guard import make_token
from tune_btxrd.labels.page.pictures import picture
from tune_btxrd.labels.page.serve import listen
from tune_btxrd.labels.store import LabelStore

ADDRESSES = ("/", "/static/page.js", "/api/next", "/api/others/1", "/api/opinion/1", "/image/1", "/nothing")
SCRIPT = "<script>alert(1)</script>"


def test_nothing_is_answered_without_the_token(tmp_path: Path) -> None:
    with make_store(tmp_path, 2) as store:

        async def steps(page: Visitor) -> None:
            for wrong in (
                {},
                {"X-Token": ""},
                {"X-Token": TOKEN[:-1]},
                {"X-Token": "é" * 32},
                {"Cookie": f"label_x={TOKEN}"},
            ):
                for address in ADDRESSES:
                    answer = await page.client.get(address, headers=wrong)
                    assert answer.status == 403, (address, wrong)
                    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
                assert (await page.client.post("/api/events", json=saying(1), headers=wrong)).status == 403
            assert (await page.client.get("/?token=forged")).status == 403
            assert (await page.client.get(f"/image/1?token={TOKEN}")).status == 403  # by the page's own address alone

        visit(store, steps, with_token=False)
        assert store.last_event == 0


def test_the_address_becomes_a_cookie_that_no_script_reads(tmp_path: Path) -> None:
    with make_store(tmp_path, 2) as store:

        async def steps(page: Visitor) -> None:
            first = await page.client.get(f"/?token={TOKEN}", allow_redirects=False)
            assert first.status == 303 and first.headers["Location"] == "./" and TOKEN not in await first.text()
            cookie = first.headers["Set-Cookie"]
            assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and "Max-Age" not in cookie
            async with ClientSession(cookie_jar=CookieJar(unsafe=True)) as browser:  # unsafe: cookies for an IP address
                async with browser.get(page.client.make_url(f"/?token={TOKEN}")) as opened:
                    assert opened.status == 200 and "token" not in str(opened.url)
                async with browser.get(page.client.make_url("/image/1")) as shown:
                    assert shown.status == 200 and shown.headers["Cache-Control"] == "no-store"

        visit(store, steps, with_token=False)


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "[::2]", "", "a:b:c", "[x"]
)
def test_another_name_for_this_computer_is_refused(tmp_path: Path, host: str) -> None:
    with make_store(tmp_path, 2) as store:

        async def steps(page: Visitor) -> None:
            assert (await page.client.get("/image/1", headers={"Host": host})).status in (400, 403)
            assert (await page.client.get(f"/?token={TOKEN}", headers={"Host": host})).status in (400, 403)
            for own in ("localhost:9", "127.0.0.1:9999", "LOCALHOST"):  # an SSH tunnel has another port
                assert (await page.client.get("/image/1", headers={"Host": own})).status == 200

        visit(store, steps)


def test_another_page_may_not_send_answers(tmp_path: Path) -> None:
    with make_store(tmp_path, 2) as store:

        async def steps(page: Visitor) -> None:
            own = f"http://{page.client.host}:{page.client.port}"
            for origin in ("https://evil.example", "null", f"http://{page.client.host}:1"):
                assert (await page.client.post("/api/events", json=saying(1), headers={"Origin": origin})).status == 403
            assert (await page.client.post("/api/events", json=saying(1), headers={"Origin": own})).status == 200

        visit(store, steps)
        assert store.last_event == 1


@pytest.mark.parametrize(
    "address",
    [
        "/image/../../etc/passwd",
        "/image/..%2f..%2fetc%2fpasswd",
        "/image/0",
        "/image/-1",
        "/image/1%00",
        "/image/1/..",
        "/image/99999999999999999999",
        "/image/999",
        "/image/images/000.png",
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/app.py",
        "/static/%2fetc%2fpasswd",
        "/chest.db",
    ],
)
def test_nothing_but_images_by_number_and_five_files(tmp_path: Path, address: str) -> None:
    from yarl import URL

    with make_store(tmp_path, 2) as store:

        async def steps(page: Visitor) -> None:
            url = URL(f"http://{page.client.host}:{page.client.port}{address}", encoded=True)
            async with ClientSession(headers={"X-Token": TOKEN}) as browser, browser.get(url) as answer:
                assert answer.status in (400, 404), address
                assert b"root:" not in await answer.read()

        visit(store, steps)


def test_a_store_that_names_a_foreign_file_shows_nothing_of_it(tmp_path: Path) -> None:
    with make_store(tmp_path / "shared", 3) as store:
        secret = draw(tmp_path / "secret.png", 99)
        with store.database.writing():
            store.database.run("UPDATE images SET path = '../secret.png' WHERE image = 1")
            store.database.run("UPDATE images SET path = ? WHERE image = 2", (str(secret),))
            store.database.run("UPDATE images SET path = '/etc/passwd' WHERE image = 3")

        async def steps(page: Visitor) -> None:
            for number in (1, 2, 3):
                answer = await page.client.get(f"/image/{number}")
                assert answer.status == 422 and "root:" not in await answer.text()

        visit(store, steps)


class Scripts(HTMLParser):
    """Where scripts come from, and the text of the data block."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str | None] = []
        self.kinds: list[str | None] = []
        self.tags: set[str] = set()
        self.data = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "script":
            self.sources.append(dict(attrs).get("src"))
            self.kinds.append(dict(attrs).get("type"))

    def handle_data(self, data: str) -> None:
        if self.kinds == ["application/json"] and not self.data:
            self.data = data


def test_names_are_text(tmp_path: Path) -> None:
    labels = (SCRIPT, '"><img src=x onerror=alert(1)>', "it's & {{ 7*7 }} 🫀")
    with make_store(tmp_path / "<b>odd", 2, labels=labels, name="<b>store.db") as store:
        with store.database.writing():
            store.database.run("UPDATE images SET path = ? WHERE image = 1", (f"images/{SCRIPT}\n.png",))

        async def steps(page: Visitor) -> None:
            answer = await page.client.get("/")
            found = Scripts()
            found.feed(text := await answer.text())
            assert found.sources == [None, "static/page.js"] and found.kinds == ["application/json", "module"]
            setup = json.loads(found.data)
            assert tuple(setup["labels"]) == labels and setup["store"] == "<b>store" and setup["annotator"] == SCRIPT
            assert not found.tags & {"b", "img"} and "alert(1)>" not in text and "{{ 7*7 }}" in text
            items = (await page.get("/api/next?count=4"))["items"]
            assert f"images/{SCRIPT}□.png" in [item["name"] for item in items]

        visit(store, steps, annotator=SCRIPT)


def test_the_page_asks_no_other_computer_for_anything() -> None:
    page = ROOT / "tune_btxrd" / "labels" / "page"
    for path in (*page.glob("*.html"), *page.glob("*.js"), *page.glob("*.css")):
        assert not re.search(r"https?://|//[a-z]+\.|@import|url\(", path.read_text(encoding="utf-8")), path.name
    for path in page.glob("*.js"):
        assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\b", path.read_text(encoding="utf-8")), (
            path.name
        )


def test_a_token_is_the_same_after_a_restart_and_no_other_sitting_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    token = make_token("/a/chest.db", "anna", "label")
    assert token == make_token("/a/chest.db", "anna", "label") and len(token) == 32
    others = {
        make_token(*words)
        for words in (("/a/chest.db", "anna", "holdout"), ("/a/chest.db", "bert", "label"), ("/b", "anna", "label"))
    }
    assert len(others) == 3 and token not in others
    (key,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert key.stat().st_mode & 0o777 == 0o600 and key.stat().st_size == 32
    key.unlink()
    assert make_token("/a/chest.db", "anna", "label") != token


def test_a_port_that_is_taken_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"free port, but {port} is taken: give another one with --port"):
            listen(port)
    for wrong in (-1, 65_536):
        with pytest.raises(ConfigError, match="0 <= port <= 65535"):
            listen(wrong)
    with listen(None) as first, listen(None) as second:
        assert first.getsockname()[0] == "127.0.0.1" and first.getsockname() != second.getsockname()


def test_a_picture_is_what_a_model_sees_upright_and_never_enlarged(tmp_path: Path) -> None:
    import hashlib
    import io

    def shown(path: Path, longest: int = 2048) -> np.ndarray:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        return np.asarray(Image.open(io.BytesIO(picture(path, sha256=sha256, longest=longest))))

    rng = np.random.default_rng(0)
    wide = tmp_path / "wide.png"
    Image.fromarray(rng.integers(0, 256, (31, 57), dtype=np.uint8)).save(wide)
    assert np.array_equal(shown(wide), np.asarray(Image.open(wide)))
    assert shown(wide, longest=20).shape == (11, 20)
    deep = tmp_path / "deep.png"
    Image.fromarray((rng.integers(1000, 5000, (40, 24))).astype(np.uint16)).save(deep)
    assert np.array_equal(shown(deep), decode_image(deep, 40)[:, 8:32]) and shown(deep).max() == 255
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(rng.integers(0, 256, (32, 64), dtype=np.uint8)).save(turned, exif=exif)
    assert shown(turned).shape == (64, 32)
    colour = tmp_path / "colour.png"
    Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(colour)
    assert np.array_equal(shown(colour), np.asarray(Image.open(colour)))


@pytest.fixture
def started(tmp_path: Path):
    """`label` as a process of its own; its first address."""
    make_store(tmp_path, 6).close()
    running: list[subprocess.Popen[str]] = []

    def start(*words: str) -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, "-m", "tune_btxrd", "label", str(tmp_path / "chest.db"), "--annotator", "anna b", *words]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(tmp_path / "state")}
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment))
        for line in running[-1].stdout:
            if line.startswith("http://127.0.0.1:"):
                return running[-1], line.strip()
        raise AssertionError(running[-1].stderr.read())

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_ends_with_a_line_that_tells_how_to_go_on(started, tmp_path: Path, sign: signal.Signals, code: int) -> None:
    process, address = started("--port", "0")

    async def answer() -> None:
        async with ClientSession(cookie_jar=CookieJar(unsafe=True)) as browser:
            async with browser.get(address) as opened:
                assert opened.status == 200
            root = str(opened.url).rstrip("/")
            async with browser.get(f"{root}/api/next?count=4") as found:
                (first, *_) = (await found.json())["items"]
            async with browser.post(f"{root}/api/events", json=saying(first["image"])) as taken:
                assert taken.status == 200

    asyncio.run(answer())
    process.send_signal(sign)
    out, err = process.communicate(timeout=30)
    assert process.returncode == code, err
    assert (
        out.strip()
        .splitlines()[-1]
        .endswith("Go on: python -m tune_btxrd label " + f"{tmp_path / 'chest.db'} --annotator 'anna b'")
    )
    assert err == ""
    with LabelStore(tmp_path / "chest.db") as store:
        assert store.last_event == 1
        assert len(store.next_images("bert", count=20)) == 5  # anna's leases were given back


def test_a_busy_port_a_review_without_a_model_and_a_key_of_nobody_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    make_store(tmp_path, 2).close()
    make_store(tmp_path, 2, labels=("a", "b", "c", "d"), name="four.db").close()
    path = str(tmp_path / "chest.db")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for words, found in (
            ([path, "--port", str(taken.getsockname()[1])], "--port"),
            ([path, "--review"], "labels score"),
            ([path, "--key", "nobody=q"], "nobody"),
            ([path, "--key", "effusion"], "LABEL=K"),
            ([path, "--key", "effusion=s"], "key"),
            ([str(tmp_path / "four.db"), "--single-key"], "at most 3"),
            ([str(tmp_path / "none.db")], "labels init"),
            ([path, "--annotator", ""], "annotator"),
            ([path, "--holdout", "--review"], "not allowed"),
        ):
            assert main(["label", *words]) == 2
            lines = capsys.readouterr().err.splitlines()
            assert len(lines) == 1 and found in lines[0], (words, lines)


def test_keys_are_kept_in_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tune_btxrd.cli import label as verb

    store = make_store(tmp_path, 2, labels=(*LABELS, "a=b"))
    store.close()
    seen = []
    monkeypatch.setattr(verb, "serve", lambda sitting, **named: seen.append(sitting.setup().keys))
    assert main(["label", str(store.path), "--key", "effusion=e", "--key", "a=b=r", "--annotator", "anna"]) == 0
    assert main(["label", str(store.path), "--annotator", "anna"]) == 0
    assert seen == [("e", "2", "r")] * 2
