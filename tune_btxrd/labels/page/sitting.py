"""Sitting: one annotator at one store in one mode: what is shown, what is answered, what is undone. Knows no HTTP."""

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tune_btxrd.data.figure_text import one_line
from tune_btxrd.labels.page.answers import RefusedError, read_answer, read_client
from tune_btxrd.labels.page.choices import choices
from tune_btxrd.labels.page.shown import (
    DONE_WORDS,
    END_WORDS,
    SITTINGS,
    Batch,
    Item,
    Said,
    Setup,
    Standing,
    Values,
    pace_words,
)
from tune_btxrd.labels.records import Act, Answers, Asked, Event, Mode, StoredImage
from tune_btxrd.labels.store import LabelStore

NAME_PARTS = 3  # of a path that are shown: the file and two folders
AHEAD = 3  # images that are ready behind the one on the screen
MOST_AT_ONCE = 64
RENEWED = 60.0  # s between two renewals of leases while nothing is asked for
NOTHING_SAID = ""  # of a label that came after the answer
COUNTED = 5.0  # s until all images are counted again, since others answer too; own answers count at once


@dataclass
class Sitting:
    """One annotator at one store in one mode. Every call may take a disk's time; none may run beside another."""

    store: LabelStore
    annotator: str
    mode: Mode
    is_single: bool = False
    _renewed: float = field(default=-math.inf, repr=False)
    _counted: float = field(default=-math.inf, repr=False)
    _counts: tuple[int, int] = field(default=(0, 0), repr=False)  # images and those that are left, then
    _seen: set[int] = field(default_factory=set, repr=False)  # images whose opinion was sent to the annotator
    _most: int = field(default=0, repr=False)  # disagreements seen at once: those that are settled are none any more

    @property
    def labels(self) -> tuple[str, ...]:
        """Names in the order in which they are shown."""
        return tuple(label.name for label in self.store.labels)

    def setup(self) -> Setup:
        """What the page knows from its beginning."""
        labels, multiclass = self.labels, self.store.task == "multiclass"
        place = hashlib.sha256(f"{self.store.path}\0{self.annotator}".encode()).hexdigest()[:16]
        return Setup(
            store=self.store.path.stem,
            annotator=self.annotator,
            place=place,
            sitting=self.mode,
            sitting_words=SITTINGS[self.mode],
            labels=labels,
            keys=tuple(label.key for label in self.store.labels),
            choices=() if multiclass else choices(labels),
            is_single=self.is_single,
            is_one_of=multiclass,
            has_opinion=self.mode != "holdout" and self.store.latest_model() is not None,
            none_words="none",
            end_title="All done",
            end_words=END_WORDS[self.mode],
        )

    def next_items(self, count: int, have: Sequence[int]) -> Batch:
        """Up to `count` further images, leased to the annotator, whose leases on `have` are renewed."""
        held = list(dict.fromkeys(have))[:MOST_AT_ONCE]
        wanted = max(0, min(count, 1 + AHEAD))
        if not wanted and time.monotonic() - self._renewed < RENEWED:
            return Batch(items=(), lost=(), progress=self.standing(), labels=len(self.labels))
        self._renewed = time.monotonic()
        asked = self.store.next_images(self.annotator, mode=self.mode, count=len(held) + wanted)
        mine = {one.image.number for one in asked}
        fresh = [one for one in asked if one.image.number not in held][:wanted]
        return Batch(
            items=tuple(self.item(one) for one in fresh),
            lost=tuple(number for number in held if number not in mine),
            progress=self.standing(),
            labels=len(self.labels),
        )

    def item(self, asked: Asked, *, undone: Said | None = None) -> Item:
        """An image with all that this sitting may see of it."""
        number, others = asked.image.number, self.store.same_group(asked.image.number)
        held = self.store.answers_of(number, self.annotator)
        return Item(
            image=number,
            name=shown_name(asked.image.path),
            group=one_line(asked.image.group) if others else "",
            others=len(others),
            arm=asked.arm,
            mine=self._values(held) if held and self.mode != "dispute" else None,
            undone=undone,
            opinion=self.opinion(number) if self.mode == "review" else None,
            readers=self._readers(number) if self.mode == "dispute" else (),
        )

    def others(self, number: int) -> tuple[Item, ...]:
        """The other images of an image's group: to look at, with nothing that anybody said of them. Raises: DataError."""
        found = self.store.same_group(self.store.image(number).number)
        return tuple(
            Item(image=one.number, name=shown_name(one.path), group=one_line(one.group), others=len(found), arm="")
            for one in found
        )

    def opinion(self, number: int) -> tuple[float | None, ...] | None:
        """The model's probability per label; None where it has none. Raises: RefusedError in the hold-out's sitting."""
        if self.mode == "holdout" or self.store.image(number).holdout:
            raise RefusedError("Predictions are not shown for the hold-out: its labels must be a reader's own.")
        found = self.store.predictions_of(number)
        if found:
            self._seen.add(number)
        return tuple(found.get(name) for name in self.labels) if found else None

    def answer(self, operation: Mapping[str, object]) -> Standing:
        """Writes what the annotator decided; on return it is on the disk. Raises: RefusedError, DataError."""
        act = self._with_anchor(read_answer(operation, self.labels, self.annotator))
        before = self.store.is_left(act.image, mode=self.mode)
        self.store.record(act)
        whole, left = self._counts
        self._counts = whole, left + self.store.is_left(act.image, mode=self.mode) - before
        return self.standing()

    def undo(self, operation: Mapping[str, object]) -> tuple[Item | None, Standing]:
        """Takes back the annotator's last act and leases its image again; None where none is left. Raises: DataError."""
        event, self._counted = self.store.undo(self.annotator, client=read_client(operation)), -math.inf
        if event is None:
            return None, self.standing()
        image = self.store.image(event.image)
        self.store.lease(image.number, self.annotator, mode=self.mode, arm=event.arm)
        item = self.item(Asked(image=image, arm=event.arm), undone=self._said(event))
        return item, self.standing()

    def image(self, number: int) -> StoredImage:
        """Raises: DataError where the store has no such image."""
        return self.store.image(number)

    def release(self) -> None:
        """Ends the annotator's leases."""
        self.store.release(self.annotator)

    def standing(self) -> Standing:
        """How far all are, and the annotator's pace."""
        is_fresh = time.monotonic() - self._counted < COUNTED
        now = self.store.progress(self.annotator, mode=self.mode, counted=self._counts if is_fresh else None)
        if not is_fresh:
            self._counts, self._counted = (now.images, now.left), time.monotonic()
        self._most = max(self._most, now.images)
        total = self._most if self.mode == "dispute" else now.images
        return Standing(
            done=total - now.left,
            total=total,
            words=DONE_WORDS[self.mode],
            pace=pace_words(today=now.mine_today, seconds=now.median_seconds, left=now.left),
        )

    def _with_anchor(self, act: Act) -> Act:
        """The same with whether the annotator has seen what the model says: on the screen now, or before an earlier act."""
        saw = act.saw_model or act.image in self._seen or self.store.saw_model(act.image, self.annotator)
        return replace(act, saw_model=saw)

    def _values(self, answers: Answers) -> Values:
        return tuple(answers.get(name, NOTHING_SAID) for name in self.labels)

    def _said(self, event: Event) -> Said:
        return Said(kind=event.kind, values=self._values(event.answers), annotator=event.annotator)

    def _readers(self, number: int) -> tuple[Said, ...]:
        return tuple(
            Said(kind=self.store.decision_of(number, who) or "label", values=self._values(held), annotator=one_line(who))
            for who, held in self.store.all_answers_of(number).items()
        )


def shown_name(path: str) -> str:
    """The end of an image's path, as the page shows it."""
    return one_line("/".join([part for part in path.split("/") if part != ".."][-NAME_PARTS:]))
