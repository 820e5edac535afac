"""Checks of what is judged by center: enough centers with enough images in every validation part, before Ray is started."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tune_btxrd.config import TrainConfig
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.splits.center_folds import CENTER_FOLDS, center_words
from tune_btxrd.data.splits.splits import Split
from tune_btxrd.errors import ConfigError, DataError
from tune_btxrd.monitor import ALL_IMAGES, GAP, WORST, WORST_CENTER
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.tasks.centers import FEWEST_IMAGES, FEWEST_OF_A_CLASS, MEAN_LOSSES, counted

OTHER_SPLIT = (
    f"leave each center out once (verb `run` with --split {CENTER_FOLDS} --splits {CENTER_FOLDS}), use --splits stratified "
    f"where that has them, or `objective: {ALL_IMAGES}`"
)


def asked_folds(splits: Sequence[str] | None, folds: int | None) -> tuple[Sequence[str] | None, int | str | None]:
    """`splits` and `folds`, where `--splits center_folds` stands for folds. Raises: ConfigError where it is not alone."""
    if splits is None or CENTER_FOLDS not in splits:
        return splits, folds
    if len(splits) > 1 or folds is not None:
        raise ConfigError(f"--splits {CENTER_FOLDS} says on which images to train, each center left out once: say it alone.")
    return None, CENTER_FOLDS


def refuse_center_folds(splits: Sequence[str] | None) -> None:
    """Raises ConfigError where verb `search` is asked for a result of the final job."""
    if splits is not None and CENTER_FOLDS in splits:
        raise ConfigError(
            f"--splits {CENTER_FOLDS} is a result of run, train and retrain: use verb `run` with the same flags, or search "
            f"on --split {CENTER_FOLDS} --splits stratified, then retrain NAME --splits {CENTER_FOLDS}."
        )


def check_center_split(split: str | None, spec: SearchSpec) -> None:
    """Raises ConfigError for settings that contradict a search on center folds."""
    if split == CENTER_FOLDS and spec.folds_per_trial > 1:
        raise ConfigError(
            f"--split {CENTER_FOLDS} says on which folds each trial trains, but the space has folds_per_trial: "
            f"{spec.folds_per_trial}: leave one out."
        )


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What asks for values by center: `setting` as a message calls it, and the monitor that is computed."""

    setting: str
    monitor: str

    def centers(self, manifest: Manifest, ids: Sequence[str]) -> dict[str, tuple[int, bool]]:
        """Center -> the number of these images that decides, and whether it is enough.

        Raises:
            DataError: the dataset names no centers.
        """
        if manifest.centers is None:
            raise DataError(
                f"`{self.setting}` needs images of two centers, but the dataset names no centers: give its table a column "
                f"`center`, or use `objective: {ALL_IMAGES}`."
            )
        rows, classes, task = manifest.rows(ids), len(manifest.class_names), manifest.task
        names, own = np.unique(np.array(manifest.centers)[rows], return_inverse=True)
        targets = manifest.targets[rows]
        fine = counted(task, self.monitor, targets, own, count=len(names), classes=classes).tolist()
        parts = [targets[own == index] for index in range(len(names))]
        sizes = [len(part) if self.asks_for_images else task.rarest_count(part, targets, classes) for part in parts]
        return dict(zip(map(str, names), zip(sizes, fine, strict=True), strict=True))

    @property
    def asks_for_images(self) -> bool:
        """Whether any images will do, else images of each class."""
        return self.monitor in MEAN_LOSSES

    def error(self, split: Split, manifest: Manifest, cure: str) -> DataError:
        """That the validation part of a split has too few centers."""
        what = f"{FEWEST_IMAGES} images" if self.asks_for_images else f"{FEWEST_OF_A_CLASS} images of each class"
        counts = {name: count for name, (count, _) in self.centers(manifest, split.parts["val"]).items()}
        return DataError(
            f"`{self.setting}` needs two centers in validation with at least {what} for monitor {self.monitor}, but val of "
            f"split {split.name!r} has {center_words(counts)}{' of the rarest class' * (not self.asks_for_images)}: {cure}."
        )


def demand_of(trained: SearchSpec | TrainConfig) -> Demand | None:
    """What asks for values by center in a search or a config, if anything does."""
    if trained.objective == WORST_CENTER:
        return Demand(setting=f"objective: {WORST_CENTER}", monitor=trained.monitor)
    demands = trained.constraint if isinstance(trained, SearchSpec) else ()
    metric = next((item.metric for item in demands if item.metric in (GAP, WORST)), None)
    return None if metric is None else Demand(setting=f"constraint: {metric}", monitor=trained.monitor)


def check_centers(
    trained: SearchSpec | TrainConfig, manifest: Manifest, splits: Sequence[Split], *, cure: str = OTHER_SPLIT
) -> None:
    """Raises DataError where one of these splits has not two centers that count in its validation part."""
    demand = demand_of(trained)
    for split in splits if demand else ():
        assert demand is not None
        if sum(fine for _, fine in demand.centers(manifest, split.parts["val"]).values()) < 2:
            raise demand.error(split, manifest, cure)


def check_center_trials(spec: SearchSpec, manifest: Manifest, folds: Sequence[Split]) -> None:
    """The same of folds that a trial trains on in step: one center that counts in each, and two in all of them together."""
    demand, found = demand_of(spec), set[str]()
    for fold in folds if demand else ():
        assert demand is not None
        own = {name for name, (_, fine) in demand.centers(manifest, fold.parts["val"]).items() if fine}
        found |= own
        if not own or (fold is folds[-1] and len(found) < 2):
            raise demand.error(fold, manifest, OTHER_SPLIT)
