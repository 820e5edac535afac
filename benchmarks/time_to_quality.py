"""How long until a search is as good as the best of 24 full-length random configs: ours against the tutorial way, 5 seeds.

python benchmarks/time_to_quality.py                    (more than an hour on 2 CPU cores)
python benchmarks/time_to_quality.py --minutes 4        (a part of it; the same command again goes on where it stopped)

EfficientNet-B0 at 64 px from random weights on the small phantom of `search_overhead.py`, class-weighted training loss and
unweighted val loss in both. The target is the lowest val loss of any epoch of 24 random configs that train to the end.
Seconds run from the command to the first epoch that is as good; a search that ends before counts as "not reached".
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from outcome import circumstances, python, write
from search_overhead import IMAGE_SIZE, SLOTS, SPACE, THREADS, prepare, source_of

from tune_btxrd.search.listener import Listener
from tune_btxrd.search.trials import TrialRecord

DATA, EPOCHS, TRIALS, SEEDS = "small", 8, 24, 5
RUNGS = {"epochs": EPOCHS, "grace_period": 2, "reduction_factor": 2}


class Until(Listener):
    """Notes each epoch's time and val loss; ends the search once a val loss is as low as the target."""

    def __init__(self, target: float) -> None:
        self.target, self.told = target, list[tuple[float, float]]()

    def epoch(self, trial: TrialRecord) -> None:
        """Notes and compares."""
        row = trial.epochs[-1]
        self.told.append((row["time"], row["val_loss"]))
        if row["val_loss"] <= self.target:
            os.kill(os.getpid(), signal.SIGINT)


def ours(work: Path, target: float, changes: dict[str, Any]) -> list[tuple[float, float]]:
    """(time, val loss) of every epoch of our search."""
    from tune_btxrd.search.cluster import connected
    from tune_btxrd.search.driver import SearchRun, run_search
    from tune_btxrd.search.measure import Layout
    from tune_btxrd.search.space import SearchSpec

    folder = Path(tempfile.mkdtemp(dir=work)) / "search"
    folder.mkdir()
    (folder / "search.json").write_text("{}")
    (folder / "journal.jsonl").touch()
    fixed = {"image_size": IMAGE_SIZE, "pretrained": False, "patience": EPOCHS}
    spec = SearchSpec.from_text(SPACE).override({"trials": TRIALS, **RUNGS, **changes}, fixed)
    layout = Layout(slots=SLOTS, cpus=1, gpus=0, threads=THREADS, epoch_seconds=1.0)
    run = SearchRun(folder=folder, source=source_of(work, DATA)[0], split="stratified", device="cpu", layout=layout)
    listener = Until(target)
    # interrupted: the target was reached
    with connected(address=None, name="quality") as cluster, contextlib.suppress(KeyboardInterrupt):
        run_search(spec, run, cluster, listeners=(listener,))
    shutil.rmtree(folder.parent)
    return listener.told


def tutorial(work: Path, target: float, seed: int) -> list[tuple[float, float]]:
    """(time, val loss) of every epoch of the tutorial way."""
    from tutorial_way import Task, search

    source, found = source_of(work, DATA)
    data = source.training_data("stratified")
    targets = dict(zip(found["files"], data.targets.tolist(), strict=True))
    counts = data.train_counts
    weights = tuple((counts.sum() / (len(counts) * counts)).tolist())

    def part(name: str) -> tuple[list[str], list[int]]:
        ids = found["parts"][name]
        return [found["files"][image_id] for image_id in ids], [targets[image_id] for image_id in ids]

    several = {"trials": TRIALS, "slots": SLOTS, "weights": weights, "seed": seed, "until": target}
    with tempfile.TemporaryDirectory(dir=work) as folder:
        told = search(Task(part("train"), part("val"), IMAGE_SIZE, **RUNGS, **several), Path(folder))
    return [(when, loss) for when, _, loss in told]


def drive(options: argparse.Namespace) -> dict[str, Any]:
    """One piece, in this process."""
    if options.piece == "target":
        random = {"scheduler": "none", "sampler": "random", "seed": 1000}
        return {"target": min(loss for _, loss in ours(options.work, 0.0, random))}
    way = tutorial if options.piece == "tutorial" else ours
    seed: Any = options.seed if options.piece == "tutorial" else {"seed": options.seed}
    told = way(options.work, options.target, seed)
    reached = [when for when, loss in told if loss <= options.target]
    return {"seconds": min(reached) - options.asked if reached else None, "epochs": len(told)}


def measure(work: Path, seeds: int, minutes: float) -> list[dict[str, Any]] | None:
    """Runs the pieces that are not there yet, in turn; all of them, or None where the time was up before."""
    path, began = work / "quality.jsonl", time.monotonic()
    done = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    plan = [("target", 0), *((way, seed) for seed in range(seeds) for way in ("ours", "tutorial"))]
    for kind, seed in plan:
        if any((item["kind"], item["seed"]) == (kind, seed) for item in done):
            continue
        if time.monotonic() - began > 60 * minutes:
            return None
        target = next((item["target"] for item in done if item["kind"] == "target"), 0.0)
        flags = ("--piece", kind, "--seed", seed, "--target", target, "--asked", f"{time.time():.3f}", "--work", work)
        found = json.loads(python(__file__, *map(str, flags)).splitlines()[-1])
        done.append({"kind": kind, "seed": seed, **found})
        print(done[-1], flush=True)
        with path.open("a") as file:
            file.write(json.dumps(done[-1]) + "\n")
    return done


def table(done: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Seconds per seed and their median; "not reached" counts as longer than any."""
    rows = []
    for way in ("ours", "tutorial"):
        seconds = [item["seconds"] for item in done if item["kind"] == way]
        median = statistics.median(value if value is not None else float("inf") for value in seconds)
        shown = {f"seed {seed}": "not reached" if value is None else round(value) for seed, value in enumerate(seconds)}
        rows.append({"way": way, **shown, "median s": round(median) if median < float("inf") else "not reached"})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no new piece after so long")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "overhead-benchmark")
    parser.add_argument("--piece", choices=("target", "ours", "tutorial"), help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--target", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--asked", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.piece:
        print(json.dumps(drive(options)))
        return
    found = circumstances()
    options.work.mkdir(exist_ok=True)
    prepare(options.work, DATA, 300)
    done = measure(options.work, options.seeds, options.minutes)
    if done is None:
        print("Not all is measured yet: the same command again goes on.")
    else:
        write("time_to_quality", table(done), {**found, "pieces": done})


if __name__ == "__main__":
    main()
