"""Status: how a store stands: images, labels, agreement of annotators, pace, looks at the hold-out."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from tune_btxrd.labels.database import Database
from tune_btxrd.labels.records import Label, Opening
from tune_btxrd.labels.store import LabelStore

COUNTS = """
SELECT count(*), coalesce(sum(holdout), 0), coalesce(sum(open), 0), coalesce(sum(open AND holdout), 0),
  coalesce(sum(bad), 0), coalesce(sum(disputed), 0), coalesce(sum(missing), 0), count(DISTINCT group_name),
  count(DISTINCT CASE WHEN holdout = 1 THEN group_name END) FROM images
"""
LABEL_COUNTS = """
SELECT h.label, i.holdout, h.value, h.disputed, count(*) FROM held h JOIN images i USING (image)
WHERE i.bad = 0 GROUP BY h.label, i.holdout, h.value, h.disputed
"""
READINGS = """
SELECT a.label, a.annotator, b.annotator, a.value, b.value, count(*)
FROM images i JOIN opinions a USING (image) JOIN opinions b ON b.image = a.image AND b.label = a.label
WHERE i.readers > 1 AND a.annotator < b.annotator AND a.value IS NOT NULL AND b.value IS NOT NULL
  AND a.settles = 0 AND b.settles = 0
GROUP BY a.label, a.annotator, b.annotator, a.value, b.value
"""
ANNOTATORS = """
SELECT annotator, count(*), sum(kind = 'label'), sum(kind = 'unsure'), sum(kind = 'bad'), sum(kind = 'skip'),
  sum(kind = 'undo'), coalesce(sum(seconds), 0), max(time), sum(time >= :today)
FROM events GROUP BY annotator ORDER BY annotator
"""
MEDIAN = """
SELECT avg(seconds) FROM (
  SELECT seconds FROM events WHERE annotator = :name AND seconds IS NOT NULL ORDER BY seconds
  LIMIT 2 - :count % 2 OFFSET (:count - 1) / 2)
"""


FEWEST_GROUPS = 10  # of a hold-out: the bootstrap draws groups, and fewer hardly tell one draw from another


@dataclass(frozen=True, kw_only=True)
class LabelCount:
    """One label; `holdout_*` counts the hold-out, the others all other images."""

    label: str
    key: str
    yes: int
    no: int
    unknown: int
    disputed: int
    holdout_yes: int
    holdout_no: int


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Two readings of the same images, per label."""

    label: str
    annotators: tuple[str, str] | None  # None: all pairs of annotators together
    images: int
    agree: int
    kappa: float | None  # Cohen's; None where both always said the same one thing


@dataclass(frozen=True, kw_only=True)
class Annotator:
    """What one person did; numbers of acts."""

    name: str
    acts: int
    labelled: int
    unsure: int
    bad: int
    skipped: int
    undone: int
    today: int
    hours: float
    median_seconds: float | None
    last: str


@dataclass(frozen=True, kw_only=True)
class Status:
    """A store at one moment."""

    store: str
    task: str
    event: int
    images: int
    groups: int
    holdout: int
    holdout_share: float
    holdout_groups: int
    to_label: int  # without the hold-out
    holdout_to_label: int
    bad: int
    disputed: int
    missing: int
    labels: tuple[LabelCount, ...]
    agreement: tuple[Agreement, ...]
    annotators: tuple[Annotator, ...]
    saw_model: int  # label acts after a look at the model's opinion, and all of which it is known
    saw_model_known: int
    openings: tuple[Opening, ...]
    model: str | None  # whose predictions are the latest
    acquisition: str | None  # by which the images are ranked

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def status(store: LabelStore) -> Status:
    """All numbers see one state of the store, whatever others write meanwhile."""
    database = store.database
    with database.reading():
        images, holdout, open_images, holdout_open, bad, disputed, missing, groups, held = database.rows(COUNTS)[0]
        model = database.one("SELECT name FROM models WHERE ended IS NOT NULL ORDER BY ended DESC, model DESC LIMIT 1")
        saw, known = database.rows("SELECT coalesce(sum(saw_model), 0), count(saw_model) FROM events WHERE kind = 'label'")[
            0
        ]
        ranking = database.one("SELECT acquisition FROM rankings ORDER BY ranking DESC LIMIT 1")
        return Status(
            store=str(store.path),
            task=store.task,
            event=store.last_event,
            images=images,
            groups=groups,
            holdout=holdout,
            holdout_share=store.holdout_share,
            holdout_groups=held,
            to_label=open_images - holdout_open,
            holdout_to_label=holdout_open,
            bad=bad,
            disputed=disputed,
            missing=missing,
            labels=_label_counts(store, in_use=images - holdout),
            agreement=agreements(store),
            annotators=_annotators(database),
            saw_model=saw,
            saw_model_known=known,
            openings=tuple(store.openings()),
            model=None if model is None else str(model[0]),
            acquisition=None if ranking is None else str(ranking[0]),
        )


def holdout_groups(store: LabelStore) -> int:
    """Groups of the hold-out, labelled or not."""
    return store.database.number("SELECT count(DISTINCT group_name) FROM images WHERE holdout = 1")


def small_holdout(groups: int) -> tuple[str, ...]:
    """A line where a hold-out is too small to judge by, else none; `groups`: of its images."""
    if groups >= FEWEST_GROUPS:
        return ()
    return (
        f"The hold-out has {groups} group(s), and fewer than {FEWEST_GROUPS} judge hardly anything: add images of further "
        "groups, or begin a store with a larger --holdout-share.",
    )


def agreements(store: LabelStore) -> tuple[Agreement, ...]:
    """Per label: all pairs of annotators together, then each pair, where there is more than one."""
    tables: dict[tuple[int, str, str], list[int]] = {}
    for label, one, other, first, second, count in store.database.rows(READINGS):
        tables.setdefault((label, one, other), [0, 0, 0, 0])[2 * first + second] = count
    found = []
    for label in store.labels:
        own = {(one, other): cells for (number, one, other), cells in tables.items() if number == label.number}
        if not own:
            continue
        both = [sum(cells[place] for cells in own.values()) for place in range(4)]
        found.append(_agreement(label.name, None, both))
        if len(own) > 1:
            found += [_agreement(label.name, pair, cells) for pair, cells in sorted(own.items())]
    return tuple(found)


def cohens_kappa(cells: Sequence[int]) -> float | None:
    """(observed - expected) / (1 - expected) agreement (Cohen, 1960, doi:10.1177/001316446002000104).

    Args:
        cells: images that the two readers called no/no, no/yes, yes/no, yes/yes.

    Returns:
        None where chance alone would agree always: both said the same one thing of every image.
    """
    no_no, no_yes, yes_no, yes_yes = cells
    images = sum(cells)
    if not images:
        return None
    first_yes, second_yes = (yes_no + yes_yes) / images, (no_yes + yes_yes) / images
    expected = first_yes * second_yes + (1 - first_yes) * (1 - second_yes)
    if expected == 1:
        return None
    return ((no_no + yes_yes) / images - expected) / (1 - expected)


def _agreement(label: str, annotators: tuple[str, str] | None, cells: Sequence[int]) -> Agreement:
    agree = cells[0] + cells[3]
    return Agreement(label=label, annotators=annotators, images=sum(cells), agree=agree, kappa=cohens_kappa(cells))


def _label_counts(store: LabelStore, *, in_use: int) -> tuple[LabelCount, ...]:
    rows = store.database.rows(LABEL_COUNTS)

    def count(label: Label, *, holdout: bool, value: int | None = None, disputed: bool | None = None) -> int:
        """Images of a label with that value, or disputed ones with whatever value."""
        return sum(
            row[4]
            for row in rows
            if row[:2] == (label.number, holdout) and (row[3] == disputed if disputed is not None else row[2] == value)
        )

    counts = []
    for label in store.labels:
        yes, no = (count(label, holdout=False, value=value) for value in (1, 0))
        counts.append(
            LabelCount(
                label=label.name,
                key=label.key,
                yes=yes,
                no=no,
                unknown=in_use - yes - no,
                disputed=count(label, holdout=False, disputed=True),
                holdout_yes=count(label, holdout=True, value=1),
                holdout_no=count(label, holdout=True, value=0),
            )
        )
    return tuple(counts)


def _annotators(database: Database) -> tuple[Annotator, ...]:
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    found = []
    for name, acts, labelled, unsure, bad, skipped, undone, seconds, last, now in database.rows(
        ANNOTATORS, {"today": today}
    ):
        timed = database.number("SELECT count(seconds) FROM events WHERE annotator = ?", (name,))
        middle = database.one(MEDIAN, {"name": name, "count": timed}) if timed else None
        found.append(
            Annotator(
                name=name,
                acts=acts,
                labelled=labelled,
                unsure=unsure,
                bad=bad,
                skipped=skipped,
                undone=undone,
                today=now,
                hours=seconds / 3600,
                median_seconds=None if middle is None else middle[0],
                last=last,
            )
        )
    return tuple(found)
