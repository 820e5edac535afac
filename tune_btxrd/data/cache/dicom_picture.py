"""DICOM picture: stored pixels to 8 bits as viewers show them: modality LUT, first VOI LUT or window, MONOCHROME1 inverted.

Each stage is pydicom's own function (PS3.3 C.11), applied to a table of all values that a pixel may have. What the standard
says of a missing element holds: no rescale, no window (the picture's own range is shown), a linear window.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from tune_btxrd.data.cache.deep_pixels import Samples, to_eight_bits
from tune_btxrd.data.cache.dicom_files import (
    GREYS,
    PALETTE,
    PHOTOMETRIC,
    NotAPictureError,
    read_dicom,
    require_one_picture,
    stored_pixels,
)

Window = tuple[float, float]  # center and width, in the units that the modality LUT gives
DECIDING = (  # what a window's result depends on beside the window
    *("PhotometricInterpretation", "BitsStored", "PixelRepresentation", "ModalityLUTSequence"),
    *("RescaleSlope", "RescaleIntercept"),
)
WINDOW_KINDS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")

NO_WINDOW = "it has no window, so its darkest and brightest pixel became black and white"
BAD_WINDOW = "its window has no width, so its darkest and brightest pixel became black and white"
NARROW_WINDOW = "its window is narrower than 1 and was taken as LINEAR_EXACT"
UNKNOWN_WINDOW = "its window is of an unknown kind and was taken as LINEAR"
PADDED = "its border of padding (PixelPaddingValue) became black"
COLOURED = "it holds colours, to which no window is applied"
OBLONG = "its pixels are not square, and it is shown as if they were"
BURNED = "text is burned into it (BurnedInAnnotation), which may name the patient and shows in every picture of it"
SHAPE = "its PresentationLUTShape contradicts its PhotometricInterpretation, which holds"


@dataclass(frozen=True, kw_only=True)
class DicomPicture:
    """A picture of 8 bits (L, LA or RGB; padding is transparent), and what to say of how it was made."""

    image: Image.Image
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Shown:
    """What makes grey values of modality values, and which of its results are black and white; None: the picture's own."""

    stage: Callable[[np.ndarray], np.ndarray]
    black_white: tuple[float, float] | None
    notes: tuple[str, ...] = ()


def dicom_size(data: bytes) -> tuple[int, int]:
    """(width, height) of the picture in a file. Raises: NotAPictureError."""
    dataset = read_dicom(data)
    require_one_picture(dataset)
    return int(dataset.Columns), int(dataset.Rows)


def dicom_picture(data: bytes, *, window: Window | None = None) -> DicomPicture:
    """The picture in a file.

    Args:
        window: instead of what the file says of its view.

    Raises:
        NotAPictureError: no picture, several, a damaged one, or a kind that is not read.
    """
    dataset = read_dicom(data)
    require_one_picture(dataset)
    kind = str(dataset.PhotometricInterpretation).strip()
    if kind not in PHOTOMETRIC:
        raise NotAPictureError("has a PhotometricInterpretation that is not read")
    notes = tuple(_notes(dataset, kind))
    try:
        if kind not in GREYS:
            return DicomPicture(image=_coloured(dataset, kind), notes=(*notes, COLOURED))
        made = _grey(dataset, window, is_inverted=kind == GREYS[0])
    except NotAPictureError:
        raise
    except MemoryError:
        raise NotAPictureError("does not fit into memory") from None
    except Exception as error:  # LUTs and windows of damaged files raise all kinds; their text may quote the header
        raise NotAPictureError(f"is damaged (its view cannot be made, {type(error).__name__})") from None
    return DicomPicture(image=made.image, notes=(*made.notes, *notes))


def _notes(dataset: Any, kind: str) -> Iterator[str]:
    """What is to be said of a picture whatever its pixels are."""
    spacing = dataset.get("PixelSpacing") or dataset.get("ImagerPixelSpacing") or dataset.get("PixelAspectRatio")
    if spacing is not None and len(spacing) == 2 and float(spacing[0]) != float(spacing[1]):
        yield OBLONG
    if dataset.get("BurnedInAnnotation") == "YES":
        yield BURNED
    shape = {"INVERSE": GREYS[0], "IDENTITY": GREYS[1]}.get(str(dataset.get("PresentationLUTShape", "")))
    if shape is not None and shape != kind:
        yield SHAPE


def _coloured(dataset: Any, kind: str) -> Image.Image:
    """RGB; of more than 8 bits as every deep picture."""
    pixels = stored_pixels(dataset)
    if kind == PALETTE:
        from pydicom.pixels.processing import apply_color_lut

        pixels = apply_color_lut(pixels, dataset)
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise NotAPictureError("holds colours that are not three numbers a pixel")
    if pixels.dtype == np.uint8:
        return Image.fromarray(pixels)
    bits = 8 * pixels.dtype.itemsize if kind == PALETTE else int(dataset.BitsStored)
    return to_eight_bits(Samples(colour=pixels, white=float(2**bits - 1))).image


def _grey(dataset: Any, window: Window | None, *, is_inverted: bool) -> DicomPicture:
    from pydicom.pixels.processing import apply_modality_lut

    raw = stored_pixels(dataset)
    if raw.ndim != 2:
        raise NotAPictureError("holds several numbers a pixel, and says that it is grey")
    shown, padding = _shown(dataset, window), _padding(dataset, raw)
    values = _by_table(raw, lambda stored: shown.stage(apply_modality_lut(stored, dataset)), shown.black_white)
    notes = shown.notes
    if shown.black_white is None:
        visible = None if padding is None else 1 - padding.astype(np.float32)
        white = float(2 ** int(dataset.BitsStored) - 1)
        made = to_eight_bits(Samples(colour=values[..., None], alpha=visible, white=white))
        values, notes = np.asarray(made.image.getchannel(0)), (*notes, *([made.note] if made.note else []))
    values = 255 - values if is_inverted else values
    if padding is None or not values[padding].any():
        return DicomPicture(image=Image.fromarray(values), notes=notes)
    alpha = np.where(padding, np.uint8(0), np.uint8(255))
    return DicomPicture(image=Image.merge("LA", tuple(map(Image.fromarray, (values, alpha)))), notes=(*notes, PADDED))


def _by_table(
    raw: np.ndarray, stages: Callable[[np.ndarray], np.ndarray], black_white: tuple[float, float] | None
) -> np.ndarray:
    """The stages applied to every pixel; uint8 where black and white are known, whole numbers where they are whole."""
    is_short = raw.dtype.kind in "iu" and raw.dtype.itemsize <= 2
    info = np.iinfo(raw.dtype) if is_short else None
    stored = raw if info is None else np.arange(int(info.min), int(info.max) + 1, dtype=raw.dtype)
    found = np.asarray(stages(stored))
    if black_white is not None:
        black, white = black_white
        found = np.rint((found - black) * (255 / (white - black))).clip(0, 255).astype(np.uint8)
    elif found.min() >= 0 and found.max() <= np.iinfo(np.uint16).max and (found == np.rint(found)).all():
        found = found.astype(np.uint16)
    if info is None:
        return found
    return np.asarray(found[raw if info.min == 0 else raw.astype(np.int32) - int(info.min)])


def _shown(dataset: Any, window: Window | None) -> _Shown:
    """The view: as asked, else the first VOI LUT, else the first window, else the picture's own range."""
    from pydicom.pixels.processing import apply_voi

    if window is not None:
        return _windowed(dataset, window, "LINEAR")
    if dataset.get("VOILUTSequence"):
        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        return _Shown(stage=lambda values: apply_voi(values, dataset, index=0), black_white=(0.0, 2.0**bits - 1))
    center, width = _first(dataset.get("WindowCenter")), _first(dataset.get("WindowWidth"))
    if center is None or width is None:
        return _own_range(dataset, NO_WINDOW)
    kind = str(dataset.get("VOILUTFunction") or WINDOW_KINDS[0]).strip()
    notes: tuple[str, ...] = ()
    if kind not in WINDOW_KINDS:
        kind, notes = WINDOW_KINDS[0], (UNKNOWN_WINDOW,)
    if width <= 0:
        return _own_range(dataset, BAD_WINDOW)
    if kind == "LINEAR" and width < 1:
        kind, notes = "LINEAR_EXACT", (NARROW_WINDOW,)
    return _windowed(dataset, (center, width), kind, notes)


def _windowed(dataset: Any, window: Window, kind: str, notes: tuple[str, ...] = ()) -> _Shown:
    """A window of the standard, by pydicom's function."""
    from pydicom import Dataset
    from pydicom.pixels.processing import apply_windowing

    view = Dataset()
    for name in DECIDING:
        if name in dataset:
            setattr(view, name, dataset[name].value)
    view.WindowCenter, view.WindowWidth, view.VOILUTFunction = *window, kind
    return _Shown(stage=lambda values: apply_windowing(values, view), black_white=_ends(dataset), notes=notes)


def _ends(dataset: Any) -> tuple[float, float]:
    """What pydicom gives for values below and above a window."""
    bits = int(dataset.BitsStored)
    if dataset.get("ModalityLUTSequence"):
        low, high = 0.0, 2.0 ** int(dataset.ModalityLUTSequence[0].LUTDescriptor[2]) - 1
    elif int(dataset.PixelRepresentation) == 0:
        low, high = 0.0, 2.0**bits - 1
    else:
        low, high = -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    if slope is None or intercept is None:
        return low, high
    return low * float(slope) + float(intercept), high * float(slope) + float(intercept)


def _own_range(dataset: Any, note: str) -> _Shown:
    """No view: pictures of 8 bits as they are, deeper ones from their darkest to their brightest pixel."""
    bits = int(dataset.BitsStored)
    rescaled = dataset.get("ModalityLUTSequence") or (dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")) not in (
        (None, None),
        (1, 0),
    )
    if bits <= 8 and int(dataset.PixelRepresentation) == 0 and not rescaled:
        notes = () if note is NO_WINDOW else (note,)
        return _Shown(stage=lambda values: values, black_white=(0.0, 2.0**bits - 1), notes=notes)
    return _Shown(stage=lambda values: values, black_white=None, notes=(note,))


def _first(value: Any) -> float | None:
    """The first of one or several numbers; None where there is none."""
    if value is None or value == "":
        return None
    if isinstance(value, int | float | str):
        return float(value)
    return float(value[0]) if len(value) else None


def _padding(dataset: Any, raw: np.ndarray) -> np.ndarray | None:
    """Pixels that the file calls padding and that reach the border; the same value amid the picture is picture.

    PS3.3 C.7.5.1.1.2: padding is no part of the image.
    """
    from scipy import ndimage

    if dataset.get("PixelPaddingValue") is None:
        return None
    one, other = (
        int(dataset.get(name, dataset.PixelPaddingValue)) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")
    )
    called = (raw >= min(one, other)) & (raw <= max(one, other))
    regions, _ = ndimage.label(called)
    edges = np.unique(np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]]))
    padding = np.isin(regions, edges[edges > 0])
    return padding if padding.any() and not padding.all() else None
