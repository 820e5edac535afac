"""`search.json`: what a results folder is about, typed and checked, so that every later verb finds what it needs again."""

import dataclasses
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from tune_btxrd.config import TrainConfig
from tune_btxrd.data.request import DataRequest
from tune_btxrd.data.splits.split_files import read_split
from tune_btxrd.errors import ResultError, shell_word
from tune_btxrd.files import write_whole
from tune_btxrd.results.typed_json import WrongValueError, from_json
from tune_btxrd.search.columns import class_keys
from tune_btxrd.search.record import SETTINGS_FILE, read_settings
from tune_btxrd.search.space.knowledge import Knowledge, informed_by
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.search.space.yaml_text import read_yaml
from tune_btxrd.tasks.registry import task_named
from tune_btxrd.training.source import Source
from tune_btxrd.version import __version__

SPACE_FILE = "space.yaml"
PACKAGES = ("torch", "torchvision", "timm", "ray", "optuna", "scikit-learn", "numpy", "pandas", "pillow")
UNSTARTED = {"splits", "tables", "figures", "audit.json"}  # written before a search begins
SHARING = "0.1.0"  # version that gave classes such as `HER2+` and `HER2-` one column
HALF_PAIR = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # what no file system can write
LONGEST_NAME = 200  # bytes; file systems take 255, and file names are made from it
FIRST_DEFAULTS = {"recommend": "best", "scheduler": "asha"}  # of searches begun before their choice was written down


@dataclass(frozen=True, kw_only=True)
class DatasetFacts:
    """The dataset that was read: its name, where it lay, the hash of its ids and labels, how many images."""

    name: str
    path: str
    sha256: str
    images: int


@dataclass(frozen=True, kw_only=True)
class SpaceRequest:
    """A search space and what overrides it.

    Attributes:
        file: YAML; None: the one that is shipped for the dataset.
        settings: of the whole search: trials, epochs, scheduler, confirm, recommend, seed.
        hyperparameters: fixed values of TrainConfig.
        knowledge: what it takes from earlier searches, in the order in which they were named.
    """

    file: Path | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    hyperparameters: Mapping[str, object] = field(default_factory=dict)
    knowledge: tuple[Knowledge, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Trials at once and what each gets, as measured.

    Attributes:
        slots: trials at once; cpus, gpus: of each, as Ray counts them; threads: torch's CPU threads in each.
        epoch_seconds: of one trial when all slots are busy (training and validation of the search's split).
        size_seconds: the same at each image size, where several are searched; `epoch_seconds` is of the hand-made config's.
        tried: one line per layout that was measured.
        ran_on, precision: what the trials that were measured ran on and in, e.g. "cpu" and "fp32".
    """

    slots: int
    cpus: float
    gpus: float
    threads: int
    epoch_seconds: float
    tried: tuple[str, ...] = ()
    ran_on: str = ""
    precision: str = ""
    size_seconds: Mapping[str, float] = field(default_factory=dict)

    def seconds_at(self, image_size: int) -> float:
        """Of an epoch at this image size, as measured."""
        return self.size_seconds.get(str(image_size), self.epoch_seconds)

    @property
    def by_size(self) -> dict[int, float]:
        """`size_seconds` by whole numbers."""
        return {int(size): seconds for size, seconds in self.size_seconds.items() if size.isdecimal() and seconds > 0}


@dataclass(frozen=True, kw_only=True)
class SearchFlags:
    """What follows from the flags of a search.

    Attributes:
        skipped: split -> why this dataset cannot have it.
        time_budget: seconds for everything, or None; epoch_budget: epochs of all trials and confirmations, or None.
        leak: split -> images of its test part that the search saw.
        folds: so many folds of all images instead of splits with a test part, or None.
        nested: a search of its own inside each of them.
        fold_centers: of center folds the center that each leaves out; trial_centers: the same of the folds that each trial
            trains on in step. Empty where folds are dealt at random.
        confirmation: `confirm` and `repeats` that fit the budget, where they are not those of the space.
    """

    skipped: Mapping[str, str] = field(default_factory=dict)
    time_budget: float | None = None
    epoch_budget: int | None = None
    leak: Mapping[str, int] = field(default_factory=dict)
    folds: int | None = None
    nested: bool = False
    fold_centers: tuple[str, ...] = ()
    trial_centers: tuple[str, ...] = ()
    confirmation: Mapping[str, int] = field(default_factory=dict)

    @property
    def search_budget(self) -> float | None:
        """Seconds of `time_budget` for each search, and what is trained with its winner."""
        return None if self.time_budget is None else self.time_budget / self._searches

    @property
    def search_epochs(self) -> int | None:
        """Epochs of `epoch_budget` for each search and its confirmation."""
        return None if self.epoch_budget is None else self.epoch_budget // self._searches

    @property
    def _searches(self) -> int:
        return 1 + (self.folds or 0) * self.nested


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Versions, git commit, machine and command of a session: what a reviewer asks for."""

    created: str
    command: tuple[str, ...]
    tune_btxrd: str
    git_commit: str | None
    python: str
    platform: str
    packages: Mapping[str, str]

    def is_like(self, other: "Environment") -> bool:
        """Whether two sessions differ in their time alone."""
        return dataclasses.replace(self, created=other.created) == other


def environment() -> Environment:
    """The present one."""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return Environment(
        created=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        command=("tune-btxrd", *sys.argv[1:]),
        tune_btxrd=__version__,
        git_commit=commit.stdout.strip() or None,
        python=platform.python_version(),
        platform=platform.platform(),
        packages={name: version(name) for name in PACKAGES},
    )


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """What a results folder is about.

    Attributes:
        kind: "search", or "train" for one config without a search; then `config` holds it.
        request: how the dataset is read; dataset: what was read.
        space: what overrides `space.yaml`.
        splits: those to be retrained, name -> file stem; searched: the stem of the split that the search saw.
        val_ratio: validation / training images of the searched split.
        device: as asked for, "auto" included; layout: None until it is measured.
        split_sha256: file stem -> SHA-256 of each table in `splits/` as the search began; empty before version 0.2.0.
        environment: of the session that began it; resumed: of those that went on.
    """

    name: str
    kind: Literal["search", "train"]
    dataset: DatasetFacts
    request: DataRequest
    source: Source
    space: SpaceRequest
    splits: Mapping[str, str]
    searched: str
    val_ratio: float
    device: str
    image_size: int
    layout: Layout | None
    checkpoints: Path
    flags: SearchFlags = field(default_factory=SearchFlags)
    config: Mapping[str, object] | None = None
    split_sha256: Mapping[str, str] = field(default_factory=dict)
    environment: Environment = field(default_factory=environment)
    resumed: tuple[Environment, ...] = ()

    def save(self, folder: Path) -> None:
        """Writes `search.json`. Raises: ResultError where the folder is not writable."""
        plain = asdict(self) | {"layout": asdict(self.layout) if self.layout else {}}
        plain["checkpoints_from_here"] = os.path.relpath(self.checkpoints, folder.resolve())
        write_whole(folder / SETTINGS_FILE, json.dumps(plain, indent=1, ensure_ascii=False, default=str))

    @classmethod
    def load(cls, folder: Path) -> "SearchSettings":
        """The settings of a results folder, also of one that was moved or copied: its splits are those beside it.

        Raises:
            ResultError: no search there, or a file that this version cannot read.
        """
        plain = read_settings(folder)
        try:
            settings = from_json(cls, plain | {"layout": plain.get("layout") or None, "space": _space(plain.get("space"))})
            settings = settings._from(folder, plain.get("checkpoints_from_here"))
            settings._check_meaning()
        except WrongValueError as error:
            known = plain.get("environment")
            writer = known.get("tune_btxrd") if isinstance(known, dict) else None
            by = f" (written by version {str(writer)[:20]})" if writer and writer != __version__ else ""
            raise ResultError(f"{folder / SETTINGS_FILE} must be whole, but {error}{by}: restore it.") from error
        settings._require_own_columns(folder)
        return settings

    def _from(self, folder: Path, checkpoints_from_here: object) -> "SearchSettings":
        """As they are now, where the results folder may have moved, with its checkpoints or without."""
        source = dataclasses.replace(self.source, splits=str((folder / "splits").resolve()))
        here = checkpoints_from_here if isinstance(checkpoints_from_here, str) else None
        return dataclasses.replace(self, source=source, checkpoints=_checkpoints(self.checkpoints, here, folder))

    def _require_own_columns(self, folder: Path) -> None:
        """Raises ResultError where classes shared a column of recalls, as SHARING let them: all but the last are lost."""
        names = self.source.class_names
        shared = [name for name, key in zip(names, class_keys(names), strict=True) if (key,) != class_keys([name])]
        if shared and self.environment.tune_btxrd == SHARING:
            raise ResultError(
                f"Every class must have its own recall, but version {SHARING} kept one for {' and '.join(shared)} together "
                f"in {folder}: open it with that version, or search anew."
            )

    def _check_meaning(self) -> None:
        """Raises WrongValueError for names that lead out of their folders (a results folder may come from anybody) and
        for values that contradict each other.
        """
        for name in (*self.splits.values(), self.searched, self.name):
            if Path(name).name != name or name in ("", ".", ".."):
                raise WrongValueError(f"a name must be a plain file name, and one is {name!r}")
        if self.checkpoints.name != self.name:
            raise WrongValueError(f"`checkpoints` must be a folder called {self.name}, and is {self.checkpoints}")
        if not 0 <= self.source.positive_class < len(self.source.class_names):
            classes = len(self.source.class_names)
            raise WrongValueError(f"`source.positive_class` must be below {classes}, and is {self.source.positive_class}")

    def moved(self, checkpoints: Path | None) -> "SearchSettings":
        """With checkpoints below another root; unchanged for None."""
        return self if checkpoints is None else dataclasses.replace(self, checkpoints=(checkpoints / self.name).resolve())

    def continued(self) -> "SearchSettings":
        """With the present environment among those it went on in, where it differs from the last one."""
        now, last = environment(), (self.environment, *self.resumed)[-1]
        return self if last.is_like(now) else dataclasses.replace(self, resumed=(*self.resumed, now))

    def spec(self, folder: Path) -> SearchSpec:
        """The search space as it was used: `space.yaml` beside `search.json`, and what overrides it.

        A search of an earlier version keeps the defaults that it began with.
        """
        return self.asked_spec(folder).override(self.flags.confirmation, {})

    def asked_spec(self, folder: Path) -> SearchSpec:
        """The same before its confirmation was fitted to a time budget."""
        file = folder / SPACE_FILE
        stated = read_yaml(file, "A search space")
        first = {name: value for name, value in FIRST_DEFAULTS.items() if name not in stated}
        spec = SearchSpec.load(file).override({**first, **self.space.settings}, self.space.hyperparameters)
        return informed_by(spec, self.space.knowledge)

    def searched_ids(self) -> set[str]:
        """Ids of the images that the search saw, for training or validation. Raises: DataError for a damaged split."""
        source = self.source
        task = task_named(source.task)
        table = read_split(Path(source.splits), self.searched, source.class_names, task=task, parts=("train", "val"))
        return set(table.ids)

    @property
    def only_config(self) -> TrainConfig | None:
        """The config of verb `train`; None for a search. Raises: ResultError where it was lost."""
        if self.kind == "train" and self.config is None:
            raise ResultError(f"{SETTINGS_FILE} of {self.name} must hold `config`, but it is missing: restore it.")
        return None if self.config is None else TrainConfig.from_dict(self.config)

    @property
    def positive_class(self) -> str:
        """The class to watch."""
        return self.source.class_names[self.source.positive_class]


def _checkpoints(there: Path, from_here: str | None, folder: Path) -> Path:
    """Where checkpoints lie: as they lay from the results folder, which may have moved with them, else where they were."""
    if from_here is None:
        return there
    moved = Path(os.path.normpath(folder.resolve() / from_here))
    return there if there.is_dir() and not moved.is_dir() else moved


def _space(content: object) -> object:
    """`space` of `search.json` as it is now; there was one earlier search at most before, and no list."""
    if not isinstance(content, dict) or isinstance(content.get("knowledge", []), list):
        return content
    known = content["knowledge"]
    return content | {"knowledge": [] if known is None else [known]}


def known_of(settings: Mapping[str, Any]) -> tuple[Knowledge, ...]:
    """What `search.json`, as it was read, says of earlier searches. Raises: ResultError where that is damaged."""
    space = _space(settings.get("space"))
    try:
        return from_json(SpaceRequest, space).knowledge if isinstance(space, dict) else ()
    except WrongValueError as error:
        raise ResultError(f"`space` of {SETTINGS_FILE} must be whole, but {error}: restore it.") from error


def results_folder(storage: Path, name: str) -> Path:
    """`<storage>/<name>`. Raises: ResultError for a name that is no plain folder name."""
    odd = not name or name in (".", "..") or Path(name).name != name or name.startswith("-") or "\0" in name
    if odd or HALF_PAIR.search(name):
        raise ResultError(f"A search's name must be a plain folder name, but got {name!r}: use letters, digits, - and _.")
    if (size := len(os.fsencode(name))) > LONGEST_NAME:
        raise ResultError(f"A search's name has at most {LONGEST_NAME} bytes, but {name[:30]!r}... has {size}: shorten it.")
    if storage.exists() and not storage.is_dir():
        raise ResultError(f"Results lie in a folder, but {storage} is a file: choose another --storage.")
    return storage / name


def require_new(folder: Path) -> None:
    """Raises ResultError where the folder holds something already; results are never overwritten.

    What a start left that was killed before its first trial does not count.
    """
    if folder.exists() and (not folder.is_dir() or {path.name for path in folder.iterdir()} - UNSTARTED):
        raise ResultError(
            f"A results folder is never overwritten, but {folder} exists: go on with it "
            f"(--name {shell_word(folder.name)} --resume), or choose another --name."
        )
