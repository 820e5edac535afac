"""Seconds from a command to its first training step, taken apart: ours, the same without copies, and stock Ray Tune.

python -m benchmarks.start                (about 3 minutes on 2 CPU cores)

`ours` is `search` on a dataset that is prepared: it reads, checks, starts Ray with its dashboard, measures how many trials
run at once, and begins the first trial. `ours without copies` imports torch in every process anew, as on other systems than
Linux. `stock` is Ray's own `Tuner` with one trial on each of two slots that imports torch and timm and takes one step of a
linear layer; it reads nothing, checks nothing and measures nothing. Commands take turns; processor seconds are those of the
machine.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.outcome import circumstances, write
from tune_btxrd.search.journal import FILE as JOURNAL
from tune_btxrd.search.journal import read_events

SEARCH = ["--phantom", "images", "--phantom-count", "300", "--image-size", "64", "--trials", "4", "--cpus-per-trial", "1"]
WITHOUT = "import sys; from tune_btxrd.distributed import forks; forks.SUPPORTED = False\n"
WITHOUT += "from tune_btxrd.cli.main import main; sys.exit(main(sys.argv[1:]))"
WAYS = {
    "ours": ["-m", "tune_btxrd"],
    "ours without copies": ["-c", WITHOUT],
    "stock": ["-m", "benchmarks.start", "--stock"],
}
PARTS = ("reads and checks", "Ray, layout", "first trial asked for", "process, first step")


def stock(marks: Path) -> None:
    """Ray's Tuner as its documentation shows it; the first step's time goes into a file."""
    from ray import tune

    def trainable(config: dict[str, Any]) -> None:
        import timm  # what a trial of images needs
        import torch

        model = torch.nn.Linear(4, 1)
        with Path(config["marks"]).open("a") as file:
            file.write(f"{time.time()} {timm.__version__}\n")
        model(torch.ones(1, 4)).sum().backward()
        tune.report({"loss": 0.0})

    tune.Tuner(
        tune.with_resources(trainable, {"CPU": 1}),
        param_space={"lr": tune.loguniform(1e-5, 1e-2), "marks": str(marks)},
        tune_config=tune.TuneConfig(metric="loss", mode="min", num_samples=2),
        run_config=tune.RunConfig(name="stock", storage_path=str(marks.parent)),
    ).fit()


def our_marks(folder: Path) -> list[float]:
    """Times at which our parts ended; as many as have."""
    if not (folder / JOURNAL).is_file():
        return []
    first = {event["event"]: event for event in reversed(list(read_events(folder)))}
    if "epoch" not in first:
        return []
    step = first["epoch"]["time"] - first["epoch"]["train_seconds"] - first["epoch"]["val_seconds"]
    return [(folder / "space.yaml").stat().st_mtime, first["session"]["time"], first["start"]["time"], step]


def measure(way: str, work: Path, number: int) -> dict[str, float]:
    """One command, ended after its first step: wall seconds of each part, all of them, and processor seconds."""
    marks, name = work / f"marks{number}", f"{way.replace(' ', '-')}-{number}"
    words = ["search", *SEARCH, "--slots", "2", "--name", name, "--cache", str(work / "cache"), "--storage", str(work)]
    command = [sys.executable, *WAYS[way], *([str(marks)] if way == "stock" else words)]
    began, busy = time.time(), busy_seconds()
    with subprocess.Popen(command, cwd=work, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not (found := stock_marks(marks) if way == "stock" else our_marks(work / name)):
            if process.poll() is not None:
                raise RuntimeError(f"{way} ended before its first step")
            time.sleep(0.02)
        used = busy_seconds() - busy
        process.send_signal(signal.SIGINT)
        process.wait()
    ends = [began, *found]
    parts = {part: end - start for part, start, end in zip(PARTS, ends, ends[1:], strict=False)} if way != "stock" else {}
    return {**parts, "first step": found[-1] - began, "processor": used}


def stock_marks(marks: Path) -> list[float]:
    """The time of the stock way's first step, once it is there."""
    return [float(line.split()[0]) for line in marks.read_text().splitlines()[:1]] if marks.is_file() else []


def busy_seconds() -> float:
    """Processor seconds of this machine so far, all processes."""
    values = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    return (int(values[0]) + int(values[1]) + int(values[2])) / os.sysconf("SC_CLK_TCK")


def compare(rounds: int) -> None:
    """All ways in turn; medians."""
    found: dict[str, Any] = circumstances()
    with tempfile.TemporaryDirectory(prefix="start-benchmark-") as aside:
        work = Path(aside)
        measure("ours", work, 0)  # prepares
        runs = [{way: measure(way, work, number) for way in WAYS} for number in range(1, rounds + 1)]
    rows = []
    for way in WAYS:
        values = {name: statistics.median(run[way][name] for run in runs) for name in runs[0][way]}
        ratio = statistics.median(run[way]["first step"] / run["stock"]["first step"] for run in runs)
        cells = {name: round(values[name], 1) if name in values else "" for name in (*PARTS, "first step", "processor")}
        rows.append({"way": way, **cells, "to stock": round(ratio, 2)})
    write("start", rows, {**found, "runs": runs})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="of all ways in turn; medians are reported")
    parser.add_argument("--stock", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stock:
        stock(arguments.stock)
    else:
        compare(arguments.rounds)
