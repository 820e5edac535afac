"""Shown: what the page shows of a store: images, what was said of them, how far all are; and its words."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tune_btxrd.labels.page.choices import Choice
from tune_btxrd.labels.records import Mode

Values = tuple[int | str | None, ...]  # per label, in the store's order: 1 yes, 0 no, None unsure, "" nothing said
SITTINGS: Mapping[Mode, str] = {
    "label": "",
    "holdout": "Hold-out: random order, no predictions",
    "review": "Review: agree or not",
    "dispute": "Disagreements: settle them",
}
DONE_WORDS: Mapping[Mode, str] = {
    "label": "labelled",
    "holdout": "of the hold-out labelled",
    "review": "scored images done",
    "dispute": "settled",
}
END_WORDS: Mapping[Mode, str] = {
    "label": "No image waits for a label here. Train on what there is: python -m tune_btxrd run --data STORE.db",
    "holdout": "Every image of the hold-out has its labels.",
    "review": "Every image that the model has scored is labelled, or no model has scored any: labels score.",
    "dispute": "No two annotators differ on any image.",
}


@dataclass(frozen=True, kw_only=True)
class Said:
    """What somebody decided on an image: the kind of act, and for `label` a value per label."""

    kind: str
    values: Values
    annotator: str = ""


@dataclass(frozen=True, kw_only=True)
class Item:
    """An image as the page shows it.

    Attributes:
        others: how many other images its group has.
        mine: what the annotator holds of it, or None; undone: what was just taken back, or None.
        opinion: the model's probability per label (review alone), or None; None for a label without one.
        readers: what others decided (disagreements alone).
    """

    image: int
    name: str
    group: str
    others: int
    arm: str
    mine: Values | None = None
    undone: Said | None = None
    opinion: tuple[float | None, ...] | None = None
    readers: tuple[Said, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How far all are, as the page says it."""

    done: int
    total: int
    words: str
    pace: str


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What the page knows from its beginning; `place` names store and annotator in the browser's memory."""

    store: str
    annotator: str
    place: str
    sitting: Mode
    sitting_words: str
    labels: tuple[str, ...]
    keys: tuple[str, ...]
    choices: tuple[Choice, ...]
    is_single: bool
    is_one_of: bool
    has_opinion: bool
    none_words: str
    end_title: str
    end_words: str


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Images to show next, which held ones the annotator no longer has, how things stand, how many labels there are now."""

    items: tuple[Item, ...]
    lost: tuple[int, ...]
    progress: Standing
    labels: int


def pace_words(*, today: int, seconds: float | None, left: int) -> str:
    """`12 today, 8 s an image, 40 min left`: the annotator's pace, as the page says it."""
    words = [f"{today} today"]
    if seconds is not None:
        words.append(f"{seconds:.0f} s an image" if seconds >= 1.5 else f"{seconds:.1f} s an image")
        if left:
            words.append(f"{_duration(seconds * left)} left")
    return " · ".join(words)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{math.ceil(seconds)} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.0f} h"
