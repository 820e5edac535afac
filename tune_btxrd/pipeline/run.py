"""The verbs `search`, `retrain`, `train` and `run`: prepare -> search -> retrain on every split -> export -> report."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tune_btxrd.config import TrainConfig
from tune_btxrd.console import heading, live_block, say, tell
from tune_btxrd.data.readers.registry import safe_name
from tune_btxrd.data.request import DataRequest
from tune_btxrd.distributed.connect import check_address, login_hint
from tune_btxrd.distributed.driver import SearchRun, run_search
from tune_btxrd.errors import ConfigError
from tune_btxrd.pipeline.compute import Compute, measured
from tune_btxrd.pipeline.final_job import close, require_seeds, run_final_job
from tune_btxrd.pipeline.finished import export_place, report_place
from tune_btxrd.pipeline.folds import check_folds, make_retrain_folds, planned_jobs, score_if_folds
from tune_btxrd.pipeline.live_view import SearchProgress
from tune_btxrd.pipeline.open_search import OpenSearch
from tune_btxrd.pipeline.place import STORAGE, Place
from tune_btxrd.pipeline.score_store import check_score, score_labelled
from tune_btxrd.pipeline.site import Site, Trackers, joined, saved, words_again
from tune_btxrd.pipeline.start import begin, complete_space, go_on, load_spec, pixels, require_mlflow
from tune_btxrd.results.search_json import Layout, SearchSettings, SpaceRequest
from tune_btxrd.results.summary import selection_lines
from tune_btxrd.search.budget import confirm_epochs, deadline, expected_epochs, minutes, spent_seconds
from tune_btxrd.search.columns import watched_column
from tune_btxrd.search.record import read_search
from tune_btxrd.search.selection import select
from tune_btxrd.search.space.spec import SearchSpec


def run(
    data: DataRequest | None = None,
    *,
    space: SpaceRequest | None = None,
    name: str | None = None,
    storage: str = STORAGE,
    checkpoints: Path | None = None,
    split: str | None = None,
    splits: Sequence[str] | None = None,
    folds: int | None = None,
    seeds: int = 1,
    compute: Compute | None = None,
    time_budget: float | None = None,
    trackers: Trackers | None = None,
    resume: bool = False,
    score: bool = True,
    asked: float | None = None,
) -> OpenSearch:
    """The main job: prepares, searches, retrains on every split, exports and reports in one go. With `resume`, whatever
    was done before counts, in the final job too.

    Args:
        folds: instead of splits: the winner on so many folds of all images, which the search sees too.
        seeds: trainings per config and split in the final job; everything else as in `search`.
        score: where the dataset is a label store, its images are scored and ranked at the end.

    Raises: as `search`.
    """
    began, compute, trackers = time.monotonic(), compute or Compute(), trackers or Trackers()
    place = _place(name, data, storage, checkpoints, resume=resume)
    check_folds(folds, splits=splits, seeds=seeds, split=split)
    words = [*words_again(data, compute, trackers), *([] if seeds == 1 else ["--seeds", str(seeds)])]
    again = place.command("run", *words, *([] if score else ["--no-score"]))
    require_seeds(seeds)
    check_score(data, score=score, resume=resume)
    with saved(place, again):
        settings = _started(
            place,
            data,
            space,
            split=split,
            splits=splits,
            compute=compute,
            time_budget=time_budget,
            trackers=trackers,
            resume=resume,
            folds=folds,
        )
        with joined(place, settings, compute) as site:
            settings = _search(place, settings, site, compute=compute, trackers=trackers, seeds=seeds, asked=asked)
            assert settings.layout is not None
            jobs = planned_jobs(settings, place, splits=None, seeds=seeds, folds=settings.flags.folds)
            run_final_job(jobs, settings.source, site, device=settings.device, layout=settings.layout)
        score_if_folds(jobs, settings, place)
        export_place(place, settings, settings.source)
        report_place(place, settings)
        close(place, settings, jobs, resume=again, seconds=time.monotonic() - began)
        if score:
            score_labelled(settings, compute)
    return OpenSearch(place)


def search(
    data: DataRequest | None = None,
    *,
    space: SpaceRequest | None = None,
    name: str | None = None,
    storage: str = STORAGE,
    checkpoints: Path | None = None,
    split: str | None = None,
    splits: Sequence[str] | None = None,
    compute: Compute | None = None,
    time_budget: float | None = None,
    trackers: Trackers | None = None,
    resume: bool = False,
    asked: float | None = None,
) -> OpenSearch:
    """Searches hyperparameters and confirms the best; goes on with a search where `resume` is set.

    Args:
        data: the dataset and how it is read; default: the phantom, or as the search began.
        space: YAML and what overrides it; default: the one shipped for the dataset.
        name: of the search; default: <dataset>-<timestamp>.
        storage: folder of results, or a URI; checkpoints: root of checkpoints.
        split: what the search sees; default: "common", which leaves out every test part of `splits`.
        splits: what is retrained later; default: those that the dataset has.
        compute: how much it may use; time_budget: seconds for everything.
        asked: when the command was given, seconds since 1970; default: now.

    Raises:
        ConfigError, DataError, ResultError: a mistake that the caller can mend, in one line.
        KeyboardInterrupt: interrupted; everything reported is saved.
    """
    compute, trackers = compute or Compute(), trackers or Trackers()
    place = _place(name, data, storage, checkpoints, resume=resume)
    with saved(place, place.command("search", *words_again(data, compute, trackers))):
        settings = _started(
            place,
            data,
            space,
            split=split,
            splits=splits,
            compute=compute,
            time_budget=time_budget,
            trackers=trackers,
            resume=resume,
        )
        with joined(place, settings, compute) as site:
            _search(place, settings, site, compute=compute, trackers=trackers, seeds=1, asked=asked)
    say(f"\nResults: {place.folder}\nNext:    {place.command('retrain', *words_again(data, compute))}")
    return OpenSearch(place)


def retrain(
    name: str,
    *,
    storage: str = STORAGE,
    checkpoints: Path | None = None,
    data: Path | None = None,
    cache: Path | None = None,
    splits: Sequence[str] | None = None,
    folds: int | None = None,
    seeds: int = 1,
    compute: Compute | None = None,
) -> OpenSearch:
    """The final job of a search: its winner and the hand-made config on each split; goes on where it was.

    Args:
        data: where the dataset is now, if it has moved; cache: where decoded images go.
        splits: some of the search's; seeds: trainings per config and split.
        folds: instead: the winner on so many folds of the images that the search saw; its test parts stay closed.
        compute: what is said is measured anew; default: as the search ran.

    Raises: as `search`.
    """
    compute = compute or Compute()
    place = Place(name=name, storage=storage, checkpoints=checkpoints)
    words = [*words_again(DataRequest(data=data, cache=cache), compute)]
    words += [] if seeds == 1 else ["--seeds", str(seeds)]
    words += [] if splits is None else ["--splits", ",".join(splits)]
    words += [] if folds is None else ["--folds", str(folds)]
    check_folds(folds, splits=splits, seeds=seeds)
    again = place.command("retrain", *words)
    with saved(place, again):
        check_address(compute.address)
        settings = place.settings()
        place.require_writable(settings.checkpoints)
        folds = settings.flags.folds if folds is None else folds
        jobs = planned_jobs(settings, place, splits=splits, seeds=seeds, folds=folds)  # before Ray is started
        source, request = pixels(settings, data=data, cache=cache)
        settings = dataclasses.replace(settings, source=source, request=request.complete()).continued()
        settings.save(place.folder)  # later verbs look for pixels and checkpoints there
        if folds is not None and folds != settings.flags.folds:
            make_retrain_folds(settings, place, request, folds)
        with joined(place, settings, compute) as site:
            layout = _layout(settings, compute, site, config=jobs[0].config)
            run_final_job(jobs, source, site, device=compute.device or settings.device, layout=layout)
        score_if_folds(jobs, settings, place)
        close(place, settings, jobs, resume=again, following="report")
    return OpenSearch(place)


def train(
    data: DataRequest | None = None,
    *,
    config: Mapping[str, object] | None = None,
    space: SpaceRequest | None = None,
    name: str | None = None,
    storage: str = STORAGE,
    checkpoints: Path | None = None,
    splits: Sequence[str] | None = None,
    folds: int | None = None,
    seeds: int = 1,
    compute: Compute | None = None,
    resume: bool = False,
    score: bool = True,
) -> OpenSearch:
    """Trains one config on the splits, without a search.

    Args:
        config: hyperparameters that differ from the hand-made config of `space`.
        folds: instead of splits: so many folds of all images; everything else as in `retrain`.
        score: as in `run`.

    Raises: as `search`.
    """
    compute, said = compute or Compute(), config or {}
    place = _place(name, data, storage, checkpoints, resume=resume)
    words = [*words_again(data, compute), *([] if seeds == 1 else ["--seeds", str(seeds)])]
    again = place.command("train", *words, *([] if score else ["--no-score"]))
    require_seeds(seeds)
    check_score(data, score=score, resume=resume)
    check_folds(folds, splits=splits, seeds=seeds)
    with saved(place, again):
        settings = _started_training(
            place,
            data or DataRequest(),
            space or SpaceRequest(),
            said,
            splits=splits,
            compute=compute,
            resume=resume,
            folds=folds,
        )
        jobs = planned_jobs(settings, place, splits=None, seeds=seeds, folds=settings.flags.folds)
        with joined(place, settings, compute) as site:
            layout = _layout(settings, compute, site, config=jobs[0].config)
            settings = dataclasses.replace(settings, layout=layout)
            settings.save(place.folder)
            run_final_job(jobs, settings.source, site, device=settings.device, layout=layout)
        score_if_folds(jobs, settings, place)
        close(place, settings, jobs, resume=again, following="report")
        if score:
            score_labelled(settings, compute)
    return OpenSearch(place)


def _started(
    place: Place,
    data: DataRequest | None,
    space: SpaceRequest | None,
    *,
    split: str | None,
    splits: Sequence[str] | None,
    compute: Compute,
    time_budget: float | None,
    trackers: Trackers,
    resume: bool,
    folds: int | None = None,
) -> SearchSettings:
    """The results folder of a search, new or one that goes on."""
    check_address(compute.address)
    if trackers.mlflow is not None:
        require_mlflow()
    data, space = data or DataRequest(), space or SpaceRequest()
    start = go_on if resume else begin
    return start(
        place,
        data,
        space if resume else complete_space(space, data),
        split=split,
        splits=splits,
        device=compute.device,
        time_budget=time_budget,
        folds=folds,
    )


def _started_training(
    place: Place,
    data: DataRequest,
    space: SpaceRequest,
    said: Mapping[str, object],
    *,
    splits: Sequence[str] | None,
    compute: Compute,
    resume: bool,
    folds: int | None,
) -> SearchSettings:
    """The results folder of verb `train`, new or one that goes on."""
    check_address(compute.address)
    if resume:
        config = {**space.settings, **space.hyperparameters, **said}
        return go_on(place, data, space, splits=splits, device=compute.device, config=config, folds=folds)
    space = complete_space(space, data)
    made = TrainConfig.from_dict({**load_spec(space).hand_made.to_dict(), **said})
    return begin(place, data, space, splits=splits, device=compute.device, config=made, folds=folds)


def _search(
    place: Place,
    settings: SearchSettings,
    site: Site,
    *,
    compute: Compute,
    trackers: Trackers,
    seeds: int,
    asked: float | None,
) -> SearchSettings:
    """Runs the search of a results folder to its end, confirmation included; the settings with the layout it ran in."""
    folder, spec = place.folder, settings.spec(place.folder)
    layout = _layout(settings, compute, site, config=spec.hand_made)
    if layout != settings.layout:
        settings = dataclasses.replace(settings, layout=layout)
        settings.save(folder)
    heading(f"Search {settings.name}: {spec.trials} trials of up to {spec.epochs} epochs, {layout.slots} at a time")
    if site.cluster.dashboard_url:
        tell(f"Ray dashboard: {site.cluster.dashboard_url} ({login_hint()}); trials: Jobs > this job > Tasks")
    tell(f"Results: {folder}; Optuna's study: {folder / 'optuna.db'}")
    later = _later_epochs(spec, len(settings.splits), seeds)
    _say_cost(spec, layout, later)
    past = read_search(folder)
    plan = SearchRun(
        folder=folder,
        source=settings.source,
        split=settings.searched,
        device=settings.device,
        layout=layout,
        remote=site.remote,
        shipment=site.shipment,
        follows_nodes=compute.address is not None and compute.slots is None,
        deadline=deadline(
            settings.flags.time_budget,
            reserve=later * layout.epoch_seconds / layout.slots,
            spent=spent_seconds(past),
        ),
        tensorboard=trackers.tensorboard,
        mlflow=trackers.mlflow,
    )
    view = SearchProgress(
        spec,
        positive_class=settings.positive_class,
        recall=watched_column(settings.source),
        past=past,
        asked=asked or time.time(),
    )
    with live_block(view.render) as refresh:
        view.refresh = refresh
        record = run_search(spec, plan, site.cluster, listeners=(view,))
    for line in selection_lines(select(record, spec, val_share=settings.val_ratio), spec):
        tell(f"  {line}")
    return settings


def _layout(settings: SearchSettings, compute: Compute, site: Site, *, config: TrainConfig) -> Layout:
    return measured(
        settings.layout,
        compute,
        site.cluster,
        source=settings.source,
        split=settings.searched,
        config=config,
        device=compute.device or settings.device,
        shipment=site.shipment,
    )


def _place(name: str | None, data: DataRequest | None, storage: str, checkpoints: Path | None, *, resume: bool) -> Place:
    if resume and name is None:
        raise ConfigError(
            "--resume goes on with a search by name, but --name is missing: `list` shows the searches at hand."
        )
    if name is None:
        folder = data.data if data else None
        dataset = "phantom" if folder is None else safe_name(folder.resolve().name)
        name = f"{dataset}-{time.strftime('%Y%m%d-%H%M%S')}"
    return Place(name=name, storage=storage, checkpoints=checkpoints)


def _later_epochs(spec: SearchSpec, splits: int, seeds: int) -> float:
    return confirm_epochs(spec) + 2 * splits * seeds * spec.epochs * 1.3  # the full splits hold about a third more images


def _say_cost(spec: SearchSpec, layout: Layout, later_epochs: float) -> None:
    rate = layout.epoch_seconds / layout.slots
    searched, later = expected_epochs(spec) * rate, later_epochs * rate
    tell(
        f"It will take about {minutes(searched)} here for the search, at most {minutes(later)} for confirmation and retrain "
        f"(measured: {layout.epoch_seconds:.1f} s per epoch and slot; --trials and --time-budget change it)."
    )
