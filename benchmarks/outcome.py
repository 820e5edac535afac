"""What the benchmarks of speed and memory share: a table, written with hardware, versions and commit."""

import json
import multiprocessing
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = ("torch", "timm", "ray", "optuna", "numpy")
Rows = Sequence[Mapping[str, Any]]


def circumstances() -> dict[str, Any]:
    """Command, commit, hardware, load and versions."""
    commit = ["git", "describe", "--always", "--dirty"]
    git = subprocess.run(commit, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return {
        "command": " ".join(["python", "benchmarks/" + Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": git.stdout.strip() or "unknown",  # a copy without its history
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),  # above the number of cores: seconds are not to be trusted
        "python": platform.python_version(),
        **{name: version_of(name) for name in PACKAGES},
    }


def version_of(package: str) -> str:
    """A package's version, or "none" where it is not installed (a borrowed machine may lack Ray)."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def cpu_name() -> str:
    """The processor as the system calls it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


def markdown(rows: Rows) -> str:
    """A table with one line per row; columns in the order in which they first appear."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [columns, ["---"] * len(columns), *([str(row.get(name, "")) for name in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def write(name: str, rows: Rows, found: Mapping[str, Any]) -> None:
    """Prints the table; writes it to `results/NAME.md` and, with what it was made from, to `results/NAME.json`."""
    text = markdown(rows)
    print(text)
    write_text(name, text + "\n", {**found, "table": rows})


def write_text(name: str, text: str, found: Mapping[str, Any]) -> None:
    """Writes `results/NAME.md` with a head that says what it was made from, and all of it to `results/NAME.json`."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    head = f"`{found['command']}`, commit {found['commit']}, {found['cores']} cores {found['cpu']}, torch {found['torch']}, "
    head += f"ray {found['ray']}, load {found['load_before']} before"
    (RESULTS / f"{name}.md").write_text(f"{head}\n\n{text}", encoding="utf-8")


def side_by_side(work: Callable[[Any, Any, Any], None], task: Any, *, processes: int) -> list[Any]:
    """What `work(task, barrier, results)` puts into `results`, once per process, while so many run at the same time."""
    spawn = multiprocessing.get_context("spawn")
    barrier, results = spawn.Barrier(processes), spawn.Queue()
    workers = [spawn.Process(target=work, args=(task, barrier, results)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    found = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    return found


def python(*arguments: str | Path, environment: Mapping[str, str] | None = None) -> str:
    """Runs this Python on some arguments in a process of its own; what it wrote to standard output."""
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(
        command, env={**os.environ, **(environment or {})}, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout
