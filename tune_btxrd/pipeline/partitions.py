"""Partitions that a search makes of the images it sees: fresh ones for its confirmation, folds for its trials."""

from collections.abc import Sequence

from tune_btxrd.console import tell
from tune_btxrd.data.splits.center_folds import CENTER_FOLDS, left_in, make_center_folds
from tune_btxrd.data.splits.folds import make_folds
from tune_btxrd.data.splits.partition_names import confirm_split, trial_folds
from tune_btxrd.data.splits.splits import Split, repartition
from tune_btxrd.errors import DataError
from tune_btxrd.monitor import WORST_CENTER
from tune_btxrd.pipeline.prepare import Prepared
from tune_btxrd.search.space.spec import SearchSpec


def make_repeats(prepared: Prepared, spec: SearchSpec, *, centers: Sequence[Split] = ()) -> list[Split]:
    """Fresh grouped partitions for confirmation, the same for every candidate; where trials train on center folds, these in
    turn, so that a repeat too is judged on a center that it did not train on.

    Args:
        centers: the center folds of trials, if they have any.
    """
    if centers:
        turns = [centers[(repeat - 1) % len(centers)] for repeat in range(1, spec.repeats + 1)]
        return [Split(name=confirm_split(repeat), parts=split.parts) for repeat, split in enumerate(turns, start=1)]
    train, val = (len(prepared.searched.parts[part]) for part in ("train", "val"))
    share, seed = val / (train + val), prepared.request.split_seed
    made = [
        repartition(
            prepared.manifest,
            _seen(prepared),
            numbers=prepared.numbers,
            val_share=share,
            seed=seed + repeat,
            even_centers=spec.objective == WORST_CENTER,
        )
        for repeat in range(1, spec.repeats + 1)
    ]
    return [Split(name=confirm_split(repeat), parts=split.parts) for repeat, split in enumerate(made, start=1)]


def make_trial_folds(prepared: Prepared, spec: SearchSpec) -> list[Split]:
    """The folds that each trial trains on in step; none where a trial has one split.

    Raises:
        DataError: a class that a fold would lack.
    """
    count, seed = spec.folds_per_trial, prepared.request.split_seed
    if count == 1:
        return []
    try:
        even = spec.objective == WORST_CENTER
        made = make_folds(
            prepared.manifest, _seen(prepared), numbers=prepared.numbers, count=count, seed=seed, even_centers=even
        )
    except DataError as error:
        raise DataError(f"`folds_per_trial: {count}` of the search space: {error}") from error
    return [Split(name=name, parts=fold.parts) for name, fold in zip(trial_folds(count), made, strict=True)]


def make_trial_centers(prepared: Prepared) -> dict[str, Split]:
    """Center -> the fold that leaves it out, of the images that the search sees; each trial trains on all of them in step.

    Raises:
        DataError: as `make_center_folds`.
    """
    seen, flag = _seen(prepared), f"--split {CENTER_FOLDS}"
    made = make_center_folds(prepared.manifest, seen, numbers=prepared.numbers, flag=flag)
    tell(f"each trial trains {len(made)} times, each time without one center, of {len(seen)} images: {', '.join(made)}")
    if note := left_in(prepared.manifest, seen, made):
        tell(f"  {note}")
    names = trial_folds(len(made))
    return {center: Split(name=name, parts=fold.parts) for name, (center, fold) in zip(names, made.items(), strict=True)}


def _seen(prepared: Prepared) -> tuple[str, ...]:
    """The images that the search sees."""
    return (*prepared.searched.parts["train"], *prepared.searched.parts["val"])
