"""Hip and shoulder, drawn by eye. Units of `raster.py`; the ball of the joint lies near the origin."""

import numpy as np

from tune_btxrd.data.phantom.bones import Anatomy, Bone, Site, finger_bone, long, moved, points, small, turned
from tune_btxrd.data.phantom.raster import ellipse, rotate

_HIP = (0.07, -0.1)  # the middle of the femoral head


def hip(bend: float) -> Anatomy:
    """Hip bone and proximal femur from the front, the thigh turned outwards by `bend` degrees (frog leg)."""
    femur = points(
        *[(0.02, -0.155), (0.075, -0.17), (0.125, -0.145), (0.14, -0.1), (0.12, -0.055), (0.075, -0.03), (0.035, -0.005)],
        *[
            (0.012, 0.04),
            (0.026, 0.075),
            (0.0, 0.13),
            (-0.005, 0.3),
            (-0.01, 0.8),
            (-0.11, 0.8),
            (-0.106, 0.3),
            (-0.112, 0.13),
        ],
        *[(-0.132, 0.05), (-0.142, 0.0), (-0.125, -0.055), (-0.09, -0.07), (-0.045, -0.06), (0.0, -0.105)],
    )
    ilium = points(
        *[
            (-0.05, -0.40),
            (0.1, -0.45),
            (0.24, -0.36),
            (0.27, -0.25),
            (0.225, -0.2),
            (0.2, -0.1),
            (0.19, -0.03),
            (0.165, 0.0),
        ],
        *[(0.155, -0.06), (0.152, -0.13), (0.12, -0.175), (0.06, -0.188), (0.015, -0.19), (-0.025, -0.25), (-0.08, -0.33)],
    )
    trunk = points(
        *[(-0.22, -0.8), (-0.23, -0.35), (-0.27, -0.05), (-0.25, 0.1), (0.2, 0.12), (0.26, 0.2), (0.3, 0.13), (0.7, 0.3)],
        *[(0.8, -0.2), (0.75, -0.8)],
    )
    thigh = points((-0.27, -0.05), (-0.26, 0.2), (-0.22, 0.85), (0.13, 0.85), (0.19, 0.35), (0.22, 0.1), (0.15, -0.1))
    ischium = points((0.16, 0.0), (0.2, -0.03), (0.215, 0.05), (0.235, 0.12), (0.2, 0.155), (0.165, 0.12), (0.17, 0.05))
    return Anatomy(
        bones=(
            turned(long(femur, (0.0, -0.06), (-0.06, 0.3), thick=0.018), bend, _HIP),
            Bone(corners=ilium, axis=points((0.1, -0.2), (0.1, -0.4)), cortex=(0.009, 0.006), density=0.75),
            small(ischium, density=0.6),
            finger_bone((0.17, -0.07), (0.37, -0.02), half=0.026, density=0.6),
            finger_bone((0.36, 0.0), (0.22, 0.13), half=0.02, density=0.5),
            small(ellipse(0.4, -0.25, radius_x=0.1, radius_y=0.17), density=0.5),
        ),
        skin=(trunk, rotate(thigh, bend, about=_HIP)),
        sites=(
            Site(
                column="femur", joint="hip-joint", limb="lower limb", bone=0, at=moved((-0.06, 0.1), bend, _HIP), radius=0.09
            ),
            Site(column="hip bone", joint="hip-joint", limb="pelvis", bone=1, at=(0.1, -0.31), radius=0.1),
        ),
        plates=((0, moved((0.02, -0.13), bend, _HIP), moved((0.09, -0.045), bend, _HIP)),),
    )


def _rib(number: int) -> np.ndarray:
    """Corners of one rib: a thin arch that falls to the side."""
    angle = np.linspace(np.pi * 0.92, np.pi * 1.6, 9)
    reach, top = 0.33 + 0.012 * number, -0.06 + 0.095 * number
    arch = np.stack([0.62 + reach * np.cos(angle), top + 0.16 * np.sin(angle)], axis=1)
    half = np.array([0, 0.011])
    return np.vstack([arch - half, (arch + half)[::-1]])


def shoulder(bend: float) -> Anatomy:
    """Proximal humerus, scapula, clavicle and ribs from the front, the arm lifted by `bend` degrees."""
    humerus = points(
        *[(-0.05, -0.13), (0.01, -0.145), (0.06, -0.115), (0.075, -0.06), (0.055, -0.01), (0.026, 0.04), (0.014, 0.12)],
        *[
            (0.01, 0.3),
            (0.015, 0.85),
            (-0.065, 0.85),
            (-0.066, 0.3),
            (-0.074, 0.12),
            (-0.092, 0.03),
            (-0.1, -0.04),
            (-0.085, -0.1),
        ],
    )
    scapula = points(
        *[(0.09, -0.12), (0.1, -0.03), (0.13, 0.02), (0.2, 0.2), (0.26, 0.3), (0.29, 0.2), (0.31, -0.05), (0.28, -0.16)],
        *[(0.2, -0.12), (0.14, -0.14)],
    )
    arm = points(
        *[
            (-0.15, 0.85),
            (-0.17, 0.3),
            (-0.185, 0.05),
            (-0.165, -0.12),
            (-0.08, -0.22),
            (0.05, -0.25),
            (0.14, -0.1),
            (0.13, 0.2),
        ],
        *[(0.1, 0.4), (0.09, 0.85)],
    )
    trunk = points(
        *[(0.0, -0.24), (0.25, -0.32), (0.42, -0.42), (0.46, -0.8), (0.9, -0.8), (0.9, 0.9), (0.22, 0.9), (0.17, 0.45)],
        *[(0.12, 0.2), (0.05, 0.0)],
    )
    lung = points((0.42, -0.17), (0.6, -0.22), (0.9, -0.1), (0.9, 0.7), (0.42, 0.75), (0.3, 0.4), (0.31, 0.1))
    pivot = (0.0, -0.06)
    return Anatomy(
        bones=(
            turned(long(humerus, (-0.01, -0.05), (-0.03, 0.3), thick=0.016), bend, pivot),
            Bone(corners=scapula, axis=points((0.12, -0.1), (0.26, 0.2)), cortex=(0.008, 0.004), density=0.35),
            finger_bone((-0.04, -0.185), (0.2, -0.15), half=0.022, density=0.5),
            finger_bone((0.02, -0.2), (0.55, -0.27), half=0.02, density=0.7),
            *(small(_rib(number), density=0.35) for number in range(6)),
        ),
        skin=(rotate(arm, bend, about=pivot), trunk),
        sites=(
            Site(
                column="humerus", joint="shoulder-joint", limb="upper limb", bone=0,
                at=moved((-0.03, 0.06), bend, pivot), radius=0.09,
            ),
            Site(
                column="humerus", joint="shoulder-joint", limb="upper limb", bone=0,
                at=moved((-0.027, 0.2), bend, pivot), radius=0.085,
            ),
        ),
        lung=(lung,),
        plates=((0, moved((-0.09, -0.02), bend, pivot), moved((0.06, -0.02), bend, pivot)),),
    )  # fmt: skip
