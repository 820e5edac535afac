"""The final job in this process: resumed from its last epoch, from the one before where damaged, and on a storage."""

from pathlib import Path

import pytest

from tests.support.sources import FIXED, make_source
from tune_btxrd.config import TrainConfig
from tune_btxrd.distributed import retrain
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
