"""Image headers: size, mode and format of each file, or why it is unreadable; no pixel is decoded."""

import io
import stat
import struct
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from tune_btxrd.data.cache.decode import EXIF_ORIENTATION, FORMATS, UnreadableError, read_size
from tune_btxrd.data.manifest import Manifest

TURNED = (5, 6, 7, 8)  # EXIF orientations in which the stored width is the height of the picture
PNG, PNG_TEXTS = b"\x89PNG\r\n\x1a\n", (b"eXIf", b"tEXt", b"zTXt", b"iTXt")  # signature; chunks that may hold EXIF
WORKERS = 8  # threads that mostly wait for the disk


@dataclass(frozen=True, kw_only=True)
class ImageHeader:
    """Attributes:
    width: of the upright picture, px; 0 where the header is unreadable.
    height: of the upright picture, px; 0 where the header is unreadable.
    mode: Pillow's mode, e.g. "L" or "RGB".
    format: e.g. "JPEG"; it may differ from the file's extension.
    unreadable: why the header cannot be read; empty where it can.
    """

    width: int = 0
    height: int = 0
    mode: str = ""
    format: str = ""
    unreadable: str = ""


def image_headers(manifest: Manifest, *, progress: Callable[[int, int], None] | None = None) -> dict[str, ImageHeader]:
    """Image id -> header, for every image that has a file. An unreadable file is an entry that says why, no error."""
    files = {i: file for i, file in zip(manifest.image_ids, manifest.files, strict=True) if file is not None}
    headers: dict[str, ImageHeader] = {}
    Image.init()  # before the threads, which would all do it
    with warnings.catch_warnings(), ThreadPoolExecutor(WORKERS) as pool:
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for image_id, header in zip(files, pool.map(read_header, files.values()), strict=True):
            headers[image_id] = header
            if progress is not None:
                progress(len(headers), len(files))
    return headers


def read_header(file: Path, data: bytes | None = None) -> ImageHeader:
    """The header of one file, or why it is unreadable; `Image.init` comes before threads.

    Args:
        data: the file's content where it is at hand.
    """
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would never end
            return ImageHeader(unreadable="is not a regular file")
        if not status.st_size:
            return ImageHeader(unreadable="is empty (0 bytes)")
        with Image.open(file if data is None else io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if not _is_plain_png(data) and image.getexif().get(EXIF_ORIENTATION) in TURNED:
                width, height = height, width
            return ImageHeader(width=width, height=height, mode=image.mode, format=image.format or "")
    except UnidentifiedImageError:
        return _unknown_to_pillow(file)
    except Exception as error:  # Pillow's parsers raise all kinds on damaged bytes; each is reported with its reason
        return ImageHeader(unreadable=f"is damaged ({' '.join(f'{type(error).__name__}: {error}'.split())})")


def _is_plain_png(data: bytes | None) -> bool:
    """Whether a file is a whole PNG of pixels alone: its EXIF may come after them, so Pillow would decode them all."""
    if data is None or not data.startswith(PNG):
        return False
    place, kind = len(PNG), b""
    while kind != b"IEND" and place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        place += 12 + length
        if kind in PNG_TEXTS:
            return False
    return kind == b"IEND" and place <= len(data)


def _unknown_to_pillow(file: Path) -> ImageHeader:
    """The header of a TIFF of a kind that Pillow does not open and the decoder does."""
    try:
        width, height = read_size(file).upright
    except UnreadableError:
        return ImageHeader(unreadable="is not an image")
    return ImageHeader(width=width, height=height, mode="other", format="TIFF")
