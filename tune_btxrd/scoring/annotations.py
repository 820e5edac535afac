"""Annotations: LabelMe files as masks on the model's input, their sizes checked against the images they belong to."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

import numpy as np
from PIL import Image, ImageDraw

from tune_btxrd.data.cache.decode import ImageSize, UnreadableError, read_size
from tune_btxrd.errors import DataError, first_line

MOST_BYTES = 512 * 2**20
OLD_ENCODINGS = ("gb18030", "latin-1")  # of LabelMe files that are not UTF-8
BOXES = ("rectangle", "mask", "oriented_rectangle")
SHAPES_WITHOUT_AREA = ("line", "linestrip", "point", "points")
SAME_SHAPE = 0.01  # relative difference of width / height that resizing and rounding explain
CORNERS_OF_CIRCLE = 64
LARGEST_SIDE = 1_000_000  # px
SHOWN = 5  # annotations that were left out, by name
FARTHEST = 10  # sides of the input; points beyond are drawn there


class _Shape(TypedDict):
    """A shape of a LabelMe file, as it claims to be; `_shapes` checks it."""

    points: object
    shape_type: NotRequired[str | None]


class _LabelMe(TypedDict):
    """A LabelMe file, as it claims to be; `_shapes` and `_claimed_size` check it."""

    shapes: list[_Shape]
    imageWidth: NotRequired[float | None]
    imageHeight: NotRequired[float | None]


@dataclass(frozen=True, kw_only=True)
class Lesion:
    """A lesion on the model's input: bool masks of the lesion and of the picture (without the black border)."""

    mask: np.ndarray
    picture: np.ndarray

    @property
    def chance(self) -> float:
        """Share of the picture that the lesion covers: how often a random peak would lie in it."""
        return float(self.mask.sum() / self.picture.sum())


@dataclass(frozen=True, kw_only=True)
class Lesions:
    """Annotated lesions of a part: place in the part -> lesion, and lines on annotations that were left out."""

    found: dict[int, Lesion]
    notes: tuple[str, ...]


def read_lesions(annotations: Sequence[Path | None], files: Sequence[Path | None], image_size: int) -> Lesions:
    """The lesions of N images; an annotation that cannot be used is left out and named in the notes."""
    found: dict[int, Lesion] = {}
    notes = []
    for index, (path, file) in enumerate(zip(annotations, files, strict=True)):
        if path is None:
            continue
        try:
            lesion = read_lesion(path, image_size, image=file)
        except DataError as error:
            notes.append(f"Left out: {error}")
            continue
        if lesion is not None:
            found[index] = lesion
    more = [f"Left out: {len(notes) - SHOWN:,} more annotations."] if len(notes) > SHOWN else []
    return Lesions(found=found, notes=(*notes[:SHOWN], *more))


def read_lesion(annotation: Path, image_size: int, *, image: Path | None = None) -> Lesion | None:
    """The lesion of a LabelMe file as the decoder places it: longer side scaled to S, centred. None without an outline.

    BTXRD draws most lesions twice, as an outline and as the box around it: boxes count only where there is no outline.
    An outline drawn on the picture as it is stored is turned as the decoder turns the picture.

    Args:
        image: the picture; where it is at hand, the size that the annotation claims is checked against it.

    Raises:
        DataError: no LabelMe file, or one of another picture.
    """
    values = _read(annotation)
    try:
        outlines, boxes = _shapes(values["shapes"])
        claimed = _claimed_size(values)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else first_line(error)
        raise DataError(f"An annotation must be a LabelMe file, but {annotation} is not ({reason}): replace it.") from error
    real = None if image is None else _size_of(image)
    width, height, turn = _upright(annotation, claimed, real)
    return _draw([turn(points) for points in outlines or boxes], (width, height), image_size)


def _read(annotation: Path) -> _LabelMe:
    try:
        if annotation.stat().st_size > MOST_BYTES:
            raise DataError(
                f"An annotation must have at most {MOST_BYTES >> 20} MiB, but {annotation} has more: replace it."
            )
        values = _parsed(annotation.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"An annotation must be a LabelMe file, but {annotation} is not ({first_line(error)}): replace it."
        ) from error
    if not isinstance(values, dict):
        raise DataError(f"An annotation must be a LabelMe file, but {annotation} holds {type(values).__name__}: replace it.")
    return cast("_LabelMe", values)


def _parsed(data: bytes) -> Any:
    """JSON in UTF-8, -16 or -32, with a byte order mark or without, or in an encoding of old LabelMe versions."""
    try:
        return json.loads(data)
    except UnicodeDecodeError as error:
        for encoding in OLD_ENCODINGS:
            try:
                return json.loads(data.decode(encoding))
            except ValueError:
                continue
        raise error


def _shapes(shapes: Sequence[_Shape]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Outlines and boxes as (K, 2) corners. Raises: ValueError, KeyError, TypeError where a shape is none."""
    outlines: list[np.ndarray] = []
    boxes: list[np.ndarray] = []
    for shape in shapes:
        kind, points = str(shape.get("shape_type") or "polygon"), np.asarray(shape["points"], dtype=float)
        if kind in SHAPES_WITHOUT_AREA:
            continue
        if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
            raise ValueError(f"the points of a {kind} are not pairs of numbers")
        if kind == "polygon" and len(points) >= 3:
            outlines.append(points)
        elif kind == "circle" and len(points) == 2:
            outlines.append(_circle(*points))
        elif kind in BOXES and len(points) in (2, 4):
            boxes.append(_corners(points) if len(points) == 2 else points)
        elif kind != "polygon":
            raise ValueError(f"a {kind} of {len(points)} points is not understood")
    return outlines, boxes


def _claimed_size(values: _LabelMe) -> tuple[int, int] | None:
    """(width, height) that the file names; None where it names none. Raises: ValueError, TypeError."""
    width, height = values.get("imageWidth"), values.get("imageHeight")
    if width is None or height is None:
        return None
    width, height = int(width), int(height)
    if not (1 <= width <= LARGEST_SIDE and 1 <= height <= LARGEST_SIDE):
        raise ValueError(f"a picture of {width} x {height} px")
    return width, height


def _size_of(image: Path) -> ImageSize | None:
    try:
        return read_size(image)
    except UnreadableError:
        return None  # the decoder has its own word on it


class _Turn:
    """Points of the stored picture (width, height) -> points of the upright one, for EXIF orientations 5 to 8."""

    def __init__(self, orientation: int = 1, width: int = 0, height: int = 0) -> None:
        self._orientation, self._width, self._height = orientation, width, height

    def __call__(self, points: np.ndarray) -> np.ndarray:
        x, y = points.T
        turned = {
            5: (y, x),
            6: (self._height - y, x),
            7: (self._height - y, self._width - x),
            8: (y, self._width - x),
        }
        return np.stack(turned.get(self._orientation, (x, y)), axis=1)


def _upright(annotation: Path, claimed: tuple[int, int] | None, real: ImageSize | None) -> tuple[int, int, _Turn]:
    """Width and height on which the points lie once they are turned, and the turn. Raises: DataError."""
    if claimed is None and real is None:
        raise DataError(f"An annotation must name imageWidth and imageHeight, but {annotation} does not: replace it.")
    if claimed is None:
        assert real is not None
        return *real.upright, _Turn()
    if real is None or _alike(claimed, real.upright):
        return *claimed, _Turn()
    if real.is_turned and _alike(claimed, (real.width, real.height)):
        return claimed[1], claimed[0], _Turn(real.orientation, *claimed)
    raise DataError(
        f"An annotation must belong to its picture, but {annotation} says {claimed[0]} x {claimed[1]} px and the picture "
        f"has {real.upright[0]} x {real.upright[1]}: replace it."
    )


def _alike(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes have the same aspect ratio: a picture may have been scaled after it was annotated."""
    ratio = (one[0] / one[1]) / (other[0] / other[1])
    rounding = 1 / min(*one, *other)
    return abs(ratio - 1) <= SAME_SHAPE + rounding


def _draw(shapes: Sequence[np.ndarray], size: tuple[int, int], image_size: int) -> Lesion | None:
    width, height = size
    scale = image_size / max(width, height)
    small = (max(1, round(width * scale)), max(1, round(height * scale)))
    offset = np.array([(image_size - small[0]) // 2, (image_size - small[1]) // 2])
    image = Image.new("1", (image_size, image_size))
    for points in shapes:
        placed = np.clip(points * scale + offset, -FARTHEST * image_size, FARTHEST * image_size)
        ImageDraw.Draw(image).polygon([(float(x), float(y)) for x, y in placed], fill=1, outline=1)
    picture = np.zeros((image_size, image_size), dtype=bool)
    picture[offset[1] : offset[1] + small[1], offset[0] : offset[0] + small[0]] = True
    mask = np.asarray(image) & picture
    return Lesion(mask=mask, picture=picture) if mask.any() else None


def _corners(box: np.ndarray) -> np.ndarray:
    (left, top), (right, bottom) = box
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def _circle(center: np.ndarray, edge: np.ndarray) -> np.ndarray:
    angles = np.linspace(0, 2 * np.pi, CORNERS_OF_CIRCLE, endpoint=False)
    return np.asarray(center + np.hypot(*(edge - center)) * np.stack([np.cos(angles), np.sin(angles)], axis=1))
