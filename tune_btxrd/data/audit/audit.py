"""Audit: what is wrong with a dataset or could fool a model, measured before anything is trained."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tune_btxrd.data.audit import short_lines, volume_measures
from tune_btxrd.data.audit.features import (
    FILE_FEATURES,
    PIXEL_FEATURES,
    class_by_center,
    file_features,
    pixel_features,
    table_features,
)
from tune_btxrd.data.audit.findings import (
    SPACING,
    Finding,
    ImagePair,
    decoding_findings,
    file_findings,
    grid_findings,
    pair_findings,
    shortcut_findings,
    sibling_findings,
)
from tune_btxrd.data.audit.headers import ImageHeader, image_headers
from tune_btxrd.data.audit.picture_measures import NEAR_BITS, measure_pixels, near_pairs
from tune_btxrd.data.audit.shortcuts import NOT, Feature, Shortcut, measure_shortcuts
from tune_btxrd.data.audit.siblings import Siblings, find_siblings, group_sizes
from tune_btxrd.data.cache.cache import ImageCache
from tune_btxrd.data.cache.volume_files import VolumeHeader
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.splits.groups import Pair, group_numbers, names_persons
from tune_btxrd.data.splits.splits import Split

Progress = Callable[[int, int], None]
NO_FILES = "there are no image files"
NO_PIXELS = "the images are not decoded"
NO_HASHES = "neither files nor duplicate pairs are given (--duplicates FILE)"
NO_PERSONS = "the table names neither age and gender nor groups"


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What was found. Plain data.

    Attributes:
        dataset: the manifest's short name.
        images: N.
        class_counts: class name -> images.
        class_by_center: center -> class name -> images; empty without centers.
        missing: ids without a file, where others have one.
        unreadable: id -> why its header cannot be read.
        duplicates: pairs of identical files.
        near_duplicates: pairs that look the same and are not identical, the nearest first.
        patients: images in a probable patient -> number of such patients.
        siblings: what val and test of each split share with train.
        shortcuts: each feature, measured alone.
        grids: of volumes: shape, spacing, axes and type of the stored voxels -> how many volumes have each.
        decoding: what decoding had to do or assume -> ids, of the few of which there is something to say.
        not_measured: what could not be measured -> why.
        findings: all of it in lines.
    """

    dataset: str
    images: int
    class_counts: Mapping[str, int]
    class_by_center: Mapping[str, Mapping[str, int]]
    missing: tuple[str, ...]
    unreadable: Mapping[str, str]
    duplicates: tuple[ImagePair, ...]
    near_duplicates: tuple[ImagePair, ...]
    patients: Mapping[int, int]
    siblings: tuple[Siblings, ...]
    shortcuts: tuple[Shortcut, ...]
    not_measured: Mapping[str, str]
    findings: tuple[Finding, ...]
    grids: Mapping[str, Mapping[str, int]] = dataclasses.field(default_factory=dict)
    decoding: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """Plain data for `audit.json`: names as the attributes, verdicts of the shortcuts added."""
        plain = dataclasses.asdict(self)
        for shortcut, found in zip(plain["shortcuts"], self.shortcuts, strict=True):
            for entry, strength in zip(shortcut["strengths"], found.strengths, strict=True):
                entry["verdict"] = strength.verdict
        plain["patients"] = {str(size): count for size, count in self.patients.items()}
        return plain

    def table(self) -> pd.DataFrame:
        """The findings, one row each: finding, where, strength, meaning, cure."""
        columns = [field.name for field in dataclasses.fields(Finding)]
        return pd.DataFrame([dataclasses.astuple(finding) for finding in self.findings], columns=columns)

    def short_lines(self) -> list[str]:
        """About a dozen lines for the terminal."""
        return [
            f"{self.images:,} {'volumes' if self.grids else 'images'}: {short_lines.counts_line(self.class_counts)}",
            *short_lines.grid_lines(self.grids),
            *[f"{found.meaning}: {found.cure}" for found in self.findings if found.finding == SPACING],
            *short_lines.center_lines(self.class_by_center),
            *short_lines.file_lines(self.missing, self.unreadable, self.not_measured),
            *short_lines.pair_lines(
                {"duplicate files": self.duplicates, "near-duplicates": self.near_duplicates}, self.not_measured
            ),
            *short_lines.patient_lines(self.patients, self.siblings),
            *short_lines.shortcut_lines(self.shortcuts),
            *short_lines.not_measured_lines(self.not_measured),
        ]


def audit(
    manifest: Manifest,
    *,
    pairs: Iterable[Pair],
    hashes: Mapping[str, str] | None = None,
    splits: Mapping[str, Split] | None = None,
    cache: ImageCache | None = None,
    progress: Progress | None = None,
) -> Audit:
    """Everything that can be measured with what is at hand: the table alone, the files, or the decoded images too.

    Args:
        pairs: identical images (`groups.duplicate_pairs`, or given).
        hashes: of the files, where they were read; without them and without pairs, duplicates count as not measured.
        splits: name -> split, for siblings between the parts.
        cache: the decoded images; without it borders and near-duplicates are not measured.
        progress: called with (images read, images to read); the first half are headers, the second decoded images.

    Raises:
        DataError: a pair or a split names an image that the dataset does not hold.
    """
    pairs = list(pairs)
    patients, duplicates = _groups(manifest, pairs)
    headers, pixels = _read(manifest, cache, progress)
    unreadable = {image_id: header.unreadable for image_id, header in headers.items() if header.unreadable}
    grids = volume_measures.grids(_of_volumes(headers))
    spacing_note = volume_measures.spacing_note(_of_volumes(headers), None if cache is None else cache.spacing)
    decoding = _decoding(cache, manifest)
    shortcuts = tuple(_shortcuts(manifest, headers, pixels, numbers=patients))
    same = tuple(_image_pair(manifest, int(first), int(second)) for first, second in map(manifest.rows, pairs))
    near = tuple(_image_pair(manifest, *pair) for pair in _near(pixels) if duplicates[pair[0]] != duplicates[pair[1]])
    torn = [find_siblings(s, manifest, patients=patients, duplicates=duplicates) for s in (splits or {}).values()]
    siblings = tuple(found for parts in torn for found in parts)
    missing = tuple(image_id for image_id in manifest.image_ids if image_id not in headers) if headers else ()
    return Audit(
        dataset=manifest.dataset,
        images=len(manifest),
        class_counts=dict(zip(manifest.class_names, manifest.class_counts, strict=True)),
        class_by_center=class_by_center(manifest),
        missing=missing,
        unreadable=unreadable,
        duplicates=same,
        near_duplicates=near,
        patients=group_sizes(patients) if _names_patients(manifest) else {},
        siblings=siblings,
        shortcuts=shortcuts,
        not_measured=_not_measured(manifest, headers, pixels, duplicates_known=bool(pairs) or hashes is not None),
        findings=(
            *file_findings(missing, unreadable),
            *pair_findings(same, near),
            *sibling_findings(siblings),
            *grid_findings(grids, spacing_note),
            *decoding_findings(decoding),
            *shortcut_findings(shortcuts),
        ),
        grids=grids,
        decoding=decoding,
    )


@dataclass(frozen=True, kw_only=True)
class _Pixels:
    """What was measured on M decoded samples: their rows in the manifest, features, perceptual hashes (M, B), and how many
    bits of two hashes may differ for them to count as nearly the same.
    """

    rows: np.ndarray
    features: list[Feature]
    hashes: np.ndarray
    near: int


def _names_patients(manifest: Manifest) -> bool:
    return manifest.groups is not None or names_persons(manifest)


def _groups(manifest: Manifest, pairs: Sequence[Pair]) -> tuple[np.ndarray, np.ndarray]:
    """Group numbers (N,) of probable patients (duplicates where the table names no persons), and of identical files."""
    patients = group_numbers(manifest, pairs, "patients" if _names_patients(manifest) else "duplicates")
    return patients, group_numbers(dataclasses.replace(manifest, groups=None), pairs, "duplicates")


def _of_volumes(headers: Mapping[str, ImageHeader | VolumeHeader]) -> dict[str, VolumeHeader]:
    return {image_id: header for image_id, header in headers.items() if isinstance(header, VolumeHeader)}


def _decoding(cache: ImageCache | None, manifest: Manifest) -> dict[str, list[str]]:
    """Note -> ids; a note has several parts where several things are to be said of one sample."""
    found: dict[str, list[str]] = {}
    for image_id, note in ({} if cache is None or not manifest.channels else cache.notes).items():
        for part in note.split("; "):
            found.setdefault(part, []).append(image_id)
    return found


def _read(
    manifest: Manifest, cache: ImageCache | None, progress: Progress | None
) -> tuple[Mapping[str, ImageHeader | VolumeHeader], _Pixels | None]:
    """Headers of all files, then borders (volumes: foreground) and hashes of all decoded samples. Progress counts both."""
    files = sum(file is not None for file in manifest.files)
    decoded = set() if cache is None else set(cache.image_ids)
    total = files + sum(image_id in decoded for image_id in manifest.image_ids)

    def report(done: int) -> None:
        if progress is not None:
            progress(done, total)

    read_headers = volume_measures.volume_headers if manifest.channels else image_headers
    headers: Mapping[str, ImageHeader | VolumeHeader] = read_headers(manifest, progress=lambda done, _: report(done))
    ids = [i for i in manifest.image_ids if i in decoded and i in headers and not headers[i].unreadable]
    if cache is None or not ids:
        return headers, None
    rows, chosen = manifest.rows(ids), cache.rows(ids).tolist()
    if manifest.channels:
        foreground, hashes = volume_measures.measure_volumes(
            cache.images, chosen, progress=lambda done, _: report(files + done)
        )
        features = [Feature(name=volume_measures.FOREGROUND, numbers=foreground)]
        return headers, _Pixels(rows=rows, features=features, hashes=hashes, near=volume_measures.NEAR)
    sizes = [(header.width, header.height) for i in ids if isinstance(header := headers[i], ImageHeader)]
    borders, hashes = measure_pixels(cache.images, chosen, sizes=sizes, progress=lambda done, _: report(files + done))
    return headers, _Pixels(rows=rows, features=pixel_features(borders), hashes=hashes, near=NEAR_BITS)


def _shortcuts(
    manifest: Manifest,
    headers: Mapping[str, ImageHeader | VolumeHeader],
    pixels: _Pixels | None,
    *,
    numbers: np.ndarray,
) -> Iterator[Shortcut]:
    """Every feature that is at hand, on the images for which it is."""
    features_of: dict[tuple[int, ...], list[Feature]] = {tuple(range(len(manifest))): table_features(manifest)}
    if readable := {image_id: header for image_id, header in headers.items() if not header.unreadable}:
        rows = tuple(manifest.rows(readable).tolist())
        of_volumes = list(_of_volumes(readable).values())
        of_images = [header for header in readable.values() if isinstance(header, ImageHeader)]
        found = volume_measures.header_features(of_volumes) if of_volumes else file_features(of_images)
        features_of.setdefault(rows, []).extend(found)
    if pixels is not None:
        features_of.setdefault(tuple(pixels.rows.tolist()), []).extend(pixels.features)
    for rows, features in features_of.items():  # those on the same images are cross-validated on the same folds
        chosen = np.array(rows)
        yield from measure_shortcuts(
            features,
            _names(manifest, chosen),
            numbers=numbers[chosen],
            centers=None if manifest.centers is None else [manifest.centers[row] for row in rows],
        )


def _names(manifest: Manifest, rows: np.ndarray) -> list[np.ndarray]:
    """What a feature may tell of these images: their class; or of each label, as a question of its own, yes or no."""
    targets, names = manifest.targets[rows], manifest.class_names
    if manifest.task.exclusive:
        return [np.array(names)[targets]]
    known, has = manifest.task.known(targets, len(names)), manifest.task.indicators(targets, len(names)) > 0
    return [np.where(known[:, index], np.where(has[:, index], name, f"{NOT}{name}"), "") for index, name in enumerate(names)]


def _near(pixels: _Pixels | None) -> Iterator[tuple[int, int, int]]:
    """(first row, second row, bits that differ) in the manifest's rows."""
    if pixels is not None:
        for first, second, bits in near_pairs(pixels.hashes, within=pixels.near):
            yield int(pixels.rows[first]), int(pixels.rows[second]), bits


def _image_pair(manifest: Manifest, first: int, second: int, bits: int = 0) -> ImagePair:
    ids, labels = manifest.image_ids, manifest.labels
    return ImagePair(
        first=ids[first],
        second=ids[second],
        label_first=labels[first],
        label_second=labels[second],
        bits=bits,
    )


def _not_measured(
    manifest: Manifest,
    headers: Mapping[str, ImageHeader | VolumeHeader],
    pixels: _Pixels | None,
    *,
    duplicates_known: bool,
) -> dict[str, str]:
    missing: dict[str, str] = {}
    if not duplicates_known:
        missing["duplicate files"] = NO_HASHES
    if not _names_patients(manifest):
        missing["probable patients"] = NO_PERSONS
    features = volume_measures.FEATURES if manifest.channels else FILE_FEATURES
    measured = (volume_measures.FOREGROUND,) if manifest.channels else PIXEL_FEATURES
    if not headers:
        missing |= dict.fromkeys(("missing and unreadable files", *features), NO_FILES)
    if pixels is None:
        missing |= dict.fromkeys((*measured, "near-duplicates"), NO_PIXELS if headers else NO_FILES)
    return missing
