"""One training of the replay, epoch by epoch, under the trainer's own rules for its end."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.replay_families import PATIENCE, Family


@dataclass
class Training:
    """A config and how far it has come.

    Attributes:
        curve: validation losses, one per epoch of the budget; luck depends on (seed, config) alone, so that a config has the
            same luck in every method.
        best: lowest loss so far; last: of the last epoch; stop: "budget" or "patience" once it has ended by itself.
        label, state: as the search calls it (methods that have such words).
    """

    config: dict[str, float]
    curve: list[float]
    epoch: int = 0
    best: float = math.inf
    best_epoch: int = 0
    last: float = math.inf
    stop: str = ""
    label: str = ""
    state: str = "running"
    rows: list[dict[str, Any]] = field(default_factory=list)

    def step(self) -> dict[str, Any]:
        """The next epoch as a trial reports it."""
        self.last = self.curve[self.epoch]
        self.epoch += 1
        improved = self.last < self.best
        if improved:
            self.best, self.best_epoch = self.last, self.epoch
        late = self.epoch - self.best_epoch >= PATIENCE
        self.stop = "budget" if self.epoch == len(self.curve) else "patience" if late else ""
        row = {"epoch": self.epoch, "val_loss": self.last, "objective": self.best, "improved": improved, "stop": self.stop}
        self.rows.append(row | {"reason": ""})
        return self.rows[-1]


def begin(family: Family, config: Mapping[str, Any], *, label: str = "") -> Training:
    """A training at epoch 0; the search's seed is `family.spec.seed`. Over several folds: their mean, each of own luck."""
    values = {item.name: float(config[item.name]) for item in family.spec.space}
    words = [family.spec.seed, *(int.from_bytes(np.float64(value).tobytes(), "little") for value in values.values())]
    generator = np.random.default_rng(words)
    folds = [family.curve(values, generator) for _ in range(family.spec.folds_per_trial)]
    return Training(values, [statistics.fmean(losses) for losses in zip(*folds, strict=True)], label=label)
