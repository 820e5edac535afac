"""Heads: the phantom's brains in four contrasts, each with one lesion of high or low grade.

The grade decides one thing alone: which half of the lesion takes up contrast agent (`t1ce`), its rim (HGG) or its core
(LGG). Both halves have the same number of voxels, so brightness, spread and histogram tell nothing; the arrangement does.
Units: the longest side of the grid goes from -1 to 1; intensities are shares of white matter's in `t1`.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

GRADES = ("HGG", "LGG")
HGG_SHARE = 0.6
CHANNELS = ("flair", "t1", "t1ce", "t2")
SHAPE = (5 / 6, 1.0, 5 / 6)  # of the grid: left to right, back to front, down to up, as shares of its size
SEMI_AXES = (0.66, 0.84, 0.64)  # of a brain
RADII = (0.22, 0.3)  # of a lesion
DEEPEST = 0.45  # share of the way to the brain's surface where a lesion's middle may lie
OEDEMA = 1.45  # radii of a lesion
TAKES_UP, LACKS = 0.5, -0.3  # what contrast agent adds to t1 in the one half of a lesion, and what the other lacks
BLUR, NOISE = 0.4, 0.05  # voxels; share of white matter in t1
TISSUES = {  # contrast -> white matter, grey matter, ventricles, lesion, oedema
    "flair": (0.62, 0.78, 0.22, 1.25, 1.1),
    "t1": (1.0, 0.74, 0.34, 0.66, 0.8),
    "t1ce": (1.0, 0.76, 0.34, 0.78, 0.84),
    "t2": (0.55, 0.72, 1.3, 1.1, 1.0),
}
CORE, SWOLLEN, RIM = 1, 2, 4  # values of the mask, as in BraTS


@dataclass(frozen=True, kw_only=True)
class Head:
    """One patient; `number` (from 1) seeds everything but the grade."""

    number: int
    case: str
    grade: str


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A head as it is stored: axes R, A, S; int16 per contrast, background 0; uint8 mask of the lesion."""

    contrasts: dict[str, np.ndarray]
    mask: np.ndarray


def plan_heads(count: int, *, seed: int) -> list[Head]:
    """All patients, in order of their numbers; grades are drawn without a look at anything else."""
    high = round(count * HGG_SHARE)
    grades = np.random.default_rng([seed, 0]).permutation([GRADES[0]] * high + [GRADES[1]] * (count - high))
    return [
        Head(number=number, case=f"Phantom_{number:03d}", grade=str(grade)) for number, grade in enumerate(grades, start=1)
    ]


def draw_head(head: Head, *, size: int, seed: int) -> Drawn:
    """The four contrasts and the mask; the same numbers for the other grade, but for the lesion's halves in `t1ce`."""
    rng = np.random.default_rng([seed, 1, head.number])
    shape = tuple(round(share * size) for share in SHAPE)
    place = _turned(
        np.stack(np.meshgrid(*[np.linspace(-s, s, n) for s, n in zip(SHAPE, shape, strict=True)], indexing="ij")), rng
    )
    depth = _depth(place, rng)
    inside = depth < 1
    tissues = _tissues(place, depth, rng)
    lesion = _lesion(place, depth, rng)
    swelling = np.clip((OEDEMA - lesion) / 0.3, 0, 1)
    ill = inside & (lesion < 1)
    core = ill & (lesion < np.median(lesion[ill]))
    rim = ill & ~core
    bright, dark = (rim, core) if head.grade == GRADES[0] else (core, rim)
    contrasts = {}
    for name in CHANNELS:
        values = TISSUES[name]
        picture = tissues @ np.array(values[:3])
        picture += swelling * (values[4] - picture)
        picture = ndimage.gaussian_filter(np.where(ill, values[3], picture), BLUR)
        if name == "t1ce":  # sharp, and from one level: a blurred rim takes in what lies around it, and its histogram tells
            picture = np.where(ill, values[3], picture) + TAKES_UP * bright + LACKS * dark
        contrasts[name] = _measured(picture, inside, rng)
    mask = np.where(core, CORE, np.where(rim, RIM, np.where(inside & (swelling > 0.5), SWOLLEN, 0)))
    return Drawn(contrasts=contrasts, mask=mask.astype(np.uint8))


def _turned(place: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(3, X, Y, Z): where each voxel lies in a head that is turned by a few degrees and shifted a little."""
    turn = np.linalg.qr(np.eye(3) + rng.normal(0, 0.06, (3, 3)))[0]
    turn *= np.sign(np.diag(turn))
    return np.tensordot(turn, place - rng.normal(0, 0.02, (3, 1, 1, 1)), axes=1)


def _depth(place: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """0 in the middle of the brain, 1 on its surface, which is uneven."""
    axes = np.array(SEMI_AXES) * rng.uniform(0.92, 1.06, 3)
    round_ = np.sqrt(((place / axes[:, None, None, None]) ** 2).sum(axis=0))
    return np.asarray(round_ * (1 + 0.05 * _smooth(place.shape[1:], 6, rng)))


def _tissues(place: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(X, Y, Z, 3): shares of white matter, grey matter and ventricles."""
    folds = depth + 0.1 * _smooth(depth.shape, 9, rng)
    grey = np.clip((folds - 0.78) / 0.1, 0, 1)
    wide = rng.uniform(0.8, 1.3)
    ventricles = np.zeros(depth.shape)
    for side in (-1, 1):
        center = np.array([0.12 * side, 0.02, 0.06])[:, None, None, None]
        axes = np.array([0.07, 0.3, 0.11])[:, None, None, None] * wide
        ventricles = np.maximum(
            ventricles, np.clip((1.1 - np.sqrt((((place - center) / axes) ** 2).sum(axis=0))) / 0.3, 0, 1)
        )
    grey = grey * (1 - ventricles)
    return np.stack([1 - grey - ventricles, grey, ventricles], axis=-1)


def _lesion(place: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """0 in the middle of a lesion, 1 on its uneven surface; it lies somewhere in the brain, whatever the grade."""
    places = np.flatnonzero((depth < DEEPEST).ravel())
    middle = place.reshape(3, -1)[:, rng.choice(places)]
    radius = rng.uniform(*RADII) * rng.uniform(0.85, 1.15, 3)
    away = np.sqrt((((place - middle[:, None, None, None]) / radius[:, None, None, None]) ** 2).sum(axis=0))
    return np.asarray(away * (1 + 0.08 * _smooth(depth.shape, 5, rng)))


def _measured(picture: np.ndarray, inside: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a scanner makes of it: uneven, noisy, in units of its own; nothing outside the brain."""
    uneven = picture * (1 + 0.08 * _smooth(picture.shape, 3, rng))
    noisy = uneven + rng.normal(0, NOISE, picture.shape)
    scaled = np.rint(noisy * rng.uniform(250, 900))
    return np.where(inside, np.maximum(scaled, 1), 0).astype(np.int16)


def _smooth(shape: tuple[int, ...], knots: int, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise of about unit spread, whatever the size of the grid."""
    coarse = rng.normal(0, 1, (knots,) * 3)
    at = np.meshgrid(*[np.linspace(0, knots - 1, side) for side in shape], indexing="ij")
    return np.asarray(ndimage.map_coordinates(coarse, np.stack(at), order=2, mode="nearest"))
