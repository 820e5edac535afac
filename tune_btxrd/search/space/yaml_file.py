"""A YAML of `search_spaces/` -> the settings of a SearchSpec, with what a person may have mistyped caught and named."""

import dataclasses
import difflib
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tune_btxrd.config import FIELDS, check_name, check_value, shown
from tune_btxrd.errors import ConfigError
from tune_btxrd.search.space.dimension import Constraint, Dimension, is_whole
from tune_btxrd.search.space.yaml_text import parse_yaml, read_yaml

METRICS = ("val_loss", "val_acc", "val_macro_f1", "val_macro_auc")  # and one val_recall_<class> each: for constraints
WHAT = "A search space"


def read_file(path: Path, known: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a file by name; `known` maps every name to its type.

    Raises:
        ConfigError: the file is missing, is no YAML, or breaks a rule; the line names the file.
    """
    content = read_yaml(path, WHAT)
    try:
        return _settings(content, known)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def parse(text: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of YAML text (see `read_file`)."""
    return _settings(parse_yaml(text, WHAT), known)


def _settings(content: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    for name in content:
        if name not in known:
            raise ConfigError(f"Unknown setting {shown(name)}: {nearest(name, known)}")
    for name in ("space", "start"):
        if name not in content:
            raise ConfigError(f"A search space has `{name}:`, but it is missing: see search_spaces/btxrd.yaml.")
    return {name: _setting(name, value, known[name]) for name, value in content.items()}


def _setting(name: str, value: Any, kind: Any) -> Any:
    if name == "space":
        return tuple(_dimension(key, entry) for key, entry in _mapping(name, value).items())
    if name == "start":
        if not isinstance(value, list):
            raise ConfigError(f"`start` must be a list of configs, but got {shown(value)}: write `- {{lr: 1.0e-3, ...}}`.")
        return tuple({key: _number_or_text(key, entry) for key, entry in _mapping(name, config).items()} for config in value)
    if name == "fixed":
        return {key: _number_or_text(key, entry) for key, entry in _mapping(name, value).items()}
    if name == "constraint":
        return tuple(_constraint(key, entry) for key, entry in _mapping(name, value).items())
    if kind in (int, float):
        return _number(name, value, kind)
    if not isinstance(value, str):
        hint = ": YAML reads a bare no, off, yes, on as true or false" if isinstance(value, bool) else ""
        raise ConfigError(f"`{name}` must be a word, but got {shown(value)}{hint}.")
    return value


def _dimension(name: str, entry: Any) -> Dimension:
    check_name(name)
    entry = _mapping(name, entry)
    allowed = [item.name for item in dataclasses.fields(Dimension) if item.name != "name"]
    for key in entry:
        if key not in allowed:
            raise ConfigError(f"{name} takes {', '.join(allowed)}, but got {shown(key)}: {nearest(str(key), allowed)}")
    conditions = _mapping(f"{name}.when", entry.get("when", {}))
    when = {key: tuple(value if isinstance(value, list) else [value]) for key, value in conditions.items()}
    if "choices" in entry:
        return Dimension(name=name, choices=_choices(name, entry), when=when)
    if "low" not in entry or "high" not in entry:
        raise ConfigError(f"{name} needs `low` and `high`, or `choices`, but got {sorted(entry)}: add them.")
    return Dimension(name=name, when=when, **_range(name, entry))


def _range(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    kind = FIELDS[name].type
    if kind not in (int, float):
        raise ConfigError(f"{name} is no number, so it takes `choices: [...]`, but got low/high.")
    numbers = {key: _number(f"{name}.{key}", entry[key], kind) for key in ("low", "high", "step") if key in entry}
    low, high, step = numbers["low"], numbers["high"], numbers.get("step")
    log = entry.get("log", False)
    rule(isinstance(log, bool), f"{name}.log is true or false", f"log={shown(log)}")
    rule(low < high, f"{name}: low < high", f"low={low}, high={high}")
    rule(not (log and low <= 0), f"{name}: a log range starts above 0", f"low={low}")
    rule(not (log and step), f"{name}: log and step exclude each other", f"step={step}")
    if step is not None:
        rule(step > 0, f"{name}.step > 0", f"step={step}")
        rule(is_whole((high - low) / step), f"{name}: high = low + a whole number of steps", f"{low}, {high}, step={step}")
    return {**{key: check_value(name, value) if key != "step" else value for key, value in numbers.items()}, "log": log}


def _choices(name: str, entry: Mapping[str, Any]) -> tuple[Any, ...]:
    choices = entry["choices"]
    if extra := sorted(set(entry) - {"choices", "when"}):
        raise ConfigError(f"{name} takes choices or a range, but got choices and {extra[0]}: remove one.")
    if not isinstance(choices, list) or len(choices) < 2:
        raise ConfigError(
            f"{name}.choices must list at least two values, but got {shown(choices)}: use `fixed:` for one value."
        )
    values = tuple(check_value(name, choice) for choice in choices)
    if repeated := [value for value in values if values.count(value) > 1]:
        raise ConfigError(f"{name}.choices must differ, but {shown(repeated[0])} stands there twice: remove one.")
    return values


def _constraint(metric: str, demand: Any) -> Constraint:
    match = re.fullmatch(r"\s*(>=|<=)\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*", str(demand))
    if not match:
        raise ConfigError(f'A constraint reads `val_recall_malignant: ">= 0.6"`, but got {metric}: {shown(demand)}.')
    if metric not in METRICS and not str(metric).startswith("val_recall_"):
        known = [*METRICS, "val_recall_malignant"]
        raise ConfigError(
            f"A constraint names a value of every epoch, but got {shown(metric)}: {nearest(str(metric), known)}"
        )
    return Constraint(metric=metric, at_least=match[1] == ">=", bound=float(match[2]))


def _mapping(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"`{name}` must be a mapping, but got {shown(value)}: write `name: value` lines below it.")
    return value


def _number(name: str, value: Any, kind: Any) -> Any:
    value = _number_or_text(name, value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or (kind is int and value != int(value)):
        raise ConfigError(
            f"{name} must be {'a whole number' if kind is int else 'a finite number'}, but got {shown(value)}."
        )
    return kind(value)


def _number_or_text(name: str, value: Any) -> Any:
    """The value; text that a person would call a number is an error, since PyYAML reads 1e-5 and 1.0e5 as text."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+", value):
        cure = re.sub(r"e(\d)", r"e+\1", f"{float(value):.1e}")
        raise ConfigError(f"{name} must be a number, but YAML reads {value} as text: write {cure} with a dot and a sign.")
    return value


def rule(holds: bool, invariant: str, found: str) -> None:
    """Raises ConfigError with the invariant and what was found, unless it holds."""
    if not holds:
        raise ConfigError(f"`{invariant}` must hold, but got {found}.")


def nearest(name: str, known: Iterable[str]) -> str:
    """The cure for a name that nobody knows: the nearest one, or all."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known names: {', '.join(names)}."
