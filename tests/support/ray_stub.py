"""What tests with a real Ray share: a stub trainable with made-up curves, a run around it, and a driver to be killed."""

import sys
from pathlib import Path
from typing import Any

from tune_btxrd.distributed.connect import connected
from tune_btxrd.distributed.driver import SearchRun, Trainable, run_search
from tune_btxrd.results.search_json import Layout
from tune_btxrd.search.listener import Listener
from tune_btxrd.search.record import SearchRecord, TrialRecord
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.training.source import Source

STUB = """
epochs: 8
scheduler: asha
grace_period: 2
reduction_factor: 2
startup_trials: 4
confirm: 0
space:
  lr: {low: 1.0e-5, high: 1.0e-2, log: true}
  dropout: {low: 0.0, high: 0.5}
start:
  - {lr: 1.0e-3, dropout: 0.2}
"""


def make_stub(folder: Path, *, seconds: float = 0.0, faults: dict[str, str] | None = None) -> Trainable:
    """A trainable that reports a curve made of lr and dropout; each epoch takes `seconds`.

    Args:
        folder: where every attempt leaves a line, in `<label>.txt`.
        faults: label -> what happens in its second epoch: "raise", "nan", "die" (its first attempt only), "die always",
            "memory", "gpu memory", "hog" (its first attempt takes memory until Ray's monitor ends it).
    """
    where, wrong = str(folder), dict(faults or {})

    def stub(config: dict[str, Any]) -> None:  # nested, so that Ray sends its code and needs no test module
        import math
        import os
        import time
        from pathlib import Path

        from ray import tune

        label, values, best = config["trial"], config["hyperparameters"], math.inf
        log = Path(where) / f"{label}.txt"
        with log.open("a") as file:
            file.write("begun\n")
        attempts = len(log.read_text().splitlines())
        lr = math.log10(values["lr"])
        for epoch in range(1, values["epochs"] + 1):
            time.sleep(seconds)
            fault = wrong.get(label, "") if epoch == 2 else ""
            if fault == "raise":
                raise RuntimeError("no such thing")
            if fault == "memory":
                raise MemoryError
            if fault == "hog" and attempts == 1:
                taken = []
                while len(taken) < 80:
                    taken.append(bytearray(os.urandom(1 << 20) * 100))
                    time.sleep(0.05)
            if fault == "gpu memory":  # as torch names it, without a GPU
                raise type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory. Tried to allocate 20.00 GiB.")
            if fault == "die always" or (fault == "die" and attempts == 1):
                os.kill(os.getpid(), 9)
            row: dict[str, Any] = {"epoch": epoch, "lr": values["lr"], "slot": f"stub:{os.getpid()}", "reason": ""}
            if fault == "nan":
                tune.report({**row, "objective": math.inf, "stop": "diverged", "reason": f"loss nan in epoch 2 at lr={lr}"})
                return
            loss = 0.5 + 0.1 * (lr + 4) ** 2 + (values["dropout"] - 0.4) ** 2 + 0.5 / epoch
            row |= {"train_loss": loss, "val_loss": loss, "val_acc": 0.5, "val_macro_f1": 0.5, "val_recall_a": 0.5}
            stop = "budget" if epoch == values["epochs"] else ""
            tune.report(
                {**row, "objective": min(best, loss), "improved": loss < best, "stop": stop, "zero_recall_epochs": 0}
            )
            best = min(best, loss)

    return stub


def run_stub(
    folder: Path,
    spec: SearchSpec,
    *,
    slots: int = 2,
    retries: int = 2,
    address: str | None = None,
    slow_end: float = 0.0,
    logs: dict[str, Any] | None = None,
    listeners: tuple[Listener, ...] = (),
    **stub: Any,
) -> SearchRecord:
    """A search with the stub in this process's Ray (or one at the address), in a new folder or one that goes on.

    Args:
        slow_end: seconds that every trial needs to unwind, however it ends.
        logs: `tensorboard` and `mlflow` of the run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "search.json").write_text("{}")
    (folder / "journal.jsonl").touch()
    source = Source(cache="none", splits="none", class_names=("a", "b"), positive_class=0)
    layout = Layout(slots=slots, cpus=1, gpus=0, threads=1, epoch_seconds=1.0)
    where = {"folder": folder, "source": source, "split": "common", "device": "cpu", "layout": layout}
    run = SearchRun(**where, retries=retries, **(logs or {}))
    with connected(address=address, name=folder.name) as cluster:
        trainable = unwinding(make_stub(folder, **stub), seconds=slow_end)
        return run_search(spec, run, cluster, listeners=(Teller(), *listeners), trainable=trainable)


def unwinding(trainable: Trainable, *, seconds: float) -> Trainable:
    """The same trainable, which takes so long to end, also where it is stopped."""

    def slow(config: dict[str, Any]) -> None:
        import time

        try:
            trainable(config)
        finally:
            time.sleep(seconds)

    return slow


class Teller(Listener):
    """Prints each epoch, for the test that kills the driver at a chosen one."""

    def epoch(self, trial: TrialRecord) -> None:
        """One line."""
        print(f"epoch {trial.label} {len(trial.epochs)}", flush=True)


if __name__ == "__main__":  # the driver to be killed: python -m tests.support.ray_stub FOLDER ADDRESS TRIALS
    target, ray_address, count = sys.argv[1:]
    small = SearchSpec.from_text(STUB).override({"trials": int(count)}, {})
    run_stub(Path(target), small, slots=1, address=ray_address, seconds=0.1)
