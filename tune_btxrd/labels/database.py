"""Database: one SQLite file, opened with the promises that a label store makes; SQLite's errors as one line for the user."""

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tune_btxrd.errors import DataError, first_line
from tune_btxrd.labels.schema import APPLICATION_ID, MIGRATIONS, VERSION

BUSY_SECONDS = 30  # that a writer waits for another one
HEAD = b"SQLite format 3\x00"
Value = str | int | float | bytes | None
Row = tuple[Any, ...]  # of a query: the caller knows its columns
Values = Sequence[Value] | Mapping[str, Value]


class Database:
    """A label store's file. One connection, which threads of this process share; other processes have their own."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Opens a store and brings it to this version's schema.

        Raises:
            DataError: no such file, no label store, one of a newer version, locked, or not writable.
        """
        self.path, self.read_only = path.resolve(), read_only
        require_store(self.path)
        self._lock = threading.RLock()
        with self.told():
            self._connection = _connect(self.path, read_only=read_only)
            try:
                self._check()
                if not read_only:
                    self._migrate()
            except BaseException:
                self._connection.close()
                raise

    def close(self) -> None:
        """Closes the file; the write-ahead log is merged into it by whoever is last."""
        self._connection.close()

    def rows(self, sql: str, values: Values = ()) -> list[Row]:
        """All rows of a query."""
        with self._lock, self.told():
            return self._connection.execute(sql, values).fetchall()

    def one(self, sql: str, values: Values = ()) -> Row | None:
        """The first row of a query."""
        with self._lock, self.told():
            row: Row | None = self._connection.execute(sql, values).fetchone()
            return row

    def number(self, sql: str, values: Values = ()) -> int:
        """The first cell of a query that counts; 0 where it is NULL or there is none."""
        row = self.one(sql, values)
        return int(row[0] or 0) if row else 0

    def run(self, sql: str, values: Values = ()) -> int:
        """Runs a statement within `writing`; returns the key of the row that was inserted last."""
        return self._connection.execute(sql, values).lastrowid or 0

    def run_many(self, sql: str, rows: Iterator[Row] | Sequence[Row]) -> None:
        """Runs a statement for every row, within `writing`."""
        self._connection.executemany(sql, rows)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction: on disk whole when the block has ended, or not at all.

        Raises:
            DataError: another process holds the file for too long, the disk is full, the file is read-only.
        """
        with self._lock, self.told():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def told(self) -> Iterator[None]:
        """SQLite's errors that are no bugs of ours, as one line. Raises: DataError."""
        try:
            yield
        except sqlite3.Error as error:
            if reason := _reason(error):
                raise DataError(f"The label store {self.path} {reason}") from error
            raise

    def _check(self) -> None:
        execute = self._connection.execute
        application, version = (execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
        if application != APPLICATION_ID:
            raise DataError(
                f"A label store must be made by `labels init`, but {self.path} is another SQLite file: choose another path."
            )
        if version > VERSION:
            raise DataError(
                f"The label store must be of version {VERSION} or older, but {self.path} is of version {version}: "
                "update tune_btxrd."
            )
        if version < VERSION and self.read_only:
            raise DataError(
                f"The label store must be of version {VERSION}, but {self.path} is of version {version} and is only read "
                "here: `labels status` brings it up to date."
            )

    def _migrate(self) -> None:
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version < VERSION:
            migrate(self._connection)


def create(path: Path) -> None:
    """An empty store at `path`. Raises: DataError where something lies there or the folder cannot be written to."""
    path = path.resolve()
    if path.exists():
        raise DataError(f"A new label store needs a free path, but {path} exists: choose another, or use what is there.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(exist_ok=False)
    except OSError as error:
        raise DataError(f"A label store needs a folder that can be written, but {path}: {error.strerror}.") from error
    try:
        connection = _connect(path, read_only=False)
        try:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            migrate(connection)
        finally:
            connection.close()
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, sqlite3.Error) and (reason := _reason(error)):
            raise DataError(f"The label store {path} {reason}") from error
        raise


def migrate(connection: sqlite3.Connection) -> None:
    """Applies what is missing of the migrations, each in one transaction; two processes at once do it once."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
            for statement in statements(script):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def statements(script: str) -> Iterator[str]:
    """The statements of a script; `executescript` would commit after each, and half a migration would stay."""
    lines: list[str] = []
    for line in script.splitlines():
        lines.append(line)
        text = "\n".join(lines)
        if line.rstrip().endswith(";") and sqlite3.complete_statement(text):
            yield text
            lines = []


def require_store(path: Path) -> None:
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
        raise DataError(f"A label store must be a SQLite file, but {path} is none: make one with `labels init`.")


def _connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    mode = "mode=ro" if read_only else "mode=rw"
    connection = sqlite3.connect(
        f"{path.as_uri()}?{mode}", uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA foreign_keys = ON")
    if not read_only:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # an event that was acknowledged survives a power cut
    return connection


def _reason(error: sqlite3.Error) -> str:
    """What is wrong and what mends it; empty for a bug of ours."""
    name = getattr(error, "sqlite_errorname", "") or ""
    told = {
        "SQLITE_BUSY": f"is held by another process for over {BUSY_SECONDS} seconds: end it, or try again.",
        "SQLITE_LOCKED": "is locked: end the other process, or try again.",
        "SQLITE_READONLY": "must be writable, but is read-only: change its permissions or those of its folder.",
        "SQLITE_FULL": "could not be written, for the disk is full: free space and try again; nothing is lost.",
        "SQLITE_IOERR": f"could not be read or written ({first_line(error)}): check the disk and its free space.",
        "SQLITE_CANTOPEN": "cannot be opened: its folder must be readable and writable (SQLite keeps a log beside it).",
        "SQLITE_CORRUPT": f"is damaged ({first_line(error)}): restore a copy of it.",
        "SQLITE_NOTADB": "is no SQLite file: make one with `labels init`.",
        "SQLITE_PERM": "may not be opened: change its permissions.",
    }
    return next((text for start, text in told.items() if name == start or name.startswith(f"{start}_")), "")
