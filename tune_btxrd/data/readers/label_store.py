"""Label store reader: what annotators agreed on as of one event; hold-out images are the test part.

The events are replayed here, one after the other, by the rules that the store's own triggers follow (`labels/schema.py`):
- an act replaces what its annotator said before of the same labels; an undo takes an act back;
- a label is known where all who said yes or no agree, or where someone settled it; else it is unknown;
- an image that anyone calls bad is left out, unless someone settled it otherwise.
"""

import json
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers.btxrd import require_files
from tune_btxrd.data.readers.names import FEWEST_CLASSES, examples
from tune_btxrd.data.readers.store_file import open_to_read, told
from tune_btxrd.errors import DataError, shell_word
from tune_btxrd.files import file_sha256
from tune_btxrd.tasks.registry import task_named
from tune_btxrd.tasks.task import Task

TRAIN, TEST = "train", "test"
HASHERS = 8  # threads
LABELS_SINCE = 2  # version of a store from which on its labels say since when they can be answered


@dataclass(frozen=True, kw_only=True)
class LabelledImage:
    """An image of a store and what holds of it; `values` is label number -> 1 or 0, without what is unknown."""

    image_id: str
    path: str  # relative to the store's folder
    sha256: str
    group: str  # blank: the image stands alone
    center: str | None
    holdout: bool
    values: dict[int, int]
    stamp: tuple[int, int]  # bytes, and time of change in ns, of the file as it was hashed


@dataclass(frozen=True, kw_only=True)
class StoreState:
    """A store as of one event: images with a known label, in order of their ids."""

    task: Literal["multiclass", "multilabel"]
    event: int
    labels: dict[int, str]  # number -> name, in the order in which they are shown
    images: tuple[LabelledImage, ...]
    bad: int  # images left out because they were called bad
    disputed: int  # images with a label on which annotators differ
    holdout_unlabelled: int
    later: tuple[str, ...] = ()  # labels that were added after the event


def read_label_store(
    path: Path, *, dataset: str, table_only: bool = False, exclude: Collection[str] = (), event: int | None = None
) -> Manifest:
    """The labelled images of a store. Hold-out images stand in the table's column `part` as `test`, all others as `train`.

    Args:
        dataset: the manifest's short name.
        table_only: every file is None.
        exclude: ids whose image may be missing.
        event: the last one that counts; None: all that are there now.

    Raises:
        DataError: no store, or a newer one; fewer events than that; nothing labelled; an image whose file is gone, or
            holds something else by now.
    """
    state = read_state(path, event=event)
    if not state.images:
        raise DataError(
            f"A label store must hold labels to train on, but {path} has none: label some, `label {shell_word(str(path))}`."
        )
    if all(image.holdout for image in state.images):
        raise DataError(f"Images beside the hold-out must be labelled, but in {path} only those of the hold-out are.")
    task = task_named(state.task)
    kept, names, targets = _classes(state, path) if state.task == "multiclass" else _labels(state, task)
    groups = tuple(image.group for image in kept)
    centers = tuple(image.center or "" for image in kept)
    manifest = Manifest(
        dataset=dataset,
        root=path.resolve(),
        image_ids=tuple(image.image_id for image in kept),
        files=tuple(None if table_only else file_of(path, image) for image in kept),
        targets=targets,
        class_names=names,
        positive_class=_rarest(task, targets, len(names)),
        centers=centers if all(centers) else None,
        groups=groups if any(groups) else None,
        table=pd.DataFrame(
            {
                "image_id": [image.image_id for image in kept],
                "part": [TEST if image.holdout else TRAIN for image in kept],
            }
        ),
        annotations=(None,) * len(kept),
        notes=_notes(state),
        task=task,
        event=state.event,
    )
    if not table_only:
        require_files(manifest, exclude, where="the place where it was added")
        require_same([image for image in kept if image.image_id not in exclude], path)
    return manifest


def read_state(path: Path, *, event: int | None = None) -> StoreState:
    """What holds in a store as of an event. The file is opened for reading alone. Raises: DataError."""
    with closing(open_to_read(path)) as connection, told(path):
        connection.execute("BEGIN")  # all queries see one state
        last = connection.execute("SELECT coalesce(max(event), 0) FROM events").fetchone()[0]
        if event is not None and event > last:
            raise DataError(
                f"The label store must hold event {event}, which results rest on, but {path} ends at {last}: it is an older "
                "copy; restore the newer one."
            )
        event = last if event is None else event
        return _state(connection, event)


def _state(connection: sqlite3.Connection, event: int) -> StoreState:
    task = connection.execute("SELECT value FROM meta WHERE name = 'task'").fetchone()[0]
    labels, later = _labels_as_of(connection, event)
    said = _replay(connection, event)
    rows = connection.execute(
        "SELECT image, image_id, path, sha256, group_name, center, holdout, size, mtime FROM images ORDER BY image_id"
    )
    images, unlabelled = [], 0
    for number, image_id, path, sha256, group, center, holdout, *stamp in rows:
        values = {} if number not in said or said[number].is_bad else said[number].values()
        unlabelled += holdout and not values
        if values:
            images.append(
                LabelledImage(
                    image_id=image_id,
                    path=path,
                    sha256=sha256,
                    group="" if group == f"sha256:{sha256}" else group,
                    center=center,
                    holdout=bool(holdout),
                    values=values,
                    stamp=tuple(stamp),
                )
            )
    return StoreState(
        task=task,
        event=event,
        labels=labels,
        images=tuple(images),
        bad=sum(item.is_bad for item in said.values()),
        disputed=sum(item.is_disputed for item in said.values()),
        holdout_unlabelled=unlabelled,
        later=later,
    )


def _labels_as_of(connection: sqlite3.Connection, event: int) -> tuple[dict[int, str], tuple[str, ...]]:
    """Number -> name of the labels that could be answered by this event, and the names of those that came later."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    since = "since" if version >= LABELS_SINCE else "0"
    rows = connection.execute(f"SELECT label, name, {since} FROM labels ORDER BY position, label").fetchall()
    there = {label: name for label, name, first in rows if first <= event}
    return there, tuple(name for label, name, _ in rows if label not in there)


@dataclass
class _Said:
    """What annotators hold of one image: by label and annotator, and by annotator the kind of the last act."""

    opinions: dict[int, dict[str, tuple[int, bool, int | None]]] = field(default_factory=dict)  # (event, settles, value)
    decisions: dict[str, tuple[int, bool, str]] = field(default_factory=dict)  # (event, settles, kind)

    def hear(self, event: int, kind: str, annotator: str, answers: dict[str, int | None], *, settles: bool) -> None:
        """One act."""
        self.decisions[annotator] = (event, settles, kind)
        for label, value in answers.items():
            self.opinions.setdefault(int(label), {})[annotator] = (event, settles, value)

    def value(self, label: int) -> int | None:
        """1 or 0 where it is known."""
        held = self.opinions[label].values()
        if settled := [(event, value) for event, settles, value in held if settles]:
            return max(settled, key=lambda item: item[0])[1]
        said = {value for _, _, value in held if value is not None}
        return said.pop() if len(said) == 1 else None

    def values(self) -> dict[int, int]:
        """Label number -> 1 or 0, of those that are known."""
        known = {label: self.value(label) for label in self.opinions}
        return {label: value for label, value in known.items() if value is not None}

    @property
    def is_bad(self) -> bool:
        if settled := [(event, kind) for event, settles, kind in self.decisions.values() if settles]:
            return max(settled)[1] == "bad"
        return any(kind == "bad" for _, _, kind in self.decisions.values())

    @property
    def is_disputed(self) -> bool:
        if any(_differ(held.values()) for held in self.opinions.values()):
            return True
        kinds = {kind for _, _, kind in self.decisions.values()}
        return {"bad", "label"} <= kinds and not any(settles for _, settles, _ in self.decisions.values())


def _differ(held: Iterable[tuple[int, bool, int | None]]) -> bool:
    held = list(held)
    return not any(settles for _, settles, _ in held) and len({value for _, _, value in held if value is not None}) > 1


def _replay(connection: sqlite3.Connection, last: int) -> dict[int, _Said]:
    """Image number -> what is held of it as of event `last`."""
    undone = {
        row[0] for row in connection.execute("SELECT undoes FROM events WHERE undoes IS NOT NULL AND event <= ?", (last,))
    }
    sql = """SELECT event, kind, image, annotator, answers, settles FROM events
             WHERE event <= ? AND kind IN ('label', 'unsure', 'bad') ORDER BY event"""
    said: dict[int, _Said] = {}
    for event, kind, image, annotator, answers, settles in connection.execute(sql, (last,)):
        if event not in undone:
            said.setdefault(image, _Said()).hear(event, kind, annotator, json.loads(answers), settles=bool(settles))
    return said


def _labels(state: StoreState, task: Task) -> tuple[list[LabelledImage], tuple[str, ...], np.ndarray]:
    """Images, label names and (N, L) targets: 1, 0, or what the task says for unknown."""
    targets = task.unknown(len(state.images), len(state.labels))
    column = {label: place for place, label in enumerate(state.labels)}
    for row, image in enumerate(state.images):
        for label, value in image.values.items():
            targets[row, column[label]] = value
    return list(state.images), tuple(state.labels.values()), targets


def _classes(state: StoreState, path: Path) -> tuple[list[LabelledImage], tuple[str, ...], np.ndarray]:
    """Images with a class, the classes that occur in alphabetical order, and (N,) int64 targets."""
    chosen = {image.image_id: [state.labels[n] for n, value in image.values.items() if value] for image in state.images}
    kept = [image for image in state.images if len(chosen[image.image_id]) == 1]
    names = tuple(sorted({chosen[image.image_id][0] for image in kept}))
    if len(names) < FEWEST_CLASSES:
        raise DataError(
            f"At least two classes must be labelled, but {path} holds {examples(names) or 'none'}: label images of another."
        )
    targets = np.array([names.index(chosen[image.image_id][0]) for image in kept], dtype=np.int64)
    return kept, names, targets


def _rarest(task: Task, targets: np.ndarray, classes: int) -> int:
    """The class or label with the fewest yes, of those with a yes and a no where there are any."""
    yes, known = task.counts(targets, classes), task.known(targets, classes).sum(axis=0)
    return int(np.argmin(np.where((yes > 0) & (known > yes), yes, len(targets) + 1 + (yes == 0))))


def file_of(path: Path, image: LabelledImage) -> Path | None:
    """An image's file, where it is there; `path` is the store's."""
    file = (path.resolve().parent / image.path).resolve()
    return file if file.is_file() else None


def require_same(images: Sequence[LabelledImage], path: Path) -> None:
    """Refuses files that are not what was labelled. Those of the size and time of change that they had are taken as such.

    Raises:
        DataError: naming them.
    """

    def is_other(image: LabelledImage) -> bool:
        file = path.resolve().parent / image.path
        status = file.stat()
        return (status.st_size, status.st_mtime_ns) != image.stamp and file_sha256(file) != image.sha256

    with ThreadPoolExecutor(HASHERS) as pool:
        try:
            others = [image.path for image, found in zip(images, pool.map(is_other, images), strict=True) if found]
        except OSError as error:
            raise DataError(f"Every image must be readable, but {error.filename}: {error.strerror}.") from error
    if others:
        raise DataError(
            f"Every image must be the one that was labelled, but {len(others)} of {len(images)} files of {path} hold "
            f"another ({examples(others)}): put back what was there, or leave them out with --exclude FILE."
        )


def _notes(state: StoreState) -> tuple[str, ...]:
    """What the user must know of the state."""
    labelled = sum(image.holdout for image in state.images)
    lines = [
        f"Labels as of event {state.event}: {len(state.images) - labelled} labelled images to train and validate on, "
        f"{labelled} of the hold-out."
    ]
    if state.holdout_unlabelled:
        lines.append(
            f"{state.holdout_unlabelled} image(s) of the hold-out have no label yet: `label --holdout`. `evaluate` takes "
            "the hold-out as it is labelled by then."
        )
    if state.later:
        lines.append(f"Nobody has answered {', '.join(state.later)} by then: no label of this dataset.")
    if state.disputed:
        lines.append(f"Annotators differ on {state.disputed} image(s); such a label counts as unknown until it is settled.")
    if state.bad:
        lines.append(f"{state.bad} image(s) are left out because they were called bad.")
    return tuple(lines)
