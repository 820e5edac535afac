"""Ray's pages about a failure as one line for the table, and which failures are no trial's own."""

import errno
from pathlib import Path

import pytest

from tune_btxrd.distributed.failures import (
    KILLED,
    NODE_LOST,
    Blame,
    SurroundingsError,
    blame,
    classified,
    fault_in,
    reason_in,
    surroundings,
)
from tune_btxrd.distributed.interrupts import stoppable
from tune_btxrd.errors import ConfigError, DataError, ResultError
from tune_btxrd.files import write_whole

HEAD = "Failure # {} (occurred at 2026-11-21_14-51-09)\n"
ACTOR = "The actor died unexpectedly before finishing this task.\n\tclass_name: stub\n\tpid: 77\n"
OOM = "Task was killed due to the node running low on memory.\nMemory on the node was 3.8GB / 4GB (0.95).\n"
RAISED = 'ray::stub.train() (pid=7)\n  File "/x/loop.py", line 3, in step\n    go()\n{}\n'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (ACTOR + "The actor is dead because its worker process has died. Exit type: SYSTEM_ERROR\n", KILLED),
        (ACTOR + "The actor died because its node has died. Node Id: abc\n", NODE_LOST),
        ("The worker died unexpectedly while executing this task. Check the logs\n", KILLED),
        (RAISED.format("ValueError: its node has died, said the test"), "ValueError: its node has died, said the test"),
        (RAISED.format("MemoryError"), "out of memory (MemoryError): fewer --slots, or more memory"),
        ("", "the trial's process ended without a word"),
    ],
)
def test_the_cause_of_a_failure_is_one_line(text: str, reason: str) -> None:
    assert reason_in(HEAD.format(1) + text if text else "") == reason


def test_memory_that_ran_out_names_what_helps() -> None:
    assert reason_in(HEAD.format(1) + OOM).startswith("out of memory: Ray stopped the process")
    cpu = RAISED.format("RuntimeError: DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")
    assert reason_in(HEAD.format(1) + cpu) == "out of memory (MemoryError): fewer --slots, or more memory"
    gpu = RAISED.format("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has 139 GiB in all")
    reason = reason_in(HEAD.format(1) + gpu)
    assert (
        reason.startswith("out of GPU memory (CUDA out of memory. Tried to allocate 20.00 GiB") and "--batch-size" in reason
    )


def test_the_last_of_several_failures_counts() -> None:
    text = HEAD.format(1) + OOM + HEAD.format(2) + RAISED.format("KeyError: 'lr'")
    assert reason_in(text) == "KeyError: 'lr'"


def test_a_fault_of_the_surroundings_is_read_from_a_workers_report() -> None:
    text = RAISED.format("tune_btxrd.distributed.failures.SurroundingsError: The disk must have room.")
    assert str(fault_in(reason_in(text))) == "The disk must have room."
    assert fault_in("ValueError: x") is None and fault_in("tune_btxrd.errors.DataError: x") is None


def wrapped(error: Exception) -> Exception:
    """The error as the cause of another."""
    outer = RuntimeError("reading failed")
    outer.__cause__ = error
    return outer


class OutOfMemoryError(RuntimeError):
    """As torch names it."""


@pytest.mark.parametrize(
    ("error", "whose"),
    [
        *((OSError(number, "x"), Blame.SURROUNDINGS) for number in (errno.EROFS, errno.ESTALE, errno.ENOSPC, errno.ENOENT)),
        *((OSError(number, "x"), Blame.SURROUNDINGS) for number in (errno.EIO, errno.ENOTCONN, errno.EMFILE, errno.ENOTDIR)),
        (TimeoutError("x"), Blame.SURROUNDINGS),
        (wrapped(ConnectionResetError("x")), Blame.SURROUNDINGS),
        (DataError("a cache"), Blame.SURROUNDINGS),
        (ResultError("a checkpoint"), Blame.SURROUNDINGS),
        (ModuleNotFoundError("timm"), Blame.SURROUNDINGS),
        (RuntimeError("can't start new thread"), Blame.SURROUNDINGS),
        (
            RuntimeError("CUDA error: uncorrectable ECC error encountered\nCompile with TORCH_USE_CUDA_DSA"),
            Blame.SURROUNDINGS,
        ),
        (RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable"), Blame.SURROUNDINGS),
        (RuntimeError("No CUDA GPUs are available: no CUDA-capable device is detected"), Blame.SURROUNDINGS),
        (RuntimeError("CUDA error: device-side assert triggered"), Blame.TRIAL),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 1 bytes"), Blame.TRIAL),
        (MemoryError(), Blame.TRIAL),
        (OutOfMemoryError("CUDA out of memory"), Blame.TRIAL),
        (RuntimeError("shapes do not match"), Blame.TRIAL),
        (ConfigError("dropout"), Blame.TRIAL),
        (ValueError("x"), Blame.TRIAL),
        (AssertionError("x"), Blame.OURS),
        (TypeError("x"), Blame.OURS),
    ],
)
def test_whose_failure_an_exception_is(error: Exception, whose: Blame) -> None:
    assert blame(error) is whose
    with pytest.raises(SurroundingsError if whose is Blame.SURROUNDINGS else type(error)) as told, classified():
        raise error
    if whose is Blame.SURROUNDINGS:
        assert "--resume" in str(told.value) and "\n" not in str(told.value)


def test_a_table_that_cannot_be_written_stops_the_search_as_a_fault_of_the_surroundings(tmp_path: Path) -> None:
    """What a storage that turns read-only in mid-search meets first; the verb's end adds the command to go on."""
    (tmp_path / "file").write_text("")
    again = "Interrupted; all is saved. Go on with: this"
    with (
        pytest.raises(SurroundingsError, match=r"trials\.csv must be writable, .* Go on with: this$"),
        stoppable(lambda: again),
        surroundings(tmp_path),
    ):
        write_whole(tmp_path / "file" / "trials.csv", "trial\n")
    with pytest.raises(ResultError, match="failed alike") as told, surroundings(tmp_path):
        raise ResultError("The first 3 trials failed alike.")
    assert not isinstance(told.value, SurroundingsError)


def test_a_bug_of_ours_is_called_so() -> None:
    text = RAISED.format("AssertionError: no such state")
    assert reason_in(text) == "AssertionError: no such state (a bug of tune_btxrd: please report it with Ray's error.txt)"
