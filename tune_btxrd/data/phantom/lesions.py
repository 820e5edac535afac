"""Tumours: sharp-bordered holes and outgrowths of bone (benign), ragged destruction with periosteal reaction (malignant).

Each function changes the maps of a `Body` around its site and returns the outlines an annotator would draw, in units.
Patterns of destruction and reaction as in every textbook: Lodwick's geographic, moth-eaten; Codman's triangle, sunburst.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt

from tune_btxrd.data.phantom.body import Body, add_bone
from tune_btxrd.data.phantom.bones import Bone
from tune_btxrd.data.phantom.raster import Window, closed_curve, smooth_noise, smoothstep

Outlines = list[np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The surroundings of a lesion in the bone's own directions, in units.

    Attributes:
        along: (H, W), from the lesion's middle towards the shaft.
        across: (H, W), positive on the side where the lesion grows out.
        outside: (H, W), distance to the bone, 0 inside it.
        edge: half-width of the bone here.
    """

    window: Window
    along: np.ndarray
    across: np.ndarray
    outside: np.ndarray
    edge: float
    middle: np.ndarray
    shaft: np.ndarray
    out: np.ndarray

    def to_picture(self, local: np.ndarray) -> np.ndarray:
        """(along, across) points -> picture coordinates."""
        return np.asarray(self.middle + local[:, :1] * self.shaft + local[:, 1:] * self.out)


def frame_of(body: Body, *, side: int, reach: float) -> Frame:
    """The frame of the body's site; `side` (+1, -1) is where the lesion grows out, `reach` the window's half-size."""
    canvas, bone, middle = body.canvas, body.site_bone, np.array(body.site.at)
    shaft = (bone.axis[1] - bone.axis[0]) / np.linalg.norm(bone.axis[1] - bone.axis[0])
    out = np.array([-shaft[1], shaft[0]]) * side
    window = canvas.window(middle[None], margin=reach)
    x, y = canvas.coordinates(window)
    along = (x - middle[0]) * shaft[0] + (y - middle[1]) * shaft[1]
    across = (x - middle[0]) * out[0] + (y - middle[1]) * out[1]
    outside = distance_transform_edt(~canvas.mask([closed_curve(bone.corners)], window)) / canvas.scale
    level = (np.abs(along) < 2 / canvas.scale) & (across > 0) & (outside == 0)
    edge = float(across[level].max()) if level.any() else 0.5 * body.site.radius
    return Frame(
        window=window, along=along, across=across, outside=outside.astype(np.float32), edge=edge,
        middle=middle, shaft=shaft, out=out,
    )  # fmt: skip


def _blob(rng: np.random.Generator, *, along: float, across: float, uneven: float) -> tuple[np.ndarray, np.ndarray]:
    """A closed shape around 0: angles (K,) and radii (K,), `uneven` the relative depth of its waves."""
    angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    radius = 1 / np.sqrt((np.cos(angle) / along) ** 2 + (np.sin(angle) / across) ** 2)
    for wave in (2, 3, 5):
        radius *= 1 + uneven / np.sqrt(wave) * rng.uniform(-1, 1) * np.cos(wave * angle + rng.uniform(0, 6.28))
    return angle, radius


def _signed(frame: Frame, angle: np.ndarray, radius: np.ndarray, *, middle: tuple[float, float]) -> np.ndarray:
    """(H, W) distance to a blob's border, negative inside, near enough to true."""
    along, across = frame.along - middle[0], frame.across - middle[1]
    border = np.interp(np.arctan2(across, along), angle, radius, period=2 * np.pi)
    return np.asarray(np.hypot(along, across) - border)


def _outline(frame: Frame, angle: np.ndarray, radius: np.ndarray, *, middle: tuple[float, float]) -> np.ndarray:
    local = np.stack([middle[0] + radius * np.cos(angle), middle[1] + radius * np.sin(angle)], axis=1)
    return np.asarray(frame.to_picture(local[::2]))


def lytic(body: Body, rng: np.random.Generator, *, side: int, eccentric: float, elongated: float, septa: float) -> Outlines:
    """A hole with a sharp sclerotic border that blows up the bone.

    Args:
        eccentric: 0 in the middle of the bone .. 1 on its edge.
        elongated: length over width.
        septa: strength of the bright walls that divide it, 0..1.
    """
    size = body.site.radius * rng.uniform(1.1, 1.45)
    frame = frame_of(body, side=side, reach=2.2 * size * max(1.0, elongated))
    middle = (0.0, eccentric * 0.7 * frame.edge)
    angle, radius = _blob(rng, along=size * elongated, across=size, uneven=0.14)
    gap = _signed(frame, angle, radius, middle=middle)
    shape = gap.shape
    inside = smoothstep(0.004, -0.004, gap)
    cells = (shape[0] / body.canvas.scale / (0.55 * size), shape[1] / body.canvas.scale / (0.55 * size))
    walls = np.exp(-((smooth_noise(rng, shape, cells=cells) / 0.1) ** 2)) * septa
    level = float(np.median(body.bone[frame.window][gap < 0])) if (gap < 0).any() else 0.5
    content = 0.1 * level + 0.55 * level * walls
    thick = 0.012 * (1 + 0.35 * np.sin(np.arctan2(frame.across, frame.along) + rng.uniform(0, 6.28)))
    rim = np.exp(-(((gap + 0.003) / thick) ** 2)) * rng.uniform(0.8, 1.0)
    halo = 0.25 * np.exp(-((np.maximum(gap, 0) / 0.012) ** 2)) * (gap > 0) * (frame.outside < 0.004)
    bone = body.bone[frame.window]
    bone[...] = bone * (1 - inside) + content * inside + rim * max(level, 0.55) * 1.1 + halo * level
    return [_outline(frame, angle, radius, middle=middle)]


def _outgrowth(body: Body, rng: np.random.Generator, *, side: int, size: float, shift: float) -> np.ndarray:
    """One bony outgrowth that points away from the joint, capped with calcified cartilage; returns its outline."""
    frame = frame_of(body, side=side, reach=3.5 * size)
    lean, length = rng.uniform(0.2, 0.9), size * rng.uniform(1.3, 1.7)
    direction = np.array([lean, 1.0]) / np.hypot(lean, 1.0)
    across = np.array([direction[1], -direction[0]])
    base = np.array([shift, frame.edge * 0.6])
    neck, head = rng.uniform(0.35, 0.7) * size, rng.uniform(0.6, 0.85) * size
    profile = np.array([(0.0, 1.15 * neck), (0.25, neck), (0.5, 0.95 * head), (0.75, head), (0.93, 0.7 * head)])
    profile[2:, 1] *= rng.uniform(0.88, 1.12, 3)
    ridge = base + profile[:, :1] * length * direction
    width = profile[:, 1:] * across
    local = np.vstack([ridge + width, base + 1.02 * length * direction, (ridge - width)[::-1]])
    corners = frame.to_picture(local)
    axis = frame.to_picture(np.array([base + length * direction, base]))
    growth = np.zeros_like(body.bone)
    add_bone(body.canvas, growth, Bone(corners=corners, axis=axis, cortex=(0.01, 0.009), density=1.15), rng=rng)
    joined = 0.12 + 0.88 * smoothstep(0.0, 0.012, frame.outside)  # its marrow runs into that of the bone: no wall between
    body.bone[frame.window] += growth[frame.window] * joined
    _cap(body, frame, rng, middle=base + 0.72 * length * direction, size=head)
    return closed_curve(corners, per_corner=3)


def _cap(body: Body, frame: Frame, rng: np.random.Generator, *, middle: np.ndarray, size: float) -> None:
    """Round nodules of calcified cartilage, sharply bordered: popcorn."""
    for _ in range(14):
        angle, off = rng.uniform(0, 6.28), size * np.sqrt(rng.uniform(0, 0.9))
        radius, bright = size * rng.uniform(0.1, 0.24), rng.uniform(0.15, 0.45)
        place = frame.to_picture((middle + off * np.array([np.cos(angle), np.sin(angle)]))[None])
        window = body.canvas.window(place, margin=radius)
        x, y = body.canvas.coordinates(window)
        square = (x - place[0, 0]) ** 2 + (y - place[0, 1]) ** 2
        body.bone[window] += (bright * np.clip((radius**2 - square) / (0.5 * radius**2), 0, 1)).astype(np.float32)


def osteochondroma(body: Body, rng: np.random.Generator, *, side: int) -> Outlines:
    """One large outgrowth."""
    return [_outgrowth(body, rng, side=side, size=body.site.radius * rng.uniform(1.25, 1.6), shift=0.0)]


def osteochondromas(body: Body, rng: np.random.Generator, *, side: int) -> Outlines:
    """Two or three outgrowths on both sides."""
    outlines = []
    for number in range(int(rng.integers(2, 4))):
        size = body.site.radius * rng.uniform(0.85, 1.05)
        shift = body.site.radius * (-0.6, 0.8, 0.3)[number]
        outlines.append(_outgrowth(body, rng, side=side * (1, -1, 1)[number], size=size, shift=shift))
    return outlines


def loose_bodies(body: Body, rng: np.random.Generator, *, side: int) -> Outlines:
    """A heap of sharp round ossicles beside the joint."""
    size = body.site.radius
    frame = frame_of(body, side=side, reach=3.0 * size)
    bone, outlines = body.bone[frame.window], []
    for _ in range(int(rng.integers(8, 13))):
        middle = (rng.normal(0, 0.7 * size), frame.edge * 0.8 + rng.uniform(0, 1.1) * size)
        angle, radius = _blob(rng, along=0.27 * size, across=0.23 * size, uneven=0.1)
        radius *= rng.uniform(0.7, 1.2)
        gap = _signed(frame, angle, radius, middle=middle)
        bone += 0.5 * np.exp(-(((gap + 0.003) / 0.005) ** 2)) + 0.22 * smoothstep(0.003, -0.003, gap)
        outlines.append(_outline(frame, angle, radius, middle=middle))
    return outlines


def malignant(body: Body, rng: np.random.Generator, *, side: int, blastic: float) -> Outlines:
    """Moth-eaten destruction without a border, cortex broken, sunburst and Codman's triangle, soft tissue mass.

    Args:
        blastic: how much cloudy new bone it makes, 0..1.
    """
    size = body.site.radius * rng.uniform(1.15, 1.45)
    frame = frame_of(body, side=side, reach=3.4 * size)
    shape, scale = frame.along.shape, body.canvas.scale

    def noise(cell: float) -> np.ndarray:
        return smooth_noise(rng, shape, cells=(shape[0] / scale / cell, shape[1] / scale / cell))

    ragged = 0.22 * noise(0.5 * size) + 0.1 * noise(0.15 * size)
    reach = np.hypot(frame.along / (1.45 * size), (frame.across - 0.3 * frame.edge) / (1.1 * size)) + ragged
    within = smoothstep(1.25, 0.55, reach)
    holes = smoothstep(-0.3, 0.5, noise(0.018) + 0.5 * noise(0.03))
    bone, soft = body.bone[frame.window], body.soft[frame.window]
    level = float(np.quantile(bone[within > 0.5], 0.8)) if (within > 0.5).any() else 0.6
    bone *= 1 - within * (0.15 + 0.75 * holes)
    clouds = smoothstep(-1.2, 1.6, noise(0.04) + 0.4 * noise(0.015)) * smoothstep(1.35, 0.5, reach)
    bone += blastic * 1.1 * level * clouds
    bone += _sunburst(frame, rng, size=size) * max(level, 0.6)
    bone += _codman(frame, rng, size=size) * max(level, 0.6)
    mass = np.hypot(frame.along / (1.75 * size), (frame.across - 0.8 * frame.edge) / (1.25 * size + 0.4 * frame.edge))
    soft += 0.35 * smoothstep(1.15, 0.35, mass + 0.5 * ragged)
    angle, radius = _blob(rng, along=1.35 * size, across=1.15 * size, uneven=0.1)
    return [_outline(frame, angle, radius, middle=(0.0, 0.35 * frame.edge))]


def _sunburst(frame: Frame, rng: np.random.Generator, *, size: float) -> np.ndarray:
    """Spicules that stand out of the bone like rays, longest at the lesion's middle."""
    angle = np.arctan2(frame.along, frame.across + 0.2 * size)
    comb = np.zeros_like(angle)
    for count in (15, 22, 31):
        comb += np.cos(count * angle + rng.uniform(0, 6.28) + 2.5 * np.sin(3 * angle + rng.uniform(0, 6.28)))
    rays = np.clip(comb - 0.1, 0, 1.4) / 1.4
    length = 0.85 * size * np.exp(-((frame.along / (1.1 * size)) ** 2))
    strength = np.where(frame.across > 0, 1.0, 0.6)
    fade = smoothstep(1.0, 0.25, frame.outside / np.maximum(length, 1e-4)) * (frame.outside > 0)
    return np.asarray(0.75 * strength * rays * fade * (np.abs(frame.along) < 1.6 * size), dtype=np.float32)


def _codman(frame: Frame, rng: np.random.Generator, *, size: float) -> np.ndarray:
    """Periosteum lifted off the cortex into a thin bright triangle at both ends of the lesion."""
    lifted = np.zeros_like(frame.along)
    for end in (-1, 1):
        from_lesion = end * frame.along / size - rng.uniform(0.75, 0.9)  # 0 where the periosteum is torn
        height = 0.32 * size * np.clip(1 - from_lesion / 0.95, 0, 1)
        leaf = np.exp(-(((frame.outside - height) / 0.006) ** 2)) + 0.3 * (frame.outside < height)
        lifted += leaf * smoothstep(-0.08, 0.0, from_lesion) * (from_lesion < 0.9) * (frame.outside > 0)
    return np.asarray(0.55 * lifted * (frame.across > 0), dtype=np.float32)


Draw = Callable[[Body, np.random.Generator, int], Outlines]

# Tumour column of the table -> how it is drawn.
DRAW: dict[str, Draw] = {
    "osteochondroma": lambda body, rng, side: osteochondroma(body, rng, side=side),
    "multiple osteochondromas": lambda body, rng, side: osteochondromas(body, rng, side=side),
    "simple bone cyst": lambda body, rng, side: lytic(body, rng, side=side, eccentric=0.0, elongated=1.35, septa=0.15),
    "giant cell tumor": lambda body, rng, side: lytic(body, rng, side=side, eccentric=0.5, elongated=1.0, septa=0.7),
    "osteofibroma": lambda body, rng, side: lytic(body, rng, side=side, eccentric=0.9, elongated=1.2, septa=0.45),
    "synovial osteochondroma": lambda body, rng, side: loose_bodies(body, rng, side=side),
    "other bt": lambda body, rng, side: lytic(body, rng, side=side, eccentric=0.3, elongated=1.1, septa=0.3),
    "osteosarcoma": lambda body, rng, side: malignant(body, rng, side=side, blastic=0.8),
    "other mt": lambda body, rng, side: malignant(body, rng, side=side, blastic=0.25),
}
