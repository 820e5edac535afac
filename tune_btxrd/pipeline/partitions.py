"""Partitions that a search makes of the images it sees: fresh ones for its confirmation, folds for its trials."""

from tune_btxrd.data.splits.folds import make_folds
from tune_btxrd.data.splits.partition_names import confirm_split, trial_folds
from tune_btxrd.data.splits.splits import Split, repartition
from tune_btxrd.errors import DataError
from tune_btxrd.pipeline.prepare import Prepared
from tune_btxrd.search.space.spec import SearchSpec


def make_repeats(prepared: Prepared, spec: SearchSpec) -> list[Split]:
    """Fresh grouped partitions for confirmation, the same for every candidate."""
    train, val = (len(prepared.searched.parts[part]) for part in ("train", "val"))
    share, seed = val / (train + val), prepared.request.split_seed
    made = [
        repartition(prepared.manifest, _seen(prepared), numbers=prepared.numbers, val_share=share, seed=seed + repeat)
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
        made = make_folds(prepared.manifest, _seen(prepared), numbers=prepared.numbers, count=count, seed=seed)
    except DataError as error:
        raise DataError(f"`folds_per_trial: {count}` of the search space: {error}") from error
    return [Split(name=name, parts=fold.parts) for name, fold in zip(trial_folds(count), made, strict=True)]


def _seen(prepared: Prepared) -> tuple[str, ...]:
    """The images that the search sees."""
    return (*prepared.searched.parts["train"], *prepared.searched.parts["val"])
