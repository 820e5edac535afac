"""Deep pixels: pictures of more than 8 bits a sample, and TIFFs of any kind, as pictures of 8 bits.

Bit depth, photometric kind and alpha come from the file; what Pillow opens of them has lost the low byte or the kind.
"""

import logging
import struct
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

PNG, TIFF = b"\x89PNG\r\n\x1a\n", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
PLAIN_TIFF_KINDS = (0, 1, 2, 3, 5, 6)  # white is zero, black is zero, RGB, palette, CMYK, YCbCr: what Pillow converts
BITS_PER_SAMPLE, PHOTOMETRIC, PLANAR, EXTRA_SAMPLES, SAMPLE_FORMAT = 258, 262, 284, 338, 339  # tags of TIFF
UNSIGNED, SEPARATE = 1, 2

# A marker: few pixels, far from all others. Letters burned into a film of 12 bits with the white of 16 are the common case.
BINS = 256
EMPTY_SHARE = 1e-4  # of the pixels; a bin with fewer counts as empty
GAP_BINS = 179  # 70 % of the range without a picture in it
GAP_SHARE, MARKER_SHARE = 0.005, 0.1  # most pixels in the gap; and beyond it
OFF_A_LEVEL = 0.1  # of 255; what half precision loses
PIXELS_AT_ONCE = 4_000_000
MORE_THAN_12_BITS = 16  # levels of 8 bits; a picture of 12 bits in 16 stays below
REPEATED = {257: 65_535, 16_843_009: 4_294_967_295}  # factor that repeats a byte 2 or 4 times -> its white


class UnknownPixelsError(ValueError):
    """A kind of picture that is not understood; the text completes "is not understood: ..."."""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """A picture as its file holds it: colour (H, W, 1 or 3) of any type, alpha (H, W) in [0, 1] or None."""

    colour: np.ndarray
    alpha: np.ndarray | None = None
    is_multiplied: bool = False  # the colour holds its alpha already


@dataclass(frozen=True)
class EightBits:
    """L, LA, RGB or RGBA of 8 bits, and what to say of how it was made (or "")."""

    image: Image.Image
    note: str = ""


def is_tiff(data: bytes) -> bool:
    """Whether the bytes begin as a TIFF."""
    return data[:4] in TIFF


def deep_reader(image: Image.Image, data: bytes) -> Callable[[bytes], Samples] | None:
    """What reads the samples of an opened image whose depth or kind Pillow does not keep; None where Pillow does."""
    if image.format == "PNG" and data[:8] == PNG and data[24] == 16:
        return read_png
    if image.format == "TIFF" and not _is_plain_tiff(image):
        return read_tiff
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return lambda _: Samples(colour=np.asarray(image)[..., None])
    return None


def _is_plain_tiff(image: Image.Image) -> bool:
    tags: Any = image.tag_v2  # type: ignore[attr-defined]  # Pillow's TIFF images have it
    bits, formats = tags.get(BITS_PER_SAMPLE, (1,)), tags.get(SAMPLE_FORMAT, (UNSIGNED,))
    if tags.get(PLANAR) == SEPARATE and EXTRA_SAMPLES in tags:  # Pillow opens some of these and cannot decode them
        return False
    return max(bits) <= 8 and set(formats) == {UNSIGNED} and tags.get(PHOTOMETRIC, 1) in PLAIN_TIFF_KINDS


def read_png(data: bytes) -> Samples:
    """The samples of a PNG of 16 bits."""
    import imagecodecs

    return _with_alpha(np.atleast_3d(imagecodecs.png_decode(data)))


def read_tiff(data: bytes) -> Samples:
    """The samples of the first picture of a TIFF.

    Raises:
        UnknownPixelsError: a kind of picture beyond grey, RGB, palette, CMYK, YCbCr and CIELAB.
    """
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it would say is said in the reason
    with tifffile.TiffFile(BytesIO(data)) as file:
        page: Any = file.pages[0]
        pixels, bits = page.asarray(), page.bitspersample if isinstance(page.bitspersample, int) else max(page.bitspersample)
        kind, extra = int(page.photometric), [int(sample) for sample in page.extrasamples]
        pixels = np.moveaxis(pixels, 0, -1) if page.axes == "SYX" else pixels[..., None] if page.axes == "YX" else pixels
        colormap = page.colormap
    if pixels.ndim != 3:
        raise UnknownPixelsError(f"a TIFF with axes {page.axes}")
    white = float(2**bits - 1) if pixels.dtype.kind == "u" else 255.0 if pixels.dtype.kind == "i" else 1.0
    colour, others = _colour(kind, pixels, white, colormap)
    alphas = [others[..., place] for place, sort in enumerate(extra) if sort in (1, 2) and place < others.shape[2]]
    return Samples(
        colour=colour,
        alpha=alphas[0].astype(np.float32) / white if alphas else None,
        is_multiplied=1 in extra,
    )


def _colour(kind: int, pixels: np.ndarray, white: float, colormap: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """(grey or RGB, further samples) of a TIFF's photometric kind."""
    if kind in (0, 1):
        grey = pixels[..., :1]
        return (_inverted(grey, white) if kind == 0 else grey), pixels[..., 1:]
    if kind == 2 and pixels.shape[2] >= 3:
        return pixels[..., :3], pixels[..., 3:]
    if kind == 3 and colormap is not None:
        return np.moveaxis(colormap, 0, -1)[pixels[..., 0]], pixels[..., 1:]
    if kind == 5 and pixels.shape[2] >= 4:
        inks = pixels[..., :4].astype(np.float64) / white
        return ((1 - inks[..., :3]) * (1 - inks[..., 3:]) * 65_535).round().astype(np.uint16), pixels[..., 4:]
    if kind == 6 and pixels.shape[2] >= 3:
        return _rgb_of_ycbcr(pixels[..., :3].astype(np.float64) / white), pixels[..., 3:]
    if kind in (8, 9) and pixels.shape[2] >= 3:
        return _rgb_of_lab(pixels[..., :3], is_icc=kind == 9), pixels[..., 3:]
    raise UnknownPixelsError(f"a TIFF of photometric kind {kind} with {pixels.shape[2]} samples a pixel")


def _inverted(grey: np.ndarray, white: float) -> np.ndarray:
    if grey.dtype.kind == "u":
        return np.asarray(np.asarray(white, dtype=grey.dtype) - grey)
    return np.asarray(white - grey.astype(np.float64))


def _rgb_of_ycbcr(values: np.ndarray) -> np.ndarray:
    """ITU-R BT.601, full range: (..., 3) in [0, 1] to 16 bits."""
    y, blue, red = values[..., 0], values[..., 1] - 128 / 255, values[..., 2] - 128 / 255
    rgb = np.stack([y + 1.402 * red, y - 0.344136 * blue - 0.714136 * red, y + 1.772 * blue], axis=-1)
    return np.asarray((rgb.clip(0, 1) * 65_535).round().astype(np.uint16))


def _rgb_of_lab(pixels: np.ndarray, *, is_icc: bool) -> np.ndarray:
    """CIE L*a*b* (D50, as TIFF 6.0 stores it) to sRGB of 16 bits."""
    bits = 8 * pixels.dtype.itemsize
    signed = pixels.astype(np.int64)
    scale = 2 ** (bits - 8)
    if is_icc:
        a, b = (signed[..., i] / scale - 128 for i in (1, 2))
    else:
        a, b = (((signed[..., i] + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)) / scale for i in (1, 2))
    fy = (signed[..., 0] % 2**bits / (2**bits - 1) * 100 + 16) / 116
    f = np.stack([fy + a / 500, fy, fy - b / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * [0.9642, 1.0, 0.8249]
    to_rgb = [[3.1338561, -1.6168667, -0.4906146], [-0.9787684, 1.9161415, 0.0334540], [0.0719453, -0.2289914, 1.4052427]]
    linear = (xyz @ np.array(to_rgb).T).clip(0, 1)  # Bradford-adapted to D65 (Lindbloom)
    rgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray((rgb * 65_535).round().astype(np.uint16))


def _with_alpha(pixels: np.ndarray) -> Samples:
    """Grey, grey and alpha, RGB or RGBA of 16 bits."""
    channels = pixels.shape[2]
    if channels in (2, 4):
        return Samples(colour=pixels[..., :-1], alpha=pixels[..., -1].astype(np.float32) / 65_535)
    return Samples(colour=pixels)


def to_eight_bits(samples: Samples) -> EightBits:
    """The picture in 8 bits: the darkest visible pixel becomes 0 and the brightest 255.

    A picture whose samples repeat one byte (an 8-bit picture written in 16 or 32 bits) or are an 8-bit picture's shares
    of white is not stretched. Few pixels far away from all others (a burned-in marker) do not count, which is noted.

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
    low, high, note = _range(values, counts)
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


def _range(values: np.ndarray, counts: np.ndarray) -> tuple[float, float, str]:
    """The values that become 0 and 255, and a note where pixels were not counted."""
    low, high = float(values[0]), float(values[-1])
    for factor, white in REPEATED.items():
        if MORE_THAN_12_BITS * factor <= high <= white and low >= 0 and not (values % factor).any():
            return 0.0, float(white), ""
    shares = values * 255.0
    if values.dtype.kind == "f" and low >= 0 and 0 < high <= 1 and np.abs(shares - np.rint(shares)).max() < OFF_A_LEVEL:
        return 0.0, 1.0, ""
    if (inner := _without_marker(values, counts)) is None:
        return low, high, ""
    kept = (values >= inner[0]) & (values <= inner[1])
    share = counts[~kept].sum() / counts.sum()
    return *inner, f"its brightness was stretched without {100 * share:.2g} % of its pixels that lie far from all others"


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
    return float(kept[0]), float(kept[-1])


def png_without_text(data: bytes) -> bytes:
    """A PNG without comments and colour profiles: Pillow calls a file damaged whose metadata unpack to more than 1 MB."""
    kept, place = [data[:8]], 8
    while place + 8 <= len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        end = place + 12 + length
        if data[place + 4 : place + 8] not in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
            kept.append(data[place:end])
        place = end
    return b"".join(kept)
