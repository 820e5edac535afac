"""Costs: what an epoch costs at each image size of a search, relative to one at the size of the hand-made config."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tune_btxrd.search.record import TrialRecord
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.training.models.names import is_volume_backbone

PRIOR_EPOCHS = 6.0  # epochs that the cost as it was before the search counts as much as
PRIOR_TRIALS = 4.0  # trials that the mean over all sizes counts as much as


@dataclass(frozen=True)
class Costs:
    """Relative cost of an epoch by image size; 1 at the size of the hand-made config, `base`."""

    by_size: Mapping[int, float]
    base: int

    @property
    def largest(self) -> float:
        """Of the most expensive size."""
        return max(self.by_size.values())

    @property
    def mean(self) -> float:
        """Over all sizes, each counted once."""
        return sum(self.by_size.values()) / len(self.by_size)

    def of(self, trial: TrialRecord) -> float:
        """Of an epoch of this trial."""
        return self.by_size.get(trial.config.get("image_size", self.base), 1.0)

    def proposed(self, trials: Iterable[TrialRecord]) -> float:
        """Expected of a trial that is not proposed yet: the mean over the sizes, and what was proposed so far."""
        known = [self.of(trial) for trial in trials]
        return (PRIOR_TRIALS * self.mean + sum(known)) / (PRIOR_TRIALS + len(known))


def pixel_costs(sizes: Iterable[int], *, base: int, dimensions: int = 2) -> dict[int, float]:
    """Size -> cost of an epoch by the pixels (voxels: 3 `dimensions`) of an image alone."""
    return {size: (size / base) ** dimensions for size in sizes}


def epoch_costs(
    spec: SearchSpec,
    trials: Iterable[TrialRecord] = (),
    *,
    measured: Mapping[int, float] | None = None,
    since: float = 0.0,
) -> Costs:
    """What is known: pixels, the seconds of an epoch per size as measured before the search, those that trials took.

    Args:
        measured: size -> seconds, of every size or of none.
        since: seconds since 1970; epochs before it say nothing of the present machine.
    """
    base, sizes = spec.hand_made.image_size, spec.image_sizes
    if len(sizes) == 1:
        return Costs({base: 1.0}, base)
    prior = pixel_costs(sizes, base=base, dimensions=3 if is_volume_backbone(spec.hand_made.backbone) else 2)
    if measured and set(sizes) <= set(measured):
        prior = {size: measured[size] / measured[base] for size in sizes}
    seconds: dict[int, list[float]] = {size: [] for size in sizes}
    for trial in trials:
        folds = spec.folds_per_trial if trial.role == "search" else 1
        lasted = seconds.get(trial.config.get("image_size", base), [])
        lasted += [(row["train_seconds"] + row["val_seconds"]) / folds for row in trial.epochs if row["time"] >= since]
    work = sum(prior[size] * len(found) for size, found in seconds.items())
    if not (total := sum(map(sum, seconds.values()))):
        return Costs(prior, base)
    unit = total / work  # seconds of an epoch that costs 1, by what was believed before
    seen = {
        size: (sum(found) / unit + PRIOR_EPOCHS * prior[size]) / (len(found) + PRIOR_EPOCHS)
        for size, found in seconds.items()
    }
    return Costs({size: cost / seen[base] for size, cost in seen.items()}, base)
