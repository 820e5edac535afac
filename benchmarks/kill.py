"""Kills a search again and again (its driver, a trial's process, a node) and checks that nothing is lost or counted twice.

    python -m benchmarks.kill --seeds 24            stub trainings on three simulated nodes of this machine
    python -m benchmarks.kill --seeds 6 --real      real trainings of a tiny network

A case is decided by its seed: how many slots, what is killed, and at which moment, told by the journal's length.
`tests/faults/test_kills.py` plays a few of the same cases.
"""

import argparse
import contextlib
import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna

from benchmarks import kill_driver
from benchmarks.outcome import ROOT
from tune_btxrd.distributed.listeners.cleanup import CHECKPOINTS
from tune_btxrd.errors import ResultError
from tune_btxrd.search.journal import FILE, read_events
from tune_btxrd.search.record import SearchRecord, read_search
from tune_btxrd.search.study import OPTUNA_STATES
from tune_btxrd.search.study_database import open_storage

KINDS = ("driver", "worker", "node")
TRIALS, PATIENCE = 5, 300.0  # trials per search; seconds without a sign of life that count as hanging


@dataclass(frozen=True, kw_only=True)
class Kill:
    """What dies, and when: once the journal has `line` lines and `delay` seconds more have passed."""

    kind: str
    line: int
    delay: float


@dataclass(frozen=True, kw_only=True)
class Case:
    """One search and its kills, in order of time; `promote`: its trials pause at rungs."""

    seed: int
    slots: int
    kills: tuple[Kill, ...]
    promote: bool = False


def make_case(seed: int) -> Case:
    """The case of this seed: one or two slots, two or three kills of random kinds at random moments."""
    dice = random.Random(seed)
    lines = sorted(dice.sample(range(2, 24), dice.choice((2, 3))))
    kills = [Kill(kind=dice.choice(KINDS), line=line, delay=dice.uniform(0.0, 0.2)) for line in lines]
    return Case(seed=seed, slots=dice.choice((1, 2)), kills=tuple(kills))


class Arena:
    """A Ray of several nodes on this machine: a head (without CPUs), where drivers live, and nodes that come and go."""

    def __init__(self, *, nodes: int = 2, cpus: int = 2, head_cpus: int = 0, dashboard: bool = False) -> None:
        from ray.cluster_utils import Cluster

        self.cpus = cpus
        free = {"dashboard_port": 0, "dashboard_agent_listen_port": None}  # the default ones may be another Ray's
        head = {"num_cpus": head_cpus, "include_dashboard": dashboard, **free}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.nodes = [self.cluster.add_node(num_cpus=cpus) for _ in range(nodes)]

    @property
    def address(self) -> str:
        """For --address."""
        return str(self.cluster.address)

    def lose_node(self) -> None:
        """Kills a node as a power cut does, and starts another one."""
        self.cluster.remove_node(self.nodes.pop(0), allow_graceful=False)
        self.nodes.append(self.cluster.add_node(num_cpus=self.cpus))

    def close(self) -> None:
        """Ends all nodes."""
        self.cluster.shutdown()


def play(case: Case, folder: Path, arena: Arena, *, real: bool = False, remote: str = "") -> tuple[list[str], int]:
    """Runs the case to its end; what went wrong (nothing, if all is well), and how many kills struck."""
    driver, known, struck = start(folder, case, arena, real=real, remote=remote), [], 0
    wrong: list[str] = []
    for kill in case.kills:
        if not reached(folder / FILE, kill.line, driver):
            break  # the search was faster than the killer
        time.sleep(kill.delay)
        struck += 1
        if kill.kind == "worker":
            _kill_worker(folder)
        elif kill.kind == "node":
            arena.lose_node()
        else:
            driver.kill()
            driver.communicate()
            known.append((folder / FILE).read_bytes())
            wrong += damaged_checkpoints(folder) if real else []
            driver = start(folder, case, arena, real=real, remote=remote)
    shown, _ = driver.communicate(timeout=PATIENCE * 2)
    if driver.returncode:
        return [*wrong, f"the driver ended with {driver.returncode}: {shown[-2000:]}"], struck
    return [*wrong, *violations(folder, known, lost=struck)], struck


def violations(folder: Path, known: list[bytes], *, lost: int) -> list[str]:
    """What a killed search must not do, if it did.

    Args:
        known: the journal as it was at each death of the driver; lost: epochs of a trial that may have been trained twice.
    """
    record, journal = read_search(folder), (folder / FILE).read_bytes()
    wrong = [
        f"line {old.count(b'x')} of the journal changed"
        for old in known
        if not journal.startswith(old[: old.rfind(b"\n") + 1])
    ]
    counts = Counter((event["event"], event.get("trial", ""), event.get("epoch")) for event in read_events(folder))
    wrong += [f"{what} is there {n} times" for what, n in counts.items() if n > 1 and what[0] in ("start", "epoch", "end")]
    labels = [trial.label for trial in record.search_trials]
    if labels != [str(number) for number in range(TRIALS)]:
        wrong.append(f"trials are {labels}")
    for trial in record.search_trials:
        epochs = [row["epoch"] for row in trial.epochs]
        if trial.state not in ("complete", "pruned"):
            wrong.append(f"trial {trial.label} is {trial.state}: {trial.reason}")
        if epochs != list(range(1, len(epochs) + 1)):
            wrong.append(f"trial {trial.label} has the epochs {epochs}")
        if (again := kill_driver.trained(folder, trial.label) - len(epochs)) > lost:
            wrong.append(f"trial {trial.label} trained {again} epochs twice, after {lost} kills")
    return [*wrong, *_disagreements(folder, record), *_left_over(folder)]


def facts(folder: Path) -> list[tuple[Any, ...]]:
    """The numbers of a search that must not depend on kills, where trials ran one after another."""
    trials = read_search(folder).search_trials
    return [(t.label, t.state, t.reason, t.params, [row["objective"] for row in t.epochs]) for t in trials]


def damaged_checkpoints(folder: Path) -> list[str]:
    """Checkpoints of unfinished trials that do not load, at the moment of a death."""
    from tune_btxrd.training.checkpoint import load

    wrong = []
    for path in (folder / CHECKPOINTS).glob("*.pt"):
        try:
            load(path)
        except ResultError as error:
            wrong.append(str(error))
    return wrong


def _disagreements(folder: Path, record: SearchRecord) -> list[str]:
    """Where study, tables and journal say different things."""
    study = optuna.load_study(study_name=folder.name, storage=open_storage(folder / "optuna.db"))
    told = [(trial.state, trial.params, trial.intermediate_values) for trial in study.trials]
    lived = [
        (OPTUNA_STATES[t.state], t.params, {row["epoch"]: row["objective"] for row in t.epochs})
        for t in record.search_trials
    ]
    with (folder / "trials.csv").open() as file:
        table = [(row["trial"], row["state"], int(row["epochs"])) for row in csv.DictReader(file)]
    wrong = [] if told == lived else ["the study differs from the journal"]
    expected = [(t.label, t.state_words, len(t.epochs)) for t in record.search_trials]
    return wrong if table == expected else [*wrong, "trials.csv differs from the journal"]


def _left_over(folder: Path) -> list[str]:
    files = [path.name for path in (folder / CHECKPOINTS).glob("*.pt")]
    return [f"checkpoints of ended trials are left: {files}"] if files else []


def start(folder: Path, case: Case, arena: Arena | None, *, real: bool = False, remote: str = "") -> "subprocess.Popen[str]":
    """The search of `folder` in a driver of its own, begun or resumed; without an arena it starts a Ray of its own."""
    arguments = [
        str(folder),
        arena.address if arena else "local",
        str(TRIALS),
        str(case.slots),
        *["--real"] * real,
        *["--promote"] * case.promote,
        *[remote] * bool(remote),
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "benchmarks.kill_driver", *arguments]
    return subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT, text=True, env=environment)


def reached(journal: Path, line: int, driver: "subprocess.Popen[str]") -> bool:
    """Waits for the journal to have so many lines; False where the driver ended before."""
    lines, limit = -1, 0.0
    while (known := journal.read_bytes().count(b"\n") if journal.is_file() else 0) < line:
        if driver.poll() is not None:
            return False
        if known > lines:
            lines, limit = known, time.monotonic() + PATIENCE
        if time.monotonic() > limit:
            driver.kill()
            raise TimeoutError(f"no line {line} in {journal} after {PATIENCE:.0f} s")
        time.sleep(0.01)
    return True


def _kill_worker(folder: Path) -> None:
    """Kills the process that told the last epoch."""
    for line in reversed((folder / FILE).read_text().splitlines()):
        with contextlib.suppress(json.JSONDecodeError):
            event = json.loads(line)
            if event["event"] == "epoch":
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(event["slot"].rpartition(":")[2]), signal.SIGKILL)
                return


def main() -> None:
    """Plays the cases and prints one line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=24, help="cases to play")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--promote", action="store_true", help="trials that pause at rungs (`scheduler: promote`)")
    parser.add_argument("--real", action="store_true", help="real trainings instead of a stub")
    flags = parser.parse_args()
    arena, bad, kills = Arena(), 0, 0
    try:
        with tempfile.TemporaryDirectory() as aside:
            for seed in range(flags.first, flags.first + flags.seeds):
                case, began = replace(make_case(seed), promote=flags.promote), time.monotonic()
                wrong, struck = play(case, Path(aside) / f"seed_{seed}", arena, real=flags.real)
                what = ", ".join(f"{kill.kind} at line {kill.line}" for kill in case.kills[:struck])
                print(f"seed {seed}: {case.slots} slot(s); {what}; {time.monotonic() - began:.0f} s; {wrong or 'all well'}")
                bad, kills = bad + bool(wrong), kills + struck
    finally:
        arena.close()
    print(f"{flags.seeds} searches, {kills} kills, {bad} with something lost, counted twice or in disagreement")
    sys.exit(bool(bad))


def with_token() -> None:
    """Begins this program again with a token to log in with, since Ray reads it as it is imported."""
    if "RAY_AUTH_TOKEN" not in os.environ:
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "c0ffee" * 10}
        os.execv(sys.executable, [sys.executable, *sys.argv])


if __name__ == "__main__":
    with_token()
    main()
