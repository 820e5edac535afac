"""Flags by what they set: each group is declared beside the function that reads it into the value a verb takes.

Nothing heavy is imported before a verb runs, so that help comes at once. A flag that was not typed is None or False.
"""

import argparse
import difflib
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tune_btxrd.errors import ConfigError

if TYPE_CHECKING:
    from tune_btxrd.data.request import DataRequest
    from tune_btxrd.pipeline.compute import Compute
    from tune_btxrd.pipeline.site import Trackers
    from tune_btxrd.results.search_json import SpaceRequest

DEVICES = ("auto", "cuda", "mps", "cpu")
UNITS = {"s": 1, "sec": 1, "min": 60, "m": 60, "h": 3600, "d": 86400}
SETTINGS = ("trials", "epochs", "scheduler", "confirm", "recommend", "seed")  # of the whole search
HYPERPARAMETERS = ("image_size", "batch_size", "backbone", "pretrained", "weights")  # those with a flag of their own
TALK = ("quiet", "verbose")
NUMBER = r"(\d+\.?\d*|\.\d+)"


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is one line, with the nearest flag; flags are never guessed from a beginning."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, allow_abbrev=False)
        self._negative_number_matcher = re.compile(
            rf"-{NUMBER}(,-?{NUMBER})*$"
        )  # argparse takes `--window -600,1500` for flags

    def error(self, message: str) -> NoReturn:
        """Raises: ConfigError, always."""
        raise ConfigError(f"{message}. See `{self.prog} --help`.")

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        """`--flag=--` has no value; argparse (3.11) takes it for the sign that ends the flags and gives an empty list."""
        if action.option_strings and arg_strings == ["--"]:
            self.error(f"{'/'.join(action.option_strings)} needs another value than --")
        if action.option_strings and "" in arg_strings:  # most often a variable that is not set: "$DATA"
            self.error(f"{'/'.join(action.option_strings)} needs a value, but got an empty one: leave it out")
        return super()._get_values(action, arg_strings)

    def chosen(self, flags: argparse.Namespace) -> "Parser":
        """The parser of the verb that was typed, and of the verb within it where it has such."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                inner: Parser = action.choices[getattr(flags, action.dest)]
                return inner.chosen(flags)
        return self

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """Raises: ConfigError for words that this verb does not take."""
        name = unknown[0].partition("=")[0]
        known = [item.lstrip("-") for item in self._option_string_actions]
        near = difflib.get_close_matches(name.lstrip("-"), known, n=1, cutoff=0.7)
        cure = f" Did you mean --{near[0]}?" if near and name.startswith("-") else ""
        raise ConfigError(f"{self.prog} takes no {name}.{cure} See `{self.prog} --help`.")


def add_data(parser: argparse.ArgumentParser, *, table_only: bool = False) -> None:
    """The dataset and how it is read: a DataRequest."""
    group = parser.add_argument_group("dataset")
    group.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="dataset folder: BTXRD as it unzips, a folder per class, BraTS folders, or one with manifest.csv",
    )
    group.add_argument(
        "--groups", choices=("duplicates", "patients", "none"), help="what stays in one part (default: duplicates)"
    )
    group.add_argument("--exclude", type=Path, metavar="FILE", help="ids to leave out, one per line")
    group.add_argument(
        "--duplicates", type=Path, metavar="FILE", help="CSV of duplicate pairs (first,second), instead of hashing"
    )
    group.add_argument("--positive-class", metavar="NAME", help="the class to watch (default: Malignant, or the rarest)")
    group.add_argument(
        "--layout",
        metavar="STEPS",
        help="what the folders of a dataset without a table mean, e.g. part/class or class/images",
    )
    group.add_argument("--accept-revision", action="store_true", help="go on although BTXRD's known facts do not hold")
    if table_only:
        group.add_argument("--table-only", action="store_true", help="audit the table without images")
    group.add_argument("--channels", metavar="A,B", help="volumes: which channels, in order, e.g. flair,t1ce (default: all)")
    group.add_argument("--spacing", type=float, metavar="MM", help="volumes: resample to this voxel size (default: as is)")
    group.add_argument(
        "--missing-channel", choices=("refuse", "zero"), help="volumes: a patient lacks a channel (default: refuse)"
    )
    group.add_argument(
        "--window", metavar="C,W", help="DICOM images: center and width of the view (default: the file's own)"
    )
    group.add_argument("--phantom", choices=("images", "volumes"), help="what the phantom shows (default: images)")
    group.add_argument("--phantom-count", type=int, metavar="N", help="images or volumes of the phantom")
    group.add_argument("--phantom-size", type=int, metavar="PX", help="longest side of the phantom's images or volumes")
    add_cache(parser)


def add_cache(parser: argparse.ArgumentParser) -> None:
    """Where decoded images go."""
    parser.add_argument("--cache", type=Path, metavar="DIR", help="decoded images (default: the user's cache folder)")


def add_moved_data(parser: argparse.ArgumentParser) -> None:
    """Where the dataset of a search is now."""
    parser.add_argument("--data", type=Path, metavar="DIR", help="where the dataset is now, if it has moved")
    add_cache(parser)


def read_data(flags: argparse.Namespace) -> "DataRequest":
    """Raises: ConfigError, DataError: contradictory flags, no such dataset."""
    from tune_btxrd.data.phantom import phantom_spec
    from tune_btxrd.data.request import DataRequest

    phantom = {"kind": flags.phantom, "count": flags.phantom_count, "size": flags.phantom_size}
    shape = {name: value for name, value in phantom.items() if value is not None}
    if flags.data is not None and shape:
        names = ", ".join("--phantom" if name == "kind" else f"--phantom-{name}" for name in shape)
        raise ConfigError(f"{names} shape the phantom, but --data names a folder: leave one out.")
    if flags.data is None and flags.accept_revision and not getattr(flags, "resume", False):
        raise ConfigError("--accept-revision is about a release of BTXRD, but there is no --data: leave it out.")
    if flags.data is None and flags.phantom != "volumes" and not getattr(flags, "resume", False):
        for name in ("channels", "spacing", "missing_channel"):
            if getattr(flags, name) is not None:
                flag = f"--{name.replace('_', '-')}"
                raise ConfigError(f"{flag} is for volumes, but the phantom shows images: add --phantom volumes or --data.")
    return DataRequest(
        data=flags.data,
        cache=flags.cache,
        groups=flags.groups,
        exclude=flags.exclude,
        duplicates=flags.duplicates,
        positive_class=flags.positive_class,
        accept_revision=flags.accept_revision,
        layout=flags.layout,
        table_only=getattr(flags, "table_only", False),
        phantom=phantom_spec(**shape) if shape else None,
        seed=flags.seed,
        channels=read_channels(flags.channels),
        spacing=read_spacing(flags.spacing),
        missing_channel=flags.missing_channel,
        window=read_window(flags.window),
    )


def read_channels(text: str | None) -> tuple[str, ...] | None:
    """The names, lower case as tables are read. Raises: ConfigError for none, or one that is named twice."""
    if text is None:
        return None
    names = tuple(part.strip().lower() for part in text.split(",") if part.strip())
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"--channels names channels, each once, comma-separated, but got {text!r}.")
    return names


def read_window(text: str | None) -> tuple[float, float] | None:
    """Center and width, in the units of the modality. Raises: ConfigError for what is no window."""
    if text is None:
        return None
    try:
        center, width = map(float, text.split(","))
    except ValueError:
        center = width = math.nan
    if not math.isfinite(center) or not 1 <= width < math.inf:  # the standard's least width
        raise ConfigError(f"--window must be a center and a width of at least 1, like --window 512,1024, but got {text!r}.")
    return center, width


def read_spacing(value: float | None) -> float | None:
    """Raises: ConfigError for what is no size of a voxel."""
    if value is not None and not 0.1 <= value <= 20:
        raise ConfigError(f"`0.1 <= spacing <= 20` mm must hold for --spacing, but got {value:g}.")
    return value


def add_storage(parser: argparse.ArgumentParser, *, checkpoints: bool = True) -> None:
    """Where results lie, and where checkpoints."""
    parser.add_argument("--storage", metavar="DIR", help="results: a folder, s3://... or gs://... (default: ray_results)")
    if checkpoints:
        parser.add_argument("--checkpoints", type=Path, metavar="DIR", help="root of checkpoints (default: checkpoints)")


def read_storage(flags: argparse.Namespace) -> str:
    """The storage that was typed, or the usual one. Raises: ConfigError for an empty word."""
    from tune_btxrd.pipeline.place import STORAGE

    if flags.storage == "":
        raise ConfigError("--storage must name a folder, but is empty.")
    return STORAGE if flags.storage is None else str(flags.storage)


def add_device(parser: argparse.ArgumentParser) -> None:
    """What trains or scores."""
    parser.add_argument("--device", choices=DEVICES, help="default: CUDA, else MPS, else CPU")


def add_compute(parser: argparse.ArgumentParser) -> None:
    """How much a verb may use: a Compute."""
    group = parser.add_argument_group("how much")
    add_device(parser)
    group.add_argument("--slots", type=int, metavar="N", help="trials at once (default: measured)")
    group.add_argument("--cpus-per-trial", type=float, metavar="N", help="CPUs of each trial (default: measured)")
    group.add_argument("--gpus-per-trial", metavar="auto|N", help="GPUs of each trial, also a fraction (default: measured)")
    group.add_argument(
        "--address",
        metavar="A",
        help="running Ray cluster: auto or HOST:PORT; for submit http://HOST:8265 (default: Ray on this machine)",
    )


def read_compute(flags: argparse.Namespace) -> "Compute":
    """Raises: ConfigError for what is no amount."""
    from tune_btxrd.pipeline.compute import Compute

    text, gpus = flags.gpus_per_trial, None
    if text not in (None, "auto"):
        try:
            gpus = float(text)
        except ValueError:
            gpus = math.nan
        if not math.isfinite(gpus):
            raise ConfigError(f"--gpus-per-trial must be `auto` or a number, but got {text!r}.")
    return Compute(device=flags.device, slots=flags.slots, cpus=flags.cpus_per_trial, gpus=gpus, address=flags.address)


def add_seeds(parser: argparse.ArgumentParser) -> None:
    """Trainings per config and split in the final job, and what several of them make together."""
    parser.add_argument("--seeds", type=int, metavar="N", help="trainings per config and split (default: 1)")
    parser.add_argument("--ensemble", type=int, metavar="N", help="N seeds of the winner as one model, or all N folds")
    parser.add_argument("--soup", action="store_true", help="average the weights of the winner's seeds, gated by validation")


def add_score(parser: argparse.ArgumentParser) -> None:
    """Whether a label store is scored at the end."""
    parser.add_argument("--no-score", action="store_true", help="do not score the images of a label store at the end")


def add_folds(parser: argparse.ArgumentParser) -> None:
    """Folds instead of splits."""
    parser.add_argument(
        "--folds", type=int, metavar="K", help="train on K folds instead of splits; every image validates once"
    )


def add_nested(parser: argparse.ArgumentParser) -> None:
    """Whether a search runs inside each fold."""
    parser.add_argument("--nested", action="store_true", help="with --folds: search inside each fold too, scored outside it")


def read_seeds(flags: argparse.Namespace) -> int:
    """As typed, or 1."""
    return 1 if flags.seeds is None else int(flags.seeds)


def add_training(parser: argparse.ArgumentParser) -> None:
    """Fixed hyperparameters."""
    group = parser.add_argument_group("training (an error where the search space searches the value)")
    group.add_argument("--image-size", type=int, metavar="PX", help="side of the square input")
    group.add_argument("--batch-size", type=int, metavar="N", help="images per step")
    group.add_argument("--backbone", metavar="NAME", help="timm model name")
    group.add_argument("--pretrained", action=argparse.BooleanOptionalAction, help="start from timm's ImageNet weights")
    group.add_argument("--weights", type=Path, metavar="FILE", help="start from this file (safetensors or .pt)")
    group.add_argument(
        "--set", action="append", metavar="NAME=VALUE", help="fix any hyperparameter of TrainConfig; may be repeated"
    )
    group.add_argument("--seed", type=int, help="decides sampler, splits and training")
    group.add_argument("--epochs", type=int, metavar="N", help="epoch budget of a training")
    group.add_argument(
        "--space", type=Path, metavar="FILE", help="search space (default: btxrd.yaml, phantom.yaml for the phantom)"
    )


def read_space(flags: argparse.Namespace) -> "SpaceRequest":
    """The search space and what flags override in it. Raises: ConfigError."""
    from tune_btxrd.results.search_json import SpaceRequest
    from tune_btxrd.search.space.set_flag import parse_setting

    given = vars(flags)
    values = {name: given[name] for name in HYPERPARAMETERS if given.get(name) is not None}
    if "weights" in values:
        values["weights"] = str(values["weights"].resolve())
    settings = {name: given[name] for name in SETTINGS if given.get(name) is not None}
    for text in given.get("set") or ():
        name, value = parse_setting(text)
        value = str(Path(value).resolve()) if name == "weights" and value is not None else value
        if name in ("monitor", "objective"):
            raise ConfigError(f"{name} is a setting of the whole search: write it at the top of the YAML (--space FILE).")
        known = settings if name in SETTINGS else values
        if name in known and known[name] != value:
            raise ConfigError(f"A value is said once, but {name} is {known[name]} and {value}: leave one out.")
        known[name] = value
    return SpaceRequest(file=given.get("space"), settings=settings, hyperparameters=values)


def add_splits(
    parser: argparse.ArgumentParser,
    meaning: str = "splits, comma-separated; center_folds alone: each center left out (default: stratified, center)",
) -> None:
    """Which splits."""
    parser.add_argument("--splits", metavar="A,B", help=meaning)


def read_splits(flags: argparse.Namespace) -> tuple[str, ...] | None:
    """Raises: ConfigError for none, or one that is named twice."""
    if flags.splits is None:
        return None
    names = tuple(part.strip() for part in flags.splits.split(",") if part.strip())
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"--splits names splits, each once, comma-separated, but got {flags.splits!r}.")
    return names


def add_search(parser: argparse.ArgumentParser) -> None:
    """The search itself."""
    group = parser.add_argument_group("search")
    group.add_argument(
        "--split",
        help="what the search sees; center_folds: trials leave each center out once (default: common, less test parts)",
    )
    add_splits(parser, "splits to retrain on; center_folds (run): each center left out (default: stratified, center)")
    group.add_argument("--trials", type=int, metavar="N", help="trials of the search")
    group.add_argument("--scheduler", metavar="NAME", help="how weak trials save epochs: asha, promote or none")
    group.add_argument("--confirm", type=int, metavar="K", help="configs to confirm by repeats; 0 skips")
    group.add_argument(
        "--recommend",
        metavar="RULE",
        help="who ranks trials: `model` (of all trials; default) or `best` (score of a trial that ran to its end)",
    )
    group.add_argument("--time-budget", metavar="6h", help="time for everything; s, min or h")
    group.add_argument("--epoch-budget", type=int, metavar="N", help="epochs of all trials and their confirmation")
    group.add_argument(
        "--from-search",
        action="append",
        metavar="NAME",
        help="begin near the winner of this earlier search; may be repeated",
    )
    group.add_argument("--tensorboard", action="store_true", help="also write TensorBoard event files into the results")
    group.add_argument("--mlflow", metavar="URI", help="also log to this MLflow store, e.g. sqlite:///mlflow.db")
    group.add_argument("--wandb", metavar="PROJECT", help="also log to this project of Weights & Biases")


def read_trackers(flags: argparse.Namespace) -> "Trackers":
    """Where else a search is logged."""
    from tune_btxrd.pipeline.site import Trackers

    return Trackers(tensorboard=flags.tensorboard, mlflow=flags.mlflow, wandb=flags.wandb)


def read_seconds(text: str | None) -> float | None:
    """`90s`, `30min`, `6h` as seconds. Raises: ConfigError."""
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)\s*", text.lower())
    if not match or match[2] not in UNITS or not float(match[1]):
        raise ConfigError(f"--time-budget must read like 90s, 30min or 6h, but got {text!r}.")
    return float(match[1]) * UNITS[match[2]]


def add_new_name(parser: argparse.ArgumentParser) -> None:
    """A name for a search, and whether it goes on."""
    parser.add_argument("--name", help="name of the search (default: <dataset>-<timestamp>)")
    parser.add_argument("--resume", action="store_true", help="go on with the search called --name")


def add_name(parser: argparse.ArgumentParser) -> None:
    """The name of a search that is there."""
    parser.add_argument("name", metavar="NAME", help="the search")


def add_json(parser: argparse.ArgumentParser) -> None:
    """One document instead of tables."""
    parser.add_argument("--json", action="store_true", help="print one JSON document on standard output and nothing else")


def add_talk(parser: argparse.ArgumentParser, *, verbose: bool = False) -> None:
    """How much is printed."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("-q", "--quiet", action="store_true", help="print outcomes and warnings only")
    if verbose:
        group.add_argument("-v", "--verbose", action="store_true", help="print every epoch, and Ray's own log")


def parse(parser: Parser, words: Sequence[str] | None) -> argparse.Namespace:
    """The flags of one verb; words that it does not take are refused with the nearest one that it does.

    Raises: ConfigError. SystemExit after --help and --version.
    """
    flags, unknown = parser.parse_known_args(sys.argv[1:] if words is None else words)
    if unknown:
        parser.chosen(flags).refuse(unknown)
    return flags
