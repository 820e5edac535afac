"""How a search begins or goes on: what was asked for, checked and written to `search.json` before Ray is started."""

import dataclasses
import importlib.util
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tune_btxrd.config import TrainConfig
from tune_btxrd.console import heading, tell
from tune_btxrd.data.request import DataRequest
from tune_btxrd.data.splits.split_files import split_stem
from tune_btxrd.distributed.connect import Cluster, check_address
from tune_btxrd.distributed.measure import Layout, measure_layout
from tune_btxrd.distributed.remote_storage import RemoteFolder
from tune_btxrd.distributed.shipment import Shipment
from tune_btxrd.distributed.sync import fetch
from tune_btxrd.errors import ConfigError, ResultError
from tune_btxrd.files import write_whole
from tune_btxrd.pipeline.prepare import (
    Prepared,
    check_same_data,
    open_cache,
    prepare,
    read_manifest,
    require_weights_allowed,
    write_prepared,
)
from tune_btxrd.pipeline.together import check_models, tell_notes
from tune_btxrd.results.search_json import SPACE_FILE, Settings, require_new, results_folder
from tune_btxrd.search.journal import FILE as JOURNAL
from tune_btxrd.search.record import SETTINGS_FILE
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.training.source import Source


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What the command line asked for beside the dataset.

    Attributes:
        verb: what was typed.
        storage: folder of results on this machine; remote: URI of the storage that keeps a copy of them.
        space: YAML file; settings, hyperparameters: what flags override in it.
        split: what the search sees; splits: what is retrained (None: what the dataset has).
        seeds: trainings per config and split in the final job.
        slots, cpus, gpus: None: measured, as the layout needs, all of a GPU.
        time_budget: seconds for everything, or None.
        asked: when the command was given, seconds since 1970.
        tensorboard, mlflow: write event files; log to this tracking URI, or None.
    """

    name: str
    verb: str = "run"
    storage: Path
    remote: str | None = None
    checkpoints: Path | None
    data: DataRequest
    space: Path
    settings: dict[str, Any] = field(default_factory=dict)
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    split: str = "common"
    splits: tuple[str, ...] | None = None
    seeds: int = 1
    device: str = "auto"
    slots: int | None = None
    cpus: float | None = None
    gpus: float | None = None
    address: str | None = None
    time_budget: float | None = None
    resume: bool = False
    data_given: bool = False
    asked: float = field(default_factory=time.time)
    tensorboard: bool = False
    mlflow: str | None = None

    @property
    def folder(self) -> Path:
        """`ray_results/<name>`, absolute."""
        return results_folder(self.storage, self.name).resolve()

    @property
    def copy(self) -> RemoteFolder | None:
        """The storage's copy of the results folder, if there is one."""
        return RemoteFolder(self.remote) / self.name if self.remote else None


def begin(request: RunRequest, config: TrainConfig | None = None) -> Settings:
    """Starts a results folder, or opens the one that goes on; without Ray, so that a mistake costs no start.

    Args:
        config: the one config of verb `train`; None for a search.

    Raises:
        ConfigError, DataError, ResultError: the user's mistakes, each in one line, before anything is overwritten.
    """
    check_address(request.address)
    if request.mlflow and importlib.util.find_spec("mlflow") is None:
        raise ConfigError("--mlflow needs MLflow, but it is not installed: pip install mlflow-skinny")
    folder = request.folder
    if request.resume:
        if request.remote:
            bring(request.remote, folder)
        return _resumed(request, folder)
    require_new(folder)
    if request.copy is not None and request.copy.has(SETTINGS_FILE):
        raise ResultError(
            f"Results are never overwritten, but {request.remote} has {request.name!r} already: go on with it "
            f"(--name {request.name} --resume), or choose another --name."
        )
    hyperparameters = request.hyperparameters
    require_weights_allowed(
        request.data, pretrained=hyperparameters.get("pretrained"), weights=hyperparameters.get("weights")
    )
    spec = SearchSpec.load(request.space).override(request.settings, hyperparameters)
    check_models(config or spec)
    size = (config or spec.hand_made).image_size
    prepared = prepare(request.data, image_size=size, splits=request.splits, searched=request.split)
    counts = prepared.searched.counts(prepared.manifest)["train"]
    tell_notes(config or spec, counts, prepared.manifest.class_names)
    write_prepared(prepared, folder, repeats=0 if config else spec.repeats)
    settings = _settings(request, prepared, config=config, image_size=size)
    write_whole(folder / SPACE_FILE, request.space.read_text(encoding="utf-8"))
    (folder / JOURNAL).touch()
    settings.save(folder)  # last: a folder that has it is whole
    return settings


def bring(remote: str, folder: Path) -> None:
    """The results folder here as the storage has it, where it is not here yet, or went on elsewhere since.

    Raises:
        ResultError: two machines went on with the same search, each in its own way.
    """
    copy = RemoteFolder(remote) / folder.name
    fetch(copy, folder)
    journal = folder / JOURNAL
    if not journal.is_file() or not copy.has(JOURNAL):
        return
    with TemporaryDirectory() as aside:
        theirs = Path(aside) / JOURNAL
        copy.get(JOURNAL, theirs)
        here, there = journal.read_bytes(), theirs.read_bytes()
    if not here.startswith(there[: there.rfind(b"\n") + 1]) and not there.startswith(here[: here.rfind(b"\n") + 1]):
        raise ResultError(
            f"A search has one journal, but {journal} and the one in {copy.uri.partition('?')[0]} went on differently: "
            "move one of them away."
        )
    if len(there) > len(here):
        copy.get(JOURNAL, journal)


def measured(settings: Settings, request: RunRequest, cluster: Cluster, shipment: Shipment | None = None) -> Layout:
    """How many trials at once and what an epoch costs: measured once per search, kept in `search.json`.

    A search that goes on where no node holds one of its trials (another machine) is measured again.
    """
    if settings.layout and cluster.room(settings.layout["cpus"], settings.layout["gpus"]):
        return Layout(**{**settings.layout, "tried": tuple(settings.layout["tried"])})
    heading("Measure")
    config = settings.config and TrainConfig.from_dict(settings.config)
    layout = measure_layout(
        settings.source,
        settings.searched,
        config or settings.spec(request.folder).hand_made,
        cluster,
        device=request.device,
        slots=request.slots,
        cpus=request.cpus,
        gpus=request.gpus,
        shipment=shipment,
    )
    no_bf16 = " (this GPU has no bf16)" if (layout.ran_on, layout.precision) == ("cuda", "fp32") else ""
    at_once = f"{layout.slots} trial(s) at once with {layout.threads} thread(s) each"
    tell(f"{cluster.describe()}: {at_once}, {layout.epoch_seconds:.1f} s per epoch")
    for line in layout.tried if len(layout.tried) > 1 else ():
        tell(f"  {line}")
    tell(f"  device {layout.ran_on}, precision {layout.precision}{no_bf16}")
    dataclasses.replace(settings, layout=dataclasses.asdict(layout)).save(request.folder)
    return layout


def _settings(request: RunRequest, prepared: Prepared, *, config: TrainConfig | None, image_size: int) -> Settings:
    searched, manifest = prepared.searched, prepared.manifest
    seen = {*searched.parts["train"], *searched.parts["val"]}
    return Settings(
        name=request.name,
        kind="train" if config else "search",
        dataset={"name": manifest.dataset, "path": str(manifest.root), "sha256": manifest.sha256, "images": len(manifest)},
        request=dataclasses.replace(request.data, data=request.data.data and request.data.data.resolve()),
        source=prepared.source(request.folder),
        space={"file": str(request.space), "settings": request.settings, "hyperparameters": request.hyperparameters},
        splits={name: split_stem(name) for name in prepared.splits},
        searched=split_stem(searched.name),
        val_ratio=len(searched.parts["val"]) / len(searched.parts["train"]),
        device=request.device,
        image_size=image_size,
        layout={},
        checkpoints=((request.checkpoints or Path("checkpoints")) / request.name).resolve(),
        flags={
            "skipped": prepared.skipped,
            "time_budget": request.time_budget,
            "leak": {name: len(seen & set(split.parts["test"])) for name, split in prepared.splits.items() if not config},
        },
        config=config.to_dict() if config else None,
    )


def _resumed(request: RunRequest, folder: Path) -> Settings:
    """The settings of a search that goes on, with more trials where the user says so."""
    settings = Settings.load(folder)
    if settings.kind != "search":
        raise ResultError(
            f"{settings.name} is one training without a search: go on with `train --name {settings.name} --resume`."
        )
    allowed = {"trials", "confirm"}
    if refused := sorted({*request.settings, *request.hyperparameters} - allowed):
        raise ConfigError(
            f"A resumed search keeps its settings, but got --{refused[0].replace('_', '-')}: "
            "only --trials and --confirm may change."
        )
    flags = settings.flags | ({"time_budget": request.time_budget} if request.time_budget else {})
    device = settings.device if request.device == "auto" else request.device
    settings = dataclasses.replace(settings, flags=flags, device=device)
    space = {**settings.space, "settings": {**settings.space["settings"], **request.settings}}
    settings = dataclasses.replace(settings, space=space, source=source_of(settings, request)).moved(request.checkpoints)
    settings.save(folder)
    return settings


def source_of(settings: Settings, request: RunRequest) -> Source:
    """Where pixels lie now: the cache of the search, or one made again (moved results, another machine, a cleared cache).

    Raises:
        DataError: the dataset is gone, or has other ids or labels than the search saw.
    """
    if Path(settings.source.cache).is_dir() and not request.data_given:
        return settings.source
    asked = dataclasses.replace(settings.request, cache=request.data.cache)
    asked = dataclasses.replace(asked, data=request.data.data) if request.data_given else asked
    manifest = read_manifest(asked)
    check_same_data(manifest, settings.dataset["sha256"])
    return dataclasses.replace(settings.source, cache=str(open_cache(asked, manifest, settings.image_size).path.resolve()))
