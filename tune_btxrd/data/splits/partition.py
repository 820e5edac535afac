"""Whole groups into parts of wanted sizes, with the classes alike in all of them.

Shapes: N images, G groups, C classes, P parts.
"""

from collections import Counter

import numpy as np

from tune_btxrd.errors import DataError

FEWEST_TRIES, MOST_TRIES = 12, 400  # few for many groups, whose counts even out anyway, more for few groups
DEALS = 10_000  # groups dealt in all tries together, about 0.1 s


def partition_groups(
    targets: np.ndarray, numbers: np.ndarray, *, num_classes: int, shares: tuple[float, ...], seed: int
) -> np.ndarray:
    """The part of every image, such that images of one group share it.

    Groups come in random order. Three quarters are dealt at random, by the shares, so that a large group may land
    anywhere; each of the others goes where it brings the class counts nearest to the wanted shares. The best of
    several orders is kept. (Exact optimality is a bin-packing problem and is not sought.)

    Args:
        targets: (N,) int64 class indices.
        numbers: (N,) int64 group numbers.
        num_classes: C.
        shares: (P,) wanted share of each part; they sum to 1.
        seed: decides the orders.

    Returns:
        (N,) int64 part index of every image.
    """
    groups, group_of = np.unique(numbers, return_inverse=True)
    group_counts = np.zeros((len(groups), num_classes))
    np.add.at(group_counts, (group_of, targets), 1)
    rng = np.random.default_rng(seed)
    count = min(max(DEALS // len(groups), FEWEST_TRIES), MOST_TRIES)
    tries = [_one_try(group_counts, np.array(shares), rng) for _ in range(count)]
    best = min(tries, key=lambda part_of: deviation(group_counts, part_of, np.array(shares)))
    return np.asarray(best[group_of])


def stratified_parts(names: np.ndarray, shares: tuple[float, ...], seed: int) -> np.ndarray:
    """scikit-learn's `train_test_split` into two or three parts, stratified by class name: (N,) int64 part indices.

    The alphabetical order of the names decides the outcome, and three parts are made as BTXRD's published splits were:
    30 % are set aside and then halved.

    Args:
        names: (N,) class names.
        shares: (P,) wanted shares, P 2 or 3.
        seed: `random_state`.

    Raises:
        DataError: a class has too few images for these parts.
    """
    from sklearn.model_selection import train_test_split

    parts = np.zeros(len(names), dtype=np.int64)
    rows, total = np.arange(len(names)), Counter(names.tolist())
    for part in range(1, len(shares)):
        size = round(sum(shares[part:]) / sum(shares[part - 1 :]), 6)
        counts = Counter(names[rows].tolist())
        name = min(counts, key=counts.__getitem__)
        try:
            _, rows = train_test_split(rows, test_size=size, random_state=seed, stratify=names[rows])
        except ValueError as error:
            here = " and ".join(("train", "val", "test")[part - 1 : len(shares)])
            raise DataError(
                f"Every class must occur in every part, but {name} has too few images or groups ({total[name]} in all) to "
                f"be divided into {here}: add {name} images, or choose other splits with --splits."
            ) from error
        parts[rows] = part
    return parts


def deviation(group_counts: np.ndarray, part_of: np.ndarray, shares: np.ndarray) -> tuple[int, float]:
    """How often a part lacks a class; then how far the worst part is from its wanted share of a class or of all images.

    Args:
        group_counts: (G, C) images of each class in each group.
        part_of: (G,) part index of each group.
        shares: (P,) wanted shares.
    """
    part_counts = np.stack([group_counts[part_of == part].sum(axis=0) for part in range(len(shares))])
    by_class = part_counts / np.maximum(group_counts.sum(axis=0), 1) - shares[:, None]
    overall = part_counts.sum(axis=1) / group_counts.sum() - shares
    return int((part_counts == 0).sum()), float(max(np.abs(by_class).max(), np.abs(overall).max()))


def class_share_gap(targets: np.ndarray, parts: np.ndarray, num_classes: int) -> float:
    """The largest difference between a class's share of a part and its share of all parts together, in [0, 1]."""
    overall = np.bincount(targets, minlength=num_classes) / len(targets)
    gaps = [
        np.bincount(t, minlength=num_classes) / len(t) - overall
        for part in np.unique(parts)
        if len(t := targets[parts == part])
    ]
    return float(np.abs(gaps).max())


def _one_try(group_counts: np.ndarray, shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    order = rng.permutation(len(group_counts))
    part_of = rng.choice(len(shares), size=len(group_counts), p=shares)
    dealt, rest = np.split(order, [len(order) * 3 // 4])
    # (P, C): images of each class that a part still lacks
    missing = shares[:, None] * group_counts.sum(axis=0)
    np.subtract.at(missing, part_of[dealt], group_counts[dealt])
    weights = 1 / np.maximum(group_counts.sum(axis=0), 1) ** 2  # a rare class counts as much as a common one
    for group in rest:
        # (P,): |missing|^2 - |missing - group|^2: by how much a part nears its wanted counts, in units of its size
        gain = ((2 * missing - group_counts[group]) * group_counts[group] * weights).sum(axis=1) / shares
        part = part_of[group] = int(np.argmax(gain))
        missing[part] -= group_counts[group]
    return part_of
