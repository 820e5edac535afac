"""Registry of readers: finds the one for a folder, checks known facts, leaves out what the user excludes."""

import dataclasses
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from tune_btxrd.data.cache.hashes import volume_parts
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers.btxrd import TABLE_NAMES, annotation_folder, read_btxrd
from tune_btxrd.data.readers.btxrd_facts import ANNOTATIONS, ROWS, check_facts, is_complete
from tune_btxrd.data.readers.channels import ChannelRequest
from tune_btxrd.data.readers.class_folders import read_class_folders
from tune_btxrd.data.readers.dicom_patients import with_patients
from tune_btxrd.data.readers.file_rules import account
from tune_btxrd.data.readers.folder_layout import is_class_folders
from tune_btxrd.data.readers.label_columns import has_label_columns
from tune_btxrd.data.readers.label_store import read_label_store, read_state
from tune_btxrd.data.readers.names import FEWEST_CLASSES, as_spelled, examples
from tune_btxrd.data.readers.paths import FileFinder
from tune_btxrd.data.readers.store_file import is_store
from tune_btxrd.data.readers.table_folder import MANIFEST_NAME, read_folder
from tune_btxrd.data.readers.volume_folders import is_volume_folders, mapping_path, read_volume_folders
from tune_btxrd.data.readers.volume_table import is_volume_table, read_volume_table
from tune_btxrd.errors import ConfigError, DataError
from tune_btxrd.tasks.multilabel import MULTILABEL
from tune_btxrd.tasks.registry import DEFAULT, task_named
from tune_btxrd.tasks.task import Task

BTXRD, PHANTOM = KNOWN = ("btxrd", "phantom")  # datasets of which more is known than what their folder holds


def read_dataset(
    data_dir: Path,
    *,
    dataset: str | None = None,
    positive_class: str | None = None,
    table_only: bool = False,
    accept_revision: bool = False,
    exclude: Collection[str] = (),
    layout: str | None = None,
    event: int | None = None,
    channels: ChannelRequest | None = None,
    header_groups: bool = True,
) -> Manifest:
    """The dataset in `data_dir`: with manifest.csv, a folder per class, BTXRD layout, or a label store. `notes` say what was
    done.

    Args:
        dataset: its short name; "phantom" says that BTXRD's facts are not asked of it. Default: "btxrd" for BTXRD's
            3,746 rows, else the folder's name.
        positive_class: name of the class to watch; default Malignant, or the rarest class of own data.
        table_only: read the table and look for no images.
        accept_revision: go on where BTXRD's facts do not hold (`--accept-revision`).
        exclude: ids to leave out (`--exclude`, see `spreadsheet.read_ids`).
        layout: what the folders of a dataset without a table mean (`--layout`); None: decided by their names.
        event: of a label store: the last event that counts; None: all.
        channels: of volumes: which channels, and what of patients that lack one (`--channels`, `--missing-channel`).
        header_groups: patients of DICOM headers are groups where the dataset names none (not with `--groups none`).

    Raises:
        DataError: in one line what is wrong with the folder and what mends it.
    """
    store = is_store(data_dir)
    if not store:
        _require_folder(data_dir)
    name = dataset or safe_name(data_dir.resolve().stem if store else data_dir.resolve().name)
    reader = _store_reader(data_dir, layout, event) if store else _reader(data_dir, layout, channels or ChannelRequest())
    if channels is not None and not _reads_volumes(reader):
        channels.refuse_for_images(data_dir)
    own = reader is not read_btxrd
    if dataset is None and name in (KNOWN if own else (PHANTOM,)):
        name = f"{name}_folder"  # what is said of that dataset (its licence, its facts) is not true of this one
    manifest = reader(data_dir, dataset=name, table_only=table_only, exclude=exclude)
    if not own and name != PHANTOM:
        manifest = _checked(manifest, dataset=dataset, accept_revision=accept_revision)
    if not table_only and not store:
        manifest = _noted(manifest, _account(manifest))
        manifest = with_patients(manifest, are_groups=header_groups)
    if exclude:
        manifest = _without(manifest, manifest.spelled(exclude))
    return _watch(manifest, positive_class, own)


def task_of(data_dir: Path) -> Task:
    """What targets of a dataset are, by the header of its table alone; a label store says it itself. Raises: DataError."""
    if data_dir.is_file() and is_store(data_dir):
        return task_named(read_state(data_dir).task)
    if not data_dir.is_dir():
        return DEFAULT  # `read_dataset` says what is wrong
    path = FileFinder(data_dir).find(MANIFEST_NAME, "The table")
    return MULTILABEL if path is not None and has_label_columns(path) else DEFAULT


def safe_name(name: str) -> str:
    """A name that is safe as a folder or file name: other characters than letters, digits, . _ - become _."""
    return re.sub(r"[^\w.-]+", "_", name).strip("._-")[:64] or "dataset"


def _require_folder(data_dir: Path) -> None:
    if data_dir.is_file():
        step = "unzip it and give the folder" if data_dir.suffix.lower() == ".zip" else "give the folder it lies in"
        raise DataError(f"The dataset must be a folder, but {data_dir} is a file: {step}.")
    if not data_dir.is_dir():
        raise DataError(f"The dataset folder must exist, but there is none at {data_dir}: check --data.")


def holds_volumes(data_dir: Path) -> bool:
    """Whether a dataset's samples are volumes, by its table's columns or its folders' names. Raises: DataError."""
    return data_dir.is_dir() and _reads_volumes(_reader(data_dir, None, ChannelRequest()))


def _reads_volumes(reader: Callable[..., Manifest]) -> bool:
    return isinstance(reader, partial) and reader.func in (read_volume_table, read_volume_folders)


def _reader(data_dir: Path, layout: str | None, channels: ChannelRequest) -> Callable[..., Manifest]:
    finder = FileFinder(data_dir)
    tables = [name for name in (MANIFEST_NAME, *TABLE_NAMES) if finder.find(name, "The table")]
    if len(tables) > 1:
        raise DataError(f"{data_dir} must hold one table, but holds {' and '.join(tables)}: remove all but one.")
    if tables and layout:
        raise ConfigError(f"--layout is for folders without a table, but {data_dir} has {tables[0]}: leave it away.")
    if tables == [MANIFEST_NAME]:
        volumes = is_volume_table(data_dir, finder.find(MANIFEST_NAME, "The table") or data_dir / MANIFEST_NAME)
        return partial(read_volume_table, request=channels) if volumes else read_folder
    if tables:
        return read_btxrd
    if not layout and is_volume_folders(data_dir):
        return partial(read_volume_folders, request=channels)
    if layout or is_class_folders(data_dir):
        return partial(read_class_folders, layout=layout)
    return read_btxrd


def _store_reader(path: Path, layout: str | None, event: int | None) -> Callable[..., Manifest]:
    if layout:
        raise ConfigError(f"--layout is for folders without a table, but {path} is a label store: leave it away.")
    return partial(read_label_store, event=event)


def _account(manifest: Manifest) -> str:
    """The line on every file in the folder; the table and the annotations count as read."""
    taken = set(_taken(manifest))
    used = {file for file in (*manifest.annotations, *manifest.masks) if file is not None}
    if manifest.channels and (mapping := mapping_path(manifest.root)):
        used.add(mapping)
    used |= {found for name in (MANIFEST_NAME, *TABLE_NAMES) if (found := FileFinder(manifest.root).find(name, "The table"))}
    return account(manifest.root, taken=taken, used=used)


def _taken(manifest: Manifest) -> Iterator[Path]:
    """Every file that is a sample or a part of one: of volumes all channels, the slices of a DICOM folder, Analyze pairs."""
    paths = [file for files in manifest.volumes for file in files] if manifest.channels else manifest.files
    for path in paths:
        if path is not None:
            yield from volume_parts(path) if manifest.channels else (path,)


def _without(manifest: Manifest, exclude: Collection[str]) -> Manifest:
    """The dataset less some images; a class that they were all of is none any more."""
    rest = _noted(manifest.without(exclude), f"{len(set(exclude))} image(s) left out as asked.")
    empty = [
        n
        for n, before, left in zip(rest.class_names, manifest.class_counts, rest.class_counts, strict=True)
        if before > left == 0
    ]
    if not empty or not rest.task.exclusive:
        return rest
    names = tuple(name for name in rest.class_names if name not in empty)
    if len(names) < FEWEST_CLASSES:
        raise DataError(
            f"At least two classes must be left, but --exclude leaves {examples(names) or 'none'} of {manifest.root}: "
            "shorten the list."
        )
    targets = np.array([names.index(rest.class_names[target]) for target in rest.targets], dtype=np.int64)
    watched = manifest.class_names[manifest.positive_class]
    positive = names.index(watched) if watched in names else DEFAULT.rarest(targets)
    fewer = dataclasses.replace(rest, class_names=names, targets=targets, positive_class=positive)
    return _noted(fewer, f"No image is left of {', '.join(empty)}: no class any more.")


def _checked(manifest: Manifest, *, dataset: str | None, accept_revision: bool) -> Manifest:
    findings = check_facts(manifest)
    if findings and not accept_revision:
        listed = "; ".join(str(finding) for finding in findings)
        raise DataError(
            f"BTXRD's facts must hold, but {len(findings)} do not in {manifest.root}: {listed}. "
            "If another revision is meant, go on with --accept-revision."
        )
    if not is_complete(manifest):
        note = f"{len(manifest):,} rows where BTXRD has {ROWS:,}: read as a subset, its counts are not checked."
        return _noted(manifest, note, *map(str, findings))
    note = f"Accepted although {len(findings)} facts of BTXRD do not hold:" if findings else "All known facts of BTXRD hold."
    named = dataclasses.replace(manifest, dataset=dataset or BTXRD)
    return _noted(named, note, *map(str, findings), *_annotation_note(manifest))


def _annotation_note(manifest: Manifest) -> list[str]:
    found = sum(path is not None for path in manifest.annotations)
    if found == ANNOTATIONS:
        return []
    zipped = annotation_folder(manifest.root) is None and (manifest.root / "Annotations.zip").is_file()
    return [f"{found:,} of {ANNOTATIONS:,} annotations found{': unzip Annotations.zip there' if zipped else ''}."]


def _watch(manifest: Manifest, positive_class: str | None, own: bool) -> Manifest:
    if positive_class is None:
        name = manifest.class_names[manifest.positive_class]
        return _noted(manifest, f"Positive class: {name}, the rarest (--positive-class names another).") if own else manifest
    (positive_class,) = as_spelled([positive_class], manifest.class_names)
    require_class(positive_class, manifest.class_names)
    return dataclasses.replace(manifest, positive_class=manifest.class_names.index(positive_class))


def require_class(name: str | None, class_names: Sequence[str]) -> None:
    """Raises DataError where a class to watch is none of these; None leaves the choice to the dataset."""
    if name is not None and name not in class_names:
        raise DataError(f"The positive class must be one of {examples(class_names, 12)}, but got {name!r}: choose one.")


def _noted(manifest: Manifest, *lines: str) -> Manifest:
    return dataclasses.replace(manifest, notes=(*manifest.notes, *lines))
