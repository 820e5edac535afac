"""The journal: everything a search lived through, one JSON line per event, appended as it happens.

It is the truth from which the study, the rungs, the tables and a resumed search are rebuilt. Ray's own snapshots are late
and hold no rungs; a database can be damaged; a line that was written stays written.

    {"event": "session", "time": ..., "slots": 2, ...}                                  the driver started or resumed
    {"event": "start", "time": ..., "trial": "7", "number": 7, "role": "search", "config": {...}, "params": {...}, ...}
    {"event": "epoch", "time": ..., "trial": "7", "epoch": 3, "val_loss": ..., ...}
    {"event": "note", "time": ..., "trial": "7", "text": "failed, tried again: ..."}
    {"event": "end", "time": ..., "trial": "7", "state": "pruned", "reason": "..."}
"""

import errno
import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tune_btxrd.errors import ResultError

FILE = "journal.jsonl"
DURABLE = ("start", "end")  # survive a power cut at once; epochs of an unfinished trial are in its checkpoint too


class Journal:
    """Appends events to `<folder>/journal.jsonl`; each line is complete before `write` returns.

    Raises:
        ResultError: another session writes it, the folder cannot be written, or the disk is full.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._lock = FileLock(folder / ".journal.lock")
        try:
            self._lock.acquire(blocking=False)
            _cut_half_line(self.path)
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        except Timeout as error:
            raise ResultError(
                f"One session at a time may write a search, but {folder.name!r} is running already: `watch` shows it."
            ) from error
        except OSError as error:
            raise ResultError(
                f"The results folder must be writable, but {self.path}: {error.strerror}. Choose another --storage."
            ) from error

    def write(self, event: str, **content: Any) -> dict[str, Any]:
        """Appends one event with the present time and returns it."""
        record = {"event": event, "time": round(time.time(), 3), **content}
        try:
            line = (json.dumps(record, default=_plain, allow_nan=True) + "\n").encode()
            if os.write(self._file, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if event in DURABLE:
                os.fsync(self._file)
        except OSError as error:
            raise ResultError(
                f"The journal must be writable, but {self.path}: {error.strerror}. Free space, then --resume."
            ) from error
        return record

    def close(self) -> None:
        """Makes what was written survive a power cut, and closes the file."""
        os.fsync(self._file)
        os.close(self._file)
        self._lock.release()


def read_events(folder: Path) -> Iterator[dict[str, Any]]:
    """The events of a folder in order. A half-written last line (a killed driver) is left out.

    Raises:
        ResultError: there is no journal, or a line before the last is no JSON.
    """
    path = folder / FILE
    if not path.is_file():
        raise ResultError(f"A search folder holds {FILE}, but {path} is missing: `list` shows the searches at hand.")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            event = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                return
            raise ResultError(
                f"Every line of {path} must be JSON, but line {number} is not: restore it, or delete the line."
            ) from error
        yield event


def _cut_half_line(path: Path) -> None:
    """Removes what a killed driver left behind the last complete line, so that the next event starts a line of its own."""
    if not path.exists():
        return
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)


def _plain(value: Any) -> Any:
    """numpy scalars and paths as JSON."""
    if hasattr(value, "item"):
        number = value.item()
        return number if not isinstance(number, float) or math.isfinite(number) else None
    return str(value)
