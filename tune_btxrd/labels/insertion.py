"""Insertion: images enter the store; what decides hold-out, double reading and order is hashed here, once and for ever."""

import hashlib
import hmac
from collections.abc import Collection, Sequence
from pathlib import PurePosixPath

from tune_btxrd.data.readers.names import LONGEST_NAME
from tune_btxrd.labels.acts import now
from tune_btxrd.labels.database import Database, Row
from tune_btxrd.labels.records import NewImage

ALONE = "sha256:"  # begins the group of an image that stands alone
ASKED = 500  # values in one question; SQLite takes 999 everywhere


def insert_images(
    database: Database, images: Sequence[NewImage], *, salt: str, holdout_share: float, double_share: float
) -> list[int]:
    """As `LabelStore.insert_images`."""
    time = now()
    with database.writing():
        known = _present(database, "sha256", [image.sha256 for image in images])
        taken = _present(database, "image_id", [_plain_id(image) for image in images])
        rows: dict[str, Row] = {}
        for image in images:
            if image.sha256 in known or image.sha256 in rows:
                continue
            group, image_id = image.group or alone(image.sha256), _free_id(image, taken)
            taken[image_id] = 0
            holdout = is_held_out(group, salt=salt, share=holdout_share)
            twice = fraction(salt, "twice", image.sha256) < double_share
            shuffle = int(fraction(salt, "order", image.sha256) * 2**53)
            rows[image.sha256] = (
                *(image.sha256, image_id, image.path, group, image.center),
                *(holdout, twice, shuffle, time, image.size, image.mtime),
            )
        database.run_many(
            "INSERT INTO images (sha256, image_id, path, group_name, center, holdout, twice, shuffle, added, "
            "size, mtime) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            list(rows.values()),
        )
        numbers = _present(database, "sha256", list(rows))
    return [numbers[sha256] for sha256 in rows]


def relocate_images(database: Database, images: Sequence[NewImage]) -> None:
    """As `LabelStore.relocate_images`."""
    rows: list[Row] = [(image.path, image.size, image.mtime, image.sha256) for image in images]
    with database.writing():
        database.run_many("UPDATE images SET path = ?, size = ?, mtime = ?, missing = 0 WHERE sha256 = ?", rows)


def alone(sha256: str) -> str:
    """The group of an image that stands alone."""
    return f"{ALONE}{sha256}"


def is_held_out(group: str, *, salt: str, share: float) -> bool:
    """Whether a group is of the hold-out: decided by its name alone, whatever comes later."""
    return fraction(salt, "hold-out", group) < share


def fraction(salt: str, purpose: str, text: str) -> float:
    """A number in [0, 1) that looks random and depends on nothing but its arguments."""
    digest = hmac.digest(salt.encode(), f"{purpose}\0{text}".encode(errors="surrogateescape"), hashlib.sha256)
    return int.from_bytes(digest[:8], "big") / 2**64


def _present(database: Database, column: str, values: Sequence[str]) -> dict[str, int]:
    """Value -> number of the image that has it in this column, of those that some image has."""
    found: dict[str, int] = {}
    for start in range(0, len(values), ASKED):
        some = values[start : start + ASKED]
        marks = ",".join("?" * len(some))
        rows = database.rows(f"SELECT {column}, image FROM images WHERE {column} IN ({marks})", tuple(some))
        found |= {str(value): int(number or 0) for value, number in rows}
    return found


def _plain_id(image: NewImage) -> str:
    """An image's path with __ between folders."""
    return "__".join(part for part in image.path.split("/") if part not in ("", ".", "..")).strip()


def _free_id(image: NewImage, taken: Collection[str]) -> str:
    """The image's id: its path; with its content's hash where that is taken or too long."""
    name = _plain_id(image)
    if len(name) <= LONGEST_NAME and name not in taken:
        return name
    stem = PurePosixPath(name)
    return f"{name[: LONGEST_NAME - 32]}~{image.sha256[:16]}{stem.suffix[:12]}"
