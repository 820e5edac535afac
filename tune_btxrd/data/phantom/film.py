"""Film: what each center makes of a body: tone curve, blur, edge enhancement, grain, collimation, marker."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter

from tune_btxrd.data.phantom.raster import Canvas, rotate, smooth_noise

_LEVELS = 4096  # grey levels that tones are matched on


@dataclass(frozen=True, kw_only=True)
class Look:
    """One center's equipment and habits; ranges are (low, high) of a uniform draw per image. Grey runs from 0 to 1."""

    fog: tuple[float, float]  # grey of the empty film
    gain: tuple[float, float]  # contrast
    gamma: tuple[float, float]  # above 1: darker middle tones
    blur: tuple[float, float]  # units
    halo: tuple[float, float]  # edge enhancement
    grain: tuple[float, float]  # noise of the film
    lumps: tuple[float, float]  # size of a grain in units
    uneven: tuple[float, float]  # exposure that falls off to one side
    border: tuple[float, float]  # grey outside the collimated field
    collimated: float  # share of images with a visible collimator edge
    marker: str  # "plain", "ring" or "box"
    inverted: float  # share of images that show bones dark, as some viewers and books do
    quality: tuple[int, int]  # JPEG


LOOKS: dict[int, Look] = {
    1: Look(fog=(0.02, 0.08), gain=(0.8, 1.0), gamma=(0.95, 1.2), blur=(0.0, 0.0012), halo=(0.0, 0.3), grain=(0.008, 0.018),
            lumps=(0.0015, 0.003), uneven=(0.0, 0.08), border=(0.0, 0.0), collimated=0.45, marker="plain", inverted=0.0,
            quality=(88, 95)),
    2: Look(fog=(0.14, 0.24), gain=(0.55, 0.75), gamma=(0.8, 1.0), blur=(0.001, 0.0025), halo=(0.5, 0.9), grain=(0.02, 0.04),
            lumps=(0.003, 0.006), uneven=(0.05, 0.15), border=(0.0, 0.05), collimated=0.7, marker="ring", inverted=0.4,
            quality=(80, 90)),
    3: Look(fog=(0.08, 0.2), gain=(0.6, 0.9), gamma=(0.65, 0.9), blur=(0.002, 0.004), halo=(0.0, 0.15), grain=(0.025, 0.045),
            lumps=(0.004, 0.008), uneven=(0.2, 0.4), border=(0.75, 0.95), collimated=0.5, marker="box", inverted=0.5,
            quality=(72, 86)),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Film:
    """The settings of one exposure, drawn once per image so that the same body can be exposed twice alike."""

    fog: float
    gain: float
    gamma: float
    blur: float
    halo: float
    grain: float
    lump: float
    border: float
    shade: np.ndarray  # (H, W) factor
    field: np.ndarray  # (H, W) 1 inside the collimated field, 0 outside
    marker: str
    inverted: bool
    quality: int

    @classmethod
    def draw(cls, look: Look, canvas: Canvas, rng: np.random.Generator) -> "Film":
        """One exposure in a center's way."""
        return cls(
            fog=rng.uniform(*look.fog), gain=rng.uniform(*look.gain), gamma=rng.uniform(*look.gamma),
            blur=rng.uniform(*look.blur), halo=rng.uniform(*look.halo), grain=rng.uniform(*look.grain),
            lump=rng.uniform(*look.lumps), border=rng.uniform(*look.border),
            shade=_shade(canvas, rng, strength=rng.uniform(*look.uneven)),
            field=_field(canvas, rng, collimated=look.collimated),
            marker=look.marker, inverted=bool(rng.random() < look.inverted),
            quality=int(rng.integers(look.quality[0], look.quality[1] + 1)),
        )  # fmt: skip

    def expose(self, soft: np.ndarray, bone: np.ndarray, *, scale: int) -> np.ndarray:
        """(H, W) grey in 0..1 of the two maps: before grain and marker."""
        dense = 0.42 * soft + 0.5 * bone
        grey = self.fog + self.gain * (1.25 * dense / (1 + 0.35 * dense)) * self.shade
        if self.blur > 0:
            grey = gaussian_filter(grey, self.blur * scale)
        if self.halo > 0:
            grey = grey + self.halo * (grey - gaussian_filter(grey, 0.012 * scale))
        grey = np.clip(grey, 0, 1) ** self.gamma
        return np.asarray(grey * self.field + self.border * (1 - self.field), dtype=np.float32)


def _shade(canvas: Canvas, rng: np.random.Generator, *, strength: float) -> np.ndarray:
    """Exposure that falls off in one direction."""
    x, y = canvas.coordinates((slice(0, canvas.height), slice(0, canvas.width)))
    angle = rng.uniform(0, 2 * np.pi)
    return np.asarray(1 + strength * 1.5 * (x * np.cos(angle) + y * np.sin(angle)), dtype=np.float32)


def _field(canvas: Canvas, rng: np.random.Generator, *, collimated: float) -> np.ndarray:
    """1 inside the collimator's rectangle, which may be turned a little; all 1 where the edge is cropped off."""
    shape = (canvas.height, canvas.width)
    inset, degrees, seen = rng.uniform(0.015, 0.07, 4), rng.normal(0, 1.5), rng.random() < collimated
    if not seen:
        return np.ones(shape, np.float32)
    half_x, half_y = canvas.width / canvas.scale / 2, canvas.height / canvas.scale / 2
    left, right, top, bottom = -half_x + inset[0], half_x - inset[1], -half_y + inset[2], half_y - inset[3]
    corners = rotate(np.array([(left, top), (right, top), (right, bottom), (left, bottom)]), degrees)
    mask = canvas.mask([corners], (slice(0, canvas.height), slice(0, canvas.width)))
    return np.asarray(gaussian_filter(mask.astype(np.float32), 0.0015 * canvas.scale))


def match_tones(grey: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """`grey` with the tones of `reference`: a rising curve that gives both the same distribution of grey levels.

    This is what keeps brightness and contrast of the whole image from telling the class.
    """
    levels = (np.arange(_LEVELS) + 0.5) / _LEVELS
    curve = np.interp(_mid_ranks(grey), _mid_ranks(reference), levels)
    bins = np.clip(grey * _LEVELS, 0, _LEVELS - 1).astype(np.int64)
    return np.asarray(curve[bins], dtype=np.float32)  # not between two levels: beside a tie lie empty ones


def _mid_ranks(grey: np.ndarray) -> np.ndarray:
    """Per grey level: the share of pixels below it plus half of those on it (the empty film is one large tie)."""
    on = np.histogram(grey, _LEVELS, range=(0, 1))[0] / grey.size
    return np.asarray(np.cumsum(on) - on / 2)


def add_grain(grey: np.ndarray, film: Film, rng: np.random.Generator) -> np.ndarray:
    """Quantum noise and film grain, the same at every resolution but for its finest part."""
    height, width = grey.shape
    scale = max(height, width)
    lumps = smooth_noise(rng, grey.shape, cells=(height / scale / film.lump, width / scale / film.lump))
    fine = rng.standard_normal(grey.shape, dtype=np.float32)
    strength = film.grain * (0.4 + grey)
    return np.asarray(grey + strength * (0.8 * lumps + 0.35 * fine), dtype=np.float32)


def add_marker(image: Image.Image, film: Film, *, side: str, rng: np.random.Generator) -> None:
    """The lead letter of the body's side, in the center's style, near a border of a grey image."""
    width, height = image.size
    size = max(8, round(max(width, height) * rng.uniform(0.035, 0.055)))
    x = width * (rng.uniform(0.06, 0.14) if rng.random() < 0.5 else rng.uniform(0.86, 0.94))
    y, ink = height * rng.uniform(0.1, 0.9), int(rng.integers(215, 256))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size)
    box = (x - 0.75 * size, y - 0.75 * size, x + 0.75 * size, y + 0.75 * size)
    if film.marker == "ring":
        draw.ellipse(box, outline=ink, width=max(1, size // 12))
    if film.marker == "box":
        draw.rectangle(box, fill=ink)
        ink = 20
    draw.text((x, y), side, fill=ink, font=font, anchor="mm")
