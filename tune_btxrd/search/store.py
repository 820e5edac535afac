"""A running trial's checkpoint: written beside the next epoch, kept while the trial is unfinished, gone afterwards."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tune_btxrd.training.checkpoint import checkpoint_dict, load, save
from tune_btxrd.training.loop import TrainState


class TrialStore:
    """The last complete epoch of one trial, in one file; a thread of its own writes while training goes on.

    Raises:
        ResultError: from `save` and `close`, where an earlier write failed (disk full, folder not writable).
    """

    def __init__(self, path: Path, *, class_names: Sequence[str]) -> None:
        self.path, self.class_names = path, class_names
        self._writer = ThreadPoolExecutor(max_workers=1)
        self._pending: Future[None] | None = None

    def save(self, state: TrainState) -> None:
        """Copies the state now and writes it in the background; waits where the last write has not ended."""
        checkpoint = checkpoint_dict(state, class_names=self.class_names)
        self._wait()
        self._pending = self._writer.submit(save, checkpoint, self.path)

    def load(self) -> dict[str, Any] | None:
        """The checkpoint, or None for a trial that has none yet. Raises: ResultError for a damaged file."""
        return load(self.path) if self.path.exists() else None

    def close(self) -> None:
        """Ends the writing; the file stays, since only the driver knows whether the trial is over."""
        try:
            self._wait()
        finally:
            self._writer.shutdown()

    def _wait(self) -> None:
        if self._pending is not None:
            self._pending.result()
            self._pending = None
