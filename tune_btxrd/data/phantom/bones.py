"""Bones: what a body region is made of, its skin, sites of lesions, and the few shapes they are built from.

Units of `raster.py`. Outlines are corners of smooth closed curves.
"""

from dataclasses import dataclass, replace

import numpy as np

from tune_btxrd.data.phantom.raster import rod, rotate

Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Bone:
    """One bone.

    Attributes:
        corners: (P, 2) outline.
        axis: from its joint end to its shaft, (2, 2); the cortex thickens along it.
        cortex: thickness in units at both ends of the axis.
        density: 1 for a bone seen alone, less where it is thin or overlaid.
    """

    corners: np.ndarray
    axis: np.ndarray
    cortex: tuple[float, float]
    density: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where a lesion may sit: the table's columns, its bone's index, a point on that bone's midline, lesion radius."""

    column: str
    joint: str
    limb: str
    bone: int
    at: Point
    radius: float


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """What one view of one region shows. Every view of a region has the same sites in the same order.

    Attributes:
        skin: outlines whose union is the body.
        lung: outlines filled with air.
        plates: growth plates of children: bone index and the plate's two ends.
    """

    bones: tuple[Bone, ...]
    skin: tuple[np.ndarray, ...]
    sites: tuple[Site, ...]
    lung: tuple[np.ndarray, ...] = ()
    plates: tuple[tuple[int, Point, Point], ...] = ()


def points(*corners: Point) -> np.ndarray:
    """Corners as an array (N, 2)."""
    return np.array(corners, dtype=float)


def symmetric(*right: Point) -> np.ndarray:
    """A shape that is its own mirror image, from its right side."""
    side = points(*right)
    return np.vstack([side, side[::-1] * (-1, 1)])


def long(corners: np.ndarray, start: Point, end: Point, *, thick: float = 0.014, density: float = 1.0) -> Bone:
    """A long bone whose cortex thickens from the joint at `start` to the shaft at `end`."""
    return Bone(corners=corners, axis=points(start, end), cortex=(0.004, thick), density=density)


def small(corners: np.ndarray, *, density: float = 0.7) -> Bone:
    """A short bone with an even cortex."""
    middle, step = corners.mean(axis=0), np.array([0, 0.01])
    return Bone(corners=corners, axis=np.array([middle - step, middle + step]), cortex=(0.005, 0.005), density=density)


def finger_bone(start: Point, end: Point, *, half: float, density: float = 0.85) -> Bone:
    """A metacarpal, metatarsal or phalanx."""
    axis = points(start, end)
    return Bone(corners=rod(start, end, half=half), axis=axis, cortex=(0.4 * half, 0.4 * half), density=density)


def turned(bone: Bone, degrees: float, about: Point) -> Bone:
    """The bone, turned about a point."""
    return replace(bone, corners=rotate(bone.corners, degrees, about=about), axis=rotate(bone.axis, degrees, about=about))


def moved(point: Point, degrees: float = 0.0, about: Point = (0.0, 0.0)) -> Point:
    """The point, turned about another one."""
    x, y = rotate(points(point), degrees, about=about)[0]
    return float(x), float(y)
