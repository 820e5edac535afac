"""Answers: targets and decisions of a part as yes and no per class or label. What is unknown is asked nowhere."""
# ruff: noqa: N815
# (shape suffixes: N = images, C = classes or labels)

from dataclasses import dataclass

import numpy as np

from tune_btxrd.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What is true of a part, and what a model says of it; (N, C) bool each.

    Attributes:
        yes_NC: the image has the class or label.
        known_NC: it is known whether it has.
        called_NC: the model says that it has.
    """

    yes_NC: np.ndarray
    known_NC: np.ndarray
    called_NC: np.ndarray

    @classmethod
    def of(cls, targets: np.ndarray, decided: np.ndarray, classes: int, *, task: Task) -> "Answers":
        """Of targets and of a model's decisions, in the task's own form."""
        return cls(
            yes_NC=task.indicators(targets, classes) > 0,
            known_NC=task.known(targets, classes),
            called_NC=task.indicators(decided, classes) > 0,
        )

    @property
    def whole_N(self) -> np.ndarray:  # noqa: N802  # shape suffix
        """(N,) bool: images of which everything is known."""
        return np.asarray(self.known_NC.all(axis=1))

    @property
    def right_N(self) -> np.ndarray:  # noqa: N802  # as above
        """(N,) bool: whole images of which the model says everything right."""
        return np.asarray(self.whole_N & (self.called_NC == self.yes_NC).all(axis=1))

    @property
    def two_sided_C(self) -> np.ndarray:  # noqa: N802  # as above
        """(C,) bool: classes of which the part has images with a known yes and with a known no."""
        sides = (self.known_NC & self.yes_NC, self.known_NC & ~self.yes_NC)
        return np.asarray(sides[0].any(axis=0) & sides[1].any(axis=0))

    def one(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of one class: the (N,) bool images with a known answer; of those, which have it and which are called."""
        known = self.known_NC[:, index]
        return known, self.yes_NC[known, index], self.called_NC[known, index]
