"""Decisions: what is fitted on validation and applied everywhere else: calibration and operating points of one model."""
# ruff: noqa: N803
# (shape suffixes: logits_NC)

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tune_btxrd.scoring.calibration import FEW_IMAGES, Calibration, fit_calibration
from tune_btxrd.scoring.operating_points import OperatingPoint, choose_operating_points
from tune_btxrd.tasks.registry import DEFAULT
from tune_btxrd.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """From logits to calibrated probabilities and to yes or no.

    Attributes:
        positive_class: index of the class that operating points decide on.
        images: validation images that all of this was fitted on.
    """

    positive_class: int
    images: int
    calibration: Calibration
    operating_points: tuple[OperatingPoint, ...]

    @property
    def task(self) -> Task:
        """What the model's targets are."""
        return self.calibration.task

    def calls(self, logits_NC: np.ndarray) -> dict[str, np.ndarray]:
        """Operating point -> (N,) bool: called positive."""
        score = self.calibration.probabilities(logits_NC)[:, self.positive_class]
        return {point.name: score >= point.threshold for point in self.operating_points}

    def notes(self, class_names: Sequence[str]) -> Iterator[str]:
        """What a reader must know: fitted on few images, operating points that are one."""
        if self.images < FEW_IMAGES:
            yield (
                f"Calibration and operating points are fitted on {self.images} validation images only and held near "
                "'no change': a guess, not a measurement."
            )
        by_threshold: dict[float, list[str]] = {}
        for point in self.operating_points:
            by_threshold.setdefault(point.threshold, []).append(point.name)
        for threshold, names in by_threshold.items():
            if len(names) > 1:
                one = " and ".join(names)
                yield f"Operating points of {class_names[self.positive_class]} that coincide: {one} ({threshold:.4f})."

    def to_dict(self) -> dict[str, object]:
        """Plain data."""
        return {
            "positive_class": self.positive_class,
            "images": self.images,
            "calibration": self.calibration.to_dict(),
            "operating_points": [point.to_dict() for point in self.operating_points],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Decisions":
        """The inverse of `to_dict`."""
        return cls(
            positive_class=int(values["positive_class"]),
            images=int(values["images"]),
            calibration=Calibration.from_dict(values["calibration"]),
            operating_points=tuple(OperatingPoint.from_dict(point) for point in values["operating_points"]),
        )


def fit_decisions(logits_NC: np.ndarray, targets_N: np.ndarray, *, positive_class: int, task: Task = DEFAULT) -> Decisions:
    """Fitted on the validation part: (N, C) logits and (N,) class indices, of which some are the positive class."""
    calibration = fit_calibration(logits_NC, targets_N, task=task)
    score = calibration.probabilities(logits_NC)[:, positive_class]
    points = choose_operating_points(score, task.indicators(targets_N, logits_NC.shape[1])[:, positive_class] > 0)
    return Decisions(positive_class=positive_class, images=len(targets_N), calibration=calibration, operating_points=points)
