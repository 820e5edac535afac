"""The verbs `search`, `retrain`, `train` and `run`: prepare -> search -> retrain on every split -> export -> report."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tune_btxrd.console import say
from tune_btxrd.data.request import DataRequest
from tune_btxrd.distributed.connect import check_address
from tune_btxrd.pipeline.averaging import Averaging, make_averages
from tune_btxrd.pipeline.centers import asked_folds, refuse_center_folds
from tune_btxrd.pipeline.compute import Compute
from tune_btxrd.pipeline.final_job import close, run_final_job, sizes_of
from tune_btxrd.pipeline.finished import export_place, report_place
from tune_btxrd.pipeline.folds import check_folds, make_retrain_folds, planned_jobs, score_if_folds
from tune_btxrd.pipeline.nested import check_nested, make_outer_splits, run_nested
from tune_btxrd.pipeline.open_search import OpenSearch
from tune_btxrd.pipeline.place import STORAGE, Place
from tune_btxrd.pipeline.score_store import check_score, score_labelled
from tune_btxrd.pipeline.search_job import layout_of, place_of, run_trials, started, started_training
from tune_btxrd.pipeline.site import Trackers, joined, saved, words_again
from tune_btxrd.pipeline.start import pixels
from tune_btxrd.results.search_json import SearchSettings, SpaceRequest


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
    nested: bool = False,
    seeds: int = 1,
    ensemble: int | None = None,
    soup: bool = False,
    compute: Compute | None = None,
    time_budget: float | None = None,
    epoch_budget: int | None = None,
    trackers: Trackers | None = None,
    resume: bool = False,
    from_search: Sequence[str] = (),
    score: bool = True,
    asked: float | None = None,
) -> OpenSearch:
    """The main job: prepares, searches, retrains on every split, exports and reports in one go. With `resume`, whatever
    was done before counts, in the final job too.

    Args:
        folds: instead of splits: the winner on so many folds of all images, which the search sees too.
        nested: then also a search inside each fold, whose winner is scored on the outer part that it never saw.
        seeds: trainings per config and split in the final job.
        ensemble: so many seeds of the winner as one model, the hand-made config once; of folds: all of them.
        soup: the weights of the winner's seeds, averaged greedily by validation. Everything else as in `search`.
        score: where the dataset is a label store, its images are scored and ranked at the end.

    Raises: as `search`.
    """
    began, compute, trackers = time.monotonic(), compute or Compute(), trackers or Trackers()
    place = place_of(name, data, storage, checkpoints, resume=resume)
    splits, asked_for = asked_folds(splits, folds)
    averaging = Averaging(seeds=seeds, ensemble=ensemble, soup=soup)
    check_folds(asked_for, splits=splits, seeds=seeds, split=split)
    averaging.check(asked_for)
    check_nested(asked_for, nested=nested, resume=resume)
    words = [*words_again(data, compute, trackers), *averaging.words]
    again = place.command("run", *words, *([] if score else ["--no-score"]))
    check_score(data, score=score, resume=resume)
    with saved(place, again):
        settings = started(
            place,
            data,
            space,
            split=split,
            splits=splits,
            compute=compute,
            time_budget=time_budget,
            epoch_budget=epoch_budget,
            trackers=trackers,
            resume=resume,
            folds=asked_for,
            nested=nested,
            from_search=from_search,
        )
        averaging.check(settings.flags.folds)  # those of a search that goes on
        settings = _run(place, settings, compute=compute, trackers=trackers, averaging=averaging, asked=asked)
        jobs = planned_jobs(settings, place, splits=None, averaging=averaging, folds=settings.flags.folds)
        close(place, settings, jobs, resume=again, seconds=time.monotonic() - began)
        if score:
            score_labelled(settings, compute)
    return OpenSearch(place)


def _run(
    place: Place,
    settings: SearchSettings,
    *,
    compute: Compute,
    trackers: Trackers,
    averaging: Averaging,
    asked: float | None,
) -> SearchSettings:
    """The main job of a results folder that has begun, nested folds included; the settings with the layout it ran in."""
    if settings.flags.nested:
        make_outer_splits(settings, place)  # what cannot be made is told before the first trial
    with joined(place, settings, compute) as site:
        seeds = averaging.trainings
        settings = run_trials(place, settings, site, compute=compute, trackers=trackers, seeds=seeds, asked=asked)
        assert settings.layout is not None
        jobs = planned_jobs(settings, place, splits=None, averaging=averaging, folds=settings.flags.folds)
        run_final_job(jobs, settings.source, site, device=settings.device, layout=settings.layout)
    score_if_folds(jobs, settings, place, averaging)
    make_averages(jobs, settings, averaging)
    if settings.flags.nested:
        run_nested(settings, place, compute=compute, trackers=trackers)
    export_place(place, settings, settings.source)  # model cards and the report tell the scores of folds, nested ones too
    report_place(place, settings)
    return settings


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
    epoch_budget: int | None = None,
    trackers: Trackers | None = None,
    resume: bool = False,
    from_search: Sequence[str] = (),
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
        epoch_budget: epochs of all trials, those of the confirmation included.
        from_search: earlier searches of this storage; the winner of each is a start config and a prior of the first trials.
        asked: when the command was given, seconds since 1970; default: now.

    Raises:
        ConfigError, DataError, ResultError: a mistake that the caller can mend, in one line.
        KeyboardInterrupt: interrupted; everything reported is saved.
    """
    compute, trackers = compute or Compute(), trackers or Trackers()
    refuse_center_folds(splits)
    place = place_of(name, data, storage, checkpoints, resume=resume)
    with saved(place, place.command("search", *words_again(data, compute, trackers))):
        settings = started(
            place,
            data,
            space,
            split=split,
            splits=splits,
            compute=compute,
            time_budget=time_budget,
            epoch_budget=epoch_budget,
            trackers=trackers,
            resume=resume,
            from_search=from_search,
        )
        with joined(place, settings, compute) as site:
            run_trials(place, settings, site, compute=compute, trackers=trackers, seeds=1, asked=asked)
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
    ensemble: int | None = None,
    soup: bool = False,
    compute: Compute | None = None,
) -> OpenSearch:
    """The final job of a search: its winner and the hand-made config on each split; goes on where it was.

    Args:
        data: where the dataset is now, if it has moved; cache: where decoded images go.
        splits: some of the search's; seeds: trainings per config and split; ensemble, soup: as in `run`.
        folds: instead: the winner on so many folds of the images that the search saw; its test parts stay closed.
        compute: what is said is measured anew; default: as the search ran.

    Raises: as `search`.
    """
    compute = compute or Compute()
    place = Place(name=name, storage=storage, checkpoints=checkpoints)
    words = [*words_again(DataRequest(data=data, cache=cache), compute)]
    averaging = Averaging(seeds=seeds, ensemble=ensemble, soup=soup)
    words += averaging.words
    words += [] if splits is None else ["--splits", ",".join(splits)]
    words += [] if folds is None else ["--folds", str(folds)]
    splits, asked_for = asked_folds(splits, folds)
    check_folds(asked_for, splits=splits, seeds=seeds)
    averaging.check(asked_for)
    again = place.command("retrain", *words)
    with saved(place, again):
        check_address(compute.address)
        settings = place.settings()
        place.require_writable(settings.checkpoints)
        if not isinstance(asked_for, str):
            folds = settings.flags.folds if folds is None else folds
            jobs = planned_jobs(settings, place, splits=splits, averaging=averaging, folds=folds)  # before Ray is started
        source, request = pixels(settings, data=data, cache=cache)
        settings = dataclasses.replace(settings, source=source, request=request.complete()).continued()
        settings.save(place.folder)  # later verbs look for pixels and checkpoints there
        if isinstance(asked_for, str):
            folds, centers = make_retrain_folds(settings, place, request, asked_for)
            settings = dataclasses.replace(settings, flags=dataclasses.replace(settings.flags, fold_centers=centers))
            jobs = planned_jobs(settings, place, splits=splits, averaging=averaging, folds=folds)
            settings.save(place.folder)
        elif folds is not None and folds != settings.flags.folds:
            make_retrain_folds(settings, place, request, folds)
        with joined(place, settings, compute) as site:
            layout = layout_of(settings, compute, site, config=jobs[0].config, sizes=sizes_of(jobs))
            run_final_job(jobs, source, site, device=compute.device or settings.device, layout=layout)
        score_if_folds(jobs, settings, place, averaging)
        make_averages(jobs, settings, averaging, device=compute.device)
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
    ensemble: int | None = None,
    soup: bool = False,
    compute: Compute | None = None,
    resume: bool = False,
    score: bool = True,
) -> OpenSearch:
    """Trains one config on the splits, without a search.

    Args:
        config: hyperparameters that differ from the hand-made config of `space`.
        folds: instead of splits: so many folds of all images; everything else as in `retrain`, the averages too.
        score: as in `run`.

    Raises: as `search`.
    """
    compute, said = compute or Compute(), config or {}
    place = place_of(name, data, storage, checkpoints, resume=resume)
    averaging = Averaging(seeds=seeds, ensemble=ensemble, soup=soup)
    words = [*words_again(data, compute), *averaging.words]
    again = place.command("train", *words, *([] if score else ["--no-score"]))
    check_score(data, score=score, resume=resume)
    splits, asked_for = asked_folds(splits, folds)
    check_folds(asked_for, splits=splits, seeds=seeds)
    averaging.check(asked_for)
    with saved(place, again):
        settings = started_training(
            place,
            data or DataRequest(),
            space or SpaceRequest(),
            said,
            splits=splits,
            compute=compute,
            resume=resume,
            folds=asked_for,
        )
        jobs = planned_jobs(settings, place, splits=None, averaging=averaging, folds=settings.flags.folds)
        with joined(place, settings, compute) as site:
            layout = layout_of(settings, compute, site, config=jobs[0].config)
            settings = dataclasses.replace(settings, layout=layout)
            settings.save(place.folder)
            run_final_job(jobs, settings.source, site, device=settings.device, layout=layout)
        score_if_folds(jobs, settings, place, averaging)
        make_averages(jobs, settings, averaging)
        close(place, settings, jobs, resume=again, following="report")
        if score:
            score_labelled(settings, compute)
    return OpenSearch(place)
