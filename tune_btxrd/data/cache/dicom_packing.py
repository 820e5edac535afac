"""DICOM packing: pixels that are packed inside a DICOM file, unpacked by one decoder per kind, whatever else is installed.

JPEG Lossless, JPEG-LS and JPEG 2000 are decoded by imagecodecs and not by pydicom's plugins: GDCM ends the whole process at
some damaged files, and the other plugin for JPEG Lossless is under the GPL.
"""

import struct
from collections.abc import Callable
from typing import Any

import numpy as np

PLUGINS = {  # transfer syntax -> pydicom's plugin
    "1.2.840.10008.1.2.4.50": "pillow",  # JPEG Baseline
    "1.2.840.10008.1.2.5": "pydicom",  # RLE
}
CODECS = {  # transfer syntax -> function of imagecodecs
    "1.2.840.10008.1.2.4.57": "jpeg8_decode",  # JPEG Lossless
    "1.2.840.10008.1.2.4.70": "jpeg8_decode",
    "1.2.840.10008.1.2.4.80": "jpegls_decode",  # JPEG-LS
    "1.2.840.10008.1.2.4.81": "jpegls_decode",
    "1.2.840.10008.1.2.4.90": "jpeg2k_decode",  # JPEG 2000
    "1.2.840.10008.1.2.4.91": "jpeg2k_decode",
}
FRAMES = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}  # markers of JPEG that a picture's size follows
SIZE = b"\xff\x4f\xff\x51"  # of JPEG 2000


def is_known(syntax: str) -> bool:
    """Whether pixels in this transfer syntax are unpacked here."""
    return syntax in PLUGINS or syntax in CODECS


def unpacked(dataset: Any) -> np.ndarray:
    """The pixels of the one picture in a dataset. Raises: ValueError and whatever decoders raise on damaged bytes."""
    from pydicom.encaps import get_frame
    from pydicom.pixels.utils import pixel_array

    syntax = str(dataset.file_meta.TransferSyntaxUID)
    size = (int(dataset.Columns), int(dataset.Rows))
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    if PLUGINS.get(syntax) != "pydicom" and claimed_size(frame) != size:  # before anything is allocated
        raise ValueError("packed pixels of another size")
    if syntax in PLUGINS:
        return np.asarray(pixel_array(dataset, index=0, decoding_plugin=PLUGINS[syntax]))
    import imagecodecs

    decode: Callable[[bytes], Any] = getattr(imagecodecs, CODECS[syntax])
    pixels = np.asarray(decode(frame))
    if pixels.shape[:2] != size[::-1] or pixels.dtype.kind not in "iu":
        raise ValueError("packed pixels of another kind")
    return _as_declared(pixels, bits=int(dataset.BitsStored), is_signed=int(dataset.PixelRepresentation) == 1)


def claimed_size(frame: bytes) -> tuple[int, int] | None:
    """(width, height) that a packed picture says of itself; None where it says none."""
    if frame.startswith(SIZE) and len(frame) >= 24:
        right, bottom, left, top = struct.unpack_from(">4I", frame, 8)
        return right - left, bottom - top
    place = 2
    while place + 9 <= len(frame) and frame[place] == 0xFF:
        if frame[place + 1] == 0xFF:  # fill
            place += 1
            continue
        if frame[place + 1] in FRAMES:
            height, width = struct.unpack_from(">HH", frame, place + 5)
            return width, height
        (length,) = struct.unpack_from(">H", frame, place + 2)
        place += 2 + length
    return None


def _as_declared(pixels: np.ndarray, *, bits: int, is_signed: bool) -> np.ndarray:
    """Signed or not as the header says: decoders give what the packed bytes say, which often is unsigned."""
    if is_signed == (pixels.dtype.kind == "i"):
        return pixels
    wide = pixels.astype(np.int64) & (2**bits - 1)
    if is_signed:
        sign = 1 << (bits - 1)
        wide = (wide ^ sign) - sign
    return np.asarray(wide.astype(np.dtype(f"{'i' if is_signed else 'u'}{pixels.dtype.itemsize}")))
