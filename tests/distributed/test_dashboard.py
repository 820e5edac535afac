"""A real search as Ray's dashboard and metrics endpoint show it while it runs, and who may look: a user with the token."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from ray._private.ray_constants import DEFAULT_DASHBOARD_AGENT_LISTEN_PORT

from tests.support.paths import ROOT
from tests.support.waiting import until
from tune_btxrd.search.record import STATE_WORDS

pytestmark = pytest.mark.slow

TOKEN = "5ea2c4" * 10
SMALL = ["--phantom-count", "90", "--phantom-size", "96", "--image-size", "32", "--backbone", "test_efficientnet"]
LONG = [
    "--space",
    str(ROOT / "tests" / "support" / "small.yaml"),
    "--trials",
    "2000",
    "--epochs",
    "9",
    "--confirm",
    "0",
    "--slots",
    "2",
]


class Dashboard:
    """A running search's addresses, asked as a browser or Prometheus would."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str, *, token: str = TOKEN) -> Any:
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {token}"} if token else {})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                text = answer.read().decode()
        except urllib.error.HTTPError as error:
            error.msg += f": {error.read().decode()[:300]}"
            raise
        return json.loads(text) if answer.headers.get_content_type() == "application/json" else text

    def records(self, kind: str) -> list[dict[str, Any]]:
        return list(self.ask(f"/api/v0/{kind}?detail=1&limit=1000")["data"]["result"]["result"])

    def metrics(self) -> list[str]:
        """Our lines at the metrics port of every node; none from a port that Ray has announced and not yet opened."""
        lines = []
        for target in (target for group in self.ask("/api/prometheus/sd") for target in group["targets"]):
            try:
                with urllib.request.urlopen(f"http://{target}/metrics", timeout=30) as answer:
                    lines += [line for line in answer.read().decode().splitlines() if line.startswith("ray_tune_btxrd_")]
            except urllib.error.URLError as error:
                if not isinstance(error.reason, ConnectionRefusedError):
                    raise
        return lines


@contextmanager
def agent_port_taken() -> Iterator[None]:
    """Ray's usual port for what reads logs is in use, as another Ray on this machine has it."""
    with socket.socket() as port:
        with suppress(OSError):  # another Ray of these tests may have it already
            port.bind(("", DEFAULT_DASHBOARD_AGENT_LISTEN_PORT))
            port.listen()
        yield


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    folder = tmp_path_factory.mktemp("dashboard")
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_metrics_report_interval_ms": "1000"}
    command = [sys.executable, "-u", "-m", "tune_btxrd", "search", "--name", "seen", *SMALL, *LONG, "--cache", str(folder)]
    pipe = subprocess.PIPE
    with (
        agent_port_taken(),
        subprocess.Popen(command, cwd=folder, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True) as search,
    ):
        assert search.stdout
        said = []
        for line in search.stdout:
            said.append(line)
            if re.match(rf"  trial +\d+ ({'|'.join(STATE_WORDS.values())})", line):
                break
        address = re.search(r"Ray dashboard: (http://\S+) \(log in with the token", "".join(said))
        assert address, "".join(said)
        yield Dashboard(address[1])
        assert search.poll() is None, "the search was over before the dashboard had been asked"
        search.send_signal(signal.SIGINT)
        search.communicate(timeout=120)


def test_only_who_has_the_token_may_look(running: Dashboard) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        running.ask("/api/v0/tasks", token="")


def test_the_search_is_recognised(running: Dashboard) -> None:
    jobs = [job for job in running.ask("/api/jobs/") if job["metadata"].get("tune_btxrd_search") == "seen"]
    assert len(jobs) == 1 and jobs[0]["status"] == "RUNNING" and jobs[0]["metadata"]["job_name"] == "seen"
    actors = until(lambda: slots_of(running.records("actors")))
    assert all(actor["class_name"] == "seen slot" and actor["state"] == "ALIVE" for actor in actors)
    rows = [actor["name"] for actor in running.records("actors") if actor["class_name"] == "RowsActor"]
    assert 1 <= len(rows) <= 2 and all(name.startswith("tune_btxrd seen (") for name in rows)  # one per trial at once


def slots_of(actors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The actors of both slots, once both are there: Ray knows an actor's own name when it has begun to work."""
    alive = [actor for actor in actors if actor["state"] == "ALIVE"]  # Tune may have given one up and begun another
    named = [actor for actor in alive if actor["repr_name"].startswith("seen slot ")]
    return named if len({actor["repr_name"] for actor in named}) == 2 else []


def test_a_trial_is_a_row_with_its_config_its_duration_and_its_log(running: Dashboard) -> None:
    rows = until(
        lambda: [
            task
            for task in running.records("tasks")
            if task["func_or_class_name"] == "RowsActor.hold"  # the filter that the README names
            and task["start_time_ms"]  # Ray may tell an end before the start
            and task["end_time_ms"]
            and "stdout_end" in (task["task_log_info"] or {})  # told by the actor, the state by the search
        ]
    )
    assert all(re.match(r"trial \d+ lr=\S+$", row["name"]) for row in rows)
    assert all(row["start_time_ms"] <= row["end_time_ms"] and row["state"] == "FINISHED" for row in rows)
    label = rows[0]["name"].split()[1]
    path = f"/api/v0/logs/file?task_id={rows[0]['task_id']}&attempt_number=0&lines=1000&suffix=out"

    def log() -> str:
        try:
            return str(running.ask(path))
        except urllib.error.HTTPError as error:
            assert "Agent for node id" in error.msg, error.msg  # Ray's agent, which reads logs, starts after Ray
            return ""

    *epochs, last = str(until(log)).splitlines()  # of this trial alone: two run side by side, others came after it
    heads = [line.partition(":")[0] for line in epochs]
    assert heads == [f"trial {label} epoch {number}" for number in range(1, len(epochs) + 1)] and heads
    assert re.match(rf"trial {label} ({'|'.join(STATE_WORDS.values())})", last)


def test_the_metrics_endpoint_tells_slots_and_states(running: Dashboard) -> None:
    names = ("val_loss", "positive_recall", "epoch", "images_per_second")
    wanted = {f"ray_tune_btxrd_{name}": {"1", "2"} for name in names}

    def slots(lines: list[str]) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for line in lines:
            if 'search="seen"' in line and (slot := re.search(r'slot="(\d+)"', line)):
                found.setdefault(line.split("{")[0], set()).add(slot[1])
        return found

    def states(lines: list[str]) -> dict[str, float]:
        return {re.search(r'state="([^"]+)"', line)[1]: float(line.split()[-1]) for line in lines if "_trials{" in line}  # type: ignore[index]

    def complete() -> list[str]:
        """One look at which both slots have told all, and a trial runs: between two trials none does."""
        lines = running.metrics()
        return lines if slots(lines) == wanted and states(lines).get("unfinished") else []

    lines = until(complete)
    print(*lines, sep="\n")
    assert set(states(lines)) == set(STATE_WORDS.values())
    assert 1 <= states(lines)["unfinished"] <= 2 and states(lines)["failed"] == 0
    assert any(line.startswith("ray_tune_btxrd_epochs_total{") for line in lines)
