"""Heat maps drawn over radiographs: single overlays and contact sheets."""
# ruff: noqa: N803
# (shape suffixes: S = side in px)

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from tune_btxrd.data.cache.arrays import as_rgb
from tune_btxrd.data.figure_text import figure_text

HEAT = "inferno"  # perceptually even, readable without colour
OPACITY = 0.55
OUTLINE = "#56B4E9"


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One picture of a sheet: uint8 image, heat in [0, 1], lines of the caption, lesion outline if it is known."""

    image: np.ndarray
    heat: np.ndarray
    caption: Sequence[str]
    lesion: np.ndarray | None = None


def overlay(image: np.ndarray, heat_SS: np.ndarray) -> np.ndarray:
    """uint8 (S, S, 3): the image with the heat over it, more opaque where it is hotter."""
    plain = as_rgb(image)
    colour = mpl.colormaps[HEAT](heat_SS)[..., :3] * 255
    opacity = OPACITY * np.sqrt(heat_SS)[..., None]
    return np.asarray(np.rint(plain * (1 - opacity) + colour * opacity), dtype=np.uint8)


def save_overlay(image: np.ndarray, heat_SS: np.ndarray, path: Path) -> None:
    """PNG with the image beside its overlay, at least 512 px high each."""
    pair = np.concatenate([as_rgb(image), overlay(image, heat_SS)], axis=1)
    factor = max(1, -(-512 // len(image)))
    picture = Image.fromarray(pair)
    picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.BICUBIC).save(path)


def draw_sheet(rows: Sequence[tuple[str, Sequence[Tile | None]]], path: Path, *, title: str, columns: int) -> None:
    """Rows of tiles, each with its name at the left; `columns` tiles wide. Empty places stay empty."""
    shapes = [tile.heat.shape for _, tiles in rows for tile in tiles if tile is not None]
    wide = 2 if any(width > 2 * height for height, width in shapes) else 1  # three planes of a volume
    figure = Figure(figsize=(1.55 * wide * columns + 0.4, 1.75 * len(rows) + 0.45), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, (name, tiles) in zip(axes, rows, strict=True):
        line[0].set_ylabel(figure_text(name), fontsize=8)
        for index, axis in enumerate(line):
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
            tile = tiles[index] if index < len(tiles) else None
            if tile is not None:
                axis.imshow(overlay(tile.image, tile.heat))
                axis.set_title("\n".join(map(figure_text, tile.caption)), fontsize=6)
                if tile.lesion is not None and tile.lesion.any():
                    axis.contour(tile.lesion, levels=[0.5], colors=OUTLINE, linewidths=0.9)
    figure.suptitle(figure_text(title, longest=20 * columns), fontsize=9, x=0.01, ha="left")
    figure.savefig(path, dpi=150)
