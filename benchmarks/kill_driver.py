"""The search that `kill.py` kills: kill_driver.py FOLDER ADDRESS|local TRIALS SLOTS [--real] [--promote] [URI].

With a URI, the storage's copy goes there and every node is brought its own copy of the pixels.
"""

import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from tune_btxrd.distributed.connect import connected
from tune_btxrd.distributed.driver import SearchRun, Trainable, run_search
from tune_btxrd.distributed.interrupts import stoppable
from tune_btxrd.distributed.nodes import join_nodes
from tune_btxrd.distributed.remote_storage import RemoteFolder
from tune_btxrd.errors import TuneBtxrdError
from tune_btxrd.results.search_json import Layout
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.training.source import Source

SPACE = """
epochs: 4
grace_period: 2
reduction_factor: 2
startup_trials: 3
confirm: 0
space:
  lr: {low: 1.0e-5, high: 1.0e-2, log: true}
  dropout: {low: 0.0, high: 0.5}
start:
  - {lr: 1.0e-3, dropout: 0.2}
"""
TINY = {"backbone": "test_efficientnet", "pretrained": False, "image_size": 32, "batch_size": 8}
SECONDS = 0.1  # of an epoch of the stub
RETRIES = 9  # every trial is to survive all kills of its case


def drive(
    folder: Path,
    address: str | None,
    *,
    trials: int,
    slots: int,
    real: bool = False,
    promote: bool = False,
    remote: RemoteFolder | None = None,
    retries: int = RETRIES,
) -> None:
    """Begins or goes on with the search in `folder`, to its end."""
    (folder / "trained").mkdir(parents=True, exist_ok=True)
    if not (folder / "search.json").exists():
        (folder / "journal.jsonl").touch()
        (folder / "search.json").write_text("{}")
    source = _pictures(folder) if real else Source(cache="", splits="", class_names=("a", "b"), positive_class=0)
    layout = Layout(slots=slots, cpus=1, gpus=0, threads=1, epoch_seconds=1.0)
    run = SearchRun(
        folder=folder, source=source, split="common", device="cpu", layout=layout, retries=retries, remote=remote
    )
    spec = search_spec(trials, real=real, promote=promote)
    with connected(address=address, name=folder.name) as cluster:
        shipment = join_nodes(cluster, source, shared={"--storage": folder}, remote=remote) if real else None
        run_search(spec, replace(run, shipment=shipment), cluster, trainable=None if real else stub(folder))


def search_spec(trials: int, *, real: bool = False, promote: bool = False) -> SearchSpec:
    """What is searched."""
    settings: dict[str, Any] = {"trials": trials}
    settings |= {"epochs": 8} if real else {}  # long enough to be killed in
    settings |= {"scheduler": "promote", "grace_period": 1} if promote else {"scheduler": "asha"}
    return SearchSpec.from_text(SPACE).override(settings, TINY if real else {})


def made_up_loss(values: dict[str, Any], epoch: int) -> float:
    """The stub's curves."""
    distance = 0.1 * (math.log10(values["lr"]) + 4) ** 2 + (values["dropout"] - 0.4) ** 2
    return float(0.5 + distance + 0.5 / epoch)


def trained(folder: Path, label: str) -> int:
    """Epochs that the stub trained of a trial, those trained again included; 0 where real trainings ran."""
    path = folder / "trained" / f"{label}.txt"
    return len(path.read_text().splitlines()) if path.is_file() else 0


def stub(folder: Path) -> Trainable:
    """Made-up curves with a checkpoint after each epoch, as a real trial has it, but no torch."""
    where, seconds, loss_of = str(folder), SECONDS, made_up_loss

    def trainable(config: dict[str, Any]) -> None:
        import json
        import os
        import time
        from pathlib import Path

        from ray import tune

        values = config["hyperparameters"]
        checkpoint = Path(where) / "trial_checkpoints" / f"{config['trial']}.pt"
        checkpoint.parent.mkdir(exist_ok=True)
        rows = json.loads(checkpoint.read_text()) if checkpoint.exists() else []
        for row in rows:
            tune.report(row)
        for epoch in range(len(rows) + 1, values["epochs"] + 1):
            time.sleep(seconds)
            with (Path(where) / "trained" / f"{config['trial']}.txt").open("a") as file:
                file.write(f"{epoch}\n")
            loss = loss_of(values, epoch)
            row = {"epoch": epoch, "lr": values["lr"], "slot": f"{os.uname().nodename}:{os.getpid()}", "improved": True}
            row |= {"train_loss": loss, "val_loss": loss, "val_acc": 0.5, "val_macro_f1": 0.5, "val_recall_a": 0.5}
            row |= {"objective": loss, "zero_recall_epochs": 0, "stop": "budget" if epoch == values["epochs"] else ""}
            rows.append(row)
            aside = checkpoint.with_suffix(".part")
            aside.write_text(json.dumps(rows))
            aside.replace(checkpoint)
            tune.report(row)

    return trainable


def _pictures(folder: Path) -> Source:
    """48 made-up pictures in a cache, with a split, beside the search."""
    from tests.support.sources import CLASSES, make_source

    where = folder.with_name(f"{folder.name}_data")
    if not where.exists():
        return make_source(where)
    return Source(cache=str(where / "cache"), splits=str(where / "splits"), class_names=CLASSES, positive_class=2)


if __name__ == "__main__":
    target, ray_address, count, at_once, *more = sys.argv[1:]
    storage = [RemoteFolder(word) / Path(target).name for word in more if "://" in word]
    own = {"trials": int(count), "slots": int(at_once), "real": "--real" in more, "promote": "--promote" in more}
    try:
        with stoppable(lambda: "Interrupted; everything reported is saved. Go on with the same command."):
            address = None if ray_address == "local" else ray_address
            drive(Path(target), address, remote=storage[0] if storage else None, **own)
    except KeyboardInterrupt as interrupt:
        sys.exit(getattr(interrupt, "exit_code", 130))
    except TuneBtxrdError as error:
        print(f"tune-btxrd: {error}")
        sys.exit(error.exit_code)
