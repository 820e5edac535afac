"""Replays recorded curves through samplers and schedulers: which search finds good configs with few epochs?

    python -m benchmarks.replay record --configs 96     trains the curves that the table lacks (20 minutes of one core)
    python -m benchmarks.replay run --seeds 30          compares the methods: table and picture in benchmarks/results/
    python -m benchmarks.replay tune --seeds 30         compares grace periods, reduction factors and start-up trials

Regret: true best loss of the chosen config minus the best of the space; true: the surrogate without the luck of one
training. Every method spends the same number of epochs, two trainings at a time.
"""

import argparse
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from scipy.stats import qmc, rankdata

from benchmarks import replay_curves
from benchmarks.replay_methods import METHODS, Method, ours
from benchmarks.replay_surrogate import Surrogate
from tune_btxrd.search.space.spec import SearchSpec

RESULTS = Path(__file__).parent / "results"
BUDGETS = (90, 180, 270, 360, 540, 720)  # epochs; 720 = 24 trials at full length
VARIANTS: dict[str, dict[str, Any]] = {
    "as shipped": {},
    **{f"grace_period {value}": {"grace_period": value} for value in (2, 4, 6, 8, 10)},
    **{f"reduction_factor {value}": {"reduction_factor": value} for value in (2, 4)},
    **{f"startup_trials {value}": {"startup_trials": value} for value in (4, 12)},
    "sampler random": {"sampler": "random"},
    "scheduler none": {"scheduler": "none"},
}


def regrets(method: Method, surrogate: Surrogate, spec: SearchSpec, *, seeds: int, best: float) -> np.ndarray:
    """(seeds, budgets) regrets."""
    one = partial(_regret, method, surrogate, spec, best)
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        return np.array(list(pool.map(one, range(seeds), chunksize=4)))


def _regret(method: Method, surrogate: Surrogate, spec: SearchSpec, best: float, seed: int) -> list[float]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    picks = list(islice(method(surrogate, spec.override({"seed": seed}, {})), max(BUDGETS)))
    return [surrogate.truth(picks[budget - 1]) - best for budget in BUDGETS]


def best_of_space(surrogate: Surrogate, spec: SearchSpec) -> float:
    """Lowest true loss among 8,192 points of the space."""
    points = qmc.Sobol(d=len(spec.space), rng=1).random_base2(13)
    return min(float(np.exp(surrogate.smooth(point).min())) for point in points)


def table(found: dict[str, np.ndarray]) -> pd.DataFrame:
    """Mean regret and its standard error per method and budget."""
    return pd.DataFrame(
        {
            str(budget): {
                name: f"{values[:, k].mean():.4f} +- {values[:, k].std(ddof=1) / len(values) ** 0.5:.4f}"
                for name, values in found.items()
            }
            for k, budget in enumerate(BUDGETS)
        }
    )


def worse_cells(found: dict[str, np.ndarray], own: str) -> list[str]:
    """Where `own` is worse than another method by more than two standard errors of the paired difference."""
    lines = []
    for name, values in found.items():
        differences = found[own] - values
        for k, budget in enumerate(BUDGETS):
            mean, error = differences[:, k].mean(), differences[:, k].std(ddof=1) / len(values) ** 0.5
            if mean > 2 * error > 0:
                lines.append(f"{own} is worse than {name} at {budget} epochs by {mean:.4f} +- {error:.4f}")
    return lines


def draw(found: dict[str, np.ndarray], path: Path) -> None:
    """Regret and rank against epochs spent; bars are standard errors."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    ranks = rankdata(np.stack(list(found.values())), axis=0)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for name, values, rank in zip(found, found.values(), ranks, strict=True):
        for axes, numbers in ((left, values), (right, rank)):
            error = numbers.std(axis=0, ddof=1) / len(numbers) ** 0.5
            axes.errorbar(
                BUDGETS, numbers.mean(axis=0), error, label=name, marker="o", capsize=3, lw=2 if name == "ours" else 1
            )
    left.set(yscale="log", xlabel="epochs spent", ylabel="regret of the chosen config (validation loss)")
    right.set(xlabel="epochs spent", ylabel="mean rank (1 is best)")
    left.legend()
    figure.suptitle(f"Replay of {len(replay_curves.load()['config'].unique())} recorded configs, {len(values)} seeds")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def compare(seeds: int, variants: bool) -> None:
    """Runs all methods, or all variants of ours; prints and writes the table."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    spec = SearchSpec.load(replay_curves.SPACE).override({"confirm": 0, "trials": 100_000}, {})
    surrogate = Surrogate.fit(replay_curves.load(), spec)
    print(f"{len(surrogate.points)} recorded configs; surrogate, left-one-out:", surrogate.errors())
    print("pairs that change order after epoch:", {k: round(surrogate.crossings(k), 2) for k in (1, 2, 4, 8, 12)})
    best = best_of_space(surrogate, spec)
    found: dict[str, np.ndarray] = {}
    jobs: Sequence[tuple[str, Method, dict[str, Any]]] = [(name, method, {}) for name, method in METHODS.items()]
    if variants:
        jobs = [(name, ours, changes) for name, changes in VARIANTS.items()]
    for name, method, changes in jobs:
        began = time.perf_counter()
        found[name] = regrets(method, surrogate, spec.override(changes, {}), seeds=seeds, best=best)
        print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)
    text = table(found).to_string()
    print(f"best loss of the space {best:.4f}; regret, {seeds} seeds\n{text}")
    print("\n".join(worse_cells(found, "as shipped" if variants else "ours")) or "nowhere worse beyond 2 standard errors")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"replay_{'variants' if variants else 'methods'}.txt").write_text(text + "\n", encoding="utf-8")
    if not variants:
        draw(found, RESULTS / "replay.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    record = verbs.add_parser("record", help="train the curves that the table lacks")
    record.add_argument("--configs", type=int, default=96, help="how many (up to 129)")
    record.add_argument("--work", type=Path, default=Path("replay_work"), help="folder for phantom and cache")
    for verb, meaning in (("run", "compare the methods"), ("tune", "compare settings of ours")):
        verbs.add_parser(verb, help=meaning).add_argument("--seeds", type=int, default=30)
    arguments = parser.parse_args()
    if arguments.verb == "record":
        replay_curves.record(arguments.configs, work=arguments.work)
    else:
        compare(arguments.seeds, variants=arguments.verb == "tune")
