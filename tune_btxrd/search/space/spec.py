"""SearchSpec: what a search does, checked. `suggest(trial)` makes an Optuna trial a complete config. No Ray, no Optuna."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tune_btxrd.config import (
    FIELDS,
    LARGEST_SEED,
    TrainConfig,
    check_name,
    checked,
    choice,
    fields_of,
    nearest,
    number,
    shown,
)
from tune_btxrd.data.splits.partition_names import trial_folds
from tune_btxrd.errors import ConfigError
from tune_btxrd.monitor import ALL_IMAGES, MONITORS, OBJECTIVES, Monitor, monitor_of
from tune_btxrd.search.space.dimension import Constraint, Dimension, SuggestingTrial
from tune_btxrd.search.space.yaml_file import parse, read_file, rule

SAMPLERS = ("tpe", "gp", "random")
SCHEDULERS = ("promote", "asha", "none")
RECOMMENDERS = ("model", "best")

FAIR_MONITORS = (
    "macro_auc",
    "calibrated_loss",
)  # one of them is asked for where loss, sampling or class weights are searched
WHOLE_SEARCH = {  # hyperparameters that no single trial can have for itself
    "epochs": "is a setting of the whole search: move it to the top",
    "seed": "is a setting of the whole search: move it to the top",
    "monitor": "is a setting of the whole search: move it to the top",
    "objective": "is a setting of the whole search: move it to the top",
}
MOST_SIZES = 12  # each has an image cache of its own


@dataclass(frozen=True, kw_only=True)
class SearchSpec:
    """What a search does (the science); flags say where and how much.

    Attributes:
        space: searched hyperparameters, in order.
        start: first trials; trial 0 is the hand-made config.
        fixed: hyperparameters of every trial that differ from their defaults.
        constraint: demands on values of the best epoch.

    Raises:
        ConfigError: a rule is broken; one line with the invariant, what was found, and the cure.
    """

    space: tuple[Dimension, ...]
    start: tuple[Mapping[str, Any], ...]
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    trials: int = number(24, "trials of the search, without confirmation", at_least=1)
    epochs: int = number(30, "epoch budget of a trial; its cosine ends here", at_least=1)
    seed: int = number(42, "of proposals and of all search trials' training", at_least=0, at_most=LARGEST_SEED)
    monitor: str = choice("val_loss", "value whose best so far is the objective", choices=tuple(MONITORS))
    objective: str = choice(
        ALL_IMAGES,
        "images that the monitor is computed on: all, or those of the center where it is worst",
        choices=OBJECTIVES,
    )
    sampler: str = choice("tpe", "who proposes configs", choices=SAMPLERS)
    startup_trials: int = number(8, "random trials before the sampler learns", at_least=1)
    random_share: float = number(0.0, "share of proposals that stay random, evenly spread", at_least=0.0, at_most=1.0)
    scheduler: str = choice(
        "promote", "how weak trials save epochs: promote pauses all at a rung, asha stops them", choices=SCHEDULERS
    )
    grace_period: int = number(4, "epochs before the first rung", at_least=1)
    reduction_factor: float = number(
        3.0, "best one in so many goes on at a rung; the next is so many times later", at_least=1.1
    )
    confirm: int = number(3, "best configs that are repeated; 0 skips confirmation", at_least=0)
    folds_per_trial: int = number(
        1, "folds that each trial trains on in step and is judged by their mean; 1: one split", at_least=1, at_most=50
    )
    repeats: int = number(3, "repeats of each, on fresh partitions; one alone would have no spread", at_least=2)
    recommend: str = choice(
        "model", "who ranks trials: a model of all, or the best score of one that ran to its end", choices=RECOMMENDERS
    )
    constraint: tuple[Constraint, ...] = ()

    def __post_init__(self) -> None:
        for name, field in SETTINGS.items():
            object.__setattr__(self, name, field.checked(getattr(self, name)))
        object.__setattr__(self, "fixed", {name: checked(name, value) for name, value in self.fixed.items()})
        rule(bool(self.space), "space has at least one hyperparameter", "none")
        rule(bool(self.start), "start has at least one config", "none")
        if self.scheduler != "none":
            found = f"grace_period={self.grace_period}, epochs={self.epochs}"
            rule(self.grace_period <= self.epochs, "grace_period <= epochs", found)
        if self.sampler == "gp" and self.scheduler != "none":
            raise ConfigError(
                f"`sampler: gp` learns from complete trials only, but `scheduler: {self.scheduler}` stops most of them: "
                "set scheduler: none, or sampler: tpe."
            )
        if self.sampler == "random" and self.random_share:
            raise ConfigError(
                f"`sampler: random` draws every config at random, so random_share={self.random_share:g} "
                "would change nothing: leave it out, or set sampler: tpe."
            )
        self._check_names()
        self._check_sizes()
        self._check_lr()
        self._check_monitor()
        for config in self.start:
            self.complete(config)

    def _check_names(self) -> None:
        by_name = {dimension.name: dimension for dimension in self.space}
        for name in [*by_name, *self.fixed]:
            check_name(name)
            if name in WHOLE_SEARCH:
                raise ConfigError(f"`{name}` {WHOLE_SEARCH[name]}.")
        if both := sorted(set(by_name) & set(self.fixed)):
            raise ConfigError(f"A name is either searched or fixed, but {shown(both[0])} is both: remove one.")
        TrainConfig.from_dict({"lr": self._values("lr", max), "epochs": self.epochs, **self.fixed})
        for position, dimension in enumerate(self.space):
            self._check_conditions(dimension, {item.name: item for item in self.space[:position]})

    @staticmethod
    def _check_conditions(dimension: Dimension, earlier: Mapping[str, Dimension]) -> None:
        for name, allowed in dimension.when.items():
            if name not in earlier:
                raise ConfigError(
                    f"`when` may name what is searched earlier, but {dimension.name} waits for {shown(name)}: "
                    "move that one above it, or correct the name."
                )
            if never := [value for value in allowed if not earlier[name].contains(value)]:
                raise ConfigError(
                    f"`when` names values that can occur, but {dimension.name} waits for {name} = {shown(never[0])}, "
                    f"which is not in {earlier[name].describe()}: correct one of the two."
                )

    def _check_sizes(self) -> None:
        """Images are decoded once per size, so that there must be few."""
        for dimension in self.space:
            if dimension.name == "image_size" and (dimension.log or len(self.image_sizes) > MOST_SIZES):
                found = f"{dimension.describe()}: {len(self.image_sizes)} sizes"
                raise ConfigError(
                    f"`image_size` is searched among at most {MOST_SIZES} sizes, since images are decoded once for each, "
                    f"but got {found}: write choices: [224, 320], or a range with a larger step."
                )

    def _check_lr(self) -> None:
        found = f"min_lr={self._values('min_lr', max):g}, lr={self._values('lr', min):g}"
        rule(self._values("min_lr", max) <= self._values("lr", min), "min_lr <= lr everywhere in the space", found)

    def _check_monitor(self) -> None:
        """Configs trained for other class frequencies cannot be compared by a value that rewards the natural ones."""
        unfair = [item.name for item in self.space if FIELDS[item.name].changes_prior]
        if unfair and self.monitor not in FAIR_MONITORS:
            fair = " or ".join(FAIR_MONITORS)
            raise ConfigError(
                f"A space that searches {unfair[0]} must have `monitor: {fair}`, but got {self.monitor}: "
                "it favours configs that train on the natural class frequencies, whatever the others have learned; "
                "AUC asks only for the right order, and calibration takes the difference of frequencies back."
            )

    def _values(self, name: str, extreme: Callable[[Iterable[float]], float]) -> float:
        """The smallest or largest value that a numeric hyperparameter can take in this search."""
        for dimension in self.space:
            if dimension.name == name:
                return extreme(dimension.choices or dimension.bounds)
        return float(self.fixed.get(name, FIELDS[name].default))

    def check_metrics(self, columns: Mapping[str, str]) -> None:
        """Raises ConfigError where a constraint names a value that no epoch of this dataset has.

        Args:
            columns: column -> its name for people, of every metric (`search/columns.py`).
        """
        for item in self.constraint:
            if item.metric not in columns:
                cure = nearest(item.metric, columns)
                cure += "".join(f" It is the {columns[name]}." for name in columns if repr(name) in cure)
                raise ConfigError(f"A constraint names a value of every epoch, but got {shown(item.metric)}: {cure}")

    def suggest(self, trial: SuggestingTrial) -> TrainConfig:
        """The complete config of an Optuna trial; conditional dimensions are asked only where they are active."""
        values: dict[str, object] = {}
        for dimension in self.space:
            if dimension.is_active(values):
                values[dimension.name] = dimension.suggest(trial)
        return self.config(values)

    def config(self, values: Mapping[str, Any]) -> TrainConfig:
        """The complete config of searched values: defaults, then fixed, then the values."""
        return TrainConfig.from_dict({**self.fixed, **self.whole_search, **values})

    @property
    def image_sizes(self) -> tuple[int, ...]:
        """Every side of the images that a trial can have, px, from the smallest on."""
        for dimension in self.space:
            if dimension.name == "image_size":
                low, high = (0, -1) if dimension.choices else map(int, dimension.bounds)
                sizes = dimension.choices or range(low, high + 1, int(dimension.step or 1))
                return tuple(sorted({*sizes, *([FIELDS["image_size"].default] if dimension.when else [])}))
        return (int(self.fixed.get("image_size", FIELDS["image_size"].default)),)

    def trial_splits(self, split: str) -> tuple[str, ...]:
        """What each search trial trains and validates on; `split` is the search's own."""
        return (split,) if self.folds_per_trial == 1 else trial_folds(self.folds_per_trial)

    @property
    def monitored(self) -> Monitor:
        """What every trial is judged by."""
        return monitor_of(self.monitor, self.objective)

    @property
    def judged_by(self) -> str:
        """What a trial's score is, in words, where it is a mean over folds; else empty."""
        return f"each judged by its mean over {self.folds_per_trial} folds" if self.folds_per_trial > 1 else ""

    @property
    def whole_search(self) -> dict[str, int | str]:
        """Hyperparameters that are settings of the search: the same for all its trials."""
        return {"epochs": self.epochs, "seed": self.seed, "monitor": self.monitor, "objective": self.objective}

    def complete(self, values: Mapping[str, Any]) -> TrainConfig:
        """The complete config of a start config, which must name every active dimension within its range and no other."""
        names = [dimension.name for dimension in self.space]
        if unknown := [name for name in values if name not in names]:
            cure = nearest(str(unknown[0]), names)
            raise ConfigError(f"A start config names searched hyperparameters only, but got {shown(unknown[0])}: {cure}")
        for dimension in self.space:
            name, active = dimension.name, dimension.is_active(values)
            if active and name not in values:
                raise ConfigError(f"A start config names every searched hyperparameter, but {name} is missing: add it.")
            if not active and name in values:
                raise ConfigError(
                    f"A start config names active hyperparameters only, but {name} is searched as {dimension.describe()}: "
                    "remove it."
                )
            if active and not dimension.contains(checked(name, values[name])):
                raise ConfigError(
                    f"A start config lies in the space, but {name}={shown(values[name])} "
                    f"is outside {dimension.describe()}: widen the range or move the start."
                )
        return self.config(values)

    @property
    def hand_made(self) -> TrainConfig:
        """The config that every search starts with and every winner is compared with."""
        return self.complete(self.start[0])

    def override(self, settings: Mapping[str, Any], hyperparameters: Mapping[str, Any]) -> "SearchSpec":
        """The spec with command-line values: settings of the search, and hyperparameters that the YAML does not search.

        Hyperparameters of the whole search (epochs, seed, monitor) count as its settings. Fewer epochs than the grace
        period draw it down with them, unless it is given too.

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
        whole = {name for name in hyperparameters if name in WHOLE_SEARCH}
        settings = {**settings, **{name: hyperparameters[name] for name in whole}}
        hyperparameters = {name: value for name, value in hyperparameters.items() if name not in whole}
        drawn = {"grace_period": min(self.grace_period, settings["epochs"])} if "epochs" in settings else {}
        return dataclasses.replace(self, fixed={**self.fixed, **hyperparameters}, **{**drawn, **settings})

    @classmethod
    def load(cls, path: Path) -> "SearchSpec":
        """One YAML file, checked.

        Raises:
            ConfigError: the file is missing, is no YAML, or breaks a rule; the line names the file.
        """
        settings = read_file(path, _names(cls))
        try:
            return cls(**settings)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error

    @classmethod
    def from_text(cls, text: str) -> "SearchSpec":
        """A spec from YAML text (see `load`)."""
        return cls(**parse(text, _names(cls)))


SETTINGS: Final = fields_of(SearchSpec)


def _names(spec: type[SearchSpec]) -> list[str]:
    return [item.name for item in dataclasses.fields(spec)]
