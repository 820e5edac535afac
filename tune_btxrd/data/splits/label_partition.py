"""Whole groups into parts of wanted sizes, with the share of every answer to every label alike in all of them.

Shapes: N images, G groups, K answers (yes, no, unknown per label), P parts, M changes that are weighed at once.
"""
# ruff: noqa: N803, N806, N815
# (shape suffixes: counts_MPK)

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

WEIGHED = 200  # changes weighed per step
STEPS, STEPS_PER_GROUP = 8000, 500  # in all, about a second; fewer for few groups
PATIENCE = 20  # steps without a better change, after which groups are shaken
SHAKEN = 20  # one in so many groups, three at least
FRUITLESS = 40  # shakes in a row, after which groups are dealt anew
SINGLE = 0.25  # share of changes in which a group moves alone
SIZE_SLACK = 0.01  # share of all images by which a part may miss its size at no cost
SQUARINGS = 4  # of the differences, a power of 16: the largest one alone counts, nearly
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
        even_M = _sharp(100 * spread_MK).sum(axis=1) + _sharp(200 * size_MP).sum(axis=1)
        return np.asarray(LACK * lacks_M + even_M**0.5**SQUARINGS)

    def counts(self, part_of: np.ndarray) -> np.ndarray:
        """(P, K) of this deal."""
        return np.stack([self.groups_GK[part_of == part].sum(axis=0) for part in range(len(self.wanted_P))])


def partition_labels(answers: np.ndarray, numbers: np.ndarray, *, shares: tuple[float, ...], seed: int) -> np.ndarray:
    """The part of every image, such that images of one group share it and every answer's share is alike in all parts.

    Groups are dealt one after another, those with rare answers first, each to the part that lacks its answers most
    (after Sechidis et al., ECML 2011, for groups); then single groups move and pairs change places while that evens the
    parts. Where no more is found, some groups are shaken, and what comes of it is kept where it is as even (iterated local
    search). Calls with the same arguments, as every fold of k makes one, are answered from memory.

    Args:
        answers: (N, K) 1 where an image has the answer, else 0 (`Task.answers`).
        numbers: (N,) int64 group numbers.
        shares: (P,) wanted share of each part; they sum to 1.
        seed: decides the orders.

    Returns:
        (N,) int64 part index of every image.
    """
    key = answers.astype(np.float64).tobytes(), numbers.astype(np.int64).tobytes()
    return _partition(*key, answers.shape[1], shares, seed).copy()


@lru_cache(maxsize=8)
def _partition(answers_NK: bytes, numbers_N: bytes, columns: int, shares: tuple[float, ...], seed: int) -> np.ndarray:
    answers, numbers = np.frombuffer(answers_NK).reshape(-1, columns), np.frombuffer(numbers_N, dtype=np.int64)
    groups, group_of = np.unique(numbers, return_inverse=True)
    counts = np.zeros((len(groups), columns + 1))
    np.add.at(counts, group_of, np.column_stack([answers, np.ones(len(answers))]))
    deal, rng = Deal(groups_GK=counts, wanted_P=np.array(shares)), np.random.default_rng(seed)
    return np.asarray(_searched(deal, rng)[group_of])


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


def _searched(deal: Deal, rng: np.random.Generator) -> np.ndarray:
    """The most even deal found in STEPS steps."""
    groups = len(deal.groups_GK)
    part_of = here = best = _greedy(deal, rng)
    lowest, low, fruitless, left = float("inf"), float("inf"), 0, min(STEPS, STEPS_PER_GROUP * groups)
    while left > 0:
        found, cost, steps = _evened(deal, part_of, rng, most=left)
        left, fruitless = left - steps, 0 if cost < low else fruitless + 1
        here, low = (found, cost) if cost <= low else (here, low)
        best, lowest = (here, low) if low < lowest else (best, lowest)
        if fruitless == FRUITLESS:
            part_of, low, fruitless = _greedy(deal, rng), float("inf"), 0
            continue
        part_of = here.copy()
        shaken = rng.choice(groups, size=min(max(3, groups // SHAKEN), groups), replace=False)
        part_of[shaken] = rng.permutation(part_of[shaken])
    return best


def _evened(deal: Deal, part_of: np.ndarray, rng: np.random.Generator, *, most: int) -> tuple[np.ndarray, float, int]:
    """The deal after the best of WEIGHED changes at a time, until PATIENCE steps found none; its cost; steps taken."""
    part_of, counts = part_of.copy(), deal.counts(part_of)
    cost, waited = float(deal.cost(counts[None])[0]), 0
    for step in range(1, most + 1):  # noqa: B007  # returned
        first, second, here, there = _changes(part_of, len(deal.wanted_P), rng)
        waited += 1
        if len(first):
            leaving_MK = deal.groups_GK[first] - np.where(second[:, None] < 0, 0, deal.groups_GK[second])
            counts_MPK, rows = np.repeat(counts[None], len(first), axis=0), np.arange(len(first))
            counts_MPK[rows, here] -= leaving_MK
            counts_MPK[rows, there] += leaving_MK
            costs = deal.cost(counts_MPK)
            if costs[best := int(np.argmin(costs))] < cost - 1e-9:
                cost, counts, waited = float(costs[best]), counts_MPK[best], 0
                part_of[first[best]] = there[best]
                if second[best] >= 0:
                    part_of[second[best]] = here[best]
        if waited == PATIENCE:
            break
    return part_of, cost, step


def _changes(
    part_of: np.ndarray, parts: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """First group, second group (-1: the first moves alone), part of the first, part it goes to; a sample."""
    first, second = rng.integers(len(part_of), size=(2, WEIGHED))
    alone = rng.random(WEIGHED) < SINGLE
    there = np.where(alone, rng.integers(parts, size=WEIGHED), part_of[second])
    fine = part_of[first] != there
    return first[fine], np.where(alone, -1, second)[fine], part_of[first[fine]], there[fine]


def _sharp(values: np.ndarray) -> np.ndarray:
    for _ in range(SQUARINGS):
        values = values * values
    return values
