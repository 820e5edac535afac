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
from tune_btxrd.data.cache.dicom_files import HEAD, is_dicom, read_kind
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.errors import DataError

TURNED = (5, 6, 7, 8)  # EXIF orientations in which the stored width is the height of the picture
PNG, PNG_TEXTS = b"\x89PNG\r\n\x1a\n", (b"eXIf", b"tEXt", b"zTXt", b"iTXt")  # signature; chunks that may hold EXIF
WORKERS = 8  # threads that mostly wait for the disk


@dataclass(frozen=True, kw_only=True)
class ImageHeader:
    """Attributes:
    width: of the upright picture, px; 0 where the header is unreadable.
    height: of the upright picture, px; 0 where the header is unreadable.
    mode: Pillow's mode, e.g. "L" or "RGB"; of DICOM files the kind and depth of pixels, e.g. "MONOCHROME1 10".
    format: e.g. "JPEG" or "DICOM RLE Lossless"; it may differ from the file's extension.
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
        if reason := _no_content(file):
            return ImageHeader(unreadable=reason)
        return _of_dicom(file) if is_dicom(data or _head(file)) else _of_picture(file, data)
    except UnidentifiedImageError:
        return _unknown_to_pillow(file)
    except DataError as error:  # pydicom is not installed
        return ImageHeader(unreadable=f"cannot be read: {error}")
    except Exception as error:  # Pillow's parsers raise all kinds on damaged bytes; each is reported with its reason
        return ImageHeader(unreadable=f"is damaged ({' '.join(f'{type(error).__name__}: {error}'.split())})")


def _no_content(file: Path) -> str:
    """Why a file has nothing that could be read; empty where it has."""
    status = file.stat()
    if not stat.S_ISREG(status.st_mode):  # a pipe would never end
        return "is not a regular file"
    return "" if status.st_size else "is empty (0 bytes)"


def _of_picture(file: Path, data: bytes | None) -> ImageHeader:
    with Image.open(file if data is None else io.BytesIO(data), formats=FORMATS) as image:
        width, height = image.size
        if not _is_plain_png(data) and image.getexif().get(EXIF_ORIENTATION) in TURNED:
            width, height = height, width
        return ImageHeader(width=width, height=height, mode=image.mode, format=image.format or "")


def _head(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(HEAD)


def _of_dicom(file: Path) -> ImageHeader:
    """The header of a DICOM file: size, kind of pixels, how they are packed."""
    try:
        width, height = read_size(file).upright
    except UnreadableError as error:
        return ImageHeader(unreadable=error.reason)
    kind = read_kind(file)
    return ImageHeader(width=width, height=height, mode=kind.pixels, format=f"DICOM {kind.packing}")


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
