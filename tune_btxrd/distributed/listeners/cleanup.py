"""The checkpoints of a search on the driver's disk: two per unfinished trial, none of a trial that ended."""

from pathlib import Path

from tune_btxrd.search.listener import Listener, Rest
from tune_btxrd.search.record import SearchRecord, TrialRecord

CHECKPOINTS = "trial_checkpoints"  # folder of a search, for resuming
REST = 20  # times as long as looking through the folder took, before the next time: many paused trials have many files


class CheckpointKeeper(Listener):
    """Removes the checkpoints of trials that ended.

    A trial that is stopped may still be writing its last one: what appears again goes at a later event, and at the end.
    """

    def __init__(self, folder: Path, record: SearchRecord) -> None:
        self.folder, self.record, self._rest = folder, record, Rest(REST)
        self.sweep("*")

    def started(self, trial: TrialRecord) -> None:
        """Removes what has appeared again."""
        self._look()

    def ended(self, trial: TrialRecord) -> None:
        """Removes its checkpoints."""
        for path in (self.folder / f"{trial.label}.pt", self.folder / f"{trial.label}.before.pt"):
            path.unlink(missing_ok=True)
        self._look()

    def _look(self) -> None:
        self._rest.after(lambda: self.sweep("*.pt"))

    def sweep(self, pattern: str) -> None:
        """Removes the files of trials that ended; half-written ones (`*`) only while nobody writes."""
        for path in self.folder.glob(pattern):
            trial = self.record.trials.get(path.name.removeprefix(".").split(".")[0])
            if trial is None or trial.has_ended:
                path.unlink(missing_ok=True)
