"""What the driver costs per trial: 1,000 stub trials with four reports each, ours against Ray's own.

python -m benchmarks.driver_scale              (a few minutes)

A stub reports four made-up epochs and computes nothing, so that the driver is all there is. `ray` is a stock Tuner with
`OptunaSearch` (in memory) and ASHA, warm actors, snapshots and the JSON and CSV loggers; `ray_without_search` is the same
with random configs from Ray itself. Ours writes journal, SQLite study, tables and dashboard rows. `ours_promote` is the
default scheduler with rungs at epochs 1 and 2: fewer results, and every trial that pauses leaves its slot and is begun
again. Every driver is a process of its own; they take turns on one local Ray. Processor seconds are those of the driver
process, all threads.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.outcome import circumstances, python, write
from tune_btxrd.distributed.connect import DRIVER_ENV, connected
from tune_btxrd.distributed.driver import SearchRun, run_search
from tune_btxrd.distributed.start_ray import WORKER_ENV
from tune_btxrd.results.search_json import Layout
from tune_btxrd.search.listener import Listener
from tune_btxrd.search.record import TrialRecord
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.training.source import Source

EPOCHS, SLOTS = 4, 2
SPACE = """
epochs: 4
grace_period: 1
reduction_factor: 2
startup_trials: 8
confirm: 0
space:
  lr: {low: 1.0e-5, high: 1.0e-2, log: true}
  dropout: {low: 0.0, high: 0.5}
  weight_decay: {low: 1.0e-6, high: 1.0e-1, log: true}
start:
  - {lr: 1.0e-3, dropout: 0.2, weight_decay: 1.0e-4}
"""
WAYS = ("ours", "ours_promote", "ray", "ray_without_search")
OURS = {"ours": "none", "ours_promote": "promote"}  # way -> scheduler


def make_stub() -> Any:
    """Reports a made-up curve; nested, so that Ray sends its code and a worker imports nothing of ours."""

    def stub(config: dict[str, Any]) -> None:
        import math

        from ray import tune

        values = config.get("hyperparameters", config)  # Ray's own way knows no labels
        distance = 0.1 * (math.log10(values["lr"]) + 3.5) ** 2 + (values["dropout"] - 0.3) ** 2
        for epoch in range(1, 5):
            loss = 0.5 + distance + 0.5 / epoch
            row = {name: loss for name in ("train_loss", "val_loss", "objective", "train_seconds", "val_seconds")}
            shares = {name: 0.5 for name in ("val_acc", "val_macro_f1", "val_recall_a", "val_recall_b", "val_recall_c")}
            tail = {"improved": True, "stop": "budget" if epoch == 4 else "", "zero_recall_epochs": 0, "slot": "stub"}
            tune.report({"epoch": epoch, "lr": values["lr"], **row, **shares, "images_per_second": 1.0, **tail})

    return stub


class Ticks(Listener):
    """Processor and wall seconds of this process at the end of each trial, and the results until then."""

    def __init__(self) -> None:
        self.cpu, self.wall, self.results = [time.process_time()], [time.perf_counter()], [0]
        self._results = 0

    def epoch(self, trial: TrialRecord | None = None) -> None:
        """One result more."""
        self._results += 1

    def ended(self, trial: TrialRecord | None = None) -> None:
        """One trial more."""
        self.cpu.append(time.process_time())
        self.wall.append(time.perf_counter())
        self.results.append(self._results)

    def found(self) -> dict[str, float]:
        """Milliseconds per trial and result, and how much slower the second half was; the first trials start the slots."""
        first, half, last = min(20, len(self.cpu) // 5), len(self.cpu) // 2, len(self.cpu) - 1
        early, late = ((self.cpu[stop] - self.cpu[start]) / (stop - start) for start, stop in ((first, half), (half, last)))
        cpu = 1e3 * (self.cpu[last] - self.cpu[first])
        return {
            "cpu_ms_per_trial": cpu / (last - first),
            "cpu_ms_per_result": cpu / (self.results[last] - self.results[first]),
            "wall_ms_per_trial": 1e3 * (self.wall[last] - self.wall[first]) / (last - first),
            "second_half_to_first": late / early,
        }


def ours(folder: Path, trials: int, *, scheduler: str) -> dict[str, float]:
    """Our search, with all that it writes."""
    (folder / "search.json").write_text("{}")
    (folder / "journal.jsonl").touch()
    source = Source(cache="none", splits="none", class_names=("a", "b", "c"), positive_class=0)
    layout = Layout(slots=SLOTS, cpus=1, gpus=0, threads=1, epoch_seconds=1.0)
    run = SearchRun(folder=folder, source=source, split="common", device="cpu", layout=layout)
    ticks = Ticks()
    with connected(address=os.environ["BENCHMARK_RAY"], name=folder.name) as cluster:
        spec = SearchSpec.from_text(SPACE).override({"trials": trials, "scheduler": scheduler}, {})
        run_search(spec, run, cluster, listeners=(ticks,), trainable=make_stub())
    return ticks.found()


def stock(folder: Path, trials: int, *, searcher: bool) -> dict[str, float]:
    """Ray Tune as it comes, warm slots granted."""
    os.environ.update({name: value for name, value in DRIVER_ENV.items() if name != "TUNE_GLOBAL_CHECKPOINT_S"})
    import logging

    import optuna
    import ray
    from ray import tune
    from ray.tune.logger import CSVLoggerCallback, JsonLoggerCallback
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ray.init(address=os.environ["BENCHMARK_RAY"], logging_level=logging.ERROR, log_to_driver=False)
    ticks = Ticks()

    class Listener(tune.Callback):
        def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
            ticks.epoch()

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            ticks.ended()

    sampler = optuna.samplers.TPESampler(seed=42, n_startup_trials=8)
    search = OptunaSearch(metric="objective", mode="min", sampler=sampler) if searcher else None
    asha = ASHAScheduler(time_attr="epoch", metric="objective", mode="min", max_t=EPOCHS, grace_period=EPOCHS)
    space = {"lr": tune.loguniform(1e-5, 1e-2), "dropout": tune.uniform(0, 0.5), "weight_decay": tune.loguniform(1e-6, 0.1)}
    config = tune.TuneConfig(
        search_alg=search, scheduler=asha, num_samples=trials, max_concurrent_trials=SLOTS, reuse_actors=True
    )
    callbacks = [Listener(), JsonLoggerCallback(), CSVLoggerCallback()]
    place = tune.RunConfig(name=folder.name, storage_path=str(folder.parent), verbose=0, callbacks=callbacks)
    trainable = tune.with_resources(make_stub(), {"CPU": 1})
    tune.Tuner(trainable, param_space=space, tune_config=config, run_config=place).fit()
    return ticks.found()


def drive(way: str, trials: int) -> dict[str, float]:
    """One driver, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / way
        place.mkdir()
        if way in OURS:
            return ours(place, trials, scheduler=OURS[way])
        return stock(place, trials, searcher=way == "ray")


def compare(trials: int, rounds: int) -> None:
    """All drivers in turn on one Ray; prints and writes the table."""
    found: dict[str, Any] = circumstances()
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    import ray

    ray.init(
        address="local", num_cpus=SLOTS, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": WORKER_ENV}
    )
    environment = {"BENCHMARK_RAY": ray.get_runtime_context().gcs_address}
    for _ in range(rounds):
        for way, results in runs.items():
            shown = python("-m", "benchmarks.driver_scale", "--drive", way, "--trials", str(trials), environment=environment)
            results.append(json.loads(shown.splitlines()[-1]))
    ray.shutdown()
    medians = {
        way: {name: statistics.median(result[name] for result in results) for name in results[0]}
        for way, results in runs.items()
    }
    own = medians["ray"]
    rows = [
        {"driver": way, **{name: round(value, 2) for name, value in values.items()}}
        | {
            f"to_ray_per_{what}": round(values[f"cpu_ms_per_{what}"] / own[f"cpu_ms_per_{what}"], 2)
            for what in ("trial", "result")
        }
        for way, values in medians.items()
    ]
    write("driver_scale", rows, {**found, "trials": trials, "runs": runs})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1, help="of all drivers in turn; medians are reported")
    parser.add_argument("--drive", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.drive:
        print(json.dumps(drive(arguments.drive, arguments.trials)))
    else:
        compare(arguments.trials, arguments.rounds)
