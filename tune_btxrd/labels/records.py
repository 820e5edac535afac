"""Records of a label store: what its functions take and return."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["label", "unsure", "bad", "skip", "undo"]
Mode = Literal["label", "holdout", "review", "dispute"]  # which images a sitting is about
MODES: tuple[Mode, ...] = ("label", "holdout", "review", "dispute")
Task = Literal["multilabel", "multiclass"]
Answers = Mapping[str, int | None]  # label name -> 1 yes, 0 no, None unsure; a label that is not named stays as it was

RANKED, RANDOM, TWICE, IMPORTED = "ranked", "random", "twice", "import"  # arms: why an image was asked for
# further arms are the modes "holdout", "review", "dispute"


@dataclass(frozen=True, kw_only=True)
class Label:
    """A label (or a class, in a multiclass store)."""

    number: int
    name: str
    key: str  # one character: the key on the page


@dataclass(frozen=True, kw_only=True)
class StoredImage:
    """An image of the store; `number` is what other functions take."""

    number: int
    image_id: str
    path: str  # relative to the store's folder, with /
    sha256: str
    group: str
    center: str | None
    holdout: bool
    missing: bool
    bad: bool
    disputed: bool


@dataclass(frozen=True, kw_only=True)
class NewImage:
    """An image to be added."""

    path: str  # relative to the store's folder, with /
    sha256: str
    size: int  # bytes
    mtime: int  # ns
    group: str = ""  # images that stay together; blank: a group of its own
    center: str | None = None


@dataclass(frozen=True, kw_only=True)
class Asked:
    """An image that an annotator is asked for, leased to him."""

    image: StoredImage
    arm: str  # RANKED, RANDOM, TWICE, or the mode


@dataclass(frozen=True, kw_only=True)
class Act:
    """What an annotator does with one image, as the page sends it."""

    kind: Kind
    image: int
    annotator: str
    client: str  # the sender's own id: sent twice, it counts once
    arm: str
    answers: Answers = field(default_factory=dict)  # of kind "label"; the store fills in those of "unsure" and "bad"
    seconds: float | None = None
    settles: bool = False  # ends a disagreement, whatever others hold
    saw_model: bool | None = None  # whether the model's opinion was seen before the answer; None: not known


@dataclass(frozen=True, kw_only=True)
class Event:
    """One row of `events`."""

    number: int
    kind: Kind
    image: int
    answers: Answers
    annotator: str
    time: str  # UTC, ISO 8601
    seconds: float | None
    arm: str
    settles: bool
    undoes: int | None
    client: str
    undone: bool = False
    saw_model: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far labelling is, in one mode, and how fast one annotator goes."""

    images: int  # that the mode is about
    done: int
    left: int
    mine: int  # images of the mode on which the annotator holds something
    mine_today: int
    median_seconds: float | None  # per image, of the annotator's last 50 acts


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The images that may be ranked: with an unknown label, not in the hold-out, not bad, not missing."""

    images: list[int]
    paths: list[str]  # relative to the store's folder
    sha256: list[str]
    groups: list[str]


@dataclass(frozen=True, kw_only=True)
class Opening:
    """One look of `evaluate` at the hold-out."""

    number: int
    search: str
    split: str
    images: int
    event: int
    time: str
