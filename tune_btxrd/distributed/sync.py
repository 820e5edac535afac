"""StorageCopy: the storage's copy of a results folder; what changed goes there every few seconds, all of it at the end.

The driver works in a folder of its own machine (SQLite and a growing journal have no place on S3). What another machine
needs to go on is here: settings, space, splits, journal, study, tables. A trial's checkpoint is removed only after the
journal that tells of its end is safe.
"""

import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from tune_btxrd.console import warn
from tune_btxrd.distributed.listeners.cleanup import CHECKPOINTS
from tune_btxrd.distributed.remote_storage import RemoteFolder
from tune_btxrd.errors import ResultError
from tune_btxrd.search.listener import Listener
from tune_btxrd.search.record import SETTINGS_FILE, TrialRecord

FILES = (
    SETTINGS_FILE,
    "space.yaml",
    "audit.json",
    "journal.jsonl",
    "trials.csv",
    "epochs.csv",
    "summary.json",
    "report.html",
)
FOLDERS = ("splits", "figures", "tables")
STUDY = "optuna.db"
SECONDS = 5.0  # between two looks for what changed


class StorageCopy(Listener):
    """Keeps the copy up to date from a thread of its own, until `close`.

    Raises:
        ResultError: from `close`, where the storage cannot be written; before that it is said once, and tried again.
    """

    def __init__(self, folder: Path, remote: RemoteFolder, *, seconds: float = SECONDS) -> None:
        self.folder, self.remote, self.seconds = folder, remote, seconds
        self._sent: dict[str, tuple[int, int]] = {}
        self._over: list[str] = []  # trials whose checkpoints may go
        self._said = False
        self._closing, self._wake = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="storage")
        self._thread.start()

    def ended(self, trial: TrialRecord) -> None:
        """Its checkpoint may go, after the next copy of the journal."""
        self._over.append(trial.label)

    def close(self) -> None:
        """Copies what is left and ends."""
        self._closing.set()
        self._wake.set()
        self._thread.join()
        self.copy()

    def hurry(self) -> None:
        """Has the thread copy now."""
        self._wake.set()

    def copy(self) -> None:
        """Copies what changed since the last time. Raises: ResultError."""
        over, self._over = self._over, []
        try:
            for path in _present(self.folder):
                name, state = path.relative_to(self.folder).as_posix(), path.stat()
                if self._sent.get(name) != (state.st_mtime_ns, state.st_size):
                    _put(path, name, self.remote)
                    self._sent[name] = (state.st_mtime_ns, state.st_size)
            for label in over:
                for file in (f"{label}.pt", f"{label}.before.pt"):
                    self.remote.remove(f"{CHECKPOINTS}/{file}")
        except ResultError:
            self._over = [*over, *self._over]
            raise

    def _run(self) -> None:
        while True:
            self._wake.wait(self.seconds)
            self._wake.clear()
            if self._closing.is_set():
                return
            try:
                self.copy()
                self._said = False
            except ResultError as error:
                if not self._said:
                    warn(str(error))
                self._said = True


def copy_results(folder: Path, remote: RemoteFolder) -> None:
    """Copies all that belongs to a results folder, as it is now. Raises: ResultError."""
    for path in _present(folder):
        _put(path, path.relative_to(folder).as_posix(), remote)


def _present(folder: Path) -> list[Path]:
    files = [folder / name for name in (*FILES, STUDY) if (folder / name).is_file()]
    inner = [path for name in FOLDERS for path in sorted((folder / name).rglob("*")) if path.is_file()]
    return [path for path in (*files, *inner) if not path.name.endswith(".part")]


def _put(path: Path, name: str, remote: RemoteFolder) -> None:
    if name != STUDY:
        remote.put(path, name)
        return
    with TemporaryDirectory() as aside:  # a database is copied between two of its transactions
        copy = Path(aside) / STUDY
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        remote.put(copy, name)


def fetch(remote: RemoteFolder, folder: Path, *, skip: tuple[str, ...] = (f"{CHECKPOINTS}/", "checkpoints/")) -> bool:
    """Brings the storage's copy of a results folder here, where there is none; False where the storage has none either.

    Raises:
        ResultError: the storage cannot be read, or the folder not written.
    """
    if (folder / SETTINGS_FILE).is_file():
        return True
    names = [name for name in remote.names() if not name.startswith(skip)]
    if SETTINGS_FILE not in names:
        return False
    for name in sorted(names, key=lambda name: name == SETTINGS_FILE):  # last: a folder that has it is whole
        if ".." in Path(name).parts:
            raise ResultError(f"A file of a results folder must lie in it, but the storage has {name!r}: remove it there.")
        remote.get(name, folder / name)
    return True


def push(folder: Path, remote: RemoteFolder) -> None:
    """Copies every file of a local folder there that is missing or has another size. Raises: ResultError."""
    there = remote.names()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if (
            path.is_file()
            and not name.endswith(".part")
            and not path.name.startswith(".")
            and there.get(name) != path.stat().st_size
        ):
            remote.put(path, name)


def pull(remote: RemoteFolder, folder: Path) -> None:
    """Copies every file from there that is missing here or has another size. Raises: ResultError."""
    for name, size in remote.names().items():
        path = folder / name
        if ".." not in Path(name).parts and not (path.is_file() and path.stat().st_size == size):
            remote.get(name, path)
