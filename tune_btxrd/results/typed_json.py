"""Typed JSON: a frozen dataclass from a JSON object, every value checked; the first wrong one is named in one line."""

import dataclasses
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

Record = TypeVar("Record")
NUMBERS: dict[type, str] = {int: "a whole number", float: "a number", str: "text", bool: "true or false", Path: "a path"}
SHOWN = 60  # characters of a wrong value


class WrongValueError(ValueError):
    """A JSON value is not what the record needs; the text names its place, what it must be and what it is."""


def from_json(kind: type[Record], content: object, *, where: str = "") -> Record:
    """The record of this dataclass; names it does not know are left out, since a later version may have written them.

    Args:
        where: the place of `content` in its file, "" for the whole.

    Raises:
        WrongValueError: a value is missing or of another type.
    """
    if not isinstance(content, dict):
        raise _wrong(where, "an object", content)
    hints, values = get_type_hints(kind), {}
    for field in dataclasses.fields(cast(Any, kind)):
        place = f"{where}.{field.name}".lstrip(".")
        if field.name in content:
            values[field.name] = _value(hints[field.name], content[field.name], place)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise WrongValueError(f"`{place}` is missing")
    return kind(**values)


def _value(kind: Any, value: object, where: str) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return None if value is None else _value(next(item for item in inner if item is not type(None)), value, where)
    if origin is Literal:
        if value not in inner:
            raise _wrong(where, f"one of {', '.join(map(str, inner))}", value)
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise _wrong(where, "a list", value)
        return tuple(_value(inner[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if origin in (dict, Mapping):
        if not isinstance(value, dict):
            raise _wrong(where, "an object", value)
        return {name: _value(inner[1], item, f"{where}.{name}") for name, item in value.items()}
    if dataclasses.is_dataclass(kind):
        return from_json(cast(type, kind), value, where=where)
    return _plain(kind, value, where)


def _plain(kind: Any, value: object, where: str) -> Any:
    """A number, a text, a path or a yes and no; anything where the record says `object`."""
    if kind is object:
        return value
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is float and number:
        return float(cast(float, value))
    if kind is int and number and not isinstance(value, float):
        return value
    if kind in (str, bool) and isinstance(value, kind):
        return value
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise _wrong(where, NUMBERS[kind], value)


def _wrong(where: str, wanted: str, value: object) -> WrongValueError:
    shown = "null" if value is None else repr(value)
    return WrongValueError(f"`{where or 'it'}` must be {wanted}, and is {shown[:SHOWN]}")
