"""Label names and keys: which a store takes, has and gets later."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tune_btxrd.data.readers.names import check_class_names, check_label_names, examples
from tune_btxrd.errors import ConfigError, DataError
from tune_btxrd.labels.database import Database, Row
from tune_btxrd.labels.records import Label, Task

KEYS = "123456789abcdefghijklmopqrtvwyz"  # offered to labels in turn; n, s, u and x mean something else on the page


def check_labels(names: Sequence[str], path: Path, *, task: Task) -> None:
    """Raises: DataError where names cannot be labels, stand twice or are too few."""
    if task == "multiclass":
        check_class_names(names, str(path))
    else:
        check_label_names(names, str(path))
    if len(set(names)) < len(names):
        raise DataError(f"Labels must differ, but {next(n for n in names if list(names).count(n) > 1)!r} stands twice.")


def assign_keys(names: Sequence[str], keys: Mapping[str, str]) -> dict[str, str]:
    """Label -> key: as given, the others in turn. Raises: ConfigError for a key that is no single free character."""
    if unknown := [name for name in keys if name not in names]:
        raise ConfigError(f"A key is given to a label, but {unknown[0]!r} is none: {examples(list(names), 12)}.")
    for name, key in keys.items():
        if len(key) != 1 or key not in KEYS:
            raise ConfigError(f"The key of {name!r} must be one of {KEYS}, but got {key!r}: the page uses the others.")
    if len(set(keys.values())) < len(keys):
        raise ConfigError(f"Every label needs its own key, but got {', '.join(keys.values())}.")
    free = iter([key for key in KEYS if key not in keys.values()])
    assigned = {}
    for name in names:
        if (key := keys.get(name) or next(free, "")) == "":
            raise ConfigError(f"A store holds at most {len(KEYS)} labels, one key each, but got {len(names)}.")
        assigned[name] = key
    return assigned


def labels_of(database: Database) -> tuple[Label, ...]:
    """As `LabelStore.labels`."""
    rows = database.rows("SELECT label, name, key FROM labels ORDER BY position, label")
    return tuple(Label(number=int(number), name=str(name), key=str(key)) for number, name, key in rows)


def add_labels(database: Database, names: Sequence[str], keys: Mapping[str, str], *, task: Task) -> None:
    """As `LabelStore.add_labels`. What comes after the last event can answer them."""
    with database.writing():
        taken = {label.name: label.key for label in labels_of(database)}
        check_labels([*taken, *names], database.path, task=task)
        if moved := [name for name in keys if name in taken]:
            raise ConfigError(f"A label that is added gets a key, but {moved[0]!r} is there already: leave it out.")
        assigned = assign_keys([*taken, *names], {**taken, **keys})
        since = database.number("SELECT max(event) FROM events") + 1
        rows: list[Row] = [(name, assigned[name], place, since) for place, name in enumerate(names, start=len(taken))]
        database.run_many("INSERT INTO labels (name, key, position, since) VALUES (?, ?, ?, ?)", rows)


def set_keys(database: Database, keys: Mapping[str, str]) -> None:
    """As `LabelStore.set_keys`."""
    known = {label.name: label.key for label in labels_of(database)}
    if unknown := [name for name in keys if name not in known]:
        raise ConfigError(f"A key is given to a label, but {unknown[0]!r} is none: {examples(list(known), 12)}.")
    assigned = assign_keys(list(known), {**known, **keys})
    with database.writing():
        database.run_many("UPDATE labels SET key = char(0xE000 + label) WHERE name = ?", [(name,) for name in keys])
        database.run_many("UPDATE labels SET key = ? WHERE name = ?", [(assigned[name], name) for name in keys])
