"""Confirmation by simulation: how often its rules err, and how often the stated interval of the gain holds the true gain.

    python -m benchmarks.confirmation            4,000 searches per row; table in benchmarks/results/confirmation.md

A search of 30 configs is drawn: true values, and what a model makes of their scores (with half the luck of one training).
The best K by the model and the hand-made config are repeated R times. A repeat is the true value + what its partition does
to all + luck; repeats of one config share part of their luck, as trainings on overlapping partitions do (Nadeau & Bengio,
2003): the share is n_val / (n_val + n_train). The rules are those of the package, called as a search calls them.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tune_btxrd.search.selection.confirmation import POOLED, losers
from tune_btxrd.search.selection.interval import corrected_interval

RESULTS = Path(__file__).parent / "results"
CONFIGS = 30  # of a search
VAL_SHARE = 424 / 2077  # of BTXRD's split `common`
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row: configs and repeats of the confirmation, and the spread of true values in units of one training's luck."""

    configs: int
    repeats: int
    spread: float


@dataclass(frozen=True, kw_only=True)
class Search:
    """One search: true values and the model's of those confirmed, the hand-made config last, and (K + 1, R) repeats."""

    truth: Floats
    modelled: Floats
    repeats: Floats


def draw(case: Case, generator: np.random.Generator) -> Search:
    """One search, in units of the luck of one training."""
    truth = case.spread * generator.normal(size=CONFIGS)
    modelled = truth + 0.5 * generator.normal(size=CONFIGS)
    top = np.append(np.argsort(modelled[1:])[: case.configs] + 1, 0)  # config 0 is the hand-made one
    shared, shape = VAL_SHARE / (1 + VAL_SHARE), (case.configs + 1, case.repeats)
    luck = np.sqrt(shared) * generator.normal(size=(shape[0], 1)) + np.sqrt(1 - shared) * generator.normal(size=shape)
    return Search(
        truth=truth[top], modelled=modelled[top], repeats=truth[top][:, None] + generator.normal(size=shape[1]) + luck
    )


def simulate(case: Case, searches: int) -> dict[str, float]:
    """Shares and means over many searches."""
    generator = np.random.default_rng(1)
    wrong = saved = 0
    found: dict[str, list[float]] = {f"{name} {rule}": [] for name in ("held", "regret") for rule in ("mean", "pooled")}
    for _ in range(searches):
        search = draw(case, generator)
        best = int(np.argmin(search.truth[:-1]))
        out: set[int] = set()
        for done in range(2, case.repeats):
            scores = {k: search.repeats[k, :done].tolist() for k in range(case.configs) if k not in out}
            out |= losers(scores, looks=case.repeats - 2)
            saved += len(out)
        wrong += best in out
        kept = [k for k in range(case.configs + 1) if k not in out]
        means = search.repeats.mean(axis=1)
        pooled = (case.repeats * means + POOLED * search.modelled) / (case.repeats + POOLED)
        for rule, values in (("mean", means), ("pooled", pooled)):
            winner = min(kept, key=lambda k: values[k])
            found[f"regret {rule}"].append(search.truth[winner] - search.truth.min())
            if winner != case.configs:
                gains = (search.repeats[-1] - search.repeats[winner]).tolist()
                interval = corrected_interval(gains, val_share=VAL_SHARE)
                found[f"held {rule}"].append(interval.low <= search.truth[-1] - search.truth[winner] <= interval.high)
    trainings = searches * (case.configs + 1) * case.repeats
    shares = {name: float(np.mean(values)) for name, values in found.items()}
    return {"best one dropped": wrong / searches, "trainings saved": saved / trainings, **shares}


def table(searches: int) -> str:
    """All rows as Markdown."""
    cases = [Case(configs=k, repeats=r, spread=s) for k, r in ((2, 2), (2, 3), (3, 3), (3, 5)) for s in (0.5, 1.0, 2.0)]
    lines = []
    for case in cases:
        values = simulate(case, searches)
        if not lines:
            head = ["K x R", "spread / luck", *values]
            lines += [f"| {' | '.join(head)} |", "| " + " | ".join("---" for _ in head) + " |"]
        cells = [f"{value:.3f}" if "regret" in name else f"{value:.1%}" for name, value in values.items()]
        lines.append(f"| {case.configs} x {case.repeats} | {case.spread:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searches", type=int, default=4_000)
    searches = parser.parse_args().searches
    text = f"{searches:,} searches per row; values in units of one training's luck\n\n{table(searches)}\n"
    print(text)
    (RESULTS / "confirmation.md").write_text(text, encoding="utf-8")
