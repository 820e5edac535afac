"""Does a queue beat random? Score against number of labels, many seeds, real radiographs and the phantom.

python -m benchmarks.active_learning --multilabel DIR --weights DIR --seeds 20      (about 10 minutes on one core)

Frozen features of `tf_efficientnet_lite0` with ImageNet weights; a logistic regression per label, unknown labels left out.
Each seed holds out 35 % of the groups (patients); the score is the macro-AUC on them. Every strategy of a seed has the same
hold-out and, unless it chooses itself, the same first images at random. Differences to random are paired by seed, with
standard errors over seeds: they say how sure the mean over splits of this one dataset is, not how another dataset behaves.
"""
# ruff: noqa: N803, N815
# (shape suffixes: N = images, D = features, L = labels)

import argparse
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from benchmarks.active_learning_data import Labelled, multilabel, phantom
from benchmarks.outcome import circumstances
from tune_btxrd.files import write_whole
from tune_btxrd.labels.acquisition import NEEDS_MODEL, STRATEGIES, ScoredPool

RESULTS = Path(__file__).parent / "results"
HELD_OUT = 0.35  # of the groups
WIDTH, STRENGTH = 64, 0.05  # principal components; C of the logistic regression
WAYS = {  # name -> strategy of the first images, then those that take turns
    "random": ("random", ("random",)),
    "typiclust": ("typiclust", ("typiclust",)),
    "uncertain": ("random", ("uncertain",)),
    "badge": ("random", ("badge",)),
    "typiclust, uncertain": ("typiclust", ("uncertain",)),
    "typiclust, badge": ("typiclust", ("badge",)),
    "badge + random": ("random", ("badge", "random")),
    "uncertain + random": ("random", ("uncertain", "random")),
    "badge + typiclust": ("typiclust", ("badge", "typiclust")),
    "uncertain + typiclust": ("typiclust", ("uncertain", "typiclust")),
    "badge, 10 % random": ("random", ("badge",) * 9 + ("random",)),
    "uncertain, 10 % random": ("random", ("uncertain",) * 9 + ("random",)),
}
CLEAR = ("random", "typiclust", "uncertain", "badge", "uncertain + typiclust")  # twelve with intervals are no picture


@dataclass(frozen=True, kw_only=True)
class Split:
    """One seed's images: features, true labels (NaN unknown), rows of the pool and of the hold-out."""

    features_ND: np.ndarray
    truth_NL: np.ndarray
    pool: np.ndarray
    held_out: np.ndarray


def split_of(data: Labelled, seed: int) -> Split:
    """Groups dealt at random; features standardised and reduced by what the pool shows, without any label."""
    names = np.unique(data.groups)
    out = np.random.default_rng([seed, 1]).permutation(names)[: round(HELD_OUT * len(names))]
    held_out = np.isin(data.groups, out)
    pool = np.flatnonzero(~held_out)
    scale = StandardScaler().fit(data.features[pool])
    reduced = PCA(min(WIDTH, len(pool)), random_state=seed, svd_solver="full").fit(scale.transform(data.features[pool]))
    return Split(
        features_ND=reduced.transform(scale.transform(data.features)),
        truth_NL=data.truth,
        pool=pool,
        held_out=np.flatnonzero(held_out),
    )


def probabilities(split: Split, asked: np.ndarray) -> np.ndarray:
    """(N, L) of a logistic regression per label on what the asked images answered; a share where there is one class."""
    columns = []
    for truth in split.truth_NL.T:
        rows = asked[~np.isnan(truth[asked])]
        if len(np.unique(truth[rows])) < 2:
            columns.append(np.full(len(truth), (truth[rows].sum() + 1) / (len(rows) + 2)))
            continue
        head = LogisticRegression(C=STRENGTH, max_iter=500).fit(split.features_ND[rows], truth[rows])
        columns.append(head.predict_proba(split.features_ND)[:, 1])
    return np.stack(columns, axis=1)


def score(split: Split, probabilities_NL: np.ndarray) -> float:
    """Macro-AUC on the hold-out, over labels that have both answers there."""
    found = []
    for truth, probability in zip(split.truth_NL.T, probabilities_NL.T, strict=True):
        rows = split.held_out[~np.isnan(truth[split.held_out])]
        if len(np.unique(truth[rows])) == 2:
            found.append(roc_auc_score(truth[rows], probability[rows]))
    return float(np.mean(found))


def curve(split: Split, way: str, *, first: int, batch: int, most: int, seed: int) -> tuple[list[float], list[int]]:
    """Macro-AUC and labels known after each batch of images."""
    opening, turns = WAYS[way]
    asked = np.zeros(0, dtype=np.int64)
    scores, labels = [], []
    while len(asked) < most:
        names = (opening,) if not len(asked) else turns
        count = batch if len(asked) else first
        beliefs = probabilities(split, asked) if len(asked) else None
        asked = np.concatenate([asked, choose(split, asked, beliefs, names, count, seed=seed + len(asked))])
        scores.append(score(split, probabilities(split, asked)))
        labels.append(int((~np.isnan(split.truth_NL[asked])).sum()))
    return scores, labels


def choose(
    split: Split, asked: np.ndarray, beliefs: np.ndarray | None, names: tuple[str, ...], count: int, *, seed: int
) -> np.ndarray:
    """The next images: each name's share of `count`, none twice. An asked image answers what its truth knows."""
    known = np.zeros(split.truth_NL.shape, dtype=bool)
    known[asked] = True
    chosen = np.zeros(0, dtype=np.int64)
    for name in dict.fromkeys(names):
        assert beliefs is not None or name not in NEEDS_MODEL
        share = min(round(count * names.count(name) / len(names)), count - len(chosen))
        pool = ScoredPool(
            features_ND=split.features_ND,
            probabilities_NL=beliefs,
            known_NL=known,
            candidates=np.setdiff1d(split.pool, [*asked, *chosen]),
        )
        chosen = np.concatenate([chosen, STRATEGIES[name](pool, share, seed=seed)])
    return chosen


def compare(data: Labelled, kept: Path, *, seeds: int, first: int, batch: int, most: int) -> pd.DataFrame:
    """One row per way, seed and number of images; a seed whose file lies in `kept` is not run again."""
    for seed in range(seeds):
        file = kept / f"{data.name} {seed}.csv"
        if not file.is_file():
            write_whole(file, _one_seed(data, seed, first=first, batch=batch, most=most).to_csv(index=False))
            print(f"{data.name}: seed {seed + 1} of {seeds}", flush=True)
    return pd.concat([pd.read_csv(kept / f"{data.name} {seed}.csv") for seed in range(seeds)], ignore_index=True)


def _one_seed(data: Labelled, seed: int, *, first: int, batch: int, most: int) -> pd.DataFrame:
    split, rows = split_of(data, seed), []
    for way in WAYS:
        scores, labels = curve(split, way, first=first, batch=batch, most=most, seed=1000 * seed)
        images = [first + batch * step for step in range(len(scores))]
        rows += [
            {"data": data.name, "way": way, "seed": seed, "images": image, "labels": known, "macro_auc": value}
            for image, known, value in zip(images, labels, scores, strict=True)
        ]
    return pd.DataFrame(rows)


def differences(table: pd.DataFrame, baseline: str = "random") -> pd.DataFrame:
    """Mean difference to the baseline and its standard error over seeds, at each number of images and over the curve."""
    wide = table.pivot_table(index=["way", "seed"], columns="images", values="macro_auc")
    wide["curve"] = wide.mean(axis=1)
    gaps = wide - wide.loc[baseline].reindex(wide.index.get_level_values("seed")).to_numpy()
    groups = gaps.groupby("way")
    return (
        groups.mean()
        .stack()
        .to_frame("difference")
        .join((groups.std() / groups.size().iloc[0] ** 0.5).stack().rename("error"))
    )


def shown(found: pd.DataFrame) -> str:
    """The differences as a table in Markdown; ** where they are beyond two standard errors."""
    cells = {
        key: f"{'**' if abs(row.difference) > 2 * row.error > 0 else ''}{row.difference:+.3f} +- {row.error:.3f}"
        for key, row in zip(found.index, found.itertuples(), strict=True)
    }
    columns = list(dict.fromkeys(key[1] for key in cells))
    lines = ["| way | " + " | ".join(map(str, columns)) + " |", "| --- |" + " --- |" * len(columns)]
    for way in WAYS:
        texts = [cells[way, column] for column in columns]
        lines.append(f"| {way} | " + " | ".join(f"{text}**" if text.startswith("**") else text for text in texts) + " |")
    return "\n".join(lines)


def means(table: pd.DataFrame) -> str:
    """Macro-AUC of random and labels known, by number of images."""
    base = table[table["way"] == "random"].groupby("images")[["macro_auc", "labels"]].mean()
    return "; ".join(f"{images}: {row.macro_auc:.3f} ({row.labels:.0f} labels)" for images, row in base.iterrows())


def draw(table: pd.DataFrame, path: Path) -> None:
    """Left: score against images; right: difference to random with two standard errors. One row per dataset."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(table["data"]))
    figure, axes = plt.subplots(len(names), 2, figsize=(12, 4.2 * len(names)), layout="constrained", squeeze=False)
    for (left, right), name in zip(axes, names, strict=True):
        part = table[table["data"] == name]
        found = differences(part).drop("curve", level=1)
        for number, way in enumerate(WAYS):
            style = {"color": plt.get_cmap("tab20")(number), "ls": "--" if "+" in way or "%" in way else "-"}
            score_of = part[part["way"] == way].groupby("images")["macro_auc"].mean()
            left.plot(score_of.index, score_of, label=way, lw=2.5 if way == "random" else 1.3, **style)
            gap = found.loc[way]
            if way not in CLEAR:
                continue
            right.errorbar(
                gap.index + 0.2 * number, gap["difference"], 2 * gap["error"], lw=1.3, capsize=2, elinewidth=0.6, **style
            )
        seeds = part["seed"].nunique()
        left.set(xlabel="images labelled", ylabel="macro-AUC on held-out groups", title=f"{name}, {seeds} seeds")
        right.axhline(0, color="black", lw=0.8)
        right.set(xlabel="images labelled", ylabel="difference to random", title="paired, with two standard errors")
        left.legend(fontsize=7, ncol=2)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Compares all ways on both datasets; writes table, numbers and picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--multilabel", type=Path, required=True, help="folder with manifest.csv and label: columns")
    parser.add_argument("--weights", type=Path, required=True, help="folder with tf_efficientnet_lite0.safetensors")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--cache", type=Path, help="folder that keeps features and curves: the same command goes on")
    arguments = parser.parse_args()
    warnings.simplefilter("error")
    with TemporaryDirectory() as folder:
        cache = arguments.cache or Path(folder)
        sets: list[tuple[Callable[[], Labelled], dict[str, int]]] = [
            (partial(multilabel, arguments.multilabel, arguments.weights, cache), {"first": 10, "batch": 10, "most": 100}),
            (partial(phantom, arguments.weights, cache), {"first": 20, "batch": 20, "most": 240}),
        ]
        tables = [compare(make(), cache, seeds=arguments.seeds, **sizes) for make, sizes in sets]
    table = pd.concat(tables)
    lines = [f"`python -m benchmarks.active_learning --seeds {arguments.seeds}`, {where()}", ""]
    for part in tables:
        lines += [f"## {part['data'].iloc[0]}", "", f"Random alone, macro-AUC by images: {means(part)}.", ""]
        lines += ["Difference to random, mean +- standard error over seeds:", "", shown(differences(part)), ""]
    text = "\n".join(lines)
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "active_learning.md").write_text(text, encoding="utf-8")
    table.round(5).to_csv(RESULTS / "active_learning.csv", index=False)
    draw(table, RESULTS / "active_learning.png")


def where() -> str:
    """What the numbers come from."""
    found = circumstances()
    return f"commit {found['commit']}, torch {found['torch']}, scikit-activeml {version('scikit-activeml')}"


if __name__ == "__main__":
    main()
