"""Contact sheets: the right images in the right blocks, any dataset, whole files."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tune_btxrd.data import sheets
from tune_btxrd.data.cache.cache import ImageCache
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.sheets import (
    BLOCK_HEIGHT,
    CAPTION_SIZE,
    GAP,
    HEADING_LINE,
    MARGIN,
    THUMBNAIL,
    TITLE_LINE,
    contact_sheet,
    draw_sheet,
    shortened,
)
from tune_btxrd.errors import ResultError


def dataset(targets: list[int], *, centers: list[str] | None, colour: bool = False) -> tuple[ImageCache, Manifest]:
    """Image i is flat grey 10 + i; the table misses one age."""
    n = len(targets)
    ids = tuple(f"{row}-{'very-long-name' * 8 if row == 0 else 'x'}" for row in range(n))
    images = np.stack([np.full((32, 32), 10 + row, dtype=np.uint8) for row in range(n)])
    cache = ImageCache(Path("cache"), ids, np.repeat(images[..., None], 3, axis=-1) if colour else images)
    manifest = Manifest(
        dataset="small",
        root=Path("small"),
        image_ids=ids,
        files=(None,) * n,
        targets=np.array(targets, dtype=np.int64),
        class_names=("Normal", "Benign"),
        positive_class=1,
        centers=None if centers is None else tuple(centers),
        groups=None,
        table=pd.DataFrame({"age": [np.nan, *range(1, n)], "gender": ["F"] * n}),
        annotations=(None,) * n,
    )
    return cache, manifest


def grey_at(page: Image.Image, *, row: int, column: int, place: int, per_block: int = 3) -> int:
    """The red value in the middle of a thumbnail."""
    x = MARGIN + column * (per_block * (THUMBNAIL + GAP) - GAP + MARGIN) + place * (THUMBNAIL + GAP) + THUMBNAIL // 2
    pixel = page.getpixel((x, MARGIN + TITLE_LINE + row * BLOCK_HEIGHT + HEADING_LINE + THUMBNAIL // 2))
    assert isinstance(pixel, tuple)
    return int(pixel[0])


@pytest.mark.parametrize("colour", [False, True])
def test_images_stand_in_the_block_of_their_class_and_center(colour):
    cache, manifest = dataset([0, 0, 0, 0, 0, 1, 1], centers=["a", "a", "a", "a", "a", "a", "b"], colour=colour)
    page = draw_sheet(cache, manifest)
    assert [grey_at(page, row=0, column=0, place=place) for place in range(3)] == [10, 12, 14]  # evenly spread
    assert [grey_at(page, row=0, column=1, place=place) for place in range(3)] == [242, 242, 242]  # an empty block
    assert [grey_at(page, row=1, column=0, place=place) for place in range(3)] == [15, 242, 242]
    assert grey_at(page, row=1, column=1, place=0) == 16


def test_only_the_given_ids_are_shown():
    cache, manifest = dataset([0, 0, 1, 1], centers=None)
    page = draw_sheet(cache, manifest, ids=[manifest.image_ids[1], manifest.image_ids[2]], per_block=1)
    assert [grey_at(page, row=row, column=0, place=0, per_block=1) for row in (0, 1)] == [11, 12]
    assert page.width == 2 * MARGIN + THUMBNAIL


def test_many_centers_show_the_largest_four():
    cache, manifest = dataset([0] * 12, centers=["a", *"bbccddee", "f", "e", "e"])
    page = draw_sheet(cache, manifest, per_block=1)
    assert page.width == MARGIN + 4 * (THUMBNAIL + MARGIN)
    assert [grey_at(page, row=0, column=column, place=0, per_block=1) for column in range(4)] == [11, 13, 15, 17]


def test_the_title_says_which_part_is_shown(monkeypatch):
    cache, manifest = dataset([0, 1], centers=None)
    texts = []
    monkeypatch.setattr(sheets, "write_line", lambda page, at, text, **look: texts.append(text))
    draw_sheet(cache, manifest, part="train of stratified")
    assert texts[0] == "small, train of stratified: images by class"


def test_long_text_is_shortened():
    assert shortened("IMG000001.jpeg", size=CAPTION_SIZE, width=THUMBNAIL) == "IMG000001.jpeg"
    long = shortened("IMG000001" * 9, size=CAPTION_SIZE, width=THUMBNAIL)
    assert long.endswith("...") and 12 < len(long) < 40


def test_the_file_is_whole_or_not_there(tmp_path):
    cache, manifest = dataset([0, 1], centers=None)
    contact_sheet(cache, manifest, tmp_path / "figures" / "images.png")
    with Image.open(tmp_path / "figures" / "images.png") as page:
        page.load()
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["images.png"]
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(ResultError, match="must be writable"):
        contact_sheet(cache, manifest, tmp_path / "taken" / "images.png")
