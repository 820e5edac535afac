"""`search.json`: all settings of a search, so that every later verb finds dataset, space, splits and checkpoints again."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tune_btxrd.data.phantom import PhantomSpec
from tune_btxrd.data.request import DataRequest
from tune_btxrd.errors import ResultError
from tune_btxrd.files import write_whole
from tune_btxrd.search.record import SETTINGS_FILE, read_settings
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.training.source import Source
from tune_btxrd.version import __version__

SPACE_FILE = "space.yaml"
PACKAGES = ("torch", "torchvision", "timm", "ray", "optuna", "scikit-learn", "numpy", "pandas", "pillow")
UNSTARTED = {"splits", "tables", "figures", "audit.json"}  # written before a search begins
PATHS = ("data", "cache", "exclude", "duplicates")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a results folder is about.

    Attributes:
        kind: "search", or "train" for one config without a search.
        request: how the dataset is read; dataset: its name, path and sha256.
        space: overrides of `space.yaml`: {"settings": ..., "hyperparameters": ...}.
        splits: those to be retrained, name -> file stem; searched: the stem of the split that the search saw.
        val_ratio: validation / training images of the searched split.
        layout: slots, threads, cpus, gpus, epoch_seconds as measured; flags: what the user asked for.
    """

    name: str
    kind: str
    dataset: dict[str, Any]
    request: DataRequest
    source: Source
    space: dict[str, Any]
    splits: dict[str, str]
    searched: str
    val_ratio: float
    device: str
    image_size: int
    layout: dict[str, Any]
    checkpoints: Path
    flags: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] | None = None

    def save(self, folder: Path) -> None:
        """Writes `search.json`; the environment it began in stays, one that it goes on in is added to `resumed`.

        Raises:
            ResultError: the folder is not writable.
        """
        known = _environments(folder)
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        plain["request"] = {key: str(v) if key in PATHS and v is not None else v for key, v in asdict(self.request).items()}
        plain |= {"source": self.source.to_dict(), "checkpoints": str(self.checkpoints)}
        plain |= {"environment": known[0], "resumed": known[1:]}
        plain["checkpoints_from_here"] = os.path.relpath(self.checkpoints, folder.resolve())
        write_whole(folder / SETTINGS_FILE, json.dumps(plain, indent=1, ensure_ascii=False))

    @classmethod
    def load(cls, folder: Path) -> "Settings":
        """The settings of a results folder, also of one that was moved or copied: its splits are those beside it.

        Raises:
            ResultError: no search there, or one that this version cannot read.
        """
        plain = read_settings(folder)
        try:
            request = dict(plain["request"])
            request |= {key: Path(request[key]) for key in PATHS if request[key] is not None}
            request["phantom"] = PhantomSpec(**request["phantom"])
            source = Source.from_dict({**plain["source"], "splits": str((folder / "splits").resolve())})
            known = {name: plain[name] for name in cls.__dataclass_fields__ if name in plain}
            known |= {"request": DataRequest(**request), "source": source, "checkpoints": _checkpoints(plain, folder)}
            settings = cls(**known)
        except (KeyError, TypeError) as error:
            raise ResultError(
                f"{folder / SETTINGS_FILE} must be whole, but {error} is missing or unknown: restore it."
            ) from error
        settings.check_names(folder)
        return settings

    def check_names(self, folder: Path) -> None:
        """Raises ResultError for names that lead out of their folders: a results folder may come from anybody."""
        for name in (*self.splits.values(), self.searched, self.name):
            if Path(name).name != name or name in ("", ".", ".."):
                raise ResultError(f"Names in {folder / SETTINGS_FILE} must be plain file names, but one is {name!r}.")
        if self.checkpoints.name != self.name:
            raise ResultError(
                f"Checkpoints must lie in a folder called as the search, {self.name}, but {folder / SETTINGS_FILE} "
                f"says {self.checkpoints}: correct it there."
            )

    def moved(self, checkpoints: Path | None) -> "Settings":
        """With checkpoints below another root; unchanged for None."""
        return self if checkpoints is None else replace(self, checkpoints=(checkpoints / self.name).resolve())

    def spec(self, folder: Path, **changes: Any) -> SearchSpec:
        """The search space as it was used: `space.yaml` beside `search.json`, the overrides, then `changes`."""
        space = SearchSpec.load(folder / SPACE_FILE)
        return space.override({**self.space["settings"], **changes}, self.space["hyperparameters"])


def _checkpoints(plain: Mapping[str, Any], folder: Path) -> Path:
    """Where checkpoints lie: as they lay from the results folder, which may have moved with them, else where they were."""
    there = Path(plain["checkpoints"])
    if "checkpoints_from_here" not in plain:
        return there
    moved = Path(os.path.normpath(folder.resolve() / plain["checkpoints_from_here"]))
    return there if there.is_dir() and not moved.is_dir() else moved


def environment() -> dict[str, Any]:
    """Versions, git commit, machine and command: what a reviewer asks for."""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return {
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": ["tune-btxrd", *sys.argv[1:]],
        "tune_btxrd": __version__,
        "git_commit": commit.stdout.strip() or None,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def _environments(folder: Path) -> list[dict[str, Any]]:
    """The environments a search began and went on in, the present one last."""
    now = environment()
    if not (folder / SETTINGS_FILE).exists():
        return [now]
    plain = read_settings(folder)
    known = [plain["environment"], *plain.get("resumed", [])]
    return known if known[-1] | {"created": now["created"]} == now else [*known, now]


def results_folder(storage: Path, name: str) -> Path:
    """`<storage>/<name>`. Raises: ResultError for a name that is no plain folder name."""
    if not name or name in (".", "..") or Path(name).name != name or name.startswith("-"):
        raise ResultError(f"A search's name must be a plain folder name, but got {name!r}: use letters, digits, - and _.")
    return storage / name


def require_new(folder: Path) -> None:
    """Raises ResultError where the folder holds something already; results are never overwritten.

    What a start left that was killed before its first trial does not count.
    """
    if folder.exists() and {path.name for path in folder.iterdir()} - UNSTARTED:
        raise ResultError(
            f"A results folder is never overwritten, but {folder} exists: go on with it (--name {folder.name} --resume), "
            "or choose another --name."
        )


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that were given."""
    return {name: value for name, value in values.items() if value is not None}
