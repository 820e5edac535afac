"""Insertion: images enter the store; what decides hold-out, double reading and order is hashed here, once and for ever."""

import hashlib
import hmac
from collections.abc import Sequence
from pathlib import PurePosixPath

from tune_btxrd.data.readers.names import LONGEST_NAME
from tune_btxrd.labels.acts import now
from tune_btxrd.labels.database import Database, Row
from tune_btxrd.labels.records import NewImage


def insert_images(
    database: Database, images: Sequence[NewImage], *, salt: str, holdout_share: float, double_share: float
) -> list[int]:
    """As `LabelStore.insert_images`."""
    new, time = [], now()
    with database.writing():
        for image in images:
            if database.one("SELECT 1 FROM images WHERE sha256 = ?", (image.sha256,)) is not None:
                continue
            group = image.group or alone(image.sha256)
            holdout = fraction(salt, "hold-out", group) < holdout_share
            twice = fraction(salt, "twice", image.sha256) < double_share
            shuffle = int(fraction(salt, "order", image.sha256) * 2**53)
            new.append(
                database.run(
                    "INSERT INTO images (sha256, image_id, path, group_name, center, holdout, twice, shuffle, added, "
                    "size, mtime) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        *(image.sha256, _free_id(database, image), image.path, group, image.center),
                        *(holdout, twice, shuffle, time, image.size, image.mtime),
                    ),
                )
            )
    return new


def relocate_images(database: Database, images: Sequence[NewImage]) -> None:
    """As `LabelStore.relocate_images`."""
    rows: list[Row] = [(image.path, image.size, image.mtime, image.sha256) for image in images]
    with database.writing():
        database.run_many("UPDATE images SET path = ?, size = ?, mtime = ?, missing = 0 WHERE sha256 = ?", rows)


def alone(sha256: str) -> str:
    """The group of an image that stands alone."""
    return f"sha256:{sha256}"


def fraction(salt: str, purpose: str, text: str) -> float:
    """A number in [0, 1) that looks random and depends on nothing but its arguments."""
    digest = hmac.digest(salt.encode(), f"{purpose}\0{text}".encode(errors="surrogateescape"), hashlib.sha256)
    return int.from_bytes(digest[:8], "big") / 2**64


def _free_id(database: Database, image: NewImage) -> str:
    """The image's id: its path with __ between folders; with its content's hash where that is taken or too long."""
    parts = [part for part in PurePosixPath(image.path).parts if part not in ("..", "/")]
    name = "__".join(parts).strip()
    if len(name) <= LONGEST_NAME and database.one("SELECT 1 FROM images WHERE image_id = ?", (name,)) is None:
        return name
    stem = PurePosixPath(name)
    return f"{name[: LONGEST_NAME - 32]}~{image.sha256[:16]}{stem.suffix[:12]}"
