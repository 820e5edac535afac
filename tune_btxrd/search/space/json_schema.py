"""The JSON schema of a search space, generated from SearchSpec and TrainConfig, for editors that complete and check YAML.

`search_spaces/schema.json` is `text()`; a test holds the two together. Rules between fields stay with SearchSpec.
"""

import json
from collections.abc import Iterable

from tune_btxrd.config import FIELDS, Field
from tune_btxrd.search.space.spec import SETTINGS, WHOLE_SEARCH
from tune_btxrd.search.space.yaml_file import CLASS_METRICS, METRICS

Schema = dict[str, object]
TYPES = {int: "integer", float: "number", bool: "boolean", str: "string"}
BOUNDS = {"exclusiveMinimum": "above", "minimum": "at_least", "exclusiveMaximum": "below", "maximum": "at_most"}
PER_TRIAL = [name for name in FIELDS if name not in WHOLE_SEARCH]


def text() -> str:
    """The schema as the file holds it."""
    return json.dumps(schema(), indent=1) + "\n"


def schema() -> Schema:
    """The schema (draft 2020-12) as plain data."""
    configs = {"type": "array", "minItems": 1, "items": _record(PER_TRIAL)}
    properties: Schema = {
        "space": _space() | {"description": "searched hyperparameters, in order"},
        "start": configs | {"description": "first trials; trial 0 is the hand-made config"},
        "fixed": _record(PER_TRIAL) | {"description": "hyperparameters of every trial that differ from their defaults"},
        **{name: _value(field) for name, field in SETTINGS.items()},
        "constraint": _constraint() | {"description": "demands on values of the best epoch"},
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "tune_btxrd search space"} | (
        _object(properties) | {"required": ["space", "start"], "$defs": {name: _value(FIELDS[name]) for name in PER_TRIAL}}
    )


def _object(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _record(names: Iterable[str]) -> Schema:
    return _object({name: {"$ref": f"#/$defs/{name}"} for name in names})


def _value(field: Field) -> Schema:
    """One value: its type, default, bounds or words, and its meaning."""
    return {**_type(field), "default": field.default, "description": f"{field.meaning}; {field.rule}"}


def _type(field: Field) -> Schema:
    if field.choices is not None:
        words: Schema = {"enum": list(field.choices)}
        return {"anyOf": [words, {"type": "array"}]} if field.is_list else words
    bounds = {key: getattr(field, name) for key, name in BOUNDS.items() if getattr(field, name) is not None}
    return {"type": [TYPES[field.kind], "null"] if field.is_optional else TYPES[field.kind], **bounds}


def _space() -> Schema:
    return _object({name: _dimension(FIELDS[name]) for name in PER_TRIAL}) | {"minProperties": 1}


def _dimension(field: Field) -> Schema:
    when: Schema = {"type": "object", "description": "values of earlier hyperparameters under which this one is searched"}
    choices: Schema = {"type": "array", "items": _type(field), "minItems": 2, "uniqueItems": True}
    prior: Schema = {"prior": _type(field) | {"description": "value believed good; some first trials are drawn near it"}}
    forms = [_object({"choices": choices, "when": when, **prior}) | {"required": ["choices"]}]
    if field.is_number:
        ranged: Schema = {end: _type(field) for end in ("low", "high")}
        ranged["log"] = {"type": "boolean", "default": False}
        ranged |= {"step": {"type": TYPES[field.kind], "exclusiveMinimum": 0}, "when": when, **prior}
        forms.append(_object(ranged) | {"required": ["low", "high"]})
    return {"description": f"{field.meaning}; {field.rule}", "oneOf": forms}


def _constraint() -> Schema:
    demand = {"type": "string", "pattern": r"^\s*(>=|<=)\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"}
    names = rf"^({'|'.join(METRICS)}|({'|'.join(CLASS_METRICS)})\w+)$"
    return {"type": "object", "patternProperties": {names: demand}, "additionalProperties": False}


if __name__ == "__main__":
    print(text(), end="")
