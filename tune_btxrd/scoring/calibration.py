"""Calibration: a temperature and one bias per class, fitted on validation. N = images, C = classes or labels."""
# ruff: noqa: N803
# (shape suffixes: logits_NC)

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize

from tune_btxrd.scoring.answers import Answers
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
    can (vector scaling with a common scale; Guo et al., ICML 2017, section 4.2). Independent labels have a temperature each,
    which is Platt's scaling of each (Platt, 1999) with a slope that cannot turn round.
    """

    temperature: float | tuple[float, ...]  # one for all classes; of independent labels one each
    bias: tuple[float, ...]  # nats, one per class; mean 0 where classes exclude each other
    task: Task = DEFAULT

    @property
    def temperatures(self) -> tuple[float, ...]:
        """One per class or label."""
        return self.temperature if isinstance(self.temperature, tuple) else (self.temperature,) * len(self.bias)

    def probabilities(self, logits_NC: np.ndarray) -> np.ndarray:
        """(N, C) calibrated probabilities, float64."""
        return self.task.probabilities(logits_NC.astype(np.float64) / np.asarray(self.temperature) + np.asarray(self.bias))

    def to_dict(self) -> dict[str, object]:
        """Plain data."""
        temperature = list(self.temperature) if isinstance(self.temperature, tuple) else self.temperature
        return {"temperature": temperature, "bias": list(self.bias), "task": self.task.name}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Calibration":
        """The inverse of `to_dict`."""
        task, given = task_named(values.get("task", DEFAULT.name)), values["temperature"]
        temperature = tuple(map(float, given)) if isinstance(given, list) else float(given)
        return cls(temperature=temperature, bias=tuple(map(float, values["bias"])), task=task)


def fit_calibration(logits_NC: np.ndarray, targets: np.ndarray, *, task: Task = DEFAULT) -> Calibration:
    """Temperature and biases that minimise the unweighted loss of the task with a prior around "no change".

    The prior (normal in log temperature and biases, SPREAD) weighs as much as a few images: with thousands it is not
    felt, and 34 that are all right do not make a model sure to 23 digits. Independent labels are fitted one by one; one
    that validation knows no yes or no no of stays as it is.
    """
    if task.exclusive:
        temperature, bias = _fitted(logits_NC, targets, task=task)
        return Calibration(temperature=temperature, bias=tuple((bias - bias.mean()).tolist()), task=task)
    answers, pairs = Answers.of(targets, targets, logits_NC.shape[1], task=task), []
    for index, two_sided in enumerate(answers.two_sided_C):
        known, own = answers.known_NC[:, index], slice(index, index + 1)
        logits, asked = logits_NC[known, own], targets[known, own]
        pairs.append(_fitted(logits, asked, task=task) if two_sided else (1.0, np.zeros(1)))
    return Calibration(temperature=tuple(t for t, _ in pairs), bias=tuple(float(b[0]) for _, b in pairs), task=task)


def _fitted(logits_NC: np.ndarray, targets: np.ndarray, *, task: Task) -> tuple[float, np.ndarray]:
    """A temperature, and a bias per column."""
    classes = logits_NC.shape[1]
    logits = logits_NC.astype(np.float64)
    spread = np.array([SPREAD[0], *[SPREAD[1]] * classes])

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        scale, bias = np.exp(-parameters[0]), parameters[1:]
        total, error = task.log_loss(logits * scale + bias, targets)
        slope_temperature = -scale * np.sum(error * logits)
        pull = parameters / spread**2
        slope = np.append(slope_temperature, error.sum(axis=0)) + pull
        return (total + 0.5 * float(pull @ parameters)) / len(logits), slope / len(logits)

    bounds = [(-LOG_TEMPERATURE_BOUND, LOG_TEMPERATURE_BOUND), *[(-BIAS_BOUND, BIAS_BOUND)] * classes]
    found = optimize.minimize(loss, np.zeros(classes + 1), jac=True, method="L-BFGS-B", bounds=bounds).x
    return float(np.exp(found[0])), found[1:]
