"""Whole groups into parts of wanted sizes, with the classes alike in all of them.

Shapes: N images, G groups, C classes, P parts.
"""

import numpy as np

TRIES = 12


def partition_groups(
    targets: np.ndarray, numbers: np.ndarray, *, num_classes: int, shares: tuple[float, ...], seed: int
) -> np.ndarray:
    """The part of every image, such that images of one group share it.

    Groups come in random order. Three quarters are dealt at random, by the shares, so that a large group may land
    anywhere; each of the others goes where it brings the class counts nearest to the wanted shares. The best of `TRIES`
    orders is kept. (Exact optimality is a bin-packing problem and is not sought.)

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
    tries = [_one_try(group_counts, np.array(shares), rng) for _ in range(TRIES)]
    deviations = [share_deviation(group_counts, part_of, np.array(shares)) for part_of in tries]
    return np.asarray(tries[int(np.argmin(deviations))][group_of])


def share_deviation(group_counts: np.ndarray, part_of: np.ndarray, shares: np.ndarray) -> float:
    """How far the worst part is from its wanted share of a class or of all images, in [0, 1].

    Args:
        group_counts: (G, C) images of each class in each group.
        part_of: (G,) part index of each group.
        shares: (P,) wanted shares.
    """
    part_counts = np.stack([group_counts[part_of == part].sum(axis=0) for part in range(len(shares))])
    by_class = part_counts / np.maximum(group_counts.sum(axis=0), 1) - shares[:, None]
    overall = part_counts.sum(axis=1) / group_counts.sum() - shares
    return float(max(np.abs(by_class).max(), np.abs(overall).max()))


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
