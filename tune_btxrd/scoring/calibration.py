"""Calibration: one temperature and one bias per class, fitted on validation. N = images, C = classes."""
# ruff: noqa: N803
# (shape suffixes: logits_NC)

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize

from tune_btxrd.tasks.registry import DEFAULT, task_named
from tune_btxrd.tasks.task import Task

LOG_TEMPERATURE_BOUND = 3.0  # exp(3) = 20: beyond it the probabilities are all but uniform (or all but 0 and 1)
SPREAD = (0.5, 2.0)  # of log temperature and of a bias, as they are expected before any image was seen
FEW_IMAGES = 100  # below, a calibration is told to be a guess
BIAS_BOUND = 8.0  # in nats; a class absent from validation would otherwise run to minus infinity


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The task's probabilities of logits / temperature + bias.

    Class weights in the training loss shift the log odds between classes, which a temperature alone cannot undo; the bias
    can (vector scaling with a common scale; Guo et al., ICML 2017, section 4.2).
    """

    temperature: float
    bias: tuple[float, ...]  # nats, one per class, mean 0
    task: Task = DEFAULT

    def probabilities(self, logits_NC: np.ndarray) -> np.ndarray:
        """(N, C) calibrated probabilities, float64."""
        return self.task.probabilities(logits_NC.astype(np.float64) / self.temperature + np.asarray(self.bias))

    def to_dict(self) -> dict[str, object]:
        """Plain data."""
        return {"temperature": self.temperature, "bias": list(self.bias), "task": self.task.name}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Calibration":
        """The inverse of `to_dict`."""
        task = task_named(values.get("task", DEFAULT.name))
        return cls(temperature=float(values["temperature"]), bias=tuple(map(float, values["bias"])), task=task)


def fit_calibration(logits_NC: np.ndarray, targets_N: np.ndarray, *, task: Task = DEFAULT) -> Calibration:
    """Temperature and biases that minimise the unweighted cross-entropy with a prior around "no change".

    The prior (normal in log temperature and biases, SPREAD) weighs as much as a few images: with thousands it is not
    felt, and 34 that are all right do not make a model sure to 23 digits.
    """
    classes = logits_NC.shape[1]
    logits = logits_NC.astype(np.float64)
    spread = np.array([SPREAD[0], *[SPREAD[1]] * classes])

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        scale, bias = np.exp(-parameters[0]), parameters[1:]
        total, error = task.log_loss(logits * scale + bias, targets_N)
        slope_temperature = -scale * np.sum(error * logits)
        pull = parameters / spread**2
        slope = np.append(slope_temperature, error.sum(axis=0)) + pull
        return (total + 0.5 * float(pull @ parameters)) / len(logits), slope / len(logits)

    bounds = [(-LOG_TEMPERATURE_BOUND, LOG_TEMPERATURE_BOUND), *[(-BIAS_BOUND, BIAS_BOUND)] * classes]
    found = optimize.minimize(loss, np.zeros(classes + 1), jac=True, method="L-BFGS-B", bounds=bounds).x
    bias = found[1:] - found[1:].mean()
    return Calibration(temperature=float(np.exp(found[0])), bias=tuple(float(value) for value in bias), task=task)
