"""Scores: what a model says of the images of a store, and the order in which labels would help."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tune_btxrd.errors import DataError
from tune_btxrd.labels.database import Database, Row
from tune_btxrd.labels.records import Pool

USABLE = "holdout = 0 AND bad = 0 AND missing = 0"
HAS_PREDICTIONS = "EXISTS (SELECT 1 FROM predictions p WHERE p.model = models.model)"  # a backbone alone has features only
BLOCK = 900  # values in one query; older SQLite takes 999


def pool(database: Database, *, is_open: bool) -> Pool:
    """As `LabelStore.pool` and `LabelStore.finished`."""
    sql = f"SELECT image, path, sha256, group_name FROM images WHERE {USABLE} AND open = ? ORDER BY image"
    rows = database.rows(sql, (is_open,))
    return Pool(
        images=[int(row[0]) for row in rows],
        paths=[str(row[1]) for row in rows],
        sha256=[str(row[2]) for row in rows],
        groups=[str(row[3]) for row in rows],
    )


def known(database: Database, images: Sequence[int], labels: Sequence[int]) -> np.ndarray:
    """As `LabelStore.known`."""
    values = np.full((len(images), len(labels)), -1, dtype=np.int64)
    column = {label: place for place, label in enumerate(labels)}
    for place, (label, value) in _of_images(database, "SELECT image, label, value FROM held", images):
        if value is not None and label in column:
            values[place, column[label]] = int(value)
    return values


def begin_model(database: Database, name: str, sha256: str, *, event: int | None) -> int:
    """As `LabelStore.begin_model`."""
    with database.writing():
        row = database.one("SELECT model FROM models WHERE sha256 = ?", (sha256,))
        if row is not None:
            return int(row[0])
        return database.run(
            "INSERT INTO models (name, sha256, event, began) VALUES (?, ?, ?, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))",
            (name, sha256, event),
        )


def scored(database: Database, model: int) -> set[int]:
    """As `LabelStore.scored`."""
    sql = "SELECT image FROM predictions WHERE model = :model UNION SELECT image FROM features WHERE model = :model"
    return {int(row[0]) for row in database.rows(sql, {"model": model})}


def write_scores(
    database: Database,
    model: int,
    images: Sequence[int],
    probabilities: np.ndarray,
    *,
    labels: Sequence[int],
    features: np.ndarray | None,
) -> None:
    """As `LabelStore.write_scores`."""
    assert probabilities.shape == (len(images), len(labels))
    assert features is None or len(features) == len(images)
    if np.isinf(probabilities).any() or (features is not None and not np.isfinite(features.astype("<f2")).all()):
        raise DataError("Predictions and features must be finite numbers, but some are not: train again.")
    with database.writing():
        _refuse_holdout(database, images, "scored")
        database.run_many(
            "INSERT OR REPLACE INTO predictions (model, image, label, probability) VALUES (?, ?, ?, ?)",
            _prediction_rows(model, images, probabilities, labels),
        )
        if features is not None:
            blobs = features.astype("<f2")
            rows: list[Row] = [(model, image, row.tobytes()) for image, row in zip(images, blobs, strict=True)]
            database.run_many("INSERT OR REPLACE INTO features (model, image, vector) VALUES (?, ?, ?)", rows)


def _prediction_rows(model: int, images: Sequence[int], probabilities: np.ndarray, labels: Sequence[int]) -> Iterator[Row]:
    for image, row in zip(images, probabilities.astype(float).tolist(), strict=True):
        for label, value in zip(labels, row, strict=True):
            if not math.isnan(value):  # else the model knows no such label
                yield (model, image, label, value)


def end_model(database: Database, model: int) -> None:
    """As `LabelStore.end_model`."""
    with database.writing():
        database.run("UPDATE models SET ended = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') WHERE model = ?", (model,))
        if not database.number(f"SELECT {HAS_PREDICTIONS} FROM models WHERE model = ?", (model,)):
            return
        database.run(
            f"DELETE FROM features WHERE model <> ? AND model IN (SELECT model FROM models WHERE {HAS_PREDICTIONS})",
            (model,),
        )
        database.run("UPDATE images SET confidence = NULL WHERE confidence IS NOT NULL")
        database.run(
            """UPDATE images SET confidence = (
                 SELECT min(abs(2 * p.probability - 1)) FROM predictions p WHERE p.model = ? AND p.image = images.image)
               WHERE holdout = 0""",
            (model,),
        )


def latest_model(database: Database) -> int | None:
    """As `LabelStore.latest_model`."""
    return _latest(database, HAS_PREDICTIONS)


def latest_backbone(database: Database) -> int | None:
    """As `LabelStore.latest_backbone`."""
    return _latest(database, f"NOT {HAS_PREDICTIONS}")


def _latest(database: Database, which: str) -> int | None:
    sql = f"SELECT model FROM models WHERE ended IS NOT NULL AND {which} ORDER BY ended DESC, model DESC LIMIT 1"
    row = database.one(sql)
    return None if row is None else int(row[0])


def labelled_by_arm(database: Database) -> dict[str, list[int]]:
    """Arm -> images that somebody labelled because of it, in the order of their first label; none of the hold-out."""
    rows = database.rows(
        f"""SELECT s.image, s.arm, min(s.event) AS first FROM standing s JOIN images i USING (image)
            WHERE s.kind = 'label' AND {USABLE} GROUP BY s.image ORDER BY first"""
    )
    found: dict[str, list[int]] = {}
    for image, arm, _ in rows:
        found.setdefault(str(arm), []).append(int(image))
    return found


def features(database: Database, model: int) -> tuple[list[int], np.ndarray]:
    """As `LabelStore.features`."""
    rows = database.rows("SELECT image, vector FROM features WHERE model = ? ORDER BY image", (model,))
    vectors = [np.frombuffer(row[1], dtype="<f2") for row in rows if isinstance(row[1], bytes)]
    stacked = np.stack(vectors).astype(np.float32) if vectors else np.empty((0, 0), dtype=np.float32)
    return [int(row[0]) for row in rows], stacked


def features_of(database: Database, model: int, images: Sequence[int]) -> dict[int, np.ndarray]:
    """Image -> its (D,) float32 features by a model, of those that have some."""
    found: dict[int, np.ndarray] = {}
    for start in range(0, len(images), BLOCK):
        block = list(images[start : start + BLOCK])
        marks = ", ".join("?" for _ in block)
        sql = f"SELECT image, vector FROM features WHERE model = ? AND image IN ({marks})"
        found |= {
            int(image): np.frombuffer(vector, dtype="<f2").astype(np.float32)
            for image, vector in database.rows(sql, [model, *block])
            if isinstance(vector, bytes)
        }
    return found


def probabilities(database: Database, model: int, images: Sequence[int], labels: Sequence[int]) -> np.ndarray:
    """As `LabelStore.probabilities`."""
    values = np.full((len(images), len(labels)), np.nan)
    column = {label: place for place, label in enumerate(labels)}
    sql = f"SELECT image, label, probability FROM predictions WHERE model = {model:d}"
    for place, (label, value) in _of_images(database, sql, images):
        values[place, column[label]] = float(value)
    return values


def predictions_of(database: Database, image: int) -> dict[str, float]:
    """As `LabelStore.predictions_of`."""
    model = latest_model(database)
    if model is None:
        return {}
    rows = database.rows(
        """SELECT l.name, p.probability FROM predictions p JOIN labels l USING (label) JOIN images i USING (image)
           WHERE p.model = ? AND p.image = ? AND i.holdout = 0 ORDER BY l.position""",
        (model, image),
    )
    return {str(name): float(value) for name, value in rows}


def write_ranking(database: Database, images: Sequence[int], *, acquisition: str, model: int | None, time: str) -> int:
    """As `LabelStore.write_ranking`."""
    assert len(set(images)) == len(images)
    with database.writing():
        _refuse_holdout(database, images, "ranked")
        database.run("UPDATE images SET rank = NULL WHERE rank IS NOT NULL")
        rows: list[Row] = [(place, image) for place, image in enumerate(images, start=1)]
        database.run_many("UPDATE images SET rank = ? WHERE image = ?", rows)
        return database.run(
            "INSERT INTO rankings (model, acquisition, event, time) "
            "VALUES (?, ?, (SELECT coalesce(max(event), 0) FROM events), ?)",
            (model, acquisition, time),
        )


def _refuse_holdout(database: Database, images: Sequence[int], what: str) -> None:
    held = {int(row[0]) for row in database.rows("SELECT image FROM images WHERE holdout = 1")}
    if found := held & set(images):
        raise DataError(f"Images of the hold-out are never {what}, but image {min(found)} is one: leave it out.")


def _of_images(database: Database, sql: str, images: Sequence[int]) -> Iterator[tuple[int, tuple[int, Any]]]:
    """Rows (image, a, b) of a query for these images, as (place in `images`, (a, b)); all are read where many are wanted."""
    place_of = {image: place for place, image in enumerate(images)}
    word = "AND" if " WHERE " in sql else "WHERE"
    if len(images) > BLOCK:
        rows = database.rows(sql)
    else:
        marks = ", ".join("?" for _ in images)
        rows = database.rows(f"{sql} {word} image IN ({marks})", list(images))
    for image, first, second in rows:
        if (place := place_of.get(int(image))) is not None:
            yield place, (first, second)
