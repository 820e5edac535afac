"""Files: written whole or not at all, by one process at a time, and their SHA-256."""

import hashlib
import itertools
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from tune_btxrd.errors import ResultError, UnwritableError

PART = ".part"  # how the name of a file that is being written ends
_COUNTER = itertools.count()


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """A free name beside `path`, unique to this process and call, for writing; renamed to `path` when the block ends well.

    The content is flushed to the disk before the renaming: a file that exists is complete, also after a power cut.

    Raises:
        OSError: the folder is not writable or the disk is full; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    name = f".{path.name[:200]}.{os.getpid()}.{next(_COUNTER)}{PART}"
    part = path.with_name(name)
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def encodable(text: str) -> str:
    r"""The text with an escape (`\udcfc`) for each letter that UTF-8 cannot hold: Python reads such from odd file names."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes text (UTF-8, as `encodable`; JSON reads it back as it was) or bytes: the file is whole or what it was before.

    Raises:
        UnwritableError: the folder is not writable or the disk is full.
    """
    try:
        with aside(path) as part:
            part.write_bytes(content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)
    except OSError as error:
        raise UnwritableError(
            f"{path} must be writable, but: {error.strerror or error}. Free space, or choose another folder."
        ) from error


def require_writable(path: Path, cure: str) -> None:
    """Tries to write into a folder, or into the nearest one above it where it is not there yet; leaves nothing behind.

    Called before long work whose results go there.

    Args:
        cure: what a person may do, e.g. "choose another --storage".

    Raises:
        UnwritableError: it is read-only or full, another user's, or a file where a folder is meant.
    """
    try:
        place = next(place for place in (path.absolute(), *path.absolute().parents) if os.path.lexists(place))
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        raise UnwritableError(f"{path} must be writable, but: {error.strerror or error}. Mend it, or {cure}.") from error


def require_writable_file(path: Path, cure: str) -> None:
    """The same for one file, which may be there already. Raises: UnwritableError."""
    if path.is_dir():
        raise UnwritableError(f"{path} must be a file that can be written, but is a folder: {cure}.")
    require_writable(path.parent, cure)


@contextmanager
def held_alone(folder: Path, what: str) -> Iterator[None]:
    """Holds a folder for this process, so that two never write it at once.

    Args:
        what: the work, as a second process is told, e.g. "final job".

    Raises:
        ResultError: another process holds it (the text says which, and since when), or the folder cannot be written.
    """
    lock, note = FileLock(folder / ".lock"), folder / ".lock.holder"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout as error:
        holder = note.read_text(encoding="utf-8") if note.is_file() else "another process"
        raise ResultError(f"One process at a time may write {folder}, but {holder} does: wait for it, or end it.") from error
    except OSError as error:
        reason = error.strerror or error
        raise ResultError(f"{folder} must be writable, but: {reason}. Mend it, or choose another folder.") from error
    try:
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        write_whole(note, f"process {os.getpid()} on {os.uname().nodename} ({what} since {since})")
        yield
    finally:
        with suppress(OSError):  # the folder may have turned read-only: that is told elsewhere
            note.unlink(missing_ok=True)
        lock.release()


def file_sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
