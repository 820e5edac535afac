"""Shortcuts: how well one property of a file or a table row tells the class, although it shows no disease.

A model that may look at such a property, even indirectly, scores well and has learned nothing. Each is measured alone: a
small decision tree, cross-validated with whole groups, area under the ROC curve (AUC) of each class against the rest.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.tree import DecisionTreeClassifier

FOLDS = 5
FEWEST_GROUPS = 10  # of a class, for it to be measured in a place
LEAF_SHARE = 0.01  # of the images measured; a leaf is also at least LEAF_IMAGES
LEAF_IMAGES = 5
TREE_DEPTH = 6  # up to 64 intervals: enough to follow the blocks of a sorted table
STRONG, NOTABLE = 0.8, 0.65  # AUC; 0.5 is chance
TELLING_IMAGES = 5  # a value that fewer images share tells nothing
TELLING_SHOWN = 3
NOT = "not "  # before the name of a label: the images without it
ACROSS = "all"  # the place name of all centers together

Label = Literal["class", "center"]


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One property of the images, as numbers for the tree and as a readable value.

    Attributes:
        name: e.g. "image size".
        numbers: (N, k) float64, one row per image.
        values: (N,) text, e.g. "224x224 px"; None where single values say nothing (row order).
    """

    name: str
    numbers: np.ndarray
    values: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class Strength:
    """How well a feature alone tells a label in one place.

    Attributes:
        label: "class"; or "center", which a model can recognise in order to use its class mix.
        place: a center, or "all" for all centers together.
        images: number of images measured.
        auc: area under the ROC curve of the class (center) that is told best, against the rest; 0.5 is chance.
        standard_error: of that AUC (Hanley & McNeil, Radiology 143:29, 1982), counting groups instead of images.
        best: name of that class (center).
        auc_by_name: class (center) -> AUC.
    """

    label: Label
    place: str
    images: int
    auc: float
    standard_error: float
    best: str
    auc_by_name: dict[str, float]

    @property
    def verdict(self) -> str:
        """Grade: "strong", "notable" or "weak"; never more than weak where chance is within two standard errors."""
        if self.auc - 2 * self.standard_error <= 0.5 or self.auc < NOTABLE:
            return "weak"
        return "strong" if self.auc >= STRONG else "notable"


@dataclass(frozen=True, kw_only=True)
class Shortcut:
    """One feature measured everywhere; a place with too few groups of two classes is left out.

    Attributes:
        feature: its name.
        strengths: the class in all centers together, then within each center, then the center itself.
        telling: label -> single values that give it away, in words.
    """

    feature: str
    strengths: tuple[Strength, ...]
    telling: dict[Label, tuple[str, ...]]


def measure_shortcuts(
    features: Sequence[Feature],
    classes: Sequence[np.ndarray],
    *,
    numbers: np.ndarray,
    centers: Sequence[str] | None,
) -> Iterator[Shortcut]:
    """Each feature across all centers and within each.

    Args:
        features: of all N images.
        classes: each (N,) names of one question, "" where an image has no answer: the images' classes; or per label its name
            and NOT with its name.
        numbers: (N,) int64 group numbers; a group is never on both sides of the cross-validation.
        centers: (N,) names, or None.
    """
    at = np.array(centers) if centers is not None and len(set(centers)) > 1 else None
    questions = list(_questions(classes, at, numbers))
    shown: dict[Label, list[np.ndarray]] = {"class": list(classes)}
    if at is not None:
        shown["center"] = [np.char.add("center ", at)]
    for feature in features:
        about_center = feature.name == "center"  # in one center, or about itself, it has nothing to tell
        asked = [q for q in questions if not about_center or (q.label == "class" and q.place == ACROSS)]
        yield Shortcut(
            feature=feature.name,
            strengths=tuple(_strengths(feature, asked)),
            telling={label: _telling(feature.values, names) for label, names in shown.items() if label != feature.name},
        )


def _telling(values: np.ndarray | None, asked: Sequence[np.ndarray]) -> tuple[str, ...]:
    """`telling_values` of each question, on the images that have an answer to it."""
    found = [
        telling_values(None if values is None else values[names != ""], names[names != ""])  # elementwise
        for names in asked
    ]
    return tuple(words for told in found for words in told)[:TELLING_SHOWN]


def _strengths(feature: Feature, asked: Sequence["_Question"]) -> Iterator[Strength]:
    """One per label and place; of several questions in one place (one per label) the one that is told best."""
    for key in dict.fromkeys((question.label, question.place) for question in asked):
        found = [_strength(feature, question) for question in asked if (question.label, question.place) == key]
        of_label = {name: auc for one in found for name, auc in one.auc_by_name.items() if not name.startswith(NOT)}
        best = max(found, key=lambda one: one.auc)
        yield best if len(found) == 1 else dataclasses.replace(best, best=best.best.removeprefix(NOT), auc_by_name=of_label)


def telling_values(values: np.ndarray | None, names: np.ndarray) -> tuple[str, ...]:
    """Values that give a class or center away, in words, those that most images share first.

    A value tells where all images that have it are of one class, or all images of a class have it and most others do not.

    Args:
        values: (N,) text, or None.
        names: (N,) class or center of each image.
    """
    if values is None or len(np.unique(names)) < 2:
        return ()
    (value_names, value_of), (class_names, class_of) = (np.unique(labels, return_inverse=True) for labels in (values, names))
    counts = np.zeros((len(value_names), len(class_names)), dtype=np.int64)
    np.add.at(counts, (value_of, class_of), 1)
    of_value, of_class = counts.sum(axis=1), counts.sum(axis=0)
    found: list[tuple[int, str]] = []
    for value, name in np.argwhere(counts >= TELLING_IMAGES):
        count = int(counts[value, name])
        elsewhere = (of_value[value] - count) / (len(values) - of_class[name])
        what, who = value_names[value], class_names[name]
        if count == of_value[value] == of_class[name]:
            found.append((count, f"{what}: all {count:,} images of {who} and no other"))
        elif count == of_value[value]:
            found.append((count, f"{what}: {count:,} images, all of {who}"))
        elif count == of_class[name] and elsewhere <= 0.5:
            found.append((count, f"{what}: all {count:,} images of {who}, {elsewhere:.0%} of the others"))
    return tuple(words for _, words in sorted(found, key=lambda item: -item[0])[:TELLING_SHOWN])


def auc_standard_error(auc: float, positives: int, negatives: int) -> float:
    """Standard error of an AUC (Hanley & McNeil 1982); of a perfect one as if half a case of the rarer side were missed."""
    auc = min(auc, 1 - 0.5 / min(positives, negatives))
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc) + (positives - 1) * (q1 - auc**2) + (negatives - 1) * (q2 - auc**2)
    return float(np.sqrt(max(variance, 0.0) / (positives * negatives)))


@dataclass(frozen=True, kw_only=True)
class _Question:
    """Which label is to be told where: the rows measured, their names, and the folds, which all features share."""

    label: Label
    place: str
    rows: np.ndarray
    names: np.ndarray
    groups_of: dict[str, int]
    folds: list[tuple[np.ndarray, np.ndarray]]


def _questions(classes: Sequence[np.ndarray], centers: np.ndarray | None, numbers: np.ndarray) -> Iterator[_Question]:
    """Those in which at least two classes (centers) have `FEWEST_GROUPS` groups; classes with fewer are left out."""
    every = np.arange(len(numbers))
    asked: list[tuple[Label, str, np.ndarray, np.ndarray]] = [("class", ACROSS, every, names) for names in classes]
    if centers is not None:
        for center in np.unique(centers):
            asked += [("class", str(center), np.flatnonzero(centers == center), names) for names in classes]
        asked += [("center", ACROSS, every, centers)]
    for label, place, inside, every_name in asked:
        rows = inside[every_name[inside] != ""]  # elementwise
        names = every_name[rows]
        counts = pd.Series(numbers[rows]).groupby(names).nunique()
        counts = counts[counts >= FEWEST_GROUPS]
        if len(counts) >= 2:
            kept = np.isin(names, counts.index.to_numpy())
            folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
            yield _Question(
                label=label,
                place=place,
                rows=rows[kept],
                names=names[kept],
                groups_of={str(name): int(count) for name, count in counts.items()},
                folds=list(folds.split(names[kept], names[kept], numbers[rows[kept]])),
            )


def _strength(feature: Feature, question: _Question) -> Strength:
    classes = sorted(question.groups_of)
    means = _auc_by_class(feature.numbers[question.rows], question, classes)
    best = int(np.argmax(means))
    positives = question.groups_of[classes[best]]
    negatives = sum(question.groups_of.values()) - positives
    return Strength(
        label=question.label,
        place=question.place,
        images=len(question.rows),
        auc=means[best],
        standard_error=auc_standard_error(means[best], positives, negatives),
        best=classes[best],
        auc_by_name=dict(zip(classes, means, strict=True)),
    )


def _auc_by_class(features: np.ndarray, question: _Question, classes: list[str]) -> list[float]:
    """Mean AUC over the folds, weighted by the images of the class in them, from trees that saw no image of a fold.

    Within a fold, because the priors of two trees differ: pooled scores would put a useless feature below 0.5.
    """
    if (features == features[0]).all():
        return [0.5] * len(classes)  # nothing to learn
    leaf = max(LEAF_IMAGES, round(LEAF_SHARE * len(features)))
    sums, weights = np.zeros(len(classes)), np.zeros(len(classes))
    for train, test in question.folds:
        tree = DecisionTreeClassifier(max_depth=TREE_DEPTH, min_samples_leaf=leaf, random_state=0)
        tree.fit(features[train], question.names[train])
        scores = dict(zip(tree.classes_, tree.predict_proba(features[test]).T, strict=True))
        for column, name in enumerate(classes):
            is_class = question.names[test] == name
            if name in scores and 0 < is_class.sum() < len(test):
                sums[column] += is_class.sum() * _auc(is_class, scores[name])
                weights[column] += is_class.sum()
    means = np.divide(sums, weights, out=np.full(len(classes), 0.5), where=weights > 0)
    return [float(mean) for mean in means]


def _auc(is_class: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve by ranks (Mann & Whitney); scikit-learn's spends ten times as long checking its input."""
    positives = int(is_class.sum())
    ranks = pd.Series(scores).rank().to_numpy()
    wins = float(ranks[is_class].sum()) - positives * (positives + 1) / 2
    return wins / (positives * (len(scores) - positives))
