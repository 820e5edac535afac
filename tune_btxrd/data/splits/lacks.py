"""A part that lacks a class: which one, for which cause, and how many images would mend it. One message per cause."""

from collections.abc import Mapping, Sequence

import numpy as np

from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.splits.partition import partition_groups

Lack = tuple[str, int]  # part, class index


def lacking(counts: Mapping[str, Sequence[int]], parts: Sequence[str]) -> Lack | None:
    """The first of these parts that has no image of a class, with the class; None where all have all."""
    return next(((part, index) for part in parts for index, count in enumerate(counts[part]) if not count), None)


def lack_message(lack: Lack, split: str, manifest: Manifest, *, cure: str, numbers: np.ndarray | None = None) -> str:
    """Invariant, what was found, cure.

    Args:
        numbers: (N,) group numbers; they tell a class with too few groups from groups that cannot be dealt.
    """
    part, index = lack
    name, images = manifest.class_names[index], manifest.class_counts[index]
    found = f"{part} of split {split!r} has no {name} image ({images} in the dataset"
    if numbers is not None and images:
        groups = int(groups_of_classes(manifest, numbers)[index])
        largest = int(np.unique(numbers, return_counts=True)[1].max())
        found += f", in {groups} group{'s' if groups > 1 else ''}" if groups < images else ""
        found += f"; the largest group has {largest} of all {len(manifest)} images" if groups >= 3 and largest > 1 else ""
    return f"Every class must occur in every part, but {found}): {cure}."


def groups_of_classes(manifest: Manifest, numbers: np.ndarray) -> np.ndarray:
    """(C,) groups that hold an image of each class."""
    has = manifest.indicators > 0
    return np.array([len(np.unique(numbers[has[:, index]])) for index in range(has.shape[1])])


def additions(manifest: Manifest, numbers: np.ndarray, *, parts: int, otherwise: str) -> str:
    """How many images of which classes would let every part have each class, each image a group of its own; tried.

    `otherwise` where no number would.
    """
    missing = np.maximum(parts - groups_of_classes(manifest, numbers), 0)
    if not missing.any():
        return otherwise
    added = np.repeat(np.eye(len(missing)), missing, axis=0)
    indicators = np.concatenate([manifest.indicators, added])
    together = np.concatenate([numbers, numbers.max() + 1 + np.arange(len(added))])
    dealt = partition_groups(indicators, together, shares=(1 / parts,) * parts, seed=0)
    if any((indicators[dealt == part].sum(axis=0) == 0).any() for part in range(parts)):
        return otherwise
    wanted = [f"{count} of {name}" for name, count in zip(manifest.class_names, missing, strict=True) if count]
    return f"add images, each of a group of its own: {', '.join(wanted[:5])}{' and others' if len(wanted) > 5 else ''}"
