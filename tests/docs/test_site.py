"""The documentation site: it builds without a warning, and no page loads anything from another host."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.support.paths import ROOT

ELSEWHERE = re.compile(r"^(?:[a-z]+:)?//", re.IGNORECASE)  # https://..., and //host/... which follows the page's own scheme
LOADED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src"}
NOT_LOADED = {"canonical", "next", "prev", "alternate"}  # kinds of <link> that a browser only notes


class Assets(HTMLParser):
    """What a page makes a browser load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        noted = tag == "link" and values.get("rel") in NOT_LOADED
        if tag in LOADED and not noted and (address := values.get(LOADED[tag])):
            self.found.append(address)


def assets(page: str) -> list[str]:
    parser = Assets()
    parser.feed(page)
    return parser.found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 10
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert len(assets(text)) > 2, page.name
        assert not [address for address in assets(text) if ELSEWHERE.match(address)], page.name
        assert '<meta http-equiv="Content-Security-Policy" content="default-src \'self\' file: data:' in text, page.name


def test_no_style_sheet_does_either(site: Path) -> None:
    sheets = sorted(site.rglob("*.css"))
    assert sheets
    for sheet in sheets:
        addresses = re.findall(r"(?:url\(|@import\s+)[\"']?([^\"')]+)", sheet.read_text(encoding="utf-8"))
        assert not [address for address in addresses if ELSEWHERE.match(address)], sheet.name


def test_every_page_is_in_the_menu_and_every_picture_is_shown(site: Path) -> None:
    home = (site / "index.html").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert f'href="{page.stem}.html"' in home or page.stem == "index", page.name
    shown = "".join(page.read_text(encoding="utf-8") for page in [*(ROOT / "docs").glob("*.md"), ROOT / "README.md"])
    for picture in (ROOT / "docs" / "images").iterdir():
        assert picture.name in shown, f"{picture.name} is on no page"


@pytest.mark.parametrize(
    "page",
    [
        '<script src="https://unpkg.com/x.js"></script>',
        '<link rel="stylesheet" href="//fonts.example/css">',
        '<img src="HTTP://example.org/a.png">',
    ],
)
def test_the_check_finds_what_it_looks_for(page: str) -> None:
    assert any(ELSEWHERE.match(address) for address in assets(page))
