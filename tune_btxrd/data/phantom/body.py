"""Body: soft tissue and bone of a posed anatomy, as (H, W) maps of thickness times density."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d, maximum

from tune_btxrd.data.phantom.arm import forearm, hand
from tune_btxrd.data.phantom.bones import Anatomy, Bone, Site
from tune_btxrd.data.phantom.leg import ankle_frontal, ankle_lateral, knee_frontal, knee_lateral
from tune_btxrd.data.phantom.raster import Canvas, closed_curve, empty, rotate, smooth_noise, smoothstep
from tune_btxrd.data.phantom.trunk import hip, shoulder

# Region -> its frontal and its lateral view, each a function of the bend in degrees. Oblique is a squeezed frontal view.
REGIONS: dict[str, tuple[Callable[[float], Anatomy], Callable[[float], Anatomy]]] = {
    "knee": (knee_frontal, knee_lateral),
    "ankle": (ankle_frontal, ankle_lateral),
    "hip": (lambda bend: hip(0.2 * bend), hip),
    "shoulder": (lambda bend: shoulder(0.2 * bend), shoulder),
    "forearm": (lambda bend: forearm(0.2 * bend), forearm),
    "hand": (lambda bend: hand(0.3 * bend), hand),
}


@dataclass(frozen=True, kw_only=True)
class Pose:
    """How the body lies in the picture.

    Attributes:
        focus: index of the site that lies near the picture's middle.
        shift: where that site lies, in units from the middle.
        squeeze: widths times this: build, and 0.8 or so for an oblique view.
    """

    focus: int
    shift: tuple[float, float]
    degrees: float
    scale: float
    squeeze: float
    mirrored: bool

    def apply(self, anatomy: Anatomy) -> Anatomy:
        """The anatomy in picture coordinates."""
        middle = np.array(anatomy.sites[self.focus].at)
        factor = np.array([-self.squeeze if self.mirrored else self.squeeze, 1.0]) * self.scale

        def move(points: np.ndarray) -> np.ndarray:
            return np.asarray(rotate((points - middle) * factor, self.degrees) + np.array(self.shift))

        def move_one(point: tuple[float, float]) -> tuple[float, float]:
            x, y = move(np.array([point]))[0]
            return float(x), float(y)

        def move_bone(bone: Bone) -> Bone:
            cortex = (bone.cortex[0] * self.scale, bone.cortex[1] * self.scale)
            return replace(bone, corners=move(bone.corners), axis=move(bone.axis), cortex=cortex)

        return Anatomy(
            bones=tuple(move_bone(bone) for bone in anatomy.bones),
            skin=tuple(move(corners) for corners in anatomy.skin),
            sites=tuple(replace(site, at=move_one(site.at), radius=site.radius * self.scale) for site in anatomy.sites),
            lung=tuple(move(corners) for corners in anatomy.lung),
            plates=tuple((bone, move_one(a), move_one(b)) for bone, a, b in anatomy.plates),
        )


@dataclass(kw_only=True)
class Body:
    """What the rays meet.

    Attributes:
        soft, bone: (H, W) float32, about 1 behind a thigh and behind a shaft's cortex; lesions change them in place.
        site: the focus site in picture coordinates; `site_bone` is its bone.
    """

    canvas: Canvas
    soft: np.ndarray
    bone: np.ndarray
    site: Site
    site_bone: Bone

    def copy(self) -> "Body":
        """The same body with its own maps."""
        return replace(self, soft=self.soft.copy(), bone=self.bone.copy())


def lay_out(canvas: Canvas, anatomy: Anatomy, *, focus: int, young: bool, rng: np.random.Generator) -> Body:
    """The maps of a posed anatomy; `young` bodies (open growth plates) show their plates as dark seams."""
    bone_map = np.zeros((canvas.height, canvas.width), np.float32)
    for bone in anatomy.bones:
        add_bone(canvas, bone_map, bone, rng=rng)
    if young:
        for _, start, end in anatomy.plates:
            _growth_plate(canvas, bone_map, np.array([start, end]))
    site = anatomy.sites[focus]
    soft = _soft_tissue(canvas, anatomy, rng)
    return Body(canvas=canvas, soft=soft, bone=bone_map, site=site, site_bone=anatomy.bones[site.bone])


def add_bone(canvas: Canvas, bone_map: np.ndarray, bone: Bone, *, rng: np.random.Generator) -> None:
    """Lays one bone over the map: a tube of cortex around spongy bone, seen through (rays add up)."""
    outline = closed_curve(bone.corners)
    window = canvas.window(outline)
    if empty(window):
        return
    mask = canvas.mask([outline], window)
    if not mask.any():
        return
    depth = canvas.depth(mask)
    along = _along(canvas, bone, window)
    half = np.maximum(_half_width(depth, along, mask), 1.5 / canvas.scale)
    cortex = np.minimum(bone.cortex[0] + (bone.cortex[1] - bone.cortex[0]) * np.clip(along, 0, 1), 0.6 * half)
    from_axis = 1 - np.clip(depth / half, 0, 1)
    tube = np.sqrt(np.maximum(1 - from_axis**2, 0))
    inside = np.sqrt(np.maximum((1 - cortex / half) ** 2 - from_axis**2, 0))
    spongy = (0.5 - 0.25 * np.clip(along, 0, 1)) * (1 + 0.1 * _trabeculae(bone, mask.shape, canvas, rng))
    density = bone.density * (half / 0.05) ** 0.25
    layer = density * ((tube - inside) * 1.15 + inside * spongy)
    bone_map[window] += gaussian_filter(np.where(mask, layer, 0), 0.0012 * canvas.scale)


def _along(canvas: Canvas, bone: Bone, window: tuple[slice, slice]) -> np.ndarray:
    """(H, W): 0 at the joint end of the bone's axis, 1 at its shaft end, beyond that further."""
    x, y = canvas.coordinates(window)
    start, end = bone.axis
    direction = (end - start) / np.sum((end - start) ** 2)
    return np.asarray((x - start[0]) * direction[0] + (y - start[1]) * direction[1], dtype=np.float32)


def _half_width(depth: np.ndarray, along: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(H, W): the bone's half-width at each place along its axis, from the deepest pixel there."""
    low, high = float(along[mask].min()), float(along[mask].max())
    bins = 40
    position = (along - low) / max(high - low, 1e-6) * (bins - 1)
    labels = np.where(mask, np.rint(np.clip(position, 0, bins - 1)).astype(int) + 1, 0)
    widths = np.nan_to_num(np.asarray(maximum(depth, labels, np.arange(1, bins + 1)), dtype=float))
    return np.asarray(np.interp(position, np.arange(bins), gaussian_filter1d(widths, 1.2)), dtype=np.float32)


def _trabeculae(bone: Bone, shape: tuple[int, int], canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Fine streaks along the bone and coarser mottling."""
    height, width = shape[0] / canvas.scale, shape[1] / canvas.scale
    fine, long = 0.0055, 0.04
    run = np.abs(bone.axis[1] - bone.axis[0])
    cells = (height / long, width / fine) if run[1] >= run[0] else (height / fine, width / long)
    return smooth_noise(rng, shape, cells=cells) + 0.5 * smooth_noise(rng, shape, cells=(height / 0.04, width / 0.03))


def _growth_plate(canvas: Canvas, bone_map: np.ndarray, ends: np.ndarray) -> None:
    """A dark wavy seam between a bone's end and its shaft, with bright lips."""
    window = canvas.window(ends, margin=0.03)
    if empty(window):
        return
    x, y = canvas.coordinates(window)
    run = ends[1] - ends[0]
    length = float(np.linalg.norm(run))
    t = ((x - ends[0, 0]) * run[0] + (y - ends[0, 1]) * run[1]) / length**2
    off = ((x - ends[0, 0]) * run[1] - (y - ends[0, 1]) * run[0]) / length + 0.006 * np.sin(7 * t)
    here = smoothstep(-0.1, 0.0, t) * smoothstep(1.1, 1.0, t)
    bone_map[window] *= 1 - here * (
        0.5 * np.exp(-((off / 0.006) ** 2)) - 0.18 * np.exp(-(((np.abs(off) - 0.013) / 0.005) ** 2))
    )


def _soft_tissue(canvas: Canvas, anatomy: Anatomy, rng: np.random.Generator) -> np.ndarray:
    """Muscle under a darker layer of fat; lungs are nearly empty."""
    whole = (slice(0, canvas.height), slice(0, canvas.width))
    shape = (canvas.height, canvas.width)
    mask = canvas.mask([closed_curve(corners) for corners in anatomy.skin], whole)
    if not mask.any():
        return np.zeros(shape, np.float32)
    depth = canvas.depth(mask)
    round_off = np.sqrt(1 - (1 - np.clip(depth / min(0.16, max(float(depth.max()), 0.02)), 0, 1)) ** 2)
    fat = rng.uniform(0.012, 0.03)
    muscle = 0.55 + 0.45 * smoothstep(0.6 * fat, 1.3 * fat, depth)
    folds = 1 + 0.05 * smooth_noise(rng, shape, cells=(3, 9)) + 0.03 * smooth_noise(rng, shape, cells=(20, 20))
    soft = round_off * muscle * folds
    if anatomy.lung:
        air = canvas.mask([closed_curve(corners) for corners in anatomy.lung], whole).astype(np.float32)
        soft *= 1 - 0.6 * gaussian_filter(air, 0.008 * canvas.scale)
    return np.asarray(gaussian_filter(soft, 0.0015 * canvas.scale), dtype=np.float32)
