"""Acquisition: which unlabelled images would help a model most; strategies of scikit-activeml, made multi-label.

All work on arrays, are decided by their seed, and look at unknown labels alone: what is known of an image adds nothing.
"""
# ruff: noqa: N803, N806, N815
# (shape suffixes: N = images, D = features, L = labels, M = candidates)

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from skactiveml.classifier import SklearnClassifier
from skactiveml.pool import Badge, TypiClust, uncertainty_scores
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import ConvergenceWarning

from tune_btxrd.errors import ConfigError
from tune_btxrd.tasks.multilabel import MULTILABEL
from tune_btxrd.tasks.task import Task

MOST_CANDIDATES = 20_000  # badge and typiclust see a random sample of as many; uncertain sees all
WIDTH = 64  # features that are left of an image for clustering
GRADIENT_WIDTH = 384  # numbers that are left of an image's gradient
MOST_CLUSTERS = 500  # of typiclust at once, as Hacohen et al. 2022 limit it
MOST_ROUNDS = 50  # of k-means
MOST_COVERED = 250  # labelled images that typiclust is told of, the rest of its clusters are for new ones


@dataclass(frozen=True, kw_only=True)
class ScoredPool:
    """Images among which the queue chooses, and what is known and believed of them.

    Attributes:
        features_ND: of the layer before the classifier.
        probabilities_NL: of each label; None before there is a model.
        known_NL: bool, whether the label is known.
        candidates: rows that may be asked; each has an unknown label.
        task: whether an image has one of the labels, or each label is a question of its own.
    """

    features_ND: np.ndarray
    probabilities_NL: np.ndarray | None
    known_NL: np.ndarray
    candidates: np.ndarray
    task: Task = MULTILABEL

    def without(self, rows: np.ndarray) -> "ScoredPool":
        """The same without these candidates."""
        return replace(self, candidates=self.candidates[~np.isin(self.candidates, rows)])


def uncertain(pool: ScoredPool, count: int, *, seed: int) -> np.ndarray:
    """Rows with the highest sum of binary entropies over their unknown labels.

    The sum is what an answer about the whole image tells if its labels are independent given the image, and at most that
    otherwise. Source of entropy as uncertainty: Settles, Active Learning Literature Survey, 2009, section 3.1; of one
    number per image over its labels: Reyes, Morell & Ventura, Neurocomputing 273, 2018.
    """
    if not len(pool.candidates):
        return pool.candidates
    scores = entropies(_probabilities(pool)[pool.candidates], pool.known_NL[pool.candidates], task=pool.task)
    ties = np.random.default_rng(seed).permutation(len(scores))  # equal images come in random order
    order = ties[np.argsort(-scores[ties], kind="stable")]
    return np.asarray(pool.candidates[order[:count]])


def entropies(probabilities_ML: np.ndarray, known_ML: np.ndarray, *, task: Task = MULTILABEL) -> np.ndarray:
    """(M,) nats: sum over unknown labels of the entropy of a yes or no; or of the one class of a multiclass task."""
    if task.exclusive:
        return np.asarray(uncertainty_scores(probabilities_ML, method="entropy"))
    yes = np.asarray(probabilities_ML, dtype=np.float64).ravel()
    entropy = uncertainty_scores(np.stack([1 - yes, yes], axis=1), method="entropy").reshape(known_ML.shape)
    return np.asarray(np.where(known_ML, 0.0, entropy).sum(axis=1))


def badge(pool: ScoredPool, count: int, *, seed: int) -> np.ndarray:
    """Rows whose gradients are large and differ (BADGE: Ash et al., ICLR 2020): k-means++ on `gradients`.

    scikit-activeml's Badge multiplies what it is given by the gradient of a two-class loss. Ours holds that of all
    unknown labels already, so its classifier is one that always says 1/2, whose factor is the same for every image. It
    counts the zero gradient as chosen from the start, so images of which the model is sure come last.
    """
    rows = _sample(pool.candidates, seed)
    if not len(rows):
        return rows
    gradients = compact_gradients(pool, rows, seed=seed)
    coin = SklearnClassifier(DummyClassifier(strategy="uniform"), classes=[0, 1])
    coin.fit(gradients[:2], [0, 1][: len(rows)])
    unasked = np.full(len(rows), np.nan)
    picked = Badge(random_state=_state(seed)).query(
        gradients, unasked, coin, fit_clf=False, batch_size=min(count, len(rows))
    )
    return np.asarray(rows[_each_once(picked)])


def gradients(
    features_MD: np.ndarray, probabilities_ML: np.ndarray, known_ML: np.ndarray, *, task: Task = MULTILABEL
) -> np.ndarray:
    """(M, L * D) gradient of the last layer's loss if the answer were what the model believes.

    (p - answer) times the features for an unknown label, 0 for a known one: it is not asked, so it moves nothing.
    """
    believed = task.indicators(task.decide(probabilities_ML), probabilities_ML.shape[1])
    factor_ML = np.where(known_ML, 0.0, probabilities_ML - believed)
    return np.asarray((factor_ML[:, :, None] * features_MD[:, None, :]).reshape(len(features_MD), -1))


def compact_gradients(pool: ScoredPool, rows: np.ndarray, *, seed: int) -> np.ndarray:
    """`gradients` of these rows, on features that are few enough for GRADIENT_WIDTH numbers."""
    labels = pool.known_NL.shape[1]
    features = compact(pool.features_ND[rows], width=max(2, GRADIENT_WIDTH // labels), seed=seed)
    return gradients(features, _probabilities(pool)[rows], pool.known_NL[rows], task=pool.task)


def typiclust(pool: ScoredPool, count: int, *, seed: int) -> np.ndarray:
    """Rows that are typical of clusters without a labelled image (TypiClust: Hacohen et al., ICML 2022); needs no model.

    A cluster is covered by an image of which any label is known. Features are scaled to length 1, as in the paper.
    """
    chosen = np.zeros(0, dtype=np.int64)
    labelled = np.flatnonzero(pool.known_NL.any(axis=1) & ~np.isin(np.arange(len(pool.known_NL)), pool.candidates))
    while len(chosen) < min(count, len(pool.candidates)):
        free = _sample(pool.candidates[~np.isin(pool.candidates, chosen)], seed + len(chosen))
        covered = _sample(np.concatenate([labelled, chosen]), seed, most=MOST_COVERED)
        batch = min(count - len(chosen), MOST_CLUSTERS - MOST_COVERED, len(free))
        chosen = np.concatenate([chosen, _typical(pool, free, covered, batch, seed=seed)])
    return chosen


def _typical(pool: ScoredPool, free: np.ndarray, covered: np.ndarray, count: int, *, seed: int) -> np.ndarray:
    """At most `count` of the free rows, at least one."""
    rows = np.concatenate([free, covered])
    features = compact(_unit_length(pool.features_ND[rows]), width=WIDTH, seed=seed)
    answers = np.concatenate([np.full(len(free), np.nan), np.zeros(len(covered))])
    settings = {"n_init": 1, "max_iter": MOST_ROUNDS, "random_state": seed}
    strategy = TypiClust(random_state=_state(seed), cluster_algo=KMeans, cluster_algo_dict=settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # equal images make fewer clusters than asked for
        try:
            picked = strategy.query(features, answers, batch_size=count)
        except UnboundLocalError:  # of scikit-activeml 1.0.1, where each cluster holds a labelled image
            return np.random.default_rng(seed).permutation(free)[:count]
    return np.asarray(rows[_each_once(picked)])


def at_random(pool: ScoredPool, count: int, *, seed: int) -> np.ndarray:
    """Rows at random."""
    return np.random.default_rng(seed).permutation(pool.candidates)[:count]


Strategy = Callable[..., np.ndarray]
STRATEGIES: dict[str, Strategy] = {"random": at_random, "uncertain": uncertain, "badge": badge, "typiclust": typiclust}
NEEDS_MODEL = frozenset({"uncertain", "badge"})
JOIN = "+"  # between the strategies of a mixture


def strategy_names(text: str) -> tuple[str, ...]:
    """The strategies of a mixture: "badge+typiclust" -> ("badge", "typiclust"). Raises: ConfigError."""
    names = tuple(text.split(JOIN))
    if unknown := [name for name in names if name not in STRATEGIES]:
        known = ", ".join(STRATEGIES)
        raise ConfigError(
            f"A queue's strategy must be of {known}, or several joined by {JOIN!r}, but got {unknown[0]!r}: choose one."
        )
    return names


def compact(features_MD: np.ndarray, *, width: int, seed: int) -> np.ndarray:
    """(M, width) float64 features whose products and distances are nearest to the given ones; as they are if few."""
    features = np.asarray(features_MD, dtype=np.float64)
    if features.shape[1] <= width or len(features) <= 1:
        return features
    svd = TruncatedSVD(n_components=min(width, len(features)), random_state=seed)
    return np.asarray(svd.fit_transform(features))


def _probabilities(pool: ScoredPool) -> np.ndarray:
    if pool.probabilities_NL is None:
        raise ConfigError("This strategy needs a model's probabilities, but there is no model yet: use typiclust or random.")
    return pool.probabilities_NL


def _sample(rows: np.ndarray, seed: int, *, most: int = MOST_CANDIDATES) -> np.ndarray:
    """At most so many of the rows, at random."""
    return rows if len(rows) <= most else np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def _each_once(picked: np.ndarray) -> np.ndarray:
    """In order, each once: TypiClust picks the same again where clusters run out."""
    return np.asarray(list(dict.fromkeys(np.asarray(picked).tolist())), dtype=np.int64)


def _unit_length(features_MD: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(features_MD, axis=1, keepdims=True)
    return np.asarray(features_MD / np.where(length > 0, length, 1.0))


def _state(seed: int) -> np.random.RandomState:
    return np.random.RandomState(seed)
