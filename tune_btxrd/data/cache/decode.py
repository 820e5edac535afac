"""Decoder: an image file as a square uint8 array, decoded at reduced scale, upright, aspect kept, grey where it is grey.

The pixels depend on the file's bytes, the size, `pixel_version` and the Pillow version, on nothing else.
"""

import hashlib
import io
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from tune_btxrd.data.cache.deep_files import JPEG_2000, PNG, deep_reader, is_tiff, png_without_text, read_tiff
from tune_btxrd.data.cache.deep_pixels import MAX_FILE_BYTES, MAX_PIXELS, UnknownPixelsError, to_eight_bits
from tune_btxrd.data.cache.dicom_files import HEAD, NotAPictureError, is_dicom, require_dicom
from tune_btxrd.data.cache.dicom_files import VERSION as DICOM_VERSION
from tune_btxrd.data.cache.dicom_picture import Window, dicom_picture, dicom_size
from tune_btxrd.errors import DataError

PLAIN_SIGNATURES = (b"\xff\xd8", b"GIF8", b"RIFF", b"BM")  # JPEG, GIF, WEBP, BMP: 8 bits a sample
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP", "JPEG2000", "PPM")  # no format that starts another program

# Neither the chroma noise of JPEG nor a small coloured mark on a radiograph makes a picture coloured (and its cache triple).
GREY_SPREAD = 16  # largest difference between the channels of a pixel that still counts as grey
GREY_SHARE = 0.99  # share of pixels that must be grey for the image to be grey

UPRIGHT = {  # EXIF orientation -> what turns the stored picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
EXIF_ORIENTATION = 0x0112


class UnreadableError(DataError):
    """One file cannot be used as an image; `reason` completes the sentence "<file> ..."."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"Every image must be readable, but {name} {reason}: replace it or leave it out.")
        self.reason = reason


@dataclass(frozen=True)
class Decoded:
    """uint8 pixels, (S, S) where the content is grey, else (S, S, 3), and what to say of how they were made (or "")."""

    pixels: np.ndarray
    note: str = ""


def decode_image(path: Path, image_size: int, *, sha256: str | None = None, window: Window | None = None) -> np.ndarray:
    """The pixels of `decode`."""
    return decode(path, image_size, sha256=sha256, window=window).pixels


def decode(path: Path, image_size: int, *, sha256: str | None = None, window: Window | None = None) -> Decoded:
    """The picture of `path`, upright, aspect kept, centred on a black square of side S = `image_size`.

    Transparent means black. Pixels of more than 8 bits are scaled so that the darkest becomes 0 and the brightest 255
    (`deep_pixels.to_eight_bits`); those of DICOM files by their view (`dicom_picture`).

    Args:
        window: of DICOM files: center and width instead of what they say themselves.

    Raises:
        DataError: a DICOM file, and pydicom is not installed.
        UnreadableError: no regular file, empty, damaged, not a single picture, too large, or not of the given `sha256`.
    """
    return decode_sizes(path, (image_size,), sha256=sha256, window=window)[0]


def decode_sizes(
    path: Path, image_sizes: Sequence[int], *, sha256: str | None = None, window: Window | None = None
) -> tuple[Decoded, ...]:
    """`decode` at each of several sizes, with the pixels that each has alone: the file is read, hashed and decoded once.

    A JPEG is decoded once per scale that its decoder has for them (1, 1/2, 1/4 or 1/8): one for all would change pixels.

    Raises: as `decode`.
    """
    data = _read(path)
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise UnreadableError(path.name, "has changed since it was hashed")
    if is_dicom(data):
        return _dicom(path, data, image_sizes, window)
    try:
        try:
            return _decoded(path.name, data, image_sizes)
        except ValueError:
            if (shorter := png_without_text(data) if data.startswith(PNG) else data) == data:
                raise
            return _decoded(path.name, shorter, image_sizes)
    except UnreadableError:
        raise
    except UnknownPixelsError as error:
        raise UnreadableError(path.name, f"is not understood: {error}") from error
    except Exception as error:  # parsers raise all kinds on damaged bytes; each is reported with its reason
        raise UnreadableError(path.name, f"is damaged ({_one_line(error)})") from error


def _dicom(path: Path, data: bytes, image_sizes: Sequence[int], window: Window | None) -> tuple[Decoded, ...]:
    require_dicom(path)
    try:
        found = dicom_picture(data, window=window)
    except NotAPictureError as error:
        raise UnreadableError(path.name, str(error)) from None
    squares = _squares(lambda: found.image, image_sizes, orientation=1)
    return tuple(Decoded(square, "; ".join(found.notes)) for square in squares)


def pixel_version(path: Path) -> int:
    """Which version of the decoder makes the pixels of a file what they are: 1; 2 by `deep_files`, 3 by `dicom_picture`."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
        if is_dicom(head):
            return DICOM_VERSION
        if head.startswith(PNG):
            return 2 if head[24] == 16 else 1
        if head.startswith(PLAIN_SIGNATURES):
            return 1
        data = path.read_bytes() if head.startswith((b"P", *JPEG_2000)) else head  # their headers have no fixed length
        with Image.open(path, formats=FORMATS) as image:
            return 2 if deep_reader(image, data) else 1
    except UnidentifiedImageError:
        return 2 if is_tiff(head) else 1
    except Exception:  # it will be reported when it is decoded
        return 1


@dataclass(frozen=True)
class ImageSize:
    """Width and height of a picture as it is stored, px, and its EXIF orientation (1: upright)."""

    width: int
    height: int
    orientation: int

    @property
    def is_turned(self) -> bool:
        """Whether width and height change places where the picture is turned upright."""
        return self.orientation in (5, 6, 7, 8)

    @property
    def upright(self) -> tuple[int, int]:
        """(width, height) of the picture as it is shown."""
        return (self.height, self.width) if self.is_turned else (self.width, self.height)


def read_size(path: Path) -> ImageSize:
    """The size of an image, from its header. Raises: UnreadableError."""
    try:
        data = _read(path)
        if is_dicom(data):
            require_dicom(path)
            return ImageSize(*dicom_size(data), orientation=1)
        if is_tiff(data) and not _is_known(data):
            return _tiff_size(path.name, data)
        image = _open(path.name, data)
        return ImageSize(image.width, image.height, image.getexif().get(EXIF_ORIENTATION, 1))
    except NotAPictureError as error:
        raise UnreadableError(path.name, str(error)) from None
    except DataError:
        raise
    except Exception as error:  # as in `decode_image`
        raise UnreadableError(path.name, f"is damaged ({_one_line(error)})") from error


def _read(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would never end
            raise UnreadableError(path.name, "is not a regular file")
        if status.st_size > MAX_FILE_BYTES:
            raise UnreadableError(
                path.name, f"is too large ({status.st_size / 2**20:.0f} MiB, limit {MAX_FILE_BYTES >> 20} MiB)"
            )
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableError(path.name, f"cannot be read ({error.strerror or error})") from error
    if not data:
        raise UnreadableError(path.name, "is empty (0 bytes)")
    return data


def _open(name: str, data: bytes) -> Image.Image:
    """The opened image, header read, no pixel decoded yet."""
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise UnreadableError(name, f"is not an image (begins with {data[:4]!r})") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableError(name, f"claims too many pixels (limit {MAX_PIXELS:,})") from error
    if image.width * image.height > MAX_PIXELS:
        raise UnreadableError(name, f"claims too many pixels ({image.width} x {image.height}, limit {MAX_PIXELS:,})")
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # MPO: a phone's photo with a preview behind it
        raise UnreadableError(name, f"holds {frames} pictures instead of one")
    return image


def _is_known(data: bytes) -> bool:
    """Whether Pillow knows what kind of picture this is."""
    try:
        Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        return False
    except Exception:
        return True
    return True


def _decoded(name: str, data: bytes, image_sizes: Sequence[int]) -> tuple[Decoded, ...]:
    if is_tiff(data) and not _is_known(data):
        orientation = _tiff_size(name, data).orientation
        made = to_eight_bits(read_tiff(data))
    else:
        image = _open(name, data)
        orientation = image.getexif().get(EXIF_ORIENTATION, 1)
        if (reader := deep_reader(image, data)) is None:
            squares = _squares(lambda: _open(name, data), image_sizes, orientation=orientation)
            return tuple(map(Decoded, squares))
        made = to_eight_bits(reader(data))
    squares = _squares(lambda: made.image, image_sizes, orientation=orientation)
    return tuple(Decoded(square, made.note) for square in squares)


def _tiff_size(name: str, data: bytes) -> ImageSize:
    """The size of the one picture of a TIFF that Pillow does not open. Raises: UnreadableError, whatever tifffile raises."""
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        pages = len(file.pages)
        page: Any = file.pages[0]
        width, height, turned = int(page.imagewidth), int(page.imagelength), page.tags.get(EXIF_ORIENTATION)
    if width * height > MAX_PIXELS:
        raise UnreadableError(name, f"claims too many pixels ({width} x {height}, limit {MAX_PIXELS:,})")
    if pages > 1:
        raise UnreadableError(name, f"holds {pages} pictures instead of one")
    return ImageSize(width, height, 1 if turned is None else int(turned.value))


def _squares(opened: Callable[[], Image.Image], image_sizes: Sequence[int], *, orientation: int) -> list[np.ndarray]:
    """Shrink first (cheaply inside the JPEG decoder, exactly by bicubic), then do everything else on few pixels.

    Args:
        opened: opens the image, whose pixels may be undecoded; sizes of one scale of the decoder share what it decodes.
    """
    squares: dict[int, np.ndarray] = {}
    decoded: tuple[tuple[int, int], Image.Image] | None = None
    for image_size in sorted(set(image_sizes)):
        image = opened()
        longest = max(image.size)
        size = (max(1, round(image.width * image_size / longest)), max(1, round(image.height * image_size / longest)))
        draft = image.draft(None, size)  # the decoder may stop at 1/2, 1/4 or 1/8 scale, never below `size`
        if decoded is None or decoded[0] != image.size:
            decoded = (image.size, _eight_bit(image))
        small = decoded[1].resize(size, Image.Resampling.BICUBIC, box=draft[1] if draft else None)
        turn = UPRIGHT.get(orientation)
        squares[image_size] = _on_black(small if turn is None else small.transpose(turn), image_size)
    return [squares[image_size] for image_size in image_sizes]


def _eight_bit(image: Image.Image) -> Image.Image:
    """The image as L, LA, RGB or RGBA."""
    if image.mode in ("L", "LA", "RGB", "RGBA"):
        return image
    if image.mode == "1":
        return image.convert("L")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _on_black(image: Image.Image, image_size: int) -> np.ndarray:
    """(S, S) or (S, S, 3): transparent parts black, grey where the content is grey, centred on black."""
    picture = image.convert("RGB" if image.mode.startswith("RGB") else "L")
    if image.mode.endswith("A"):
        picture = Image.composite(picture, Image.new(picture.mode, picture.size), image.getchannel("A"))
    if picture.mode == "RGB" and _is_grey(np.asarray(picture)):
        picture = picture.convert("L")
    canvas = Image.new(picture.mode, (image_size, image_size))
    canvas.paste(picture, ((image_size - picture.width) // 2, (image_size - picture.height) // 2))
    return np.asarray(canvas)


def _is_grey(pixels: np.ndarray) -> bool:
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    brightest = np.maximum(np.maximum(red, green), blue)
    darkest = np.minimum(np.minimum(red, green), blue)
    return bool(np.mean(brightest - darkest <= GREY_SPREAD) >= GREY_SHARE)


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
