"""Whole groups into parts of wanted sizes, with the classes alike in all of them.

Shapes: N images, G groups, C classes, P parts.
"""

import math

import numpy as np

FEWEST_TRIES, MOST_TRIES = 12, 400  # few for many groups, whose counts even out anyway, more for few groups
DEALS = 10_000  # groups dealt in all tries together, about 0.1 s
EVEN = 1e-12  # rounding of squared shares


def partition_groups(indicators: np.ndarray, numbers: np.ndarray, *, shares: tuple[float, ...], seed: int) -> np.ndarray:
    """The part of every image, such that images of one group share it.

    Groups come in random order. Three quarters are dealt at random, by the shares, so that a large group may land
    anywhere; each of the others goes where it brings the class counts nearest to the wanted shares. The best of
    several orders is kept (exact optimality is a bin-packing problem and is not sought). Where a part of it lacks a class,
    groups change places until none does, if that is possible by moving one at a time.

    Args:
        indicators: (N, C) 1 where an image has a class or label, else 0 (`Task.indicators`).
        numbers: (N,) int64 group numbers.
        shares: (P,) wanted share of each part; they sum to 1.
        seed: decides the orders.

    Returns:
        (N,) int64 part index of every image.
    """
    groups, group_of = np.unique(numbers, return_inverse=True)
    group_counts = np.zeros((len(groups), indicators.shape[1]))
    np.add.at(group_counts, group_of, indicators)
    rng, wanted = np.random.default_rng(seed), np.array(shares)
    count = min(max(DEALS // len(groups), FEWEST_TRIES), MOST_TRIES)
    tries = [_one_try(group_counts, wanted, rng) for _ in range(count)]
    best = min(tries, key=lambda part_of: deviation(group_counts, part_of, wanted))
    return np.asarray(repaired(group_counts, best, wanted)[group_of])


def stratified_parts(names: np.ndarray, shares: tuple[float, ...], seed: int) -> np.ndarray | None:
    """scikit-learn's `train_test_split` into two or three parts, stratified by class name: (N,) int64 part indices.

    The alphabetical order of the names decides the outcome, and three parts are made as BTXRD's published splits were:
    30 % are set aside and then halved. None where scikit-learn refuses: a class with one image left to divide, or a part
    with fewer images than classes.

    Args:
        names: (N,) class names.
        shares: (P,) wanted shares, P 2 or 3.
        seed: `random_state`.
    """
    from sklearn.model_selection import train_test_split

    parts, rows = np.zeros(len(names), dtype=np.int64), np.arange(len(names))
    for part in range(1, len(shares)):
        size = round(sum(shares[part:]) / sum(shares[part - 1 :]), 6)
        classes, counts = np.unique(names[rows], return_counts=True)
        held = min(math.ceil(size * len(rows)), len(rows) - math.ceil(size * len(rows)))
        if counts.min() < 2 or held < len(classes):
            return None
        _, rows = train_test_split(rows, test_size=size, random_state=seed, stratify=names[rows])
        parts[rows] = part
    return parts


def deviation(group_counts: np.ndarray, part_of: np.ndarray, shares: np.ndarray) -> tuple[int, float]:
    """How often a part lacks a class; then how far the worst part is from its wanted share of a class or of all images.

    Args:
        group_counts: (G, C) images of each class in each group.
        part_of: (G,) part index of each group.
        shares: (P,) wanted shares.
    """
    part_counts = _part_counts(group_counts, part_of, len(shares))
    by_class = part_counts / np.maximum(group_counts.sum(axis=0), 1) - shares[:, None]
    overall = part_counts.sum(axis=1) / group_counts.sum() - shares
    return int((part_counts == 0).sum()), float(max(np.abs(by_class).max(), np.abs(overall).max()))


def repaired(group_counts: np.ndarray, part_of: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The same deal where no part lacks a class; else single groups move until no move lowers the lacks or evens the parts.

    Each step takes the move after which the fewest parts lack a class, and among those the most even one. Arguments as
    for `deviation`.
    """
    part_of, counts = part_of.copy(), _part_counts(group_counts, part_of, len(shares))
    needed = (counts == 0).any()
    while needed and (move := _best_move(group_counts, part_of, counts, shares)):
        group, part = move
        counts[part_of[group]] -= group_counts[group]
        counts[part] += group_counts[group]
        part_of[group] = part
    return part_of


def class_share_gap(indicators: np.ndarray, parts: np.ndarray) -> float:
    """The largest difference between a class's share of a part and its share of all parts together, in [0, 1]."""
    overall = indicators.sum(axis=0) / len(indicators)
    inside = (indicators[parts == part] for part in np.unique(parts))
    return float(np.abs([chosen.sum(axis=0) / len(chosen) - overall for chosen in inside]).max())


def _best_move(
    group_counts: np.ndarray, part_of: np.ndarray, counts: np.ndarray, shares: np.ndarray
) -> tuple[int, int] | None:
    """The group and the part whose union lowers the lacks most, then the sum of squared distances from the wanted counts.

    Distances are in shares of a class, and of all images as one class more.
    """
    sizes, held = (np.column_stack([each, each.sum(axis=1)]) for each in (group_counts, counts))
    weighed = sizes / np.maximum(held.sum(axis=0), 1) ** 2
    pull = weighed @ (held - shares[:, None] * held.sum(axis=0)).T  # (G, P)
    rows = np.arange(len(part_of))
    change = pull - pull[rows, part_of][:, None] + (weighed * sizes).sum(axis=1)[:, None]
    emptied = ((counts[part_of] == group_counts) & (group_counts > 0)).sum(axis=1)
    lacks = emptied[:, None] - (group_counts > 0).astype(int) @ (counts == 0).astype(int).T
    change[rows, part_of], lacks[rows, part_of] = 0.0, 0  # it stays
    group, part = divmod(int(np.lexsort((change.ravel(), lacks.ravel()))[0]), len(shares))
    better = lacks[group, part] < 0 or (lacks[group, part] == 0 and change[group, part] < -EVEN)
    return (group, part) if better else None


def _part_counts(group_counts: np.ndarray, part_of: np.ndarray, parts: int) -> np.ndarray:
    """(P, C) images of each class in each part."""
    return np.stack([group_counts[part_of == part].sum(axis=0) for part in range(parts)])


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
