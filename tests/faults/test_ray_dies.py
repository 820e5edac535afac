"""Ray itself fails: the local raylet dies, its memory monitor kills trials, it does not start."""

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ray  # noqa: F401 - its folder of other packages holds psutil

from benchmarks import kill
from benchmarks.kill import Arena
from tests.support.paths import ROOT
from tests.support.ray_stub import STUB, run_stub
from tune_btxrd.distributed.launch_worker import ADDRESS
from tune_btxrd.search.record import read_search
from tune_btxrd.search.space.spec import SearchSpec

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # Ray's own warnings are not ours to mend
psutil: Any = importlib.import_module("psutil")  # which Ray brings along
CASE = kill.Case(seed=0, slots=1, kills=())


def listening(process: Any) -> set[str]:
    """Addresses that the process and its children listen on."""
    found = set()
    for each in [process, *process.children(recursive=True)]:
        try:
            found |= {item.laddr.ip.removeprefix("::ffff:") for item in each.net_connections() if item.status == "LISTEN"}
        except psutil.Error:  # a process that ended meanwhile
            continue
    return found


def is_alive(process: Any) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_the_local_raylet_dies_and_the_driver_ends_with_the_command_to_go_on(
    arena: Arena, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder whose name is not ASCII, with a TMPDIR as long as Slurm's; it listens on loopback alone."""
    folder, long = tmp_path / "R\u00f6ntgen \u540d", tmp_path / "slurm_jobdir_of_somebody_with_a_long_name" / "tmp.t0016"
    long.mkdir(parents=True)
    with monkeypatch.context() as patch:
        patch.setenv("TMPDIR", str(long))
        patch.delenv(ADDRESS)  # its workers are Ray's own children, and their ports are seen
        driver = kill.start(folder, CASE, None)
    if not kill.reached(folder / kill.FILE, 5, driver):
        pytest.fail(driver.communicate()[0])
    process = psutil.Process(driver.pid)
    assert listening(process) == {"127.0.0.1"}
    (raylet,) = [child for child in process.children(recursive=True) if child.name() == "raylet"]
    agents = raylet.children()
    raylet.kill()
    shown, _ = driver.communicate(timeout=kill.PATIENCE)
    assert driver.returncode == 2 and "Traceback" not in shown
    assert "Ray's sockets go to /tmp/ray" in shown and "its raylet ended" in shown and "Go on with" in shown
    assert len(agents) >= 2 and not [agent for agent in agents if is_alive(agent)]
    assert all(trial.state != "failed" for trial in read_search(folder).search_trials)
    assert kill.play(CASE, folder, arena) == ([], 0)


def test_processes_that_ray_kills_for_want_of_memory_are_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    memory = psutil.virtual_memory()
    room = 2.5 * 2**30
    if memory.available < 3 * room:
        pytest.skip("needs some free memory")
    monkeypatch.setenv("RAY_memory_usage_threshold", f"{1 - (memory.available - room) / memory.total:.4f}")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    spec = SearchSpec.from_text(STUB).override({"trials": 4, "scheduler": "none"}, {})
    record = run_stub(tmp_path / "memory", spec, slots=2, seconds=0.05, faults={"0": "hog", "1": "hog"})
    shown = capsys.readouterr().out
    assert [trial.state for trial in record.search_trials] == ["complete"] * 4
    assert "Out of memory: Ray stopped" in shown and "--resume" in shown
    assert len(record.sessions) == 1


def test_ray_that_does_not_start_is_one_line_with_its_cure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    program = (
        "from tune_btxrd.distributed.connect import connected\n"
        "from tune_btxrd.errors import ConfigError\n"
        "try:\n    connected(address=None, name='x').__enter__()\nexcept ConfigError as error:\n    print(error)"
    )
    cures = {
        tmp_path / "file": "Set RAY_TMPDIR to a short folder that can be written.",
        tmp_path / ("long" * 30): "set RAY_TMPDIR=/tmp.",
    }
    pipe, started = subprocess.PIPE, []
    for folder in cures:  # side by side
        environment = {**os.environ, "RAY_TMPDIR": str(folder)}
        command = [sys.executable, "-c", program]
        started.append(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, cwd=ROOT))
    for process, cure in zip(started, cures.values(), strict=True):
        shown, _ = process.communicate(timeout=kill.PATIENCE)
        assert shown.startswith("Ray must start on this machine, but: ") and shown.strip().endswith(cure)
