"""LabelStore: images, labels, events, leases, predictions and rankings in one SQLite file, through typed functions."""

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from tune_btxrd.errors import ConfigError, DataError
from tune_btxrd.labels import acts, asking, holdout_openings, insertion, label_names, scores
from tune_btxrd.labels.asking import image_of
from tune_btxrd.labels.database import Database, Row, create, remove
from tune_btxrd.labels.label_names import assign_keys, check_labels
from tune_btxrd.labels.records import (
    Act,
    Asked,
    Event,
    Label,
    Mode,
    NewImage,
    Opening,
    Pool,
    Progress,
    StoredImage,
    Task,
)

HOLDOUT_SHARE = 0.10
DOUBLE_SHARE = 0.05  # of the images that are shown to two annotators


class LabelStore:
    """An open label store. Threads may share one; other processes open their own. Close it, or use it in a `with` block.

    Every function that writes returns when the disk has it (`synchronous=FULL`), and raises DataError where another
    process holds the file, the disk is full or the file is read-only.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Opens a store.

        Raises:
            DataError: no such file, no label store, of a newer version, locked, not writable.
        """
        self.database = Database(path, read_only=read_only)
        meta = {str(name): str(value) for name, value in self.database.rows("SELECT name, value FROM meta")}
        self.task: Task = "multiclass" if meta["task"] == "multiclass" else "multilabel"
        self.holdout_share, self.double_share = float(meta["holdout_share"]), float(meta["double_share"])
        self.salt = meta["holdout_salt"]

    @classmethod
    def create(
        cls,
        path: Path,
        labels: Sequence[str],
        *,
        task: Task = "multilabel",
        keys: Mapping[str, str] | None = None,
        holdout_share: float = HOLDOUT_SHARE,
        double_share: float = DOUBLE_SHARE,
        salt: str | None = None,
    ) -> "LabelStore":
        """A new store.

        Args:
            labels: their names, in the order in which they are shown; two at least for classes, one for labels.
            keys: label -> its key on the page; the others get one in turn.
            holdout_share: of the groups, decided for each when it is first added.
            double_share: of the images that two annotators are asked for.
            salt: of the hash that decides both; default: random.

        Raises:
            DataError, ConfigError: a name or key that cannot be used, a path that is taken.
        """
        check_labels(labels, path, task=task)
        for name, share in (("holdout_share", holdout_share), ("double_share", double_share)):
            if not 0 <= share <= 0.9:
                raise ConfigError(f"`0 <= {name} <= 0.9` must hold, but got {share}.")
        assigned = assign_keys(labels, keys or {})
        create(path)
        database = None
        try:
            database = Database(path)
            meta = {
                "task": task,
                "created": acts.now(),
                "holdout_share": repr(holdout_share),
                "double_share": repr(double_share),
                "holdout_salt": secrets.token_hex(16) if salt is None else salt,
            }
            with database.writing():
                database.run_many("INSERT INTO meta (name, value) VALUES (?, ?)", list(meta.items()))
                rows: list[Row] = [(name, assigned[name], place) for place, name in enumerate(labels)]
                database.run_many("INSERT INTO labels (name, key, position) VALUES (?, ?, ?)", rows)
            database.close()
        except BaseException:
            if database is not None:
                database.close()
            remove(path)
            raise
        return cls(path)

    def __enter__(self) -> "LabelStore":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self.database.close()

    @property
    def path(self) -> Path:
        """Of the file."""
        return self.database.path

    @property
    def folder(self) -> Path:
        """The folder of the file: paths of images are relative to it."""
        return self.database.path.parent

    # ---- labels

    @property
    def labels(self) -> tuple[Label, ...]:
        """In the order in which they are shown."""
        return label_names.labels_of(self.database)

    def add_labels(self, names: Sequence[str], *, keys: Mapping[str, str] | None = None) -> None:
        """Further labels, after those that are there; what holds as of an earlier event does not know them.

        Of labels, every image is asked for again. Of classes, an image that has one keeps it.

        Raises:
            DataError, ConfigError: a name or key that cannot be used.
        """
        label_names.add_labels(self.database, names, keys or {}, task=self.task)

    def set_keys(self, keys: Mapping[str, str]) -> None:
        """Other keys for some labels. Raises: ConfigError for an unknown label, or a key that cannot be used."""
        label_names.set_keys(self.database, keys)

    # ---- images

    def insert_images(self, images: Sequence[NewImage]) -> list[int]:
        """Adds images in one transaction and returns the numbers of those that are new.

        An image is its content: one that is known already stays as it is. Hold-out and double reading are decided here,
        once, by a keyed hash of the group and of the content: whatever comes later changes neither.
        """
        return insertion.insert_images(
            self.database, images, salt=self.salt, holdout_share=self.holdout_share, double_share=self.double_share
        )

    def is_held_out(self, group: str) -> bool:
        """Whether images of a group are in the hold-out, those that are not added yet too."""
        return insertion.is_held_out(group, salt=self.salt, share=self.holdout_share)

    def relocate_images(self, images: Sequence[NewImage]) -> None:
        """Notes where the files of known images (by `sha256`) lie now."""
        insertion.relocate_images(self.database, images)

    def image(self, number: int) -> StoredImage:
        """Raises: DataError where the store has no such image."""
        row = self.database.one(f"SELECT {asking.COLUMNS} FROM images i WHERE image = ?", (number,))
        if row is None:
            raise DataError(f"An image must be in the store, but {self.path} has none of number {number}: reload the page.")
        return image_of(row)

    def file(self, image: StoredImage) -> Path:
        """Where an image's file lies, if it is there."""
        return Path(self.folder, image.path)

    def same_group(self, number: int) -> tuple[StoredImage, ...]:
        """The other images of an image's group (the same patient), in order of their paths."""
        sql = f"""SELECT {asking.COLUMNS} FROM images i
                  WHERE group_name = (SELECT group_name FROM images WHERE image = ?) AND image <> ? ORDER BY path"""
        return tuple(image_of(row) for row in self.database.rows(sql, (number, number)))

    def set_missing(self, number: int, *, missing: bool) -> None:
        """Notes that an image's file was not found, or was found again."""
        with self.database.writing():
            self.database.run("UPDATE images SET missing = ? WHERE image = ? AND missing <> ?", (missing, number, missing))

    def missing_images(self) -> tuple[StoredImage, ...]:
        """The images whose file was not found when it was last looked for."""
        return tuple(
            image_of(row)
            for row in self.database.rows(f"SELECT {asking.COLUMNS} FROM images i WHERE missing = 1 ORDER BY path")
        )

    # ---- what an annotator is asked for

    def next_images(
        self, annotator: str, *, mode: Mode = "label", count: int = 1, random_share: float = asking.RANDOM_SHARE
    ) -> tuple[Asked, ...]:
        """The images to show next, best first, leased to this annotator: no one else is given them meanwhile.

        A lease lasts `asking.LEASE_SECONDS` and is renewed by asking again; an act on the image ends it. Those that the
        annotator holds already come first, so asking twice gives the same images.

        Args:
            mode: "label": what helps (arm `ranked`) with a share of pure random (arm `random`), and images that a second
                annotator must see (arm `twice`); where nothing is ranked, all are random. "holdout": the hold-out in random
                order. "review": those with predictions, most confident first. "dispute": those on which annotators differ.
            count: how many, e.g. 4: one to show and three to preload.
            random_share: of the control arm.

        Returns:
            Fewer than `count` where there are no more; none where all is done.
        """
        return asking.next_images(self.database, annotator, mode=mode, count=count, random_share=random_share)

    def lease(self, image: int, annotator: str, *, mode: Mode, arm: str) -> None:
        """Keeps one image for an annotator, e.g. one whose act was just undone, unless another annotator has it."""
        asking.lease(self.database, image, annotator, mode=mode, arm=arm)

    def release(self, annotator: str) -> None:
        """Ends all leases of an annotator, e.g. when the page is closed or the mode changes."""
        asking.release(self.database, annotator)

    def is_left(self, image: int, *, mode: Mode = "label") -> bool:
        """Whether an image counts among those of a mode that are left."""
        return asking.is_left(self.database, image, mode=mode)

    def progress(self, annotator: str, *, mode: Mode = "label", counted: tuple[int, int] | None = None) -> Progress:
        """How far the images of a mode are, and this annotator's pace; `counted`: (images, left) where they are known."""
        return asking.progress(self.database, annotator, mode=mode, counted=counted)

    # ---- events

    @property
    def last_event(self) -> int:
        """Number of the last event; 0 where there is none."""
        return self.database.number("SELECT max(event) FROM events")

    def record(self, act: Act) -> Event:
        """Appends an act and ends the lease. The same `client` again changes nothing and returns the first event.

        Kind "unsure" and "bad" hold for all labels: answers are None for each. In a multiclass store a label act that
        says yes to one class says no to the others.

        Raises:
            DataError: no such image, label or value; a `client` id that was used for another act.
        """
        return self.record_all([act])[0]

    def record_all(self, acts_: Sequence[Act]) -> list[Event]:
        """Many acts in one transaction: all are on disk, or none is. Raises: as `record`."""
        return acts.record(self.database, acts_, self.labels, task=self.task)

    def undo(self, annotator: str, *, client: str) -> Event | None:
        """Takes back the annotator's last act that stands, as an event; also after a restart. What came from a table stays.

        Returns:
            The act that was taken back, so that its image can be shown; None where there is none left. The same `client`
            again takes back nothing more.
        """
        number = acts.undo(self.database, annotator, client=client)
        return None if number is None else acts.event(self.database, number, self.labels)

    def history(self, annotator: str | None = None, *, image: int | None = None, limit: int = 50) -> list[Event]:
        """The last events, newest first, of one annotator or all, on one image or all."""
        return acts.history(self.database, self.labels, annotator=annotator, image=image, limit=limit)

    def answers_of(self, image: int, annotator: str) -> dict[str, int | None]:
        """What an annotator holds of an image now: label -> 1, 0, or None for unsure."""
        rows = self.database.rows(
            "SELECT name, value FROM opinions JOIN labels USING (label) WHERE image = ? AND annotator = ? ORDER BY position",
            (image, annotator),
        )
        return {str(name): None if value is None else int(value) for name, value in rows}

    def all_answers_of(self, image: int) -> dict[str, dict[str, int | None]]:
        """What each annotator holds of an image now: annotator -> label -> 1, 0, or None for unsure."""
        names = self.database.rows("SELECT annotator FROM decisions WHERE image = ? ORDER BY event", (image,))
        return {str(name): self.answers_of(image, str(name)) for (name,) in names}

    def saw_model(self, image: int, annotator: str) -> bool:
        """Whether an annotator has seen the model's opinion before one of his acts on an image, also of those undone."""
        sql = "SELECT 1 FROM events WHERE image = ? AND annotator = ? AND saw_model = 1"
        return self.database.one(sql, (image, annotator)) is not None

    def decision_of(self, image: int, annotator: str) -> str | None:
        """The kind of an annotator's last act on an image that stands: label, unsure, bad, skip; None for none."""
        row = self.database.one("SELECT kind FROM decisions WHERE image = ? AND annotator = ?", (image, annotator))
        return None if row is None else str(row[0])

    # ---- models, predictions, rankings (labels/scores.py)

    def pool(self) -> Pool:
        """The images that may be ranked, in order of their numbers."""
        return scores.pool(self.database, is_open=True)

    def finished(self) -> Pool:
        """The images of which every label has been asked, neither in the hold-out nor bad nor missing."""
        return scores.pool(self.database, is_open=False)

    def known(self, images: Sequence[int]) -> np.ndarray:
        """(N, L) int64 in the order of `labels`: what holds now, 1 yes, 0 no, -1 unknown (nobody said, unsure, disputed)."""
        return scores.known(self.database, images, [label.number for label in self.labels])

    def begin_model(self, name: str, sha256: str, *, event: int | None) -> int:
        """The number of a model whose predictions follow; the same checkpoint has the same number, so scoring goes on.

        Args:
            name: how people call it, e.g. "chest-0611/stratified".
            sha256: of the checkpoint.
            event: last event of the labels that it was trained on.
        """
        return scores.begin_model(self.database, name, sha256, event=event)

    def scored(self, model: int) -> set[int]:
        """The images that a model has scored already: what a run that goes on leaves out."""
        return scores.scored(self.database, model)

    def write_scores(
        self, model: int, images: Sequence[int], probabilities: np.ndarray, *, features: np.ndarray | None = None
    ) -> None:
        """A block of predictions, in one transaction; an image of the hold-out is refused.

        Args:
            probabilities: (N, L) in the order of `labels`; NaN for a label that the model does not know.
            features: (N, D), kept as float16; None: none.

        Raises:
            DataError: an image of the hold-out, an infinite probability, a feature that is no finite float16.
        """
        numbers = [label.number for label in self.labels]
        scores.write_scores(self.database, model, images, probabilities, labels=numbers, features=features)

    def end_model(self, model: int) -> None:
        """All is scored: from now on this is the latest model; features of older ones are dropped.

        A model that wrote features without any probability is a backbone that no label has touched: its features stay.
        """
        scores.end_model(self.database, model)

    def latest_model(self) -> int | None:
        """The model with predictions that ended scoring last; None where there is none."""
        return scores.latest_model(self.database)

    def latest_backbone(self) -> int | None:
        """The model without predictions, features alone, that ended scoring last; None where there is none."""
        return scores.latest_backbone(self.database)

    def features(self, model: int) -> tuple[list[int], np.ndarray]:
        """Image numbers and their (N, D) float32 features."""
        return scores.features(self.database, model)

    def probabilities(self, model: int, images: Sequence[int]) -> np.ndarray:
        """(N, L) float64 in the order of `labels`; NaN where the model has not scored an image."""
        return scores.probabilities(self.database, model, images, [label.number for label in self.labels])

    def predictions_of(self, image: int) -> dict[str, float]:
        """Label -> probability by the latest model; empty where there is none, and for images of the hold-out."""
        return scores.predictions_of(self.database, image)

    def write_ranking(self, images: Sequence[int], *, acquisition: str, model: int | None) -> int:
        """A new ranking, best first, in place of the one before; images that are not named are asked for after it.

        Raises:
            DataError: an image of the hold-out.
        """
        return scores.write_ranking(self.database, images, acquisition=acquisition, model=model, time=acts.now())

    # ---- openings of the hold-out

    def log_opening(
        self, *, search: str, split: str, checkpoints: Mapping[str, str], images: int, event: int | None = None
    ) -> int:
        """Notes that `evaluate` opens the hold-out, before it reads a pixel; returns how many openings there are now.

        Args:
            event: the last one that counts for its answers; default: the last one.
        """
        return holdout_openings.log_opening(
            self.database, search=search, split=split, checkpoints=checkpoints, images=images, event=event
        )

    def openings(self) -> list[Opening]:
        """Every look at the hold-out so far, oldest first."""
        return holdout_openings.openings(self.database)
