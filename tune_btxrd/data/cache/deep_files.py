"""Deep files: the samples of PNG, TIFF, Netpbm and JPEG 2000 files that hold more than 8 bits or a kind of their own.

Bit depth, photometric kind and alpha come from the file; what Pillow opens of them has lost the low byte or the kind.
"""

import logging
import re
import struct
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from tune_btxrd.data.cache.deep_pixels import WHITES, Samples, UnknownPixelsError

PNG, TIFF = b"\x89PNG\r\n\x1a\n", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
PLAIN_TIFF_KINDS = (0, 1, 2, 3, 5, 6)  # white is zero, black is zero, RGB, palette, CMYK, YCbCr: what Pillow converts
BITS_PER_SAMPLE, PHOTOMETRIC, PLANAR, EXTRA_SAMPLES, SAMPLE_FORMAT = 258, 262, 284, 338, 339  # tags of TIFF
UNSIGNED, SEPARATE = 1, 2
GREY_AND_RGB = (0, 1, 2)  # kinds whose samples are those of the file, perhaps inverted
NETPBM = re.compile(rb"P([2356])" + 3 * rb"(?:\s|#[^\n\r]*[\n\r])+(\d{1,9})" + rb"\s")  # kind, width, height, white
JPEG_2000 = (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")
SIZE_MARKER = b"\xff\x4f\xff\x51"  # start of a JPEG 2000 codestream; the count of its components follows 40 bytes on


def is_tiff(data: bytes) -> bool:
    """Whether the bytes begin as a TIFF."""
    return data[:4] in TIFF


def deep_reader(image: Image.Image, data: bytes) -> Callable[[bytes], Samples] | None:
    """What reads the samples of an opened image whose depth or kind Pillow does not keep; None where Pillow does."""
    if image.format == "PNG" and data[:8] == PNG and data[24] == 16:
        return read_png
    if image.format == "TIFF" and not _is_plain_tiff(image):
        return read_tiff
    if image.format == "PPM" and (header := NETPBM.match(data)) and int(header[4]) > 255:
        return read_netpbm
    if image.format == "JPEG2000" and jpeg_2000_bits(data) > 8:
        return read_jpeg_2000
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

    return _with_alpha(np.atleast_3d(imagecodecs.png_decode(data)), 65_535.0)


def read_netpbm(data: bytes) -> Samples:
    """The samples of a PGM or PPM, packed or plain.

    Raises:
        ValueError: fewer samples than its header says, or samples beyond the maximum that it names.
    """
    header = NETPBM.match(data)
    assert header is not None
    kind, width, height, white = (int(number) for number in header.groups())
    channels = 3 if kind in (3, 6) else 1
    count = width * height * channels
    if kind in (2, 3):
        words = re.sub(rb"#[^\n\r]*", b"", data[header.end() :]).split(maxsplit=count)[:count]
        values = np.array([int(word) for word in words], dtype=np.uint16)
    else:
        values = np.frombuffer(data, ">u2", count, header.end()).astype(np.uint16)
    if values.max(initial=0) > white:
        raise ValueError(f"a sample of {values.max()} where {white} is the maximum")
    return Samples(colour=values.reshape(height, width, channels), white=float(white))


def jpeg_2000_bits(data: bytes) -> int:
    """Most bits a sample of a JPEG 2000 file, from its codestream's header; 0 where there is none."""
    start = data.find(SIZE_MARKER)
    if start < 0 or len(data) < start + 42:
        return 0
    (count,) = struct.unpack(">H", data[start + 40 : start + 42])
    return max(((depth & 0x7F) + 1 for depth in data[start + 42 : start + 42 + 3 * count : 3]), default=0)


def read_jpeg_2000(data: bytes) -> Samples:
    """The samples of a JPEG 2000 file of more than 8 bits."""
    import imagecodecs

    return _with_alpha(np.atleast_3d(imagecodecs.jpeg2k_decode(data)), float(2 ** jpeg_2000_bits(data) - 1))


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
    if pixels.dtype.kind == "c":
        raise UnknownPixelsError("a TIFF of complex numbers")
    is_unsigned = pixels.dtype.kind == "u"
    white = float(2**bits - 1) if is_unsigned else _supposed_white(pixels)
    colour, others = _colour(kind, pixels, white, colormap)
    alphas = [others[..., place] for place, sort in enumerate(extra) if sort in (1, 2) and place < others.shape[2]]
    return Samples(
        colour=colour,
        alpha=alphas[0].astype(np.float32) / white if alphas else None,
        is_multiplied=1 in extra,
        white=white if is_unsigned and kind in GREY_AND_RGB else None,
    )


def _supposed_white(pixels: np.ndarray) -> float:
    """White of signed or floating point samples, which no tag names: 1 for shares, else that of the fewest bits."""
    brightest = float(pixels.max(initial=0))
    whites = WHITES if pixels.dtype.kind == "i" else (1.0, *WHITES)
    return next((white for white in whites if brightest <= white), 1.0)


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


def _with_alpha(pixels: np.ndarray, white: float) -> Samples:
    """Grey, grey and alpha, RGB or RGBA."""
    if pixels.shape[2] in (2, 4):
        return Samples(colour=pixels[..., :-1], alpha=pixels[..., -1].astype(np.float32) / white, white=white)
    return Samples(colour=pixels, white=white)


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
