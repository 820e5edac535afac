"""How long until a search is as good as the best of 24 full-length random configs: ours against the tutorial way, 5 seeds.

python -m benchmarks.time_to_quality                    (about an hour on 2 CPU cores)
python -m benchmarks.time_to_quality --minutes 4        (a part of it; the same command again goes on where it stopped)

timm's smallest EfficientNet at 64 px from random weights, as in the first run (`search_spaces/phantom.yaml`), on 1,000
phantom images of 224 px. Class-weighted training loss, unweighted val loss, the same space, first config, epochs, rungs and
slots in both. The target is the lowest val loss of any epoch of 24 random configs that train to the end.
Seconds run from the command to the first epoch that is as good. A search may begin as many trials as it likes, but ends
after LIMIT seconds: "not reached".
"""

import argparse
import contextlib
import json
import os
import signal
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.outcome import circumstances, python, write
from benchmarks.phantom_source import phantom_source
from benchmarks.search_overhead import SPACE
from tune_btxrd.data.phantom import PhantomSpec
from tune_btxrd.search.listener import Listener
from tune_btxrd.search.record import TrialRecord
from tune_btxrd.search.space.spec import SearchSpec

PHANTOM = PhantomSpec(count=1000, size=224, seed=0)
BACKBONE, IMAGE_SIZE, BATCH, SLOTS, THREADS = "test_efficientnet", 64, 16, 2, 1
CONFIGS, SEEDS, LIMIT = 24, 5, 300.0  # random configs; seeds; seconds of a search
RUNGS = {"epochs": 12, "grace_period": 2, "reduction_factor": 3}
ENDLESS = 1000  # trials
Told = list[tuple[float, float]]  # (seconds since 1970, val loss) of every epoch


class Until(Listener):
    """Notes every epoch; ends the search once a val loss is as low as the target, or at the deadline."""

    def __init__(self, target: float, deadline: float) -> None:
        self.target, self.deadline = target, deadline
        self.told: Told = []

    def epoch(self, trial: TrialRecord) -> None:
        """Notes and compares."""
        row = trial.epochs[-1]
        self.told.append((row["time"], row["val_loss"]))
        if row["val_loss"] <= self.target or row["time"] > self.deadline:
            os.kill(os.getpid(), signal.SIGINT)


def prepared(work: Path) -> tuple[Any, Any, Any]:
    """Source, manifest and split of the phantom in `work`; what is there stays."""
    places = {"cache": work, "splits": work / "splits"}
    return phantom_source(PHANTOM, work / "phantom", **places, image_size=IMAGE_SIZE)


def ours(work: Path, target: float, deadline: float, changes: dict[str, Any]) -> Told:
    """Our search."""
    from benchmarks.our_search import our_search

    fixed = {"backbone": BACKBONE, "batch_size": BATCH, "image_size": IMAGE_SIZE, "pretrained": False}
    spec = SearchSpec.from_text(SPACE).override({**RUNGS, **changes}, {**fixed, "patience": RUNGS["epochs"]})
    listener = Until(target, deadline)
    with contextlib.suppress(KeyboardInterrupt):  # the target was reached, or the time is up
        our_search(work, spec, prepared(work)[0], listener, slots=SLOTS, threads=THREADS)
    return listener.told


def tutorial(work: Path, target: float, deadline: float, seed: int) -> Told:
    """The tutorial way."""
    from benchmarks.tutorial_way import Task, search

    source, manifest, split = prepared(work)
    data = source.training_data("stratified")
    rows = {image_id: row for row, image_id in enumerate(manifest.image_ids)}
    weights = tuple((data.train_counts.sum() / (len(data.train_counts) * data.train_counts)).tolist())

    def part(name: str) -> tuple[list[str], list[int]]:
        chosen = [rows[image_id] for image_id in split.parts[name]]
        return [str(manifest.files[row]) for row in chosen], [int(data.targets[row]) for row in chosen]

    ends = {"until": target, "deadline": deadline, "first": dict(SearchSpec.from_text(SPACE).start[0])}
    several = {"trials": ENDLESS, "slots": SLOTS, "weights": weights, "seed": seed, "backbone": BACKBONE, "batch": BATCH}
    with tempfile.TemporaryDirectory(dir=work) as folder:
        told = search(Task(part("train"), part("val"), IMAGE_SIZE, **RUNGS, **several, **ends), Path(folder))
    return [(when, loss) for when, _, loss in told]


def drive(options: argparse.Namespace) -> dict[str, Any]:
    """One piece, in this process."""
    if options.piece == "target":
        random = {"scheduler": "none", "sampler": "random", "seed": 1000, "trials": CONFIGS}
        return {"target": min(loss for _, loss in ours(options.work, 0.0, float("inf"), random))}
    deadline = options.asked + LIMIT
    if options.piece == "ours":
        told = ours(options.work, options.target, deadline, {"seed": options.seed, "trials": ENDLESS})
    else:
        told = tutorial(options.work, options.target, deadline, options.seed)
    reached = [when for when, loss in told if loss <= options.target]
    best = min(loss for _, loss in told)
    return {"seconds": min(reached) - options.asked if reached else None, "epochs": len(told), "best": best}


def measure(work: Path, seeds: int, minutes: float) -> list[dict[str, Any]] | None:
    """Runs the pieces that are not there yet, in turn; all of them, or None where the time was up before."""
    path, began = work / "pieces.jsonl", time.monotonic()
    done = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    plan = [("target", 0), *((way, seed) for seed in range(seeds) for way in ("ours", "tutorial"))]
    for kind, seed in plan:
        if any((item["kind"], item["seed"]) == (kind, seed) for item in done):
            continue
        if time.monotonic() - began > 60 * minutes:
            return None
        target = next((item["target"] for item in done if item["kind"] == "target"), 0.0)
        flags = ("--piece", kind, "--seed", seed, "--target", target, "--asked", f"{time.time():.3f}", "--work", work)
        found = json.loads(python("-m", "benchmarks.time_to_quality", *map(str, flags)).splitlines()[-1])
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
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "quality-benchmark")
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
    prepared(options.work)
    done = measure(options.work, options.seeds, options.minutes)
    if done is None:
        print("Not all is measured yet: the same command again goes on.")
    else:
        write("time_to_quality", table(done), {**found, "pieces": done})


if __name__ == "__main__":
    main()
