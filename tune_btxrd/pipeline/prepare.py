"""Verb `prepare`: reads, checks and audits the dataset, makes the splits, decodes once; says what it found."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from rich.table import Table

from tune_btxrd.console import heading, make_table, progress, tell
from tune_btxrd.data.audit.audit import Audit, audit
from tune_btxrd.data.cache.cache import ImageCache
from tune_btxrd.data.cache.volume_files import require_extra
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.phantom import make_phantom
from tune_btxrd.data.phantom.heads import GRADES
from tune_btxrd.data.readers.btxrd import CLASS_NAMES
from tune_btxrd.data.readers.dicom_patients import holds_dicom
from tune_btxrd.data.readers.names import examples, same_spelling
from tune_btxrd.data.readers.registry import read_dataset, require_class
from tune_btxrd.data.readers.spreadsheet import read_ids
from tune_btxrd.data.request import DataRequest
from tune_btxrd.data.splits.center_folds import CENTER_FOLDS, left_in, make_center_folds
from tune_btxrd.data.splits.folds import closed_rows, make_folds
from tune_btxrd.data.splits.groups import Pair, duplicate_pairs, group_numbers, read_pairs
from tune_btxrd.data.splits.split_files import asked_name, load_split, require_own_files, require_whole_groups, save_splits
from tune_btxrd.data.splits.splits import (
    OWN,
    SPLITS_FLAG,
    Split,
    common_split,
    has_own_split,
    holdout_ids,
    make_split,
    own_split,
    require_known_split,
    unavailable_splits,
)
from tune_btxrd.errors import ConfigError, DataError
from tune_btxrd.files import write_whole
from tune_btxrd.pipeline.decoded import image_hashes, make_cache_folder, open_caches, sizes_table
from tune_btxrd.pipeline.prepare_pictures import write_pictures
from tune_btxrd.pipeline.shipped import usual_size
from tune_btxrd.training.source import SizedCache, Source

COMMON = "common"
SPLIT_FLAG = "--split"  # what the search sees
DEFAULT_SPLITS = ("stratified", "center")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A dataset ready for training.

    Attributes:
        cache: None where only the table is at hand; caches: size -> cache, that one among them.
    """

    request: DataRequest
    manifest: Manifest
    numbers: np.ndarray  # (N,) group per image
    splits: dict[str, Split]  # those to be retrained, in order
    searched: Split  # the one that the search sees
    skipped: dict[str, str]  # split -> why this dataset cannot have it
    audit: Audit
    cache: ImageCache | None
    caches: Mapping[int, ImageCache] = field(default_factory=dict)
    fold_centers: tuple[str, ...] = ()  # where the splits are center folds: the one that each leaves out

    def source(self, folder: Path) -> Source:
        """What trainings need to know, with the splits of a results folder."""
        assert self.cache is not None
        several = self.caches.items() if len(self.caches) > 1 else ()
        return Source(
            cache=str(self.cache.path.resolve()),
            splits=str((folder / "splits").resolve()),
            class_names=self.manifest.class_names,
            positive_class=self.manifest.positive_class,
            task=self.manifest.task.name,
            sizes=tuple(SizedCache(image_size=size, cache=str(found.path.resolve())) for size, found in several),
            centers=tuple(sorted(set(self.manifest.centers or ()))),
        )


def prepare(
    request: DataRequest | None = None,
    *,
    image_size: int | None = None,
    image_sizes: Iterable[int] = (),
    splits: Sequence[str] | None = None,
    searched: str = COMMON,
    folds: int | str | None = None,
    searches: bool = True,
) -> Prepared:
    """Reads, checks, splits, audits and decodes; prints what it found.

    Args:
        request: default: the phantom.
        image_size: side of the decoded images, px; default: of the hand-made config of the space that is shipped.
        image_sizes: where it is searched: all of them; the audit sees `image_size`.
        splits: those to be retrained; None: the dataset's own, else stratified, and center where it has centers.
        searched: the split that the search sees; `common` leaves out every test part of `splits`.
        folds: instead of splits: so many folds of all images, of which the search sees the first; or CENTER_FOLDS.
        searches: False: no search follows, so where `common` cannot be made, the table says why and the first split stands
            in for it.

    Raises:
        DataError, ConfigError: what is wrong and what mends it, in one line.
    """
    request = request or DataRequest()
    image_size = usual_size(request) if image_size is None else image_size
    require_readable(request, splits or (), searched=searched)
    heading("Prepare")
    manifest = read_manifest(request)
    request = replace(request, event=manifest.event, channels=manifest.channels or None)  # what comes later changes nothing
    noun = "volumes" if manifest.channels else "images"
    tell(f"{len(manifest)} {noun} in {manifest.root}: {manifest.task.count_words(manifest.targets, manifest.class_names)}")
    for note in manifest.notes:
        tell(f"  {note}")
    hashes = image_hashes(request, manifest)
    pairs = duplicates_of(request, manifest, hashes=hashes)
    numbers = group_numbers(manifest, pairs, request.kept_together)
    fold_centers: tuple[str, ...] = ()
    if folds is None:
        made, skipped = _splits(manifest, request, pairs, splits)
        searched_split, skipped = _searched(searched, manifest, request, pairs, made, skipped=skipped, searches=searches)
    else:
        (made, fold_centers), skipped = _folds(manifest, request, numbers, folds), {}
        searched_split = next(iter(made.values()))
    require_own_files((*made.values(), searched_split))
    sizes = sorted({image_size, *image_sizes})
    caches = {} if request.table_only else open_caches(request, manifest, sizes, hashes=hashes)
    cache = caches.get(image_size)
    if len(caches) > 1:
        tell(sizes_table(caches, image_size))
    with progress("audited") as advance:
        parts = {split.name: split for split in (searched_split, *made.values())}
        found = audit(manifest, pairs=pairs, hashes=hashes or None, splits=parts, cache=cache, progress=advance)
    prepared = Prepared(
        request=request,
        manifest=manifest,
        numbers=numbers,
        splits=made,
        searched=searched_split,
        skipped=skipped,
        audit=found,
        cache=cache,
        caches=caches,
        fold_centers=fold_centers,
    )
    tell(splits_table(prepared))
    for note in _part_notes(prepared):
        tell(f"  {note}")
    for line in (*found.short_lines(), *_across_holdout(manifest, found)):
        tell(f"  {line}")
    return prepared


def require_readable(request: DataRequest, splits: Sequence[str], *, searched: str = COMMON) -> None:
    """Checks what can be checked before anything is drawn, read or decoded.

    Raises:
        DataError: a split of no dataset, a file that is missing, a class that the phantom does not have.
    """
    files = {"--exclude": request.exclude, "--duplicates": request.duplicates}
    asked = [(SPLITS_FLAG, name) for name in splits] + ([] if searched == COMMON else [(SPLIT_FLAG, searched)])
    files |= {f"{flag} {name}": Path(name) for flag, name in asked if name.endswith(".csv")}
    if absent := [(flag, path) for flag, path in files.items() if path is not None and not path.is_file()]:
        flag, path = absent[0]
        raise DataError(f"{flag} must name a file, but there is none at {path}: check the path.")
    for _, name in asked:
        if not name.endswith(".csv") and name != CENTER_FOLDS:
            require_known_split(name)
    if request.is_phantom:
        drawn = request.drawn.kind == "volumes"
        require_class(request.positive_class, GRADES if drawn else CLASS_NAMES)
        if drawn:
            require_extra()


def prepared_folder(prepared: Prepared) -> Path:
    """Where `prepare` leaves what it found, beside the decoded images."""
    name = f"{prepared.manifest.dataset}-{prepared.manifest.sha256[:8]}"
    return prepared.request.cache_folder / "prepared" / name


def read_manifest(request: DataRequest) -> Manifest:
    """The dataset of a request; the phantom is drawn where it is not there yet. Raises: DataError."""
    root = request.data
    if root is not None and not root.exists():
        raise DataError(f"The dataset folder must exist, but there is none at {root}: check --data.")
    if root is None:
        spec = request.drawn
        make_cache_folder(request.cache_folder)
        root = request.cache_folder / spec.name
        with progress("phantom drawn") as advance:
            make_phantom(root, spec, progress=advance)
    manifest = read_dataset(
        root.resolve(),
        dataset="phantom" if request.is_phantom else None,
        positive_class=request.positive_class,
        table_only=request.table_only,
        accept_revision=request.accept_revision,
        exclude=read_ids(request.exclude) if request.exclude else (),
        layout=request.layout,
        event=request.event,
        channels=request.asked_channels,
        header_groups=request.kept_together != "none",
    )
    if request.spacing is not None and not manifest.channels:
        raise ConfigError(f"--spacing is for volumes, but {manifest.root} holds images: leave it out.")
    if request.window is not None and not request.table_only and not holds_dicom(manifest):
        raise ConfigError(f"--window is for DICOM images, but {manifest.root} holds none: leave it out.")
    return manifest


def duplicates_of(request: DataRequest, manifest: Manifest, *, hashes: dict[str, str] | None = None) -> list[Pair]:
    """Pairs of identical images: as given (--duplicates FILE), or found by their bytes. Raises: DataError."""
    if request.duplicates is None:
        return duplicate_pairs(hashes if hashes is not None else image_hashes(request, manifest), manifest.image_ids)
    known = set(manifest.image_ids)
    left_out = {same_spelling(image_id) for image_id in read_ids(request.exclude)} if request.exclude else set()
    given = [pair for pair in read_pairs(request.duplicates) if left_out.isdisjoint(map(same_spelling, pair))]
    pairs = [(first, second) for first, second in (manifest.spelled(pair) for pair in given)]
    if unknown := [image_id for pair in pairs for image_id in pair if image_id not in known]:
        raise DataError(
            f"Duplicate pairs must name images of the dataset, but {request.duplicates} has {unknown[0]!r}: remove it."
        )
    return pairs


def write_prepared(prepared: Prepared, folder: Path, *, partitions: Sequence[Split] = ()) -> None:
    """Writes splits (and what a search makes of the images that it sees, see `partitions.py`), audit and pictures into a
    folder.

    Raises:
        ResultError: the folder is not writable.
    """
    splits = [*prepared.splits.values(), prepared.searched, *partitions]
    save_splits(splits, folder / "splits", manifest=prepared.manifest, numbers=prepared.numbers)
    write_whole(folder / "audit.json", json.dumps(prepared.audit.to_dict(), indent=1, ensure_ascii=False))
    write_whole(folder / "tables" / "audit.csv", prepared.audit.table().to_csv(index=False))
    if prepared.cache is not None:
        ids, part = prepared.searched.parts["train"], f"train of {prepared.searched.name}"
        write_pictures(prepared.cache, prepared.manifest, folder / "figures", ids=ids, part=part)


def splits_table(prepared: Prepared) -> Table:
    """Images per part and class of every split, and why a split was skipped."""
    manifest = prepared.manifest
    rows: list[tuple[str, ...]] = []
    for split in (*prepared.splits.values(), prepared.searched):
        if any(row[0].startswith(split.name) for row in rows):
            continue
        cells = ["/".join(map(str, counts)) for counts in split.counts(manifest).values()]
        if not manifest.task.exclusive:  # an image counts for several labels, or for none
            cells = [f"{len(ids)}: {cell}" for ids, cell in zip(split.parts.values(), cells, strict=True)]
        rows.append(
            (
                split.name + (" (search)" if split is prepared.searched and COMMON not in prepared.skipped else ""),
                *cells,
                split.note,
            )
        )
    rows += [(name, "skipped", "", "", reason) for name, reason in prepared.skipped.items()]
    return make_table(f"Splits: images of {'/'.join(manifest.class_names)}", ("split", "train", "val", "test", "note"), rows)


def _part_notes(prepared: Prepared) -> list[str]:
    """What is to be said of each part of each split, once."""
    manifest, told = prepared.manifest, dict[str, None]()
    for split in {split.name: split for split in (*prepared.splits.values(), prepared.searched)}.values():
        for part, ids in split.parts.items():
            notes = manifest.task.part_notes(manifest.targets[manifest.rows(ids)], manifest.class_names) if ids else ()
            told |= dict.fromkeys(f"{part} of {split.name}: {note}" for note in notes)
    return list(told)


def _across_holdout(manifest: Manifest, found: Audit) -> list[str]:
    """A line where images of a label store's hold-out look like others: probably one patient under two names."""
    held = holdout_ids(manifest)
    pairs = [pair for pair in found.near_duplicates if (pair.first in held) != (pair.second in held)]
    told = examples([f"{pair.first} and {pair.second}" for pair in pairs])
    return [f"near-duplicates across the hold-out: {len(pairs)} pairs ({told}): its scores may be too good"] if pairs else []


def _splits(
    manifest: Manifest, request: DataRequest, pairs: list[Pair], names: Sequence[str] | None
) -> tuple[dict[str, Split], dict[str, str]]:
    missing = unavailable_splits(manifest)
    skipped = missing if names is None else {}
    if names is None:
        names = tuple(name for name in DEFAULT_SPLITS if name not in missing)
        names = (own_split(manifest),) if has_own_split(manifest) else names
    made = [_split(name, manifest, request, pairs) for name in names]
    require_own_files(made)
    return {split.name: split for split in made}, skipped


def _folds(
    manifest: Manifest, request: DataRequest, numbers: np.ndarray, count: int | str
) -> tuple[dict[str, Split], tuple[str, ...]]:
    """Folds of all images but the dataset's own test part; of center folds also the center that each leaves out."""
    closed = closed_rows(manifest, numbers)
    if closed.any():
        tell(f"  {int(closed.sum())} images are in no fold: the dataset's own test part, which stays closed")
    ids = [manifest.image_ids[row] for row in np.flatnonzero(manifest.is_labelled & ~closed)]
    if isinstance(count, str):
        by_center = make_center_folds(manifest, ids, numbers=numbers, flag=f"{SPLITS_FLAG} {count}")
        if note := left_in(manifest, ids, by_center):
            tell(f"  {note}")
        return {fold.name: fold for fold in by_center.values()}, tuple(by_center)
    made = make_folds(manifest, ids, numbers=numbers, count=count, seed=request.split_seed)
    return {fold.name: fold for fold in made}, ()


def _split(name: str, manifest: Manifest, request: DataRequest, pairs: list[Pair], *, flag: str = SPLITS_FLAG) -> Split:
    if name.endswith(".csv"):
        numbers = group_numbers(manifest, pairs, request.kept_together)
        return load_split(Path(name), manifest, numbers=numbers, name=asked_name(name))
    split = make_split(name, manifest, pairs=pairs, groups=request.kept_together, seed=request.split_seed, flag=flag)
    if name in OWN:  # others keep groups together as they are made
        require_whole_groups(split, manifest, group_numbers(manifest, pairs, request.kept_together))
    return split


def _searched(
    name: str,
    manifest: Manifest,
    request: DataRequest,
    pairs: list[Pair],
    made: dict[str, Split],
    *,
    skipped: dict[str, str],
    searches: bool,
) -> tuple[Split, dict[str, str]]:
    """The split that a search sees, and what is skipped: also `common`, where it cannot be made and nothing is searched."""
    if name != COMMON:
        split = made[name] if name in made else _split(name, manifest, request, pairs, flag=SPLIT_FLAG)
        known = made.get(split.name)
        return known if known == split else split, skipped
    try:
        common = common_split(
            manifest, list(made.values()), pairs=pairs, groups=request.kept_together, seed=request.split_seed
        )
    except DataError as error:
        if searches:
            raise
        return next(iter(made.values())), {**skipped, COMMON: str(error)}
    return common, skipped


def check_same_data(manifest: Manifest, expected: str) -> None:
    """Raises DataError where the dataset is not the one that a search was made on."""
    if manifest.sha256 != expected:
        raise DataError(
            f"The dataset must be the one of the search, but {manifest.root} has other ids or labels: check --data."
        )


def require_weights_allowed(request: DataRequest, *, pretrained: bool, weights: object) -> None:
    """Raises ConfigError where the phantom is asked to start from pretrained weights."""
    if request.is_phantom and (pretrained or weights):
        raise ConfigError(
            "The phantom always starts from random weights, but pretrained ones were asked for: add --data DIR."
        )
