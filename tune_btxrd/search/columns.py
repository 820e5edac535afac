"""One epoch as a row: the names of `epochs.csv`, of `training_log.csv` and of every row reported to Ray.

All of it derives from the fields of the epoch's record (`tasks/record.py`): a new metric needs no line here. Names of
classes become parts of column names; the map is one to one for the classes of a dataset, whatever they are called.
"""

import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from tune_btxrd.search.events import EpochRow
from tune_btxrd.tasks.record import Column, EpochMetrics
from tune_btxrd.tasks.registry import DEFAULT, TASKS, task_named
from tune_btxrd.training.source import Source

ADDED = ("slot",)  # by the process that trains


def named_row(metrics: EpochMetrics, class_names: Sequence[str], *, centers: Sequence[str] = ()) -> EpochRow:
    """The record with one column per class where a field has one number per class, in the order of `training_log.csv`.

    `centers` are the dataset's, which have columns of their own; none where it names none.
    """
    columns = metrics.columns()
    return named({name: getattr(metrics, name) for name in columns}, columns, class_names, centers=centers)


def named(
    values: Mapping[str, Any], columns: Mapping[str, Column], class_names: Sequence[str], *, centers: Sequence[str] = ()
) -> EpochRow:
    """Those fields of a record that are among the values, as `named_row`."""
    keys, row = class_keys(class_names), EpochRow()
    for name, item in columns.items():
        if name not in values:
            continue
        value = values[name]
        if item.per_class:
            row |= {f"{name}_{key}": number for key, number in zip(keys, value, strict=True)}
        elif item.per_center:
            numbers = map(_number, value) if centers else ()
            row |= dict(zip(class_columns(name, centers if value else ()), numbers, strict=True))
        else:
            row[name] = _number(value)
    return row


def _number(value: Any) -> Any:
    """What a table has for it: nan where a record says that it is not defined."""
    return math.nan if value is None else value


def class_keys(class_names: Sequence[str]) -> tuple[str, ...]:
    """What stands for each class in a column's name: lower case, other characters than letters and digits as `_`.

    Names that would share a key (`HER2+` and `HER2-`) get a number each, in the order of the classes, so that every key
    stands for one class.
    """
    plain = [re.sub(r"\W+", "_", name.strip().lower()) or "_" for name in class_names]
    taken, keys = {key for key in plain if plain.count(key) == 1}, list[str]()
    for key in plain:
        numbered = (f"{key}_{number}" for number in range(1, 2 * len(plain) + 1))
        keys.append(key if plain.count(key) == 1 else next(each for each in numbered if each not in taken))
        taken.add(keys[-1])
    return tuple(keys)


def class_columns(field: str, class_names: Sequence[str]) -> dict[str, str]:
    """Column -> the class's name as written, of a field with one number per class."""
    return {f"{field}_{key}": name for key, name in zip(class_keys(class_names), class_names, strict=True)}


def watched_column(source: Source) -> str:
    """The column by which the positive class is watched, e.g. `val_recall_malignant`."""
    return tuple(class_columns(task_named(source.task).watched, source.class_names))[source.positive_class]


def recall_columns(class_names: Sequence[str]) -> tuple[str, ...]:
    """`val_recall_normal`, ...: one per class."""
    return tuple(class_columns("val_recall", class_names))


def column_of(name: str) -> Column | None:
    """What is known of a column; None for one that is not ours. A column of one class is known as its field."""
    return _column_of(name, tuple(task.record for task in TASKS.values()))


@lru_cache(maxsize=4096)  # for every name of every result that Ray hands over, its own bookkeeping included
def _column_of(name: str, records: tuple[type[EpochMetrics], ...]) -> Column | None:
    fields = {field: item for record in records for field, item in record.columns().items()}
    if name in fields:
        return None if fields[name].per_class or fields[name].per_center else fields[name]
    several = {field: item for field, item in fields.items() if item.per_class or item.per_center}
    return next((item for field, item in several.items() if name.startswith(f"{field}_")), None)


def own_columns(result: Mapping[str, Any]) -> EpochRow:
    """Our names of a result that Ray has filled with its own bookkeeping."""
    return {name: value for name, value in result.items() if name in ADDED or column_of(name) is not None}


def score_columns(class_names: Sequence[str] = (), *, task: str = DEFAULT.name) -> dict[str, str]:
    """Column -> name for people, of every metric of the validation part; those of one class for each of the given."""
    found: dict[str, str] = {}
    for name, item in task_named(task).record.columns().items():
        if item.kind == "score" and item.per_class:
            found |= {key: f"{item.label} {text}" for key, text in class_columns(name, class_names).items()}
        elif item.kind == "score":
            found[name] = item.label
    return found
