"""A running trial's checkpoint: written beside the next epoch, kept while the trial is unfinished, gone afterwards.

<label>.pt          the last complete epoch
<label>.before.pt   the one before it, used where the last one is damaged
<label>.fold2.pt    of a trial over several folds: the second of them
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from tune_btxrd.config import FIELDS
from tune_btxrd.distributed.remote_storage import RemoteFolder
from tune_btxrd.training.checkpoint import Checkpoint, UnusableError, checkpoint_dict, load, save
from tune_btxrd.training.state import TrainState


class TrialCheckpoint:
    """Store of the last two complete epochs of one training; a thread of its own writes while training goes on.

    Args:
        path: the checkpoint's file. With `remote` it is this node's scratch copy, and the storage's file of the same name
            is what counts, since the training may come from another node.

    Raises:
        ResultError: from `save`, `settle` and `close`, where an earlier write failed (disk full, folder not writable).
    """

    def __init__(self, path: Path, *, class_names: Sequence[str], remote: RemoteFolder | None = None) -> None:
        self.path, self.class_names, self.remote = path, class_names, remote
        self.note = ""  # what a person should know about how the training went on
        self._writer = ThreadPoolExecutor(max_workers=1)
        self._pending: Future[None] | None = None

    def save(self, state: TrainState) -> None:
        """Copies the state now and writes it in the background; waits where the last write has not ended."""
        self.keep(checkpoint_dict(state, class_names=self.class_names))

    def keep(self, checkpoint: Checkpoint) -> None:
        """As `save`, of a checkpoint that nobody changes."""
        self.settle()
        self._pending = self._writer.submit(self._write, checkpoint)

    def settle(self) -> None:
        """Waits until the last write has ended."""
        if self._pending is not None:
            self._pending.result()
            self._pending = None

    def load(self, config: Mapping[str, object]) -> Checkpoint | None:
        """The newest checkpoint of this config that is whole, or None; `note` says what was passed over.

        A checkpoint of another config is left by a search whose journal was lost before the trial began anew.

        Raises:
            ResultError: the storage cannot be read; a file that is merely damaged is passed over.
        """
        damaged = []
        for path in (self.path, before(self.path)):
            if self.remote is not None and not self.remote.get(path.name, path):
                continue
            if not path.exists():
                continue
            try:
                saved = load(path)
            except UnusableError:
                damaged.append(path.name)
                continue
            if _complete(saved["config"]) == dict(config):
                self.note = _note(damaged, saved["epoch"])
                return saved
        self.note = _note(damaged, 0)
        return None

    def close(self) -> None:
        """Ends the writing; what was written stays, since only the driver knows whether the trial is over."""
        try:
            self.settle()
        finally:
            self._writer.shutdown()
            if self.remote is not None:  # the storage has it, and the next attempt may be on another node
                self._unlink()

    def remove(self) -> None:
        """Removes both files, here and in the storage."""
        self._unlink()
        if self.remote is not None:
            self.remote.remove(self.path.name)
            self.remote.remove(before(self.path).name)

    def _unlink(self) -> None:
        self.path.unlink(missing_ok=True)
        before(self.path).unlink(missing_ok=True)

    def _write(self, checkpoint: Checkpoint) -> None:
        if self.path.exists():
            self.path.replace(before(self.path))
        save(checkpoint, self.path)
        if self.remote is not None:
            self.remote.copy(self.path.name, before(self.path).name)
            self.remote.put(self.path, self.path.name)


def before(path: Path) -> Path:
    """Where the checkpoint before the last one lies: `7.before.pt` beside `7.pt`."""
    return path.with_name(f"{path.stem}.before.pt")


def _complete(config: Mapping[str, object]) -> Mapping[str, object]:
    """With the default of every hyperparameter that the version which wrote it did not know."""
    return {**{name: field.default for name, field in FIELDS.items()}, **config}


def _note(damaged: list[str], epoch: int) -> str:
    if not damaged:
        return ""
    went_on = f"went on from epoch {epoch}" if epoch else "began again"
    return f"checkpoint {' and '.join(damaged)} damaged: {went_on}"
