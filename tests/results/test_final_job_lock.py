"""The final job's lock: a second process is told who holds it; a killed one leaves nothing that blocks."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tune_btxrd.errors import ResultError
from tune_btxrd.results.checkpoints import final_job_lock

HOLD = (
    "import sys, time; from pathlib import Path; from tune_btxrd.results.checkpoints import final_job_lock\n"
    "with final_job_lock(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(600)\n"
)


def test_a_second_process_is_told_who_holds_it(tmp_path: Path) -> None:
    root = tmp_path / "checkpoints" / "first"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(root)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ResultError, match=f"process {holder.pid} on .*, since 20"), final_job_lock(root):
            pass
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    with final_job_lock(root):  # the lock went with the process
        pass
    with final_job_lock(root):
        pass


def test_a_file_in_the_way_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("")
    with (
        pytest.raises(ResultError, match="Choose another --checkpoints"),
        final_job_lock(tmp_path / "checkpoints" / "first"),
    ):
        pass
