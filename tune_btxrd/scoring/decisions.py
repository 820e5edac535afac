"""Decisions: what is fitted on validation and applied everywhere else: calibration and operating points of one model."""
# ruff: noqa: N803
# (shape suffixes: logits_NC)

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tune_btxrd.scoring.answers import Answers
from tune_btxrd.scoring.calibration import FEW_IMAGES, Calibration, fit_calibration
from tune_btxrd.scoring.operating_points import YOUDEN, OperatingPoint, choose_operating_points
from tune_btxrd.tasks.registry import DEFAULT
from tune_btxrd.tasks.task import Task

RULE = "largest probability before calibration, as evaluate scores it"  # of exclusive classes: what decides `predicted`
LABEL_RULE = f"calibrated probability of a label >= its {YOUDEN} threshold, chosen on validation, as evaluate scores it"
UNFITTED_RULE = "probability of a label >= 0.5; nothing was fitted on validation"
EVEN = 0.5  # threshold of a label of which validation knows no yes or no no
NAMED = 8  # labels in a note


@dataclass(frozen=True, kw_only=True)
class LabelDecision:
    """An independent label's operating points and how many validation images tell of it.

    Attributes:
        images: with a known yes or no.
        operating_points: empty where validation knows no yes or no no of the label.
    """

    images: int
    operating_points: tuple[OperatingPoint, ...]

    @property
    def threshold(self) -> float:
        """What decides: Youden's, else EVEN."""
        return next((point.threshold for point in self.operating_points if point.name == YOUDEN), EVEN)

    def to_dict(self) -> dict[str, object]:
        """Plain data."""
        return {"images": self.images, "operating_points": [point.to_dict() for point in self.operating_points]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "LabelDecision":
        """The inverse of `to_dict`."""
        return cls(images=int(values["images"]), operating_points=_points(values["operating_points"]))


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """From logits to calibrated probabilities and to yes or no.

    Attributes:
        positive_class: index of the class or label to watch.
        images: validation images that all of this was fitted on.
        operating_points: of the positive class; the only one that has some where classes exclude each other.
        labels: of independent labels, one each; empty where classes exclude each other.
    """

    positive_class: int
    images: int
    calibration: Calibration
    operating_points: tuple[OperatingPoint, ...]
    labels: tuple[LabelDecision, ...] = ()

    @property
    def task(self) -> Task:
        """What the model's targets are."""
        return self.calibration.task

    @property
    def rule(self) -> str:
        """What decides, in words."""
        return LABEL_RULE if self.labels else RULE

    @property
    def asked(self) -> tuple[int, ...]:
        """Classes that operating points are for: the positive one, or every label."""
        return tuple(range(len(self.labels))) if self.labels else (self.positive_class,)

    def points_of(self, index: int) -> tuple[OperatingPoint, ...]:
        """The operating points of a class or label; empty where it has none."""
        if self.labels:
            return self.labels[index].operating_points
        return self.operating_points if index == self.positive_class else ()

    def decide(self, logits_NC: np.ndarray) -> np.ndarray:
        """What the model says, in the form of the task's targets, by `rule`."""
        if not self.labels:
            return self.task.decide_logits(logits_NC)
        thresholds = np.array([label.threshold for label in self.labels])
        return np.asarray(self.calibration.probabilities(logits_NC) >= thresholds, dtype=np.int64)

    def calls(self, logits_NC: np.ndarray, *, index: int | None = None) -> dict[str, np.ndarray]:
        """Operating point -> (N,) bool: called positive; of the positive class, or of another label."""
        index = self.positive_class if index is None else index
        score = self.calibration.probabilities(logits_NC)[:, index]
        return {point.name: score >= point.threshold for point in self.points_of(index)}

    def named_calls(self, logits_NC: np.ndarray, class_names: Sequence[str]) -> dict[str, np.ndarray]:
        """The same of all classes that operating points are for: "Malignant at Youden" -> (N,) bool."""
        return {
            f"{class_names[index]} at {name}": called
            for index in self.asked
            for name, called in self.calls(logits_NC, index=index).items()
        }

    def notes(self, class_names: Sequence[str]) -> Iterator[str]:
        """What a reader must know: fitted on few images or not at all, operating points that are one."""
        if self.images < FEW_IMAGES:
            yield (
                f"Calibration and operating points are fitted on {self.images} validation images only and held near "
                "'no change': a guess, not a measurement."
            )
        yield from self.unfitted(class_names)
        yield from self._few(class_names)
        for index in self.asked:
            by_threshold: dict[float, list[str]] = {}
            for point in self.points_of(index):
                by_threshold.setdefault(point.threshold, []).append(point.name)
            for threshold, names in by_threshold.items():
                if len(names) > 1:
                    one = " and ".join(names)
                    yield f"Operating points of {class_names[index]} that coincide: {one} ({threshold:.4f})."

    def unfitted(self, class_names: Sequence[str]) -> Iterator[str]:
        """Names the independent labels for which nothing could be fitted."""
        names = [name for name, label in zip(class_names, self.labels, strict=False) if not label.operating_points]
        if names:
            yield f"Not calibrated and decided at {EVEN}, since validation knows no yes or no no of them: {listed(names)}."

    def _few(self, class_names: Sequence[str]) -> Iterator[str]:
        few = [
            f"{name} ({label.images})"
            for name, label in zip(class_names, self.labels, strict=False)
            if label.operating_points and label.images < FEW_IMAGES <= self.images
        ]
        if few:
            yield (
                f"Calibration and thresholds of these labels are fitted on fewer than {FEW_IMAGES} validation images with a "
                f"known answer and held near 'no change', a guess: {listed(few)}."
            )

    def to_dict(self) -> dict[str, object]:
        """Plain data."""
        values: dict[str, object] = {
            "positive_class": self.positive_class,
            "images": self.images,
            "calibration": self.calibration.to_dict(),
            "operating_points": [point.to_dict() for point in self.operating_points],
        }
        return values | ({"labels": [label.to_dict() for label in self.labels]} if self.labels else {})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Decisions":
        """The inverse of `to_dict`."""
        return cls(
            positive_class=int(values["positive_class"]),
            images=int(values["images"]),
            calibration=Calibration.from_dict(values["calibration"]),
            operating_points=_points(values["operating_points"]),
            labels=tuple(LabelDecision.from_dict(label) for label in values.get("labels", ())),
        )


def fit_decisions(logits_NC: np.ndarray, targets: np.ndarray, *, positive_class: int, task: Task = DEFAULT) -> Decisions:
    """Fitted on the validation part: (N, C) logits and N targets. Of exclusive classes, some are the positive class."""
    calibration = fit_calibration(logits_NC, targets, task=task)
    chances = calibration.probabilities(logits_NC)
    answers = Answers.of(targets, targets, logits_NC.shape[1], task=task)
    labels: list[LabelDecision] = []
    for index in range(0 if task.exclusive else logits_NC.shape[1]):
        known, yes, _ = answers.one(index)
        points = choose_operating_points(chances[known, index], yes) if answers.two_sided_C[index] else ()
        labels.append(LabelDecision(images=int(known.sum()), operating_points=points))
    if task.exclusive:
        points = choose_operating_points(chances[:, positive_class], answers.yes_NC[:, positive_class])
    else:
        points = labels[positive_class].operating_points
    return Decisions(
        positive_class=positive_class,
        images=len(targets),
        calibration=calibration,
        operating_points=points,
        labels=tuple(labels),
    )


def decide(logits_NC: np.ndarray, *, task: Task, decisions: Decisions | None) -> np.ndarray:
    """What a model says by `rule_of`, in the form of the task's targets."""
    return decisions.decide(logits_NC) if decisions else task.decide_logits(logits_NC)


def rule_of(task: Task, decisions: Decisions | None) -> str:
    """What decides what a model says, in words."""
    return decisions.rule if decisions else RULE if task.exclusive else UNFITTED_RULE


def listed(names: Sequence[str]) -> str:
    """Names in a sentence, the first NAMED of them."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _points(values: Sequence[Mapping[str, Any]]) -> tuple[OperatingPoint, ...]:
    return tuple(OperatingPoint.from_dict(point) for point in values)
