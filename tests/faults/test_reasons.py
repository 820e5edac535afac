"""Ray's pages about a failure as one line for the table, and which failures are no trial's own."""

import pytest

from tune_btxrd.distributed.failures import KILLED, NODE_LOST, reason_in, storage_fault

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
    gpu = RAISED.format("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has 139 GiB in all")
    reason = reason_in(HEAD.format(1) + gpu)
    assert (
        reason.startswith("out of GPU memory (CUDA out of memory. Tried to allocate 20.00 GiB") and "--batch-size" in reason
    )


def test_the_last_of_several_failures_counts() -> None:
    text = HEAD.format(1) + OOM + HEAD.format(2) + RAISED.format("KeyError: 'lr'")
    assert reason_in(text) == "KeyError: 'lr'"


def test_a_fault_of_the_storage_is_no_trials() -> None:
    told = "tune_btxrd.errors.ResultError: The checkpoint /x/7.pt must be writable, but got: No space left on device."
    assert storage_fault(told) == "The checkpoint /x/7.pt must be writable, but got: No space left on device."
    assert storage_fault("ValueError: x") is None and storage_fault("tune_btxrd.errors.DataError: x") is None
