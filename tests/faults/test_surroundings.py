"""Full disks, folders that cannot be written, memory that runs out: one line each, and nothing finished is lost."""

import gc
import re
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from benchmarks import kill, kill_driver
from benchmarks.kill import Arena
from tests.support.ray_stub import STUB, run_stub
from tests.support.searches import make_folder
from tune_btxrd.distributed.failures import SurroundingsError
from tune_btxrd.distributed.listeners.cleanup import CHECKPOINTS
from tune_btxrd.search.journal import Journal, read_events
from tune_btxrd.search.record import read_search
from tune_btxrd.search.space.spec import SearchSpec

FULL_DISK = """
import resource, sys
from contextlib import suppress
from pathlib import Path
from tune_btxrd.search.journal import Journal
journal = Journal(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
while True:
    journal.write("start", trial="0", text="x" * 60)
"""


def test_a_journal_on_a_full_disk_is_one_error_and_keeps_its_whole_lines(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "full")
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(folder)], capture_output=True, text=True, check=False, cwd=Path.cwd()
    )
    assert "UnwritableError: The journal must be writable" in done.stderr and "Free space, then --resume" in done.stderr
    whole = len(list(read_events(folder)))
    assert (folder / "journal.jsonl").stat().st_size == 500 and whole == 500 // 127
    journal = Journal(folder)  # what is half written goes
    journal.write("session")
    journal.close()
    assert [event["event"] for event in read_events(folder)] == ["start"] * whole + ["session"]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_checkpoints_that_cannot_be_written_stop_the_search_not_the_trial(arena: Arena, tmp_path: Path) -> None:
    folder = tmp_path / "unwritable"
    folder.mkdir()
    (folder / "trial_checkpoints").write_text("a file where the folder should be")
    with pytest.raises(SurroundingsError, match=r"The checkpoint .* must be writable"):
        kill_driver.drive(folder, arena.address, trials=1, slots=1, real=True)
    trial = read_search(folder).trials["0"]
    assert trial.state == "running" and not trial.notes  # to be gone on with, no retry burnt
    (folder / "trial_checkpoints").unlink()
    kill_driver.drive(folder, arena.address, trials=1, slots=1, real=True)
    assert read_search(folder).trials["0"].state == "complete"


def stop_renaming(folder: Path) -> Callable[[], None]:
    """What a storage that turns read-only while a trial runs does to a rename: a bare OSError."""
    target = folder / CHECKPOINTS / "0.before.pt"

    def strike() -> None:
        while not (folder / CHECKPOINTS / "0.pt").exists():
            time.sleep(0.005)
        while not target.is_dir():
            target.unlink(missing_ok=True)
            with suppress(FileExistsError):  # the trial was faster
                (target / "x").mkdir(parents=True)

    thread = threading.Thread(target=strike)
    thread.start()

    def mend() -> None:
        thread.join()
        shutil.rmtree(target)

    return mend


def truncate_cache(folder: Path) -> Callable[[], None]:
    return damage(cache_of(folder) / "images.npy", lambda content: content[: len(content) // 2])


def lose_split(folder: Path) -> Callable[[], None]:
    path = splits_of(folder) / "common.csv"
    path.rename(path.with_suffix(".moved"))
    return lambda: path.with_suffix(".moved").replace(path)


def lose_cache(folder: Path) -> Callable[[], None]:
    path = cache_of(folder)
    path.rename(path.with_name("moved"))
    return lambda: path.with_name("moved").replace(path)


def damage(path: Path, change: Callable[[bytes], bytes]) -> Callable[[], None]:
    content = path.read_bytes()
    path.write_bytes(change(content))
    return lambda: path.write_bytes(content) and None


def cache_of(folder: Path) -> Path:
    return Path(kill_driver._pictures(folder).cache)


def splits_of(folder: Path) -> Path:
    return Path(kill_driver._pictures(folder).splits)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_fault_of_the_surroundings_stops_the_search_and_no_trial(arena: Arena, tmp_path: Path) -> None:
    """One fault after another: the hand-made config, the first trial, survives each, and the search completes at last."""
    folder = tmp_path / "broken"
    for break_it in (truncate_cache, lose_split, lose_cache, stop_renaming):
        mend = break_it(folder)
        with pytest.raises(SurroundingsError, match="--resume") as told:
            kill_driver.drive(folder, arena.address, trials=2, slots=1, real=True)
        assert "\n" not in str(told.value), break_it
        del told
        gc.collect()  # Ray's loggers of a search that ended early leave their files to the end of the process
        (trial,) = read_search(folder).trials.values()
        assert trial.label == "0" and trial.state == "running" and not trial.notes, break_it
        mend()
    kill_driver.drive(folder, arena.address, trials=2, slots=1, real=True)
    trials = read_search(folder).search_trials
    assert [trial.state for trial in trials] == ["complete", "complete"] or trials[1].state == "pruned"
    assert trials[0].state == "complete" and trials[0].params == {"lr": 1e-3, "dropout": 0.2}


@pytest.mark.slow
def test_a_search_on_a_full_disk_ends_with_one_line_and_goes_on(arena: Arena, tmp_path: Path) -> None:
    folder = tmp_path / "full"
    driver = kill.start(folder, kill.Case(seed=0, slots=1, kills=()), arena)
    assert kill.reached(folder / kill.FILE, 6, driver)
    size = (folder / kill.FILE).stat().st_size
    resource.prlimit(driver.pid, resource.RLIMIT_FSIZE, (size + 100, size + 100))
    shown, _ = driver.communicate(timeout=kill.PATIENCE)
    assert driver.returncode == 2 and re.search(r"^tune-btxrd: .* must be writable", shown, flags=re.MULTILINE)
    assert "--resume" in shown
    assert kill.play(kill.Case(seed=0, slots=1, kills=()), folder, arena) == ([], 0)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_memory_that_runs_out_is_tried_again_and_then_a_reason_in_the_table(arena: Arena, tmp_path: Path) -> None:
    spec = SearchSpec.from_text(STUB).override({"trials": 4, "scheduler": "none", "epochs": 3, "grace_period": 1}, {})
    faults = {"1": "memory", "2": "gpu memory", "3": "die always"}
    record = run_stub(tmp_path / "memory", spec, address=arena.address, retries=1, slots=4, faults=faults)
    reasons = {trial.label: trial.reason for trial in record.search_trials if trial.state == "failed"}
    assert reasons["1"] == "out of memory (MemoryError): fewer --slots, or more memory"
    assert reasons["2"].startswith("out of GPU memory (CUDA out of memory. Tried to allocate 20.00 GiB")
    assert reasons["3"].startswith("its process was killed") and record.trials["0"].state == "complete"
    assert all(len((tmp_path / "memory" / f"{label}.txt").read_text().splitlines()) == 2 for label in "12")
    table = (tmp_path / "memory" / "trials.csv").read_text()
    assert all(reason in table for reason in reasons.values())
