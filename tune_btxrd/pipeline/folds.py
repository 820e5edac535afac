"""Folds as a result of `retrain`, `train` and `run`: made, planned, and scored once their trainings have ended."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tune_btxrd.config import TrainConfig
from tune_btxrd.console import heading, progress, say, tell, warn
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.request import DataRequest
from tune_btxrd.data.splits.center_folds import left_in, make_center_folds
from tune_btxrd.data.splits.folds import fold_names, make_folds
from tune_btxrd.data.splits.groups import group_numbers
from tune_btxrd.data.splits.split_files import load_split, save_splits, split_stem
from tune_btxrd.errors import ConfigError, ResultError
from tune_btxrd.pipeline.averaging import Averaging
from tune_btxrd.pipeline.centers import check_centers
from tune_btxrd.pipeline.final_job import chosen, plan_final_job
from tune_btxrd.pipeline.place import Place
from tune_btxrd.pipeline.prepare import duplicates_of
from tune_btxrd.pipeline.start import same_manifest
from tune_btxrd.results.checkpoints import FOLD_FILES, RetrainJob, plan_jobs
from tune_btxrd.results.search_json import SearchSettings
from tune_btxrd.training.source import Source

if TYPE_CHECKING:
    from tune_btxrd.evaluation.fold_results import FoldResult


def check_folds(folds: int | str | None, *, splits: Sequence[str] | None, seeds: int, split: str | None = None) -> None:
    """Raises ConfigError for too few or too many folds, and for flags that folds leave without a meaning.

    A search may train on center folds where they are its result too.
    """
    if folds is None:
        return
    said, other = "--folds", split is not None
    if isinstance(folds, str):
        said, other = f"--splits {folds}", split not in (None, folds)
    else:
        fold_names(folds)
    for name, is_said in (("splits", splits is not None), ("split", other), ("seeds", seeds != 1)):
        if is_said:
            raise ConfigError(f"{said} says on which images to train and how often, but got --{name} too: leave one out.")


def planned_jobs(
    settings: SearchSettings, place: Place, *, splits: Sequence[str] | None, averaging: Averaging, folds: int | None
) -> list[RetrainJob]:
    """The trainings of the final job: on folds, or on splits. Raises: as `plan_final_job`."""
    averaging.check(folds)
    if folds is None:
        seeds, hand_made_seeds = averaging.trainings, averaging.hand_made
        return plan_final_job(settings, place.folder, splits=splits, seeds=seeds, hand_made_seeds=hand_made_seeds)
    for name, is_said in (("splits", splits is not None), ("seeds", averaging.seeds != 1)):
        if is_said:  # folds of this command were checked at once; these are the search's
            raise ConfigError(
                f"The final job of {place.name} is on {folds} folds, once each, but got --{name}: leave it out."
            )
    return plan_folds(settings, place, folds)


def score_if_folds(jobs: Sequence[RetrainJob], settings: SearchSettings, place: Place, averaging: Averaging) -> None:
    """The scores of folds, and their ensemble where it is wanted; nothing where the final job was on splits."""
    if not jobs[0].is_fold:
        return
    found = score_place_folds(jobs, settings, place, source=settings.source, request=settings.request)
    if averaging.ensemble is not None:
        from tune_btxrd.evaluation.fold_ensemble import write_fold_ensemble

        folder = write_fold_ensemble(jobs, found.folds)
        say(f"  the folds as one model: {folder}")


def plan_folds(settings: SearchSettings, place: Place, count: int) -> list[RetrainJob]:
    """One training of the winner, or of the one config of verb `train`, per fold.

    Raises:
        ResultError: no winner yet, or another number of folds lies there already.
    """
    names = fold_names(count)
    others = {path.parent.name.rpartition("_")[2] for path in settings.checkpoints.glob(FOLD_FILES)} - {str(count)}
    if others:
        raise ResultError(
            f"{settings.checkpoints} must hold one number of folds, but holds {min(others)}: choose another --checkpoints."
        )
    only = settings.only_config
    config = TrainConfig.from_dict(chosen(place.folder, settings).winner.config) if only is None else only
    splits = {name: split_stem(name) for name in names}
    return plan_jobs(settings.checkpoints, splits, config, None, seeds=1, is_alone=only is not None, is_fold=True)


def make_retrain_folds(
    settings: SearchSettings, place: Place, request: DataRequest, count: int | str
) -> tuple[int, tuple[str, ...]]:
    """Writes the folds of a search beside its splits: of all images that it saw, so that its test parts stay closed.

    Args:
        count: of folds, or CENTER_FOLDS.

    Returns:
        How many folds, and of center folds the center that each leaves out.

    Raises:
        ConfigError, DataError: too many folds for these images. ResultError: a split of that name is another one.
    """
    folder, manifest = place.folder / "splits", same_manifest(settings, request)
    numbers = group_numbers(manifest, duplicates_of(request, manifest), request.kept_together)
    searched = load_split(folder / f"{settings.searched}.csv", manifest)
    ids = (*searched.parts["train"], *searched.parts["val"])
    centers: tuple[str, ...] = ()
    if isinstance(count, str):
        by_center = make_center_folds(manifest, ids, numbers=numbers, flag=f"--splits {count}")
        folds, centers = list(by_center.values()), tuple(by_center)
        if note := left_in(manifest, ids, centers):
            tell(note)
    else:
        folds = make_folds(manifest, ids, numbers=numbers, count=count, seed=request.split_seed)
        if settings.kind == "search":
            check_centers(TrainConfig.from_dict(chosen(place.folder, settings).winner.config), manifest, folds)
    for fold in folds:
        path = folder / f"{split_stem(fold.name)}.csv"
        if path.is_file() and load_split(path, manifest, name=fold.name).parts != fold.parts:
            raise ResultError(
                f"A split is never overwritten, but {path} is another one of the same name: choose another number of folds."
            )
    save_splits(folds, folder, manifest=manifest, numbers=numbers)
    told = f", each without one center ({', '.join(centers)})" if centers else ""
    tell(f"{len(folds)} folds of the {len(ids)} images that the search saw{told}; the test parts stay closed")
    return len(folds), centers


def score_place_folds(
    jobs: Sequence[RetrainJob], settings: SearchSettings, place: Place, *, source: Source, request: DataRequest
) -> "FoldResult":
    """Scores every fold on its own images, and says what all together gave. Raises: as `score_folds`."""
    from tune_btxrd.evaluation.folds import score_folds

    heading(f"Folds: {len(jobs)} trainings, each scored on the images that it did not train on")
    manifest: Manifest = same_manifest(settings, request)
    numbers = group_numbers(manifest, duplicates_of(request, manifest), request.kept_together)
    with progress("scored") as advance:
        found = score_folds(
            jobs,
            results=place.folder,
            manifest=manifest,
            source=source,
            numbers=numbers,
            is_chosen=settings.kind == "search",
            centers=settings.flags.fold_centers,
            device=settings.device,
            progress=advance,
        )
    for line in found.lines(manifest):
        say(f"  {line}")
    say(f"  {found.folder / 'folds.csv'}, folds.png, out_of_fold/")
    for note in found.notes:
        warn(note)
    return found
