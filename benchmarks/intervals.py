"""How often do our 95 % intervals cover the truth? Single proportions exactly, by enumeration; the bootstrap by simulation.

python -m benchmarks.intervals                 (about a minute)
"""

import argparse

import numpy as np
from scipy import stats

from tune_btxrd.scoring.intervals import Interval, Proportion, draw_weights, percentile_interval
from tune_btxrd.scoring.metrics import auc

SIZES = (10, 35, 51, 107, 564)  # 51, 107: malignant test images of BTXRD's splits; 564: all of the stratified one
SHARES = np.linspace(0.005, 0.995, 199)


def coverage(intervals: list[Interval], asked: int, share: float) -> float:
    """Probability that the interval of a binomial count holds the share, summed over all counts."""
    weight = stats.binom.pmf(np.arange(asked + 1), asked, share)
    return float(sum(w for w, interval in zip(weight, intervals, strict=True) if interval.low <= share <= interval.high))


def proportions() -> None:
    print("single proportions, coverage over 199 true shares from 0.005 to 0.995")
    print(f"{'n':>5} {'method':<18} {'least':>7} {'mean':>7} {'at p = 0.9':>11}")
    for asked in SIZES:
        counts = [Proportion(found=found, asked=asked) for found in range(asked + 1)]
        methods = {
            "Clopper-Pearson": [count.clopper_pearson for count in counts],
            "Wilson": [count.wilson for count in counts],
            "percentile boot.": [_percentile(count) for count in counts],
        }
        for name, intervals in methods.items():
            covered = [coverage(intervals, asked, share) for share in SHARES]
            at = coverage(intervals, asked, 0.9)
            print(f"{asked:>5} {name:<18} {min(covered):7.3f} {np.mean(covered):7.3f} {at:11.3f}")


def _percentile(count: Proportion) -> Interval:
    """The bootstrap of a single proportion in the limit of infinitely many draws: quantiles of a binomial."""
    low, high = stats.binom.ppf([0.025, 0.975], count.asked, count.value) / count.asked
    return Interval(float(low), float(high))


def group_bootstrap(simulations: int, replicates: int) -> None:
    """Images of one patient share most of their score. The AUC's truth is known: Phi(shift / sqrt 2)."""
    print(f"\ngroup bootstrap of the AUC, {simulations} simulated test parts each, {replicates} draws")
    print(f"{'patients':>9} {'images':>7} {'true AUC':>9} {'by group':>9} {'by image':>9}   (coverage)")
    for patients, positive, views, shift in ((60, 12, 2, 1.5), (280, 40, 2, 1.5), (280, 40, 1, 1.5), (120, 40, 4, 0.7)):
        truth = float(stats.norm.cdf(shift / np.sqrt(2)))
        grouped = alone = 0
        for seed in range(simulations):
            rng = np.random.default_rng(seed)
            is_positive = np.repeat(np.arange(patients) < positive, views)
            group = np.repeat(np.arange(patients), views)
            person = np.repeat(rng.normal(size=patients), views) * np.sqrt(0.8)
            score = person + rng.normal(size=len(group)) * np.sqrt(0.2) + shift * is_positive
            for kind, groups in (("group", group), ("image", np.arange(len(group)))):
                weights = draw_weights(groups, replicates=replicates, seed=seed)
                interval = percentile_interval(auc(score, is_positive, weights))
                covered = interval.low <= truth <= interval.high
                grouped += covered and kind == "group"
                alone += covered and kind == "image"
        print(f"{patients:>9} {patients * views:>7} {truth:9.3f} {grouped / simulations:9.3f} {alone / simulations:9.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--replicates", type=int, default=500)
    arguments = parser.parse_args()
    proportions()
    group_bootstrap(arguments.simulations, arguments.replicates)
