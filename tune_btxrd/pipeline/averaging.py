"""Averages of a final job: `--ensemble N` and `--soup` as `run`, `retrain` and `train` take them."""

from collections.abc import Sequence
from dataclasses import dataclass

from tune_btxrd.console import heading, progress, tell
from tune_btxrd.errors import ConfigError
from tune_btxrd.files import held_alone
from tune_btxrd.results.checkpoints import RetrainJob
from tune_btxrd.results.member_list import ENSEMBLE, SOUP, Kind
from tune_btxrd.results.search_json import SearchSettings

FEWEST, MOST = 2, 50  # members


@dataclass(frozen=True, kw_only=True)
class Averaging:
    """What is made of several trainings of the winner.

    Attributes:
        seeds: trainings per config, as `--seeds` says; ensemble: members, where an ensemble is wanted; soup: of the seeds.
    """

    seeds: int = 1
    ensemble: int | None = None
    soup: bool = False

    def check(self, folds: int | str | None) -> None:
        """Raises ConfigError for numbers that mean nothing, and for flags that contradict each other or the folds."""
        if self.seeds < 1:
            raise ConfigError(f"`seeds >= 1` must hold, but got --seeds {self.seeds}.")
        if self.ensemble is not None:
            self._check_ensemble(self.ensemble, folds)
        if self.soup and folds is not None:
            raise ConfigError(
                "--soup averages the weights of trainings on the same images, but folds train on different ones, and every "
                "image that could judge the average was trained on by some: leave --soup out, or train on splits."
            )
        if self.soup and self.trainings == 1:
            raise ConfigError(
                "--soup averages the weights of several seeds, but there is one: add --ensemble N or --seeds N."
            )

    def _check_ensemble(self, members: int, folds: int | str | None) -> None:
        if not FEWEST <= members <= MOST:
            raise ConfigError(f"`{FEWEST} <= ensemble <= {MOST}` must hold, but got --ensemble {members}.")
        if isinstance(folds, str):
            raise ConfigError(
                f"--splits {folds} asks of each center what a model says that never saw it, which an ensemble of all has: "
                "leave --ensemble out, or use --folds K."
            )
        if folds is not None and members != folds:
            raise ConfigError(f"An ensemble of folds has all of them, but got --folds {folds} and --ensemble {members}.")
        if self.seeds != 1:
            raise ConfigError("--ensemble N says how many seeds of the winner to train, but got --seeds too: leave one out.")

    @property
    def trainings(self) -> int:
        """Trainings of the winner on each split; folds are trained once each."""
        return max(self.seeds, self.ensemble or 1)

    @property
    def hand_made(self) -> int:
        """Trainings of the hand-made config on each split: an ensemble is the winner's alone."""
        return self.seeds

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What is to be made."""
        return (*([ENSEMBLE] if self.ensemble is not None else []), *([SOUP] if self.soup else []))

    @property
    def words(self) -> list[str]:
        """The flags again."""
        words = [] if self.seeds == 1 else ["--seeds", str(self.seeds)]
        words += [] if self.ensemble is None else ["--ensemble", str(self.ensemble)]
        return [*words, *(["--soup"] if self.soup else [])]


def make_averages(
    jobs: Sequence[RetrainJob], settings: SearchSettings, averaging: Averaging, *, device: str | None = None
) -> None:
    """Makes and judges what is wanted of the seeds; nothing where the final job was on folds, which `folds` sees to.

    Args:
        device: default: as the search ran.

    Raises: as `average_seeds`.
    """
    if not averaging.kinds or jobs[0].is_fold:
        return
    from tune_btxrd.evaluation.seed_averages import average_seeds

    heading(f"Averages: {' and '.join(averaging.kinds)} of {averaging.trainings} seeds, judged on validation")
    if SOUP in averaging.kinds and not (jobs[0].config.pretrained or jobs[0].config.weights):
        tell("note: the seeds began from different random weights, whose mean is seldom a model; see --weights.")
    with held_alone(settings.checkpoints, "averages"), progress("averaged") as advance:
        average_seeds(jobs, averaging.kinds, source=settings.source, device=device or settings.device, progress=advance)
