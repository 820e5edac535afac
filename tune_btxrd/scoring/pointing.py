"""Pointing game: does a model look where the lesion is? Heat maps judged on annotated outlines."""
# ruff: noqa: N803
# (shape suffixes: S = side in px)

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from tune_btxrd.scoring.annotations import Lesion
from tune_btxrd.scoring.intervals import Interval, Proportion, draw_weights, percentile_interval

ROUNDING = 1e-6  # relative; equal heat after enlarging


@dataclass(frozen=True, kw_only=True)
class Pointed:
    """One image: whether the heat map's peak lies in the lesion, the share of energy inside, and the chance of both."""

    image_id: str
    hit: bool
    energy: float
    chance: float


@dataclass(frozen=True, kw_only=True)
class PointingGame:
    """All annotated images of a part.

    Attributes:
        hits: peaks inside (Zhang et al., IJCV 2018, without its tolerance margin).
        chance: mean share of the picture that a lesion covers.
        energy: mean share of the heat inside a lesion (Wang et al., CVPRW 2020); energy_interval: bootstrap over images.
    """

    hits: Proportion
    chance: float
    energy: float
    energy_interval: Interval

    def __str__(self) -> str:
        return (
            f"peak in the lesion {self.hits} = {self.hits.value:.2f} ({self.hits.clopper_pearson}), energy inside "
            f"{self.energy:.2f} ({self.energy_interval}); chance {self.chance:.2f}"
        )

    def to_dict(self) -> dict[str, object]:
        """Plain data."""
        return asdict(self)


def point(image_id: str, heat_SS: np.ndarray, lesion: Lesion) -> Pointed:
    """Judges one heat map (not negative). Without any heat in the picture it has no peak: a miss with no energy."""
    heat = np.where(lesion.picture, heat_SS, 0)
    total = float(heat.sum())
    energy = float(heat[lesion.mask].sum()) / total if total > 0 else 0.0
    return Pointed(image_id=image_id, hit=total > 0 and bool(lesion.mask[peak(heat)]), energy=energy, chance=lesion.chance)


def peak(heat: np.ndarray) -> tuple[int, ...]:
    """The place of the highest heat; of a plateau (an enlarged map has them along its border) the middle."""
    places = np.argwhere(heat >= heat.max() * (1 - ROUNDING))
    return tuple(int(index) for index in places[np.square(places - places.mean(axis=0)).sum(axis=1).argmin()])


def play(pointed: Sequence[Pointed], *, seed: int = 42) -> PointingGame | None:
    """The game over all images; None without one."""
    if not pointed:
        return None
    energy = np.array([item.energy for item in pointed])
    weights = draw_weights(np.arange(len(pointed)), seed=seed)
    return PointingGame(
        hits=Proportion(found=sum(item.hit for item in pointed), asked=len(pointed)),
        chance=float(np.mean([item.chance for item in pointed])),
        energy=float(energy.mean()),
        energy_interval=percentile_interval(weights @ energy / weights.sum(axis=1)),
    )


def pointing_table(pointed: Sequence[Pointed]) -> pd.DataFrame:
    """One row per image."""
    return pd.DataFrame([asdict(item) for item in pointed], columns=["image_id", "hit", "energy", "chance"])
