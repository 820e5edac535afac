"""Stages: which layers a training changes when, and how fast. Plain data and arithmetic.

In YAML `stages:` is a name of RECIPES, or a list:

    stages:
      - {epochs: 5, trains: head}
      - {epochs: rest, trains: all, lr_head: 0.1, lr_backbone: 0.1}
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tune_btxrd.errors import ConfigError

PARTS = ("head", "top", "all")  # from the fewest layers to all; "top" is the head and the last layers of the backbone
REST = "rest"
LARGEST_FACTOR = 1e6


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Some epochs in a row that train the same layers, with a cosine of their own.

    Attributes:
        epochs: how many.
        trains: one of PARTS; all other layers are frozen, statistics of their BatchNorm included.
        lr_head, lr_backbone: factors of `lr` at the start of the stage's cosine.
    """

    epochs: int
    trains: str
    lr_head: float = 1.0
    lr_backbone: float = 1.0

    def __post_init__(self) -> None:
        _require(self.trains in PARTS, f"trains is one of {', '.join(PARTS)}", f"trains={self.trains!r}")
        for name in ("lr_head", "lr_backbone"):
            value = getattr(self, name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            _require(is_number and 0 < value <= LARGEST_FACTOR, f"0 < {name} <= {LARGEST_FACTOR:g}", f"{name}={value!r}")
        whole = isinstance(self.epochs, int) and not isinstance(self.epochs, bool)
        _require(whole and self.epochs >= 1, f"epochs >= 1 (or {REST!r} once)", f"epochs={self.epochs!r}")


def one(epochs: int) -> list[Stage]:
    """Everything at once (the default)."""
    return [Stage(epochs=epochs, trains="all")]


def two_phase(epochs: int) -> list[Stage]:
    """The head for at most 5 epochs and a third of them, then everything at a tenth of the learning rate."""
    head = min(5, epochs // 3)
    return [*_some(head, "head"), Stage(epochs=epochs - head, trains="all", lr_head=0.1, lr_backbone=0.1)]


def three_stage(epochs: int) -> list[Stage]:
    """Head, top layers, everything, for 1/5, 2/5 and 2/5 of the epochs, ever slower; the backbone slower than the head."""
    head = epochs // 5
    top = (epochs - head) // 2
    return [
        *_some(head, "head"),
        *_some(top, "top", lr_head=0.1, lr_backbone=0.1),
        Stage(epochs=epochs - head - top, trains="all", lr_head=0.05, lr_backbone=0.01),
    ]


RECIPES: dict[str, Callable[[int], list[Stage]]] = {"one": one, "two_phase": two_phase, "three_stage": three_stage}


def stages_of(value: str | tuple[Mapping[str, Any], ...], epochs: int) -> list[Stage]:
    """The stages of a config, whose epochs add up to `epochs`.

    Raises:
        ConfigError: an unknown recipe, an unknown or impossible value, other epochs in all.
    """
    if isinstance(value, str):
        _require(value in RECIPES, f"stages is one of {', '.join(RECIPES)}, or a list", f"stages={value!r}")
        return RECIPES[value](epochs)
    known = [field.name for field in dataclasses.fields(Stage)]
    for entry in value:
        _require("epochs" in entry and "trains" in entry, "a stage has epochs and trains", f"{dict(entry)}")
        _require(not (odd := sorted(set(entry) - set(known))), f"a stage has {', '.join(known)}", f"{odd}")
    given = [entry["epochs"] for entry in value if entry["epochs"] != REST]
    _require(len(value) - len(given) <= 1, f"one stage at most has epochs: {REST}", f"{len(value) - len(given)}")
    left = epochs - sum(number for number in given if isinstance(number, int))
    stages = [Stage(**{**entry, "epochs": left if entry["epochs"] == REST else entry["epochs"]}) for entry in value]
    total = sum(stage.epochs for stage in stages)
    _require(total == epochs, "the epochs of all stages add up to epochs", f"{total}, epochs={epochs}")
    return stages


def stage_at(stages: list[Stage], epoch: int) -> tuple[int, int, Stage]:
    """Of a 1-based epoch: the 1-based number of its stage, the epochs before that stage, and the stage."""
    before = 0
    for number, stage in enumerate(stages, start=1):
        if epoch <= before + stage.epochs:
            return number, before, stage
        before += stage.epochs
    raise AssertionError(epoch)


def _some(epochs: int, trains: str, **factors: float) -> list[Stage]:
    """A stage, or none where no epoch is left for it."""
    return [Stage(epochs=epochs, trains=trains, **factors)] if epochs else []


def _require(holds: bool, invariant: str, found: str) -> None:
    if not holds:
        raise ConfigError(f"`{invariant}` must hold in stages, but got {found[:100]}.")
