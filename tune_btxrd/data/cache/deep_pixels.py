"""Deep pixels: samples of more than 8 bits as a picture of 8 bits; `deep_files` reads them."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

MAX_PIXELS = 80_000_000  # below Pillow's own bomb limit; the largest radiograph of BTXRD has 12 million
MAX_FILE_BYTES = 512 * 2**20

# A marker: few pixels, far from all others. Letters burned into a film of 12 bits with the white of 16 are the common case.
BINS = 256
EMPTY_SHARE = 1e-4  # of the pixels; a bin with fewer counts as empty
GAP_BINS = 179  # 70 % of the range without a picture in it
GAP_SHARE, MARKER_SHARE = 0.005, 0.1  # most pixels in the gap; and beyond it
FEWEST_LEVELS = 16  # of a picture; with fewer left, what lies far away is part of a drawing, not a marker on a picture
OFF_A_LEVEL = 0.1  # of 255; what half precision loses
PIXELS_AT_ONCE = 4_000_000
MORE_THAN_12_BITS = 16  # levels of 8 bits; a picture of 12 bits in 16 stays below
WHITES = (255.0, 65_535.0, 4_294_967_295.0)  # of 8, 16 and 32 bits


class UnknownPixelsError(ValueError):
    """A kind of picture that is not understood; the text completes "is not understood: ..."."""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """A picture as its file holds it: colour (H, W, 1 or 3) of any type, alpha (H, W) in [0, 1] or None."""

    colour: np.ndarray
    alpha: np.ndarray | None = None
    is_multiplied: bool = False  # the colour holds its alpha already
    white: float | None = None  # what the file says of its brightest value: 2 ** bits - 1, or the maximum it names


@dataclass(frozen=True)
class EightBits:
    """L, LA, RGB or RGBA of 8 bits, and what to say of how it was made (or "")."""

    image: Image.Image
    note: str = ""


def to_eight_bits(samples: Samples) -> EightBits:
    """The picture in 8 bits: the darkest visible pixel becomes 0 and the brightest 255.

    An 8-bit picture written with more bits, as it is or in shares of white, or as floating point numbers, is not
    stretched. Few pixels far away from all others (a burned-in marker) do not count, which is noted.

    Raises:
        ValueError: pixels that are not finite numbers.
    """
    colour = samples.colour
    if colour.dtype == np.bool_:
        colour = colour.astype(np.uint8)
    if colour.dtype.kind == "f" and not np.isfinite(colour).all():
        raise ValueError("pixels that are not finite numbers")
    visible = colour if samples.alpha is None or not (samples.alpha > 0).any() else colour[samples.alpha > 0]
    values, counts = _levels(visible)
    low, high, note = _range(values, counts, samples.white)
    scaled = _scaled(colour, low, high)
    planes = [scaled[..., index] for index in range(scaled.shape[2])]
    if samples.alpha is not None and not samples.is_multiplied:
        planes.append(np.rint(samples.alpha * 255).clip(0, 255).astype(np.uint8))
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[len(planes)]
    return EightBits(Image.merge(mode, [Image.fromarray(plane) for plane in planes]), note)


def _scaled(colour: np.ndarray, low: float, high: float) -> np.ndarray:
    """uint8: `low` as 0, `high` as 255. Short samples go through a table, so that a large film needs little memory."""
    if colour.dtype in (np.uint8, np.uint16):
        return np.asarray(_scaled(np.arange(np.iinfo(colour.dtype).max + 1, dtype=np.float64), low, high)[colour])
    return np.asarray(
        np.rint((colour.astype(np.float64) - low) * (255 / max(high - low, 1e-12))).clip(0, 255).astype(np.uint8)
    )


def _levels(colour: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values that occur, ascending, and how often."""
    if colour.dtype in (np.uint8, np.uint16):
        white = int(np.iinfo(colour.dtype).max)
        times = np.zeros(white + 1, dtype=np.int64)
        for block in np.array_split(colour.reshape(-1), max(1, colour.size // PIXELS_AT_ONCE)):
            times += np.bincount(block, minlength=white + 1)
        return np.flatnonzero(times), times[times > 0]
    return np.unique(colour, return_counts=True)


def _range(values: np.ndarray, counts: np.ndarray, white: float | None) -> tuple[float, float, str]:
    """The values that become 0 and 255, and a note where pixels were not counted."""
    low, high = float(values[0]), float(values[-1])
    for known in WHITES if white is None else (white, *(fewer for fewer in WHITES if fewer < white)):
        if MORE_THAN_12_BITS * known / 255 <= high <= known and _is_of_eight_bits(values, known):
            return 0.0, known, ""
    if values.dtype.kind == "f" and 0 < high <= 1 and _is_of_eight_bits(values, 1.0):
        return 0.0, 1.0, ""
    if (inner := _without_marker(values, counts)) is None:
        return low, high, ""
    kept = (values >= inner[0]) & (values <= inner[1])
    share = counts[~kept].sum() / counts.sum()
    return *inner, f"its brightness was stretched without {100 * share:.2g} % of its pixels that lie far from all others"


def _is_of_eight_bits(values: np.ndarray, white: float) -> bool:
    """Whether these are levels of 8 bits, each written as its share of `white`."""
    levels = values * (255 / white)
    if values[0] < 0 or np.abs(levels - np.rint(levels)).max() > 0.5 * 255 / white + OFF_A_LEVEL:
        return False
    return values.dtype.kind == "f" or bool((np.rint(np.rint(levels) * (white / 255)) == values).all())


def _without_marker(values: np.ndarray, counts: np.ndarray) -> tuple[float, float] | None:
    """The range of the picture where a marker lies far beyond it; None where there is no such marker."""
    low, high = float(values[0]), float(values[-1])
    if high <= low:
        return None
    bins = ((values - low) / (high - low) * (BINS - 1)).astype(np.int64)
    shares = np.bincount(bins, weights=counts, minlength=BINS) / counts.sum()
    full = np.flatnonzero(shares >= EMPTY_SHARE)
    gaps = np.diff(full)
    if not len(gaps) or gaps.max() <= GAP_BINS:
        return None
    start, end = full[gaps.argmax()], full[gaps.argmax() + 1]
    below, within = shares[: start + 1].sum(), shares[start + 1 : end].sum()
    above = 1 - below - within
    if within > GAP_SHARE or min(below, above) > MARKER_SHARE:
        return None
    kept = values[bins <= start] if below > above else values[bins >= end]
    return (float(kept[0]), float(kept[-1])) if len(kept) >= FEWEST_LEVELS else None
