"""The picture of the labelling page in the documentation: python -m tests.support.label_picture

Images of the phantom, a few answers, and headless Chromium.
"""

import io
import signal
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from tests.support.label_pages import add
from tests.support.label_screen import CHROMIUM, Screen, Server
from tests.support.paths import ROOT
from tune_btxrd.data.phantom.folder import PhantomSpec, make_phantom
from tune_btxrd.labels.records import Act
from tune_btxrd.labels.store import LabelStore

TARGET = ROOT / "docs" / "images" / "labelling.png"
LABELS = ("tumour", "cortical break", "periosteal reaction", "implant")


def make_store(folder: Path) -> Path:
    """A store of phantom images of which a quarter is labelled."""
    make_phantom(folder / "phantom", PhantomSpec(count=48, size=900))
    with LabelStore.create(folder / "bones.db", LABELS, holdout_share=0.0, double_share=0.1, salt="picture") as store:
        numbers = add(store, sorted((folder / "phantom" / "images").iterdir()), per_group=3)
        for number in numbers[:12]:
            answers = {"tumour": number % 2, "cortical break": 0, "periosteal reaction": 0, "implant": 0}
            who, client = "anna", f"{number:032x}"
            store.record(
                Act(kind="label", image=number, annotator=who, client=client, arm="random", answers=answers, seconds=7.0)
            )
        return store.path


def take(store: Path) -> bytes:
    """A PNG of the page with one label marked."""
    server = Server(store, "anna")
    try:
        address = server.start()
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page(viewport={"width": 1280, "height": 720}, color_scheme="dark")
            screen = Screen(page, "anna").open(address)
            screen.press("1", "3", "3")
            screen.saved()
            return bytes(page.screenshot())
    finally:
        server.stop(signal.SIGTERM)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        picture = Image.open(io.BytesIO(take(make_store(Path(made)))))
    picture.convert("RGB").quantize(160).save(TARGET, optimize=True)
    print(TARGET, TARGET.stat().st_size)
