"""Arms: does the queue beat chance? A light head on each arm's labels in their order, judged on the same control images.

The control arm is a fair sample of the store, so it alone can judge. Its groups are halved at random; one half judges heads
that were fitted on as many images of the other half and of the ranked arm, groups of the judging half left out; then they
change places. Features are those of a pretrained backbone, which no label of either arm has shaped.
"""
# ruff: noqa: N803, N806
# (shape suffixes: N = images, D = features, L = labels, R = bootstrap draws)

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tune_btxrd.labels.records import RANDOM, RANKED
from tune_btxrd.labels.scores import features_of, labelled_by_arm
from tune_btxrd.labels.store import LabelStore
from tune_btxrd.scoring.intervals import Interval, draw_weights, percentile_interval
from tune_btxrd.scoring.metrics import auc

FEWEST = 24  # labelled images of the control arm, and of the ranked arm, for a comparison
MOST = 400  # images of an arm, the first ones
REPEATS, REPLICATES = 3, 300  # random halvings; bootstrap draws of groups
SIZES = (0.25, 0.5, 0.75, 1.0)  # of what both arms have
STRENGTH = 1.0  # ridge penalty per feature of unit variance, relative to their number


@dataclass(frozen=True, kw_only=True)
class ArmPoint:
    """Macro-AUC of heads fitted on as many images of either arm; intervals are over the groups that judge."""

    images: int
    ranked: float
    ranked_interval: Interval
    random: float
    random_interval: Interval
    difference: float  # ranked - random
    difference_interval: Interval


@dataclass(frozen=True, kw_only=True)
class Arms:
    """Both arms at several numbers of images, and what follows; no points where there is too little to say."""

    points: tuple[ArmPoint, ...]
    verdict: str


def compare_arms(store: LabelStore) -> Arms:
    """The arms of a store, from its events and the features of its pretrained backbone."""
    by_arm = labelled_by_arm(store.database)
    ranked, control = by_arm.get(RANKED, [])[:MOST], by_arm.get(RANDOM, [])[:MOST]
    if min(len(ranked), len(control)) < FEWEST:
        there = f"{len(ranked)} that the queue asked for and {len(control)} of the control arm"
        return _nothing(f"{FEWEST} labelled images of either are needed, but there are {there}")
    backbone = store.latest_backbone()
    if backbone is None:
        return _nothing("features that no label has shaped are needed: `labels score` with --backbone and --weights")
    features = features_of(store.database, backbone, [*ranked, *control])
    ranked, control = ([image for image in arm if image in features] for arm in (ranked, control))
    if min(len(ranked), len(control)) < FEWEST:
        return _nothing("the backbone has not scored enough images of both arms: `labels score` with --backbone again")
    images = [*ranked, *control]
    groups = np.asarray([store.image(image).group or f"image {image}" for image in images])
    return compare(
        np.stack([features[image] for image in images]),
        store.known(images),
        groups,
        ranked=len(ranked),
    )


def compare(features_ND: np.ndarray, values_NL: np.ndarray, groups_N: np.ndarray, *, ranked: int, seed: int = 0) -> Arms:
    """Both arms as arrays.

    Args:
        features_ND, values_NL, groups_N: of the ranked arm's images in the order of their labels, then of the control arm's.
        values_NL: 1 yes, 0 no, -1 unknown. ranked: how many are of the ranked arm.
    """
    spread = features_ND.std(axis=0)
    features = (features_ND - features_ND.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    weights_RN = draw_weights(groups_N[ranked:], replicates=REPLICATES, seed=seed)
    weights_RN = np.concatenate([np.ones((1, weights_RN.shape[1])), weights_RN])  # the first draw is the estimate itself
    arms, control = np.arange(ranked), np.arange(ranked, len(features))
    halves = list(_halves(groups_N[ranked:], seed=seed))
    free = [[arm[~np.isin(groups_N[arm], groups_N[control[judge]])] for arm in (arms, control)] for judge in halves]
    most = min(len(rows) for pair in free for rows in pair)
    points = []
    for size in dict.fromkeys(round(share * most) for share in SIZES):
        draws = [
            np.nanmean([_judged(features, values_NL, pair[arm][:size], control[judge], weights_RN[:, judge])
                        for judge, pair in zip(halves, free, strict=True)], axis=0)
            for arm in (0, 1)
        ]  # fmt: skip
        points.append(_point(size, *draws))
    if np.isnan(points[-1].difference):
        return _nothing("no label has a yes and a no in the control arm")
    return Arms(points=tuple(points), verdict=_verdict(points[-1]))


def _halves(groups_N: np.ndarray, *, seed: int) -> Iterator[np.ndarray]:
    """Positions of the half of the groups that judges, each half once, for every repeat."""
    names = np.unique(groups_N)
    for repeat in range(REPEATS):
        first = np.random.default_rng([seed, repeat]).permutation(names)[: len(names) // 2]
        inside = np.isin(groups_N, first)
        yield np.flatnonzero(inside)
        yield np.flatnonzero(~inside)


def _judged(
    features_ND: np.ndarray, values_NL: np.ndarray, rows: np.ndarray, judge: np.ndarray, weights_RJ: np.ndarray
) -> np.ndarray:
    """(R,) macro-AUC on the judging images of heads fitted on these rows; 0.5 for a label of which they know one side."""
    found = []
    for values in values_NL.T:
        known, asked = rows[values[rows] >= 0], values[judge] >= 0
        if len(np.unique(values[judge][asked])) < 2:
            continue
        if len(np.unique(values[known])) < 2:
            found.append(np.full(len(weights_RJ), 0.5))
            continue
        score = _ridge(features_ND[known], values[known] - values[known].mean(), features_ND[judge[asked]])
        found.append(auc(score, values[judge][asked] == 1, weights_RJ[:, asked]))
    return np.nanmean(found, axis=0) if found else np.full(len(weights_RJ), np.nan)


def _ridge(features_ND: np.ndarray, targets_N: np.ndarray, others_MD: np.ndarray) -> np.ndarray:
    """(M,) scores of a ridge regression, in its dual form: there are fewer images than features."""
    width = features_ND.shape[1]
    kernel = features_ND @ features_ND.T / width + STRENGTH * np.eye(len(features_ND))
    return np.asarray(others_MD @ features_ND.T @ np.linalg.solve(kernel, targets_N) / width)


def _point(images: int, ranked_R: np.ndarray, random_R: np.ndarray) -> ArmPoint:
    gap_R = ranked_R - random_R
    return ArmPoint(
        images=images,
        ranked=float(ranked_R[0]),
        ranked_interval=percentile_interval(ranked_R[1:]),
        random=float(random_R[0]),
        random_interval=percentile_interval(random_R[1:]),
        difference=float(gap_R[0]),
        difference_interval=percentile_interval(gap_R[1:]),
    )


def _verdict(last: ArmPoint) -> str:
    low, high = last.difference_interval.low, last.difference_interval.high
    found = (
        f"macro-AUC {last.difference:+.3f} after {last.images} images of each arm, 95 % interval {low:+.3f} to {high:+.3f}"
    )
    if low > 0:
        return f"The queue beats random: {found}."
    if high < 0:
        return f"The queue is worse than random: {found}. Label at random, or try another --strategy."
    return f"The queue does not beat random so far: {found}."


def _nothing(reason: str) -> Arms:
    return Arms(points=(), verdict=f"Queue against random: too little to compare; {reason}.")


def point_rows(points: Sequence[ArmPoint]) -> list[tuple[str, str, str, str]]:
    """Cells of a table: images, ranked, random, difference."""
    return [
        (
            str(point.images),
            f"{point.ranked:.3f} ({point.ranked_interval})",
            f"{point.random:.3f} ({point.random_interval})",
            f"{point.difference:+.3f} ({point.difference_interval.low:+.3f} to {point.difference_interval.high:+.3f})",
        )
        for point in points
    ]
