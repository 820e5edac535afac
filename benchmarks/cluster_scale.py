"""How much one driver can hear: results per second and driver time per result, ours against Ray's own with a stub.

    python -m benchmarks.cluster_scale nodes --counts 1,2,4,8     simulated nodes of two slots each, made-up trainings
    python -m benchmarks.cluster_scale change                     two nodes, one removed and one added half-way
    python -m benchmarks.cluster_scale logical --slots 64,256     our part of the driver alone, without Ray and processes

All nodes share this machine's cores, so rates with many nodes are a lower bound; the driver's time per result is not.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import kill_driver
from benchmarks.kill import Arena, with_token
from tune_btxrd.distributed.connect import connected
from tune_btxrd.distributed.driver import SearchRun, run_search
from tune_btxrd.distributed.pausing import Pauses
from tune_btxrd.distributed.tune_adapters import Proposals, Recorder, make_scheduler
from tune_btxrd.results.search_json import Layout
from tune_btxrd.search.conductor import Conductor
from tune_btxrd.search.journal import Journal
from tune_btxrd.search.record import read_search
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.search.study import fresh_database
from tune_btxrd.search.tables import TableKeeper
from tune_btxrd.training.source import Source

SETTINGS = {"epochs": 8, "grace_period": 2, "startup_trials": 8}
SOURCE = Source(cache="", splits="", class_names=("a", "b"), positive_class=0)


def ours(folder: Path, address: str, *, trials: int, slots: int, seconds: float, scheduler: str = "asha") -> list[float]:
    """Times of all results of our search with made-up trainings."""
    kill_driver.SECONDS = seconds
    (folder / "trained").mkdir(parents=True)
    (folder / "search.json").write_text("{}")
    (folder / "journal.jsonl").touch()
    layout = Layout(slots=slots, cpus=1, gpus=0, threads=1, epoch_seconds=seconds)
    run = SearchRun(folder=folder, source=SOURCE, split="common", device="cpu", layout=layout, retries=9)
    with connected(address=address, name=folder.name) as cluster:
        spec = spec_of(trials).override({"scheduler": scheduler}, {})
        record = run_search(spec, run, cluster, trainable=kill_driver.stub(folder))
    assert all(trial.state in ("complete", "pruned") for trial in record.search_trials)
    return sorted(row["time"] for trial in record.search_trials for row in trial.epochs)


def stock(folder: Path, address: str, *, trials: int, slots: int, seconds: float) -> list[float]:
    """The same with Ray's own OptunaSearch and ASHA."""
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    times: list[float] = []

    class Times(tune.Callback):
        def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
            times.append(time.time())

    kill_driver.SECONDS = seconds
    (folder / "trained").mkdir(parents=True)
    space = {"lr": tune.loguniform(1e-5, 1e-2), "dropout": tune.uniform(0.0, 0.5), "epochs": SETTINGS["epochs"]}
    asha = ASHAScheduler(time_attr="epoch", metric="objective", mode="min", max_t=8, grace_period=2, reduction_factor=2)
    with connected(address=address, name=folder.name):
        tune.Tuner(
            tune.with_resources(_with_label(kill_driver.stub(folder)), {"CPU": 1}),
            param_space=space,
            tune_config=tune.TuneConfig(
                search_alg=OptunaSearch(metric="objective", mode="min"),
                scheduler=asha,
                num_samples=trials,
                max_concurrent_trials=slots,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(name=folder.name, storage_path=str(folder.parent), callbacks=[Times()], verbose=0),
        ).fit()
    return times


def _with_label(stub: Any) -> Any:
    def labelled(config: dict[str, Any]) -> None:
        import uuid

        stub({"trial": uuid.uuid4().hex, "hyperparameters": config})

    return labelled


def spec_of(trials: int) -> SearchSpec:
    """The space of the kill benchmark with longer curves."""
    return SearchSpec.from_text(kill_driver.SPACE).override({**SETTINGS, "trials": trials}, {})


def measure(kind: str, address: str, *, trials: int, slots: int, seconds: float) -> None:
    """In a driver of its own: prints results, results per second (after the first) and driver CPU ms per result."""
    with tempfile.TemporaryDirectory() as aside:
        method = {"ours": ours, "promote": partial(ours, scheduler="promote"), "stock": stock}[kind]
        before = time.process_time()
        times = method(Path(aside) / kind, address, trials=trials, slots=slots, seconds=seconds)
        used = time.process_time() - before
    span = max(times) - min(times)
    print(json.dumps({"results": len(times), "rate": len(times) / span, "driver_ms": 1000 * used / len(times)}))


def measured_in_own_process(kind: str, arena: Arena, *, trials: int, slots: int, seconds: float) -> dict[str, float]:
    """The numbers of `measure`."""
    numbers = [str(value) for value in (trials, slots, seconds)]
    command = [sys.executable, "-m", "benchmarks.cluster_scale", "one", kind, arena.address, *numbers]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def nodes(counts: list[int], *, per_slot: int, seconds: float) -> None:
    """One line per number of nodes and method."""
    print("| nodes | slots | method | results | results/s | driver ms per result |\n| --- | --- | --- | --- | --- | --- |")
    for count in counts:
        arena = Arena(nodes=count)
        try:
            for kind in ("ours", "promote", "stock"):
                slots = 2 * count
                found = measured_in_own_process(kind, arena, trials=per_slot * slots, slots=slots, seconds=seconds)
                numbers = f"{found['results']:.0f} | {found['rate']:.1f} | {found['driver_ms']:.1f}"
                print(f"| {count} | {slots} | {kind} | {numbers} |", flush=True)
        finally:
            arena.close()


def change(*, trials: int, seconds: float) -> None:
    """Two nodes; after a third of the usual time one is killed and another one joins."""
    arena = Arena(nodes=2)
    try:
        killer = threading.Timer(trials * 5 * seconds / 4 + 8, arena.lose_node)
        killer.start()
        found = measured_in_own_process("ours", arena, trials=trials, slots=4, seconds=seconds)
        killer.join()
    finally:
        arena.close()
    print(f"one of two nodes killed and another one joined: all {trials} trials ended, {found['rate']:.1f} results/s")


def logical(slots: list[int], *, per_slot: int) -> None:
    """Our part of the driver (journal, study, sampler, scheduler, tables) with so many trials at once, no process behind."""
    head = "| slots | scheduler | trials | results | ms per result | ms per suggestion | results/s |"
    print(head + "\n" + "| --- " * 7 + "|")
    for count in slots:
        for scheduler in ("asha", "promote"):
            with tempfile.TemporaryDirectory() as aside:
                driver = _Driver(Path(aside) / "search", trials=per_slot * count, slots=count, scheduler=scheduler)
                driver.play()
            told, asked = 1000 * driver.told / driver.results, 1000 * driver.asked / (per_slot * count)
            rate = driver.results / (driver.told + driver.asked)
            row = f"{driver.results} | {told:.2f} | {asked:.1f} | {rate:.0f}"
            print(f"| {count} | {scheduler} | {per_slot * count} | {row} |", flush=True)


class _Fake:
    """What the adapters ask of Ray's trial."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config, self.trial_id = config, config["trial"]
        self.last_result, self.status = dict[str, Any](), "PENDING"

    def is_finished(self) -> bool:
        """Whether it has left its slot for good."""
        return self.status == "TERMINATED"


class _Driver:
    """Plays Tune's part with made-up results; seconds of the processor are counted by what they were spent on."""

    def __init__(self, folder: Path, *, trials: int, slots: int, scheduler: str) -> None:
        folder.mkdir()
        (folder / "search.json").write_text("{}")
        self.journal = Journal(folder)
        spec, record = spec_of(trials).override({"scheduler": scheduler}, {}), read_search(folder)
        self.conductor = Conductor(
            spec, journal=self.journal, record=record, slots=slots, split="common", database=fresh_database(folder)
        )
        self.scheduler = make_scheduler(spec, self.conductor)
        self.pauses = self.scheduler if isinstance(self.scheduler, Pauses) else None
        self.proposals = Proposals(self.conductor, self.pauses)
        self.recorder = Recorder(self.conductor, self.scheduler, (TableKeeper(record),))
        self.running: list[_Fake] = []
        self.results, self.told, self.asked = 0, 0.0, 0.0

    def play(self) -> None:
        """To the search's end."""
        while True:
            began = time.process_time()
            is_finished = self._begin()
            self.asked, began = self.asked + time.process_time() - began, time.process_time()
            if is_finished:
                self.conductor.close()
                self.journal.close()
                return
            running, self.running = self.running, []
            for fake in running:
                self._result(fake)
            self.recorder.on_step_end(0, [])
            self.told += time.process_time() - began

    def _begin(self) -> bool:
        """New trials and those that go on; whether there is none any more."""
        while not isinstance(config := self.proposals.suggest(""), str) and config is not None:
            fake = _Fake(config)
            self.scheduler.on_trial_add(None, fake)
            self._run(None if self.pauses else fake)
        self._run(None)
        return config is not None

    def _run(self, fake: _Fake | None) -> None:
        while (fake := fake or (self.pauses.choose_trial_to_run(self) if self.pauses else None)) is not None:
            fake.status = "RUNNING"
            self.running.append(fake)
            fake = None

    def _result(self, fake: _Fake) -> None:
        fake.last_result = _row(fake)
        decision = self.scheduler.on_trial_result(None, fake, fake.last_result)
        self.recorder.on_trial_result(0, [], fake, fake.last_result)
        self.results += 1
        if decision == "STOP" or fake.last_result["stop"]:
            self.stop_trial(fake)
        elif decision == "PAUSE":
            fake.status = "PAUSED"
        else:
            self.running.append(fake)

    def stop_trial(self, fake: _Fake) -> None:
        """As Tune's controller has it."""
        fake.status = "TERMINATED"
        self.recorder.on_trial_complete(0, [], fake)


def _row(fake: _Fake) -> dict[str, Any]:
    epoch = fake.last_result.get("epoch", 0) + 1
    values = fake.config["hyperparameters"]
    loss = 0.5 + 0.1 * (math.log10(values["lr"]) + 4) ** 2 + (values["dropout"] - 0.4) ** 2 + 0.5 / epoch
    row = {"epoch": epoch, "train_loss": loss, "val_loss": loss, "val_acc": 0.5, "val_recall_a": 0.5, "val_macro_f1": 0.5}
    stop = "budget" if epoch == SETTINGS["epochs"] else ""
    return row | {"lr": 1e-3, "objective": loss, "improved": True, "stop": stop, "zero_recall_epochs": 0, "slot": "none"}


def main() -> None:
    """Runs what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers(dest="what", required=True)
    many = what.add_parser("nodes")
    many.add_argument("--counts", default="1,2,4,8")
    many.add_argument("--per-slot", type=int, default=6, help="trials per slot")
    many.add_argument("--seconds", type=float, default=0.1, help="of a made-up epoch")
    what.add_parser("change")
    alone = what.add_parser("logical")
    alone.add_argument("--slots", default="64,256")
    alone.add_argument("--per-slot", type=int, default=4)
    one = what.add_parser("one")
    for name, kind in (("kind", str), ("address", str), ("trials", int), ("slots", int), ("seconds", float)):
        one.add_argument(name, type=kind)
    flags = parser.parse_args()
    if flags.what == "one":
        measure(flags.kind, flags.address, trials=flags.trials, slots=flags.slots, seconds=flags.seconds)
    elif flags.what == "nodes":
        nodes([int(count) for count in flags.counts.split(",")], per_slot=flags.per_slot, seconds=flags.seconds)
    elif flags.what == "change":
        change(trials=24, seconds=0.3)
    else:
        logical([int(count) for count in flags.slots.split(",")], per_slot=flags.per_slot)


if __name__ == "__main__":
    with_token()
    main()
