"""Whole groups into parts of wanted sizes, with the share of every answer to every label alike in all of them.

Shapes: N images, G groups, K answers (yes, no, unknown per label), P parts, M changes that are weighed at once.
"""
# ruff: noqa: N803, N806, N815
# (shape suffixes: counts_MPK)

from dataclasses import dataclass

import numpy as np

CELLS = 300_000  # numbers computed per step: how many changes are weighed at once
FEWEST_TRIES, MOST_TRIES, DEALS = 1, 12, 4500  # groups times parts in all tries together
MOST_STEPS = 400
SIZE_SLACK = 0.01  # share of all images by which a part may miss its size at no cost
SHARPNESS = 6  # power of the differences: the largest one counts most
LACK = 1e6  # a part without an answer costs more than any difference


@dataclass(frozen=True, kw_only=True)
class Deal:
    """What is dealt: images per group and answer, the last column all images of the group; and the wanted shares."""

    groups_GK: np.ndarray
    wanted_P: np.ndarray

    def cost(self, counts_MPK: np.ndarray) -> np.ndarray:
        """(M,): how uneven parts with these counts are."""
        total_K, images = self.groups_GK.sum(axis=0), self.groups_GK[:, -1].sum()
        sizes_MP1 = np.maximum(counts_MPK[..., -1:], 1e-9)
        shares_MPK = counts_MPK[..., :-1] / sizes_MP1
        spread_MK = shares_MPK.max(axis=1) - shares_MPK.min(axis=1)
        missed_MP = np.abs(counts_MPK[..., -1] / images - self.wanted_P)
        size_MP = np.maximum(missed_MP - SIZE_SLACK, 0) + 1e-3 * missed_MP
        lacks_M = (counts_MPK <= 0).sum(axis=(1, 2)) - (total_K <= 0).sum() * len(self.wanted_P)
        even_M = ((100 * spread_MK) ** SHARPNESS).sum(axis=1) + ((200 * size_MP) ** SHARPNESS).sum(axis=1)
        return np.asarray(LACK * lacks_M + even_M ** (1 / SHARPNESS))

    def counts(self, part_of: np.ndarray) -> np.ndarray:
        """(P, K) of this deal."""
        return np.stack([self.groups_GK[part_of == part].sum(axis=0) for part in range(len(self.wanted_P))])


def partition_labels(answers: np.ndarray, numbers: np.ndarray, *, shares: tuple[float, ...], seed: int) -> np.ndarray:
    """The part of every image, such that images of one group share it and every answer's share is alike in all parts.

    Groups are dealt one after another, those with rare answers first, each to the part that lacks its answers most
    (after Sechidis et al., ECML 2011, for groups); then single groups move and pairs change places while that evens the
    parts. The best of several orders is kept.

    Args:
        answers: (N, K) 1 where an image has the answer, else 0 (`Task.answers`).
        numbers: (N,) int64 group numbers.
        shares: (P,) wanted share of each part; they sum to 1.
        seed: decides the orders.

    Returns:
        (N,) int64 part index of every image.
    """
    groups, group_of = np.unique(numbers, return_inverse=True)
    counts = np.zeros((len(groups), answers.shape[1] + 1))
    np.add.at(counts, group_of, np.column_stack([answers, np.ones(len(answers))]))
    deal, rng = Deal(groups_GK=counts, wanted_P=np.array(shares)), np.random.default_rng(seed)
    tries = min(max(DEALS // (len(groups) * len(shares)), FEWEST_TRIES), MOST_TRIES)
    dealt = [_evened(deal, _greedy(deal, rng), rng) for _ in range(tries)]
    best = min(dealt, key=lambda part_of: float(deal.cost(deal.counts(part_of)[None])[0]))
    return np.asarray(best[group_of])


def share_spread(answers: np.ndarray, parts: np.ndarray) -> float:
    """The largest difference between two parts in the share of images that have an answer, in [0, 1]."""
    shares = np.stack([answers[parts == part].mean(axis=0) for part in np.unique(parts)])
    return float((shares.max(axis=0) - shares.min(axis=0)).max())


def _greedy(deal: Deal, rng: np.random.Generator) -> np.ndarray:
    groups, shares = deal.groups_GK, deal.wanted_P
    weight_K = 1 / np.maximum(groups.sum(axis=0), 1)  # a rare answer counts as much as a common one
    rarity_G = (groups * weight_K).sum(axis=1) / np.maximum(groups[:, -1], 1)
    missing = shares[:, None] * groups.sum(axis=0)
    part_of = np.zeros(len(groups), dtype=np.int64)
    for group in np.argsort(-rarity_G * rng.uniform(0.5, 1.5, len(groups)), kind="stable"):
        gain_P = ((2 * missing - groups[group]) * groups[group] * weight_K**2).sum(axis=1) / shares
        part_of[group] = int(np.argmax(gain_P))
        missing[part_of[group]] -= groups[group]
    return part_of


def _evened(deal: Deal, part_of: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same deal after the best changes in turn: a group moves, or two groups of different parts change places."""
    part_of, counts = part_of.copy(), deal.counts(part_of)
    cost, weighed = float(deal.cost(counts[None])[0]), max(CELLS // counts.size, 8)
    for _ in range(MOST_STEPS):
        first, second, here, there = _changes(part_of, len(deal.wanted_P), weighed, rng)
        if not len(first):
            break
        step_MK = deal.groups_GK[first] - np.where(second[:, None] < 0, 0, deal.groups_GK[second])
        counts_MPK, rows = np.repeat(counts[None], len(first), axis=0), np.arange(len(first))
        counts_MPK[rows, here] -= step_MK
        counts_MPK[rows, there] += step_MK
        costs = deal.cost(counts_MPK)
        if costs[best := int(np.argmin(costs))] >= cost - 1e-9:
            break
        cost, counts = float(costs[best]), counts_MPK[best]
        part_of[first[best]] = there[best]
        if second[best] >= 0:
            part_of[second[best]] = here[best]
    return part_of


def _changes(
    part_of: np.ndarray, parts: int, most: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """First group, second group (-1: the first moves alone), part of the first, part it goes to; all, or a sample."""
    groups = len(part_of)
    moves, pairs = groups * parts, groups * (groups - 1) // 2
    chosen = np.arange(moves) if moves <= most // 3 else rng.integers(moves, size=most // 3)
    first, there = np.divmod(chosen, parts)
    if pairs <= most:
        one, other = np.triu_indices(groups, 1)
    else:
        one, other = rng.integers(groups, size=(2, most))
    first, second = np.r_[first, one], np.r_[np.full(len(first), -1), other]
    there = np.r_[there, part_of[other]]
    fine = part_of[first] != there
    return first[fine], second[fine], part_of[first[fine]], there[fine]
