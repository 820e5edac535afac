"""Acquisition against slow references on tiny pools; nothing known of an image moves its place."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch.nn import functional

from tune_btxrd.errors import ConfigError
from tune_btxrd.labels import acquisition
from tune_btxrd.labels.acquisition import (
    NEEDS_MODEL,
    STRATEGIES,
    ScoredPool,
    badge,
    compact_gradients,
    entropies,
    gradients,
    strategy_names,
    typiclust,
    uncertain,
)
from tune_btxrd.tasks.multiclass import MULTICLASS
from tune_btxrd.tasks.multilabel import MULTILABEL


def pool(*, images: int = 40, labels: int = 3, width: int = 5, seed: int = 0, exclusive: bool = False) -> ScoredPool:
    """Random features and probabilities; a tenth is labelled, a third of the rest knows one label."""
    generator = np.random.default_rng(seed)
    known = np.zeros((images, labels), dtype=bool)
    known[: images // 10] = True
    if not exclusive:
        known[images // 10 :: 3, 0] = True
    probabilities = generator.random((images, labels))
    return ScoredPool(
        features_ND=generator.normal(size=(images, width)).astype(np.float32),
        probabilities_NL=probabilities / probabilities.sum(axis=1, keepdims=True) if exclusive else probabilities,
        known_NL=known,
        candidates=np.arange(images // 10, images),
        task=MULTICLASS if exclusive else MULTILABEL,
    )


def test_uncertain_sums_the_entropies_of_unknown_labels_alone() -> None:
    probabilities = np.array([[0.5, 0.5], [0.5, 0.9], [0.5, 0.0]])
    known = np.array([[False, False], [False, True], [True, False]])
    assert entropies(probabilities, known) == pytest.approx([2 * np.log(2), np.log(2), 0.0])


def test_uncertain_ranks_as_a_slow_loop_does() -> None:
    given = pool()
    assert given.probabilities_NL is not None

    def slow(row: int) -> float:
        free = [float(p) for p, known in zip(given.probabilities_NL[row], given.known_NL[row], strict=True) if not known]
        return -sum(p * np.log(p) + (1 - p) * np.log(1 - p) for p in free)

    assert uncertain(given, 10, seed=0).tolist() == sorted(given.candidates.tolist(), key=slow, reverse=True)[:10]


def test_uncertain_of_one_class_per_image_is_the_entropy_of_the_class() -> None:
    assert entropies(np.array([[0.5, 0.25, 0.25]]), np.zeros((1, 3), bool), task=MULTICLASS) == pytest.approx(
        [0.5 * np.log(2) + 0.5 * np.log(4)]
    )


def test_equally_uncertain_images_come_in_random_order() -> None:
    given = pool(images=200)
    even = ScoredPool(
        features_ND=given.features_ND,
        probabilities_NL=np.full((200, 3), 0.5),
        known_NL=np.zeros((200, 3), dtype=bool),
        candidates=np.arange(200),
    )
    assert uncertain(even, 20, seed=0).tolist() != list(range(20))
    assert uncertain(even, 20, seed=0).tolist() != uncertain(even, 20, seed=1).tolist()


@pytest.mark.parametrize("exclusive", [False, True])
def test_gradients_are_those_that_torch_finds(exclusive: bool) -> None:
    given = pool(exclusive=exclusive)
    rows = given.candidates
    features, known = torch.tensor(given.features_ND[rows], dtype=torch.float64), torch.tensor(given.known_NL[rows])
    probabilities = torch.tensor(given.probabilities_NL[rows])
    logits = probabilities.log() if exclusive else torch.logit(probabilities)
    found = gradients(given.features_ND[rows], given.probabilities_NL[rows], given.known_NL[rows], task=given.task)
    for row in range(len(rows)):
        weight = torch.linalg.lstsq(features[row : row + 1], logits[row : row + 1]).solution.T  # a layer that says this
        weight.requires_grad_(True)
        said = weight @ features[row]
        if exclusive:
            loss = functional.cross_entropy(said[None], said.argmax()[None])
        else:
            each = functional.binary_cross_entropy_with_logits(said, (said > 0).double().detach(), reduction="none")
            loss = each[~known[row]].sum()
        (wanted,) = torch.autograd.grad(loss, weight)
        assert found[row] == pytest.approx(wanted.flatten().numpy(), abs=1e-6)


def slow_kmeans_plus_plus(points: np.ndarray, count: int, seed: int) -> Iterator[int]:
    """Largest first, then by squared distance to the nearest chosen one, or to 0 (Ash et al. 2020, algorithm 1)."""
    drawn = int(np.random.RandomState(seed).randint(1, 2**31))
    own_seed = drawn * (len(points) + 1) % 2**31  # as scikit-activeml derives it
    state, chosen = np.random.RandomState(own_seed), [int(np.argmax((points**2).sum(axis=1)))]
    yield chosen[0]
    while len(chosen) < count:
        centers = [np.zeros(points.shape[1]), *points[chosen]]
        nearest = np.array([min(float(((point - center) ** 2).sum()) for center in centers) for point in points])
        chosen.append(int(state.choice(len(points), 1, replace=False, p=nearest / nearest.sum())[0]))
        yield chosen[-1]


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_badge_is_k_means_plus_plus_on_gradients(seed: int, exclusive: bool) -> None:
    given = pool(seed=seed, exclusive=exclusive)
    points = compact_gradients(given, given.candidates, seed=seed)
    wanted = [int(given.candidates[index]) for index in slow_kmeans_plus_plus(points, 8, seed)]
    assert badge(given, 8, seed=seed).tolist() == wanted


def test_typiclust_takes_the_most_typical_image_of_each_cluster_without_a_label() -> None:
    generator = np.random.default_rng(0)
    centers = np.array([[9.0, 0, 0], [0, 9, 0], [0, 0, 9], [-9, 0, 0]])
    features = np.concatenate(
        [center + generator.normal(size=(count, 3)) for center, count in zip(centers, (9, 7, 8, 6), strict=True)]
    )
    known = np.zeros((30, 2), dtype=bool)
    known[0] = True  # the first cluster is covered
    given = ScoredPool(features_ND=features, probabilities_NL=None, known_NL=known, candidates=np.arange(1, 30))
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)

    def typical(rows: range) -> int:
        near = {row: sorted(np.linalg.norm(unit[row] - unit[other]) for other in rows)[: 5 + 1] for row in rows}
        return min(rows, key=lambda row: sum(near[row]))

    assert typiclust(given, 3, seed=0).tolist() == [typical(rows) for rows in (range(16, 24), range(9, 16), range(24, 30))]


@pytest.mark.parametrize("name", STRATEGIES)
class TestEveryStrategy:
    def test_takes_each_candidate_once_and_nothing_else(self, name: str) -> None:
        given = pool()
        assert sorted(STRATEGIES[name](given, 1000, seed=3).tolist()) == given.candidates.tolist()
        assert len(STRATEGIES[name](given, 7, seed=3)) == 7

    def test_depends_on_its_seed_alone(self, name: str) -> None:
        np.random.seed(0)
        first = STRATEGIES[name](pool(), 12, seed=5)
        np.random.seed(1)
        assert first.tolist() == STRATEGIES[name](pool(), 12, seed=5).tolist()

    def test_does_not_look_at_what_a_model_says_of_known_labels(self, name: str) -> None:
        given = pool()
        changed = np.where(given.known_NL, np.random.default_rng(9).random(given.known_NL.shape), given.probabilities_NL)
        other = ScoredPool(**{**vars(given), "probabilities_NL": changed})
        assert STRATEGIES[name](given, 12, seed=0).tolist() == STRATEGIES[name](other, 12, seed=0).tolist()

    def test_does_not_look_at_images_that_are_neither_labelled_nor_asked(self, name: str) -> None:
        given = pool()
        given.known_NL[-10:] = False
        reduced = ScoredPool(**{**vars(given), "candidates": given.candidates[:-10]})
        strange = given.features_ND.copy()
        strange[-10:] = 1e6
        other = ScoredPool(**{**vars(reduced), "features_ND": strange})
        assert STRATEGIES[name](reduced, 12, seed=0).tolist() == STRATEGIES[name](other, 12, seed=0).tolist()

    def test_ends_where_all_images_are_the_same(self, name: str) -> None:
        known = np.zeros((30, 2), dtype=bool)
        known[:3] = True
        given = ScoredPool(
            features_ND=np.ones((30, 4)), probabilities_NL=np.full((30, 2), 0.5), known_NL=known, candidates=np.arange(3, 30)
        )
        assert len(set(STRATEGIES[name](given, 20, seed=0).tolist())) == 20

    def test_ends_in_one_image_and_in_none(self, name: str) -> None:
        for left in (1, 0):
            given = ScoredPool(**{**vars(pool()), "candidates": np.arange(4, 4 + left)})
            assert STRATEGIES[name](given, 5, seed=0).tolist() == list(range(4, 4 + left))

    def test_sees_a_sample_of_a_large_pool(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(acquisition, "MOST_CANDIDATES", 20)
        monkeypatch.setattr(acquisition, "MOST_COVERED", 5)
        monkeypatch.setattr(acquisition, "MOST_CLUSTERS", 12)
        assert len(set(STRATEGIES[name](pool(images=300, width=80), 15, seed=0).tolist())) == 15

    def test_needs_a_model_or_says_nothing_of_it(self, name: str) -> None:
        given = ScoredPool(**{**vars(pool()), "probabilities_NL": None})
        if name in NEEDS_MODEL:
            with pytest.raises(ConfigError, match="no model yet: use typiclust or random"):
                STRATEGIES[name](given, 3, seed=0)
        else:
            assert len(STRATEGIES[name](given, 3, seed=0)) == 3


def test_a_mixture_is_named_by_its_strategies() -> None:
    assert strategy_names("badge+typiclust") == ("badge", "typiclust")
    with pytest.raises(ConfigError, match="got 'bagde': choose one"):
        strategy_names("bagde+random")
