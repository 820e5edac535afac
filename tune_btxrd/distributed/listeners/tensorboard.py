"""A search as TensorBoard event files, `<results>/tensorboard/<trial>/`, with a row of the HPARAMS tab per ended trial.

The driver writes them, and tensorboardX loads torch there: 1.3 s and 500 MB, paid only by `--tensorboard`. Like the
study, the files are made anew from the journal when a session starts.
"""

import math
import shutil
from typing import Any

from tune_btxrd.search.columns import column_of
from tune_btxrd.search.events import EpochRow
from tune_btxrd.search.listener import Listener
from tune_btxrd.search.record import SearchRecord, TrialRecord

FOLDER = "tensorboard"


class EventFiles(Listener):
    """Listener that writes event files; a trial's file is complete when the trial has ended.

    Args:
        record: the search so far; what it holds is written at once.
    """

    def __init__(self, record: SearchRecord) -> None:
        self.folder = record.folder / FOLDER
        self._writers: dict[str, Any] = {}
        shutil.rmtree(self.folder, ignore_errors=True)
        for trial in record.trials.values():
            self.started(trial)
            for row in trial.epochs:
                self._scalars(trial, row)
            if trial.has_ended:
                self.ended(trial)

    def started(self, trial: TrialRecord) -> None:
        """Opens the trial's file."""
        from tensorboardX import SummaryWriter

        if trial.label not in self._writers:
            self._writers[trial.label] = SummaryWriter(str(self.folder / trial.label), flush_secs=10)

    def epoch(self, trial: TrialRecord) -> None:
        """Writes the epoch's numbers, at the time when they were reported."""
        self._scalars(trial, trial.epochs[-1])

    def ended(self, trial: TrialRecord) -> None:
        """Writes the trial's hyperparameters with its best value, and closes its file."""
        from tensorboardX.summary import hparams

        writer = self._writers.pop(trial.label)
        if trial.objective is not None:
            for summary in hparams(dict(trial.params), {"objective": trial.objective}):
                writer.file_writer.add_summary(summary)
        writer.close()

    def close(self) -> None:
        """Closes the files of trials that have not ended."""
        while self._writers:
            self._writers.popitem()[1].close()

    def _scalars(self, trial: TrialRecord, row: EpochRow) -> None:
        for name, value in row.items():
            known = column_of(name)
            if known is not None and name != "epoch" and isinstance(value, int | float) and not math.isnan(value):
                self._writers[trial.label].add_scalar(name, float(value), row["epoch"], walltime=row["time"])
