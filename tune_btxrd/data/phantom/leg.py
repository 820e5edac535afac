"""Knee and ankle, drawn by eye. Units of `raster.py`; the joint lies near the origin, shafts run out of the picture."""

from tune_btxrd.data.phantom.bones import Anatomy, Point, Site, finger_bone, long, moved, points, small, symmetric, turned
from tune_btxrd.data.phantom.raster import ellipse, rotate


def _knee_sites(femur: Point, tibia: Point, fibula: Point) -> tuple[Site, ...]:
    leg = {"joint": "knee-joint", "limb": "lower limb"}
    return (
        Site(column="femur", bone=0, at=femur, radius=0.10, **leg),
        Site(column="tibia", bone=1, at=tibia, radius=0.095, **leg),
        Site(column="fibula", bone=2, at=fibula, radius=0.075, **leg),
    )


def knee_frontal(bend: float) -> Anatomy:
    """Distal femur, proximal tibia and fibula, patella from the front. `bend` is unused: the knee is straight."""
    femur = symmetric(
        *[(0.052, -0.75), (0.05, -0.45), (0.055, -0.30), (0.072, -0.19), (0.102, -0.12), (0.118, -0.07)],
        *[(0.108, -0.025), (0.065, -0.008), (0.022, -0.03)],
    )
    tibia = symmetric(
        *[(0.015, 0.006), (0.06, 0.016), (0.112, 0.02), (0.116, 0.055), (0.085, 0.14), (0.058, 0.27)],
        *[(0.047, 0.45), (0.045, 0.75)],
    )
    fibula = points(
        *[(0.098, 0.085), (0.118, 0.065), (0.135, 0.09), (0.128, 0.15), (0.122, 0.3), (0.12, 0.75)],
        *[(0.098, 0.75), (0.1, 0.3), (0.103, 0.15)],
    )
    skin = points(
        *[(0.2, -0.8), (0.185, -0.4), (0.155, -0.15), (0.15, 0.0), (0.16, 0.1), (0.175, 0.25), (0.15, 0.55), (0.13, 0.8)],
        *[
            (-0.12, 0.8),
            (-0.14, 0.55),
            (-0.165, 0.25),
            (-0.15, 0.1),
            (-0.145, 0.0),
            (-0.155, -0.15),
            (-0.185, -0.4),
            (-0.21, -0.8),
        ],
    )
    return Anatomy(
        bones=(
            long(femur, (0, -0.08), (0, -0.45), thick=0.016),
            long(tibia, (0, 0.06), (0, 0.4), thick=0.015),
            long(fibula, (0.115, 0.09), (0.11, 0.4), thick=0.007, density=0.8),
            small(ellipse(0.005, -0.1, radius_x=0.05, radius_y=0.056), density=0.25),
        ),
        skin=(skin,),
        sites=_knee_sites((0, -0.2), (0, 0.14), (0.116, 0.13)),
        plates=((0, (-0.1, -0.105), (0.1, -0.105)), (1, (-0.1, 0.075), (0.1, 0.075))),
    )


def knee_lateral(bend: float) -> Anatomy:
    """The knee from the side, bent by `bend` degrees."""
    femur = points(
        *[
            (-0.045, -0.75),
            (-0.045, -0.3),
            (-0.06, -0.15),
            (-0.085, -0.09),
            (-0.075, -0.03),
            (-0.02, -0.005),
            (0.05, -0.015),
        ],
        *[(0.105, -0.06), (0.105, -0.11), (0.065, -0.16), (0.048, -0.26), (0.045, -0.45), (0.045, -0.75)],
    )
    tibia = points(
        *[(-0.085, 0.025), (-0.02, 0.012), (0.075, 0.022), (0.085, 0.06), (0.055, 0.14), (0.04, 0.3), (0.038, 0.75)],
        *[(-0.045, 0.75), (-0.05, 0.3), (-0.07, 0.13), (-0.092, 0.08)],
    )
    fibula = points(
        *[(0.055, 0.09), (0.075, 0.072), (0.092, 0.1), (0.082, 0.2), (0.07, 0.45), (0.067, 0.75), (0.045, 0.75)],
        *[(0.048, 0.45), (0.057, 0.2)],
    )
    thigh = points(
        *[(-0.15, -0.8), (-0.13, -0.3), (-0.17, -0.12), (-0.165, -0.03), (-0.11, 0.05), (0.0, 0.09), (0.1, 0.06)],
        *[(0.15, -0.05), (0.165, -0.2), (0.19, -0.8)],
    )
    shank = points(
        *[
            (-0.14, -0.06),
            (-0.115, 0.1),
            (-0.095, 0.3),
            (-0.085, 0.8),
            (0.13, 0.8),
            (0.185, 0.4),
            (0.165, 0.18),
            (0.13, 0.03),
        ],
        *[(0.1, -0.07), (0.0, -0.1)],
    )
    return Anatomy(
        bones=(
            long(femur, (0, -0.08), (0, -0.45), thick=0.015),
            turned(long(tibia, (0, 0.06), (-0.01, 0.4), thick=0.014), -bend, (0.0, 0.0)),
            turned(long(fibula, (0.075, 0.09), (0.06, 0.4), thick=0.007, density=0.7), -bend, (0.0, 0.0)),
            small(rotate(ellipse(-0.135, -0.075, radius_x=0.028, radius_y=0.052), -bend / 2), density=0.7),
        ),
        skin=(thigh, rotate(shank, -bend)),
        sites=_knee_sites((0, -0.2), moved((-0.01, 0.13), -bend), moved((0.072, 0.14), -bend)),
        plates=((0, (-0.07, -0.11), (0.09, -0.11)), (1, moved((-0.08, 0.07), -bend), moved((0.07, 0.07), -bend))),
    )


def _ankle_sites(tibia: Point, fibula: Point, foot: Point) -> tuple[Site, ...]:
    leg = {"joint": "ankle-joint", "limb": "lower limb"}
    return (
        Site(column="tibia", bone=0, at=tibia, radius=0.085, **leg),
        Site(column="fibula", bone=1, at=fibula, radius=0.075, **leg),
        Site(column="foot", bone=2, at=foot, radius=0.075, **leg),
    )


def ankle_frontal(bend: float) -> Anatomy:
    """Distal tibia and fibula, talus and foot from the front."""
    tibia = points(
        *[(-0.042, -0.75), (-0.04, -0.3), (-0.05, -0.18), (-0.072, -0.1), (-0.08, -0.05), (-0.078, -0.005), (-0.062, 0.02)],
        *[
            (-0.05, -0.012),
            (-0.04, -0.034),
            (0.04, -0.036),
            (0.06, -0.05),
            (0.058, -0.1),
            (0.045, -0.2),
            (0.04, -0.4),
            (0.042, -0.75),
        ],
    )
    fibula = points(
        *[(0.085, -0.75), (0.078, -0.2), (0.072, -0.08), (0.066, -0.02), (0.085, 0.045), (0.1, 0.03), (0.11, -0.03)],
        *[(0.104, -0.1), (0.1, -0.3), (0.107, -0.75)],
    )
    heel = points((-0.05, 0.075), (0.05, 0.075), (0.07, 0.13), (0.055, 0.21), (-0.045, 0.21), (-0.065, 0.14))
    talus = points((-0.042, -0.02), (0.04, -0.022), (0.055, 0.02), (0.05, 0.06), (-0.045, 0.06), (-0.05, 0.02))
    skin = points(
        *[(-0.15, -0.8), (-0.12, -0.35), (-0.105, -0.1), (-0.11, 0.05), (-0.12, 0.2), (-0.16, 0.5), (-0.15, 0.8)],
        *[(0.18, 0.8), (0.19, 0.5), (0.14, 0.2), (0.14, 0.05), (0.14, -0.1), (0.15, -0.35), (0.19, -0.8)],
    )
    toes = [finger_bone((0.021 * i + 0.0, 0.2), (0.05 * i + 0.005, 0.55), half=0.012) for i in (-2, -1, 0, 1, 2)]
    return Anatomy(
        bones=(
            long(tibia, (0, -0.08), (0, -0.35)),
            long(fibula, (0.09, -0.03), (0.09, -0.35), thick=0.008, density=0.85),
            small(heel, density=0.6),
            small(talus),
            *toes,
        ),
        skin=(skin,),
        sites=_ankle_sites((-0.01, -0.16), (0.09, -0.12), (0.0, 0.14)),
        plates=((0, (-0.07, -0.085), (0.055, -0.085)),),
    )


def ankle_lateral(bend: float) -> Anatomy:
    """The ankle and the back of the foot from the side."""
    tibia = points(
        *[(-0.045, -0.75), (-0.042, -0.25), (-0.055, -0.12), (-0.07, -0.06), (-0.06, -0.03), (0, -0.045), (0.05, -0.03)],
        *[(0.065, -0.06), (0.05, -0.13), (0.04, -0.25), (0.04, -0.75)],
    )
    fibula = points(
        *[
            (0.03, -0.75),
            (0.02, -0.2),
            (0.012, -0.08),
            (0.01, 0.02),
            (0.03, 0.035),
            (0.048, 0.01),
            (0.05, -0.1),
            (0.052, -0.75),
        ],
    )
    heel = points(
        *[(0.03, 0.06), (0.1, 0.05), (0.17, 0.075), (0.19, 0.12), (0.17, 0.175), (0.1, 0.16), (0.0, 0.14), (-0.1, 0.12)],
        *[(-0.11, 0.08), (-0.03, 0.075)],
    )
    talus = points(
        *[
            (-0.065, -0.012),
            (0, -0.032),
            (0.055, -0.008),
            (0.06, 0.03),
            (0, 0.052),
            (-0.06, 0.058),
            (-0.12, 0.05),
            (-0.125, 0.005),
        ],
    )
    skin = points(
        *[(-0.1, -0.8), (-0.09, -0.2), (-0.13, -0.03), (-0.3, 0.02), (-0.55, 0.13), (-0.57, 0.23), (-0.2, 0.2), (0.1, 0.22)],
        *[(0.21, 0.2), (0.23, 0.1), (0.14, 0.0), (0.1, -0.15), (0.13, -0.4), (0.15, -0.8)],
    )
    midfoot = (ellipse(-0.165, 0.05, radius_x=0.035, radius_y=0.045), ellipse(-0.15, 0.105, radius_x=0.04, radius_y=0.03))
    toes = [finger_bone((-0.2, 0.055 + 0.025 * i), (-0.5, 0.15 + 0.025 * i), half=0.014, density=0.6) for i in range(3)]
    return Anatomy(
        bones=(
            long(tibia, (0, -0.08), (0, -0.35)),
            long(fibula, (0.03, 0.0), (0.035, -0.3), thick=0.007, density=0.45),
            small(heel),
            small(talus),
            *(small(corners, density=0.5) for corners in midfoot),
            *toes,
        ),
        skin=(skin,),
        sites=_ankle_sites((-0.005, -0.16), (0.03, -0.12), (0.09, 0.11)),
        plates=((0, (-0.06, -0.085), (0.055, -0.085)),),
    )
