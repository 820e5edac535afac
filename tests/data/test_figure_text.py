"""Text in pictures: names from outside are drawn as they are, whatever matplotlib, Pillow or a font make of their signs."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image, ImageFont

from tests.support.hostile import EVERYTHING, FILE_STEMS
from tune_btxrd.data.audit.audit import audit
from tune_btxrd.data.figure_text import MISSING, figure_text, one_line
from tune_btxrd.data.request import DataRequest
from tune_btxrd.data.sheets import CAPTION_SIZE, THUMBNAIL, shortened
from tune_btxrd.inference.overlays import Tile, draw_sheet
from tune_btxrd.pipeline.prepare import prepare, write_prepared


def drawn_as(text: str) -> str:
    """What matplotlib draws of a text; an error where it would read it as a formula."""
    artist = Figure().text(0, 0, text)
    shown, is_formula = artist._preprocess_math(text)
    assert is_formula is False, text
    return str(shown)


@pytest.mark.parametrize("name", EVERYTHING, ids=ascii)
def test_matplotlib_draws_the_name_and_reads_no_formula(name: str) -> None:
    shown = drawn_as(figure_text(name, longest=500)).removeprefix(" ")
    assert len(shown) == len(name)
    assert all(after in (before, MISSING) for before, after in zip(name, shown, strict=True))
    if name.isascii() and name.isprintable():
        assert shown == name


def test_beginning_and_end_of_a_long_name_are_left() -> None:
    assert figure_text("a" * 150 + "b" * 50, longest=20) == "a" * 13 + "…" + "b" * 6


def test_a_legend_keeps_names_that_begin_with_an_underscore() -> None:
    axis = Figure().subplots()
    axis.plot([0, 1], label=figure_text("_a"))
    assert axis.get_legend_handles_labels()[1] == [" _a"]


@pytest.mark.parametrize("name", EVERYTHING, ids=ascii)
def test_captions_of_contact_sheets_are_one_line_within_their_image(name: str) -> None:
    shown = shortened(name, size=CAPTION_SIZE, width=THUMBNAIL)
    assert one_line(shown) == shown and "\n" not in shown
    assert ImageFont.load_default(CAPTION_SIZE).getlength(shown) <= THUMBNAIL


def test_sheets_of_overlays_with_hostile_names(tmp_path: Path) -> None:
    picture = np.zeros((8, 8), dtype=np.uint8)
    tiles = [Tile(image=picture, heat=picture / 255.0, caption=(name, f"{name} 0.97")) for name in EVERYTHING]
    rows = [(name, [tile]) for name, tile in zip(EVERYTHING, tiles, strict=True)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "constrained_layout not applied")  # 28 rows are more than a sheet ever has
        draw_sheet(rows, tmp_path / "sheet.png", title="".join(EVERYTHING), columns=1)
    assert (tmp_path / "sheet.png").stat().st_size > 1000


def test_prepare_and_audit_take_hostile_names_of_files_and_classes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for label in ("$a$$b", "[x] {0} %s ?#"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for stem in FILE_STEMS:
            Image.fromarray(rng.integers(0, 255, (24, 24), dtype=np.uint8)).save(tmp_path / "data" / label / f"{stem}.png")
    prepared = prepare(DataRequest(data=tmp_path / "data", cache=tmp_path / "cache"), image_size=24)
    assert len(prepared.manifest) == 2 * len(FILE_STEMS)
    write_prepared(prepared, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out" / "figures").iterdir()} == {"images.png", "augmentation.png"}
    assert audit(prepared.manifest, pairs=[]).to_dict()["class_counts"] == {
        "$a$$b": len(FILE_STEMS),
        "[x] {0} %s ?#": len(FILE_STEMS),
    }
