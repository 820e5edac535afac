"""Search job: what the verbs that train have in common: where results lie, how they begin, and the search itself."""

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tune_btxrd.config import TrainConfig
from tune_btxrd.console import heading, live_block, tell
from tune_btxrd.data.readers.registry import safe_name
from tune_btxrd.data.request import DataRequest
from tune_btxrd.distributed.connect import check_address, login_hint
from tune_btxrd.distributed.driver import SearchRun, run_search
from tune_btxrd.errors import ConfigError
from tune_btxrd.pipeline.compute import Compute, measured
from tune_btxrd.pipeline.earlier import require_same_knowledge, with_knowledge
from tune_btxrd.pipeline.live_view import SearchProgress
from tune_btxrd.pipeline.place import Place
from tune_btxrd.pipeline.shipped import task_of_request
from tune_btxrd.pipeline.site import Site, Trackers
from tune_btxrd.pipeline.start import begin, complete_space, go_on, load_spec
from tune_btxrd.results.search_json import Layout, SearchSettings, SpaceRequest
from tune_btxrd.results.summary import selection_lines
from tune_btxrd.search.budget import confirm_epochs, deadline, minutes, spent_seconds
from tune_btxrd.search.columns import watched_column
from tune_btxrd.search.cost import epoch_costs
from tune_btxrd.search.forecast import OVERHEAD, forecast
from tune_btxrd.search.record import read_search
from tune_btxrd.search.selection.confirmation import fitting_size, smallest_total
from tune_btxrd.search.selection.winner import select
from tune_btxrd.search.space.spec import SearchSpec


def started(
    place: Place,
    data: DataRequest | None,
    space: SpaceRequest | None,
    *,
    split: str | None,
    splits: Sequence[str] | None,
    compute: Compute,
    time_budget: float | None,
    epoch_budget: int | None = None,
    trackers: Trackers,
    resume: bool,
    folds: int | str | None = None,
    nested: bool = False,
    from_search: Sequence[str] = (),
) -> SearchSettings:
    """The results folder of a search, new or one that goes on."""
    check_address(compute.address)
    trackers.check()
    data, space = data or DataRequest(), space or SpaceRequest()
    from_search = (from_search,) if isinstance(from_search, str) else from_search
    start = go_on if resume else begin
    if resume:
        require_same_knowledge(from_search, place.settings().space.knowledge)
    else:
        space = complete_space(space, data)
        spec, task = load_spec(space), task_of_request(data)
        space = with_knowledge(space, from_search, place, spec=spec, task=task) if from_search else space
    return start(
        place,
        data,
        space,
        split=split,
        splits=splits,
        device=compute.device,
        time_budget=time_budget,
        epoch_budget=epoch_budget,
        folds=folds,
        nested=nested,
    )


def started_training(
    place: Place,
    data: DataRequest,
    space: SpaceRequest,
    said: Mapping[str, object],
    *,
    splits: Sequence[str] | None,
    compute: Compute,
    resume: bool,
    folds: int | str | None,
) -> SearchSettings:
    """The results folder of verb `train`, new or one that goes on."""
    check_address(compute.address)
    if resume:
        config = {**space.settings, **space.hyperparameters, **said}
        return go_on(place, data, space, splits=splits, device=compute.device, config=config, folds=folds)
    space = complete_space(space, data)
    made = TrainConfig.from_dict({**load_spec(space).hand_made.to_dict(), **said})
    return begin(place, data, space, splits=splits, device=compute.device, config=made, folds=folds)


def run_trials(
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
    layout = layout_of(settings, compute, site, config=spec.hand_made, sizes=spec.image_sizes)
    if layout != settings.layout:
        settings = dataclasses.replace(settings, layout=layout)
        settings.save(folder)
    settings = fitted(settings, folder, seeds=seeds)
    spec = settings.spec(folder)
    folds = f", {spec.judged_by}" if spec.judged_by else ""
    heading(f"Search {settings.name}: {spec.trials} trials of up to {spec.epochs} epochs, {layout.slots} at a time{folds}")
    if site.cluster.dashboard_url:
        tell(f"Ray dashboard: {site.cluster.dashboard_url} ({login_hint()}); trials: Jobs > this job > Tasks")
    tell(f"Results: {folder}; Optuna's study: {folder / 'optuna.db'}")
    later = _later_epochs(spec, len(settings.splits), seeds)
    _say_cost(spec, layout, _retrain_epochs(spec, len(settings.splits), seeds))
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
            settings.flags.search_budget,
            reserve=later * _dearest_epoch(spec, layout) / layout.slots,
            spent=spent_seconds(past),
        ),
        epoch_budget=epochs_of_trials(settings, spec),
        tensorboard=trackers.tensorboard,
        mlflow=trackers.mlflow,
        wandb=trackers.wandb,
    )
    view = SearchProgress(
        spec,
        positive_class=settings.positive_class,
        recall=watched_column(settings.source),
        slots=layout.slots,
        measured=layout.epoch_seconds,
        sizes=layout.by_size,
        past=past,
        asked=asked or time.time(),
        deadline=plan.deadline,
        epoch_budget=plan.epoch_budget,
    )
    with live_block(view.render) as refresh:
        view.refresh = refresh
        record = run_search(spec, plan, site.cluster, listeners=(view,))
    for line in selection_lines(select(record, spec, val_share=settings.val_ratio), spec):
        tell(f"  {line}")
    return settings


def fitted(settings: SearchSettings, folder: Path, *, seeds: int) -> SearchSettings:
    """With a confirmation that takes at most a third of the budget, saved and said; one that has begun stays as it is.

    A search without a budget, or whose `--confirm` the user said, has the confirmation of its space.
    """
    seconds, epochs, spec = settings.flags.search_budget, settings.flags.search_epochs, settings.asked_spec(folder)
    layout = settings.layout
    if (seconds is None and epochs is None) or layout is None or "confirm" in settings.space.settings or not spec.confirm:
        return settings
    if read_search(folder).confirmations:
        return settings
    retrain = _retrain_epochs(spec, len(settings.splits), seeds)
    epoch = _dearest_epoch(spec, layout) / layout.slots
    in_time = math.inf if seconds is None else seconds / epoch - retrain
    size = fitting_size(spec, min(in_time, math.inf if epochs is None else epochs))
    if size.configs:
        told = f"the top {size.configs} and the hand-made config, {size.repeats} times each"
    else:
        least = smallest_total(spec)
        needs = [] if seconds is None else [f"a time budget of {minutes((least + retrain) * epoch)}"]
        needs += [] if epochs is None else [f"an epoch budget of {least:.0f}"]
        told = f"none; it needs {' and '.join(needs)}, or --confirm K to have it all the same"
    tell(f"Confirmation, a third of the {'epochs' if seconds is None else 'time'} at most: {told}")
    sizes = {"confirm": size.configs, "repeats": size.repeats}
    settings = dataclasses.replace(settings, flags=dataclasses.replace(settings.flags, confirmation=sizes))
    settings.save(folder)
    return settings


def layout_of(
    settings: SearchSettings, compute: Compute, site: Site, *, config: TrainConfig, sizes: Sequence[int] = ()
) -> Layout:
    """Trials at once and what each gets, measured where nothing fitting is known.

    Args:
        sizes: every `image_size` that is trained at, where there are several.
    """
    return measured(
        settings.layout,
        compute,
        site.cluster,
        source=settings.source,
        split=settings.searched,
        config=config,
        device=compute.device or settings.device,
        shipment=site.shipment,
        sizes=sizes,
    )


def place_of(name: str | None, data: DataRequest | None, storage: str, checkpoints: Path | None, *, resume: bool) -> Place:
    """Where a verb's results lie; a name is made where none is said. Raises: ConfigError."""
    if resume and name is None:
        raise ConfigError(
            "--resume goes on with a search by name, but --name is missing: `list` shows the searches at hand."
        )
    if name is None:
        folder = data.data if data else None
        dataset = "phantom" if folder is None else safe_name(folder.resolve().name)
        name = f"{dataset}-{time.strftime('%Y%m%d-%H%M%S')}"
    return Place(name=name, storage=storage, checkpoints=checkpoints)


def epochs_of_trials(settings: SearchSettings, spec: SearchSpec) -> int | None:
    """Epochs that search trials may take, so that the confirmation fits in; None without an epoch budget.

    Raises:
        ConfigError: the confirmation alone takes them.
    """
    budget, confirmation = settings.flags.search_epochs, confirm_epochs(spec)
    if budget is not None and budget <= confirmation:
        raise ConfigError(
            f"--epoch-budget must exceed the epochs of the confirmation, but {budget} is not above {confirmation} "
            f"({spec.confirm + 1} configs x {spec.repeats} repeats x {spec.epochs} epochs): raise it, or lower --confirm."
        )
    return None if budget is None else budget - confirmation


def _later_epochs(spec: SearchSpec, splits: int, seeds: int) -> float:
    return confirm_epochs(spec) + _retrain_epochs(spec, splits, seeds)


def _retrain_epochs(spec: SearchSpec, splits: int, seeds: int) -> float:
    return 2 * splits * seeds * spec.epochs * 1.3  # the full splits hold about a third more images


def _dearest_epoch(spec: SearchSpec, layout: Layout) -> float:
    """Seconds of an epoch at the image size that costs most: what nobody knows yet is planned for at this size."""
    return layout.epoch_seconds * epoch_costs(spec, measured=layout.by_size).largest


def _say_cost(spec: SearchSpec, layout: Layout, retrained: float) -> None:
    """The forecast before the first epoch; `retrained`: epochs of the final job, at most."""
    costs, overhead = epoch_costs(spec, measured=layout.by_size), OVERHEAD / layout.slots
    rate, ahead = layout.epoch_seconds * overhead, forecast((), spec, costs=costs)
    at = f" at {costs.base} px" if len(costs.by_size) > 1 else ""
    tell(
        f"It will take about {minutes(ahead.search * rate)} here for the search, {minutes(ahead.confirmation * rate)} for "
        f"confirmation, and at most {minutes(retrained * rate * costs.largest)} for retrain "
        f"(measured: {layout.epoch_seconds:.1f} s per epoch and slot{at}; --trials and --time-budget change it)."
    )
