"""Verb `submit`: the main job as a Ray job. Sent along: our package, search spaces, and files that flags name.

Never sent: data, results, checkpoints, `.venv`. --data, --storage, --checkpoints and --cache are paths of the cluster.
"""

import argparse
import asyncio
import os
import re
import shlex
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tune_btxrd.cli.flags import read_storage
from tune_btxrd.console import say
from tune_btxrd.distributed.remote_storage import check_uri, is_remote, local_folder
from tune_btxrd.errors import ConfigError, JobError, flag_words

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

OWN = ("verb", "address", "packages", "detach", "status", "log", "stop")  # flags that `run` does not have, or has otherwise
SENT = ("space", "exclude", "duplicates", "weights")  # files that go along where they exist here
SERVER = "http://127.0.0.1:8265"
PACKAGE = Path(__file__).parents[1]
ROOT = PACKAGE.parent
POLL_SECONDS = 1.0
JOB_ENV = {
    "RAY_JOB_STOP_WAIT_TIME_S": "20",  # a stopped search saves its state within 10 s; Ray's default would kill it after 3
    "PYTHONUNBUFFERED": "1",  # the log is followed
    "COLUMNS": "160",
}


def submit(flags: argparse.Namespace) -> None:
    """Sends a job and follows its log; or tells of, follows or stops one that was sent (--status, --log, --stop).

    Raises:
        ConfigError: no job server there, or paths that mean nothing on the cluster.
        JobError: the job failed; the text says why.
    """
    sent = flags.status or flags.stop or flags.log
    if sent and (given := [word for word in given_words(flags) if word not in ("--status", "--stop", "--log", sent)]):
        raise ConfigError(f"A job that was sent is told of, followed or stopped by --address alone, but got {given[0]}.")
    address = flags.address or os.environ.get("RAY_API_SERVER_ADDRESS") or SERVER
    with _answering(address):
        client = _client(address)
        if flags.status:
            info = client.get_job_info(flags.status)
            say(f"{flags.status}: {info.status}; {_last_line(info.message or '')}")
        elif flags.stop:
            client.stop_job(flags.stop)
            _wait(client, flags.stop)
            say(f"{flags.stop} has stopped; go on with the same `submit` and --resume.")
        elif flags.log:
            follow(client, flags.log)
        else:
            _send(client, flags)


def _send(client: "JobSubmissionClient", flags: argparse.Namespace) -> None:
    with TemporaryDirectory() as aside:
        flags = stage(Path(aside), flags)
        try:
            job = client.submit_job(
                entrypoint=entrypoint(flags),
                submission_id=job_id(flags.name),
                runtime_env=runtime_env(Path(aside), packages=flags.packages),
                metadata={"tune_btxrd_search": flags.name},
            )
        except RuntimeError as error:
            raise JobError(f"The cluster must take the job, but: {_one_line(error)}") from error
    say(f"Job {job} sent. Follow: submit --log {job}; state: submit --status {job}; stop: submit --stop {job}")
    if not flags.detach:
        follow(client, job)


def stage(folder: Path, flags: argparse.Namespace) -> argparse.Namespace:
    """Fills the job's working directory; the flags as they are there, the name included.

    Raises:
        ConfigError: a path that must be one of the cluster is relative, or results would go with the job.
    """
    skipped = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, folder / "tune_btxrd", ignore=skipped)
    if (ROOT / "search_spaces").is_dir():
        shutil.copytree(ROOT / "search_spaces", folder / "search_spaces", ignore=skipped)
        shutil.copy(ROOT / "requirements.txt", folder)
    there = argparse.Namespace(**vars(flags))
    for name in SENT:
        path: Path | None = getattr(flags, name)
        if path is not None and path.is_file():
            target = Path("files") / name / path.name
            (folder / target).parent.mkdir(parents=True)
            shutil.copy(path, folder / target)
            setattr(there, name, target)
    _check_places(there)
    there.name = flags.name or f"{flags.data.name if flags.data else 'phantom'}-{time.strftime('%Y%m%d-%H%M%S')}"
    return there


def _check_places(flags: argparse.Namespace) -> None:
    for name in ("data", "cache", "checkpoints"):
        path: Path | None = getattr(flags, name)
        if path is not None and not path.is_absolute():
            raise ConfigError(f"--{name} of a job must be an absolute path on the cluster, but got {path}.")
    flags.storage = read_storage(flags)
    if is_remote(flags.storage):
        check_uri(flags.storage)
        return
    storage = local_folder(flags.storage)
    if not storage.is_absolute():
        raise ConfigError(
            f"--storage of a job must outlive it: a shared folder (absolute path) or s3://..., but got {flags.storage}."
        )
    flags.checkpoints = flags.checkpoints or storage.parent / "checkpoints"


def entrypoint(flags: argparse.Namespace) -> str:
    """The command that the job runs: `run` with every flag that was given."""
    words = given_words(argparse.Namespace(**{name: value for name, value in vars(flags).items() if name not in OWN}))
    return shlex.join(["python", "-m", "tune_btxrd", "run", "--address", "auto", *words])


def given_words(flags: argparse.Namespace) -> list[str]:
    """The flags that were typed, as words again; verb and address are left out."""
    words: list[str] = []
    for name, value in vars(flags).items():
        if name in ("verb", "address") or value is None or (value is False and name != "pretrained"):
            continue
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            words.append(flag if value else flag.replace("--", "--no-", 1))
        else:
            for item in value if isinstance(value, list) else [value]:
                words += flag_words(flag, str(item))
    return words


def job_id(name: str) -> str:
    """A job's id, of letters and signs that mean themselves in an address: Ray puts it into one as it is."""
    return f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', name)}-{time.strftime('%H%M%S')}"


def runtime_env(folder: Path, *, packages: bool) -> dict[str, Any]:
    """Ray's description of the job's surroundings; `packages`: install requirements.txt on the nodes first."""
    environment: dict[str, Any] = {"working_dir": str(folder), "env_vars": dict(JOB_ENV)}
    if packages:
        if not (folder / "requirements.txt").is_file():
            raise ConfigError(
                "--packages installs requirements.txt, but this installation has none: run it from a checkout."
            )
        environment["pip"] = str(folder / "requirements.txt")
    return environment


def follow(client: "JobSubmissionClient", job: str) -> None:
    """Prints a job's log until it ends. Raises: JobError where it failed or was stopped; Ctrl-C leaves it running."""

    async def tail() -> None:
        async for lines in client.tail_job_logs(job):
            say(lines.rstrip("\n"))

    try:
        asyncio.run(tail())
        status, message = _wait(client, job)
    except KeyboardInterrupt:
        say(f"\nThe job goes on. Follow: submit --log {job}; stop: submit --stop {job}")
        raise
    if status == "STOPPED":
        raise JobError(f"Job {job} was stopped; everything reported is saved: the same `submit` with --resume goes on.")
    if status == "FAILED":
        raise JobError(f"Job {job} failed: {_last_line(message)}")


def _wait(client: "JobSubmissionClient", job: str) -> tuple[str, str]:
    """Status and message of a job that has ended."""
    while not (info := client.get_job_info(job)).status.is_terminal():
        time.sleep(POLL_SECONDS)
    return str(info.status.value), info.message or ""


def _last_line(message: str) -> str:
    """What the job said last; our own errors are one line."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    own = [line for line in lines if line.startswith("tune-btxrd: ")]
    return re.sub(r"^tune-btxrd: ", "", (own or lines or ["without a word"])[-1])


def _client(address: str) -> "JobSubmissionClient":
    from ray.job_submission import JobSubmissionClient

    return JobSubmissionClient(address if address.startswith(("http://", "https://")) else f"http://{address}")


@contextmanager
def _answering(address: str) -> Iterator[None]:
    """What the job server answers or not (no server, no token, no such job) as one line."""
    from ray.exceptions import RayError

    try:
        yield
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        raise ConfigError(
            f"A Ray dashboard must answer at --address {address}, but: {_one_line(error)} Its token: RAY_AUTH_TOKEN."
        ) from error


def _one_line(error: Exception) -> str:
    return re.sub(r"\s+", " ", str(error)).strip()[:160]
