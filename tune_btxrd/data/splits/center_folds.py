"""Center folds: each center is left out once. It validates, all others train; what shares a group with it is in no part.

A center is left out where it has FEWEST_OF_A_CLASS images of each class (of each label: so many yes and so many no); the
score of a smaller one would rest on a handful of images, so it is always trained on.
"""

from collections.abc import Collection

import numpy as np

from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.splits.splits import Split, require_classes
from tune_btxrd.errors import DataError
from tune_btxrd.tasks.centers import FEWEST_OF_A_CLASS

CENTER_FOLDS = "center_folds"  # what `--split` and `--splits` call them
SEEN = "of the images that may be seen"


def rarest_counts(manifest: Manifest, ids: Collection[str]) -> dict[str, int]:
    """Center -> images of its rarest class, among these images. Empty where the dataset names no centers."""
    if manifest.centers is None:
        return {}
    rows, classes = manifest.rows(ids), len(manifest.class_names)
    centers, targets = np.array(manifest.centers)[rows], manifest.targets[rows]
    return {
        str(center): manifest.task.rarest_count(targets[centers == center], targets, classes)
        for center in sorted(set(centers.tolist()))
    }


def center_words(counts: dict[str, int]) -> str:
    """The centers with their counts, e.g. "center 1: 31, 2: 4"."""
    return "center " + ", ".join(f"{name}: {count}" for name, count in counts.items()) if counts else "no center"


def make_center_folds(manifest: Manifest, ids: Collection[str], *, numbers: np.ndarray, flag: str) -> dict[str, Split]:
    """Center that is left out -> its fold of these images, called `fold i/k`; in order of their names.

    Args:
        numbers: (N,) group number of every image of the dataset; flag: what asked for it, as messages call it.

    Raises:
        DataError: fewer than two centers that can be left out; a class that the others lack.
    """
    if manifest.centers is None:
        raise DataError(
            f"{flag} leaves each center out once, but the dataset names no centers: give its table a column `center`, or "
            "use another split."
        )
    counts = rarest_counts(manifest, ids)
    names = [name for name, count in counts.items() if count >= FEWEST_OF_A_CLASS]
    if len(names) < 2:
        raise DataError(
            f"{flag} needs two centers with at least {FEWEST_OF_A_CLASS} images of each class {SEEN}, but of the rarest "
            f"class these have {center_words(counts)}. Test parts stay unseen, so retrain on others: --splits stratified, "
            f"or verb `run` with --splits {CENTER_FOLDS}, which has none."
        )
    rows = np.sort(manifest.rows(ids))
    centers, folds = np.array(manifest.centers)[rows], dict[str, Split]()
    for number, name in enumerate(names, start=1):
        own = centers == name
        reaching = np.isin(numbers[rows], numbers[rows[own]]) & ~own
        parts = {"train": rows[~own & ~reaching], "val": rows[own]}
        members = {part: tuple(manifest.image_ids[row] for row in chosen) for part, chosen in parts.items()}
        note = f"without center {name}"
        if shared := int(reaching.sum()):
            note += f", and {shared} image(s) that share a group with it"
        folds[name] = Split(name=f"fold {number}/{len(names)}", parts={**members, "test": ()}, note=note)
        cure = f"add images of {{name}} to another center than {name}, or use another split than {CENTER_FOLDS}"
        require_classes(folds[name], manifest, ("train", "val"), cure=cure)
    return folds


def left_in(manifest: Manifest, ids: Collection[str], folds: Collection[str]) -> str:
    """A line on centers that are in every training, for they are too small to be left out; empty where there is none."""
    small = {name: count for name, count in rarest_counts(manifest, ids).items() if name not in folds}
    if not small:
        return ""
    return (
        f"never left out, for fewer than {FEWEST_OF_A_CLASS} images of a class: {center_words(small)} of the rarest; "
        "always trained on"
    )
