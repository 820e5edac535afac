"""Operating points of the positive class: thresholds chosen on validation, applied elsewhere."""
# ruff: noqa: N803
# (shape suffixes: scores_N)

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

YOUDEN, SENSITIVE, SPECIFIC = "Youden", "sensitivity >= 0.90", "specificity >= 0.95"
LEAST_SENSITIVITY, LEAST_SPECIFICITY = 0.90, 0.95


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """An image is called positive where its score (calibrated probability of the positive class) is >= threshold.

    Attributes:
        name: the rule: YOUDEN, SENSITIVE or SPECIFIC.
        val_sensitivity, val_specificity: what it achieved where it was chosen; elsewhere expect less.
    """

    name: str
    threshold: float
    val_sensitivity: float
    val_specificity: float

    def to_dict(self) -> dict[str, object]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "OperatingPoint":
        """The inverse of `to_dict`."""
        return cls(**values)


def choose_operating_points(scores_N: np.ndarray, positive_N: np.ndarray) -> tuple[OperatingPoint, ...]:
    """Youden (largest sensitivity + specificity), sensitivity >= 0.90 with the most specificity, and the reverse for 0.95.

    Thresholds lie halfway between neighbouring scores, so that rounding in another runtime turns no decision. Both
    constrained points always exist: everything positive, or nothing. At a tie the more sensitive threshold wins.

    Args:
        scores_N: calibrated probability of the positive class, in [0, 1].
        positive_N: bool; both values must occur.
    """
    assert positive_N.any() and not positive_N.all()
    thresholds, sensitivity, specificity = candidate_thresholds(scores_N, positive_N)
    youden = int(np.argmax(sensitivity + specificity))
    sensitive = int(np.flatnonzero(sensitivity >= LEAST_SENSITIVITY)[-1])
    specific = int(np.flatnonzero(specificity >= LEAST_SPECIFICITY)[0])
    return tuple(
        OperatingPoint(
            name=name,
            threshold=float(thresholds[index]),
            val_sensitivity=float(sensitivity[index]),
            val_specificity=float(specificity[index]),
        )
        for name, index in ((YOUDEN, youden), (SENSITIVE, sensitive), (SPECIFIC, specific))
    )


def candidate_thresholds(scores_N: np.ndarray, positive_N: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thresholds in rising order (all positive first, none last) with their sensitivities and specificities."""
    levels = np.unique(scores_N)
    edges = np.concatenate([[0.0], (levels[1:] + levels[:-1]) / 2, [(levels[-1] + 1.0 + 1e-9) / 2]])
    yes, no = np.sort(scores_N[positive_N]), np.sort(scores_N[~positive_N])
    sensitivity = 1 - np.searchsorted(yes, edges, side="left") / len(yes)
    specificity = np.searchsorted(no, edges, side="left") / len(no)
    return edges, sensitivity, specificity
