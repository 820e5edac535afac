"""Grouping: which patient an image belongs to, by a table, by a pattern on the path, or by its DICOM header."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tune_btxrd.data.cache.dicom_files import begins_as_picture, may_be_dicom
from tune_btxrd.data.readers.dicom_patients import patient_of
from tune_btxrd.data.readers.names import check_name, same_spelling
from tune_btxrd.data.readers.spreadsheet import read_sheet, require_columns
from tune_btxrd.errors import ConfigError, DataError
from tune_btxrd.labels.insertion import fraction


@dataclass(frozen=True, kw_only=True)
class Place:
    """What is said of an image's place: its group (blank: alone) and its center."""

    group: str = ""
    center: str | None = None


class Grouping(Protocol):
    """A rule of grouping."""

    def place_of(self, file: Path) -> Place | None:
        """Where an image belongs; None: it is not to be added. Raises: DataError."""
        ...


@dataclass(frozen=True, kw_only=True)
class ByHeader:
    """The patient of a DICOM file (or its study), hashed with the store's salt; every other image stands alone.

    Images come to a store one by one, so unlike `dicom_patients` it cannot count patients. The salt never leaves the store.
    """

    salt: str

    def place_of(self, file: Path) -> Place:
        """Raises: DataError where pydicom is not installed."""
        if not (may_be_dicom(file) and begins_as_picture(file)):
            return Place()
        found = patient_of(file)
        kind, key = ("patient", found.patient) if found.patient else ("study", found.study)
        return Place(group=f"{kind}-{int(fraction(self.salt, kind, key) * 2**53):014x}" if key else "")


@dataclass(frozen=True, kw_only=True)
class ByPattern:
    """The part of a path (below the folder that is added) that a pattern finds: its first group, or all of it."""

    pattern: re.Pattern[str]
    folder: Path

    def place_of(self, file: Path) -> Place:
        """Raises: DataError where a path does not fit: its patient would be torn apart unseen."""
        path = file.relative_to(self.folder).as_posix()
        found = self.pattern.search(path)
        group = (found[1] if self.pattern.groups else found[0]) if found else None
        if not group:
            raise DataError(
                f"Every path must fit --group-pattern, but {path!r} does not fit {self.pattern.pattern!r}: widen it."
            )
        check_name(group, f"The group of {path!r}")
        return Place(group=group)


@dataclass(frozen=True, kw_only=True)
class ByTable:
    """What a table says: columns `path` or `image_id`, the column of groups, and `center` where it has one."""

    places: dict[str, Place]  # key of a file -> place
    folders: Sequence[Path]

    def place_of(self, file: Path) -> Place | None:
        """None where the table does not name the file."""
        for key in keys_of(file, self.folders):
            if (place := self.places.get(key)) is not None:
                return place
        return None


def by_pattern(text: str, folder: Path) -> ByPattern:
    """Raises: ConfigError for text that is no pattern."""
    try:
        return ByPattern(pattern=re.compile(text), folder=folder)
    except re.error as error:
        raise ConfigError(f"--group-pattern must be a regular expression, but {text!r} is none: {error}.") from error


def by_table(path: Path, column: str, folder: Path) -> ByTable:
    """Reads the table of groups.

    Args:
        column: of the groups.
        folder: that is added; paths may be relative to it, to the folder above it or to the table's own folder.

    Raises:
        DataError: no such column, a name that cannot be a group, a file that is named with two groups.
    """
    table, _ = read_sheet(path, needs=(column.lower(),))
    require_columns(table, (column.lower(),), path)
    naming = [name for name in ("path", "image_id") if name in table]
    if not naming:
        raise DataError(f"{path} must name its images in a column `path` or `image_id`, but has neither: add one.")
    places: dict[str, Place] = {}
    centers = table["center"] if "center" in table else [None] * len(table)
    for names, group, center in zip(
        zip(*(table[name] for name in naming), strict=True), table[column.lower()], centers, strict=True
    ):
        named = [plain(name) for name in names if name is not None]
        if not named:
            continue
        for value, what in ((group, "group"), (center, "center")):
            if value is not None:
                check_name(value, f"A {what} of {path}")
        place = Place(group=group or "", center=center)
        if places.setdefault(named[0], place) != place:
            raise DataError(f"An image has one group, but {path} names {named[0]!r} with two: remove a row.")
        for other in named[1:]:
            places.setdefault(other, place)
    return ByTable(places=places, folders=(path.resolve().parent, folder, folder.parent))


def keys_of(file: Path, folders: Sequence[Path]) -> list[str]:
    """What a table may call a file: its path below these folders, its name, its name without the ending."""
    below = [file.relative_to(folder).as_posix() for folder in folders if file.is_relative_to(folder)]
    return [plain(name) for name in (*below, file.name, file.stem)]


def plain(name: str) -> str:
    """A path as tables of any system write it."""
    return same_spelling(name.replace("\\", "/").removeprefix("./"))
