"""The final job in this process: resumed from its last epoch, from the one before where damaged, and on a storage."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from tests.support.sources import FIXED, make_source
from tune_btxrd.config import TrainConfig
from tune_btxrd.distributed import retrain
from tune_btxrd.distributed.failures import SurroundingsError
from tune_btxrd.distributed.remote_storage import RemoteFolder
from tune_btxrd.distributed.sync import pull
from tune_btxrd.results.checkpoints import RetrainJob, is_done, plan_jobs
from tune_btxrd.training.checkpoint import load

CONFIG = TrainConfig.from_dict({**FIXED, "epochs": 3, "patience": 3})
HERE = {"device": "cpu", "threads": 1}


def job_in(root: Path) -> RetrainJob:
    return plan_jobs(root, {"common": "common"}, CONFIG, None, seeds=1)[0]


def weights(job: RetrainJob) -> list[float]:
    return [float(tensor.double().sum()) for tensor in load(job.final)["model_state_dict"].values()]


@pytest.mark.parametrize("damaged", [False, True])
def test_a_killed_training_goes_on_to_the_same_weights(damaged: bool, tmp_path: Path) -> None:
    source = make_source(tmp_path / "data")
    whole, killed = job_in(tmp_path / "whole"), job_in(tmp_path / "killed")
    list(retrain._train(whole, source, **HERE))
    rows = retrain._train(killed, source, **HERE)
    assert [next(rows)["epoch"] for _ in range(2)] == [1, 2]
    rows.close()  # as far as a killed process leaves it: two checkpoints
    last = killed.folder / "last.pt"
    if damaged:
        last.write_bytes(last.read_bytes()[:500])
    again = list(retrain._train(killed, source, **HERE))
    assert [row["epoch"] for row in again] == [1, 2, 3] and weights(killed) == weights(whole)
    assert again[0]["note"] == ("checkpoint last.pt damaged: went on from epoch 1" if damaged else "")
    assert is_done(killed) and "note" not in killed.log() and not list(killed.folder.glob("last*"))


Step = int | Exception  # an epoch that a process tells, or how Ray ends it


def played(jobs: list[RetrainJob], monkeypatch: pytest.MonkeyPatch, **processes: list[list[Step]]) -> tuple[list[str], int]:
    """Follows jobs whose processes do these steps, one after another; what was told, and how many ran at once at most."""
    told, most = list[str](), 0

    def begin(job: RetrainJob) -> Iterator[Step]:
        yield from processes[job.split].pop(0)

    def wait(streams: list[Iterator[Step]], **_: object) -> tuple[list[Iterator[Step]], list[Iterator[Step]]]:
        nonlocal most
        most = max(most, len(streams))
        return streams[-1:], streams[:-1]

    def get(step: Step) -> dict[str, int]:
        if isinstance(step, Exception):
            raise step
        return {"epoch": step}

    monkeypatch.setattr(ray, "wait", wait)
    monkeypatch.setattr(ray, "get", get)
    retrain._follow(jobs, begin, lambda job, row: told.append(f"{job.split}{row['epoch']}"))
    assert not any(processes.values())
    return told, most


KILL = ray.exceptions.OutOfMemoryError("Task was killed due to the node running low on memory.")
CRASH = ray.exceptions.WorkerCrashedError()


def test_a_training_that_memory_is_too_small_for_goes_on_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = plan_jobs(tmp_path, {"a": "a", "b": "b"}, CONFIG, None, seeds=1)
    told, most = played(jobs, monkeypatch, a=[[1, 2, 3]], b=[[1, KILL], [1, 2, KILL], [1, 2, 3]])
    assert told == ["b1", "a1", "a2", "a3", "b2", "b3"] and most == 2  # each epoch once
    assert "Out of memory: Ray stopped b" in capsys.readouterr().out
    with pytest.raises(SurroundingsError, match=r"Retraining b.* must fit its node, but alone it ran out of memory: Ray"):
        played(jobs[1:], monkeypatch, b=[[KILL]] * 4)


def test_a_lost_process_is_begun_again_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = plan_jobs(tmp_path, {"a": "a"}, CONFIG, None, seeds=1)
    assert played(jobs, monkeypatch, a=[[1, CRASH], [1, CRASH], [1, 2, 3]])[0] == ["a1", "a2", "a3"]
    with pytest.raises(SurroundingsError, match="was tried 3 times, but its process was killed"):
        played(jobs, monkeypatch, a=[[CRASH]] * 3)


def test_on_a_storage_another_node_goes_on_and_the_driver_gets_the_checkpoints(
    storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, remote, job = make_source(tmp_path / "data"), RemoteFolder(storage) / "retrained", job_in(tmp_path / "driver")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "first_node"))
    rows = retrain._train(job, source, remote=remote, **HERE)
    assert [next(rows)["epoch"] for _ in range(2)] == [1, 2]
    rows.close()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "second_node"))
    again = retrain._train(job, source, remote=remote, **HERE)
    assert next(again)["train_seconds"] and [row["epoch"] for row in again] == [2, 3]
    assert not job.root.exists()
    pull(remote, job.root)
    assert is_done(job) and not [name for name in remote.names() if "last" in name]
