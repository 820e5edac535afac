"""Label names and keys: which a store takes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tune_btxrd.data.readers.names import check_class_names, check_label_names, examples
from tune_btxrd.errors import ConfigError, DataError
from tune_btxrd.labels.records import Task

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
