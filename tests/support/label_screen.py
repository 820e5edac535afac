"""The labelling page in a real browser, driven by keys, and its server as a process that can be killed and started again."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.paths import ROOT

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
PATIENCE = 2000  # looks at the page, 10 ms apart
MIDDLE = "(() => { const c = document.querySelector('canvas'); const pen = c.getContext('2d'); return %s })()"
Typed = tuple[str, int, dict[str, int | None], str]  # kind, image, answers, annotator: as `label_pages.told` gives it


@dataclass
class Server:
    """Verb `label` as a process, always at the same port."""

    store: Path
    annotator: str
    words: Sequence[str] = ()
    port: int = 0
    address: str = ""
    process: "subprocess.Popen[str] | None" = None

    def start(self) -> str:
        """Starts it, also again; returns the address that it prints."""
        self.port = self.port or free_port()
        command = [sys.executable, "-m", "tune_btxrd", "label", str(self.store), "--annotator", self.annotator, *self.words]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(self.store.parent / "state")}
        self.process = subprocess.Popen(
            [*command, "--port", str(self.port)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        assert self.process.stdout is not None and self.process.stderr is not None
        for line in self.process.stdout:
            if line.startswith("http://"):
                self.address = line.strip()
                return self.address
        raise AssertionError(self.process.stderr.read())

    def stop(self, sign: signal.Signals = signal.SIGTERM) -> None:
        """Ends it; SIGKILL is a power cut."""
        if self.process is not None:
            self.process.send_signal(sign)
            self.process.communicate(timeout=30)
            self.process = None


@dataclass
class Screen:
    """A page with all that it complained of, and what was typed on it, as events."""

    page: Any
    annotator: str
    typed: list[Typed] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    labels: Sequence[str] = ("effusion", "cardiomegaly")

    def open(self, address: str) -> "Screen":
        """Opens the page and waits for its first image."""
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: self.complaints.append(message.text) if _is_complaint(message) else None)
        self.page.goto(address)
        self.ready()
        return self

    def ready(self, image: int | None = None) -> int | None:
        """Waits until an image can be decided on, or the end has come (None); `image`: until it is this one."""
        wanted = "true" if image is None else f"document.body.dataset.image === '{image}'"
        self.until(
            f"{wanted} && (document.body.dataset.ready === 'end' ? document.body.dataset.image === '' "
            ": document.body.dataset.ready === document.body.dataset.image) && document.body.dataset.state !== 'loading'"
        )
        shown = self.page.evaluate("document.body.dataset.image")
        return int(shown) if shown else None

    def until(self, expression: str) -> None:
        """Waits until JavaScript's answer is true; Playwright's waiting needs `eval`, which the page forbids."""
        for _ in range(PATIENCE):
            if self.page.evaluate(expression):
                return
            self.page.wait_for_timeout(10)
        raise AssertionError(f"never true: {expression}")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def answer(self, *keys: str, kind: str = "label", values: Sequence[int | None] = ()) -> int:
        """Types keys that decide on the image, notes what they mean, and waits for the next one."""
        image = self.ready()
        assert image is not None
        self.press(*keys)
        self.until(f"document.body.dataset.image !== '{image}'")
        self.typed.append((kind, image, self._answers(kind, values), self.annotator))
        return image

    def undo(self, image: int) -> None:
        """Types an undo that must show this image."""
        self.press("u")
        self.typed.append(("undo", image, {}, self.annotator))
        self.ready(image)

    def saved(self) -> None:
        """Waits until the server has acknowledged everything."""
        self.until("document.getElementById('saved').textContent === 'Saved'")

    def text(self, selector: str) -> str:
        return str(self.page.locator(selector).inner_text())

    def pixel(self) -> tuple[int, ...]:
        """Colour in the middle of the canvas."""
        return tuple(self.page.evaluate(MIDDLE % "[...pen.getImageData(c.width / 2, c.height / 2, 1, 1).data]"))

    def _answers(self, kind: str, values: Sequence[int | None]) -> dict[str, int | None]:
        named: Mapping[str, int | None] = dict(zip(self.labels, values, strict=True)) if values else {}
        return dict.fromkeys(self.labels) if kind in ("unsure", "bad") else dict(named)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as place:
        return int(place.getsockname()[1])


def _is_complaint(message: Any) -> bool:
    """Errors of the console, without the browser's own line on an answer that did not come or was no success."""
    return message.type == "error" and "Failed to load resource" not in message.text
