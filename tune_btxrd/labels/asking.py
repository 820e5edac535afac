"""Asking: which image an annotator is shown next, in each mode, and how far all of them are."""

import random
import time
from datetime import UTC, datetime
from statistics import median

from tune_btxrd.labels.database import Database, Row
from tune_btxrd.labels.records import RANDOM, RANKED, TWICE, Asked, Mode, Progress, StoredImage

LEASE_SECONDS = 600  # that an image is kept for the annotator who was given it
RANDOM_SHARE = 0.10  # of images that are asked for at random: the control arm that the ranking must beat
TWICE_SHARE = 0.20  # of images that another annotator has read, as long as there are some
PACE_ACTS = 50  # acts that the pace is the median of
COLUMNS = "i.image, i.image_id, i.path, i.sha256, i.group_name, i.center, i.holdout, i.missing, i.bad, i.disputed"

OPEN = "i.open = 1 AND i.missing = 0"
AGAIN = """i.twice = 1 AND i.readers = 1 AND i.bad = 0 AND i.missing = 0 AND NOT EXISTS
  (SELECT 1 FROM decisions m WHERE m.image = i.image AND m.annotator = :me AND m.kind <> 'skip')"""
INDEXES = {  # of a source: SQLite's planner does not know how few images are wanted, and would sort all of them
    RANKED: "images_ranked",
    RANDOM: "images_shuffled",
    TWICE: "images_twice",
    "holdout": "images_shuffled",
    "holdout twice": "images_twice",
    "review": "images_confident",
    "dispute": "images_disputed",
}
SOURCES = {  # which images, and in which order
    RANKED: (f"{OPEN} AND i.holdout = 0 AND i.rank IS NOT NULL", "i.rank, i.shuffle"),
    RANDOM: (f"{OPEN} AND i.holdout = 0", "i.shuffle"),
    TWICE: (f"{AGAIN} AND i.holdout = 0", "i.shuffle"),
    "holdout": (f"{OPEN} AND i.holdout = 1", "i.shuffle"),
    "holdout twice": (f"{AGAIN} AND i.holdout = 1", "i.shuffle"),
    "review": (f"{OPEN} AND i.holdout = 0 AND i.confidence IS NOT NULL", "i.confidence DESC"),
    "dispute": ("i.disputed = 1 AND i.missing = 0", "i.holdout, i.shuffle"),
}
ARMS: dict[Mode, tuple[str, ...]] = {  # the sources of a mode, in the order in which they are tried
    "label": (RANKED, RANDOM, TWICE),
    "holdout": ("holdout", "holdout twice"),
    "review": ("review",),
    "dispute": ("dispute",),
}
FRESH = "NOT EXISTS (SELECT 1 FROM decisions d WHERE d.image = i.image AND d.annotator = :me AND d.kind = 'skip')"
FREE = "NOT EXISTS (SELECT 1 FROM leases l WHERE l.image = i.image)"
COUNTS: dict[Mode, tuple[str, str]] = {  # which images a mode is about, and which of them are left
    "label": ("holdout = 0", "holdout = 0 AND open = 1"),
    "holdout": ("holdout = 1", "holdout = 1 AND open = 1"),
    "review": ("holdout = 0 AND confidence IS NOT NULL", "holdout = 0 AND open = 1 AND confidence IS NOT NULL"),
    "dispute": ("disputed = 1", "disputed = 1"),
}


def next_images(database: Database, annotator: str, *, mode: Mode, count: int, random_share: float) -> tuple[Asked, ...]:
    """As `LabelStore.next_images`."""
    arms, now = ARMS[mode], time.time()
    marks = ", ".join("?" for _ in arms)
    with database.writing():
        database.run("DELETE FROM leases WHERE until <= ?", (now,))
        database.run(f"DELETE FROM leases WHERE annotator = ? AND arm NOT IN ({marks})", (annotator, *arms))
        database.run("UPDATE leases SET until = ? WHERE annotator = ?", (now + LEASE_SECONDS, annotator))
        asked = _leased(database, annotator)[:count]
        while len(asked) < count:
            found = _choose(database, annotator, arms, random_share=random_share)
            if found is None:
                break
            database.run(
                "INSERT INTO leases (image, annotator, arm, until) VALUES (?, ?, ?, ?)",
                (found.image.number, annotator, found.arm, now + LEASE_SECONDS),
            )
            asked.append(found)
    return tuple(asked)


def release(database: Database, annotator: str) -> None:
    """As `LabelStore.release`."""
    with database.writing():
        database.run("DELETE FROM leases WHERE annotator = ?", (annotator,))


def is_left(database: Database, image: int, *, mode: Mode) -> bool:
    """As `LabelStore.is_left`."""
    return database.one(f"SELECT 1 FROM images WHERE image = ? AND {COUNTS[mode][1]}", (image,)) is not None


def count(database: Database, *, mode: Mode) -> tuple[int, int]:
    """Images that a mode is about, and how many of them are left."""
    whole, left = (database.number(f"SELECT count(*) FROM images WHERE {what}") for what in COUNTS[mode])
    return whole, left


def progress(database: Database, annotator: str, *, mode: Mode, counted: tuple[int, int] | None) -> Progress:
    """As `LabelStore.progress`."""
    whole, left = count(database, mode=mode) if counted is None else counted
    mine = database.number("SELECT count(*) FROM decisions WHERE annotator = ? AND kind <> 'skip'", (annotator,))
    today = database.number(
        "SELECT count(*) FROM events WHERE annotator = ? AND time >= ? AND kind IN ('label', 'unsure', 'bad')",
        (annotator, datetime.now(UTC).strftime("%Y-%m-%d")),
    )
    paces = database.rows(
        "SELECT seconds FROM events WHERE annotator = ? AND seconds IS NOT NULL ORDER BY event DESC LIMIT ?",
        (annotator, PACE_ACTS),
    )
    return Progress(
        images=whole,
        done=whole - left,
        left=left,
        mine=mine,
        mine_today=today,
        median_seconds=median(float(row[0]) for row in paces) if paces else None,
    )


def _leased(database: Database, annotator: str) -> list[Asked]:
    """What the annotator was given and has not answered, in the order in which it was given."""
    sql = f"SELECT l.arm, {COLUMNS} FROM leases l JOIN images i USING (image) WHERE l.annotator = ? ORDER BY l.lease"
    return [Asked(image=image_of(row[1:]), arm=str(row[0])) for row in database.rows(sql, (annotator,))]


def _choose(database: Database, annotator: str, arms: tuple[str, ...], *, random_share: float) -> Asked | None:
    """One more image: fresh ones first, then those that the annotator has skipped, the longest ago first."""
    order = _order(arms, random_share=random_share)
    for fresh in (True, False):
        for arm in order:
            image = _first(database, annotator, arm, fresh=fresh)
            if image is not None:
                return Asked(image=image, arm=arm)
    return None


def _order(arms: tuple[str, ...], *, random_share: float) -> list[str]:
    """The arms of a mode as they are tried for one image: chance decides which is first."""
    order = list(arms)
    for arm, share in ((RANDOM, random_share), (TWICE, TWICE_SHARE), ("holdout twice", TWICE_SHARE)):
        if arm in order and random.random() < share:
            order.insert(0, order.pop(order.index(arm)))
    return order


def _first(database: Database, annotator: str, arm: str, *, fresh: bool) -> StoredImage | None:
    where, order = SOURCES[arm]
    if fresh:
        images = f"images i INDEXED BY {INDEXES[arm]}"
        sql = f"SELECT {COLUMNS} FROM {images} WHERE {where} AND {FREE} AND {FRESH} ORDER BY {order} LIMIT 1"
    else:
        sql = f"""SELECT {COLUMNS} FROM decisions s CROSS JOIN images i USING (image)
                  WHERE s.annotator = :me AND s.kind = 'skip' AND {where} AND {FREE} ORDER BY s.event LIMIT 1"""
    row = database.one(sql, {"me": annotator})
    return None if row is None else image_of(row)


def image_of(row: Row) -> StoredImage:
    """A row of COLUMNS."""
    number, image_id, path, sha256, group, center, holdout, missing, bad, disputed = row
    return StoredImage(
        number=int(number),
        image_id=str(image_id),
        path=str(path),
        sha256=str(sha256),
        group=str(group),
        center=None if center is None else str(center),
        holdout=bool(holdout),
        missing=bool(missing),
        bad=bool(bad),
        disputed=bool(disputed),
    )


def lease(database: Database, image: int, annotator: str, *, mode: Mode, arm: str) -> None:
    """As `LabelStore.lease`."""
    kept, now = arm if arm in ARMS[mode] else ARMS[mode][0], time.time()
    with database.writing():
        database.run("DELETE FROM leases WHERE image = ? AND (until <= ? OR annotator = ?)", (image, now, annotator))
        database.run(
            "INSERT OR IGNORE INTO leases (image, annotator, arm, until) VALUES (?, ?, ?, ?)",
            (image, annotator, kept, now + LEASE_SECONDS),
        )
