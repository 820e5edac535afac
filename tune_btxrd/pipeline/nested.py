"""Nested folds: a search inside each outer fold, whose winner is scored once on the outer part that it never saw."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from tune_btxrd.config import TrainConfig
from tune_btxrd.console import heading, progress, say, tell, warn
from tune_btxrd.data.splits.folds import make_outer
from tune_btxrd.data.splits.groups import group_numbers
from tune_btxrd.data.splits.split_files import load_split, save_splits
from tune_btxrd.distributed.connect import connected
from tune_btxrd.errors import ConfigError, ResultError
from tune_btxrd.files import write_whole
from tune_btxrd.pipeline.centers import check_centers
from tune_btxrd.pipeline.compute import Compute
from tune_btxrd.pipeline.final_job import chosen, run_final_job
from tune_btxrd.pipeline.place import Place
from tune_btxrd.pipeline.prepare import duplicates_of
from tune_btxrd.pipeline.search_job import run_trials
from tune_btxrd.pipeline.site import Trackers, joined, kept
from tune_btxrd.pipeline.start import begin, go_on, same_manifest
from tune_btxrd.results.checkpoints import RetrainJob, plan_jobs
from tune_btxrd.results.search_json import SPACE_FILE, SearchSettings
from tune_btxrd.scoring.csv_tables import to_csv
from tune_btxrd.search.selection.winner import Selection
from tune_btxrd.tasks.record import shown

FOLDER = "nested"  # in `checkpoints/<name>`
WITHOUT_NESTED = "leave out --nested, or use `objective: all_images`"
SHOWN = ("macro_auc", "balanced_accuracy", "macro_f1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class InnerSearch:
    """What came of the search inside an outer fold: its place, the winner, and the winner's training."""

    place: Place
    selection: Selection
    job: RetrainJob


def check_nested(folds: int | str | None, *, nested: bool, resume: bool) -> None:
    """Raises ConfigError for nested folds without folds; what goes on knows its folds itself."""
    if nested and folds is None and not resume:
        raise ConfigError(
            "--nested searches inside each of K outer folds, but --folds K is missing: add it, or --splits center_folds."
        )


def make_outer_splits(settings: SearchSettings, place: Place) -> None:
    """Writes what each inner search sees and the outer part that it does not, beside the folds; once.

    Raises:
        DataError: too few images of a class for that. ResultError: an inner search has no place, or one on other images.
    """
    paths = _outer_paths(settings, place)
    if not all(path.is_file() for path in paths):
        _write_outer_splits(settings, place, paths)
    for path in paths:
        own = _inner_place(settings, place, path)
        if own.exists:
            _require_same_images(own, path)


def _write_outer_splits(settings: SearchSettings, place: Place, paths: Sequence[Path]) -> None:
    manifest, request = same_manifest(settings, settings.request), settings.request
    numbers = group_numbers(manifest, duplicates_of(request, manifest), request.kept_together)
    folds = [load_split(paths[0].parent / f"{stem}.csv", manifest, name=name) for name, stem in settings.splits.items()]
    outer = make_outer(
        manifest, folds, numbers=numbers, seed=request.split_seed, even_centers=bool(settings.flags.fold_centers)
    )
    check_centers(settings.spec(place.folder), manifest, outer, cure=WITHOUT_NESTED)
    save_splits(outer, paths[0].parent, manifest=manifest, numbers=numbers)


def run_nested(settings: SearchSettings, place: Place, *, compute: Compute, trackers: Trackers) -> None:
    """Searches inside every outer fold, or goes on with that, and scores each winner on its outer part.

    Raises: as `search`.
    """
    paths = _outer_paths(settings, place)
    heading(f"Nested: {len(paths)} more searches, one inside each outer fold")
    inner = list[InnerSearch]()
    with connected(address=compute.address, name=place.name):
        for path in paths:
            inner.append(_inner_search(settings, place, path, compute=compute, trackers=trackers))
    folder = settings.checkpoints / FOLDER
    write_whole(folder / "winners.csv", to_csv(_winners(inner)))
    _score(settings, inner, folder)


def _outer_paths(settings: SearchSettings, place: Place) -> list[Path]:
    count = settings.flags.folds
    assert count is not None
    return [place.folder / "splits" / f"outer_{number}_of_{count}.csv" for number in range(1, count + 1)]


def _inner_place(settings: SearchSettings, place: Place, path: Path) -> Place:
    """Where the search on a split file lies: beside the outer one."""
    return dataclasses.replace(place, name=f"{place.name}-{path.stem}", checkpoints=settings.checkpoints.parent)


def _inner_search(
    settings: SearchSettings, place: Place, path: Path, *, compute: Compute, trackers: Trackers
) -> InnerSearch:
    """An ordinary search on its own split file, and its winner trained there."""
    own = _inner_place(settings, place, path)
    heading(f"Outer fold {path.stem.removeprefix('outer_').replace('_of_', '/')}: search {own.name}")
    with kept(own):
        inner = _begun(settings, place, own, path, compute)
        with joined(own, inner, compute) as site:
            inner = run_trials(own, inner, site, compute=compute, trackers=trackers, seeds=1, asked=None)
            assert inner.layout is not None
            selection = chosen(own.folder, inner)
            winner = TrainConfig.from_dict(selection.winner.config)
            jobs = plan_jobs(inner.checkpoints, inner.splits, winner, None, seeds=1)
            run_final_job(jobs, inner.source, site, device=inner.device, layout=inner.layout)
    return InnerSearch(place=own, selection=selection, job=jobs[0])


def _begun(settings: SearchSettings, place: Place, own: Place, path: Path, compute: Compute) -> SearchSettings:
    """The results folder of an inner search, new or one that goes on; as the outer one in all but its images.

    Raises:
        ResultError: a search of that name lies there, on other images.
    """
    space = dataclasses.replace(settings.space, file=place.folder / SPACE_FILE)
    if settings.flags.trial_centers:  # an inner search has one split, with several centers in its validation part
        own_settings = {name: value for name, value in space.settings.items() if name != "folds_per_trial"}
        space = dataclasses.replace(space, settings=own_settings)
    space = dataclasses.replace(space, knowledge=())  # an earlier search may have seen the outer part
    if not own.exists:
        inner = begin(
            own,
            settings.request,
            space,
            split=str(path),
            splits=(str(path),),
            device=settings.device,
            time_budget=settings.flags.search_budget,
            epoch_budget=settings.flags.search_epochs,
        )
        inner = dataclasses.replace(inner, layout=settings.layout)
        inner.save(own.folder)
        return inner
    return go_on(
        own,
        settings.request,
        space,
        split=str(path),
        splits=(str(path),),
        device=compute.device or settings.device,
        time_budget=settings.flags.search_budget,
        epoch_budget=settings.flags.search_epochs,
    )


def _require_same_images(own: Place, path: Path) -> None:
    own.settings()  # brings it from a storage beyond this machine
    there = own.folder / "splits" / path.name
    if not there.is_file() or there.read_bytes() != path.read_bytes():
        raise ResultError(
            f"An inner search goes on with the images of its outer fold, but {own.folder} was made on others: move it away, "
            "or choose another --name."
        )


def _winners(inner: Sequence[InnerSearch]) -> pd.DataFrame:
    """What each inner search chose: winners that differ much say that the choice is luck."""
    rows = []
    for item in inner:
        winner = item.selection.winner
        rows.append({"search": item.place.name, "trial": winner.label, "search_score": winner.score, **winner.params})
    return pd.DataFrame(rows)


def _score(settings: SearchSettings, inner: Sequence[InnerSearch], folder: Path) -> None:
    """Scores the winners, and says both scores beside each other."""
    from tune_btxrd.evaluation.nested import score_nested, write_optimism

    heading(f"Nested: {len(inner)} winners, each scored on the outer part that its search never saw")
    manifest, request = same_manifest(settings, settings.request), settings.request
    numbers = group_numbers(manifest, duplicates_of(request, manifest), request.kept_together)
    with progress("scored") as advance:
        found = score_nested(
            [item.job for item in inner],
            splits=[item.place.folder / "splits" / f"{item.job.stem}.csv" for item in inner],
            folder=folder,
            manifest=manifest,
            source=settings.source,
            numbers=numbers,
            centers=settings.flags.fold_centers,
            device=settings.device,
            progress=advance,
        )
    for line in found.lines(manifest):
        say(f"  {line}")
    table = write_optimism(folder / "folds.csv", settings.checkpoints / "folds.csv").set_index("score")
    for name in (name for name in SHOWN if name in table.index):
        values: list[float] = (
            table.loc[[name], ["nested", "config_chosen_here", "difference"]].to_numpy(dtype=float)[0].tolist()
        )
        own, here, gap = (shown(value, 3) for value in values)
        say(f"  {name}: nested {own}, on the images that the config was chosen on {here} (difference {gap})")
    tell(f"  {folder / 'folds.csv'}, folds.png, out_of_fold/, optimism.csv, winners.csv")
    for note in found.notes:
        warn(note)
