"""DICOM files: recognised by their first bytes; their header, and their pixels as they are stored.

What pydicom warns of or raises may quote the header, and a header names a patient. So no text of it leaves this file:
reasons are our words, numbers of pixels, and the kind of an exception.
"""

import importlib.util
import logging
import re
import struct
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from tune_btxrd.data.cache.deep_pixels import MAX_FILE_BYTES, MAX_PIXELS
from tune_btxrd.data.cache.dicom_packing import is_known, unpacked
from tune_btxrd.errors import DataError

ENDINGS = (".dcm", ".dicom", ".dic", ".ima")
HEAD = 1024  # bytes of a file that tell what it is
VERSION = 3  # of the decoder, see `decode.pixel_version`
DICOMDIR = b"\x02\x00\x02\x00UI\x14\x001.2.840.10008.1.3.10"  # the class of an index of other files, in a file's first group
FIRST_GROUPS = (b"\x02\x00", b"\x08\x00")  # that of the file itself, and where it is missing the next
DEFLATED = b"1.2.840.10008.1.2.1.99"
DATASET_START = 144  # bytes before what the length of the first group counts
VALUE_KINDS = (b"CS", b"UI", b"UL", b"DA", b"TM", b"SH", b"LO", b"DT", b"AE", b"PN")  # of the elements that begin a header
NEEDED = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation", "PhotometricInterpretation")
GREYS = ("MONOCHROME1", "MONOCHROME2")
COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_420")
PALETTE = "PALETTE COLOR"
PHOTOMETRIC = (*GREYS, *COLOURS, PALETTE)
PYDICOM = re.compile("pydicom")


class NotAPictureError(ValueError):
    """A DICOM file is not one picture; the text completes "<file> ..."."""


def is_dicom(head: bytes) -> bool:
    """Whether a file that begins so is DICOM: `DICM` after 128 bytes and a header's element, or the element right away."""
    return (head[128:132] == b"DICM" and head[132:134] in FIRST_GROUPS) or _is_headless(head)


def may_be_dicom(path: Path) -> bool:
    """Whether a name is one of a DICOM file: by its ending, or none, or the last number of an identifier."""
    ending = path.suffix.lower()
    return ending in ENDINGS or not ending or ending[1:].isdigit()


def begins_as_picture(path: Path) -> bool:
    """Whether a file is DICOM by its first bytes, and no index of others (DICOMDIR)."""
    if not path.is_file():  # a pipe would never end
        return False
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return False
    return is_dicom(head) and DICOMDIR not in head


def require_dicom(path: Path) -> None:
    """Raises DataError where pydicom is not installed."""
    if importlib.util.find_spec("pydicom") is None:
        raise DataError(f"DICOM files need pydicom, but it is not installed ({path}): pip install 'tune-btxrd[dicom]'.")


def dicom_versions() -> str:
    """What decides pixels beside the file: pydicom, and the decoders of what is packed."""
    import imagecodecs
    import pydicom

    return f"pydicom{pydicom.__version__}-imagecodecs{imagecodecs.__version__}"


def read_dicom(source: bytes | Path, *, pixels: bool = True) -> Any:
    """The dataset in a file or in its content. Raises: NotAPictureError, OSError."""
    import pydicom

    _be_quiet()
    _refuse_bomb(source if isinstance(source, bytes) else _deflated(source))
    opened = BytesIO(source) if isinstance(source, bytes) else source
    try:
        dataset = pydicom.dcmread(opened, force=True, stop_before_pixels=not pixels)
        if "TransferSyntaxUID" not in dataset.file_meta:
            dataset.file_meta.TransferSyntaxUID = _headless_syntax(dataset)
    except OSError:
        raise
    except Exception as error:  # parsers raise all kinds on damaged bytes
        raise NotAPictureError(f"is damaged (its header cannot be read, {type(error).__name__})") from None
    return dataset


def read_header(path: Path, tags: Sequence[str]) -> Any:
    """These elements of a file; what is damaged, or is no DICOM, has none of them. Raises: OSError."""
    import pydicom

    _be_quiet()
    content = _deflated(path)
    try:
        _refuse_bomb(content)
        return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(tags), force=True)
    except OSError:
        raise
    except Exception:  # the decoder says what is wrong with it
        return pydicom.Dataset()


@dataclass(frozen=True)
class Kind:
    """What a file's pixels are and how they are packed, in words that name no patient."""

    pixels: str
    packing: str


def read_kind(path: Path) -> Kind:
    """The kind of a file's pixels. Raises: OSError."""
    header = read_header(path, ("PhotometricInterpretation", "BitsStored"))
    syntax = getattr(header, "file_meta", {}).get("TransferSyntaxUID")
    kind, bits = str(header.get("PhotometricInterpretation", "")), header.get("BitsStored")
    named = kind if kind in PHOTOMETRIC else "other"
    return Kind(pixels=f"{named} {bits}" if isinstance(bits, int) else named, packing=_packing(str(syntax or "")))


def stored_pixels(dataset: Any) -> np.ndarray:
    """(H, W) or (H, W, 3) as they are stored, colours as RGB; unused high bits are cleared. Raises: NotAPictureError."""
    from pydicom.pixels.utils import pixel_array

    _be_quiet()
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated and not is_known(str(syntax)):
        raise NotAPictureError(f"is packed in a way that is not read ({_packing(str(syntax))}): unpack it, e.g. by dcmdjpeg")
    _require_whole(dataset)
    try:
        return unpacked(dataset) if syntax.is_encapsulated else np.asarray(pixel_array(dataset, index=0))
    except Exception as error:  # as above
        raise NotAPictureError(f"is damaged (its pixels cannot be decoded, {type(error).__name__})") from None


def require_one_picture(dataset: Any) -> None:
    """Raises NotAPictureError where a dataset is not one picture of a size that can be decoded."""
    if "EncapsulatedDocument" in dataset:
        raise NotAPictureError("holds a document instead of a picture")
    if "PixelData" not in dataset:
        raise NotAPictureError("holds no pixels")
    if lacking := [name for name in NEEDED if dataset.get(name) in (None, "")]:
        raise NotAPictureError(f"lacks what the standard asks of every picture ({', '.join(lacking)})")
    rows, columns, frames = (_number(dataset, name) for name in ("Rows", "Columns", "NumberOfFrames"))
    if frames > 1:
        raise NotAPictureError(f"holds {frames} pictures instead of one")
    if min(rows, columns) < 1 or rows * columns == 1:
        raise NotAPictureError(f"has {columns} x {rows} pixels, which is no picture")
    if rows * columns > MAX_PIXELS:
        raise NotAPictureError(f"claims too many pixels ({columns} x {rows}, limit {MAX_PIXELS:,})")
    _require_whole(dataset)


def _number(dataset: Any, name: str) -> int:
    try:
        return int(dataset.get(name) or (1 if name == "NumberOfFrames" else 0))
    except (TypeError, ValueError):
        raise NotAPictureError(f"is damaged (its {name} is no number)") from None


def _require_whole(dataset: Any) -> None:
    """Raises NotAPictureError where pixels that are not packed are fewer than the header says."""
    from pydicom.pixels.utils import get_expected_length

    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return
    try:
        found, needed = len(dataset.PixelData), int(get_expected_length(dataset))
    except Exception as error:  # as above
        raise NotAPictureError(f"is damaged (its size cannot be told, {type(error).__name__})") from None
    if found < needed:
        raise NotAPictureError(f"is cut off ({found:,} of {needed:,} bytes of pixels)")


def _packing(syntax: str) -> str:
    """A transfer syntax by its name in the standard."""
    from pydicom.uid import UID

    name = str(UID(syntax).name)
    return "of an unknown packing" if name == syntax else name.partition(" (")[0].partition(", ")[0]


def _be_quiet() -> None:
    """Keeps pydicom's warnings and log lines from the screen and from files."""
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    if not any(item[0] == "ignore" and item[3] == PYDICOM for item in warnings.filters):
        warnings.filterwarnings("ignore", module=PYDICOM.pattern)


def _deflated(path: Path) -> bytes:
    """The content of a deflated file; of every other one its beginning."""
    with path.open("rb") as file:
        head = file.read(HEAD)
        return head + file.read(MAX_FILE_BYTES) if DEFLATED in head else head


def _refuse_bomb(data: bytes) -> None:
    """Raises NotAPictureError where a deflated file is larger than what can be held, before pydicom inflates it."""
    if DEFLATED not in data[:HEAD] or len(data) < DATASET_START:
        return
    (length,) = struct.unpack_from("<I", data, DATASET_START - 4)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = inflater.decompress(data[DATASET_START + length :], MAX_FILE_BYTES + 1)
    except zlib.error:
        raise NotAPictureError("is damaged (it cannot be inflated)") from None
    if len(inflated) > MAX_FILE_BYTES:
        raise NotAPictureError(f"is too large (more than {MAX_FILE_BYTES >> 20} MiB when inflated)")


def _is_headless(head: bytes) -> bool:
    """Whether a file begins with an element of group 8 and goes on with another, as files without a preamble do."""
    if len(head) < 16 or head[:2] != b"\x08\x00":
        return False
    if head[4:6] in VALUE_KINDS:
        (length,) = struct.unpack_from("<H", head, 6)
    else:
        (length,) = struct.unpack_from("<I", head, 4)
    return length % 2 == 0 and head[8 + length : 10 + length] == b"\x08\x00"


def _headless_syntax(dataset: Any) -> Any:
    """The transfer syntax of a file that names none: what pydicom found it to be."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    implicit, little = dataset.original_encoding
    return ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
