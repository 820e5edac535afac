"""The verbs `search`, `retrain`, `train` and `run`: prepare -> search -> retrain on every split -> export -> summary."""

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tune_btxrd.config import TrainConfig
from tune_btxrd.console import heading, live_block, progress, say, show, tell, warn
from tune_btxrd.distributed.connect import Cluster, connected, login_hint
from tune_btxrd.distributed.driver import SearchRun, run_search
from tune_btxrd.distributed.interrupts import stoppable
from tune_btxrd.distributed.measure import Layout
from tune_btxrd.distributed.nodes import check_reachable, join_nodes
from tune_btxrd.distributed.remote_storage import RemoteFolder
from tune_btxrd.distributed.retrain import run_jobs
from tune_btxrd.distributed.shipment import Shipment
from tune_btxrd.distributed.sync import copy_results, push
from tune_btxrd.errors import ResultError
from tune_btxrd.monitor import MONITORS
from tune_btxrd.pipeline.live_view import SearchProgress
from tune_btxrd.pipeline.start import RunRequest, begin, bring, measured, source_of
from tune_btxrd.report.training_curves import draw_curves
from tune_btxrd.results.checkpoints import RetrainJob, plan_jobs
from tune_btxrd.results.search_json import Settings
from tune_btxrd.results.summary import closing_table, selection_lines, write_summary
from tune_btxrd.search.budget import confirm_epochs, deadline, expected_epochs, minutes, spent_seconds
from tune_btxrd.search.columns import watched_column
from tune_btxrd.search.record import SETTINGS_FILE, read_search
from tune_btxrd.search.selection import Selection, select
from tune_btxrd.search.space.spec import SearchSpec

CHECKPOINTS = "checkpoints"  # of the final job, in the storage's copy of a results folder


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where a verb's trainings run: the cluster, what its nodes must be brought, and the storage beyond this machine."""

    cluster: Cluster
    shipment: Shipment | None
    remote: RemoteFolder | None


@contextmanager
def joined(request: RunRequest, settings: Settings) -> Iterator[Site]:
    """Ray, started or joined, with every node checked; what is in the results folder at the end goes to the storage."""
    remote = request.copy
    with connected(address=request.address, name=request.name) as cluster:
        if request.address is None and remote is not None:
            check_reachable(remote)
        shared = {"--storage": request.folder, "--checkpoints": settings.checkpoints}
        shipment = join_nodes(cluster, settings.source, shared=shared, remote=remote) if request.address else None
        yield Site(cluster=cluster, shipment=shipment, remote=remote)


def run(request: RunRequest) -> None:
    """The main job. With `resume`, whatever was done before counts, in the final job too."""
    began = time.monotonic()
    with stoppable(lambda: how_to_go_on(request)), copied(request):
        settings = begin(request)
        with joined(request, settings) as site:
            search(request, settings, site)
            jobs = retrain(request, site)
        export(request.folder)
        report(request.folder)
        finish(request.folder, jobs, seconds=time.monotonic() - began)


def search_only(request: RunRequest) -> None:
    """Verb `search`."""
    with stoppable(lambda: how_to_go_on(request)), copied(request):
        settings = begin(request)
        with joined(request, settings) as site:
            search(request, settings, site)
    say(f"\nResults: {request.folder}\nNext: python -m tune_btxrd retrain {request.name}{_where(request)}")


def retrain_only(request: RunRequest) -> None:
    """Verb `retrain NAME`: the final job of a search."""
    with stoppable(lambda: how_to_go_on(request)), copied(request):
        if request.remote:
            bring(request.remote, request.folder)
        settings = Settings.load(request.folder).moved(request.checkpoints)
        chosen(request.folder, settings)  # before Ray is started
        with joined(request, settings) as site:
            jobs = retrain(request, site)
        finish(request.folder, jobs, seconds=None)


def train(request: RunRequest, config: TrainConfig) -> None:
    """Verb `train`: one config on the splits, no search."""
    with stoppable(lambda: how_to_go_on(request)), copied(request):
        if request.resume and request.remote:
            bring(request.remote, request.folder)
        settings = Settings.load(request.folder) if request.resume else begin(request, config)
        with joined(request, settings) as site:
            measured(settings, request, site.cluster, site.shipment)
            jobs = retrain(request, site)
        finish(request.folder, jobs, seconds=None)


def search(request: RunRequest, settings: Settings, site: Site) -> None:
    """Runs or resumes the search of a results folder, confirmation included."""
    folder = request.folder
    spec = settings.spec(folder)
    layout = measured(settings, request, site.cluster, site.shipment)
    heading(f"Search {settings.name}: {spec.trials} trials of up to {spec.epochs} epochs, {layout.slots} at a time")
    _say_where_to_watch(site.cluster, settings, request.storage)
    _say_cost(spec, layout, len(settings.splits), request.seeds)
    reserve = _later_epochs(spec, len(settings.splits), request.seeds) * layout.epoch_seconds / layout.slots
    past = read_search(folder)
    plan = SearchRun(
        folder=folder,
        source=settings.source,
        split=settings.searched,
        device=settings.device,
        layout=layout,
        remote=site.remote,
        shipment=site.shipment,
        follows_nodes=request.address is not None and request.slots is None,
        deadline=deadline(settings.flags.get("time_budget"), reserve=reserve, spent=spent_seconds(past)),
        tensorboard=request.tensorboard,
        mlflow=request.mlflow,
    )
    positive = settings.source.class_names[settings.source.positive_class]
    recall = watched_column(settings.source)
    view = SearchProgress(spec, positive_class=positive, recall=recall, past=past, asked=request.asked)
    with live_block(view.render) as refresh:
        view.refresh = refresh
        record = run_search(spec, plan, site.cluster, listeners=(view,))
    for line in selection_lines(select(record, spec, val_share=settings.val_ratio), spec):
        tell(f"  {line}")


def retrain(request: RunRequest, site: Site) -> list[RetrainJob]:
    """The winner and the hand-made config of a search on every split; a `train` folder's one config alone."""
    settings = Settings.load(request.folder).moved(request.checkpoints)
    if request.checkpoints is not None:
        settings.save(request.folder)  # later verbs look for the checkpoints there
    source = source_of(settings, request)
    winner, hand_made = _configs(settings, request.folder)
    splits = _splits_of(settings, request)
    jobs = plan_jobs(settings.checkpoints, splits, winner, hand_made, seeds=request.seeds)
    heading(f"Retrain: {len(jobs)} training(s) on {', '.join(splits)}")
    total = sum(job.config.epochs for job in jobs)
    with progress("retrain epochs") as advance:
        layout = settings.layout
        run_jobs(
            jobs,
            source,
            device=settings.device,
            threads=layout["threads"],
            cpus=min(layout["cpus"], site.cluster.cpus),
            gpus=layout["gpus"] if site.cluster.gpus else 0,
            on_epoch=_RetrainProgress(lambda done: advance(done, total)),
            remote=site.remote / CHECKPOINTS if site.remote else None,
            shipment=site.shipment,
        )
    for job in jobs:
        draw_curves(job, settings.source)
    return jobs


class _RetrainProgress:
    """Says how each training ends, and what was wrong with its checkpoint."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self.advance = advance
        self.done: dict[str, int] = {}

    def __call__(self, job: RetrainJob, row: dict[str, Any]) -> None:
        if row["note"] and job.label not in self.done:
            say(f"  {job.label}: {row['note']}")
        self.done[job.label] = row["epoch"]
        if row["stop"]:
            shown = MONITORS[job.config.monitor].show(row["objective"])
            tell(f"  {job.label}: {row['epoch']} epochs ({row['stop']}), {shown}")
            self.done[job.label] = job.config.epochs
        self.advance(sum(self.done.values()))


@contextmanager
def copied(request: RunRequest) -> Iterator[None]:
    """At the end, come what may: results and checkpoints go to the storage beyond this machine, where there is one."""
    try:
        yield
    finally:
        if request.copy is not None and (request.folder / SETTINGS_FILE).is_file():
            copy_results(request.folder, request.copy)
            push(Settings.load(request.folder).moved(request.checkpoints).checkpoints, request.copy / CHECKPOINTS)


def export(folder: Path) -> None:
    """Verb `export NAME`, and the end of the main job: portable formats of the winning checkpoint per split, checked."""
    from tune_btxrd.inference.export import export_search

    heading("Export")
    with progress("exported") as advance:
        settings = Settings.load(folder)
        made = export_search(settings.checkpoints, results=folder, source=settings.source, progress=advance)
    for item in made:
        differences = ", ".join(f"{name} {value:.1e}" for name, value in item.differences.items())
        tell(f"  {item.folder}: largest difference of a logit on {item.images} images: {differences}")


def report(folder: Path) -> None:
    """Verb `report NAME`, and part of the main job: one self-contained page, figures and tables."""
    from tune_btxrd.report.page import write_report

    heading("Report")
    with progress("report") as advance:
        page = write_report(folder, progress=advance)
    say(f"  {page}")


def finish(folder: Path, jobs: list[RetrainJob], *, seconds: float | None) -> None:
    """The closing table and where everything lies."""
    settings = Settings.load(folder)
    selection = chosen(folder, settings) if settings.kind == "search" else None
    table, warnings = closing_table(jobs, settings.source)
    write_summary(folder, jobs, settings, selection, warnings)
    say()
    show(table)
    for line in [*(selection_lines(selection, settings.spec(folder)) if selection else []), *skipped_lines(settings)]:
        say(line)
    for line in warnings:
        warn(line)
    say(f"\nCheckpoints: {settings.checkpoints}\nResults:     {folder}")
    verb = "run" if settings.config is None else "train"
    say(f"Resume:      tune-btxrd {verb} --name {settings.name} --resume        Searches at hand: tune-btxrd list")
    if seconds is not None:
        say(f"Took {minutes(seconds)}.")


def chosen(folder: Path, settings: Settings) -> Selection:
    """The winner of a search by its selection rule. Raises: ResultError."""
    return select(read_search(folder), settings.spec(folder), val_share=settings.val_ratio)


def how_to_go_on(request: RunRequest) -> str:
    """What to type after an interruption."""
    if not (request.folder / SETTINGS_FILE).is_file():
        return "Interrupted before the first trial; decoded images are kept. Start it again."
    return f"Interrupted; everything reported is saved. Go on with: {resume_command(request)}"


def resume_command(request: RunRequest) -> str:
    """What to type to go on."""
    if request.verb == "retrain":
        return f"python -m tune_btxrd retrain {request.name}{_where(request)}"
    return f"python -m tune_btxrd {request.verb} --name {request.name} --resume{_where(request)}"


def skipped_lines(settings: Settings) -> list[str]:
    """Splits that the dataset cannot have, and what the searched split means for the others."""
    lines = [f"split {name} skipped: {reason}" for name, reason in settings.flags.get("skipped", {}).items()]
    lines += [
        f"{name}: config chosen on {count} images of this test part"
        for name, count in settings.flags["leak"].items()
        if count
    ]
    return lines


def _configs(settings: Settings, folder: Path) -> tuple[TrainConfig, TrainConfig | None]:
    if settings.config is not None:
        return TrainConfig.from_dict(settings.config), None
    winner = chosen(folder, settings).winner
    return TrainConfig.from_dict(winner.config), settings.spec(folder).hand_made


def _splits_of(settings: Settings, request: RunRequest) -> dict[str, str]:
    if request.splits is None:
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
    tell(
        f"It will take about {minutes(searched)} here for the search, at most {minutes(later)} for confirmation and retrain "
        f"(measured: {layout.epoch_seconds:.1f} s per epoch and slot; --trials and --time-budget change it)."
    )


def _say_where_to_watch(cluster: Cluster, settings: Settings, storage: Path) -> None:
    if cluster.dashboard_url:
        tell(f"Ray dashboard: {cluster.dashboard_url} ({login_hint()}); trials: Jobs > this job > Tasks")
    tell(f"Results: {storage / settings.name}; Optuna's study: {storage / settings.name / 'optuna.db'}")


def _where(request: RunRequest) -> str:
    storage = request.remote or str(request.storage)
    flags = {"storage": None if storage == "ray_results" else storage, "address": request.address}
    return "".join(f" --{name} {shlex.quote(value)}" for name, value in flags.items() if value)
