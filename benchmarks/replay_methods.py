"""The searches that are compared, each a generator: after every epoch that it spends it yields the config it would choose.

All begin with the hand-made config, train in two slots, and end a training by the trainer's own budget and patience.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from benchmarks.replay_surrogate import DIVERGED, Surrogate
from tune_btxrd.config import TrainConfig
from tune_btxrd.distributed.tune_adapters import Rungs
from tune_btxrd.search.conductor import Conductor, PlannedTrial
from tune_btxrd.search.events import ENDINGS
from tune_btxrd.search.journal import Journal
from tune_btxrd.search.record import read_search
from tune_btxrd.search.space.spec import SearchSpec

Config = Mapping[str, float]
Method = Callable[[Surrogate, SearchSpec], Iterator[Config]]
SLOTS = 2
PATIENCE = TrainConfig().patience
ROUND, KEPT = 24, 3  # keep-top-K: so many configs for one epoch, so many of them to the end


class Training:
    """One training, epoch by epoch; its luck depends on (seed, config) alone, so that it is the same in every method."""

    def __init__(self, surrogate: Surrogate, spec: SearchSpec, config: Config) -> None:
        self.config = {item.name: float(config[item.name]) for item in spec.space}
        words = [spec.seed, *(int.from_bytes(np.float64(value).tobytes(), "little") for value in self.config.values())]
        self.curve = surrogate.curve(self.config, np.random.default_rng(words))[: spec.epochs]
        self.epoch, self.best, self.best_epoch, self.stop, self.last = 0, math.inf, 0, "", math.inf

    def step(self) -> dict[str, Any]:
        """The next epoch as a trial reports it."""
        self.epoch, self.last = self.epoch + 1, self.curve[self.epoch]
        improved = self.last < self.best
        if improved:
            self.best, self.best_epoch = self.last, self.epoch
        late = self.epoch - self.best_epoch >= PATIENCE
        self.stop = "budget" if self.epoch == len(self.curve) else "patience" if late else ""
        if self.last > DIVERGED / 2:
            self.stop = "diverged"
        row = {"epoch": self.epoch, "val_loss": self.last, "objective": self.best, "improved": improved, "stop": self.stop}
        return row | {"reason": ""}


def random_full(surrogate: Surrogate, spec: SearchSpec) -> Iterator[Config]:
    """Random configs, each to its end; the best epoch decides."""
    chosen, best = spec.start[0], math.inf
    for config in _random_configs(spec):
        training = Training(surrogate, spec, config)
        while not training.stop:
            training.step()
            if training.best < best:
                chosen, best = training.config, training.best
            yield chosen


def top_k(surrogate: Surrogate, spec: SearchSpec) -> Iterator[Config]:
    """Rounds of random configs for one epoch each, of which the best go on to their end."""
    configs = _random_configs(spec)
    chosen, best = spec.start[0], math.inf
    while True:
        begun = [Training(surrogate, spec, next(configs)) for _ in range(ROUND)]
        for training in begun:
            training.step()
            yield chosen
        for training in sorted(begun, key=lambda item: item.best)[:KEPT]:
            while not training.stop:
                training.step()
                if training.best < best:
                    chosen, best = training.config, training.best
                yield chosen


def stock(surrogate: Surrogate, spec: SearchSpec) -> Iterator[Config]:
    """Ray's OptunaSearch and ASHA as they come: the last loss counts, and a stopped trial is COMPLETE with it."""
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=spec.seed))
    study.enqueue_trial(dict(spec.start[0]))
    asha = ASHAScheduler(
        time_attr="epoch",
        metric="val_loss",
        mode="min",
        max_t=spec.epochs,
        grace_period=spec.grace_period,
        reduction_factor=spec.reduction_factor,
    )
    live: list[tuple[optuna.trial.Trial, Training, Any]] = []
    last: dict[str, tuple[float, Config]] = {}
    while True:
        while len(live) < SLOTS:
            trial = study.ask()
            spec.suggest(trial)
            handle = SimpleNamespace(trial_id=str(trial.number))
            asha.on_trial_add(None, handle)
            live.append((trial, Training(surrogate, spec, trial.params), handle))
        for item in list(live):
            trial, training, handle = item
            row = training.step()
            last[handle.trial_id] = (training.last, training.config)
            decision = asha.on_trial_result(None, handle, row)
            if training.stop or decision == TrialScheduler.STOP:
                asha.on_trial_complete(None, handle, row)
                live.remove(item)
                if training.stop != "diverged":  # told as NaN, the trial stays RUNNING for ever
                    study.tell(trial, training.last)
            yield min(last.values(), key=lambda pair: pair[0])[1]


def ours(surrogate: Surrogate, spec: SearchSpec) -> Iterator[Config]:
    """The project's own conductor, bridge and rungs; candidates are trials that ran to their end, by their best epoch."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "search.json").write_text("{}")
        journal = Journal(folder)
        conductor = Conductor(spec, journal=journal, record=read_search(folder), slots=SLOTS, split="common")
        try:
            yield from _conducted(conductor, Rungs(spec, conductor), surrogate)
        finally:
            journal.close()


def _conducted(conductor: Conductor, rungs: Rungs, surrogate: Surrogate) -> Iterator[Config]:
    spec, live = conductor.spec, {}
    chosen, best = spec.start[0], (True, math.inf)  # (no candidate yet, objective)
    while True:
        while isinstance(job := conductor.next(), PlannedTrial):
            trial = SimpleNamespace(config={"trial": job.label, "role": job.role})
            rungs.on_trial_add(None, trial)
            live[job.label] = (trial, Training(surrogate, spec, job.config.to_dict()))
        for label, (trial, training) in list(live.items()):
            row = training.step()
            stopped = rungs.on_trial_result(None, trial, row) == TrialScheduler.STOP
            if training.stop != "diverged":
                conductor.epoch(label, row)
            if training.stop or stopped:
                del live[label]
                rungs.on_trial_complete(None, trial, row)
                _end(conductor, rungs, label, training.stop)
            score = (training.stop not in ("budget", "patience"), training.best)
            if score < best:
                chosen, best = training.config, score
            yield chosen


def _end(conductor: Conductor, rungs: Rungs, label: str, stop: str) -> None:
    if stop in ENDINGS:
        conductor.end(label, state="complete", reason=ENDINGS[stop])
    elif stop:
        conductor.end(label, state="diverged", reason="loss not finite")
    else:
        conductor.end(label, state="pruned", reason=rungs.reasons[label])


def _random_configs(spec: SearchSpec) -> Iterator[Config]:
    yield spec.start[0]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=spec.seed))
    while True:
        trial = study.ask()
        spec.suggest(trial)
        yield trial.params


METHODS: dict[str, Method] = {
    "random, full length": random_full,
    "stock Ray + Optuna + ASHA": stock,
    "top 3 of 24 after one epoch": top_k,
    "ours": ours,
}
