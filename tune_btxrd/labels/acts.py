"""Acts: events are appended and read; the triggers of the schema do what follows from them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from tune_btxrd.data.readers.names import check_name, examples
from tune_btxrd.errors import DataError
from tune_btxrd.labels.database import Database, Row
from tune_btxrd.labels.records import IMPORTED, Act, Answers, Event, Label, Task

UNDONE = "EXISTS (SELECT 1 FROM events u WHERE u.undoes = e.event)"
COLUMNS = f"event, kind, image, answers, annotator, time, seconds, arm, settles, undoes, client, saw_model, {UNDONE}"


def now() -> str:
    """UTC in ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def record(database: Database, acts: Sequence[Act], labels: Sequence[Label], *, task: Task) -> list[Event]:
    """As `LabelStore.record_all`."""
    numbers = {label.name: label.number for label in labels}
    ready = [(act, _answers(act, numbers, task)) for act in acts]
    time = now()
    with database.writing():
        keys = [_append(database, act, answers, time) for act, answers in ready]
    return [event(database, key, labels) for key in keys]


def undo(database: Database, annotator: str, *, client: str) -> int | None:
    """As `LabelStore.undo`; the number of the event that was taken back."""
    with database.writing():
        known = database.one("SELECT undoes, annotator FROM events WHERE client = ?", (client,))
        if known is not None:
            if known[0] is None or known[1] != annotator:
                raise DataError(f"An act's id must be its own, but {client!r} was used for another: reload the page.")
            return int(known[0])
        last = database.one(
            "SELECT event, image, arm FROM standing WHERE annotator = ? AND arm <> ? ORDER BY event DESC LIMIT 1",
            (annotator, IMPORTED),
        )
        if last is None:
            return None
        database.run(
            "INSERT INTO events (kind, image, annotator, time, arm, undoes, client) VALUES ('undo', ?, ?, ?, ?, ?, ?)",
            (last[1], annotator, now(), last[2], last[0], client),
        )
        return int(last[0])


def event(database: Database, number: int, labels: Sequence[Label]) -> Event:
    """One event by its number."""
    return events_of(database.rows(f"SELECT {COLUMNS} FROM events e WHERE event = ?", (number,)), labels)[0]


def history(
    database: Database, labels: Sequence[Label], *, annotator: str | None, image: int | None, limit: int
) -> list[Event]:
    """As `LabelStore.history`."""
    asked = {"annotator": annotator, "image": image}
    where = " AND ".join(f"{name} = :{name}" for name, value in asked.items() if value is not None) or "1"
    sql = f"SELECT {COLUMNS} FROM events e WHERE {where} ORDER BY event DESC LIMIT :limit"
    return events_of(database.rows(sql, {**asked, "limit": limit}), labels)


def events_of(rows: Iterable[Row], labels: Sequence[Label]) -> list[Event]:
    """Rows of COLUMNS."""
    names = {str(label.number): label.name for label in labels}
    return [
        Event(
            number=number,
            kind=kind,
            image=image,
            answers={names[key]: value for key, value in json.loads(answers).items()},
            annotator=annotator,
            time=time,
            seconds=seconds,
            arm=arm,
            settles=bool(settles),
            undoes=undoes,
            client=client,
            saw_model=None if saw_model is None else bool(saw_model),
            undone=bool(undone),
        )
        for number, kind, image, answers, annotator, time, seconds, arm, settles, undoes, client, saw_model, undone in rows
    ]


def _append(database: Database, act: Act, answers: str, time: str) -> int:
    known = database.one("SELECT event, image, annotator, kind FROM events WHERE client = ?", (act.client,))
    if known is not None:
        if known[1:] != (act.image, act.annotator, act.kind):
            raise DataError(f"An act's id must be its own, but {act.client!r} was used for another: reload the page.")
        return int(known[0])
    if database.one("SELECT 1 FROM images WHERE image = ?", (act.image,)) is None:
        raise DataError(f"An image must be in the store, but {database.path} has none of number {act.image}.")
    database.run("DELETE FROM leases WHERE image = ? AND annotator = ?", (act.image, act.annotator))
    return database.run(
        "INSERT INTO events (kind, image, answers, annotator, time, seconds, arm, settles, client, saw_model) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (act.kind, act.image, answers, act.annotator, time, act.seconds, act.arm, act.settles, act.client, act.saw_model),
    )


def _answers(act: Act, numbers: Mapping[str, int], task: Task) -> str:
    """The act's answers as JSON by label number. Raises: DataError."""
    check_name(act.annotator, "An annotator")
    if act.kind == "undo":
        raise DataError("An undo takes back the last act: use `undo`.")
    said: Answers = {} if act.kind == "skip" else act.answers
    if act.kind in ("unsure", "bad"):
        said = dict.fromkeys(numbers)
    for name, value in said.items():
        if name not in numbers:
            raise DataError(f"A label must be one of {examples(list(numbers), 12)}, but got {name!r}: choose one of them.")
        if value not in (0, 1, None) or isinstance(value, float):
            raise DataError(f"An answer must be 1, 0 or None, but {name!r} got {value!r}.")
    if act.kind == "label" and not said:
        raise DataError("An act that labels must name a label, but names none: use kind `skip` or `unsure`.")
    if act.kind == "label" and task == "multiclass":
        said = _one_class(said, numbers)
    return json.dumps({str(numbers[name]): value if value is None else int(value) for name, value in said.items()})


def _one_class(said: Answers, numbers: Mapping[str, int]) -> dict[str, int | None]:
    """Yes to one class is no to the others. Raises: DataError where it is not just one yes, or one unsure for all."""
    chosen = [name for name, value in said.items() if value == 1]
    if len(chosen) != 1:
        raise DataError(f"In a store of classes an image has one class, but got {len(chosen)}: choose one.")
    return {name: int(name == chosen[0]) for name in numbers}
