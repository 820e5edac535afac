"""Journal: everything that happened in a search, one JSON line per event (`events.py`), appended as it happens.

It is the truth from which the study, the rungs, the tables and a resumed search are rebuilt. Ray's own snapshots are late
and hold no rungs; a database can be damaged; a line that was written stays written.
"""

import errno
import json
import math
import os
import time
from collections.abc import Iterator, Set
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tune_btxrd.errors import ResultError, UnwritableError
from tune_btxrd.files import held_alone
from tune_btxrd.search.events import Event

FILE = "journal.jsonl"
DURABLE = ("start", "end")  # survive a power cut at once; epochs of an unfinished trial are in its checkpoint too


class Journal:
    """Appends events to `<folder>/journal.jsonl`; each line is complete before `write` returns.

    What a kill or a power cut left behind the last readable line is removed first.

    Raises:
        ResultError: another session writes it, a line in its middle is damaged, the folder cannot be written, or the disk
            is full.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        with ExitStack() as held:
            try:
                held.enter_context(held_alone(folder, "search"))
                _cut_unreadable_end(self.path)
                self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            except OSError as error:
                raise ResultError(
                    f"The results folder must be writable, but {self.path}: {error.strerror}. Choose another --storage."
                ) from error
            self._held = held.pop_all()

    def write(self, event: str, **content: Any) -> Event:
        """Appends one event with the present time and returns it."""
        record = {"event": event, "time": round(time.time(), 3), **content}
        try:
            line = (json.dumps(record, default=_plain, allow_nan=True) + "\n").encode()
            if os.write(self._file, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if event in DURABLE:
                os.fsync(self._file)
        except OSError as error:
            raise UnwritableError(
                f"The journal must be writable, but {self.path}: {error.strerror}. Free space, then --resume."
            ) from error
        return record

    def close(self) -> None:
        """Makes what was written survive a power cut, and closes the file."""
        os.fsync(self._file)
        os.close(self._file)
        self._held.close()


class JournalReader:
    """Reads a journal that may still grow: each event once, with the number of its line.

    Raises:
        ResultError: there is no journal.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self.offset = 0  # bytes read so far
        self.columns: Set[str] | None = None  # of the epoch that was read last in the present session
        self._lines, self._is_open = 0, False  # the last line's break may still be missing
        if not self.path.is_file():
            raise ResultError(
                f"A search folder holds {FILE}, but {self.path} is missing: `list` shows the searches at hand."
            )

    def new_events(self) -> Iterator[tuple[int, Event]]:
        """What has been appended since the last call; what cannot be read at the end is left for the next call.

        Raises:
            ResultError: a line with readable ones behind it is no JSON object.
        """
        with self.path.open("rb") as file:
            file.seek(self.offset)
            content = file.read()
        if self._is_open and content.startswith(b"\n"):
            content, self.offset = content[1:], self.offset + 1
        for line, event in _readable(content, self.path, first=self._lines + 1):
            self._lines, self.offset, self._is_open = self._lines + 1, self.offset + len(line), not line.endswith(b"\n")
            yield self._lines, event


def read_events(folder: Path) -> Iterator[Event]:
    """The events of a folder in order. What cannot be read at its end (a killed driver, a power cut) is left out.

    Raises:
        ResultError: there is no journal, or a line before the last is no JSON object.
    """
    return (event for _, event in JournalReader(folder).new_events())


def damaged_line(path: Path, line: int, reason: str) -> ResultError:
    """The error for a line that is no event of this search; every beginning of a journal is a journal."""
    other = f"keep the {line - 1} lines before it alone" if line > 1 else "start the search anew"
    return ResultError(
        f"Every line of {path} must be an event of its search, but line {line} {reason}: "
        f"restore the file from a copy, or {other}."
    )


def _readable(content: bytes, path: Path, *, first: int = 1) -> Iterator[tuple[bytes, Event]]:
    """Lines with their events, up to the first one that cannot be read; the last may lack its line break.

    Raises:
        ResultError: a readable line follows it, so that this is no end left by a kill.
    """
    *lines, rest = (line + b"\n" for line in content.split(b"\n"))
    lines += [rest[:-1]] if len(rest) > 1 else []
    events = [_event(line) for line in lines]
    for index, (line, event) in enumerate(zip(lines, events, strict=True)):
        if event is None:
            if any(later is not None for later in events[index:]):
                raise damaged_line(path, first + index, "is no JSON object")
            return
        yield line, event


def _event(line: bytes) -> Event | None:
    """A line's event, or None where it holds no JSON object."""
    try:
        event = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):  # no UTF-8, no JSON, or nested without end
        return None
    return event if isinstance(event, dict) else None


def _cut_unreadable_end(path: Path) -> None:
    """Removes what follows the last readable line and completes that one, so that the next event starts its own."""
    if not path.exists():
        return
    content = path.read_bytes()
    kept = b"".join(line for line, _ in _readable(content, path))
    with path.open("r+b") as file:
        file.truncate(len(kept))
        if kept and not kept.endswith(b"\n"):
            file.seek(0, os.SEEK_END)
            file.write(b"\n")


def _plain(value: Any) -> Any:
    """numpy scalars and paths as JSON."""
    if hasattr(value, "item"):
        number = value.item()
        return number if not isinstance(number, float) or math.isfinite(number) else None
    return str(value)
