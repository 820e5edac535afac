"""SearchSpec: one YAML of `search_spaces/`, checked. `suggest(trial)` makes an Optuna trial a complete config. No Ray."""

import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import yaml

from tune_btxrd.config import FIELDS, TrainConfig, check_name
from tune_btxrd.errors import ConfigError

MONITORS = ("val_loss",)
SAMPLERS = ("tpe", "gp", "random")
SCHEDULERS = ("asha", "none")


class SuggestingTrial(Protocol):
    """The part of `optuna.trial.Trial` (and of `FixedTrial`) that a space needs."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float: ...
    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...
    def suggest_categorical(self, name: str, choices: Any) -> Any: ...


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One searched hyperparameter: a range or choices, and the values of earlier names under which it is searched."""

    name: str
    low: float | int | None = None
    high: float | int | None = None
    log: bool = False
    step: float | int | None = None
    choices: tuple[Any, ...] | None = None
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    @property
    def is_integer(self) -> bool:
        """Whether the hyperparameter is a whole number (decided by TrainConfig, not by the YAML)."""
        return FIELDS[self.name].type is int

    def is_active(self, values: Mapping[str, Any]) -> bool:
        """Whether every condition of `when` holds for the values chosen so far."""
        return all(values.get(name) in allowed for name, allowed in self.when.items())

    def suggest(self, trial: SuggestingTrial) -> Any:
        """One value from the trial."""
        if self.choices is not None:
            return trial.suggest_categorical(self.name, list(self.choices))
        assert self.low is not None
        assert self.high is not None
        if self.is_integer:
            return trial.suggest_int(self.name, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.log)

    def contains(self, value: Any) -> bool:
        """Whether a value lies in the range or among the choices."""
        if self.choices is not None:
            return value in self.choices
        assert self.low is not None
        assert self.high is not None
        return isinstance(value, int | float) and self.low <= value <= self.high

    def describe(self) -> str:
        """The dimension in words, e.g. `1e-05 .. 0.01 (log)`."""
        text = (
            " | ".join(map(str, self.choices))
            if self.choices is not None
            else f"{self.low:g} .. {self.high:g}"
            + (f" step {self.step:g}" if self.step else "")
            + (" (log)" if self.log else "")
        )
        conditions = [f"{name} is {' or '.join(map(str, allowed))}" for name, allowed in self.when.items()]
        return text + (f", when {' and '.join(conditions)}" if conditions else "")


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """A demand on a reported value at the trial's best epoch, e.g. `val_recall_malignant >= 0.6`."""

    metric: str
    at_least: bool
    bound: float

    def violation(self, value: float) -> float:
        """How far the value is from feasible; 0 or less is feasible (Optuna's convention)."""
        return self.bound - value if self.at_least else value - self.bound

    def __str__(self) -> str:
        return f"{self.metric} {'>=' if self.at_least else '<='} {self.bound:g}"


@dataclass(frozen=True, kw_only=True)
class SearchSpec:
    """What a search does (the science); flags say where and how much. Field meanings stand in `SETTINGS`.

    Raises:
        ConfigError: a rule below is broken; one line with the invariant, what was found, and the cure.
    """

    space: tuple[Dimension, ...]
    start: tuple[Mapping[str, Any], ...]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    trials: int = 24
    epochs: int = 30
    seed: int = 42
    monitor: str = "val_loss"
    sampler: Literal["tpe", "gp", "random"] = "tpe"
    startup_trials: int = 8
    scheduler: Literal["asha", "none"] = "asha"
    grace_period: int = 4
    reduction_factor: float = 3.0
    confirm: int = 3
    repeats: int = 3
    constraint: tuple[Constraint, ...] = ()

    def __post_init__(self) -> None:
        _rule(self.trials >= 1, "trials >= 1", f"trials={self.trials}")
        _rule(self.confirm >= 0, "confirm >= 0", f"confirm={self.confirm}")
        _rule(self.repeats >= 2, "repeats >= 2", f"repeats={self.repeats}: one repeat has no spread")
        _rule(self.startup_trials >= 1, "startup_trials >= 1", f"startup_trials={self.startup_trials}")
        found = f"grace_period={self.grace_period}, epochs={self.epochs}"
        _rule(self.grace_period >= 1, "grace_period >= 1", found)
        if self.scheduler == "asha":
            _rule(self.grace_period <= self.epochs, "grace_period <= epochs", found)
            _rule(self.reduction_factor > 1, "reduction_factor > 1", f"reduction_factor={self.reduction_factor}")
        _rule(self.monitor in MONITORS, f"monitor is one of {', '.join(MONITORS)}", f"monitor={self.monitor}")
        _rule(self.sampler in SAMPLERS, f"sampler is one of {', '.join(SAMPLERS)}", f"sampler={self.sampler}")
        _rule(self.scheduler in SCHEDULERS, f"scheduler is one of {', '.join(SCHEDULERS)}", f"scheduler={self.scheduler}")
        if self.sampler == "gp" and self.scheduler == "asha":
            raise ConfigError(
                "`sampler: gp` learns from complete trials only, but `scheduler: asha` stops most of them: "
                "set scheduler: none, or sampler: tpe."
            )
        _rule(bool(self.space), "space has at least one hyperparameter", "none")
        _rule(bool(self.start), "start has at least one config (the hand-made config is trial 0)", "none")
        self._check_names()
        for config in self.start:
            self.complete(config)

    def _check_names(self) -> None:
        searched = [dimension.name for dimension in self.space]
        for name in [*searched, *self.fixed]:
            check_name(name)
            if name in ("epochs", "seed"):
                raise ConfigError(
                    f"`{name}` is a setting of the whole search, but it stands in space or fixed: move it to the top."
                )
        if both := sorted(set(searched) & set(self.fixed)):
            raise ConfigError(f"A name is either searched or fixed, but {both[0]!r} is both: remove one.")
        for position, dimension in enumerate(self.space):
            for name in dimension.when:
                if name not in searched[:position]:
                    raise ConfigError(
                        f"`when` may name what is searched earlier, but {dimension.name} waits for {name!r}: reorder."
                    )
        TrainConfig.from_dict(dict(self.fixed))

    def suggest(self, trial: SuggestingTrial) -> TrainConfig:
        """The complete config of an Optuna trial; conditional dimensions are asked only where they are active."""
        values: dict[str, Any] = {}
        for dimension in self.space:
            if dimension.is_active(values):
                values[dimension.name] = dimension.suggest(trial)
        return self.config(values)

    def config(self, values: Mapping[str, Any]) -> TrainConfig:
        """The complete config of searched values: defaults, then fixed, then the values."""
        return TrainConfig.from_dict({**self.fixed, "epochs": self.epochs, "seed": self.seed, **values})

    def complete(self, values: Mapping[str, Any]) -> TrainConfig:
        """The complete config of a start config, which must name every active dimension within its range and no other."""
        names = {dimension.name for dimension in self.space}
        if unknown := sorted(set(values) - names):
            raise ConfigError(
                f"A start config names searched hyperparameters only, but got {unknown[0]!r}: {_nearest(unknown[0], names)}"
            )
        for dimension in self.space:
            if not dimension.is_active(values):
                continue
            if dimension.name not in values:
                raise ConfigError(
                    f"A start config names every searched hyperparameter, but {dimension.name} is missing: add it."
                )
            if not dimension.contains(values[dimension.name]):
                raise ConfigError(
                    f"A start config lies in the space, but {dimension.name}={values[dimension.name]!r} "
                    f"is outside {dimension.describe()}: widen the range or move the start."
                )
        return self.config(values)

    @property
    def hand_made(self) -> TrainConfig:
        """The config that every search starts with and every winner is compared with."""
        return self.complete(self.start[0])

    def override(self, settings: Mapping[str, Any], hyperparameters: Mapping[str, Any]) -> "SearchSpec":
        """The spec with command-line values: settings of the search, and hyperparameters that the YAML does not search.

        Raises:
            ConfigError: a hyperparameter is searched by the YAML, so that a fixed value would contradict it.
        """
        searched = {dimension.name: dimension for dimension in self.space}
        for name, value in hyperparameters.items():
            if name in searched:
                raise ConfigError(
                    f"A flag may set what the space leaves open, but {name}={value} is searched there "
                    f"({searched[name].describe()}): edit the YAML, or leave the flag out."
                )
        changes = dict(settings)
        if "epochs" in changes:
            changes["grace_period"] = min(self.grace_period, changes["epochs"])
        return dataclasses.replace(self, fixed={**self.fixed, **hyperparameters}, **changes)

    @classmethod
    def load(cls, path: Path) -> "SearchSpec":
        """One YAML file, checked.

        Raises:
            ConfigError: the file is missing, is no YAML, or breaks a rule; the line names the file.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"The search space must be a readable file, but {path}: {error.strerror}. See search_spaces/."
            ) from error
        try:
            return cls.from_text(text)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error

    @classmethod
    def from_text(cls, text: str) -> "SearchSpec":
        """A spec from YAML text (see `load`)."""
        try:
            content = yaml.load(text, Loader=_UniqueKeyLoader)
        except yaml.YAMLError as error:
            raise ConfigError(f"A search space must be YAML, but {_one_line(error)}") from error
        if not isinstance(content, dict):
            raise ConfigError(
                "A search space must be a mapping with `space:` and `start:`, but the file holds something else."
            )
        known = {item.name: item for item in dataclasses.fields(cls)}
        for name in content:
            if name not in known:
                raise ConfigError(f"Unknown setting {name!r}: {_nearest(str(name), known)}")
        for name in ("space", "start"):
            if name not in content:
                raise ConfigError(f"A search space has `{name}:`, but it is missing: see search_spaces/btxrd.yaml.")
        values = {name: _setting(name, value, known[name]) for name, value in content.items()}
        return cls(**values)


class _UniqueKeyLoader(yaml.SafeLoader):
    """PyYAML's safe loader, which keeps the last of two equal keys without a word; this one refuses them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if repeated := [key for key in keys if keys.count(key) > 1]:
            raise ConfigError(
                f"A name stands once in a mapping, but {repeated[0]!r} stands twice{node.start_mark}: remove one."
            )
        return super().construct_mapping(node, deep)


def _setting(name: str, value: Any, known: dataclasses.Field[Any]) -> Any:
    if name == "space":
        return tuple(_dimension(key, entry) for key, entry in _mapping(name, value).items())
    if name == "start":
        if not isinstance(value, list):
            raise ConfigError(f"`start` must be a list of configs, but got {value!r}: write `- {{lr: 1.0e-3, ...}}`.")
        return tuple({key: _number_or_text(key, entry) for key, entry in _mapping(name, config).items()} for config in value)
    if name == "fixed":
        return _mapping(name, value)
    if name == "constraint":
        return tuple(_constraint(key, entry) for key, entry in _mapping(name, value).items())
    if known.type in (int, float):
        return _typed_number(name, value, known.type)
    return value


def _dimension(name: str, entry: Any) -> Dimension:
    check_name(name)
    entry = _mapping(name, entry)
    allowed = [item.name for item in dataclasses.fields(Dimension) if item.name != "name"]
    for key in entry:
        if key not in allowed:
            raise ConfigError(f"{name} takes {', '.join(allowed)}, but got {key!r}: {_nearest(key, allowed)}")
    when = {
        key: tuple(value if isinstance(value, list) else [value])
        for key, value in _mapping("when", entry.get("when", {})).items()
    }
    if "choices" in entry:
        return Dimension(name=name, choices=_choices(name, entry), when=when)
    if "low" not in entry or "high" not in entry:
        raise ConfigError(f"{name} needs `low` and `high`, or `choices`, but got {sorted(entry)}: add them.")
    kind = FIELDS[name].type
    if kind not in (int, float):
        raise ConfigError(f"{name} is no number, so it takes `choices: [...]`, but got low/high.")
    bounds = {key: _typed_number(f"{name}.{key}", entry[key], kind) for key in ("low", "high", "step") if key in entry}
    log = entry.get("log", False)
    _rule(isinstance(log, bool), f"{name}.log is true or false", f"log={log!r}")
    _rule(bounds["low"] < bounds["high"], f"{name}: low < high", f"low={bounds['low']}, high={bounds['high']}")
    _rule(not (log and bounds["low"] <= 0), f"{name}: a log range starts above 0", f"low={bounds['low']}")
    _rule(not (log and "step" in bounds), f"{name}: log and step exclude each other", f"step={bounds.get('step')}")
    for bound in (bounds["low"], bounds["high"]):
        TrainConfig.from_dict({name: bound, **({"min_lr": 0.0} if name == "lr" else {})})
    return Dimension(name=name, log=log, when=when, **bounds)


def _choices(name: str, entry: Mapping[str, Any]) -> tuple[Any, ...]:
    choices = entry["choices"]
    if extra := sorted(set(entry) - {"choices", "when"}):
        raise ConfigError(f"{name} takes choices or a range, but got choices and {extra[0]}: remove one.")
    if not isinstance(choices, list) or len(choices) < 2:
        raise ConfigError(f"{name}.choices must list at least two values, but got {choices!r}: use `fixed:` for one value.")
    return tuple(TrainConfig.from_dict({name: choice}).to_dict()[name] for choice in choices)


def _constraint(metric: str, demand: Any) -> Constraint:
    match = re.fullmatch(r"\s*(>=|<=)\s*([0-9.eE+-]+)\s*", str(demand))
    if not match or not metric.startswith("val_"):
        raise ConfigError(f'A constraint reads `val_recall_malignant: ">= 0.6"`, but got {metric}: {demand!r}.')
    return Constraint(metric=metric, at_least=match[1] == ">=", bound=float(match[2]))


def _mapping(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"`{name}` must be a mapping, but got {value!r}: write `name: value` lines below it.")
    return value


def _typed_number(name: str, value: Any, kind: Any) -> Any:
    value = _number_or_text(name, value)
    if isinstance(value, bool) or not isinstance(value, int | float) or (kind is int and value != int(value)):
        raise ConfigError(f"{name} must be {'a whole number' if kind is int else 'a number'}, but got {value!r}.")
    return kind(value)


def _number_or_text(name: str, value: Any) -> Any:
    """The value; text that a person would call a number is an error, since PyYAML reads 1e-5 and 1.0e5 as text."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9.]+[eE][+-]?[0-9]+", value):
        raise ConfigError(
            f"{name} must be a number, but YAML reads {value} as text: write {float(value):.1e} with a dot and a sign."
        )
    return value


def _rule(holds: bool, rule: str, found: str) -> None:
    if not holds:
        raise ConfigError(f"`{rule}` must hold, but got {found}.")


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else f"known names: {', '.join(known)}."


def _one_line(error: Exception) -> str:
    return re.sub(r"\s+", " ", str(error))
