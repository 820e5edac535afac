"""Cases: the phantom's patients, their images and the released table of BTXRD's 37 columns.

Within a center, age, gender, region, view, side and image size are drawn without a look at the class.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

# Images per center and class (Normal, Benign, Malignant) of the released table; the phantom keeps these shares.
BTXRD_COUNTS: dict[int, tuple[int, int, int]] = {1: (1593, 1110, 235), 2: (259, 214, 76), 3: (27, 201, 31)}
VIEWS = ("frontal", "lateral", "oblique")
SITES = ("hand", "ulna", "radius", "humerus", "foot", "tibia", "fibula", "femur", "hip bone")
JOINTS = ("ankle-joint", "knee-joint", "hip-joint", "wrist-joint", "elbow-joint", "shoulder-joint")
LIMBS = ("upper limb", "lower limb", "pelvis")
# Tumour -> its share among Benign and among Malignant; holes are more frequent than in BTXRD, so that both kinds are learnt.
BENIGN = {
    "osteochondroma": 0.26, "multiple osteochondromas": 0.08, "simple bone cyst": 0.28, "giant cell tumor": 0.18,
    "osteofibroma": 0.06, "synovial osteochondroma": 0.04, "other bt": 0.1,
}  # fmt: skip
MALIGNANT = {"osteosarcoma": 0.85, "other mt": 0.15}
COLUMNS = (
    "image_id", "center", "age", "gender", *SITES, *JOINTS, "tumor", "benign", "malignant",
    *BENIGN, *MALIGNANT, *LIMBS, *VIEWS,
)  # fmt: skip
# Region -> share in each center; the number of its lesion sites.
_REGION_SHARES: dict[str, tuple[float, float, float]] = {
    "knee": (0.5, 0.42, 0.46), "ankle": (0.13, 0.18, 0.12), "hip": (0.1, 0.1, 0.12),
    "shoulder": (0.13, 0.14, 0.16), "forearm": (0.09, 0.1, 0.1), "hand": (0.05, 0.06, 0.04),
}  # fmt: skip
_SITE_COUNTS = {"knee": 3, "ankle": 3, "hip": 2, "shoulder": 2, "forearm": 3, "hand": 3}
_AGES = {1: (1.5, 28.0), 2: (1.6, 15.0), 3: (1.8, 13.0)}  # center -> gamma distribution: shape, scale in years
_ASPECTS = {1: (0.62, 0.86), 2: (0.68, 0.9), 3: (0.66, 0.84)}  # center -> short side over long side


@dataclass(frozen=True, kw_only=True)
class Patient:
    """One person, imaged once or more. `number` seeds the body; `tumour` is a table column, "" for a Normal."""

    number: int
    center: int
    target: int
    age: int
    gender: str
    region: str
    site: int
    side: str
    tumour: str
    views: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One image of a patient; `number` (1-based table row) seeds pose and film. Width and height in pixels."""

    number: int
    image_id: str
    patient: Patient
    view: str
    width: int
    height: int
    mode: str


def plan_cases(count: int, *, size: int, seed: int) -> list[Case]:
    """All images in table order: center after center, patients shuffled within, the last ones `.jpg` as in BTXRD."""
    rng = np.random.default_rng([seed, 0])
    patients: list[Patient] = []
    for center, classes in _allocate(count).items():
        drawn = [(target, views) for target, images in enumerate(classes) for views in _view_sets(images, rng)]
        for place in rng.permutation(len(drawn)):
            target, views = drawn[place]
            patients.append(_patient(len(patients), center=center, target=target, views=views, rng=rng))
    pairs = [(patient, view) for patient in patients for view in patient.views]
    last_jpeg = count - max(2, round(27 / 3746 * count))
    cases = []
    for number, (patient, view) in enumerate(pairs, start=1):
        extension = "jpeg" if number <= last_jpeg else "jpg"
        width, height = _image_size(patient.center, size, rng)
        mode = "RGB" if rng.random() < 0.12 else "L"
        name = f"IMG{number:06d}.{extension}"
        cases.append(Case(number=number, image_id=name, patient=patient, view=view, width=width, height=height, mode=mode))
    return cases


def _allocate(count: int) -> dict[int, tuple[int, ...]]:
    """Images per center and class in BTXRD's shares, by largest remainder, at least one each."""
    cells = np.array(list(BTXRD_COUNTS.values()), dtype=float)
    exact = 1 + cells / cells.sum() * (count - cells.size)
    whole = np.floor(exact).astype(int)
    rest = count - int(whole.sum())
    for place in np.argsort((whole - exact).ravel(), kind="stable")[:rest]:
        whole.flat[place] += 1
    return {center: tuple(int(n) for n in row) for center, row in zip(BTXRD_COUNTS, whole, strict=True)}


def _view_sets(images: int, rng: np.random.Generator) -> list[tuple[str, ...]]:
    """Cuts so many images into patients of one to three views."""
    sets: list[tuple[str, ...]] = []
    left = images
    while left > 0:
        number = min(left, int(rng.choice([1, 2, 3], p=[0.35, 0.45, 0.2])))
        single = (str(rng.choice(VIEWS, p=[0.58, 0.34, 0.08])),)
        sets.append({1: single, 2: VIEWS[:2], 3: VIEWS}[number])
        left -= number
    return sets


def _patient(number: int, *, center: int, target: int, views: tuple[str, ...], rng: np.random.Generator) -> Patient:
    shares = np.array([share[center - 1] for share in _REGION_SHARES.values()])
    region = str(rng.choice(list(_REGION_SHARES), p=shares / shares.sum()))
    shape, scale = _AGES[center]
    kinds = ({"": 1.0}, BENIGN, MALIGNANT)[target]
    return Patient(
        number=number, center=center, target=target, age=int(np.clip(rng.gamma(shape, scale), 1, 88)),
        gender=str(rng.choice(["M", "F"], p=[0.56, 0.44])), region=region, site=int(rng.integers(_SITE_COUNTS[region])),
        side=str(rng.choice(["L", "R"])), tumour=str(rng.choice(list(kinds), p=list(kinds.values()))), views=views,
    )  # fmt: skip


def _image_size(center: int, size: int, rng: np.random.Generator) -> tuple[int, int]:
    """Width and height: the long side 80..100 % of `size`, one in twelve landscape."""
    long_side = round(size * rng.uniform(0.8, 1.0))
    short_side = round(long_side * rng.uniform(*_ASPECTS[center]))
    return (long_side, short_side) if rng.random() < 0.08 else (short_side, long_side)


def table_of(cases: list[Case], *, places: dict[str, tuple[tuple[str, str, str], ...]]) -> pd.DataFrame:
    """The released table: 37 columns, one row per case. Site columns are set for tumours only, as in BTXRD.

    Args:
        places: region -> its lesion sites as (bone column, joint column or "", limb column).
    """
    rows = []
    for case in cases:
        patient = case.patient
        bone, joint, limb = places[patient.region][patient.site]
        marked = {limb, case.view}
        if patient.target > 0:
            marked |= {"tumor", ("benign", "malignant")[patient.target - 1], patient.tumour}
            marked.add(joint if patient.tumour == "synovial osteochondroma" and joint else bone)
        fixed = {"image_id": case.image_id, "center": patient.center, "age": patient.age, "gender": patient.gender}
        rows.append({column: fixed.get(column, int(column in marked)) for column in COLUMNS})
    return pd.DataFrame(rows, columns=list(COLUMNS))
