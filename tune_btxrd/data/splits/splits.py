"""Which images train, validate and test: `stratified`, `center`, `fold i/k`, `common`, and fresh partitions."""

import difflib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers.names import examples
from tune_btxrd.data.splits.groups import GroupKind, Pair, group_numbers
from tune_btxrd.data.splits.label_partition import share_spread
from tune_btxrd.data.splits.lacks import Lack, additions, lack_message, lacking
from tune_btxrd.data.splits.partition import class_share_gap, stratified_parts
from tune_btxrd.data.splits.whole_groups import partitioned
from tune_btxrd.errors import DataError, shell_word

PARTS = ("train", "val", "test")
FOLDERS = "folders"  # the split that the dataset itself brings: the table's column `part`
HOLDOUT = "holdout"  # the same of a label store: its hold-out is the test part
OWN = (FOLDERS, HOLDOUT)
STRATIFIED_SHARES = (0.70, 0.15, 0.15)
CENTER_SHARES = (0.85, 0.15)  # of the training center
NAMED = ("stratified", "center", *OWN)
SPLITS_FLAG = "--splits"
FOLD, FOLD_NUMBERS = re.compile(r"fold (\d+)/(\d+)"), re.compile(r"\d+")
SMALL_PARTS = "A part holds few images per class: dealt one group at a time."


@dataclass(frozen=True, kw_only=True)
class Split:
    """Parts as image ids, in table order. Not every image of a dataset need be in a part.

    Attributes:
        name: "stratified", "center", "fold 2/5", "common", or the name of the user's own file.
        parts: "train", "val", "test" -> ids; the test part is empty where a split is only searched on.
        note: what was decided on the way, for the user; may be empty.
    """

    name: str
    parts: Mapping[str, tuple[str, ...]]
    note: str = ""

    def __post_init__(self) -> None:
        assert tuple(self.parts) == PARTS
        times = Counter(image_id for ids in self.parts.values() for image_id in ids)
        if repeated := [image_id for image_id, count in times.items() if count > 1]:
            raise DataError(
                f"Parts of a split must not overlap, but in {self.name!r} {len(repeated)} image(s) stand twice "
                f"({examples(repeated)}): keep each in one part."
            )

    def counts(self, manifest: Manifest) -> dict[str, tuple[int, ...]]:
        """Part -> images per class or label, in the order of the dataset."""
        classes, targets = len(manifest.class_names), manifest.targets
        rows = {part: manifest.rows(ids) for part, ids in self.parts.items()}
        return {part: tuple(manifest.task.counts(targets[r], classes).tolist()) for part, r in rows.items()}


def make_split(
    name: str, manifest: Manifest, *, pairs: Iterable[Pair], groups: GroupKind, seed: int = 42, flag: str = SPLITS_FLAG
) -> Split:
    """The split of that name.

    `stratified` is 70/15/15. `center` trains and validates (85/15) on the center with the most images and tests on the
    others. `folders` is the dataset's own (train, val, test folders); without val, 15 % of train validates; of a label
    store it is called `holdout`, and no other split holds an image of the hold-out. `fold i/k` tests on the i-th of k
    parts, validates on the next and trains on the rest. With `duplicates` (and seed 42) the first two equal BTXRD's
    published splits: one image per group is dealt by scikit-learn's `train_test_split`, stratified by class name, and the
    others follow it. Larger groups (`patients`, or given by the dataset) are dealt by `partition_groups`, which keeps the
    class shares; the note says how well.

    Args:
        pairs: duplicate images (`groups.duplicate_pairs`).
        groups: what must stay in one part.
        seed: decides who goes where.
        flag: the one that asked for it, for the cures in messages.

    Raises:
        DataError: an unknown name, no second center, a class that a part would lack.
    """
    pairs = list(pairs)
    if name not in OWN and (held := holdout_ids(manifest)):
        rest = [pair for pair in pairs if held.isdisjoint(pair)]
        return make_split(name, manifest.without(held), pairs=rest, groups=groups, seed=seed, flag=flag)
    numbers = group_numbers(manifest, pairs, groups)
    dealt, note = _dealt(name, manifest, numbers, large=is_large(manifest, groups), seed=seed, flag=flag)
    split = _split(name, manifest, dealt, note)
    if lack := _lack(split, manifest, _filled(split, manifest)):
        cure = _cure(name, manifest, pairs, groups, seed=seed, flag=flag)
        raise DataError(lack_message(lack, name, manifest, numbers=numbers, cure=cure))
    return split


def require_known_split(name: str) -> None:
    """Raises DataError where no dataset has a split of that name; `common` is one that only a search sees."""
    if name in NAMED:
        return
    if fold := FOLD.fullmatch(name):
        if not (3 <= int(fold[2]) <= 50 and 1 <= int(fold[1]) <= int(fold[2])):
            raise DataError(f"`3 <= k <= 50` and `1 <= i <= k` must hold for fold i/k, but got {name}: choose others.")
        return
    near = difflib.get_close_matches(name, (*NAMED, "center_folds", "fold 1/5"), n=1, cutoff=0.3)
    cure = f"did you mean {near[0]!r}?" if near else "or the path of a split file."
    raise DataError(f"A split must be {', '.join(NAMED)}, center_folds or 'fold i/k', but got {name!r}: {cure}")


def is_large(manifest: Manifest, groups: GroupKind) -> bool:
    """Whether groups may hold more than duplicates, so that they are dealt by `partition_groups`."""
    return groups == "patients" or manifest.groups is not None


def unavailable_splits(manifest: Manifest) -> dict[str, str]:
    """Split -> why this dataset cannot have it; empty for BTXRD. By default these are left out."""
    if manifest.centers is None:
        return {"center": "the dataset names no centers"}
    home = training_center(manifest)
    at_home = np.array(manifest.centers) == home
    if at_home.all():
        return {"center": f"all images come from center {home}"}
    if not manifest.task.exclusive:  # a part may lack a label
        return {}
    inside, outside = (manifest.indicators[rows].sum(axis=0) for rows in (at_home, ~at_home))
    for name, there, elsewhere in zip(manifest.class_names, inside, outside, strict=True):
        if not elsewhere:
            return {"center": f"{name} does not occur outside center {home}"}
        if there < 2:
            return {"center": f"{name} occurs less than twice in center {home}"}
    return {}


def has_own_split(manifest: Manifest) -> bool:
    """Whether the dataset brings a split: a train part, and a part to validate or to test on."""
    parts = set(manifest.table["part"]) if "part" in manifest.table else set()
    return "train" in parts and (len(parts) > 1 or is_store(manifest)) and parts <= set(PARTS)


def own_split(manifest: Manifest) -> str:
    """What the split that a dataset brings is called."""
    return HOLDOUT if is_store(manifest) else FOLDERS


def is_store(manifest: Manifest) -> bool:
    """Whether a dataset is a label store."""
    return manifest.event is not None


def holdout_ids(manifest: Manifest) -> frozenset[str]:
    """Ids of a label store's hold-out, which nothing but the test part of its own split may hold."""
    if not is_store(manifest):
        return frozenset()
    held = np.flatnonzero(manifest.table["part"] == "test")
    return frozenset(manifest.image_ids[row] for row in held)


def training_center(manifest: Manifest) -> str:
    """The center with the most images (the first by name at a tie): "1" for BTXRD. The others are the test part."""
    assert manifest.centers is not None
    counts = Counter(manifest.centers)
    return min(counts, key=lambda center: (-counts[center], center))


def common_split(
    manifest: Manifest, splits: Sequence[Split], *, pairs: Iterable[Pair], groups: GroupKind, seed: int = 42
) -> Split:
    """The search's default split: train and val of `stratified` less every test part of the splits to be retrained.

    Images that share a group with a test image are left out too. Its own test part is empty. Where train or val lack a
    class now, what is left is divided anew.

    Args:
        splits: those to be retrained; the first that is called `stratified` or `folders` is the one that is reduced.

    Raises:
        DataError: a class that train or val would lack.
    """
    pairs = list(pairs)
    given = [split for split in splits if split.name in ("stratified", *OWN)]
    base = given[0] if given else make_split("stratified", manifest, pairs=pairs, groups=groups, seed=seed)
    numbers = group_numbers(manifest, pairs, groups)
    tested = manifest.rows(image_id for split in splits for image_id in split.parts["test"])
    dealt = _part_of(base, manifest)
    dealt[np.isin(numbers, numbers[tested])] = -1
    dealt[dealt == PARTS.index("test")] = -1
    names = " and ".join(split.name for split in splits)
    note = f"{base.name} train and val less the test part(s) of {names}"
    common, rows = _split("common", manifest, dealt, note), np.flatnonzero(dealt >= 0)
    if len(rows) and _lack(common, manifest, PARTS[:2]):
        share = len(base.parts["val"]) / (len(base.parts["train"]) + len(base.parts["val"]))
        dealt[rows] = partitioned(manifest, numbers, rows, shares=(1 - share, share), seed=seed)
        common = _split("common", manifest, dealt, f"{note}, then divided anew, for one of them lacked a class")
    other = f"search on another split: --split {shell_word(base.name)}"
    require_classes(common, manifest, ("train", "val"), cure=other)
    return common


def repartition(
    manifest: Manifest,
    ids: Collection[str],
    *,
    numbers: np.ndarray,
    val_share: float,
    seed: int,
    name: str = "repartition",
    even_centers: bool = False,
) -> Split:
    """A fresh grouped, stratified train/val partition of `ids`; the test part is empty.

    Args:
        ids: the images to divide, e.g. train and val of the search's split.
        numbers: (N,) int64 group number of every image of the dataset.
        val_share: share of `ids` that validates, in (0, 1).
        seed: another seed gives another partition.
        name: of the split; the seed is appended.
        even_centers: both parts also have each center's images of each class in the same shares.

    Raises:
        DataError: an unknown id, or a class that train or val would lack.
    """
    assert 0 < val_share < 1
    rows = np.sort(manifest.rows(ids))
    dealt = np.full(len(manifest), -1, dtype=np.int64)
    shares = (1 - val_share, val_share)
    dealt[rows] = partitioned(manifest, numbers, rows, shares=shares, seed=seed, even_centers=even_centers)
    split = _split(f"{name} {seed}", manifest, dealt, "")
    cure = "repeat no candidate on fresh partitions: --confirm 0"
    require_classes(split, manifest, ("train", "val"), cure=cure)
    return split


def require_classes(split: Split, manifest: Manifest, parts: Sequence[str], *, cure: str) -> None:
    """Raises DataError where one of these parts holds no image of a class. `cure` may name {part} and {name}."""
    if lack := _lack(split, manifest, parts):
        part, index = lack
        told = cure.format(part=part, name=manifest.class_names[index])
        raise DataError(lack_message(lack, split.name, manifest, cure=told))


def _dealt(
    name: str, manifest: Manifest, numbers: np.ndarray, *, large: bool, seed: int, flag: str = SPLITS_FLAG
) -> tuple[np.ndarray, str]:
    """The part of every image (index into PARTS, -1 for none), and the note."""
    if name == "stratified":
        rows = np.flatnonzero(manifest.is_labelled)
        dealt, note = _deal(manifest, numbers, rows, shares=STRATIFIED_SHARES, seed=seed, large=large)
    elif name == "center":
        dealt, note = _center_parts(manifest, numbers, seed=seed, large=large, flag=flag)
    elif name in OWN:
        dealt, note = _own_parts(manifest, numbers, seed=seed, large=large, flag=flag)
    else:
        require_known_split(name)
        fold, folds = map(int, FOLD_NUMBERS.findall(name))
        dealt, note = _fold_parts(manifest, numbers, fold, folds, seed=seed), ""
    dealt[~manifest.is_labelled] = -1
    if large or FOLD.fullmatch(name) or not manifest.task.exclusive:
        gap = _gap_note(manifest, dealt, name)
        note = f"{note.rstrip('.')}. {gap}" if note else gap
    return dealt, note


def _deal(
    manifest: Manifest, numbers: np.ndarray, rows: np.ndarray, *, shares: tuple[float, ...], seed: int, large: bool
) -> tuple[np.ndarray, str]:
    """The part of `rows` (indices into PARTS), -1 for all others: (N,) int64; and a note."""
    dealt = np.full(len(manifest), -1, dtype=np.int64)
    _, first, group_of = np.unique(numbers[rows], return_index=True, return_inverse=True)
    # The first image of each group speaks for it; group numbers count up in table order, and so does `first`.
    strata = None if large else manifest.task.strata(manifest.targets[rows[first]], manifest.class_names)
    parts = None if strata is None else stratified_parts(strata, shares, seed)
    if parts is not None:
        dealt[rows] = parts[group_of]
        return dealt, ""
    dealt[rows] = partitioned(manifest, numbers, rows, shares=shares, seed=seed)
    return dealt, "" if strata is None else SMALL_PARTS


def _center_parts(manifest: Manifest, numbers: np.ndarray, *, seed: int, large: bool, flag: str) -> tuple[np.ndarray, str]:
    if reason := unavailable_splits(manifest).get("center"):
        raise DataError(f"The split `center` needs every class in a second center, but {reason}: use {flag} stratified.")
    centers, home = np.array(manifest.centers), training_center(manifest)
    abroad = np.isin(numbers, numbers[centers != home])
    if abroad.all():
        raise DataError(
            f"The split `center` needs groups that lie in one center, but every group of center {home} reaches into others: "
            f"use {flag} stratified."
        )
    dealt, note = _deal(
        manifest, numbers, np.flatnonzero(~abroad & manifest.is_labelled), shares=CENTER_SHARES, seed=seed, large=large
    )
    dealt[centers != home] = PARTS.index("test")
    if left_out := int((dealt == -1).sum()):
        out = f"{left_out} image(s) of center {home} are in no part: their group reaches into other centers."
        note = " ".join(filter(None, (note, out)))
    return dealt, note


def _own_parts(manifest: Manifest, numbers: np.ndarray, *, seed: int, large: bool, flag: str) -> tuple[np.ndarray, str]:
    if not has_own_split(manifest):
        raise DataError(
            "The split `folders` needs a train folder and a val or test folder, but the dataset has none: "
            f"use {flag} stratified."
        )
    dealt = np.array([PARTS.index(part) for part in manifest.table["part"]], dtype=np.int64)
    how = "the hold-out tests" if is_store(manifest) else "as the dataset's folders have it"
    rest = "" if (dealt == PARTS.index("test")).any() else "; there is no test part"
    if (dealt == PARTS.index("val")).any():
        return dealt, f"{how}{rest}"
    inner, note = _deal(
        manifest, numbers, np.flatnonzero((dealt == 0) & manifest.is_labelled), shares=CENTER_SHARES, seed=seed, large=large
    )
    told = " ".join(filter(None, (f"{how}{rest}; 15 % of train validates", note)))
    return np.where(dealt == 0, inner, dealt), told


def _fold_parts(manifest: Manifest, numbers: np.ndarray, fold: int, folds: int, *, seed: int) -> np.ndarray:
    rows, block = np.flatnonzero(manifest.is_labelled), np.full(len(manifest), -1, dtype=np.int64)
    block[rows] = partitioned(manifest, numbers, rows, shares=(1 / folds,) * folds, seed=seed)
    dealt = np.zeros(len(manifest), dtype=np.int64)
    dealt[block == fold - 1] = PARTS.index("test")
    dealt[block == fold % folds] = PARTS.index("val")
    return dealt


def _gap_note(manifest: Manifest, dealt: np.ndarray, name: str) -> str:
    """How alike the class shares of the dealt parts are; of a center split and a hold-out the test part is not dealt."""
    rows = np.flatnonzero((dealt >= 0) & ((dealt < 2) if name in ("center", HOLDOUT) else True))
    if not manifest.task.exclusive:
        spread = share_spread(manifest.answers[rows], dealt[rows])
        return f"Each label's shares of yes, no and unknown differ between the parts by at most {100 * spread:.2f} points."
    gap = class_share_gap(manifest.indicators[rows], dealt[rows])
    return f"Class shares of the parts differ from the whole by at most {100 * gap:.2f} points."


def _cure(name: str, manifest: Manifest, pairs: list[Pair], groups: GroupKind, *, seed: int, flag: str) -> str:
    """What mends a split that lacks a class: the first of these that does, tried."""

    def works(other: str, kind: GroupKind) -> bool:
        numbers = group_numbers(manifest, pairs, kind)
        try:
            dealt, _ = _dealt(other, manifest, numbers, large=is_large(manifest, kind), seed=seed)
        except DataError:
            return False  # no cure then
        split = _split(other, manifest, dealt, "")
        return _lack(split, manifest, _filled(split, manifest)) is None

    kinds: tuple[GroupKind, ...] = ("duplicates", "none")
    for kind in kinds[kinds.index(groups) + 1 :] if groups in kinds else kinds:
        if works(name, kind):
            return f"use --groups {kind}"
    if fold := FOLD.fullmatch(name):
        for folds in range(int(fold[2]) - 1, 2, -1):
            if all(works(f"fold {i}/{folds}", groups) for i in range(1, folds + 1)):
                return f"use {folds} folds"
    elif name != "stratified" and works("stratified", groups):
        return f"use {flag} stratified"
    parts = int(fold[2]) if fold else len(PARTS)
    smaller = f"make the groups smaller, or bring a split of your own: {flag} FILE.csv"
    return additions(manifest, group_numbers(manifest, pairs, groups), parts=parts, otherwise=smaller)


def _filled(split: Split, manifest: Manifest) -> tuple[str, ...]:
    """The parts that must hold every class: all, but folders may have no test part, and a hold-out is as it was drawn."""
    own = split.name in OWN and (not split.parts["test"] or is_store(manifest))
    return PARTS[:2] if own else PARTS


def _lack(split: Split, manifest: Manifest, parts: Sequence[str]) -> Lack | None:
    """The first class that one of these parts lacks; a part may lack a label (`Task.part_notes`), but not be empty."""
    if manifest.task.exclusive:
        return lacking(split.counts(manifest), parts)
    if empty := [part for part in parts if not split.parts[part]]:
        raise DataError(
            f"Every part must hold an image, but {empty[0]} of split {split.name!r} has none with a known label: label more "
            "groups."
        )
    return None


def _split(name: str, manifest: Manifest, dealt: np.ndarray, note: str) -> Split:
    rows = [np.flatnonzero(dealt == part) for part in range(len(PARTS))]
    parts = {part: tuple(manifest.image_ids[row] for row in r) for part, r in zip(PARTS, rows, strict=True)}
    return Split(name=name, parts=parts, note=note)


def _part_of(split: Split, manifest: Manifest) -> np.ndarray:
    dealt = np.full(len(manifest), -1, dtype=np.int64)
    for index, ids in enumerate(split.parts.values()):
        dealt[manifest.rows(ids)] = index
    return dealt
