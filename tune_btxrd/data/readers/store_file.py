"""Store file: a label store as SQLite has it, opened for reading alone; SQLite's errors as one line for the user."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tune_btxrd.errors import DataError, first_line

APPLICATION_ID = 0x54424C53  # "TBLS": `file` and we ourselves know a label store by it
STORE_VERSION = 2  # number of migrations in `labels/schema.py`; a store of a later one is refused
BUSY_SECONDS = 30  # that one process waits for another
HEAD = b"SQLite format 3\x00"
SUFFIXES = (".db", ".sqlite", ".sqlite3")
REASONS = {  # what SQLite answers -> what is wrong and what mends it
    "SQLITE_BUSY": f"is held by another process for over {BUSY_SECONDS} seconds: end it, or try again.",
    "SQLITE_LOCKED": "is locked: end the other process, or try again.",
    "SQLITE_READONLY": "must be writable, but is read-only: change its permissions and those of its folder.",
    "SQLITE_FULL": "cannot grow, for the disk is full: free space and try again; what was saved is not lost.",
    "SQLITE_CANTOPEN": "cannot be opened: its folder must be readable and writable (SQLite keeps a log beside it).",
    "SQLITE_NOTADB": "must be a SQLite file, but is none: make one with `labels init`.",
    "SQLITE_PERM": "may not be opened: change its permissions.",
}
REASONS_WITH_CAUSE = {
    "SQLITE_IOERR": "could not be read or written ({}): check the disk and its free space.",
    "SQLITE_CORRUPT": "is damaged ({}): restore a copy of it.",
}


def is_store(path: Path) -> bool:
    """Whether a path means a label store: a file that is one, or is called as one."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(len(HEAD)) == HEAD or path.suffix.lower() in SUFFIXES
    except OSError:
        return path.suffix.lower() in SUFFIXES  # opening it will say what is wrong


def require_sqlite(path: Path) -> None:
    """Raises: DataError where there is no SQLite file at `path`."""
    if not path.is_file():
        what = "a folder" if path.is_dir() else "nothing"
        raise DataError(f"A label store is a file, but there is {what} at {path}: make one with `labels init`.")
    try:
        with path.open("rb") as file:
            head = file.read(len(HEAD))
    except OSError as error:
        raise DataError(f"The label store {path} must be readable, but: {error.strerror}.") from error
    if head != HEAD:
        raise DataError(f"The label store {path} {REASONS['SQLITE_NOTADB']}")


def open_to_read(path: Path) -> sqlite3.Connection:
    """A connection that cannot write, also to a file in a folder that is read-only.

    Raises:
        DataError: no label store, or one of a newer version.
    """
    require_sqlite(path)
    with told(path):
        connection = sqlite3.connect(
            _read_only_uri(path), uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            check_version(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def check_version(connection: sqlite3.Connection, path: Path) -> int:
    """The version of a store's schema. Raises: DataError for another file, or a newer version."""
    application, version = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
    )
    if application != APPLICATION_ID:
        raise DataError(
            f"A label store must be made by `labels init`, but {path} is another SQLite file: choose another path."
        )
    if version > STORE_VERSION:
        raise DataError(
            f"The label store must be of version {STORE_VERSION} or older, but {path} is of version {version}: "
            "update tune_btxrd."
        )
    return int(version)


@contextmanager
def told(path: Path) -> Iterator[None]:
    """SQLite's errors that are no bugs of ours, as one line. Raises: DataError."""
    try:
        yield
    except sqlite3.Error as error:
        if reason := reason_of(error):
            raise DataError(f"The label store {path} {reason}") from error
        raise


def reason_of(error: sqlite3.Error) -> str:
    """What is wrong and what mends it; empty for a bug of ours."""
    name = str(getattr(error, "sqlite_errorname", None) or "")
    kind = "_".join(name.split("_")[:2])
    if kind in REASONS_WITH_CAUSE:
        return REASONS_WITH_CAUSE[kind].format(first_line(error))
    return REASONS.get(kind, "")


def _read_only_uri(path: Path) -> str:
    """SQLite keeps a log beside a store; where the folder is read-only and there is no log, the file is read as it is."""
    log = path.with_name(f"{path.name}-wal")
    unchanging = not os.access(path.parent, os.W_OK) and not (log.exists() and log.stat().st_size)
    return f"{path.resolve().as_uri()}?mode=ro{'&immutable=1' if unchanging else ''}"
