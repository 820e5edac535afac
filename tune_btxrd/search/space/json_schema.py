"""The JSON schema of a search space, generated from SearchSpec and TrainConfig, for editors that complete and check YAML.

`search_spaces/schema.json` is `text()`; a test holds the two together. Rules across fields stay with SearchSpec.
"""

import dataclasses
import json
from typing import Any, get_args

from tune_btxrd.config import FIELDS
from tune_btxrd.search.space.spec import WHOLE_SEARCH, SearchSpec

NUMBERS = {int: "integer", float: "number", bool: "boolean", str: "string"}
SEVERAL = {"weights": ["string", "null"], "stages": ["string", "array"]}  # hyperparameters of more than one type


def text() -> str:
    """The schema as the file holds it."""
    return json.dumps(schema(), indent=2) + "\n"


def schema() -> dict[str, Any]:
    """The schema (draft 2020-12) as plain data."""
    special = {"space": _space(), "start": _start(), "fixed": _fixed(), "constraint": _constraint()}
    settings = {item.name: item for item in dataclasses.fields(SearchSpec)}
    properties = {
        name: {"description": item.metadata["meaning"], **(special.get(name) or _scalar(item))}
        for name, item in settings.items()
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tune_btxrd search space",
        "type": "object",
        "properties": properties,
        "required": ["space", "start"],
        "additionalProperties": False,
    }


def _scalar(item: dataclasses.Field[Any]) -> dict[str, Any]:
    if item.type in NUMBERS:
        return {"type": NUMBERS[item.type], "default": item.default}
    return {"enum": list(get_args(item.type)), "default": item.default}


def _value(name: str) -> dict[str, Any]:
    field = FIELDS[name]
    kind = SEVERAL.get(name) or NUMBERS[field.type]  # type: ignore[index]  # a class, never its name
    return {"type": kind, "default": field.default, "description": f"{field.metadata['meaning']}; {field.metadata['rule']}"}


def _space() -> dict[str, Any]:
    names = [name for name in FIELDS if name not in WHOLE_SEARCH]
    return {
        "type": "object",
        "minProperties": 1,
        "properties": {name: _dimension(name) for name in names},
        "additionalProperties": False,
    }


def _dimension(name: str) -> dict[str, Any]:
    when = {"type": "object", "description": "values of earlier hyperparameters under which this one is searched"}
    choices = {"type": "array", "items": {"type": _value(name)["type"]}, "minItems": 2, "uniqueItems": True}
    listed = {"properties": {"choices": choices, "when": when}, "required": ["choices"], "additionalProperties": False}
    forms: list[dict[str, Any]] = [listed]
    if FIELDS[name].type in (int, float):
        kind = {"type": _value(name)["type"]}
        ranged = {"low": kind, "high": kind, "log": {"type": "boolean", "default": False}, "step": kind, "when": when}
        forms.append({"properties": ranged, "required": ["low", "high"], "additionalProperties": False})
    return {"type": "object", "description": _value(name)["description"], "oneOf": forms}


def _start() -> dict[str, Any]:
    properties = {name: _value(name) for name in FIELDS if name not in WHOLE_SEARCH}
    return {
        "type": "array",
        "minItems": 1,
        "items": {"type": "object", "properties": properties, "additionalProperties": False},
    }


def _fixed() -> dict[str, Any]:
    names = [name for name in FIELDS if name not in WHOLE_SEARCH or name == "image_size"]
    return {"type": "object", "properties": {name: _value(name) for name in names}, "additionalProperties": False}


def _constraint() -> dict[str, Any]:
    demand = {"type": "string", "pattern": r"^\s*(>=|<=)\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"}
    names = r"^val_(loss|acc|macro_f1|macro_auc|recall_\w+)$"
    return {"type": "object", "patternProperties": {names: demand}, "additionalProperties": False}


if __name__ == "__main__":
    print(text(), end="")
