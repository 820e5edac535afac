"""Current hold-out: a label store's hold-out as it is labelled now, beside the images that a search was frozen with."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers.label_store import TEST, LabelledImage, StoreState, file_of, read_state, require_same
from tune_btxrd.data.readers.names import examples, same_spelling
from tune_btxrd.errors import DataError


@dataclass(frozen=True, kw_only=True)
class CurrentHoldout:
    """A frozen dataset whose hold-out is the one of now.

    Attributes:
        manifest: the frozen images to train on, and the hold-out's; what was trained on has not moved.
        ids: of the hold-out's images.
        event: the last one that counts for the hold-out.
        fresh: ids of images that had no label when the search began.
        changed: images with another answer than then; gone: those that have no answer any more.
        foreign: images whose class no model of this dataset knows; they are left out.
        corrected: images with another answer than at the first opening.
    """

    manifest: Manifest
    ids: tuple[str, ...]
    event: int
    fresh: tuple[str, ...]
    changed: int
    gone: int
    foreign: int
    corrected: int

    def notes(self) -> tuple[str, ...]:
        """For the reader of scores: which labels they rest on."""
        began, groups = self.manifest.event, len(self.groups)
        line = f"The model learned from the labels as of event {began}; the hold-out is taken as of event {self.event}"
        since = [
            f"{count:,} {words}"
            for count, words in (
                (len(self.fresh), "labelled since"),
                (self.changed, "answered otherwise since"),
                (self.gone, "without an answer now and left out"),
                (self.foreign, "of a class that the model does not know and left out"),
            )
            if count
        ]
        notes = [f"{line}: {len(self.ids):,} images of {groups:,} groups{''.join(f', {words}' for words in since)}."]
        if self.corrected:
            notes.append(
                f"{self.corrected:,} image(s) of the hold-out have another answer than when it was opened first: whoever "
                "changed them may have known what the model said."
            )
        return tuple(notes)

    @property
    def groups(self) -> frozenset[str]:
        """Groups of the hold-out; an image that stands alone is its own."""
        named = self.manifest.groups or ("",) * len(self.manifest)
        return frozenset(named[row] or self.manifest.image_ids[row] for row in self.manifest.rows(self.ids))


def current_holdout(frozen: Manifest, *, exclude: Collection[str] = (), opened_at: int | None = None) -> CurrentHoldout:
    """Reads the hold-out of a store as it is labelled now.

    Args:
        frozen: the dataset as of the event at which its search began.
        exclude: ids to leave out.
        opened_at: event of the first opening of the hold-out; None where there was none.

    Raises:
        DataError: nothing of the hold-out is labelled; an image that is gone, or whose file holds another one by now.
    """
    path, state = frozen.root, read_state(frozen.root)
    left_out = {same_spelling(image_id) for image_id in exclude}
    labelled = [image for image in state.images if image.holdout and same_spelling(image.image_id) not in left_out]
    targets, is_known = _targets(labelled, state, frozen)
    images = [image for image, known in zip(labelled, is_known, strict=True) if known]
    if not images:
        raise DataError(
            f"An evaluation needs a labelled hold-out, but in {path} no image of it has a label: label it, "
            f"`label {path.name} --holdout`."
        )
    require_files_of(images, path)
    before = {frozen.image_ids[row]: frozen.targets[row] for row in np.flatnonzero(frozen.table["part"] == TEST)}
    now = {image.image_id: target for image, target in zip(images, targets[is_known], strict=True)}
    return CurrentHoldout(
        manifest=_joined(frozen, images, targets[is_known]),
        ids=tuple(sorted(now)),
        event=state.event,
        fresh=tuple(sorted(set(now) - set(before))),
        changed=sum(not np.array_equal(target, now[image_id]) for image_id, target in before.items() if image_id in now),
        gone=len(set(before) - set(now)),
        foreign=_count_foreign(labelled, is_known, state),
        corrected=0 if opened_at is None else _count_corrected(labelled, read_state(path, event=opened_at)),
    )


def require_files_of(images: Sequence[LabelledImage], path: Path) -> None:
    """Raises: DataError where a file of the hold-out is gone or holds another image."""
    if absent := [image.path for image in images if file_of(path, image) is None]:
        raise DataError(
            f"Every labelled image of the hold-out must be there, but {len(absent)} of {len(images)} are missing "
            f"({examples(absent)}): put them back, or add the folder they lie in now with `labels add`."
        )
    require_same(images, path)


def _targets(images: Sequence[LabelledImage], state: StoreState, frozen: Manifest) -> tuple[np.ndarray, np.ndarray]:
    """Targets as the frozen dataset has them, and whether its labels or classes tell anything of an image: (N,) bool."""
    column_of = {name: column for column, name in enumerate(frozen.class_names)}
    said = [{state.labels[label]: value for label, value in image.values.items()} for image in images]
    columns = [{column_of[name]: value for name, value in one.items() if name in column_of} for one in said]
    if frozen.task.exclusive:
        chosen = [[column for column, value in one.items() if value] for one in columns]
        known = np.array([len(one) == 1 for one in chosen], dtype=bool)
        return np.array([one[0] if len(one) == 1 else -1 for one in chosen], dtype=np.int64), known
    targets = frozen.task.unknown(len(images), len(frozen.class_names))
    for row, one in enumerate(columns):
        for column, value in one.items():
            targets[row, column] = value
    return targets, np.array([bool(one) for one in columns], dtype=bool)


def _count_foreign(images: Sequence[LabelledImage], is_known: np.ndarray, state: StoreState) -> int:
    """Images that have a class of which the frozen dataset knows nothing; of labels, unknown ones are unknown."""
    if state.task != "multiclass":
        return 0
    return sum(not known and any(image.values.values()) for image, known in zip(images, is_known.tolist(), strict=True))


def _count_corrected(now: Sequence[LabelledImage], then: StoreState) -> int:
    before: Mapping[str, dict[int, int]] = {image.image_id: image.values for image in then.images if image.holdout}
    return sum(
        any(image.values.get(label) != value for label, value in before.get(image.image_id, {}).items()) for image in now
    )


def _joined(frozen: Manifest, images: Sequence[LabelledImage], targets: np.ndarray) -> Manifest:
    """The frozen images to train on and these of the hold-out, in order of their ids, as the store's reader has them."""
    path = frozen.root
    kept = np.flatnonzero(frozen.table["part"] != TEST)
    ids = [*(frozen.image_ids[row] for row in kept), *(image.image_id for image in images)]
    files = [*(frozen.files[row] for row in kept), *(file_of(path, image) for image in images)]
    groups = [*((frozen.groups or ("",) * len(frozen))[row] for row in kept), *(image.group for image in images)]
    parts = [*(frozen.table["part"].iloc[row] for row in kept), *[TEST] * len(images)]
    centers = None
    if frozen.centers is not None:
        centers = [*(frozen.centers[row] for row in kept), *(image.center or "" for image in images)]
    values = np.concatenate([frozen.targets[kept], targets])
    order = sorted(range(len(ids)), key=lambda row: ids[row])
    return dataclasses.replace(
        frozen,
        image_ids=tuple(ids[row] for row in order),
        files=tuple(files[row] for row in order),
        targets=values[order],
        centers=tuple(centers[row] for row in order) if centers and all(centers) else None,
        groups=tuple(groups[row] for row in order) if any(groups) else None,
        table=pd.DataFrame({"image_id": [ids[row] for row in order], "part": [parts[row] for row in order]}),
        annotations=(None,) * len(order),
        notes=(),
    )
