"""The monitored value: what stops a training, names its best epoch and is the objective of a search.

Its direction is known here alone. Everything that compares works with the *objective*, which is always minimised and whose
best so far never rises; everything that is read by a person shows the *score*, the value itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from tune_btxrd.errors import DataError

ALL_IMAGES, WORST_CENTER = OBJECTIVES = ("all_images", "worst_center")
WORST, GAP = "val_worst_center", "center_gap"  # columns: the value at the worst center, and how far the best one is from it


@dataclass(frozen=True, kw_only=True)
class Monitor:
    """One value of an epoch that a training or a search can be judged by.

    Attributes:
        column: the value's name in every row of an epoch; label: its name for people.
        higher_is_better: else lower; perfect: the best value that there can be.
        tie: another value of the epoch that decides between equal ones, higher is better; None: the earlier epoch stays.
    """

    column: str
    label: str
    higher_is_better: bool
    perfect: float
    tie: str | None = None

    def objective(self, score: float) -> float:
        """The value as it is minimised."""
        return -score if self.higher_is_better else score

    def score(self, objective: float) -> float:
        """The inverse of `objective`."""
        return -objective if self.higher_is_better else objective

    def error(self, objective: float) -> float:
        """How far the value is from the perfect one; never below 0."""
        return max(0.0, objective - self.objective(self.perfect))

    def from_error(self, error: float) -> float:
        """The inverse of `error`: an objective."""
        return error + self.objective(self.perfect)

    def show(self, objective: float) -> str:
        """The value in words, e.g. "val loss 0.4312"."""
        return f"{self.label} {self.score(objective):.4f}"

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """Direction of the score: "maximize" or "minimize"."""
        return "maximize" if self.higher_is_better else "minimize"

    @property
    def better(self) -> str:
        """What a better score is: "higher" or "lower"."""
        return "higher" if self.higher_is_better else "lower"

    def improves(self, row: Mapping[str, float], best: Mapping[str, float], *, min_delta: float = 0.0) -> bool:
        """Whether the values of one epoch beat those of the best epoch before it by more than `min_delta`."""
        new, old = (self.objective(values[self.column]) for values in (row, best))
        return new < old - min_delta or (self.tie is not None and new == old and row[self.tie] > best[self.tie])


def monitor_of(name: str, objective: str) -> "Monitor":
    """The value that a training or a search is judged by.

    Args:
        name: one of MONITORS; objective: one of OBJECTIVES, the images that it is computed on.
    """
    known = MONITORS[name]
    return known if objective == ALL_IMAGES else replace(known, column=WORST, label=f"{known.label} of the worst center")


def undefined_worst_center(name: str) -> DataError:
    """The error where no center of a validation part has the images that a monitored value needs."""
    return DataError(
        f"`objective: {WORST_CENTER}` needs a center with enough validation images for monitor {name}, but there is none: "
        f"use `objective: {ALL_IMAGES}`."
    )


def undefined_monitor(name: str) -> DataError:
    """The error where no image of a validation part says how good a model is by a monitored value."""
    return DataError(
        f"Validation must hold a known yes and a known no of some label for monitor {name}, but has both of none: "
        "label more groups, or use monitor val_loss."
    )


MONITORS = {
    "val_loss": Monitor(column="val_loss", label="val loss", higher_is_better=False, perfect=0.0),
    "calibrated_loss": Monitor(
        column="val_calibrated_loss", label="val calibrated loss", higher_is_better=False, perfect=0.0
    ),
    "macro_f1": Monitor(column="val_macro_f1", label="val macro-F1", higher_is_better=True, perfect=1.0),
    "macro_auc": Monitor(
        column="val_macro_auc", label="val macro-AUC", higher_is_better=True, perfect=1.0, tie="val_macro_f1"
    ),
}
