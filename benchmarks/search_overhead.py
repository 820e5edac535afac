"""What a search costs beside its arithmetic: 16 trials, ours / the bare arithmetic / the tutorial way, in turn.

python -m benchmarks.search_overhead                    (about 30 minutes on 2 CPU cores)
python -m benchmarks.search_overhead --minutes 4        (a part of it; the same command again goes on where it stopped)

EfficientNet-B0 at 64 px on phantom images, once of about 1600 x 2100 pixels and once of 224. Ours and the tutorial way have
the same space, epochs, rungs, slots and threads; the arithmetic is `bare_loop.py` in as many processes with as many threads.
All give wall seconds per trained epoch of the whole machine. `after start` begins with the first training step and ends with
the last trial, so a slot without work at the end counts; the rest of the command (Ray, processes, imports) is in `with
start`, the end of Ray and of the process included. `confirmed` is ours with the confirmation that `search` does by default:
12 trainings more, all on the hand-made config's and the best configs' other partitions (here the same one).

The machine's speed drifts within minutes, so every piece is compared with the arithmetic right before and right after it.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.outcome import circumstances, python, write
from tune_btxrd.distributed.forks import warm
from tune_btxrd.search.listener import Listener
from tune_btxrd.search.record import TrialRecord

DATA = {"large": 2250, "small": 224}  # px of the phantom's longest side; large comes out at about 1600 x 2100
IMAGE_SIZE, SLOTS, THREADS, TRIALS = 64, 2, 1, 16
ORDER = {
    "large": ("arithmetic", "ours", "arithmetic", "tutorial", "arithmetic", "confirmed", "arithmetic"),
    "small": ("arithmetic", "ours", "arithmetic", "confirmed", "arithmetic", "tutorial", "arithmetic", "ours", "arithmetic"),
}
KINDS = ("arithmetic", "ours", "confirmed", "tutorial")
CONFIRMATION = {"confirm": 3, "repeats": 3}
ARITHMETIC_EPOCHS = 8  # of each process
RUNGS = {"epochs": 4, "grace_period": 1, "reduction_factor": 2}
SPACE = """
scheduler: asha
startup_trials: 8
confirm: 0
space:
  lr: {low: 1.0e-5, high: 1.0e-2, log: true}
  dropout: {low: 0.0, high: 0.5}
  weight_decay: {low: 1.0e-6, high: 1.0e-1, log: true}
start:
  - {lr: 1.0e-3, dropout: 0.2, weight_decay: 1.0e-4}
"""


def prepare(work: Path, data: str, count: int) -> None:
    """Phantom, cache and split in `work`; what is there stays."""
    from benchmarks.phantom_source import phantom_source
    from tune_btxrd.data.phantom import PhantomSpec

    source, splits = work / f"{data}.json", work / f"{data}_splits"
    confirmation = [splits / f"confirm_{repeat}.csv" for repeat in range(1, CONFIRMATION["repeats"] + 1)]
    if all(path.is_file() for path in (source, *confirmation)):
        return
    # the large one is that of decode.py, since drawing it takes minutes
    root = work.parent / "decode-benchmark" if data == "large" else work / data
    spec = PhantomSpec(count=count, size=DATA[data], seed=0)
    found, manifest, split = phantom_source(spec, root, cache=work, splits=splits, image_size=IMAGE_SIZE)
    files = {image_id: str(file) for image_id, file in zip(manifest.image_ids, manifest.files, strict=True)}
    for path in confirmation:
        shutil.copy(splits / "stratified.csv", path)
    source.write_text(json.dumps({"source": found.to_dict(), "files": files, "parts": split.parts}))


def arithmetic(work: Path, data: str) -> dict[str, float]:
    """Seconds per epoch of the bare loop, slots side by side."""
    from benchmarks.bare_loop import Task, epoch_seconds

    source, found = source_of(work, data)
    parts = source.training_data("stratified")
    images = Path(found["cache"]) / "images.npy"
    task = Task(images, parts.targets, parts.train_rows, parts.val_rows, epochs=ARITHMETIC_EPOCHS, threads=THREADS)
    return {"after start": epoch_seconds(task, processes=SLOTS) / SLOTS, "epochs": ARITHMETIC_EPOCHS * SLOTS}


def ours(work: Path, data: str, asked: float, *, confirmed: bool) -> dict[str, float]:
    """Seconds per epoch of our search."""
    from benchmarks.our_search import our_search
    from tune_btxrd.search.space.spec import SearchSpec

    first: list[float] = []

    class Starts(Listener):
        def epoch(self, trial: TrialRecord) -> None:
            row = trial.epochs[-1]
            first.append(row["time"] - row["train_seconds"] - row["val_seconds"])

    fixed = {"image_size": IMAGE_SIZE, "pretrained": False}
    spec = SearchSpec.from_text(SPACE).override({"trials": TRIALS, **RUNGS, **(CONFIRMATION if confirmed else {})}, fixed)
    record = our_search(work, spec, source_of(work, data)[0], Starts(), slots=SLOTS, threads=THREADS)
    ended = max(trial.ended or 0.0 for trial in record.trials.values())
    states = {state: sum(t.state == state for t in record.search_trials) for state in ("complete", "pruned", "failed")}
    assert not any(trial.state == "failed" for trial in record.trials.values())
    return {"after start": (ended - min(first)) / len(first), "start": min(first) - asked, "epochs": len(first), **states}


def tutorial(work: Path, data: str, asked: float) -> dict[str, float]:
    """Seconds per epoch of the tutorial way."""
    from benchmarks.tutorial_way import Task, search

    source, found = source_of(work, data)
    targets = dict(zip(found["files"], source.training_data("stratified").targets.tolist(), strict=True))

    def part(name: str) -> tuple[list[str], list[int]]:
        ids = found["parts"][name]
        return [found["files"][image_id] for image_id in ids], [targets[image_id] for image_id in ids]

    task = Task(part("train"), part("val"), IMAGE_SIZE, trials=TRIALS, slots=SLOTS, **RUNGS)
    with tempfile.TemporaryDirectory(dir=work) as folder:
        told = search(task, Path(folder))
    return {"epochs": len(told), "start": min(when for when, *_ in told) - asked}


def source_of(work: Path, data: str) -> tuple[Any, dict[str, Any]]:
    """The dataset as trainings find it, and all that `prepare` noted."""
    from tune_btxrd.training.source import Source

    found = json.loads((work / f"{data}.json").read_text())
    return Source.from_dict(found["source"]), {**found, "cache": found["source"]["cache"]}


def piece(kind: str, data: str, work: Path) -> dict[str, float]:
    """One measurement in a process of its own, its start and end included."""
    began, asked = time.perf_counter(), time.time()
    arguments = ("--piece", kind, "--data", data, "--work", work, "--asked", f"{asked:.3f}")
    found: dict[str, float] = json.loads(python("-m", "benchmarks.search_overhead", *arguments).splitlines()[-1])
    if kind != "arithmetic":
        found["with start"] = (time.perf_counter() - began) / found["epochs"]
    return found


def measure(work: Path, datasets: list[str], minutes: float) -> bool:
    """Runs the pieces that are not there yet, in turn, until the time is up; whether all are there."""
    path, began = work / "pieces.jsonl", time.monotonic()
    done = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    for data in datasets:
        for number, kind in enumerate(ORDER[data]):
            if any((item["data"], item["number"]) == (data, number) for item in done):
                continue
            if time.monotonic() - began > 60 * minutes:
                return False
            item = {"data": data, "number": number, "kind": kind, **piece(kind, data, work)}
            print(item, flush=True)
            with path.open("a") as file:
                file.write(json.dumps(item) + "\n")
    return True


def table(work: Path) -> list[dict[str, Any]]:
    """Seconds per epoch and ratios, one row per way and dataset: means over the pieces of a way."""
    done = [json.loads(line) for line in (work / "pieces.jsonl").read_text().splitlines()]
    rows = []
    for data in dict.fromkeys(item["data"] for item in done):
        pieces = sorted((item for item in done if item["data"] == data), key=lambda item: item["number"])
        tutorial = means(pieces, "tutorial", "with start")
        for kind in KINDS:
            for name in ("after start", "with start"):
                if not any(item["kind"] == kind and name in item for item in pieces):
                    continue
                seconds, ratio = means(pieces, kind, name)
                ratios = {"to arithmetic": round(ratio, 2), "tutorial to it": round(tutorial[1] / ratio, 2)}
                rows.append({"images": data, "way": f"{kind} {name}", "s per epoch": round(seconds, 3), **ratios})
    return rows


def means(pieces: list[dict[str, Any]], kind: str, name: str) -> tuple[float, float]:
    """Seconds per epoch of a way, and how many times those of the arithmetic right before and after each piece;
    1 for the arithmetic itself.
    """
    seconds, ratios = [], []
    for before, piece, after in zip([None, *pieces], pieces, [*pieces[1:], None], strict=False):
        if piece["kind"] != kind:
            continue
        beside = [other["after start"] for other in (before, after) if other is not None and other["kind"] == "arithmetic"]
        seconds.append(piece[name])
        ratios.append(piece[name] / statistics.fmean(beside) if beside else 1.0)
    return statistics.fmean(seconds), statistics.fmean(ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300, help="phantom images")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no new piece after so long")
    parser.add_argument("--fresh", action="store_true", help="forget the pieces of an earlier command")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "overhead-benchmark")
    parser.add_argument("--only", choices=DATA, help="one of the two datasets")
    parser.add_argument("--piece", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--data", help=argparse.SUPPRESS)
    parser.add_argument("--asked", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.piece == "arithmetic":
        print(json.dumps(arithmetic(options.work, options.data)))
    elif options.piece:
        ways = {"ours": partial(ours, confirmed=False), "confirmed": partial(ours, confirmed=True), "tutorial": tutorial}
        with warm() if options.piece != "tutorial" else nullcontext():  # as the command line does at its start
            print(json.dumps(ways[options.piece](options.work, options.data, options.asked)))
    else:
        found, datasets = circumstances(), [options.only] if options.only else list(DATA)
        options.work.mkdir(exist_ok=True)
        if options.fresh:
            (options.work / "pieces.jsonl").unlink(missing_ok=True)
        for data in datasets:
            prepare(options.work, data, options.count)
        if measure(options.work, datasets, options.minutes):
            pieces = [json.loads(line) for line in (options.work / "pieces.jsonl").read_text().splitlines()]
            write("search_overhead", table(options.work), {**found, "pieces": pieces})
        else:
            print("Not all is measured yet: the same command again goes on.")


if __name__ == "__main__":
    main()
