"""Why a trial or a search failed, in one line: Ray's own words run over a page and name the cause last, first or between."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tune_btxrd.errors import ResultError, first_line

KILLED = "its process was killed (a signal, a crash, or the system out of memory)"
NODE_LOST = "its node was lost"
LOST = (KILLED, NODE_LOST)
CAUSES = (  # (found in Ray's text, the line for the table)
    (
        "running low on memory",
        "out of memory: Ray stopped the process on a node that ran low; fewer --slots, or more memory",
    ),
    ("node has died", NODE_LOST),
    ("node was terminated", NODE_LOST),
    ("local raylet died", NODE_LOST),
    ("worker process has died", KILLED),
    ("died unexpectedly", KILLED),
    ("temporarily unavailable", KILLED),
    ("worker crashed", KILLED),
)
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM)
GPU_MEMORY = re.compile(r"(?:torch\.)?(?:cuda\.)?OutOfMemoryError: (.{0,80})")
STORAGE = re.compile(r"^(?:tune_btxrd\.errors\.)?ResultError: (.*)$")


def failure_reason(trial: Any) -> str:
    """Why Ray's trial failed last; `trial.get_error()` would read a copy that is not there yet."""
    path = trial.error_file
    text = Path(path).read_text(encoding="utf-8", errors="replace") if path and Path(path).exists() else ""
    return reason_in(text)


def reason_in(text: str) -> str:
    """The reason in Ray's error file, which holds one block per failure: of the last one, as one line."""
    last = re.split(r"^Failure # \d+ \(occurred at [^)]*\)$", text, flags=re.MULTILINE)[-1]
    lines = [line.strip() for line in last.splitlines() if line.strip()]
    if not lines:
        return "the trial's process ended without a word"
    if found := GPU_MEMORY.search(last):
        return f"out of GPU memory ({found[1].strip()}): smaller --batch-size or --image-size, or more --gpus-per-trial"
    if lines[-1].startswith("MemoryError"):
        return "out of memory (MemoryError): fewer --slots, or more memory"
    is_own = re.search(r'^\s*File "', last, flags=re.MULTILINE)  # an exception of the trial's code speaks for itself
    causes = [] if is_own else [line for words, line in CAUSES if words in last]
    return causes[0] if causes else lines[-1]


def storage_fault(reason: str) -> str | None:
    """The message of a failure that is the storage's and no trial's: disk full, folder not writable; else None."""
    found = STORAGE.match(reason)
    return found[1] if found else None


@contextmanager
def surroundings(folder: Path) -> Iterator[None]:
    """What a full or broken disk does to Ray and Optuna, as one line; the journal says all the same what was done."""
    from optuna.exceptions import StorageInternalError

    try:
        yield
    except Exception as error:
        for cause in _chain(error):  # Tune wraps what its callbacks raise
            if isinstance(cause, ResultError):
                raise cause from None
            if isinstance(cause, StorageInternalError) or (isinstance(cause, OSError) and cause.errno in DISK_ERRORS):
                reason = getattr(cause, "strerror", None) or first_line(cause.__cause__ or cause)
                raise ResultError(
                    f"The results folder must be writable, but {folder}: {reason}. Free space, then --resume."
                ) from error
        raise


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
