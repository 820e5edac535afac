"""EpochMetrics: the record of one epoch. A field carries all that columns, charts, listeners and comparisons ask of it.

A new metric is one field of the task's record: its formula stands in it, and nobody else need know its name.
"""

import dataclasses
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Literal, Self

from tune_btxrd.errors import ResultError

Better = Literal["higher", "lower"]
Kind = Literal["score", "state", "clock"]
OverFolds = Literal["mean", "sum", "same"]
NEVER = object()
UNDEFINED = "-"  # what a person reads of a number that cannot be computed
FIRST, NEXT, RATE, SCORE, LATER = range(5)  # places in a row: the contract's order of `training_log.csv`


@dataclass(frozen=True, kw_only=True)
class Column:
    """What is known of a field of the record beside its name and type.

    Attributes:
        meaning: one line with unit and range.
        kind: "score": measured on validation, may be constrained; "state": of the training; "clock": never the same again.
        label: the name for people, e.g. "macro-F1".
        better: the direction; None where there is none.
        per_class: a tuple with one number per class or label, hence one column each; per_center: the same of centers.
        of_centers: from the values of a validation part's centers that are known, best first, to the value.
        formula: from the task's `Validated` images to the value; None where the loop knows the value.
        before: the value in a record that was written before the field was there; NEVER: such a record is refused.
        place: where the column stands in a row; among equals the order of declaration decides.
        over_folds: what a trial over several folds reports; "same": equal in all, or told by the trial itself. None: the
            mean of a score, else "same".
    """

    meaning: str
    kind: Kind = "state"
    label: str = ""
    better: Better | None = None
    per_class: bool = False
    per_center: bool = False
    of_centers: Callable[[Sequence[float]], float | None] | None = None
    formula: Callable[[Any], Any] | None = None
    before: Any = NEVER
    place: int = LATER
    over_folds: OverFolds | None = None


def column(meaning: str, **details: Any) -> Any:
    """A dataclass field with a Column; see there."""
    return dataclasses.field(metadata={"column": Column(meaning=meaning, **details)})


def score(meaning: str, formula: Callable[[Any], Any], *, better: Better, label: str, **details: Any) -> Any:
    """A metric of the validation part: a field with its formula."""
    details = {"place": SCORE, **details}
    return column(meaning, kind="score", formula=formula, better=better, label=label, **details)


def _mean(numbers: Sequence[float]) -> float:
    """Of those that are defined; NaN where none is."""
    known = [number for number in numbers if not math.isnan(number)]
    return statistics.fmean(known) if known else math.nan


def _known_mean(numbers: Sequence[float | None]) -> float | None:
    """Of those that are known; None where none is."""
    known = [number for number in numbers if number is not None]
    return statistics.fmean(known) if known else None


OVER_FOLDS: Mapping[OverFolds, Callable[[Sequence[Any]], Any]] = {"mean": _mean, "sum": sum, "same": itemgetter(0)}


def shown(value: float, digits: int) -> str:
    """A number of an epoch as a person reads it."""
    return UNDEFINED if math.isnan(value) else f"{value:.{digits}f}"


@dataclass(frozen=True, kw_only=True)
class EpochMetrics:
    """What one epoch of one training gave; a task's record adds its scores. Class names come at the boundary."""

    epoch: int = column("1-based: epochs finished", place=FIRST)
    train_loss: float = column(
        "what training minimises, mean over the epoch's augmented images, dropout on",
        label="train loss",
        place=FIRST,
        over_folds="mean",
    )
    val_loss: float = column(
        "unweighted, mean over images", kind="score", label="val loss", better="lower", place=FIRST
    )  # the task's record has its formula
    val_center: tuple[float | None, ...] = column(
        "monitored value of a center's validation images; undefined for a center with too few of them",
        before=(),
        per_center=True,
    )
    val_worst_center: float | None = column(
        "monitored value of the validation center where it is worst; undefined where no center counts",
        kind="score",
        label="worst center",
        over_folds="same",
        of_centers=lambda values: values[-1] if values else None,
        before=None,
    )
    center_gap: float | None = column(
        "distance of the monitored value between its best and its worst validation center; undefined below two centers",
        kind="score",
        label="center gap",
        over_folds="same",
        of_centers=lambda values: abs(values[-1] - values[0]) if len(values) > 1 else None,
        better="lower",
        before=None,
    )
    val_criterion: float = column(
        "what training minimises, on validation images as they are, dropout off",
        label="val criterion",
        before=math.nan,
        over_folds="mean",
    )
    lr: float = column("learning rate of this epoch's steps; of the head where the backbone has its own", place=RATE)
    lr_backbone: float = column("learning rate of the last layers before the head; 0 while they are frozen")
    stage: int = column("1-based")
    objective: float = column("monitored value of the best epoch so far, negated where higher is better; it never rises")
    improved: bool = column("the monitored value got better by more than min_delta: this is the best epoch so far")
    stop: str = column('"" go on, "patience" or "budget": this was the last epoch')
    zero_recall_epochs: int = column("epochs in a row, this one included, that found nothing of the positive class")
    skipped_steps: int = column(
        "steps of this epoch left out since a gradient overflowed; fp16 alone", before=0, over_folds="sum"
    )
    fold_sd: float = column(
        "standard deviation of the monitored value over the folds of a trial; 0 on one split", before=0.0
    )
    images_per_second: float = column("trained images per train second", kind="clock")
    train_seconds: float = column("without validation", kind="clock", over_folds="sum")
    val_seconds: float = column("of the validation pass", kind="clock", over_folds="sum")

    def to_dict(self) -> dict[str, object]:
        """Plain data: name -> value; one number per class as a list."""
        values = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`, also of an earlier version's. Raises: ResultError where the values are another one's."""
        earlier = {name: item.before for name, item in cls.columns().items() if item.before is not NEVER}
        names, values = {item.name for item in dataclasses.fields(cls)}, {**earlier, **values}
        if odd := sorted(names ^ values.keys()):
            what = f"{'has no' if odd[0] in names else 'also has'} {odd[0]!r}"
            raise ResultError(
                f"An epoch's record must be this version's, but it {what}: go on with the version that wrote it."
            )
        known: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in values.items()}
        return cls(**known)

    @classmethod
    def over_folds(cls, rows: Sequence[Self], **told: Any) -> Self:
        """One record for the same epoch on several folds: each field as its Column says, less what is told.

        A score that is undefined on some folds is the mean over the others.
        """
        values: dict[str, Any] = {}
        for name, item in cls.columns().items():
            own = [getattr(row, name) for row in rows]
            how = item.over_folds or ("mean" if item.kind == "score" else "same")
            if item.per_center:
                values[name] = tuple(map(_known_mean, zip(*own, strict=True)))
            elif how == "mean" and item.per_class:
                values[name] = tuple(_mean(numbers) for numbers in zip(*own, strict=True))
            else:
                values[name] = OVER_FOLDS[how](own)
        return cls(**{**values, **told})

    @classmethod
    def columns(cls) -> dict[str, Column]:
        """Field -> what is known of it, in the order of a row."""
        known = {item.name: item.metadata["column"] for item in dataclasses.fields(cls)}
        return dict(sorted(known.items(), key=lambda item: item[1].place))

    @classmethod
    def scores_of_centers(cls, values: Sequence[float]) -> dict[str, float | None]:
        """Every score of the known values of centers, best first."""
        return {name: item.of_centers(values) for name, item in cls.columns().items() if item.of_centers is not None}

    def with_centers(self, scores: Mapping[str, float | None]) -> Self:
        """The same with other scores of centers."""
        changes: dict[str, Any] = dict(scores)
        return dataclasses.replace(self, **changes)

    @classmethod
    def scores_of(cls, validated: Any) -> dict[str, Any]:
        """Every score, by its formula."""
        return {name: item.formula(validated) for name, item in cls.columns().items() if item.formula is not None}
