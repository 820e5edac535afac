"""Each verb as a function: parsed flags -> one call. Imports stay inside, so that a verb pays for itself alone."""

import argparse
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune_btxrd.errors import ConfigError, DataError

if TYPE_CHECKING:
    from tune_btxrd.data.request import DataRequest
    from tune_btxrd.pipeline.start import RunRequest

HYPERPARAMETERS = ("image_size", "batch_size", "backbone", "pretrained", "weights")
SETTINGS = ("trials", "epochs", "confirm", "seed")
RESULTS = "ray_results"
UNITS = {"s": 1, "sec": 1, "min": 60, "m": 60, "h": 3600, "d": 86400}


def run_verb(flags: argparse.Namespace) -> None:
    """Runs the verb that was typed, as talkative as was asked."""
    from tune_btxrd.console import NORMAL, QUIET, VERBOSE, set_verbosity

    set_verbosity(QUIET if flags.quiet else VERBOSE if flags.verbose else NORMAL)
    VERBS[flags.verb](flags)


def _prepare(flags: argparse.Namespace) -> None:
    from tune_btxrd.config import TrainConfig
    from tune_btxrd.console import say
    from tune_btxrd.pipeline.prepare import prepare, write_prepared
    from tune_btxrd.search.space.spec import SearchSpec

    request = _data(flags)
    fixed = SearchSpec.load(_space(flags, request)).hand_made
    size = flags.image_size or (fixed.image_size if request.is_phantom else TrainConfig().image_size)
    prepared = prepare(request, image_size=size, splits=_splits(flags))
    folder = request.cache / "prepared" / f"{prepared.manifest.dataset}-{prepared.manifest.sha256[:8]}"
    write_prepared(prepared, folder)
    say(f"all findings: {folder / 'audit.json'}, {folder / 'tables' / 'audit.csv'}; splits: {folder / 'splits'}")


def _run(flags: argparse.Namespace) -> None:
    from tune_btxrd.pipeline.run import run

    run(_request(flags))


def _submit(flags: argparse.Namespace) -> None:
    from tune_btxrd.cli.submit import submit

    submit(flags)


def _search(flags: argparse.Namespace) -> None:
    from tune_btxrd.pipeline.run import search_only

    search_only(_request(flags))


def _retrain(flags: argparse.Namespace) -> None:
    from tune_btxrd.pipeline.run import retrain_only

    retrain_only(_request(flags))


def _train(flags: argparse.Namespace) -> None:
    from tune_btxrd.config import TrainConfig
    from tune_btxrd.pipeline.run import train
    from tune_btxrd.search.space.spec import SearchSpec
    from tune_btxrd.search.space.yaml_text import read_yaml

    request = _request(flags)
    config = (
        SearchSpec.load(request.space)
        .override({k: v for k, v in request.settings.items()}, request.hyperparameters)
        .hand_made
    )
    if flags.config:
        config = TrainConfig.from_dict({**config.to_dict(), **read_yaml(flags.config, "--config")})
    train(request, config)


def _export(flags: argparse.Namespace) -> None:
    from tune_btxrd.pipeline.run import export

    export(_results(flags))


def _evaluate(flags: argparse.Namespace) -> None:
    from tune_btxrd.pipeline.deliver import evaluate

    evaluate(_finished(flags), yes=flags.yes)


def _explain(flags: argparse.Namespace) -> None:
    from tune_btxrd.pipeline.deliver import explain

    explain(_finished(flags))


def _finished(flags: argparse.Namespace) -> "RunRequest":
    """What the verbs that look at a retrained search have in common."""
    from tune_btxrd.data.request import DataRequest
    from tune_btxrd.pipeline.start import RunRequest

    given = {name: value for name, value in (("data", flags.data), ("cache", flags.cache)) if value is not None}
    return RunRequest(
        name=flags.name,
        storage=_results(flags).parent,
        checkpoints=flags.checkpoints,
        data=DataRequest(**given),
        space=Path(),
        splits=_splits(flags),
        device=flags.device,
        data_given=flags.data is not None,
    )


def _predict(flags: argparse.Namespace) -> None:
    from tune_btxrd.pipeline.deliver import predict

    predict(
        flags.checkpoint,
        flags.images,
        device=flags.device,
        form=flags.format,
        output=flags.output,
        overlays=flags.overlays,
        rank_uncertain=flags.rank_uncertain,
    )


def _space_verb(flags: argparse.Namespace) -> None:
    from tune_btxrd.console import say
    from tune_btxrd.search.space.combinations import check_backbones
    from tune_btxrd.search.space.describe import explain
    from tune_btxrd.search.space.spec import SearchSpec

    spec = SearchSpec.load(flags.file)
    check_backbones(spec)
    for line in explain(spec):
        say(line)


def _trial(flags: argparse.Namespace) -> None:
    from tune_btxrd.pipeline.deliver import run_again

    run_again(_results(flags).resolve(), flags.number)


def _report(flags: argparse.Namespace) -> None:
    from tune_btxrd.pipeline.run import report

    report(_results(flags).resolve())


def _watch(flags: argparse.Namespace) -> None:
    from tune_btxrd.cli.watch import watch

    watch(_results(flags).resolve(), dashboard=flags.dashboard)


def _list(flags: argparse.Namespace) -> None:
    from tune_btxrd.cli.list import list_searches

    list_searches(flags.storage)


def _storage(flags: argparse.Namespace) -> tuple[Path, str | None]:
    """Where results lie on this machine, and the storage beyond it that has a copy, or None."""
    from tune_btxrd.distributed.remote_storage import check_uri, is_remote, local_folder

    remote = check_uri(flags.storage) if is_remote(flags.storage) else None
    return Path(RESULTS) if remote else local_folder(flags.storage), remote


def _results(flags: argparse.Namespace) -> Path:
    """The results folder of NAME, brought here from a storage beyond this machine where need be."""
    from tune_btxrd.results.search_json import results_folder

    storage, remote = _storage(flags)
    folder = results_folder(storage, flags.name)
    if remote is not None:
        from tune_btxrd.pipeline.start import bring

        bring(remote, folder)
    return folder


def _request(flags: argparse.Namespace) -> "RunRequest":
    """What search, run, retrain and train have in common."""
    from tune_btxrd.pipeline.start import RunRequest

    data = _data(flags)
    resume = getattr(flags, "resume", False)
    if resume and not flags.name:
        raise ConfigError(
            "--resume goes on with a search by name, but --name is missing: `list` shows the searches at hand."
        )
    given = vars(flags)
    hyperparameters = {name: given[name] for name in HYPERPARAMETERS if given.get(name) is not None}
    if "weights" in hyperparameters:
        hyperparameters["weights"] = str(hyperparameters["weights"].resolve())
    if data.is_phantom and not resume and flags.verb != "retrain":
        hyperparameters.setdefault("pretrained", False)
    storage, remote = _storage(flags)
    return RunRequest(
        name=flags.name or f"{_dataset_name(data)}-{time.strftime('%Y%m%d-%H%M%S')}",
        verb=flags.verb,
        storage=storage,
        remote=remote,
        checkpoints=flags.checkpoints,
        data=data,
        space=_space(flags, data),
        settings={name: given[name] for name in SETTINGS if given.get(name) is not None},
        hyperparameters=hyperparameters,
        split=given.get("split") or "common",
        splits=_splits(flags),
        seeds=_positive("seeds", flags.seeds),
        device=flags.device,
        slots=None if flags.slots is None else _positive("slots", flags.slots),
        cpus=flags.cpus_per_trial,
        gpus=_gpus(flags.gpus_per_trial),
        address=flags.address,
        time_budget=_seconds(given.get("time_budget")),
        resume=resume,
        data_given=flags.data is not None,
        tensorboard=given.get("tensorboard", False),
        mlflow=given.get("mlflow"),
    )


def _data(flags: argparse.Namespace) -> "DataRequest":
    from tune_btxrd.data.phantom import PhantomSpec
    from tune_btxrd.data.request import DataRequest

    if flags.data is not None and not flags.data.exists():
        raise DataError(f"The dataset folder must exist, but there is none at {flags.data}: check --data.")
    phantom = {"count": flags.phantom_count, "size": flags.phantom_size}
    if flags.data is not None and any(phantom.values()):
        raise ConfigError("--phantom-count and --phantom-size shape the phantom, but --data names a folder: leave one out.")
    values: dict[str, Any] = {
        "data": flags.data,
        "cache": flags.cache,
        "groups": flags.groups,
        "exclude": flags.exclude,
        "duplicates": flags.duplicates,
        "positive_class": flags.positive_class,
        "seed": getattr(flags, "seed", None),
    }
    return DataRequest(
        phantom=PhantomSpec(**{name: value for name, value in phantom.items() if value is not None}),
        accept_revision=flags.accept_revision,
        layout=flags.layout,
        table_only=flags.table_only and flags.verb == "prepare",
        **{name: value for name, value in values.items() if value is not None},
    )


def _dataset_name(data: "DataRequest") -> str:
    from tune_btxrd.data.readers.registry import safe_name

    return "phantom" if data.data is None else safe_name(data.data.resolve().name)


def _space(flags: argparse.Namespace, data: "DataRequest") -> Path:
    given: Path | None = getattr(flags, "space", None)
    return given or _spaces_folder() / ("phantom.yaml" if data.is_phantom else "btxrd.yaml")


def _spaces_folder() -> Path:
    """`search_spaces` of the checkout, or where an installed package keeps it."""
    checkout = Path(__file__).parents[2] / "search_spaces"
    return checkout if checkout.is_dir() else Path(sys.prefix) / "share" / "tune_btxrd" / "search_spaces"


def _splits(flags: argparse.Namespace) -> tuple[str, ...] | None:
    text = getattr(flags, "splits", None)
    return tuple(part.strip() for part in text.split(",") if part.strip()) if text else None


def _gpus(text: str) -> float | None:
    if text == "auto":
        return None
    try:
        return float(text)
    except ValueError as error:
        raise ConfigError(f"--gpus-per-trial must be `auto` or a number, but got {text!r}.") from error


def _seconds(text: str | None) -> float | None:
    """`90s`, `30min`, `6h` as seconds."""
    if text is None:
        return None
    match = re.fullmatch(r"\s*([0-9.]+)\s*([a-z]*)\s*", text.lower())
    if not match or match[2] not in UNITS:
        raise ConfigError(f"--time-budget must read like 90s, 30min or 6h, but got {text!r}.")
    return float(match[1]) * UNITS[match[2]]


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise ConfigError(f"`{name} >= 1` must hold, but got --{name} {value}.")
    return value


VERBS = {
    "run": _run,
    "submit": _submit,
    "prepare": _prepare,
    "search": _search,
    "retrain": _retrain,
    "train": _train,
    "evaluate": _evaluate,
    "explain": _explain,
    "export": _export,
    "predict": _predict,
    "trial": _trial,
    "space": _space_verb,
    "report": _report,
    "watch": _watch,
    "list": _list,
}
