"""The verbs `search`, `retrain`, `train` and `run`: prepare -> search -> retrain on every split -> export -> summary."""

import dataclasses
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tune_btxrd.config import TrainConfig
from tune_btxrd.console import heading, live_block, progress, say, show, warn
from tune_btxrd.data.split_files import split_stem
from tune_btxrd.errors import ConfigError, ResultError
from tune_btxrd.prepare import (
    DataRequest,
    Prepared,
    check_same_data,
    open_cache,
    prepare,
    read_manifest,
    require_weights_allowed,
    write_prepared,
)
from tune_btxrd.retrain import RetrainJob, draw_curves, plan_jobs, run_jobs
from tune_btxrd.search.cluster import Cluster, connected, login_hint
from tune_btxrd.search.driver import SearchRun, run_search
from tune_btxrd.search.measure import Layout, confirm_epochs, deadline, expected_epochs, measure_layout, minutes
from tune_btxrd.search.parts import Source
from tune_btxrd.search.progress import SearchProgress
from tune_btxrd.search.select import Selection, select
from tune_btxrd.search.space import SearchSpec
from tune_btxrd.search.trials import SearchRecord, read_search
from tune_btxrd.settings import SPACE_FILE, Settings, require_new, results_folder
from tune_btxrd.summary import closing_table, selection_lines, write_summary


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What the command line asked for beside the dataset.

    Attributes:
        space: YAML file; settings, hyperparameters: what flags override in it.
        split: what the search sees; splits: what is retrained (None: what the dataset has).
        seeds: trainings per config and split in the final job.
        slots, cpus, gpus: None: measured, as the layout needs, all of a GPU.
        time_budget: seconds for everything, or None.
    """

    name: str
    storage: Path
    checkpoints: Path
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

    @property
    def folder(self) -> Path:
        """`ray_results/<name>`, absolute."""
        return results_folder(self.storage, self.name).resolve()


def run(request: RunRequest) -> None:
    """The main job. With `resume`, whatever was done before counts, in the final job too."""
    began = time.monotonic()
    with connected(address=request.address, name=request.name) as cluster:
        folder = search(request, cluster)
        jobs = retrain(folder, cluster, seeds=request.seeds, request=request)
    export(folder, jobs)
    finish(folder, jobs, seconds=time.monotonic() - began)


def search(request: RunRequest, cluster: Cluster) -> Path:
    """Starts or resumes the search; returns its results folder."""
    folder = request.folder
    settings = _resumed(request, folder) if request.resume else _begun(request, folder, cluster)
    spec = settings.spec(folder)
    layout = Layout(**{**settings.layout, "tried": tuple(settings.layout["tried"])})
    heading(f"Search {settings.name}: {spec.trials} trials of up to {spec.epochs} epochs, {layout.slots} at a time")
    _say_where_to_watch(cluster, settings, request.storage)
    _say_cost(spec, layout, len(settings.splits), request.seeds)
    reserve = _later_epochs(spec, len(settings.splits), request.seeds) * layout.epoch_seconds / layout.slots
    plan = SearchRun(
        folder=folder,
        source=settings.source,
        split=settings.searched,
        device=settings.device,
        layout=layout,
        deadline=deadline(request.time_budget, reserve=reserve),
    )
    positive = settings.source.class_names[settings.source.positive_class]
    view = SearchProgress(spec, positive_class=positive, slots=layout.slots)
    try:
        with live_block(view.render) as refresh:
            view.refresh = refresh
            record = run_search(spec, plan, cluster, listeners=(view,))
    except KeyboardInterrupt:
        say(f"Interrupted; everything reported is saved. Go on with: {resume_command(request)}")
        raise
    for line in selection_lines(chosen(record, spec, settings), spec):
        say(f"  {line}")
    return folder


def retrain(folder: Path, cluster: Cluster, *, seeds: int, request: RunRequest | None = None) -> list[RetrainJob]:
    """The winner and the hand-made config of a search on every split; a `train` folder's one config alone."""
    settings = Settings.load(folder)
    source = _source(settings, folder, request)
    winner, hand_made = _configs(settings, folder)
    splits = _splits_of(settings, request)
    jobs = plan_jobs(settings.checkpoints, splits, winner, hand_made, seeds=seeds)
    heading(f"Retrain: {len(jobs)} training(s) on {', '.join(splits)}")
    rows: dict[str, int] = {}
    total = sum(job.config.epochs for job in jobs)

    with progress("retrain epochs") as advance:

        def on_epoch(job: RetrainJob, row: dict[str, Any]) -> None:
            rows[job.label] = row["epoch"]
            if row["stop"]:
                say(f"  {job.label}: {row['epoch']} epochs ({row['stop']}), val loss {row['objective']:.4f}")
                rows[job.label] = job.config.epochs
            advance(sum(rows.values()), total)

        layout = settings.layout
        run_jobs(
            jobs,
            source,
            device=settings.device,
            threads=layout["threads"],
            cpus=min(layout["cpus"], cluster.cpus),
            gpus=layout["gpus"] if cluster.gpus else 0,
            on_epoch=on_epoch,
        )
    for job in jobs:
        draw_curves(job)
    return jobs


def train(request: RunRequest, config: TrainConfig) -> None:
    """Verb `train`: one config on the splits, no search."""
    folder = request.folder
    with connected(address=request.address, name=request.name) as cluster:
        if not request.resume:
            _begun(request, folder, cluster, config=config)
        jobs = retrain(folder, cluster, seeds=request.seeds, request=request)
    finish(folder, jobs, seconds=None)


def retrain_only(request: RunRequest) -> None:
    """Verb `retrain NAME`: the final job of a search."""
    with connected(address=request.address, name=request.name) as cluster:
        jobs = retrain(request.folder, cluster, seeds=request.seeds, request=request)
    finish(request.folder, jobs, seconds=None)


def search_only(request: RunRequest) -> None:
    """Verb `search`."""
    with connected(address=request.address, name=request.name) as cluster:
        folder = search(request, cluster)
    say(f"\nResults: {folder}\nNext: tune-btxrd retrain {request.name}{_where(request)}")


def export(folder: Path, jobs: list[RetrainJob]) -> None:
    """Verb `export NAME`, and the end of the main job: portable formats of the winning checkpoint per split, checked."""
    from tune_btxrd.export import export_search

    heading("Export")
    root = jobs[0].root if jobs else Settings.load(folder).checkpoints
    with progress("exported") as advance:
        made = export_search(root, results=folder, progress=advance)
    for item in made:
        differences = ", ".join(f"{name} {value:.1e}" for name, value in item.differences.items())
        say(f"  {item.folder}: largest difference of a logit on {item.images} images: {differences}")


def finish(folder: Path, jobs: list[RetrainJob], *, seconds: float | None) -> None:
    """The closing table and where everything lies."""
    settings = Settings.load(folder)
    record, spec = (read_search(folder), settings.spec(folder)) if settings.kind == "search" else (None, None)
    selection = chosen(record, spec, settings) if record is not None and spec is not None else None
    table, warnings = closing_table(jobs, settings.source)
    write_summary(folder, jobs, settings, selection, warnings)
    say()
    show(table)
    for line in [*(selection_lines(selection, spec) if selection and spec else []), *skipped_lines(settings)]:
        say(line)
    for line in warnings:
        warn(line)
    say(f"\nCheckpoints: {settings.checkpoints}\nResults:     {folder}")
    say(f"Resume:      tune-btxrd run --name {settings.name} --resume        Searches at hand: tune-btxrd list")
    if seconds is not None:
        say(f"Took {minutes(seconds)}.")


def chosen(record: SearchRecord, spec: SearchSpec, settings: Settings) -> Selection:
    """The winner of a search by its selection rule. Raises: ResultError."""
    return select(record, spec, val_share=settings.val_ratio)


def resume_command(request: RunRequest, verb: str = "search") -> str:
    """What to type to go on."""
    return f"python -m tune_btxrd {verb} --name {request.name} --resume{_where(request)}"


def skipped_lines(settings: Settings) -> list[str]:
    """Splits that the dataset cannot have, and what the searched split means for the others."""
    lines = [f"split {name} skipped: {reason}" for name, reason in settings.flags.get("skipped", {}).items()]
    lines += [
        f"{name}: config chosen on {count} images of this test part"
        for name, count in settings.flags["leak"].items()
        if count
    ]
    return lines


def _begun(request: RunRequest, folder: Path, cluster: Cluster, *, config: TrainConfig | None = None) -> Settings:
    """Prepares the data, measures the layout and writes the results folder of a new search."""
    require_new(folder)
    hyperparameters = request.hyperparameters
    require_weights_allowed(
        request.data, pretrained=hyperparameters.get("pretrained"), weights=hyperparameters.get("weights")
    )
    text = request.space.read_text(encoding="utf-8") if request.space.is_file() else ""
    spec = SearchSpec.load(request.space).override(request.settings, hyperparameters)
    probe = config or spec.hand_made
    prepared = prepare(request.data, image_size=probe.image_size, splits=request.splits, searched=request.split)
    write_prepared(prepared, folder, repeats=spec.repeats if spec.confirm and config is None else 0)
    source = prepared.source(folder)
    heading("Measure")
    layout = measure_layout(
        source,
        split_stem(prepared.searched.name),
        probe,
        cluster,
        device=request.device,
        slots=request.slots,
        cpus=request.cpus,
        gpus=request.gpus,
    )
    say(
        f"{cluster.describe()}: {layout.slots} trial(s) at once with {layout.threads} thread(s) each, "
        f"{layout.epoch_seconds:.1f} s per epoch"
    )
    for line in layout.tried if len(layout.tried) > 1 else ():
        say(f"  {line}")
    settings = _settings(request, prepared, source, layout=layout, config=config, image_size=probe.image_size)
    (folder / SPACE_FILE).write_text(text, encoding="utf-8")
    settings.save(folder)
    (folder / "journal.jsonl").touch()
    return settings


def _settings(
    request: RunRequest, prepared: Prepared, source: Source, *, layout: Layout, config: TrainConfig | None, image_size: int
) -> Settings:
    searched, manifest = prepared.searched, prepared.manifest
    seen = {*searched.parts["train"], *searched.parts["val"]}
    return Settings(
        name=request.name,
        kind="train" if config else "search",
        dataset={"name": manifest.dataset, "path": str(manifest.root), "sha256": manifest.sha256, "images": len(manifest)},
        request=dataclasses.replace(request.data, data=request.data.data and request.data.data.resolve()),
        source=source,
        space={"file": str(request.space), "settings": request.settings, "hyperparameters": request.hyperparameters},
        splits={name: split_stem(name) for name in prepared.splits},
        searched=split_stem(searched.name),
        val_ratio=len(searched.parts["val"]) / len(searched.parts["train"]),
        device=request.device,
        image_size=image_size,
        layout=dataclasses.asdict(layout),
        checkpoints=(request.checkpoints / request.name).resolve(),
        flags={
            "skipped": prepared.skipped,
            "leak": {}
            if config
            else {name: len(seen & set(split.parts["test"])) for name, split in prepared.splits.items()},
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
    space = {**settings.space, "settings": {**settings.space["settings"], **request.settings}}
    settings = dataclasses.replace(settings, space=space, source=_source(settings, folder, request))
    settings.save(folder)
    return settings


def _source(settings: Settings, folder: Path, request: RunRequest | None) -> Source:
    """Where pixels lie now: the cache of the search, or one made again (moved results, another machine, a cleared cache)."""
    if Path(settings.source.cache).is_dir() and not (request and request.data_given):
        return settings.source
    asked = settings.request
    if request is not None:
        asked = dataclasses.replace(asked, cache=request.data.cache)
        asked = dataclasses.replace(asked, data=request.data.data) if request.data_given else asked
    manifest = read_manifest(asked)
    check_same_data(manifest, settings.dataset["sha256"])
    return dataclasses.replace(settings.source, cache=str(open_cache(asked, manifest, settings.image_size).path.resolve()))


def _configs(settings: Settings, folder: Path) -> tuple[TrainConfig, TrainConfig | None]:
    if settings.config is not None:
        return TrainConfig.from_dict(settings.config), None
    spec = settings.spec(folder)
    winner = chosen(read_search(folder), spec, settings).winner
    return TrainConfig.from_dict(winner.config), spec.hand_made


def _splits_of(settings: Settings, request: RunRequest | None) -> dict[str, str]:
    if request is None or request.splits is None:
        return settings.splits
    if unknown := [name for name in request.splits if name not in settings.splits]:
        raise ResultError(
            f"A split to retrain must be one of {', '.join(settings.splits)}, but got {unknown[0]!r}: "
            "the search left out those test parts."
        )
    return {name: settings.splits[name] for name in request.splits}


def _later_epochs(spec: SearchSpec, splits: int, seeds: int) -> float:
    return confirm_epochs(spec) + 2 * splits * seeds * spec.epochs * 1.3  # the full splits hold about a third more images


def _say_cost(spec: SearchSpec, layout: Layout, splits: int, seeds: int) -> None:
    rate = layout.epoch_seconds / layout.slots
    searched, later = expected_epochs(spec) * rate, _later_epochs(spec, splits, seeds) * rate
    say(
        f"It will take about {minutes(searched)} here for the search, at most {minutes(later)} for confirmation and retrain "
        f"(measured: {layout.epoch_seconds:.1f} s per epoch and slot; --trials and --time-budget change it)."
    )


def _say_where_to_watch(cluster: Cluster, settings: Settings, storage: Path) -> None:
    if cluster.dashboard_url:
        say(f"Ray dashboard: {cluster.dashboard_url} ({login_hint()}); trials: Jobs > this job > Tasks")
    say(f"Results: {storage / settings.name}; Optuna's study: {storage / settings.name / 'optuna.db'}")


def _where(request: RunRequest) -> str:
    return "" if str(request.storage) == "ray_results" else f" --storage {request.storage}"
