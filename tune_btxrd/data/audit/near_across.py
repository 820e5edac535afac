"""Near-duplicates across two parts of a dataset: images of one part that are probably edited copies of one of the other."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tune_btxrd.data.audit.headers import ImageHeader, image_headers
from tune_btxrd.data.audit.picture_measures import HASH_SIDE, NEAR_BITS, measure_pixels
from tune_btxrd.data.cache.cache import ImageCache
from tune_btxrd.data.manifest import Manifest

Part = tuple[Sequence[str], ImageCache]  # ids of images, and where they are decoded
BLOCK = 512  # images compared at once


def near_across(
    manifest: Manifest, one: Part, other: Part, *, progress: Callable[[int, int], None] | None = None
) -> list[tuple[str, str]]:
    """(image of `one`, image of `other`) of all pairs that look the same, the nearest first.

    Args:
        progress: called with (images measured, images in all).
    """
    total, done = len(one[0]) + len(other[0]), 0

    def report(images: int, _: int) -> None:
        if progress is not None:
            progress(done + images, total)

    headers = image_headers(manifest)
    one, other = ((tuple(i for i in ids if not headers[i].unreadable), cache) for ids, cache in (one, other))
    first = _hashes(one, headers, report)
    done = len(one[0])
    second = _hashes(other, headers, report)
    found: list[tuple[float, str, str]] = []
    for start in range(0, len(first), BLOCK):
        block = first[start : start + BLOCK]
        bits = (block.shape[1] - block @ second.T) / 2  # of B signs, d differ: their product sums to B - 2 d
        for row, column in zip(*np.nonzero(bits <= NEAR_BITS), strict=True):
            found.append((float(bits[row, column]), one[0][start + row], other[0][column]))
    return [(name, twin) for _, name, twin in sorted(found)]


def _hashes(part: Part, headers: Mapping[str, ImageHeader], progress: Callable[[int, int], None]) -> np.ndarray:
    """(N, B) float32: the signs of the perceptual hashes."""
    ids, cache = part
    sizes = [(headers[image_id].width, headers[image_id].height) for image_id in ids]
    if not ids:
        return np.zeros((0, HASH_SIDE**2), dtype=np.float32)
    hashes = measure_pixels(cache.images, cache.rows(ids).tolist(), sizes=sizes, progress=progress)[1]
    return np.where(hashes, 1, -1).astype(np.float32)
