"""TrialConfig: Ray Tune's config of a trial, its labels apart from its hyperparameters."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from tune_btxrd.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """What a slot needs to run a trial.

    Attributes:
        trial: the label, e.g. "7", or "7r2" for repeat 2 of trial 7; role: "search" or "confirm".
        splits: the split that the trial trains and validates on; several: one per fold, in step.
    """

    trial: str
    role: str
    splits: tuple[str, ...]
    hyperparameters: TrainConfig

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as Tune takes it."""
        return {
            "trial": self.trial,
            "role": self.role,
            "splits": list(self.splits),
            "hyperparameters": self.hyperparameters.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrialConfig":
        """The inverse of `to_dict`; unknown and missing names are our own mistake, unknown hyperparameters a ConfigError."""
        known = {field.name for field in fields(cls)}
        assert set(values) == known, f"a trial's config has {sorted(known)}, but got {sorted(values)}"
        hyperparameters = TrainConfig.from_dict(values["hyperparameters"])
        return cls(**{**values, "splits": tuple(values["splits"]), "hyperparameters": hyperparameters})
