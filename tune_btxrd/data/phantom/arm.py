"""Forearm and hand, drawn by eye. Units of `raster.py`; shafts run out of the picture."""

import numpy as np

from tune_btxrd.data.phantom.bones import Anatomy, Bone, Point, Site, finger_bone, long, points, small
from tune_btxrd.data.phantom.raster import ellipse, rod


def forearm(bend: float) -> Anatomy:
    """Radius and ulna to the wrist from the front; `bend` brings the two shafts nearer, as when the hand turns over."""
    near = 0.04 * min(bend / 40.0, 1.0)  # units: how far the ulna moves under the radius
    radius = points(
        *[
            (0.03, -0.75),
            (0.034, -0.3),
            (0.045, -0.1),
            (0.04, 0.08),
            (0.018, 0.19),
            (0.008, 0.245),
            (0.06, 0.262),
            (0.115, 0.285),
        ],
        *[(0.135, 0.25), (0.125, 0.18), (0.108, 0.08), (0.1, -0.1), (0.088, -0.3), (0.08, -0.75)],
    )
    ulna = points(
        *[(-0.1, -0.75), (-0.092, -0.3), (-0.085, -0.1), (-0.08, 0.1), (-0.088, 0.19), (-0.09, 0.24), (-0.075, 0.262)],
        *[(-0.03, 0.245), (-0.022, 0.2), (-0.035, 0.1), (-0.036, -0.1), (-0.034, -0.3), (-0.03, -0.75)],
    ) + np.array([near, 0.0])
    wrist = [(0.035, 0.31, 0.035), (0.085, 0.325, 0.04), (-0.02, 0.315, 0.032), (-0.05, 0.36, 0.03), (0.09, 0.4, 0.032)]
    wrist += [(0.035, 0.39, 0.036), (-0.02, 0.4, 0.03)]
    palm = [finger_bone((0.04 * i + 0.02, 0.44), (0.055 * i + 0.02, 0.8), half=0.017) for i in (-2, -1, 0, 1, 2)]
    skin = points(
        *[(-0.2, -0.8), (-0.19, -0.4), (-0.16, -0.1), (-0.135, 0.15), (-0.13, 0.3), (-0.16, 0.5), (-0.15, 0.8), (0.18, 0.8)],
        *[(0.2, 0.5), (0.165, 0.3), (0.165, 0.15), (0.18, -0.1), (0.2, -0.4), (0.2, -0.8)],
    )
    arm = {"joint": "wrist-joint", "limb": "upper limb"}
    return Anatomy(
        bones=(
            long(radius, (0.07, 0.2), (0.065, -0.2), thick=0.014),
            long(ulna, (-0.055 + near, 0.2), (-0.06 + near, -0.2), thick=0.013, density=0.95),
            *(small(ellipse(x, y, radius_x=half, radius_y=half * 0.9), density=0.55) for x, y, half in wrist),
            *palm,
        ),
        skin=(skin,),
        sites=(
            Site(column="radius", bone=0, at=(0.07, 0.14), radius=0.08, **arm),
            Site(column="ulna", bone=1, at=(-0.06 + near, 0.05), radius=0.075, **arm),
            Site(column="radius", bone=0, at=(0.071, -0.03), radius=0.08, **arm),
        ),
        plates=((0, (0.012, 0.212), (0.13, 0.22)),),
    )


# Fingers, thumb first: wrist end, knuckle, direction of the finger in degrees from straight up, its length.
_FINGERS: tuple[tuple[Point, Point, float, float], ...] = (
    ((0.12, 0.24), (0.235, 0.08), 42, 0.22),
    ((0.075, 0.18), (0.115, -0.06), 12, 0.36),
    ((0.03, 0.17), (0.035, -0.08), 2, 0.4),
    ((-0.015, 0.175), (-0.045, -0.06), -7, 0.37),
    ((-0.055, 0.19), (-0.115, -0.015), -18, 0.29),
)


def _finger(number: int, spread: float) -> tuple[list[Bone], np.ndarray]:
    """The bones of one finger, knuckle outwards, and its skin."""
    wrist, knuckle, degrees, length = _FINGERS[number]
    angle = np.deg2rad(degrees * spread)
    direction = np.array([np.sin(angle), -np.cos(angle)])
    joints = np.array(knuckle) + np.outer([0.03, 0.48, 0.53, 0.78, 0.82, 1.0], direction) * length
    ends = [((float(a[0]), float(a[1])), (float(b[0]), float(b[1]))) for a, b in zip(joints[::2], joints[1::2], strict=True)]
    bones = [finger_bone(wrist, knuckle, half=0.02)]
    bones += [finger_bone(a, b, half=half) for (a, b), half in zip(ends, (0.018, 0.015, 0.011), strict=True)]
    tip = np.array(knuckle) + direction * length * 1.06
    return bones, rod(knuckle, (float(tip[0]), float(tip[1])), half=0.038, flare=1.1)


def hand(bend: float) -> Anatomy:
    """The hand from the back; `bend` draws the fingers together."""
    spread = 1.15 - 0.9 * min(bend / 40.0, 1.0)
    fingers = [_finger(number, spread) for number in range(5)]
    wrist = [(0.03, 0.225), (0.075, 0.235), (-0.015, 0.225), (-0.05, 0.24), (0.06, 0.285), (0.01, 0.28), (-0.035, 0.29)]
    radius = points(
        (0.0, 0.33),
        (0.05, 0.325),
        (0.1, 0.34),
        (0.105, 0.4),
        (0.085, 0.5),
        (0.08, 0.8),
        (0.03, 0.8),
        (0.025, 0.5),
        (0.0, 0.4),
    )
    ulna = points(
        (-0.05, 0.335), (-0.02, 0.34), (-0.018, 0.4), (-0.025, 0.5), (-0.02, 0.8), (-0.06, 0.8), (-0.06, 0.5), (-0.068, 0.38)
    )
    palm = points(
        *[(-0.16, -0.02), (-0.1, -0.08), (0.03, -0.12), (0.13, -0.09), (0.18, 0.0), (0.27, 0.06), (0.22, 0.2), (0.14, 0.3)],
        *[(0.14, 0.5), (0.17, 0.85), (-0.14, 0.85), (-0.12, 0.5), (-0.105, 0.3), (-0.13, 0.15)],
    )
    site = {"column": "hand", "joint": "", "limb": "upper limb"}
    middle = [tuple(float(v) for v in (np.array(_FINGERS[n][0]) + np.array(_FINGERS[n][1])) / 2) for n in (1, 3)]
    phalanx = fingers[2][0][1].axis.mean(axis=0)
    return Anatomy(
        bones=(
            *(bone for bones, _ in fingers for bone in bones),
            *(small(ellipse(x, y, radius_x=0.03, radius_y=0.028), density=0.6) for x, y in wrist),
            long(radius, (0.05, 0.36), (0.055, 0.6), thick=0.011),
            long(ulna, (-0.045, 0.36), (-0.04, 0.6), thick=0.009, density=0.9),
        ),
        skin=(palm, *(skin for _, skin in fingers)),
        sites=(
            Site(bone=4, at=(middle[0][0], middle[0][1]), radius=0.055, **site),
            Site(bone=12, at=(middle[1][0], middle[1][1]), radius=0.055, **site),
            Site(bone=9, at=(float(phalanx[0]), float(phalanx[1])), radius=0.05, **site),
        ),
    )
