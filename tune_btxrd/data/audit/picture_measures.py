"""Measures of decoded pixels: the border of each image, and a perceptual hash that finds near-duplicates.

Shapes: N images of S x S pixels, B hash bits.
"""

from collections.abc import Callable, Iterator, Sequence

import imagehash
import numpy as np
from PIL import Image

HASH_SIDE = 16  # 256 bits: 64 bits confuse radiographs of the same view
NEAR_BITS = 40  # of 256 may differ; edited copies differ in 0-50 bits, two chest radiographs of two patients in 58 or more
BORDER_SHARE = 1 / 32  # of the content's side: the strip in which frames, letters and collimator edges lie
DARK = 12  # grey level below which a line of pixels counts as an empty margin
BLOCK = 512  # rows compared at once: 512 x N distances in memory


def content_box(size: int, width: int, height: int) -> tuple[slice, slice]:
    """Where the picture lies on the square of `size` px that the decoder pads to: (rows, columns)."""
    longest = max(width, height)
    sides = [max(1, round(side * size / longest)) for side in (height, width)]
    starts = [(size - side) // 2 for side in sides]
    return slice(starts[0], starts[0] + sides[0]), slice(starts[1], starts[1] + sides[1])


def contents(images: np.ndarray, rows: Sequence[int], sizes: Sequence[tuple[int, int]]) -> Iterator[np.ndarray]:
    """The grey picture of each row without its padding, (h, w) uint8; `sizes` are the upright (width, height)."""
    for row, (width, height) in zip(rows, sizes, strict=True):
        box = content_box(images.shape[1], width, height)
        pixels = np.asarray(images[row][box])
        yield pixels if pixels.ndim == 2 else np.asarray(Image.fromarray(pixels).convert("L"))


def measure_pixels(
    images: np.ndarray,
    rows: Sequence[int],
    *,
    sizes: Sequence[tuple[int, int]],
    progress: Callable[[int, int], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Border numbers (N, 12) float64 and perceptual hashes (N, B) bool.

    Args:
        images: all decoded images, (M, S, S) or (M, S, S, 3) uint8, aspect kept on a black square.
        rows: the N rows to measure.
        sizes: upright (width, height) of the files, px: tells the picture from its padding.
        progress: called with (images done, N).
    """
    borders, hashes = [], []
    for pixels in contents(images, rows, sizes):
        borders.append(border_numbers(pixels))
        hashes.append(imagehash.phash(Image.fromarray(pixels), hash_size=HASH_SIDE).hash.ravel())
        if progress is not None:
            progress(len(borders), len(rows))
    return np.array(borders), np.array(hashes)


def border_numbers(pixels: np.ndarray) -> np.ndarray:
    """(12,): of the top, bottom, left and right strip the mean and the standard deviation, grey levels; then of each
    side the empty margin, as a share of the picture.
    """
    numbers, margins = [], []
    for picture in (pixels, pixels[::-1], pixels.T, pixels.T[::-1]):
        strip = picture[: max(1, round(len(picture) * BORDER_SHARE))]
        numbers += [float(strip.mean()), float(strip.std())]
        filled = picture.max(axis=1) >= DARK
        margins.append(float(filled.argmax() if filled.any() else len(filled)) / len(filled))
    return np.array([*numbers, *margins])


def near_pairs(hashes: np.ndarray, *, within: int = NEAR_BITS) -> list[tuple[int, int, int]]:
    """(first row, second row, bits that differ) of all pairs that differ in at most `within` of B bits, nearest first.

    Args:
        hashes: (N, B) bool.
        within: bits.
    """
    signs = np.where(hashes, 1, -1).astype(np.float32)
    found: list[tuple[int, int, int]] = []
    for start in range(0, len(signs), BLOCK):
        # of B signs, d differ: their product sums to B - 2 d
        distance = (signs.shape[1] - signs[start : start + BLOCK] @ signs.T) / 2
        first, second = np.nonzero(distance <= within)
        keep = first + start < second
        pairs = zip(first[keep], second[keep], strict=True)
        found += [(int(i) + start, int(j), round(float(distance[i, j]))) for i, j in pairs]
    return sorted(found, key=lambda pair: (pair[2], pair[0], pair[1]))
