"""BraTS folders: `CLASS/CASE/CASE_CHANNEL.nii.gz` (HGG/, LGG/), or cases beside a `name_mapping.csv` with their grades."""

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tune_btxrd.data.cache.volume_files import require_extra
from tune_btxrd.data.manifest import Manifest
from tune_btxrd.data.readers.channels import ChannelRequest, Files
from tune_btxrd.data.readers.file_rules import is_no_data
from tune_btxrd.data.readers.names import check_class_names, check_id
from tune_btxrd.data.readers.paths import FileFinder, inside
from tune_btxrd.data.readers.spreadsheet import read_table, require_columns
from tune_btxrd.errors import DataError
from tune_btxrd.tasks.registry import DEFAULT

MAPPING = "name_mapping.csv"
GRADE, PERSON = "grade", "tcga_tcia_subject_id"  # columns of the mapping, lower case as tables are read
MASK = "seg"
VOLUME = re.compile(r"(?P<case>.+)[_-](?P<channel>[A-Za-z0-9]+)\.nii(\.gz)?", re.IGNORECASE)
TIME_POINT = re.compile(r"(BraTS-[A-Za-z]+-\d+)-\d{3}")  # since 2023: the same patient at several times


@dataclass(frozen=True, kw_only=True)
class _Case:
    """A folder of one patient: its files by channel; `label`: the folder it lies in, "" where that is the dataset itself."""

    name: str
    label: str
    files: dict[str, Path]


def is_volume_folders(root: Path) -> bool:
    """Whether cases lie in `root` or one folder deeper."""
    return next(_cases(root), None) is not None


def read_volume_folders(
    root: Path,
    *,
    dataset: str,
    table_only: bool = False,
    exclude: Collection[str] = (),
    request: ChannelRequest,
) -> Manifest:
    """The dataset in `root`. A case's id is its folder's name; classes are the folders, or the mapping's grades.

    Patients that the mapping names by their TCIA number are groups, and so are time points (`BraTS-GLI-00012-000`, `-001`).
    Files `CASE_seg` are masks, no channel. Channels are in alphabetical order.

    Args:
        dataset, table_only, exclude, request: as for a table (`volume_table.py`).

    Raises:
        DataError: a case without a class, in two folders, of another grade than its folder, or without a channel.
    """
    require_extra()
    cases = sorted(_cases(root), key=lambda case: (case.label, case.name))
    names = [case.name for case in cases]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"A case must lie in one folder, but {repeated[0]!r} lies in several of {root}: remove one.")
    for name in names:
        check_id(name, "The folder of a case")
    grades, persons, notes = _mapped(root, names)
    labels = [_label(case, grades, root) for case in cases]
    class_names = tuple(sorted(set(labels)))
    check_class_names(class_names, str(root))
    channels = request.choose(sorted({channel for case in cases for channel in case.files} - {MASK}), root)
    volumes: tuple[Files, ...] = tuple(tuple(case.files.get(channel) for channel in channels) for case in cases)
    lacking = request.check(dict(zip(names, volumes, strict=True)), channels, root, exclude)
    masks = tuple(case.files.get(MASK) for case in cases)
    if table_only:
        volumes, masks = tuple((None,) * len(channels) for _ in cases), ()
    targets = np.array([class_names.index(label) for label in labels], dtype=np.int64)
    groups = tuple(persons.get(name) or _time_points(name) for name in names)
    return Manifest(
        dataset=dataset,
        root=root.resolve(),
        image_ids=tuple(names),
        files=tuple(next((file for file in files if file is not None), None) for files in volumes),
        targets=targets,
        class_names=class_names,
        positive_class=DEFAULT.rarest(targets),
        centers=None,
        groups=groups if any(groups) else None,
        table=pd.DataFrame({"image_id": names, "label": labels}),
        annotations=(None,) * len(names),
        notes=(*notes, *lacking),
        channels=channels,
        volumes=volumes,
        masks=masks if any(masks) else (),
    )


def mapping_path(root: Path) -> Path | None:
    """`name_mapping.csv`, where the dataset has one."""
    return FileFinder(root).find(MAPPING, "The mapping of names")


def _cases(root: Path) -> Iterator[_Case]:
    for folder in _folders(root):
        files = _volumes(root, folder)
        if files:
            yield _Case(name=folder.name, label="", files=files)
            continue
        for inner in _folders(folder):
            if files := _volumes(root, inner):
                yield _Case(name=inner.name, label=folder.name, files=files)


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(folder / entry.name for entry in entries if entry.is_dir() and not is_no_data(entry.name))
    except OSError as error:
        raise DataError(f"{folder} must be readable, but is not ({error.strerror}): change its permissions.") from error


def _volumes(root: Path, folder: Path) -> dict[str, Path]:
    """Channel, lower case -> file, of the files called after their folder. Raises: DataError for two of one channel."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        match = VOLUME.fullmatch(path.name)
        if match is None or match["case"].lower() != folder.name.lower() or not path.is_file():
            continue
        channel = match["channel"].lower()
        if channel in found:
            raise DataError(
                f"A case must have one file per channel, but {folder} has {found[channel].name!r} and {path.name!r}: "
                "remove one."
            )
        found[channel] = inside(root, path.relative_to(root), "A volume")
    return found


def _mapped(root: Path, names: list[str]) -> tuple[dict[str, str], dict[str, str], tuple[str, ...]]:
    """Case -> grade and case -> patient as the mapping says, and what to say of it; nothing where there is none."""
    path = mapping_path(root)
    if path is None:
        return {}, {}, ()
    table = read_table(path)
    require_columns(table, (GRADE,), path)
    known, grades, persons = set(names), dict[str, str](), dict[str, str]()
    for column in table.columns.drop(GRADE):
        for case, grade, person in zip(table[column], table[GRADE], table.get(PERSON, table[GRADE]), strict=True):
            if case in known and not pd.isna(grade):
                grades[str(case)] = str(grade)
                if PERSON in table and not pd.isna(person) and person != "NA":
                    persons[str(case)] = str(person)
    return (
        grades,
        persons,
        (f"{MAPPING} names {len(grades)} of {len(names)} cases, {len(set(persons.values()))} by patient.",),
    )


def _label(case: _Case, grades: dict[str, str], root: Path) -> str:
    grade = grades.get(case.name, "")
    if case.label and grade and case.label.lower() != grade.lower():
        raise DataError(
            f"A case must have one class, but {case.name} of {root} lies in {case.label}/ and {MAPPING} says {grade}: "
            "correct one of them."
        )
    if not case.label and not grade:
        raise DataError(
            f"Cases need a class, but {case.name} of {root} has none: put the cases into a folder per class (HGG/, LGG/), "
            f"add the case and its {GRADE.title()} to {MAPPING}, or write a manifest.csv."
        )
    return case.label or grade


def _time_points(name: str) -> str:
    match = TIME_POINT.fullmatch(name)
    return match[1] if match else ""
