"""The report in a real browser: headless Chromium, driven by Playwright (skipped with a reason where one is absent)."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.reports import HOSTILE, StubSearch, make_checkpoints, make_search, make_settings
from tune_btxrd.report.page import write_report

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need `pip install playwright`")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="the browser tests need Chromium: apt-get install chromium"),
]
OPEN_SECONDS = 2.0  # until the words and tables stand there


@dataclass
class Opened:
    """A page, with all that it complained of and asked for."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def show(self, path: Path) -> "Opened":
        self.page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-ready=live]", state="attached")
        return self

    def draw_all(self) -> "Opened":
        for figure in self.page.query_selector_all("figure[data-chart]"):
            figure.scroll_into_view_if_needed()
            self.page.wait_for_selector(f"#{figure.get_attribute('id')}.drawn")
        return self

    def points(self, figure: str) -> int:
        """Points of trials drawn in a picture."""
        return self.page.locator(f"#figure-{figure} .points path").count()

    def require_quiet(self, path: Path) -> None:
        assert self.complaints == []
        assert [url for url in self.requests if not url.startswith(("data:", "blob:"))] == [path.as_uri()]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Opened]:
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    context.set_default_timeout(60_000)
    yield Opened(context.new_page())
    context.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    folder = make_search(tmp_path_factory.mktemp("browser") / "stub")
    make_checkpoints(folder.parent / "checkpoints" / "stub")
    return write_report(folder)


@pytest.fixture(scope="module")
def large_report(tmp_path_factory) -> Path:
    return write_report(make_search(tmp_path_factory.mktemp("browser") / "stub", trials=500))


def test_a_large_report_opens_draws_and_stays_quiet(opened: Opened, large_report: Path) -> None:
    opened.show(large_report)
    seconds = opened.page.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd / 1000")
    opened.draw_all()
    assert opened.points("history") > 480
    assert seconds < OPEN_SECONDS
    opened.require_quiet(large_report)


def test_the_filter_hides_a_state_everywhere(opened: Opened, report: Path) -> None:
    opened.show(report).draw_all()
    before, rows = opened.points("history"), opened.page.locator("#table-trials tbody tr:visible")
    cut = opened.page.locator("#table-trials tr[data-state=pruned]").count()
    shown = rows.count()
    opened.page.locator("input[name=state][value=pruned]").uncheck()
    opened.page.wait_for_timeout(500)
    assert rows.count() == shown - cut
    assert opened.points("history") == before - cut
    opened.page.locator("input[name=state][value=pruned]").check()
    opened.page.wait_for_timeout(500)
    assert opened.points("history") == before
    opened.require_quiet(report)


def test_a_trial_opens_from_the_table_by_keyboard_and_closes_by_escape(opened: Opened, report: Path) -> None:
    opened.show(report)
    opened.page.locator("#table-trials button").first.focus()
    opened.page.keyboard.press("Enter")
    dialog = opened.page.locator("dialog")
    assert "Trial 0" in dialog.inner_text()
    assert "python -m tune_btxrd trial stub 0" in dialog.inner_text()
    opened.page.wait_for_selector("dialog .js-plotly-plot .points path")
    opened.page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert opened.page.evaluate("document.activeElement.dataset.open") == "0"
    opened.require_quiet(report)


def test_a_trial_opens_from_its_point_in_a_picture(opened: Opened, report: Path) -> None:
    opened.show(report).draw_all()
    opened.page.locator("#figure-confirmation").scroll_into_view_if_needed()
    box = opened.page.locator("#figure-confirmation .points path").first.bounding_box()
    opened.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    opened.page.wait_for_timeout(300)
    opened.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    opened.page.wait_for_selector("dialog[open]")
    assert opened.page.locator("#trial-title").inner_text().startswith("Trial ")
    opened.require_quiet(report)


def test_a_killed_search_with_hostile_names_runs_nothing(opened: Opened, tmp_path: Path) -> None:
    folder = tmp_path / "stub"
    classes = ("Normal", HOSTILE, "<img src=x onerror=alert(1)>")
    stub = StubSearch(folder, make_settings(folder, classes=classes, name="<b><img src=x onerror=alert(2)>")).search(24)
    stub.write(lines=len(stub.lines) * 4 // 5, half='{"event": "ep')
    alerts: list[str] = []
    opened.page.on("dialog", lambda dialog: (alerts.append(dialog.message), dialog.dismiss()))
    page = write_report(folder)
    opened.show(page).draw_all()
    opened.page.locator("#table-trials tr[data-state=failed] button").click()  # its reason is a script
    assert HOSTILE in opened.page.locator("dialog").inner_text()
    opened.page.wait_for_timeout(500)
    assert alerts == []
    assert opened.page.title().startswith("<b><img src=x onerror=alert(2)>")
    opened.require_quiet(page)


def test_dark_colours_and_print(browser: Any, report: Path, tmp_path: Path) -> None:
    context = browser.new_context(color_scheme="dark")
    opened = Opened(context.new_page()).show(report).draw_all()
    ink = "getComputedStyle(document.body).color"
    assert opened.page.evaluate(ink) == "rgb(230, 232, 234)"
    assert "rgb(230, 232, 234)" in opened.page.locator("#figure-history .xtick text").first.get_attribute("style")
    opened.page.emulate_media(media="print")
    assert opened.page.evaluate(ink) == "rgb(0, 0, 0)"
    assert opened.page.locator("#figure-history .still").is_visible()
    assert not opened.page.locator("#figure-history .chart").is_visible()
    opened.page.pdf(path=tmp_path / "print.pdf", format="A4")
    assert (tmp_path / "print.pdf").read_bytes().startswith(b"%PDF")
    opened.require_quiet(report)
    context.close()


def test_without_javascript_words_tables_and_pictures_stand(browser: Any, report: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert "Winner: trial" in page.locator("#result").inner_text()
    assert page.locator("#table-trials tbody tr").count() == 33
    assert page.locator("#figure-history .still").is_visible()
    assert not page.locator(".filter").is_visible()
    context.close()
