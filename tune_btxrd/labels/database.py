"""Database: the file of a label store, with the promises that it makes to whoever writes."""

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tune_btxrd.data.readers.store_file import (
    APPLICATION_ID,
    BUSY_SECONDS,
    STORE_VERSION,
    check_version,
    open_to_read,
    require_sqlite,
    told,
)
from tune_btxrd.errors import DataError
from tune_btxrd.labels.schema import MIGRATIONS

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
        self._lock = threading.RLock()
        self._connection = _open_to_read(self.path) if read_only else _open_to_write(self.path)

    def close(self) -> None:
        """Closes the file; the write-ahead log is merged into it by whoever is last."""
        with self._lock:
            self._connection.close()

    def rows(self, sql: str, values: Values = ()) -> list[Row]:
        """All rows of a query."""
        with self._lock, told(self.path):
            return self._connection.execute(sql, values).fetchall()

    def one(self, sql: str, values: Values = ()) -> Row | None:
        """The first row of a query."""
        with self._lock, told(self.path):
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
    def reading(self) -> Iterator[None]:
        """Several queries that all see one state, whatever others write meanwhile."""
        with self._lock, told(self.path):
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._connection.execute("ROLLBACK")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction: on disk whole when the block has ended, or not at all.

        Raises:
            DataError: another process holds the file for too long, the disk is full, the file is read-only.
        """
        with self._lock, told(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise


def create(path: Path) -> None:
    """An empty store at `path`. Raises: DataError where something lies there or the folder cannot be written to."""
    path = path.resolve()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(exist_ok=False)
    except OSError as error:
        if path.exists():
            raise DataError(
                f"A new label store needs a free path, but {path} exists: choose another, or use what is there."
            ) from error
        reason = f"{path.parent} is a file" if path.parent.is_file() else f"{path}: {error.strerror}"
        raise DataError(f"A label store needs a folder that can be written, but {reason}: choose another.") from error
    try:
        with told(path):
            connection = _connect(path)
            try:
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                migrate(connection)
            finally:
                connection.close()
    except BaseException:
        remove(path)
        raise


def remove(path: Path) -> None:
    """Removes a store that was not finished, with the logs that SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)


def migrate(connection: sqlite3.Connection) -> None:
    """Applies what is missing of the migrations, all in one transaction; two processes at once do it once."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        for script in MIGRATIONS[version:]:
            for statement in statements(script):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
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
        if line.endswith(";") and sqlite3.complete_statement(text):
            yield text
            lines = []
    assert not "".join(lines).strip(), f"a statement does not end: {lines}"


def _open_to_read(path: Path) -> sqlite3.Connection:
    """A connection that cannot write; a store of an older version is read as a copy in memory that has been migrated."""
    connection = open_to_read(path)
    with told(path):
        if check_version(connection, path) == STORE_VERSION:
            return connection
        with closing(connection):
            copy = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            connection.backup(copy)
        migrate(copy)
        copy.execute("PRAGMA query_only = ON")
        return copy


def _open_to_write(path: Path) -> sqlite3.Connection:
    require_sqlite(path)
    with told(path):
        connection = _connect(path, check=True)
        try:
            if check_version(connection, path) < STORE_VERSION:
                migrate(connection)
        except BaseException:
            connection.close()
            raise
    return connection


def _connect(path: Path, *, check: bool = False) -> sqlite3.Connection:
    """A connection that writes; `check`: a file that is no store of ours stays as it is, in its own journal mode too."""
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode=rw", uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        if check:
            check_version(connection, path)
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # an event that was acknowledged survives a power cut
    except BaseException:
        connection.close()
        raise
    return connection
