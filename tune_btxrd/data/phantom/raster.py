"""Curves, filled shapes and noise on a pixel grid, in coordinates that do not know its size.

Unit of length: the long side of the image is 1, the origin lies in its middle, x points right, y down.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import distance_transform_edt

Window = tuple[slice, slice]


@dataclass(frozen=True)
class Canvas:
    """A pixel grid of `height` x `width`; `scale` pixels make one unit."""

    height: int
    width: int

    @property
    def scale(self) -> int:
        """Pixels of the longer side."""
        return max(self.height, self.width)

    def to_pixels(self, points: np.ndarray) -> np.ndarray:
        """(P, 2) points in units -> (P, 2) pixel positions."""
        return np.asarray(points * self.scale + np.array([self.width / 2, self.height / 2]))

    def window(self, points: np.ndarray, *, margin: float = 0.0) -> Window:
        """The part of the grid around the points, `margin` units wider; empty where they lie outside."""
        pixels = self.to_pixels(points)
        low = np.floor(pixels.min(axis=0) - margin * self.scale - 2).astype(int)
        high = np.ceil(pixels.max(axis=0) + margin * self.scale + 3).astype(int)
        left, top = np.clip(low, 0, (self.width, self.height))
        right, bottom = np.clip(high, 0, (self.width, self.height))
        return slice(int(top), int(bottom)), slice(int(left), int(right))

    def coordinates(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """x (1, W) and y (H, 1) in units of the pixel centres of a window."""
        rows, columns = window
        x = (np.arange(columns.start, columns.stop, dtype=np.float32) + 0.5 - self.width / 2) / self.scale
        y = (np.arange(rows.start, rows.stop, dtype=np.float32) + 0.5 - self.height / 2) / self.scale
        return x[None, :], y[:, None]

    def mask(self, outlines: list[np.ndarray], window: Window) -> np.ndarray:
        """Boolean (H, W) of a window: inside any of the closed outlines."""
        rows, columns = window
        image = Image.new("1", (columns.stop - columns.start, rows.stop - rows.start))
        draw = ImageDraw.Draw(image)
        for outline in outlines:
            pixels = self.to_pixels(outline) - (columns.start, rows.start)
            draw.polygon([tuple(point) for point in pixels], fill=1)
        return np.asarray(image, dtype=bool)

    def depth(self, mask: np.ndarray) -> np.ndarray:
        """Distance in units from each pixel inside the mask to its edge, 0 outside; the image border is no edge."""
        padded = np.pad(mask, 1, mode="edge")
        return np.asarray(distance_transform_edt(padded)[1:-1, 1:-1] / self.scale, dtype=np.float32)


def empty(window: Window) -> bool:
    """Whether a window holds no pixel."""
    rows, columns = window
    return bool(rows.stop <= rows.start or columns.stop <= columns.start)


def closed_curve(corners: np.ndarray, *, per_corner: int = 8) -> np.ndarray:
    """A smooth closed curve through the corners: (per_corner * P, 2) points.

    Cubic Hermite pieces; centripetal parameters keep unevenly spaced corners free of loops (Yuksel et al. 2011).
    """
    step = np.roll(corners, -1, axis=0) - corners
    gap = np.sqrt(np.maximum(np.linalg.norm(step, axis=1, keepdims=True), 1e-9))
    before, slope = np.roll(gap, 1, axis=0), step / gap
    tangent = (np.roll(slope, 1, axis=0) * gap + slope * before) / (gap + before)
    t = np.linspace(0, 1, per_corner, endpoint=False)[None, :, None]
    a, b = corners[:, None], np.roll(corners, -1, axis=0)[:, None]
    pull = gap[:, None] * (tangent[:, None] * (1 - t) - np.roll(tangent, -1, axis=0)[:, None] * t) * t * (1 - t)
    return np.asarray(a + (b - a) * t * t * (3 - 2 * t) + pull).reshape(-1, 2)


def ellipse(x: float, y: float, *, radius_x: float, radius_y: float) -> np.ndarray:
    """Twelve corners of an ellipse."""
    angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    return np.stack([x + radius_x * np.cos(angle), y + radius_y * np.sin(angle)], axis=1)


def rod(start: tuple[float, float], end: tuple[float, float], *, half: float, flare: float = 1.5) -> np.ndarray:
    """Corners of a small long bone: `half` its half-width in the middle, `flare` times that at both ends."""
    along = np.array([0.0, 0.04, 0.14, 0.3, 0.5, 0.7, 0.86, 0.96, 1.0])
    width = half * np.array([0.5 * flare, flare, 0.95 * flare, 1.1, 1.0, 1.1, 0.95 * flare, flare, 0.5 * flare])
    a, b = np.array(start), np.array(end)
    across = np.array([a[1] - b[1], b[0] - a[0]]) / np.linalg.norm(b - a)
    spine = a + along[:, None] * (b - a)
    return np.vstack([spine + width[:, None] * across, (spine - width[:, None] * across)[::-1]])


def rotate(points: np.ndarray, degrees: float, *, about: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """The points turned clockwise (y points down) about a point."""
    angle = np.deg2rad(degrees)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return np.asarray((points - np.array(about)) @ matrix + np.array(about))


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], *, cells: tuple[float, float]) -> np.ndarray:
    """(H, W) float32 noise, mean about 0 and deviation about 1, with `cells` (rows, columns) lumps across the shape."""
    rows, columns = (max(3, round(cell) + 3) for cell in cells)
    coarse = rng.standard_normal((rows, columns)).astype(np.float32)
    box = (1.0, 1.0, columns - 1.0, rows - 1.0)
    image = Image.fromarray(coarse).resize((shape[1], shape[0]), Image.Resampling.BICUBIC, box=box)
    return np.asarray(image) * 1.3


def smoothstep(low: float, high: float, values: np.ndarray) -> np.ndarray:
    """0 at `low`, 1 at `high` (which may be the smaller one), smooth between."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)
