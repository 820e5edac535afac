"""Classification of failures: the trial's own, the surroundings' (storage, dataset, nodes), or ours; each as one line.

A worker passes every exception through `classified`: a fault of the surroundings leaves it as SurroundingsError, stops the
search and leaves its trials to go on. Anything else is the trial's: retried, then FAILED with its reason.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

from tune_btxrd.errors import DataError, ResultError, TuneBtxrdError, UnwritableError, first_line

KILLED = "its process was killed (a signal, a crash, or the system out of memory)"
NODE_LOST = "its node was lost"
MEMORY_LOW = "out of memory: Ray stopped the process on a node that ran low; fewer --slots, or more memory"
RETRIED = "failed, tried again from its checkpoint"
LOST = (KILLED, NODE_LOST)
CAUSES = (  # (found in Ray's text, the line for the table)
    ("running low on memory", MEMORY_LOW),
    ("node has died", NODE_LOST),
    ("node was terminated", NODE_LOST),
    ("local raylet died", NODE_LOST),
    ("worker process has died", KILLED),
    ("died unexpectedly", KILLED),
    ("temporarily unavailable", KILLED),
    ("worker crashed", KILLED),
)
PLACES = (  # whatever fails in these was read or written, not computed
    "tune_btxrd.data.",
    "tune_btxrd.training.source.",
    "tune_btxrd.training.checkpoint.restore",
    "tune_btxrd.training.device.resolve_device",
    "tune_btxrd.training.models.weights.",
    "tune_btxrd.distributed.remote_storage.",
    "tune_btxrd.distributed.shipment.",
)
BUGS = (AssertionError, AttributeError, NameError, NotImplementedError, TypeError)
GPU_MEMORY = re.compile(r"(?:torch\.)?(?:cuda\.)?OutOfMemoryError: (.{0,80})")
CPU_MEMORY = re.compile(r"DefaultCPUAllocator: can't allocate memory")  # torch's own MemoryError
GPU_LOST = re.compile(  # a device, its driver or its memory fails: whatever config runs there would
    r"no CUDA-capable device|busy or unavailable|uncorrectable|hardware (?:stack|error)|CUDA driver|driver initialization"
    r"|Unable to determine the device|unspecified launch failure|CUDA error: unknown error|NVML"
)
FAULT = re.compile(r"^tune_btxrd\.distributed\.failures\.SurroundingsError: (.*)$")


class SurroundingsError(ResultError):
    """Storage, dataset, a node or Ray failed: no trial is to blame, everything reported is saved, and --resume goes on."""


class Blame(Enum):
    """Whose failure an exception is."""

    TRIAL = "the trial's own: its config does not run here"
    SURROUNDINGS = "storage, dataset, installation or node"
    OURS = "a bug of tune_btxrd"


def blame(error: BaseException) -> Blame:
    """Whose failure an exception is that training or retraining raised in a worker."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return Blame.TRIAL
    if isinstance(error, DataError | ResultError | ImportError) or any(isinstance(item, OSError) for item in _causes(error)):
        return Blame.SURROUNDINGS
    if CPU_MEMORY.search(str(error)):
        return Blame.TRIAL
    if any(place.startswith(PLACES) for place in _places(error)) or "can't start new thread" in str(error):
        return Blame.SURROUNDINGS
    if isinstance(error, RuntimeError) and GPU_LOST.search(str(error)):
        return Blame.SURROUNDINGS
    return Blame.OURS if isinstance(error, BUGS) else Blame.TRIAL


@contextmanager
def classified() -> Iterator[None]:
    """Around all that a worker does: faults of the surroundings leave as SurroundingsError, in one line.

    Raises:
        SurroundingsError: storage, dataset or installation failed; anything else is left as it is.
    """
    try:
        yield
    except Exception as error:
        if blame(error) is Blame.SURROUNDINGS:
            raise as_fault(error) from error
        raise


def as_fault(error: BaseException) -> SurroundingsError:
    """The error in one line: what was found, where, and how to go on."""
    if isinstance(error, SurroundingsError):
        return error
    cause = next((item for item in _causes(error) if isinstance(item, OSError)), None)
    if isinstance(error, TuneBtxrdError):
        text = str(error)
    elif cause is not None:
        place = f"{cause.filename} on {os.uname().nodename}" if cause.filename else os.uname().nodename
        text = f"What a search reads and writes must stay in reach, but {place}: {cause.strerror or first_line(cause)}."
    else:
        found = f"{type(error).__name__} on {os.uname().nodename}: {first_line(error)}"
        text = f"What a search reads must stay as it was, but reading ended with {found}."
    line = " ".join(text.split())
    return SurroundingsError(line if "--resume" in line else f"{line} Mend it, then --resume.")


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
    if lines[-1].startswith("MemoryError") or CPU_MEMORY.search(last):
        return "out of memory (MemoryError): fewer --slots, or more memory"
    is_own = re.search(r'^\s*File "', last, flags=re.MULTILINE)  # an exception of the trial's code speaks for itself
    causes = [] if is_own else [line for words, line in CAUSES if words in last]
    if causes:
        return causes[0]
    is_bug = is_own and lines[-1].partition(":")[0] in {kind.__name__ for kind in BUGS}
    return f"{lines[-1]} ({Blame.OURS.value}: please report it with Ray's error.txt)" if is_bug else lines[-1]


def fault_in(reason: str) -> SurroundingsError | None:
    """The fault of the surroundings that a worker reported as the reason of its failure; else None."""
    found = FAULT.match(reason)
    return SurroundingsError(found[1]) if found else None


@contextmanager
def surroundings(folder: Path) -> Iterator[None]:
    """Around the driver: what a full, broken or lost disk and a lost node do to Ray and Optuna, as one line.

    Raises:
        SurroundingsError: nothing is wrong with a trial, and the journal holds all that was done.
    """
    from optuna.exceptions import StorageInternalError
    from ray.exceptions import RayError, RayTaskError

    try:
        yield
    except Exception as error:
        for cause in chain(error):  # Tune wraps what its callbacks raise
            if isinstance(cause, UnwritableError):
                raise SurroundingsError(str(cause)) from error  # whoever runs the verb adds how to go on
            if isinstance(cause, TuneBtxrdError):
                raise cause from None
            if isinstance(cause, StorageInternalError) or (isinstance(cause, OSError) and cause.errno is not None):
                reason = getattr(cause, "strerror", None) or first_line(cause.__cause__ or cause)
                raise SurroundingsError(
                    f"The results folder must be writable, but {folder}: {reason}. Free space or mend it, then --resume."
                ) from error
            if isinstance(cause, RayError) and not isinstance(cause, RayTaskError):
                raise SurroundingsError(
                    f"Ray must keep its nodes and objects, but: {reason_in(str(cause))}. Everything reported is saved: "
                    "--resume goes on."
                ) from error
        raise


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it was raised from; Tune raises its own error while it handles a callback's."""
    while error is not None:
        yield error
        error = error.__cause__ or (error.__context__ if type(error).__name__ == "TuneError" else None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__


def _places(error: BaseException) -> Iterator[str]:
    """module.function of every call that the error passed."""
    trace = error.__traceback__
    while trace is not None:
        yield f"{trace.tb_frame.f_globals.get('__name__', '')}.{trace.tb_frame.f_code.co_name}"
        trace = trace.tb_next
