"""A storage beyond this machine, on a local S3 server: files come and go whole, keys are nowhere, two machines meet."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.s3_server import SECRET
from tests.support.searches import make_folder, make_row
from tune_btxrd.distributed.listeners.cleanup import CHECKPOINTS
from tune_btxrd.distributed.remote_storage import RemoteFolder, check_uri, is_remote, local_folder, scrubbed
from tune_btxrd.distributed.sync import StorageCopy, copy_results, fetch, pull, push
from tune_btxrd.errors import ConfigError, ResultError
from tune_btxrd.pipeline.place import bring
from tune_btxrd.search.journal import Journal
from tune_btxrd.search.record import TrialRecord, read_search

START = {"trial": "0", "number": 0, "role": "search", "config": {}, "params": {}}


@pytest.fixture
def remote(storage: str, tmp_path: Path) -> RemoteFolder:
    """A folder of this test alone."""
    return RemoteFolder(storage) / tmp_path.name


def test_files_go_there_and_come_back(remote: RemoteFolder, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 3_000_000)
    remote.put(tmp_path / "a", "deep/a")
    assert remote.get("deep/a", tmp_path / "new" / "b") and (tmp_path / "new" / "b").read_bytes() == b"x" * 3_000_000
    remote.copy("deep/a", "c")
    assert remote.names() == {"deep/a": 3_000_000, "c": 3_000_000} and remote.has("c") and not remote.has("deep")
    remote.remove("c")
    assert not remote.get("c", tmp_path / "d") and not (tmp_path / "d").exists()


@pytest.mark.parametrize("name", ["R\u00f6ntgen \u540d", "50%", "what?", "a#b", "[x] $y"])
def test_names_of_every_kind_become_keys_and_come_back(name: str, remote: RemoteFolder, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    there = remote / name / "inner"
    there.put(tmp_path / "a", "a")
    assert there.names() == {"a": 1} and f"{name}/inner/a" in remote.names()


@pytest.mark.parametrize("uri", ["s3://AKIAX:wJal@bucket/x", "s3://bucket/x?secret_key=wJal", "s3://b/x?access_key=wJal"])
def test_keys_in_a_uri_are_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(ConfigError, match="must not hold keys") as told:
        RemoteFolder(uri)
    assert "wJal" not in str(told.value)


def test_what_is_a_storage_and_what_a_folder() -> None:
    assert is_remote("s3://b/x") and not is_remote("file:///x") and not is_remote("ray_results")
    assert local_folder("file:///shared/x") == Path("/shared/x") and check_uri("gs://b/x/") == "gs://b/x"
    with pytest.raises(ConfigError, match="must be a folder, s3:// or gs://, but got ftp://"):
        check_uri("ftp://b/x")
    for uri in ("s3://", "gs:///folder"):
        with pytest.raises(ConfigError, match="must name a bucket"):
            check_uri(uri)


def test_a_missing_bucket_is_one_line_without_keys(remote: RemoteFolder, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    with pytest.raises(
        ResultError, match=r"The storage must be reachable and writable, but s3://absent/x/a: .*bucket"
    ) as told:
        RemoteFolder(f"s3://absent/x?{remote.uri.partition('?')[2]}").put(tmp_path / "a", "a")
    assert SECRET not in str(told.value) and "\n" not in str(told.value)
    assert scrubbed(f"denied for {os.environ['AWS_SECRET_ACCESS_KEY']}") == "denied for <AWS_SECRET_ACCESS_KEY>"


def write_epochs(folder: Path, *epochs: int) -> None:
    journal = Journal(folder)
    if 1 in epochs:
        journal.write("start", **START)
    for epoch in epochs:
        journal.write("epoch", trial="0", **make_row(epoch, 1 / epoch))
    journal.close()


def test_the_copy_is_what_another_machine_needs(remote: RemoteFolder, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "here" / "first")
    write_epochs(folder, 1, 2)
    with closing(sqlite3.connect(folder / "optuna.db")) as database, database:
        database.execute("create table studies (name text)")
    (folder / "splits").mkdir()
    (folder / "splits" / "common.csv").write_text("image_id\n")
    (folder / "trial_0").mkdir()
    (folder / "trial_0" / "result.json").write_text("Ray's own")
    copy_results(folder, remote)
    assert set(remote.names()) == {"search.json", "journal.jsonl", "optuna.db", "splits/common.csv"}
    there = tmp_path / "there" / "first"
    assert fetch(remote, there) and [row["epoch"] for row in read_search(there).trials["0"].epochs] == [1, 2]
    with closing(sqlite3.connect(there / "optuna.db")) as database:
        assert database.execute("select name from sqlite_master").fetchall() == [("studies",)]
    assert not fetch(remote / "absent", tmp_path / "absent")


def test_a_checkpoint_goes_only_after_the_journal_of_its_end_is_safe(remote: RemoteFolder, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "first")
    (tmp_path / "7.pt").write_text("weights")
    for name in ("7.pt", "7.before.pt", "8.pt"):
        remote.put(tmp_path / "7.pt", f"{CHECKPOINTS}/{name}")
    mirror = StorageCopy(folder, remote, seconds=3600.0)
    mirror.ended(TrialRecord(label="7", number=7, role="search", config={}, params={}))
    write_epochs(folder, 1)
    assert remote.has(f"{CHECKPOINTS}/7.pt") and not remote.has("journal.jsonl")
    mirror.close()
    assert remote.has("journal.jsonl") and {name for name in remote.names() if "pt" in name} == {f"{CHECKPOINTS}/8.pt"}


def test_the_longer_journal_wins_and_two_histories_are_refused(storage: str, tmp_path: Path) -> None:
    uri = storage.replace("/results", f"/{tmp_path.name}")
    here, there = make_folder(tmp_path / "here" / "first"), tmp_path / "there" / "first"
    write_epochs(here, 1)
    copy_results(here, RemoteFolder(uri) / "first")
    bring(uri, there)
    write_epochs(there, 2)
    copy_results(there, RemoteFolder(uri) / "first")
    bring(uri, here)
    assert (here / "journal.jsonl").read_bytes() == (there / "journal.jsonl").read_bytes()
    write_epochs(here, 3)
    write_epochs(there, 3, 4)
    copy_results(there, RemoteFolder(uri) / "first")
    with pytest.raises(ResultError, match="went on differently: move one of them away"):
        bring(uri, here)


def test_checkpoints_of_the_final_job_come_and_go(remote: RemoteFolder, tmp_path: Path) -> None:
    (tmp_path / "a" / "stratified").mkdir(parents=True)
    (tmp_path / "a" / "best_stratified.pt").write_text("weights")
    (tmp_path / "a" / "stratified" / "training_log.csv").write_text("epoch\n")
    push(tmp_path / "a", remote)
    pull(remote, tmp_path / "b")
    assert (tmp_path / "b" / "stratified" / "training_log.csv").read_text() == "epoch\n"
