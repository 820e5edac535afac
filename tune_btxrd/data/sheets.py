"""Contact sheets: a few decoded images per class and center on one page, as the model sees them."""

import io
from collections.abc import Collection
from numbers import Real
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from tune_btxrd.data.cache.cache import ImageCache
from tune_btxrd.data.figure_text import one_line
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.files import write_whole

THUMBNAIL = 168  # px
GAP, MARGIN = 8, 28  # px between images; around the page and between the blocks
TITLE_LINE, HEADING_LINE, CAPTION_LINE = 46, 26, 18  # px per line of text
TITLE_SIZE, HEADING_SIZE, CAPTION_SIZE = 20, 15, 12  # font sizes, px
PAPER, INK, FAINT, EMPTY = "#ffffff", "#1f2933", "#66707a", "#f2f4f6"
MOST_CENTERS = 4  # columns; the centers with the most images
BLOCK_HEIGHT = HEADING_LINE + THUMBNAIL + 2 * CAPTION_LINE + MARGIN


def contact_sheet(
    cache: ImageCache,
    manifest: Manifest,
    path: Path,
    *,
    ids: Collection[str] | None = None,
    part: str = "",
    per_block: int = 3,
) -> None:
    """Writes a PNG with a block of images per class (rows) and center (columns), whole or not at all.

    Args:
        ids: images to choose from, e.g. a train part; default: all of the cache. The choice is spread evenly over them.
        part: what the title calls them, e.g. "train of stratified".
        per_block: images per class and center.

    Raises:
        ResultError: the file cannot be written.
    """
    data = io.BytesIO()
    draw_sheet(cache, manifest, ids=ids, part=part, per_block=per_block).save(data, format="PNG", optimize=True)
    write_whole(path, data.getvalue())


def draw_sheet(
    cache: ImageCache, manifest: Manifest, *, ids: Collection[str] | None = None, part: str = "", per_block: int = 3
) -> Image.Image:
    """The page of `contact_sheet`."""
    chosen = set(cache.image_ids) if ids is None else set(ids) & set(cache.image_ids)
    rows = np.array([row for row, image_id in enumerate(manifest.image_ids) if image_id in chosen], dtype=np.int64)
    centers = _centers(manifest, rows)
    block_width = per_block * (THUMBNAIL + GAP) - GAP + MARGIN
    height = MARGIN + TITLE_LINE + len(manifest.class_names) * BLOCK_HEIGHT
    page = Image.new("RGB", (MARGIN + len(centers) * block_width, height), PAPER)
    title = f"{manifest.dataset}{f', {part}' if part else ''}: images by class{' and center' if manifest.centers else ''}"
    write_line(page, (MARGIN, MARGIN), title, size=TITLE_SIZE, color=INK, width=page.width - 2 * MARGIN)
    for down, name in enumerate(manifest.class_names):
        for right, (center, center_rows) in enumerate(centers.items()):
            corner = (MARGIN + right * block_width, MARGIN + TITLE_LINE + down * BLOCK_HEIGHT)
            block_rows = center_rows[manifest.indicators[center_rows, down] > 0]
            heading = (
                f"{name}{f', center {center}' if center else ''}: {len(block_rows):,} image{'s' * (len(block_rows) != 1)}"
            )
            write_line(page, corner, heading, size=HEADING_SIZE, color=INK, width=block_width - MARGIN)
            _draw_block(page, corner, cache, manifest, rows=spread(block_rows, per_block), places=per_block)
    return page


def _centers(manifest: Manifest, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Center -> its rows, for the largest centers by name; one nameless center where the dataset names none."""
    if manifest.centers is None:
        return {"": rows}
    names = np.array(manifest.centers)[rows]
    found, counts = np.unique(names, return_counts=True)
    largest = sorted(found[np.argsort(-counts, kind="stable")[:MOST_CENTERS]].tolist())
    return {center: rows[names == center] for center in largest}


def spread(rows: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the rows, evenly spread, so that neighbours (often one patient) are not shown together."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, count).round().astype(int))] if len(rows) else rows


def _draw_block(
    page: Image.Image, corner: tuple[int, int], cache: ImageCache, manifest: Manifest, *, rows: np.ndarray, places: int
) -> None:
    left, top = corner[0], corner[1] + HEADING_LINE
    for place in range(places):
        x = left + place * (THUMBNAIL + GAP)
        if place >= len(rows):
            page.paste(EMPTY, (x, top, x + THUMBNAIL, top + THUMBNAIL))
            continue
        image_id = manifest.image_ids[rows[place]]
        pixels = np.asarray(cache.images[cache.rows([image_id])[0]])
        page.paste(Image.fromarray(pixels).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS), (x, top))
        captions = (image_id, _person(manifest, int(rows[place])))
        for line, text in enumerate(captions):
            y = top + THUMBNAIL + 3 + line * CAPTION_LINE
            write_line(page, (x, y), text, size=CAPTION_SIZE, color=FAINT, width=THUMBNAIL)


def _person(manifest: Manifest, row: int) -> str:
    """Sex and age, `F, age 48`, as far as the table says so."""
    cells = {name: manifest.table[name][row] for name in ("gender", "age") if name in manifest.table}
    known = {name: value for name, value in cells.items() if not pd.isna(value)}
    words = {name: f"age {float(value):g}" if isinstance(value, Real) else str(value) for name, value in known.items()}
    return ", ".join(words.values())


def shortened(text: str, *, size: int, width: int) -> str:
    """The text in one line, or its beginning and "..." where it is wider than `width` px at this font size."""
    font, text = ImageFont.load_default(size), one_line(text)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."


def write_line(page: Image.Image, at: tuple[int, int], text: str, *, size: int, color: str, width: int) -> None:
    """Writes one line of text, shortened where it is wider than `width` px."""
    shown = shortened(text, size=size, width=width)
    ImageDraw.Draw(page).text(at, shown, fill=color, font=ImageFont.load_default(size))
