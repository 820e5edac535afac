"""Contact sheet of volumes: a few patients per class, each channel in three planes, as the model gets them."""

import io
from collections.abc import Collection
from pathlib import Path

import numpy as np
from PIL import Image

from tune_btxrd.data.cache.cache import ImageCache
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.sheets import (
    CAPTION_LINE,
    CAPTION_SIZE,
    FAINT,
    GAP,
    HEADING_LINE,
    HEADING_SIZE,
    INK,
    MARGIN,
    PAPER,
    TITLE_LINE,
    TITLE_SIZE,
    spread,
    write_line,
)
from tune_btxrd.files import write_whole

PLANE = 112  # px, side of one plane
PLANES = ("axial", "coronal", "sagittal")
MOST_CHANNELS = 4
CHANNEL_WIDTH = len(PLANES) * PLANE + GAP
ROW_HEIGHT = PLANE + CAPTION_LINE + GAP


def volume_sheet(
    cache: ImageCache,
    manifest: Manifest,
    path: Path,
    *,
    ids: Collection[str] | None = None,
    part: str = "",
    per_class: int = 3,
) -> None:
    """Writes a PNG with patients in rows, by class, and channels in columns, whole or not at all.

    Args:
        ids: volumes to choose from, e.g. a train part; default: all of the cache. The choice is spread evenly over them.
        part: what the title calls them, e.g. "train of stratified".
        per_class: patients per class.

    Raises:
        ResultError: the file cannot be written.
    """
    data = io.BytesIO()
    page = draw_volume_sheet(cache, manifest, ids=ids, part=part, per_class=per_class)
    page.save(data, format="PNG", optimize=True)
    write_whole(path, data.getvalue())


def draw_volume_sheet(
    cache: ImageCache, manifest: Manifest, *, ids: Collection[str] | None = None, part: str = "", per_class: int = 3
) -> Image.Image:
    """The page of `volume_sheet`."""
    chosen = set(cache.image_ids) if ids is None else set(ids) & set(cache.image_ids)
    rows = np.array([row for row, image_id in enumerate(manifest.image_ids) if image_id in chosen], dtype=np.int64)
    channels = manifest.channels[:MOST_CHANNELS]
    block = HEADING_LINE + per_class * ROW_HEIGHT + GAP
    width = 2 * MARGIN + max(len(channels) * CHANNEL_WIDTH - GAP, 480)
    page = Image.new("RGB", (width, MARGIN + TITLE_LINE + CAPTION_LINE + len(manifest.class_names) * block + MARGIN), PAPER)
    title = f"{manifest.dataset}{f', {part}' if part else ''}: volumes by class"
    write_line(page, (MARGIN, MARGIN), title, size=TITLE_SIZE, color=INK, width=width - 2 * MARGIN)
    top = MARGIN + TITLE_LINE
    for column, channel in enumerate(channels):
        at = (MARGIN + column * CHANNEL_WIDTH, top - CAPTION_LINE // 2)
        text = f"{channel}: {', '.join(PLANES)}; the patient's left is on the left"
        write_line(page, at, text, size=CAPTION_SIZE, color=FAINT, width=CHANNEL_WIDTH - GAP)
    for down, name in enumerate(manifest.class_names):
        of_class = rows[manifest.indicators[rows, down] > 0]
        corner = (MARGIN, top + CAPTION_LINE + down * block)
        heading = f"{name}: {len(of_class):,} volume{'s' * (len(of_class) != 1)}"
        write_line(page, corner, heading, size=HEADING_SIZE, color=INK, width=width - 2 * MARGIN)
        for place, row in enumerate(spread(of_class, per_class)):
            at = (MARGIN, corner[1] + HEADING_LINE + place * ROW_HEIGHT)
            _draw_patient(page, at, cache, manifest.image_ids[row], channels=len(channels))
    return page


def planes(voxels: np.ndarray) -> list[np.ndarray]:
    """The middle axial, coronal and sagittal plane of (S, S, S) voxels with axes R, A, S, the head's top and front up."""
    middle = voxels.shape[0] // 2
    return [np.asarray(plane.T[::-1]) for plane in (voxels[:, :, middle], voxels[:, middle, :], voxels[middle, :, :])]


def _draw_patient(page: Image.Image, at: tuple[int, int], cache: ImageCache, image_id: str, *, channels: int) -> None:
    cube = np.asarray(cache.images[cache.rows([image_id])[0]])
    for channel in range(channels):
        for place, plane in enumerate(planes(cube[..., channel])):
            picture = Image.fromarray(np.ascontiguousarray(plane)).resize((PLANE, PLANE), Image.Resampling.BICUBIC)
            page.paste(picture, (at[0] + channel * CHANNEL_WIDTH + place * PLANE, at[1]))
    below = (at[0], at[1] + PLANE + 2)
    write_line(page, below, image_id, size=CAPTION_SIZE, color=FAINT, width=page.width - 2 * MARGIN)
