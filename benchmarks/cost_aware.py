"""Does a sampler that weighs the cost of an image size find better configs for the same computing time? Made-up searches.

    python -m benchmarks.cost_aware [--seeds 24] [--schedulers none promote]

A trial of 224, 320, 384 or 512 px trains 12 epochs that cost 1, 2.04, 2.94 or 5.22; its loss falls towards a value that
depends on lr, weight decay, backbone and size. Families: larger is better, all sizes are alike, 320 px is best. The
conductor runs the search, with `scheduler: promote` as with `none`; regret is the true loss of the trial with the best
score reported within the budget, less the lowest of the space.

`TPE / cost^a`: TPE's log ratio less `a` times the log of the cost; `cheap start`: the random trials at the start draw a size
in proportion to 1 / cost.
"""

import argparse
import math
import statistics
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from tests.support.searches import make_row
from tune_btxrd.search import study
from tune_btxrd.search.conductor import Conductor
from tune_btxrd.search.cost import epoch_costs
from tune_btxrd.search.journal import Journal
from tune_btxrd.search.record import read_search
from tune_btxrd.search.space.spec import SearchSpec

SPACE = """
trials: {trials}
epochs: 12
seed: {seed}
startup_trials: 8
scheduler: {scheduler}
grace_period: 3
reduction_factor: 3
confirm: 0
space:
  backbone: {{choices: [efficientnet_b0, convnext_atto]}}
  image_size: {{choices: [224, 320, 384, 512]}}
  lr: {{low: 1.0e-5, high: 1.0e-2, log: true}}
  weight_decay: {{low: 1.0e-6, high: 1.0e-1, log: true}}
start:
  - {{backbone: efficientnet_b0, image_size: 224, lr: 1.0e-3, weight_decay: 1.0e-4}}
"""
SIZES = (224, 320, 384, 512)
FAMILIES: dict[str, Mapping[int, float]] = {  # size -> what it adds to the loss
    "larger is better": {size: 0.12 - 0.10 * math.log2(size / 224) for size in SIZES},
    "all alike": dict.fromkeys(SIZES, 0.0),
    "320 px is best": {224: 0.06, 320: 0.0, 384: 0.02, 512: 0.08},
}
BUDGETS = (200.0, 400.0, 800.0)  # epochs of 224 px
Sampler = Callable[[SearchSpec, int], BaseSampler]
PLAIN = study.make_sampler


class CostTPE(TPESampler):
    """TPE whose acquisition is divided by a power of the cost of the candidate's size."""

    def __init__(self, costs: np.ndarray, power: float, **options: Any) -> None:
        super().__init__(**options)
        self.costs, self.power = costs, power

    def _compute_acquisition_func(self, samples: dict[str, np.ndarray], below: Any, above: Any) -> np.ndarray:
        values: np.ndarray = super()._compute_acquisition_func(samples, below, above)
        if "image_size" not in samples:
            return values
        return values - self.power * np.log(self.costs[samples["image_size"].astype(int)])


class CheapStart(RandomSampler):
    """Random, but sizes in proportion to 1 / cost."""

    def __init__(self, costs: np.ndarray, seed: int) -> None:
        super().__init__(seed=seed)
        self.shares, self.own = (1 / costs) / (1 / costs).sum(), np.random.default_rng(seed)

    def sample_independent(self, study: Any, trial: Any, name: str, distribution: Any) -> Any:
        if name == "image_size":
            return distribution.choices[int(self.own.choice(len(self.shares), p=self.shares))]
        return super().sample_independent(study, trial, name, distribution)


def method(power: float, *, cheap_start: bool) -> Sampler:
    """A sampler of the kind, as the study asks for one."""

    def make(spec: SearchSpec, number: int) -> BaseSampler:
        costs, seed = np.array([epoch_costs(spec).by_size[size] for size in SIZES]), study.proposal_seed(spec, number)
        if cheap_start and number < spec.startup_trials:
            return CheapStart(costs, seed)
        if not power:
            return PLAIN(spec, number)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            options = {"n_startup_trials": spec.startup_trials, "multivariate": True, "group": True, "constant_liar": True}
            return CostTPE(costs, power, seed=seed, **options)

    return make


METHODS: dict[str, Sampler] = {
    "TPE": method(0.0, cheap_start=False),
    "TPE / cost^0.5": method(0.5, cheap_start=False),
    "TPE / cost": method(1.0, cheap_start=False),
    "cheap start": method(0.0, cheap_start=True),
    "cheap start, / cost": method(1.0, cheap_start=True),
}


def asymptote(config: Mapping[str, Any], gains: Mapping[int, float]) -> float:
    """The true loss of a config after infinitely many epochs; the best lr falls as images grow."""
    best = (-3.0 if config["backbone"] == "efficientnet_b0" else -3.6) - 0.25 * math.log2(config["image_size"] / 224)
    slope = 0.12 * (math.log10(config["lr"]) - best) ** 2 + 0.01 * (math.log10(config["weight_decay"]) + 3) ** 2
    return 0.5 + slope + gains[config["image_size"]] + (0.02 if config["backbone"] == "convnext_atto" else 0.0)


def regrets(gains: Mapping[int, float], sampler: Sampler, *, scheduler: str, seed: int) -> list[float]:
    """Regret after each budget of one search."""
    spec = SearchSpec.from_text(SPACE.format(seed=seed, scheduler=scheduler, trials=200))
    costs, noise = epoch_costs(spec).by_size, np.random.default_rng(seed)
    least = min(gains.values()) + 0.5
    spent, found, ended = 0.0, [], list[tuple[float, float]]()  # (observed, true)
    with tempfile.TemporaryDirectory() as folder, patch.object(study, "make_sampler", sampler):
        (Path(folder) / "search.json").write_text("{}")
        (Path(folder) / "journal.jsonl").touch()
        journal = Journal(Path(folder))
        conductor = Conductor(spec, journal=journal, record=read_search(Path(folder)), slots=1, split="common")
        rows: dict[str, list[dict[str, Any]]] = {}
        while len(found) < len(BUDGETS):
            planned = conductor.next()
            assert not isinstance(planned, str), planned
            config, mine = planned.config.to_dict(), rows.setdefault(planned.label, [])
            floor = asymptote(config, gains)
            while True:
                epoch = len(mine) + 1
                loss = floor + 0.5 * math.exp(-epoch / 4) + float(noise.normal(0, 0.02))
                mine.append(make_row(epoch, loss, before=mine[-1] if mine else None))
                spent += costs[config["image_size"]]
                while len(found) < len(BUDGETS) and spent > BUDGETS[len(found)]:
                    found.append((min(ended)[1] if ended else math.nan) - least)
                mine[-1]["stop"] = "budget" if epoch == spec.epochs else ""
                pauses = conductor.pauses(planned.label, mine[-1])
                conductor.epoch(planned.label, mine[-1])
                ended.append((float(mine[-1]["objective"]), floor))
                if mine[-1]["stop"]:
                    conductor.end(planned.label, state="complete", reason="ran its full budget")
                if mine[-1]["stop"] or pauses:
                    break
        journal.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seeds", type=int, default=24)
    parser.add_argument("--schedulers", nargs="+", default=["none", "promote"])
    flags = parser.parse_args()
    seeds = flags.seeds
    for scheduler in flags.schedulers:
        for family, gains in FAMILIES.items():
            print(f"\nscheduler {scheduler}; {family}: regret at {', '.join(f'{b:g}' for b in BUDGETS)} epochs of 224 px")
            plain = [regrets(gains, METHODS["TPE"], scheduler=scheduler, seed=seed) for seed in range(seeds)]
            for name, sampler in METHODS.items():
                ours = (
                    plain if name == "TPE" else [regrets(gains, sampler, scheduler=scheduler, seed=s) for s in range(seeds)]
                )
                cells = []
                for at in range(len(BUDGETS)):
                    gaps = [other[at] - one[at] for one, other in zip(plain, ours, strict=True)]
                    half = 1.96 * statistics.stdev(gaps) / math.sqrt(seeds) if name != "TPE" else 0.0
                    mean = statistics.fmean(run[at] for run in ours)
                    cells.append(f"{mean:.4f}" + (f" ({statistics.fmean(gaps):+.4f} +- {half:.4f})" if half else ""))
                print(f"  {name:<22} {'  '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
