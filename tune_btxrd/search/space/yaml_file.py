"""A YAML of `search_spaces/` -> the settings of a SearchSpec, with what a person may have mistyped caught and named."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from tune_btxrd.config import FIELDS, Field, check_name, nearest, shown
from tune_btxrd.errors import ConfigError
from tune_btxrd.search.space.dimension import Constraint, Dimension, is_whole
from tune_btxrd.search.space.yaml_text import Plain, parse_yaml, read_yaml
from tune_btxrd.tasks.registry import score_fields

METRICS = tuple(name for name, known in score_fields().items() if not known.per_class)  # what a constraint may ask of,
CLASS_METRICS = tuple(f"{name}_" for name, known in score_fields().items() if known.per_class)  # and each with a class
WHAT = "A search space"
STEP = Field(name="step", kind=float, default=None, meaning="distance of neighbouring values of a range", above=0)
BOUND = Field(name="A constraint's bound", kind=float, default=None, meaning="what a reported value must reach")


def read_file(path: Path, known: Collection[str]) -> Plain:
    """The settings of a file by name; `known` are the names there are.

    Raises:
        ConfigError: the file is missing, is no YAML, or breaks a rule; the line names the file.
    """
    content = read_yaml(path, WHAT)
    try:
        return _settings(content, known)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def parse(text: str, known: Collection[str]) -> Plain:
    """The settings of YAML text (see `read_file`)."""
    return _settings(parse_yaml(text, WHAT), known)


def _settings(content: Mapping[str, Any], known: Collection[str]) -> Plain:
    for name in content:
        if name not in known:
            cure = "put it under `space:` or `fixed:`" if name in FIELDS else nearest(name, known)
            raise ConfigError(f"Unknown setting {shown(name)}: {cure}")
    for name in ("space", "start"):
        if name not in content:
            raise ConfigError(f"A search space has `{name}:`, but it is missing: see search_spaces/btxrd.yaml.")
    return {name: PARSERS[name](value) if name in PARSERS else value for name, value in content.items()}


def _space(value: Any) -> tuple[Dimension, ...]:
    return tuple(_dimension(name, entry) for name, entry in _mapping("space", value).items())


def _start(value: Any) -> tuple[Plain, ...]:
    if not isinstance(value, list):
        raise ConfigError(f"`start` must be a list of configs, but got {shown(value)}: write `- {{lr: 1.0e-3, ...}}`.")
    return tuple(_mapping("start", config) for config in value)


def _fixed(value: Any) -> Plain:
    return _mapping("fixed", value)


def _constraints(value: Any) -> tuple[Constraint, ...]:
    return tuple(_constraint(metric, demand) for metric, demand in _mapping("constraint", value).items())


PARSERS: dict[str, Callable[[Any], Any]] = {
    "space": _space,
    "start": _start,
    "fixed": _fixed,
    "constraint": _constraints,
}  # all else is one value, which SearchSpec checks


def _dimension(name: str, entry: Any) -> Dimension:
    check_name(name)
    entry = _mapping(name, entry)
    allowed = [item.name for item in fields(Dimension) if item.name != "name"]
    for key in entry:
        if key not in allowed:
            raise ConfigError(f"{name} takes {', '.join(allowed)}, but got {shown(key)}: {nearest(str(key), allowed)}")
    conditions = _mapping(f"{name}.when", entry.get("when", {}))
    when = {key: tuple(value if isinstance(value, list) else [value]) for key, value in conditions.items()}
    if "choices" in entry:
        return _with_prior(Dimension(name=name, choices=_choices(name, entry), when=when), entry)
    if "low" not in entry or "high" not in entry:
        raise ConfigError(f"{name} needs `low` and `high`, or `choices`, but got {sorted(entry)}: add them.")
    return _with_prior(Dimension(name=name, when=when, **_range(name, entry)), entry)


def _with_prior(dimension: Dimension, entry: Mapping[str, Any]) -> Dimension:
    if "prior" not in entry:
        return dimension
    value = replace(FIELDS[dimension.name], name=f"{dimension.name}.prior").checked(entry["prior"])
    rule(dimension.contains(value), f"{dimension.name}.prior lies in {dimension.describe()}", f"prior={shown(value)}")
    return replace(dimension, prior=value)


def _range(name: str, entry: Mapping[str, Any]) -> Plain:
    field = FIELDS[name]
    if not field.is_number:
        raise ConfigError(f"{name} is no number, so it takes `choices: [...]`, but got low/high.")
    low, high = (replace(field, name=f"{name}.{end}").checked(entry[end]) for end in ("low", "high"))
    log = entry.get("log", False)
    rule(isinstance(log, bool), f"{name}.log is true or false", f"log={shown(log)}")
    rule(low < high, f"{name}: low < high", f"low={low}, high={high}")
    rule(not (log and low <= 0), f"{name}: a log range starts above 0", f"low={low}")
    if "step" not in entry:
        return {"low": low, "high": high, "log": log}
    step = replace(STEP, name=f"{name}.step", kind=field.kind).checked(entry["step"])
    rule(not log, f"{name}: log and step exclude each other", f"step={step}")
    rule(is_whole((high - low) / step), f"{name}: high = low + a whole number of steps", f"{low}, {high}, step={step}")
    return {"low": low, "high": high, "step": step}


def _choices(name: str, entry: Mapping[str, Any]) -> tuple[Any, ...]:
    choices = entry["choices"]
    if extra := sorted(set(entry) - {"choices", "when", "prior"}):
        raise ConfigError(f"{name} takes choices or a range, but got choices and {extra[0]}: remove one.")
    if not isinstance(choices, list) or len(choices) < 2:
        raise ConfigError(
            f"{name}.choices must list at least two values, but got {shown(choices)}: use `fixed:` for one value."
        )
    values = tuple(FIELDS[name].checked(choice) for choice in choices)
    if any(isinstance(value, tuple) for value in values):
        words = ", ".join(FIELDS[name].choices or ())
        raise ConfigError(f"{name}.choices takes names ({words}), but got a list: a study cannot store it; use `fixed:`.")
    if repeated := [value for value in values if values.count(value) > 1]:
        raise ConfigError(f"{name}.choices must differ, but {shown(repeated[0])} stands there twice: remove one.")
    return values


def _constraint(metric: str, demand: Any) -> Constraint:
    match = re.fullmatch(r"\s*(>=|<=)\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*", str(demand))
    if not match:
        raise ConfigError(f'A constraint reads `val_recall_malignant: ">= 0.6"`, but got {shown(metric)}: {shown(demand)}.')
    if metric not in METRICS and not str(metric).startswith(CLASS_METRICS):
        known = [*METRICS, *(f"{name}malignant" for name in CLASS_METRICS)]
        raise ConfigError(
            f"A constraint names a value of every epoch, but got {shown(metric)}: {nearest(str(metric), known)}"
        )
    return Constraint(metric=metric, at_least=match[1] == ">=", bound=BOUND.checked(float(match[2])))


def _mapping(name: str, value: Any) -> Plain:
    if not isinstance(value, dict):
        raise ConfigError(f"`{name}` must be a mapping, but got {shown(value)}: write `name: value` lines below it.")
    return value


def rule(holds: bool, invariant: str, found: str) -> None:
    """Raises ConfigError with the invariant and what was found, unless it holds."""
    if not holds:
        raise ConfigError(f"`{invariant}` must hold, but got {found}.")
