"""Openings of the hold-out: every look of `evaluate` at it, whichever search it was for."""

import json
from collections.abc import Mapping

from tune_btxrd.labels.acts import now
from tune_btxrd.labels.database import Database
from tune_btxrd.labels.records import Opening


def log_opening(
    database: Database, *, search: str, split: str, checkpoints: Mapping[str, str], images: int, event: int | None
) -> int:
    """As `LabelStore.log_opening`."""
    with database.writing():
        last = database.number("SELECT max(event) FROM events") if event is None else event
        database.run(
            "INSERT INTO openings (search, split, checkpoints, images, event, time) VALUES (?, ?, ?, ?, ?, ?)",
            (search, split, json.dumps(dict(checkpoints)), images, last, now()),
        )
        return database.number("SELECT count(*) FROM openings")


def openings(database: Database) -> list[Opening]:
    """As `LabelStore.openings`."""
    rows = database.rows("SELECT opening, search, split, images, event, time FROM openings ORDER BY opening")
    return [
        Opening(
            number=int(number),
            search=str(search),
            split=str(split),
            images=int(images),
            event=int(event),
            time=str(time),
        )
        for number, search, split, images, event, time in rows
    ]
